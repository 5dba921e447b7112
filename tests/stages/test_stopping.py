"""A run that is stopped or killed, phase after phase, ends like one that was not."""

import json
import re
import signal

import pandas as pd
import pytest
import torch
from processes import Command, assert_same_weights
from stopping import stopped_at
from tiny_runs import tiny

import medmcl
from medmcl.engine.record import read_metrics

pytestmark = pytest.mark.usefixtures("cache")

FINETUNE = "finetune-lvef-1.0"
TEMPLATE = "stages.finetune-{task}-{label_fraction}"
OVERRIDES = {
    **tiny("ecg_cmr_toy"),
    "stages.mmcl.steps": 12,
    "stages.mmcl.log_every": 1,
    "stages.mmcl.evaluate_every": 4,
    f"{TEMPLATE}.for_each": {"task": ["lvef"], "label_fraction": [1.0]},
    f"{TEMPLATE}.log_every": 1,
    f"{TEMPLATE}.epochs": 4,
    f"{TEMPLATE}.evaluate_every": 0.5,
    "stages.results.tasks": ["lvef", "infarct"],
}
STOPS = (
    ("mmcl  step 9/", signal.SIGINT, "mmcl: saved at step 9"),
    (f"{FINETUNE}  step 2/", signal.SIGTERM, f"{FINETUNE}: saved at step 2"),
    ("results: lvef", signal.SIGTERM, ": stopped; what was finished before it is saved"),
)
"""How a line begins that the run says in the phase, what is sent then, and what it answers.

In a stage that trains without labels and in one that trains with them, in the evaluate stage.
"""


def pretrain(cohort, out, **more):
    torch.set_num_threads(1)
    return medmcl.pretrain(
        cohort, recipe="ecg_cmr_toy", out=out, overrides=OVERRIDES, device="cpu", **more
    )


@pytest.fixture
def whole(hearts, tmp_path):
    """A run that nothing disturbed."""
    return pretrain(hearts, tmp_path / "whole").path


def interrupt(words, line, how):
    """Start a process, stop it where a line begins so after its time; give the answer."""
    process = Command(words)
    for said in process.stdout:
        clock, _, text = said.partition(" ")
        assert re.fullmatch(r"\[\d\d:\d\d:\d\d\]", clock), said
        if text.startswith(line):
            process.send_signal(how)
            break
    _, errors = process.communicate()
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 75), errors
    return errors


def test_a_run_that_ends_in_every_phase_resumes_to_the_same_weights_and_numbers(
    hearts, whole, tmp_path
):
    out = tmp_path / "run"
    words = ["pretrain", "--cohort", str(hearts), "--recipe", "ecg_cmr_toy", "--out", str(out)]
    words += ["--device", "cpu", "--resume"]
    for key, value in OVERRIDES.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    interrupt(words, "cohort ", signal.SIGKILL)
    interrupt(words, "mmcl  step 7/", signal.SIGKILL)
    assert medmcl.load(out).facts("mdm")
    for line, how, answer in STOPS:
        with stopped_at(line, how, answer):
            pretrain(hearts, out, resume=True)
        assert not (out / "report.html").exists()
    errors = interrupt(words, "results: infarct", signal.SIGTERM)
    assert re.search(r"(results|embedding ecg|predicting by finetune-lvef-1\.0): stopped;", errors)
    assert f"--out {out}" in errors.partition("go on with: ")[2]
    pretrain(hearts, out, resume=True)
    for pointer in ("last", "best"):
        assert_same_weights(whole, out, ("mdm", "mmcl", FINETUNE), pointer)
    assert pd.read_csv(whole / "results.csv").equals(pd.read_csv(out / "results.csv"))
    reports = [json.loads((run / "report.json").read_text("utf-8")) for run in (whole, out)]
    for part in ("results", "flow", "findings"):
        assert reports[0][part] == reports[1][part]
    said = [
        [(row["stage"], row["split"], row["step"], row["loss"]) for row in rows]
        for rows in (read_metrics(run / "metrics.jsonl") for run in (whole, out))
    ]
    assert said[0] == said[1]
