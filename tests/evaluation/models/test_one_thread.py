"""Small fits have one BLAS thread, and what follows has as many as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_targets import targets_of
from threadpoolctl import threadpool_info, threadpool_limits

from medmcl.core.targets import Targets
from medmcl.evaluation import evaluate_task
from medmcl.evaluation.models import probe
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.risk_model import RiskModel
from medmcl.evaluation.models.survival_models import cox_probe, discrete_time_probe


def blas_threads() -> set[int]:
    """Threads that each BLAS library of this process may use."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Any:
    """As on a machine where nothing is said of threads."""
    with threadpool_limits(2, user_api="blas"):
        yield


def test_a_block_has_one_thread_and_gives_the_others_back() -> None:
    assert blas_threads() == {2}
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == {2}


def test_threads_begun_in_a_block_have_one_and_leave_it_so() -> None:
    seen: list[set[int]] = []

    def work() -> None:
        with one_blas_thread():
            seen.append(blas_threads())
        seen.append(blas_threads())

    with one_blas_thread():
        one = threading.Thread(target=work)
        one.start()
        one.join()
        seen.append(blas_threads())
    assert seen == [{1}] * 3
    assert blas_threads() == {2}


def survival_task() -> tuple[np.ndarray, Targets]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    values = np.stack([rng.exponential(np.exp(-x[:, 0])), rng.random(60) < 0.7], axis=1)
    return x, targets_of("survival", values, name="death")


ROWS = np.arange(60)
FITS: dict[str, Callable[[np.ndarray, Targets], object]] = {
    "linear_probe": lambda x, t: probe.linear_probe(x, t, ROWS[:40], ROWS[40:]),
    "cox": lambda x, t: cox_probe(x, t, ROWS[:40], ROWS[40:]),
    "discrete time": lambda x, t: discrete_time_probe(x, t, ROWS[:40], ROWS[40:]),
    "RiskModel": lambda x, t: RiskModel("survival").fit(x, t.values[:, ::-1]),
    "evaluate_task": lambda x, t: evaluate_task(
        {"a": x}, t, np.array(["train", "tuning", "held_out"])[ROWS % 3], ROWS, bootstrap_draws=5
    ),
}


@pytest.mark.parametrize("fit", FITS)
def test_every_way_to_fit_has_one_thread(fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    known = Targets.refuse_leak

    def watched(self: Targets, *args: Any) -> None:
        seen.append(blas_threads())
        known(self, *args)

    monkeypatch.setattr(Targets, "refuse_leak", watched)
    FITS[fit](*survival_task())
    assert seen
    assert all(one == {1} for one in seen)
    assert blas_threads() == {2}


CODE = """
import json, sys
import numpy as np
from medmcl.core.targets import Targets
from medmcl.evaluation.models.probe import linear_probe
rng = np.random.default_rng(0)
x = rng.normal(size=(120, 128))
y = (x[:, :1] + rng.normal(size=(120, 1)) > 0) + 0.0
known = np.ones(y.shape, bool)
targets = Targets(name="y", kind="multilabel", columns=("y",), values=y, known=known)
fitted = linear_probe(x, targets, np.arange(80), np.arange(80, 120))
print(json.dumps(fitted.model.weights.ravel().tolist()))
"""


def test_the_environment_changes_no_bit_of_a_fit() -> None:
    """Sums of several threads differ in their last bits; those of one do not."""
    found = [
        subprocess.run(
            [sys.executable, "-c", CODE], env={**os.environ, "OMP_NUM_THREADS": threads},
            capture_output=True, text=True, check=True,
        ).stdout
        for threads in ("1", "4")
    ]  # fmt: skip
    assert len(json.loads(found[0])) == 128
    assert found[0] == found[1]
