"""What is held of many people while a report is made: a few arrays at a time, no copies of all."""

import ctypes
import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from medmcl.core.targets import Targets
from medmcl.data.tables import mapped
from medmcl.evaluation.metrics import intervals
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.survival import kernels
from medmcl.evaluation.metrics.survival.calibration import survival_calibration
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.models.standard_errors import standard_errors
from medmcl.evaluation.models.survival_models import cox_probe
from medmcl.evaluation.protocol import predicted
from medmcl.evaluation.protocol.evaluate import evaluate_task

ROWS, WIDE = 20_000, 25
MB = 2**20


@pytest.fixture(scope="module")
def people():
    """Features, events, times, of which few are tied, and whole weights of 100 draws."""
    draw = np.random.default_rng(0)
    time = draw.integers(1, 10 * ROWS, ROWS).astype(float)
    weights = draw.poisson(1.0, (ROWS, 100)).astype(float)
    return draw.normal(size=(ROWS, WIDE)), draw.random(ROWS) < 0.05, time, weights


def peak(call):
    """MB that a call holds at most beyond what was there."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


def test_a_metric_of_pairs_holds_few_copies_of_the_draws(people):
    x, event, time, weights = people
    assert weights.nbytes / MB > 15
    assert peak(lambda: kernels.c_index(event, time, x[:, 0], weights)) < 21


def test_a_calibration_curve_holds_one_block_of_draws(people, monkeypatch):
    x, event, time, _ = people
    monkeypatch.setattr(intervals, "ENTRIES_AT_ONCE", 20 * ROWS)
    chance = np.clip(0.9 + 0.02 * x[:, 0], 0.01, 0.99)
    how = Resampling(draws=21)
    assert peak(lambda: survival_calibration(event, time, chance, 1e5, how)) < 11.6


def test_standard_errors_hold_few_copies_of_the_features(people):
    x, event, time, _ = people
    targets = Targets(
        name="death", kind="survival", columns=("event", "time"), classes=(),
        values=np.stack([event, time], axis=1), known=np.ones((ROWS, 2), bool),
    )  # fmt: skip
    rows = np.arange(ROWS)
    fitted = cox_probe(x, targets, rows[:15_000], rows[15_000:])
    held = peak(
        lambda: standard_errors(fitted.model, x, targets, rows, rows[:15_000], fitted.chosen)
    )
    assert held < 17


def test_curves_at_many_times_are_asked_for_some_rows_at_once(people, monkeypatch):
    x, event, time, _ = people
    few, asked = slice(0, 600), []
    targets = Targets(
        name="death", kind="survival", columns=("event", "time"), classes=(),
        values=np.stack([event, time], axis=1)[few], known=np.ones((600, 2), bool),
    )  # fmt: skip
    split = np.repeat(["train", "tuning", "held_out"], 200)

    def scored():
        given = {"covariates": x[few]}
        found = evaluate_task(
            given, targets, split, np.arange(600), protocol="cox", bootstrap_draws=20
        )
        return [(row.metric, row.value, row.low, row.high) for row in found.results]

    whole = scored()
    own = LinearModel.survival
    monkeypatch.setattr(predicted, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(
        LinearModel, "survival", lambda self, x, at: asked.append(len(x)) or own(self, x, at)
    )
    assert scored() == whole
    assert max(asked) == 64


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="of glibc")
def test_what_was_freed_goes_back_to_the_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MB

    several = [bytearray(100_000) for _ in range(600)]
    last = several.pop()
    full = resident()
    del several[:]
    mapped.let_go()
    assert full - resident() > 40
    assert len(last) == 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="pages are let go on Linux")
def test_rows_of_mapped_numbers_are_those_of_memory(people, monkeypatch):
    x, *_ = people
    there, rows = mapped.held(x), np.random.default_rng(1).permutation(ROWS)[:17_000]
    assert mapped._MAPS
    np.testing.assert_array_equal(mapped.taken(there, rows), x[rows])
