from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.evaluation.metrics.intervals import Resampling, bootstrap
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.predictions import c_index
from medmcl.evaluation.metrics.survival import metrics as sm
from medmcl.evaluation.metrics.survival.censoring import clamp_times
from medmcl.evaluation.metrics.survival.d_calibration import (
    DCalibration,
    d_calibration,
    d_calibration_metric,
)


def cohort(seed, size=120, *, ties=True, rate=0.6):
    """Follow-up with ties in time and in risk, the last row censored and alone in its time."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=size)
    died, left = rng.exponential(8 * np.exp(-risk)), rng.exponential(8 / rate, size)
    event, time = died <= left, np.minimum(died, left)
    if ties:
        time, risk = np.ceil(time), np.round(risk, 1)
    time[0], event[0] = time.max() + 1, False
    return event, time, risk


def survival_of(risk, times, scale=10.0):
    return np.exp(-np.exp(risk)[:, None] * np.asarray(times) / scale)


TIMES = np.array([1.0, 2.5, 4.0, 7.0])


# --- scikit-survival --------------------------------------------------------------------------


def oracle(name):
    return getattr(
        pytest.importorskip(
            "sksurv.metrics", reason="scikit-survival, an oracle, is not installed"
        ),
        name,
    )


def structured(event, time):
    from sksurv.util import Surv

    return Surv.from_arrays(event, time)


@pytest.fixture(params=["own", "train"])
def setting(request):
    """Scored rows with the censoring rows that both sides are given."""
    scored = cohort(1)
    if request.param == "own":
        return scored, None, structured(*scored[:2])
    event, time, _ = cohort(2, 300)
    time[0] = max(time.max(), scored[1].max() + 5)
    return scored, (event, time), structured(event, time)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("tau", [None, 6.0, 6.5])
def test_ipcw_concordance_equals_scikit_survival(setting, tau, ties):
    (event, time, risk), censoring, train = setting
    if not ties:
        risk = risk + np.random.default_rng(0).normal(0, 0.01, len(risk))
    expected = oracle("concordance_index_ipcw")(train, structured(event, time), risk, tau=tau)[0]
    found = sm.c_index_ipcw(event, time, risk, censoring=censoring, tau=tau)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("changing", [False, True])
def test_auc_at_each_time_and_its_mean_equal_scikit_survival(setting, changing):
    (event, time, risk), censoring, train = setting
    rng = np.random.default_rng(5)
    scores = np.round(risk[:, None] + rng.normal(size=(len(risk), 4)), 1) if changing else risk
    values, mean = oracle("cumulative_dynamic_auc")(train, structured(event, time), scores, TIMES)
    found = sm.time_dependent_auc(event, time, scores, TIMES, censoring=censoring)
    assert found.values == pytest.approx(values, abs=1e-12)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.note == ""


def test_brier_scores_and_their_integral_equal_scikit_survival(setting):
    (event, time, risk), censoring, train = setting
    survival = survival_of(risk, TIMES)
    _, values = oracle("brier_score")(train, structured(event, time), survival, TIMES)
    found = sm.brier_at(event, time, survival, TIMES, censoring=censoring)
    assert found.values == pytest.approx(values, abs=1e-12)
    scored = structured(event, time)
    expected = oracle("integrated_brier_score")(train, scored, survival, TIMES)
    assert found.mean == pytest.approx(expected, abs=1e-12)
    assert sm.integrated_brier(event, time, survival, TIMES, censoring=censoring) == pytest.approx(
        expected, abs=1e-12
    )
    one = sm.brier_at(event, time, survival[:, 1], 2.5, censoring=censoring)
    assert one.values == (pytest.approx(values[1], abs=1e-12),)
    assert one.mean == one.values[0]


# --- weights ----------------------------------------------------------------------------------


def specs(censoring):
    return {
        "c_index_ipcw": sm.c_index_ipcw_metric(censoring=censoring),
        "c_index_ipcw_tau": sm.c_index_ipcw_metric(censoring=censoring, tau=6),
        "auc": sm.auc_metric(TIMES, censoring=censoring),
        "auc_at": sm.auc_metric(3, censoring=censoring),
        "brier": sm.brier_metric(3, censoring=censoring),
        "integrated_brier": sm.integrated_brier_metric(TIMES, censoring=censoring),
        "d_calibration": d_calibration_metric(bins=4),
    }


def predictions_for(name, risk, time):
    if name == "integrated_brier":
        return survival_of(risk, TIMES)
    if name == "brier":
        return survival_of(risk, [3.0])[:, 0]
    return np.exp(-np.exp(risk) * time / 10) if name == "d_calibration" else risk


@given(seed=st.integers(0, 100_000), size=st.integers(2, 25), own=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_weight_of_k_is_the_row_standing_k_times(seed, size, own):
    event, time, risk = cohort(seed, size)
    weights = np.random.default_rng(seed).integers(0, 4, (size, 4)).astype(float)
    censoring = None if own else cohort(seed + 1, 40)[:2]
    for name, spec in specs(censoring).items():
        arrays = spec.check((event, time, predictions_for(name, risk, time)))
        found = spec.draws(*arrays, weights)
        for column in range(4):
            rows = np.repeat(np.arange(size), weights[:, column].astype(int))
            ones = np.ones((len(rows), 1))
            expected = spec.draws(*(array[rows] for array in arrays), ones)
            np.testing.assert_allclose(found[column], expected[0], atol=1e-10, err_msg=name)


def test_blocks_of_events_do_not_change_the_concordance(monkeypatch):
    event, time, risk = cohort(7, 90)
    weights = np.random.default_rng(7).integers(0, 4, (90, 5)).astype(float)
    whole = sm.kernels.c_index_ipcw(event, time, risk, weights)
    monkeypatch.setattr(sm.kernels, "PAIRS_AT_ONCE", 50)
    assert sm.kernels.c_index_ipcw(event, time, risk, weights) == pytest.approx(whole, abs=1e-13)


def test_large_whole_weights_lose_no_digit():
    event, time, risk = cohort(14, 50)
    weights = 4_000_000.0 + np.random.default_rng(14).integers(0, 1000, (50, 3))
    found = sm.kernels.c_index_ipcw(event, time, risk, weights)
    expected = sm.kernels.c_index_ipcw(event, time, risk, weights + 1e-4)  # double precision
    assert found == pytest.approx(expected, abs=1e-11)


def test_a_censoring_curve_is_exactly_zero_under_fractional_weights_too():
    event, time = np.array([1, 1, 0, 1, 0], bool), np.array([1.0, 2.0, 2.0, 4.0, 4.0])
    weights = np.random.default_rng(0).random((5, 200))
    risk = np.array([2.0, 3.0, 1.0, 2.5, 4.0])
    found = sm.kernels.c_index_ipcw(event, time, risk, weights)
    assert found == pytest.approx(sm.kernels.c_index_ipcw(event, time, risk, weights, tau=4.0))


# --- properties -------------------------------------------------------------------------------


@given(seed=st.integers(0, 100_000), beyond=st.lists(st.floats(0, 50), max_size=4, unique=True))
@settings(max_examples=30, deadline=None)
def test_times_beyond_follow_up_change_nothing_but_the_note(seed, beyond):
    event, time, risk = cohort(seed, 40)
    inside = np.array([1.0, 2.0, 3.0])
    inside = inside[inside < time.max()]
    grid = np.concatenate([inside, np.sort(time.max() + np.array(beyond))])
    if len(inside) < 2 or len(grid) > len(np.unique(grid)):
        return
    kept, note = clamp_times(grid, event, time)
    assert kept.tolist() == inside.tolist()
    assert bool(note) == bool(beyond)
    survival = survival_of(risk, grid)
    found = sm.brier_at(event, time, survival, grid)
    expected = sm.brier_at(event, time, survival[:, : len(inside)], inside)
    assert found.mean == pytest.approx(expected.mean, abs=1e-14)
    assert found.values[: len(inside)] == pytest.approx(expected.values, abs=1e-14)
    assert all(isinstance(value, NotEstimable) for value in found.values[len(inside) :])
    assert found.note == note
    auc = sm.time_dependent_auc(event, time, risk, grid)
    expected = sm.time_dependent_auc(event, time, risk, inside).mean
    if isinstance(expected, NotEstimable):
        assert auc.mean == expected
    else:
        assert auc.mean == pytest.approx(expected, abs=1e-14)


# --- known truth ------------------------------------------------------------------------------


def test_ipcw_metrics_of_censored_rows_find_what_uncensored_rows_show():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    log_rate = rng.normal(0, 1.2, 8000)
    died, left = rng.exponential(np.exp(-log_rate)), rng.exponential(0.7, 8000)
    event, time = died <= left, np.minimum(died, left)
    expected = sm.c_index_ipcw(np.ones(8000, bool), died, log_rate, tau=1.2)
    assert sm.c_index_ipcw(event, time, log_rate, tau=1.2) == pytest.approx(expected, abs=0.005)
    assert c_index(event, time, log_rate) - expected > 0.007  # Harrell's depends on censoring
    grid = np.array([0.1, 0.5, 1.2])
    exact = [roc_auc_score(died <= t, log_rate) for t in grid]
    found = sm.time_dependent_auc(event, time, log_rate, grid)
    assert found.values == pytest.approx(exact, abs=0.012)


# --- not estimable ----------------------------------------------------------------------------


def everything(event, time, risk, censoring=None, weights=None):
    event, time, risk = np.asarray(event), np.asarray(time, float), np.asarray(risk, float)
    survival = survival_of(risk, [1.0, 2.0])
    given = {"censoring": censoring, "weights": weights}
    auc = sm.time_dependent_auc(event, time, risk, [1.0, 2.0], **given)
    brier = sm.brier_at(event, time, survival, [1.0, 2.0], **given)
    return {
        "c": sm.c_index_ipcw(event, time, risk, **given),
        "auc": auc.values[1],
        "mean_auc": auc.mean,
        "brier": brier.values[1],
        "ibs": brier.mean,
        "d": d_calibration(event, time, np.exp(-time)),
    }


@pytest.mark.parametrize(
    ("event", "time", "reasons"),
    [
        ([], [], dict.fromkeys(("c", "auc", "mean_auc", "brier", "ibs", "d"), "no rows")),
        (
            [True],
            [1.0],
            {
                "c": "no event that the censoring curve can weigh precedes another's follow-up",
                "auc": "nobody is followed beyond 1",
                "mean_auc": "nobody is followed beyond 1",
                "ibs": "nobody is followed beyond 1",
                "d": "1 rows for 10 bins",
            },
        ),
        (
            [False] * 60,
            np.arange(60.0),
            {"c": "no events", "auc": "no event by 2", "d": "no events"},
        ),
        ([False, False, True], [3.0, 4.0, 5.0], {"auc": "no event by 2", "mean_auc": "no event"}),
        (
            [1, 1, 1],
            [2.0, 2.0, 2.0],
            {"c": "no event that", "brier": "nobody is followed beyond 2"},
        ),
    ],
)
def test_what_the_data_cannot_give_has_a_reason(event, time, reasons):
    found = everything(event, time, np.arange(len(time)))
    for name, reason in reasons.items():
        assert isinstance(found[name], NotEstimable), name
        assert reason in found[name].reason
    for name, value in found.items():
        assert isinstance(value, (NotEstimable, DCalibration)) or np.isfinite(value), name


ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 4), st.integers(-2, 2), st.integers(0, 2)), max_size=6
)


@given(rows=ROWS, train=st.none() | ROWS, weighted=st.booleans())
@settings(max_examples=200, deadline=None)
def test_tiny_samples_give_a_finite_number_or_a_reason_never_an_error(rows, train, weighted):
    event, time, risk, counts = (np.array([row[k] for row in rows]) for k in range(4))
    other = [] if train is None else train
    curve = (np.array([row[0] for row in other]), np.array([row[1] for row in other]))
    found = everything(
        event, time, risk, None if train is None else curve, counts if weighted else None
    )
    for value in found.values():
        assert isinstance(value, NotEstimable) or np.isfinite(value)
        assert not isinstance(value, NotEstimable) or value.reason


def test_without_an_event_by_the_last_time_there_is_no_brier_score():
    """A forecast of no event at all would score 0.0, a perfect score that nobody earned."""
    curves, times = np.ones((3, 2)), [1.0, 2.0]
    for event, follow_up in (([0, 0, 0], [3.0, 4.0, 5.0]), ([0, 1, 0], [3.0, 4.0, 5.0])):
        found = sm.brier_at(event, follow_up, curves, times)
        assert not any(isinstance(value, float) for value in (*found.values, found.mean))
        assert found.values[0].reason == "no event by 2"
        score = sm.integrated_brier(event, follow_up, curves, times)
        drawn = bootstrap(sm.integrated_brier_metric(times), (event, follow_up), curves, draws=20)
        assert isinstance(score, NotEstimable)
        assert "no event" in score.reason
        assert drawn.value is None
        assert drawn.note == score.reason
    one = sm.integrated_brier([0, 1, 0], [3.0, 1.5, 5.0], curves, times)
    assert one == pytest.approx(0.5 * (0 + 1 / 3))


def test_one_time_within_follow_up_is_no_integral():
    found = sm.brier_at([1, 0], [2.0, 3.0], [[0.9, 0.8], [0.7, 0.6]], [1.0, 9.0])
    assert found.values[0] == pytest.approx(0.05)
    reason = "one time within follow-up: nobody is followed beyond 3"
    assert found.mean == NotEstimable(reason)


def test_an_event_tied_with_the_last_censored_row_is_left_out_instead_of_an_error():
    event, time = [1, 1, 1, 0], [1.0, 2.0, 4.0, 4.0]
    whole = sm.c_index_ipcw(event, time, [1.0, 3.0, 2.0, 0.0])
    assert whole == sm.c_index_ipcw(event, time, [1.0, 3.0, 2.0, 0.0], tau=4)


def test_administrative_censoring_at_the_horizon_is_said():
    found = sm.time_dependent_auc([1, 0, 0], [1.0, 5.0, 5.0], [1.0, 0.0, 0.0], 5.0)
    assert found.values == (NotEstimable("nobody is followed beyond 5"),)
    assert "5" in found.note


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sm.c_index_ipcw([1, 0], [1.0, 2.0], [0.1]), "predictions must be"),
        (lambda: sm.c_index_ipcw([1, 0], [1.0, 2.0], [[0.1], [0.2]]), "predictions must be"),
        (lambda: sm.c_index_ipcw([1, 0], [1.0, 2.0], [0.1, np.nan]), "finite"),
        (lambda: sm.c_index_ipcw([1, 0], [1.0, 2.0], [0.1, 0.2], tau=-1), "tau"),
        (lambda: sm.c_index_ipcw([1, 0], [1.0, -2.0], [0.1, 0.2]), "not negative"),
        (lambda: sm.c_index_ipcw([1, 0], [1.0, 2.0], [0, 1], weights=[-1, 1]), "weights"),
        (lambda: sm.integrated_brier([1, 0], [1.0, 2.0], [[1.0], [0.9]], [1.0]), "two times"),
        (lambda: sm.brier_at([1, 0], [1.0, 2.0], [1.2, 0.5], 1.0), "probabilities"),
        (lambda: sm.brier_at([1, 0], [1.0, 2.0], np.ones((2, 3)), [0.5, 1.0]), r"\(N, 2\)"),
        (lambda: sm.brier_metric([1.0, 2.0]), "one time"),
        (lambda: d_calibration([1, 0], [1.0, 2.0], [0.5, 0.5], bins=1), "two bins"),
        (lambda: d_calibration([1, 0], [1.0, 2.0], [0.5, 1.5]), "probabilities"),
    ],
)
def test_malformed_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_rounding_errors_of_probabilities_are_moved_back():
    found = sm.brier_at([1, 0], [1.0, 2.0], [1 + 1e-12, -1e-12], 1.5)
    assert found.mean == sm.brier_at([1, 0], [1.0, 2.0], [1.0, 0.0], 1.5).mean


# --- the bootstrap ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(specs(None)))
def test_the_bootstrap_takes_every_metric_and_pairs_differences(name):
    event, time, risk = cohort(9, 80)
    spec = specs(None)[name]
    predictions = predictions_for(name, risk, time)
    found = bootstrap(spec, (event, time), predictions, draws=60)
    assert found.value == pytest.approx(spec(event, time, predictions))
    assert found.low < found.high
    assert found.events == event.sum()
    sampler = Resampling(np.arange(80), draws=60)
    same = sampler.sample(spec, (event, time), [predictions])
    assert np.nanmax(np.abs(same.minus(same).draws)) == 0


def test_rows_of_a_sample_can_be_chosen_for_curves_too():
    event, time, risk = cohort(10, 60)
    spec, survival = sm.integrated_brier_metric(TIMES), survival_of(risk, TIMES)
    rows = np.arange(60) % 2 == 0
    found = Resampling(np.arange(60), draws=5).sample(spec, (event, time), [survival], rows)
    assert found.points[0] == spec(event[rows], time[rows], survival[rows])


def test_a_training_split_fixes_the_censoring_curve_over_the_draws():
    event, time, risk = cohort(11, 60)
    other = cohort(12, 100)[:2]
    weights = np.random.default_rng(0).integers(0, 3, (60, 4)).astype(float)
    fixed = sm.c_index_ipcw_metric(censoring=other).draws(event, time, risk, weights)
    own = sm.c_index_ipcw_metric().draws(event, time, risk, weights)
    assert np.abs(fixed - own).min() > 1e-6


def test_the_integrated_brier_score_says_which_times_it_left_out():
    event, time, risk = cohort(13, 40)
    times = [1.0, 2.0, time.max() + 1]
    curves = survival_of(risk, times)
    with pytest.warns(
        UserWarning, match=r"integrated_brier: 1 of 3 times left out .*beyond"
    ) as told:
        whole = sm.integrated_brier(event, time, curves, times)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sm.integrated_brier(event, time, curves[:, :2], times[:2]) == whole
    drawn = bootstrap(sm.integrated_brier_metric(times), (event, time), curves, draws=20)
    assert "1 of 3 times left out" in drawn.note
    drawn = bootstrap(sm.integrated_brier_metric(times[:2]), (event, time), curves[:, :2], draws=20)
    assert "left out" not in drawn.note
