"""One writer a run folder; a run killed at any write is gone on with, to the same numbers."""

import signal
import time

import pytest
import torch
from killed import forked
from processes import start

import medmcl
from benchmarks.evaluation.memorised_pairs import LABS, memorising, write_recipe, write_told
from medmcl.core.errors import ArtefactError, ConfigError

WRITES = ("run", "config.yaml", "labs.npy", "step-00000002", "done.json", "report.html")
"""What it was about to make, first the folder itself."""


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A cohort, and a recipe of four steps and one probe on it."""
    home = tmp_path_factory.mktemp("short")
    results = {"stage": "evaluate", "name": "results", "bootstrap_draws": 100, "baselines": [],
               "probe": {"modality": LABS, "models": {"contrastive": "contrast"}}}  # fmt: skip
    tree = memorising(4, results, binds=False)
    tree["stages"][0]["evaluate_every"] = 2
    return write_told(home / "cohort", 0), write_recipe(home / "recipe.yaml", tree)


def pretraining(short, out, **more):
    """The run, to be done in a fork; what it says is the exit code."""
    cohort, recipe = short

    def run():
        torch.set_num_threads(1)
        medmcl.pretrain(cohort, recipe=recipe, out=out, device="cpu", **more)

    return run


@pytest.fixture(scope="module")
def undisturbed(short, tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    status, writes = forked(pretraining(short, home / "run"), home)
    assert status == 0
    assert writes > 100
    return (home / "run" / "results.csv").read_text()


@pytest.mark.parametrize("write", WRITES)
def test_a_run_killed_at_a_write_is_gone_on_with(write, short, undisturbed, tmp_path):
    out = tmp_path / "run"
    assert forked(pretraining(short, out), tmp_path, at=write)[0] == -signal.SIGKILL
    assert forked(pretraining(short, out, resume=True), tmp_path)[0] == 0
    assert (out / "results.csv").read_text() == undisturbed
    assert not list(out.rglob(".*"))


def test_what_was_killed_before_it_was_a_run_can_be_begun_again(short, undisturbed, tmp_path):
    out = tmp_path / "run"
    assert forked(pretraining(short, out), tmp_path, at="config.yaml")[0] == -signal.SIGKILL
    assert list(out.iterdir())
    assert forked(pretraining(short, out), tmp_path)[0] == 0
    assert (out / "results.csv").read_text() == undisturbed


@pytest.mark.parametrize("resume", [False, True])
def test_nobody_enters_the_folder_of_a_run_that_lives(resume, short, tmp_path):
    cohort, recipe = short
    out = tmp_path / "run"
    words = ["pretrain", "--cohort", cohort, "--recipe", recipe, "--out", out]
    first = start([*map(str, words), "--set", "stages.contrast.steps=100000"])
    try:
        deadline = time.monotonic() + 120
        while not (out / "config.yaml").exists() and time.monotonic() < deadline:
            assert first.poll() is None, first.communicate()
            time.sleep(0.1)
        before = (out / "config.yaml").read_bytes()
        with pytest.raises(ArtefactError, match=rf"being made(.|\n)*process {first.pid} on"):
            pretraining(short, out, resume=resume)()
        assert (out / "config.yaml").read_bytes() == before
    finally:
        first.kill()
        first.communicate()


def test_a_refused_run_leaves_no_folder(short, tmp_path):
    cohort, _ = short
    with pytest.raises(ConfigError, match="reads 'ecg', which the cohort does not"):
        medmcl.pretrain(cohort, recipe="ecg_scratch_toy", out=tmp_path / "run")
    other = tmp_path / "other.npz"
    with pytest.raises(ArtefactError, match="not a run folder"):
        medmcl.pretrain(short[0], recipe=short[1], out=tmp_path / "run", reuse=other)
    assert not list(tmp_path.iterdir())
