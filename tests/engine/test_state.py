"""What a stage remembers between steps: gradient spikes, sums of rows, and both after a stop."""

from __future__ import annotations

import math
import statistics
import threading
import time
from dataclasses import fields

import numpy as np
import pytest
import torch
from small_shared import INPUTS, ROWS, batch, build

from medmcl.core.writing import DiskError
from medmcl.engine import state as states
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Learner, Plan, Training, fit
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.record import Record, read_metrics
from medmcl.engine.running_sums import added, row_sums
from medmcl.engine.saver import Saver
from medmcl.engine.signals import Interrupted
from medmcl.engine.state import Progress
from medmcl.engine.world import World
from medmcl.objectives import build_objective

STEPS = 11


def test_spikes_are_counted_as_a_slow_loop_counts_them():
    rng = np.random.default_rng(3)
    norms = rng.lognormal(0, 1.2, 400).tolist()
    state, wanted = Progress(), 0
    for number, norm in enumerate(norms):
        state.note(norm)
        before = norms[max(0, number - 100) : number]
        wanted += len(before) >= 20 and norm > 10 * statistics.median(before)
    assert state.gradient_spikes == wanted
    assert 3 < wanted < 60
    assert state.largest_norm == max(norms)
    assert state.norms == norms[-100:]


def test_the_first_steps_and_a_slow_rise_are_no_spikes():
    assert not states.is_spike(1e6, [1.0] * 19)
    assert states.is_spike(11.0, [1.0] * 20)
    assert not states.is_spike(10.0, [1.0] * 20)
    assert not states.is_spike(11.0, [1e-3] * 900 + [2.0] * 100)


def test_a_checkpoint_of_an_older_version_can_be_resumed():
    new = {"gradient_spikes", "norms", "largest_norm", "sums"}
    old = {k: v for k, v in Progress(step=7, recent={"loss": 1.0}).saved(World()).items()
           if k not in new}  # fmt: skip
    assert set(old) == {field.name for field in fields(Progress)} - new
    state = Progress.resumed(old, World())
    assert (state.step, state.gradient_spikes, state.norms, state.sums) == (7, 0, [], {})


def test_row_sums_add_up_over_views_and_leave_no_gradient():
    model, rows = build(), batch()
    seen = {"a": model(rows), "b": model(rows[torch.arange(3, device="cpu")])}
    found = row_sums(seen)
    for name, x in seen["a"].stats.items():
        want = x.detach().double().sum(0) + seen["b"].stats[name].detach().double().sum(0)
        torch.testing.assert_close(found[name], want)
        assert not found[name].requires_grad
    assert added({}, found) == found
    assert set(added(found, {"other": torch.ones(1, device="cpu")})) == {*found, "other"}


class Stop:
    """Asks to stop after the step of a number."""

    def __init__(self, after=STEPS + 1):
        self.after, self.step = after, 0

    @property
    def asked(self):
        self.step += 1
        return self.step == self.after


def train(
    folder, stop, steps=STEPS, bad=(), ema=None, slow=0.0, heard=lambda number: None, **optimiser
):
    tower = build(depth=2, capacity_factor=0.6)
    objective = build_objective("cross_modal", {"view": "plain"}, tower.shape(INPUTS))
    learner = Learner(tower, {"cross_modal": objective}, {"cross_modal": 1.0})
    whole = batch()

    shown = []

    def view(rows, generator, disturb=True):
        shown.append(disturb)
        heard(len(shown))
        if disturb and len(shown) in bad:
            return rows.with_inputs({**rows.inputs, "image": rows.inputs["image"] * math.inf})
        noise = generator.normal(1).exp() if disturb else 1.0
        return rows.with_inputs({**rows.inputs, "image": rows.inputs["image"] * noise})

    plan = Plan(stage="s", steps=steps, steps_per_epoch=steps, evaluate_every=4, log_every=3,
                seed=0, optimiser=OptimiserSettings(lr=1e-4, **optimiser), ema=ema)  # fmt: skip
    state = fit(
        learner,
        Feed(sampler=lambda _: iter([np.arange(ROWS)] * steps),
             load=lambda rows: time.sleep(slow) or whole[torch.from_numpy(rows)],
             tuning=(np.arange(ROWS),)),
        {"plain": view},
        plan,
        record=Record(folder / "metrics.jsonl", active=True),
        checkpoints=Checkpoints(folder / "checkpoint"),
        world=World(),
        stop=stop,
        summarise=lambda sums: {n: x.flatten().tolist() for n, x in sums.items()},
    )  # fmt: skip
    return state, read_metrics(folder / "metrics.jsonl")


AHEAD = Training.shows_ahead


@pytest.fixture(scope="module", autouse=True)
def in_turn():
    """Views are drawn within their step, so that they count steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "shows_ahead", None)
        yield


@pytest.fixture(scope="module")
def touchy():
    """Spikes that a run of eleven steps can have: a fifth above the median."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "SPIKE_FEWEST", 2)
        patch.setattr(states, "SPIKE_FACTOR", 1.2)
        yield


@pytest.fixture(scope="module")
def through(touchy, tmp_path_factory):
    """A run that nothing stopped."""
    return train(tmp_path_factory.mktemp("through"), Stop())


def test_what_was_waited_for_rows_is_told_in_each_line_and_goes_on_where_a_run_stopped(tmp_path):
    def told():
        lines = read_metrics(tmp_path / "metrics.jsonl", times=True)
        return [line["data_wait_seconds"] for line in lines if line["split"] == "train"]

    began = time.perf_counter()
    with pytest.raises(Interrupted):
        train(tmp_path, Stop(7), slow=0.05)
    third, sixth = told()
    assert 0.05 <= third <= sixth <= time.perf_counter() - began
    state, _ = train(tmp_path, Stop())
    assert told()[:2] == [third, sixth]
    assert sixth <= told()[-1] <= state.data_wait_seconds + 0.001


@pytest.mark.parametrize("after", [1, 5])
def test_a_stopped_run_sums_and_counts_as_one_that_was_not(through, after, tmp_path):
    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(Interrupted):
        train(folder, Stop(after))
    state, lines = train(folder, Stop())
    assert lines == through[1]
    seen, expected = vars(state).copy(), vars(through[0]).copy()
    for name in ("seconds", "data_wait_seconds"):
        assert seen.pop(name) > 0
        assert expected.pop(name) > 0
    assert seen == expected
    assert 0 < state.gradient_spikes < STEPS


def test_a_line_of_training_is_over_all_steps_since_the_one_before(through):
    rows = [line for line in through[1] if line["split"] == "train"]
    assert [row["step"] for row in rows] == [3, 6, 9, 11]
    tokens = [row["router/tokens/text"][0] for row in rows]
    assert tokens == [tokens[0]] * 3 + [tokens[0] / 3 * 2]
    assert all(row["largest_gradient_norm"] >= row["gradient_norm"] for row in rows)
    assert any(row["largest_gradient_norm"] > row["gradient_norm"] for row in rows)
    kept = sum(row["router/kept/text"][0] for row in rows)
    assert 0 < kept < sum(tokens)
    tuning = next(line for line in through[1] if line["split"] == "tuning")
    assert tuning["router/kept/text"] == tuning["router/tokens/text"] == [tokens[0] / 3]


def test_what_steps_came_to_is_the_same_if_nobody_asks_before_the_record_does(
    touchy, tmp_path, monkeypatch
):
    """As on a GPU: the optimiser itself skips what is not finite, and the host learns it late."""
    found = []
    for name in ("at_once", "late"):
        (tmp_path / name).mkdir()
        state, lines = train(tmp_path / name, Stop(), bad=(2, 3, 8), fused=True, clip_norm=0.5)
        weights = Checkpoints(tmp_path / name / "checkpoint").weights("last")
        found.append((state, lines, weights))
        monkeypatch.setattr(Plan, "settles_each_step", lambda *_: False)
    (state, lines, weights), (late, late_lines, late_weights) = found
    assert state.skipped_steps == 3
    assert lines == late_lines
    timeless = {"seconds": 0, "data_wait_seconds": 0}
    assert {**vars(state), **timeless} == {**vars(late), **timeless}
    assert all(torch.equal(x, late_weights[name]) for name, x in weights.items())


def test_views_are_drawn_while_earlier_steps_compute_and_are_the_same(
    through, tmp_path, monkeypatch
):
    monkeypatch.setattr(Training, "shows_ahead", AHEAD)
    drawn = []
    state, lines = train(
        tmp_path, Stop(), heard=lambda _: drawn.append(threading.current_thread().name)
    )
    assert sum(name.startswith("reader") for name in drawn) == STEPS
    assert lines == through[1]
    assert state.best == through[0].best


def test_a_mean_of_weights_is_kept_and_goes_on_where_it_stopped(touchy, tmp_path):
    kept, lines = {}, {}
    for name, ema in (("plain", None), ("mean", 0.9), ("stopped", 0.9)):
        (tmp_path / name).mkdir()
        if name == "stopped":
            with pytest.raises(Interrupted):
                train(tmp_path / name, Stop(5), ema=ema)
        _, lines[name] = train(tmp_path / name, Stop(), ema=ema)
        kept[name] = Checkpoints(tmp_path / name / "checkpoint").weights("last")
    assert all(torch.equal(x, kept["stopped"][name]) for name, x in kept["mean"].items())
    assert lines["mean"] == lines["stopped"]

    def of(name, split, key):
        return [line[key] for line in lines[name] if line["split"] == split]

    assert of("mean", "train", "loss") == of("plain", "train", "loss")
    assert of("mean", "tuning", "loss") != of("plain", "tuning", "loss")
    assert any(not torch.equal(x, kept["plain"][name]) for name, x in kept["mean"].items())


SEEN_AT_4, SEEN_AT_8 = 5, 10
"""Views that were drawn when a step was saved: of its steps, and of tuning rows."""


def held_back(monkeypatch, until):
    """Let each step be written only when it is told to go on."""
    real = Checkpoints.save

    def save(self, step, *given, **more):
        assert until.wait(60)
        real(self, step, *given, **more)

    monkeypatch.setattr(Checkpoints, "save", save)


def test_a_step_is_written_while_training_goes_on_as_it_was(tmp_path, monkeypatch):
    for name in ("at_once", "meanwhile"):
        (tmp_path / name).mkdir()
    with pytest.raises(Interrupted):
        train(tmp_path / "at_once", Stop(4))
    later = threading.Event()
    held_back(monkeypatch, later)

    def heard(number):
        if number == SEEN_AT_8 - 1:  # the seventh step
            later.set()
        if number == SEEN_AT_8 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "meanwhile", Stop(), heard=heard)
    kept = [Checkpoints(tmp_path / name / "checkpoint") for name in ("at_once", "meanwhile")]
    assert kept[1].find("last").name == "step-00000008"
    for name in ("weights.safetensors", "training.pt"):
        first, second = (one.folder / "step-00000004" / name for one in kept)
        if name == "training.pt":
            first, second = (torch.load(one, weights_only=True) for one in (first, second))
            assert first["optimiser"]["param_groups"] == second["optimiser"]["param_groups"]
            for number, state in first["optimiser"]["state"].items():
                theirs = second["optimiser"]["state"][number]
                assert all(torch.equal(x, theirs[key]) for key, x in state.items())
            first, second = (one["progress"] for one in (first, second))
            differ = dict.fromkeys(("seconds", "data_wait_seconds", "sums"))
            assert {**first, **differ} == {**second, **differ}
        else:
            assert first.read_bytes() == second.read_bytes()


def test_a_step_that_cannot_be_written_ends_the_run_at_the_next(tmp_path, monkeypatch):
    real, seen = Checkpoints.save, []

    def save(self, step, *given, **more):
        if step == 8:
            raise DiskError("the disk is full")
        real(self, step, *given, **more)

    monkeypatch.setattr(Checkpoints, "save", save)
    monkeypatch.setattr(Saver, "check", Saver.wait)  # the writer is faster than a step
    with pytest.raises(DiskError, match="the disk is full"):
        train(tmp_path, Stop(), heard=seen.append)
    assert max(seen) == SEEN_AT_8 + 1
    assert Checkpoints(tmp_path / "checkpoint").find("last").name == "step-00000004"


def test_what_is_being_written_is_not_lost_where_a_run_ends_by_something_else(
    tmp_path, monkeypatch
):
    def heard(number):
        if number == SEEN_AT_4 + 2:
            threading.Timer(0.2, later.set).start()
            raise RuntimeError("something else")

    later = threading.Event()
    held_back(monkeypatch, later)
    with pytest.raises(RuntimeError, match="something else"):
        train(tmp_path, Stop(), heard=heard)
    assert Checkpoints(tmp_path / "checkpoint").find("last").name == "step-00000004"
