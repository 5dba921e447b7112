"""A run that is stopped or killed, phase after phase, ends like one that was not."""

import json
import re
import signal

import pandas as pd
import pytest
import torch
from processes import assert_same_weights, start
from tiny_runs import tiny

import medmcl
from medmcl.engine.record import read_metrics

FINETUNE = "finetune-lvef-1.0"
TEMPLATE = "stages.finetune-{task}-{label_fraction}"
OVERRIDES = {
    **tiny("ecg_mdm_toy"),
    f"{TEMPLATE}.for_each": {"task": ["lvef"], "label_fraction": [1.0]},
    f"{TEMPLATE}.log_every": 1,
    f"{TEMPLATE}.epochs": 8,
    f"{TEMPLATE}.evaluate_every": 0.5,
    "stages.results.tasks": ["lvef", "infarct"],
}
ENDS = (
    ("cohort ", signal.SIGKILL, ""),
    (f"{FINETUNE}  step 2/", signal.SIGTERM, f"{FINETUNE}: saved at step"),
    (f"{FINETUNE}  step 5/", signal.SIGKILL, ""),
    ("results: lvef", signal.SIGTERM, "results: stopped"),
    ("results: infarct", signal.SIGKILL, ""),
)
"""How a line begins that the run says in the phase, what is sent then, and what it answers.

While records are read, in a fine-tuning stage, in the evaluate stage; test_pretrain.py does the
same in a stage that trains without labels.
"""


def pretrain(cohort, out, **more):
    torch.set_num_threads(1)
    return medmcl.pretrain(
        cohort, recipe="ecg_mdm_toy", out=out, overrides=OVERRIDES, device="cpu", **more
    )


@pytest.fixture
def whole(hearts, tmp_path):
    """A run that nothing disturbed."""
    return pretrain(hearts, tmp_path / "whole").path


def interrupt(words, line, how):
    """Start, wait for a line that begins so after its time, send a signal; give the answer."""
    process = start(words)
    for said in process.stdout:
        clock, _, text = said.partition(" ")
        assert re.fullmatch(r"\[\d\d:\d\d:\d\d\]", clock), said
        if text.startswith(line):
            process.send_signal(how)
            break
    _, errors = process.communicate()
    assert process.returncode == (75 if how == signal.SIGTERM else -signal.SIGKILL), errors
    return errors


def test_a_run_that_ends_in_every_phase_resumes_to_the_same_weights_and_numbers(
    hearts, whole, tmp_path
):
    out = tmp_path / "run"
    words = ["pretrain", "--cohort", str(hearts), "--recipe", "ecg_mdm_toy", "--out", str(out)]
    words += ["--device", "cpu", "--resume"]
    for key, value in OVERRIDES.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    for line, how, answer in ENDS:
        assert answer in interrupt(words, line, how)
        assert not (out / "report.html").exists()
        assert line.startswith("cohort") or medmcl.load(out).checkpoints("mdm").done
    pretrain(hearts, out, resume=True)
    for pointer in ("last", "best"):
        assert_same_weights(whole, out, ("mdm", FINETUNE), pointer)
    assert pd.read_csv(whole / "results.csv").equals(pd.read_csv(out / "results.csv"))
    reports = [json.loads((run / "report.json").read_text("utf-8")) for run in (whole, out)]
    for part in ("results", "flow", "findings"):
        assert reports[0][part] == reports[1][part]
    said = [
        [(row["stage"], row["split"], row["step"], row["loss"]) for row in rows]
        for rows in (read_metrics(run / "metrics.jsonl") for run in (whole, out))
    ]
    assert said[0] == said[1]
