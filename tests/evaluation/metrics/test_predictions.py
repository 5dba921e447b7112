from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from medmcl import evaluation as e
from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics import predictions as metrics
from medmcl.evaluation.metrics import weighted
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.predictions import METRICS, SPECS

FUNCTIONS = {name: getattr(e, name) for name in SPECS}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def tied_scores(rng, size=80):
    return np.round(rng.normal(size=size), 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_classification_metrics_equal_scikit_learn(rng, weighted):
    from sklearn import metrics as sk

    y, s = (rng.random(80) < 0.3).astype(float), tied_scores(rng)
    p = 1 / (1 + np.exp(-s))
    w = rng.integers(1, 5, 80).astype(float) if weighted else None
    assert metrics.auroc(y, s, w) == pytest.approx(sk.roc_auc_score(y, s, sample_weight=w))
    expected = sk.average_precision_score(y, s, sample_weight=w)
    assert metrics.auprc(y, s, w) == pytest.approx(expected)
    assert metrics.brier(y, p, w) == pytest.approx(sk.brier_score_loss(y, p, sample_weight=w))


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_metrics_equal_scikit_learn(rng, weighted):
    from sklearn import metrics as sk

    y = rng.normal(50, 10, size=60)
    p = y + rng.normal(0, 5, size=60)
    w = rng.integers(1, 4, 60).astype(float) if weighted else None
    assert metrics.r2(y, p, w) == pytest.approx(sk.r2_score(y, p, sample_weight=w))
    assert metrics.mae(y, p, w) == pytest.approx(sk.mean_absolute_error(y, p, sample_weight=w))
    copies = np.repeat(np.arange(60), np.ones(60, int) if w is None else w.astype(int))
    expected = np.corrcoef(y[copies], p[copies])[0, 1]
    assert metrics.pearson(y, p, w) == pytest.approx(expected)


def test_class_metrics_equal_scikit_learn_from_numbers_and_from_scores(rng):
    from sklearn import metrics as sk

    y, scores = rng.integers(0, 3, 50), rng.normal(size=(50, 3))
    guess = scores.argmax(axis=1)
    assert metrics.accuracy(y, scores) == pytest.approx(sk.accuracy_score(y, guess))
    expected = sk.balanced_accuracy_score(y, guess)
    assert metrics.balanced_accuracy(y, guess) == pytest.approx(expected)
    assert metrics.balanced_accuracy(y, scores) == pytest.approx(expected)


def slow_c_index(event, time, risk):
    won = pairs = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            later = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if event[i] and later and i != j:
                pairs += 1
                gap = risk[i] - risk[j]
                won += 0.5 if abs(gap) <= 1e-8 else float(gap > 0)
    return won / pairs


survival_rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(-3, 3)), min_size=2, max_size=14
)


@settings(max_examples=60, deadline=None)
@given(survival_rows)
def test_c_index_equals_slow_loops_with_every_kind_of_tie(rows):
    event, time, risk = (np.array(column) for column in zip(*rows, strict=True))
    found = metrics.c_index(event, time, risk)
    try:
        expected = slow_c_index(event, time, risk)
    except ZeroDivisionError:
        assert isinstance(found, NotEstimable)
    else:
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_weight_of_k_is_the_row_k_times(rng, name):
    size = 40
    risk = np.round(rng.random(size), 1)
    if name == "c_index":
        outcomes = (rng.random(size) < 0.5, rng.integers(1, 9, size).astype(float))
    elif name in ("r2", "pearson", "mae"):
        outcomes = (rng.normal(size=size),)
    else:
        outcomes = ((rng.random(size) < 0.5).astype(float),)
        risk = np.round(risk) if "accuracy" in name else risk
    weights = rng.integers(0, 4, size)
    rows = np.repeat(np.arange(size), weights)
    metric = FUNCTIONS[name]
    copied = metric(*(outcome[rows] for outcome in outcomes), risk[rows])
    assert metric(*outcomes, risk, weights=weights) == pytest.approx(copied, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("auroc", ([1, 1, 1], [0.1, 0.2, 0.3])),
        ("auroc", ([0, 0, 0], [0.1, 0.2, 0.3])),
        ("auprc", ([0, 0, 0], [0.1, 0.2, 0.3])),
        ("balanced_accuracy", ([1, 1], [1, 0])),
        ("r2", ([5, 5, 5], [1, 2, 3])),
        ("r2", ([0.1, 0.1, 0.1], [1, 2, 3])),
        ("pearson", ([1, 2, 3], [4, 4, 4])),
        ("pearson", ([1, 2, 3], [0.1, 0.1, 0.1])),
        ("c_index", ([0, 0, 0], [1, 2, 3], [1, 2, 3])),
        ("c_index", ([1, 1], [2, 2], [1, 2])),
        ("c_index", ([True], [2.0], [1.0])),
        ("auroc", ([], [])),
        ("mae", ([], [])),
        ("c_index", ([], [], [])),
    ],
)
def test_what_cannot_be_estimated_says_why_and_is_false(name, arrays):
    found = FUNCTIONS[name](*arrays)
    assert isinstance(found, NotEstimable)
    assert not found
    assert str(found).startswith("not estimable: ")


def test_arrays_of_different_length_and_infinite_numbers_are_refused():
    with pytest.raises(ValueError, match="must be"):
        metrics.auroc([1, 0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite"):
        metrics.auroc([1, 0], [1.0, np.nan])
    with pytest.raises(ValueError, match="probabilities"):
        metrics.brier([1, 0], [1.5, 0.2])
    with pytest.raises(ValueError, match="weights"):
        metrics.mae([1, 0], [1, 2], weights=[-1, 1])


def test_macro_leaves_out_unknown_cells_and_names_what_is_not_estimable():
    values = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1.0]])
    known = np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]], dtype=bool)
    guess = np.array([[0.9, 0.1, 0.2], [0.2, 0.3, 0.1], [0.8, 0.2, 0.1], [0.1, 0.4, 0.7]])
    value, note = metrics.macro("auroc", values, known, guess, ["a", "b", "c"])
    assert value == 1.0
    assert "b" in note
    assert "c" in note


def test_every_kind_of_task_has_known_metrics():
    assert set(METRICS) == {"binary", "multilabel", "multiclass", "regression", "survival"}
    assert {name for names in METRICS.values() for name in names} <= set(SPECS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_metric_states_direction_and_source(name):
    text = FUNCTIONS[name].__doc__ or ""
    assert "is better" in text
    assert "Source:" in text
    assert "Differs:" in text


NO_OUTCOMES = {
    "missing": ([1, np.nan, 0], [1, 2, 3]),
    "none": ([1, None, 0], [1, 2, 3]),
    "pandas NA": (pd.Series([1, None, 0], dtype="Int64"), [1, 2, 3]),
    "pandas boolean": (pd.Series([True, None, False], dtype="boolean"), [1, 2, 3]),
    "competing": ([1, 2, 0], [1, 2, 3]),
    "negative code": ([1, -1, 0], [1, 2, 3]),
    "words": (["1", "0", "1"], [1, 2, 3]),
    "negative time": ([1, 1, 0], [1, -2, 3]),
    "swapped": ([1.5, 2.5, 3.5], [1, 1, 0]),
    "lengths": ([1, 1], [1, 2, 3]),
}


@pytest.mark.parametrize("case", NO_OUTCOMES)
def test_outcomes_that_are_none_are_refused_by_every_survival_metric(case):
    event, time = NO_OUTCOMES[case]
    risk = [0.3, 0.2, 0.1]
    for call in (
        lambda: e.c_index(event, time, risk),
        lambda: e.bootstrap("c_index", (event, time), risk, draws=5),
        lambda: e.c_index_ipcw(event, time, risk),
        lambda: e.time_dependent_auc(event, time, risk, 1.5),
        lambda: e.brier_at(event, time, risk, 1.5),
        lambda: e.survival_calibration(event, time, risk, 1.5),
    ):
        with pytest.raises(ValueError, match=r"event|time|equal"):
            call()
    if case != "competing":
        with pytest.raises(ValueError, match=r"event|time"):
            e.net_benefit_survival(event, time, risk, 2.0)
    good = e.c_index(pd.Series([1, 1, 0], dtype="Int64"), pd.Series([1, 2, 3]), risk)
    assert good == e.c_index([True, True, False], [1, 2, 3], risk) == 1.0


@pytest.mark.parametrize(
    "weights", [[1, np.nan, 1, 1], [1, np.inf, 1, 1], [[1]] * 4, [1, 1, 1], -1]
)
def test_weights_must_be_one_finite_number_a_row(weights):
    y, p = [0, 1, 0, 1], [0.1, 0.6, 0.3, 0.4]
    for call in (
        lambda: e.auroc(y, p, weights),
        lambda: e.mae(y, p, weights),
        lambda: e.c_index(y, [1, 2, 3, 4], p, weights),
        lambda: e.brier_at(y, [1, 2, 3, 4], p, 2.5, weights=weights),
    ):
        with pytest.raises(ValueError, match="weights"):
            call()


@pytest.mark.parametrize(
    ("scale", "offset"), [(3e-8, 1e-7), (1.0, 2.4e6), (1e-8, 0), (1e6, 0), (1, 0)]
)
def test_an_outcome_varies_at_any_scale(scale, offset):
    rng = np.random.default_rng(0)
    z, noise = rng.normal(size=200), rng.normal(size=200)
    y, p = offset + scale * z, offset + scale * (z + 0.5 * noise)
    assert e.r2(y, p) == pytest.approx(r2_score(y, p), rel=1e-9)
    assert e.pearson(y, p) == pytest.approx(np.corrcoef(y, p)[0, 1], rel=1e-7)
    drawn = e.bootstrap("r2", y, p, draws=50)
    base = e.bootstrap("r2", z, z + 0.5 * noise, draws=50)
    assert (drawn.low, drawn.high) == pytest.approx((base.low, base.high), rel=1e-5)


@pytest.mark.parametrize("value", [0.1, 0.3331, 2.4e6 + 0.1, 1e-9, 0.0])
def test_rounding_is_no_variation_not_even_in_a_draw(value):
    y = np.full(301, value)
    y[::2] *= 1 + 2.3e-16
    assert not e.r2(y, np.arange(301.0))
    assert not e.pearson(np.arange(301.0), y)
    two = np.array([value, value, value, value + 1])
    draws = np.array([[3.0, 2, 1, 0], [1, 1, 1, 1]]).T
    found = weighted.r2(two, np.arange(4.0), draws)
    assert np.isnan(found[0])
    assert not np.isnan(found[1])


@pytest.mark.parametrize("kind", [str, object])
def test_labels_that_are_words_say_how_they_become_numbers(kind):
    y = np.array(["yes", "no", "yes", "no"], dtype=kind)
    p = np.array([0.9, 0.2, 0.8, 0.4])
    for name in ("auroc", "auprc", "brier", "accuracy", "balanced_accuracy", "calibration_slope"):
        with pytest.raises(
            ConfigError, match=rf"{name}: outcome: must be numbers, .*words"
        ) as said:
            getattr(e, name)(y, p)
        assert "'yes', 'no'" in str(said.value)
        assert "y == 'yes'" in said.value.fix
    with pytest.raises(ConfigError, match="predictions: must be numbers"):
        e.auroc(y == "yes", y)
