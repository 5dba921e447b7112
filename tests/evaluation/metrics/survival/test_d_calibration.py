from __future__ import annotations

import numpy as np
import pytest
from slow_survival import simulated_survival

from medmcl.evaluation.metrics.survival.d_calibration import d_calibration, survival_at_own_time
from medmcl.evaluation.metrics.survival.kernels import calibration_counts


def p_values(censored, repeats=300, size=400):
    from scipy.stats import chi2

    found = []
    for seed in range(repeats):
        log_rate, died, event, time = simulated_survival(1000 + seed, size)
        if not censored:
            event, time = np.ones(size, bool), died
        own = np.exp(-np.exp(log_rate) * time)
        tested = d_calibration(event, time, own)
        assert tested.p_value == pytest.approx(chi2.sf(tested.statistic, 9), abs=1e-12)
        found.append(tested.p_value)
    return np.array(found)


def test_d_calibration_p_values_of_the_true_model_are_uniform():
    from scipy.stats import kstest

    found = p_values(censored=False)
    assert kstest(found, "uniform").pvalue > 0.05
    assert 0.02 <= (found < 0.05).mean() <= 0.08


def test_d_calibration_under_censoring_rejects_the_true_model_no_more_than_it_says():
    assert (p_values(censored=True) < 0.05).mean() <= 0.05


@pytest.mark.parametrize("wrong", [0.6, 1.6])
def test_d_calibration_rejects_a_model_whose_hazard_is_off(wrong):
    log_rate, _, event, time = simulated_survival(2, 1000)
    found = d_calibration(event, time, np.exp(-wrong * np.exp(log_rate) * time))
    assert found.p_value < 1e-6
    assert sum(found.shares) == pytest.approx(1)


def test_d_calibration_counts_follow_the_definition_by_hand():
    event = np.array([True, True, True, False, False, False])
    own = np.array([0.0, 0.25, 1.0, 0.6, 1.0, 0.0])
    counts = calibration_counts(event, own, 4)
    expected = [
        [1, 0, 0, 0],
        [0, 1, 0, 0],  # closed below
        [0, 0, 0, 1],
        [0.25 / 0.6, 0.25 / 0.6, 0.1 / 0.6, 0],
        [0.25, 0.25, 0.25, 0.25],
        [1, 0, 0, 0],
    ]
    assert counts == pytest.approx(np.array(expected), abs=1e-12)


def test_d_calibration_from_curves_reads_them_at_each_rows_time():
    log_rate, _, event, time = simulated_survival(3, 400)
    grid = np.linspace(0, time.max(), 4000)
    curves = np.exp(-np.exp(log_rate)[:, None] * grid)
    exact = d_calibration(event, time, np.exp(-np.exp(log_rate) * time))
    found = d_calibration(event, time, curves, grid)
    assert found.statistic == pytest.approx(exact.statistic, abs=0.2)
    assert found.note == ""


def test_rows_beyond_the_grid_count_as_censored_at_its_end():
    log_rate, _, event, time = simulated_survival(4, 300)
    grid = np.linspace(0.01, 1.0, 800)
    curves = np.exp(-np.exp(log_rate)[:, None] * grid)
    found = d_calibration(event, time, curves, grid)
    beyond = time > 1
    own = np.exp(-np.exp(log_rate) * np.minimum(time, 1))
    expected = d_calibration(event & ~beyond, np.minimum(time, 1), own)
    assert found.statistic == pytest.approx(expected.statistic, abs=0.5)
    assert found.note == f"{beyond.sum()} rows followed beyond 1 count as censored there"


def test_reading_a_curve_at_the_own_time_is_linear_from_one_at_zero():
    curves = np.array([[0.8, 0.4]] * 5)
    own = survival_at_own_time(curves, [2.0, 4.0], [0.0, 1.0, 2.0, 3.0, 9.0])
    assert own == pytest.approx([1.0, 0.9, 0.8, 0.6, 0.4])
    assert survival_at_own_time([[0.7], [0.7]], [0.0], [0.0, 2.0]).tolist() == [0.7, 0.7]
    with pytest.raises(ValueError, match=r"must be \(2, 1\)"):
        survival_at_own_time([[0.7]], [1.0], [0.0, 2.0])


@pytest.mark.parametrize("grid", [[0.0, 2.0, 3.0, 7.0], [0.5, 2.0, 3.0], [4.0], [0.0, 1.0]])
def test_reading_curves_of_any_grid_is_what_interpolation_gives(grid):
    rng = np.random.default_rng(0)
    curves = np.sort(rng.random((200, len(grid))))[:, ::-1]
    time = np.concatenate([rng.uniform(0, 9, 190), [0.0, 0.5, 2, 3, 7, 4, 1, 9, 0.25, 8]])
    known = ([], []) if grid[0] == 0 else ([0.0], [1.0])
    slow = [
        np.interp(at, [*known[0], *grid], [*known[1], *one])
        for at, one in zip(time, curves, strict=True)
    ]
    np.testing.assert_allclose(survival_at_own_time(curves, grid, time), slow, rtol=1e-13)


@pytest.mark.parametrize(("events", "said"), [(60, False), (59, True)])
def test_where_most_are_censored_d_calibration_says_that_it_has_little_power(events, said):
    found = d_calibration(np.arange(120) < events, np.ones(120), np.linspace(0.05, 0.95, 120))
    assert ("little power" in found.note) == said
