"""The logistic fits under every probe: scikit-learn's optimum, found with less work."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from medmcl.evaluation.models.logistic import Logistic, LogisticPath
from medmcl.evaluation.models.scaling import Rotation
from medmcl.evaluation.models.strength import STRENGTHS


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Standardised features whose directions differ much in size, as embeddings' do."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, width + 1) ** -1.0
    x = (rng.normal(size=(count, width)) * sizes) @ rng.normal(size=(width, width))
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def labels(x: np.ndarray, classes: int, seed: int = 1) -> np.ndarray:
    """Classes that the features tell in part; each of them occurs."""
    rng = np.random.default_rng(seed)
    scores = x @ rng.normal(size=(x.shape[1], classes)) / math.sqrt(x.shape[1])
    y = (2 * scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    y[:classes] = np.arange(classes)
    return np.asarray(y)


def rare(x: np.ndarray) -> np.ndarray:
    return (np.arange(len(x)) == 7).astype(int)


def apart(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] > 0).astype(int)


def with_constants(x: np.ndarray) -> np.ndarray:
    return np.hstack([x[:, :3], np.zeros((len(x), 2))])


def doubled(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, x, x[:, :1]])


CASES: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "fewer rows than columns": lambda: (rows(40, 128), labels(rows(40, 128), 2)),
    "four rows": lambda: (rows(4, 30), np.array([0, 1, 0, 1])),
    "more rows than columns": lambda: (rows(200, 12), labels(rows(200, 12), 2)),
    "one positive": lambda: (rows(60, 20), rare(rows(60, 20))),
    "separable": lambda: (rows(50, 6), apart(rows(50, 6))),
    "separable, fewer rows": lambda: (rows(25, 60), apart(rows(25, 60))),
    "constant columns": lambda: (with_constants(rows(60, 8)), labels(rows(60, 8), 2)),
    "the same columns twice": lambda: (doubled(rows(50, 20)), labels(rows(50, 20), 2)),
    "no column tells": lambda: (np.zeros((10, 3)), np.arange(10) % 2),
    "three classes": lambda: (rows(90, 10), labels(rows(90, 10), 3)),
    "five classes, fewer rows": lambda: (rows(40, 64), labels(rows(40, 64), 5)),
    "many rows": lambda: (rows(1500, 70), labels(rows(1500, 70), 2)),
    "too wide to turn": lambda: (rows(530, 520), labels(rows(530, 520), 2)),
}


def loss_by_loops(x: np.ndarray, y: np.ndarray, fit: Logistic, strength: float) -> float:
    """The sum of log losses and half the penalty, row by row."""
    total = 0.0
    for row, own in zip(x, y, strict=True):
        scores = [
            float(row @ column) + b for column, b in zip(fit.weights.T, fit.offset, strict=True)
        ]
        scores = scores if len(scores) > 1 else [0.0, *scores]
        top = max(scores)
        total += top + math.log(sum(math.exp(s - top) for s in scores)) - scores[own]
    return total + 0.5 * strength * sum(float(w) ** 2 for w in fit.weights.ravel())


def chances(x: np.ndarray, fit: Logistic) -> np.ndarray:
    scores = fit.scores(x)
    return np.asarray(softmax(scores, axis=1) if scores.shape[1] > 1 else expit(scores))


def by_library(x: np.ndarray, y: np.ndarray, strength: float, tol: float = 1e-10) -> Logistic:
    model = LogisticRegression(C=1 / strength, solver="lbfgs", tol=tol, max_iter=50_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rounding ends it before a tolerance that tight
        model.fit(x, y)
    return Logistic(model.coef_.T, model.intercept_)


@pytest.mark.parametrize("case", CASES)
def test_a_path_finds_what_scikit_learn_finds_at_a_tight_tolerance(case: str) -> None:
    x, y = CASES[case]()
    path = LogisticPath(Rotation.of(x), y)
    new = np.random.default_rng(5).normal(size=(30, x.shape[1]))
    for strength in (1e5, 100.0, 1.0, 0.1):
        found, theirs = path.fit(strength), by_library(x, y, strength)
        assert found.converged
        ours, best = (loss_by_loops(x, y, fit, strength) for fit in (found, theirs))
        assert ours <= best * (1 + 1e-6)
        np.testing.assert_allclose(chances(x, found), chances(x, theirs), atol=1e-5)
        np.testing.assert_allclose(chances(new, found), chances(new, theirs), atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_warm_start_changes_nothing_but_the_work(case: str) -> None:
    x, y = CASES[case]()
    rotation = Rotation.of(x)
    path = LogisticPath(rotation, y)
    warm = [path.fit(strength) for strength in STRENGTHS["binary"]][-1]
    cold = LogisticPath(rotation, y).fit(STRENGTHS["binary"][-1])
    again = LogisticPath(rotation, y)
    again.begin(warm)
    tight = 1e-5
    np.testing.assert_allclose(chances(x, warm), chances(x, cold), atol=tight)
    np.testing.assert_allclose(chances(x, warm), chances(x, again.fit(0.1)), atol=tight)


def test_almost_no_penalty_on_separable_rows_still_ends_at_a_minimum() -> None:
    x = rows(30, 5)
    y = apart(x)
    found = LogisticPath(Rotation.of(x), y).fit(1e-8)
    assert found.converged
    signs = np.where(y == 1, 1.0, -1.0)
    slope = -(signs * expit(-signs * found.scores(x)[:, 0])) @ x + 1e-8 * found.weights[:, 0]
    assert np.abs(slope).max() < 1e-6


@pytest.mark.parametrize("width", [3, 30])
def test_features_that_are_not_finite_are_refused(width: int) -> None:
    x = rows(12, width)
    x[4, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        LogisticPath(Rotation.of(x), np.arange(12) % 2)


def test_a_rotation_keeps_lengths_products_and_predictions() -> None:
    x = rows(20, 50)
    turned = Rotation.of(x)
    assert turned.rows.shape == (20, 20)
    np.testing.assert_allclose(turned.rows @ turned.rows.T, x @ x.T, atol=1e-10)
    inside = np.random.default_rng(0).normal(size=20)
    np.testing.assert_allclose(x @ turned.back(inside), turned.rows @ inside, atol=1e-10)
    np.testing.assert_allclose(turned.inside(turned.back(inside)), inside, atol=1e-10)
    assert Rotation.of(x.T).axes is None


@pytest.mark.parametrize(("count", "width", "classes"), [(80, 128, 2), (113, 16, 2), (80, 64, 4)])
def test_a_path_costs_no_more_than_a_plain_loop_of_scikit_learn(
    count: int, width: int, classes: int
) -> None:
    x = rows(count, width)
    y = labels(x, classes)

    def ours() -> None:
        path = LogisticPath(Rotation.of(x), y)
        for strength in STRENGTHS["binary"]:
            path.fit(strength)

    def theirs() -> None:
        for strength in STRENGTHS["binary"]:
            by_library(x, y, strength, tol=1e-4)

    with threadpool_limits(1, user_api="blas"):
        assert least_seconds(ours) < least_seconds(theirs)


def least_seconds(work: Callable[[], None]) -> float:
    """CPU seconds of the quickest of five."""
    found = []
    for _ in range(5):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
