from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation.metrics import thresholds
from medmcl.evaluation.metrics.metric import NotEstimable


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = (rng.random(90) < 0.3).astype(float)
    return y, np.round(y + rng.normal(size=90), 1)


def rates(y, s, threshold):
    called = s >= threshold
    return (called & (y > 0)).sum() / (y > 0).sum(), (~called & (y == 0)).sum() / (y == 0).sum()


@pytest.mark.parametrize("fixed", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
def test_operating_points_equal_a_search_over_all_thresholds(data, fixed):
    y, s = data
    points = [rates(y, s, t) for t in [*np.unique(s), np.inf]]
    best = max(sens for sens, spec in points if spec >= fixed)
    assert thresholds.sensitivity_at_specificity(y, s, specificity=fixed) == pytest.approx(best)


def test_the_top_equals_the_mean_over_random_orders_of_the_tied(data):
    y, s = data
    rng = np.random.default_rng(1)
    top = 9
    shares = []
    for _ in range(4000):
        order = np.lexsort((rng.random(90), -s))
        shares.append(y[order[:top]].sum() / y.sum())
    found = thresholds.tpr_at_top(y, s, fraction=0.1)
    assert found == pytest.approx(np.mean(shares), abs=0.003)
    assert thresholds.tpr_at_top(y, s, fraction=1.0) == pytest.approx(1.0)
    assert thresholds.tpr_at_top(y, np.zeros(90), fraction=0.3) == pytest.approx(0.3)


def test_a_border_inside_a_row_counts_it_in_part():
    assert thresholds.tpr_at_top([1, 0, 0], [3, 2, 1], fraction=0.1) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("metric", "arguments", "words"),
    [
        (thresholds.sensitivity_at_specificity, ([1, 1], [1, 2]), "one class"),
        (thresholds.tpr_at_top, ([0, 0], [1, 2]), "no positive"),
    ],
)
def test_what_is_not_estimable_says_why(metric, arguments, words):
    found = metric(*arguments)
    assert isinstance(found, NotEstimable)
    assert words in found.reason


def test_shares_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="specificity"):
        thresholds.sensitivity_at_specificity([1, 0], [1, 2], specificity=1.2)
    with pytest.raises(ValueError, match="fraction"):
        thresholds.tpr_at_top([1, 0], [1, 2], fraction=0)
