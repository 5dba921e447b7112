"""An outcome with competing events goes from cohort.yaml through a run to its reports."""

import json

import numpy as np
import pandas as pd
import torch
from changed_files import changed_copy, rewrite
from read_pages import both_pages
from tiny_runs import tiny

import medmcl

FINETUNE = "stages.finetune-{task}-{label_fraction}"


def with_competing(hearts, folder):
    """The cohort, of whom two in three without heart failure died of something else."""

    def caused(table):
        other = np.random.default_rng(0).random(len(table)) < 2 / 3
        table["cause"] = np.where(table["hf_event"] == 1, "hf", np.where(other, "other", "alive"))

    def competing(tree):
        task = {**tree["tasks"]["heart_failure"], "competing": "cause == 'other'"}
        tree["tasks"] = {"heart_failure": task}
        tree.pop("prompts")

    rewrite(changed_copy(hearts, folder, "participants.tsv", caused) / "cohort.yaml", competing)
    return folder


def test_a_competing_outcome_goes_from_the_cohort_to_the_report(hearts, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    cohort = with_competing(hearts, tmp_path / "cohort")
    run = medmcl.pretrain(
        cohort, recipe="ecg_mdm_toy", out=tmp_path / "run", device="cpu",
        overrides={
            **tiny("ecg_mdm_toy"), "stages.results.tasks": ["heart_failure"],
            f"{FINETUNE}.for_each": {"task": ["heart_failure"], "label_fraction": [1.0]},
            "stages.results.baselines": ["majority"],
        },
    )  # fmt: skip
    rows = pd.read_csv(run.path / "results.csv", keep_default_na=False)
    probe = rows[(rows["method"] == "MDM alone") & (rows["versus"] == "")].set_index("metric")
    assert "competing events count as censored" in probe.loc["c_index", "note"]
    ratio = probe.loc["observed_expected_at_5y"]
    assert "Aalen-Johansen" in ratio["note"]
    assert (ratio["events"], ratio["value"]) == ("<5", "")  # withheld in files: few events
    tuned = rows[(rows["method"] == "fine-tuned") & (rows["versus"] == "")].set_index("metric")
    assert tuned.loc["c_index", "value"]
    said = "no absolute risk: nothing was kept of the competing event"
    assert said in " ".join(tuned["note"])
    report = both_pages(run.path)
    assert "competing events" in report
    assert "Aalen-Johansen" in report
    assert "what is ranked are log hazards of the event" in report
    held = pd.read_csv(cohort / "participants.tsv", sep="\t").query("split == 'held_out'")
    others = int(((held["cause"] == "other") & (held["has_ecg"] == 1)).sum())
    assert f"{others} people with the competing event)" in report
    header = json.loads((run.path / "tasks.json").read_text(encoding="utf-8"))["heart_failure"]
    assert "competing" not in header  # rows stay with the cohort
    again = medmcl.evaluate(run.path, cohort, out=tmp_path / "again", device="cpu").results
    same = {(row.method, row.metric): row.value for row in again if not row.versus}
    assert f"{same['MDM alone', 'c_index']:.6g}" == f"{float(probe.loc['c_index', 'value']):.6g}"
    assert same["MDM alone", "observed_expected_at_5y"] > 0
    assert same["fine-tuned", "observed_expected_at_5y"] is None  # no model of the other event
