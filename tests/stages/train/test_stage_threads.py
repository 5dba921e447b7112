"""Towers of a stage in threads: where that changes no bit, and only there."""

import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from benchmarks.evaluation.memorised_pairs import memorising, write_recipe, write_told
from medmcl.data.loading.worker_pool import worker_pool
from medmcl.encoders.towers import Tower
from medmcl.engine.checkpoint import load_weights_file
from medmcl.engine.loop import Training
from medmcl.engine.record import read_metrics
from medmcl.engine.signals import Interrupted
from medmcl.stages.run.pretrain import pretrain
from medmcl.stages.train import step_settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are lent on Linux")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_told(tmp_path_factory.mktemp("given") / "cohort", 0)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Names of the threads that towers were encoded by; one thread computes."""
    before, real, seen = torch.get_num_threads(), Tower.forward, set()
    torch.set_num_threads(1)

    def forward(self, *args, **kwargs):
        seen.add(threading.current_thread().name.partition("_")[0])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Tower, "forward", forward)
    yield seen
    torch.set_num_threads(before)


def train(cohort, folder, lent: int, *, computing: int = 1, resume: bool = False, **changes):
    tree = memorising(8, binds=False)
    tree["stages"][0] |= {"evaluate_every": 2, "log_every": 2, "batch_size": 64}
    tree["stages"][0] |= {key: x for key, x in changes.items() if key != "precision"}
    recipe = write_recipe(folder.with_suffix(".yaml"), tree)
    torch.set_num_threads(computing)
    more = {key: x for key, x in changes.items() if key == "precision"}
    with worker_pool(lent):
        return pretrain(cohort, recipe=recipe, out=folder, device="cpu", resume=resume, **more)


def assert_same(run, alone):
    for pointer in ("best", "last"):
        ours, theirs = (
            load_weights_file(x.checkpoints("contrast").find(pointer) / "weights.safetensors")
            for x in (run, alone)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert read_metrics(run.path / "metrics.jsonl") == read_metrics(alone.path / "metrics.jsonl")


@pytest.mark.parametrize("changes", [{}, {"accumulate": 3}, {"ema": 0.9}], ids=str)
def test_a_stage_gives_in_threads_what_it_gives_in_one(cohort, tmp_path, threads, changes):
    alone = train(cohort, tmp_path / "alone", 0, **changes)
    assert threads == {"MainThread"}
    run = train(cohort, tmp_path / "run", 2, **changes)
    assert threads == {"MainThread", "tower"}
    assert_same(run, alone)
    assert not [one for one in threading.enumerate() if one.name.startswith("tower")]


@pytest.mark.parametrize("changes", [{"computing": 2}, {"precision": "bf16"}], ids=str)
def test_where_bits_would_change_there_are_none(cohort, tmp_path, threads, changes):
    train(cohort, tmp_path / "run", 2, **changes)
    assert threads == {"MainThread"}


def test_gradients_of_several_views_are_summed_in_the_order_that_they_were(
    cohort, tmp_path, threads
):
    aligned = {"view": "plain", "pairs": [["labs", "report"]], "scale": {"init": 5.0}}
    within = {"modality": "labs", "views": ["plain", "other"]}
    objectives = {"cross_modal": aligned, "in_modal": within}
    run, alone = (
        train(cohort, tmp_path / f"{lent}", lent, objectives=objectives, views={"other": {}})
        for lent in (2, 0)
    )
    assert threads == {"MainThread"}
    assert_same(run, alone)


@pytest.mark.parametrize(
    ("parts", "name"), [("ENCODERS", "text_transformer"), ("OBJECTIVES", "cross_modal")]
)
def test_parts_of_other_packages_have_none(cohort, tmp_path, threads, monkeypatch, parts, name):
    monkeypatch.setattr(step_settings, parts, SimpleNamespace(outside={name: "elsewhere:Part"}))
    train(cohort, tmp_path / "run", 2)
    assert threads == {"MainThread"}


def test_a_stop_signal_is_heard_and_the_run_goes_on_to_the_same_weights(
    cohort, tmp_path, threads, monkeypatch
):
    alone = train(cohort, tmp_path / "alone", 0)
    real = Training.step

    def step(self, *args, **kwargs):
        if self.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step)
        with pytest.raises(Interrupted):
            train(cohort, tmp_path / "run", 2)
    assert not [one for one in threading.enumerate() if one.name.startswith("tower")]
    run = train(cohort, tmp_path / "run", 2, resume=True)
    assert "tower" in threads
    assert_same(run, alone)
