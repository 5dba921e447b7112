import time

import numpy as np
import pytest

from medmcl.modalities.ecg import signal as steps


def dense_baseline(y, lam, p, reweightings):
    """The definition of Eilers & Boelens with a dense matrix, one lead."""
    size = len(y)
    second = np.zeros((size - 2, size))
    for k in range(size - 2):
        second[k, k], second[k, k + 1], second[k, k + 2] = 1, -2, 1
    weights = np.ones(size)
    for _ in range(reweightings):
        z = np.linalg.solve(np.diag(weights) + lam * second.T @ second, weights * y)
        weights = np.array([p if a > b else 1 - p for a, b in zip(y, z, strict=True)])
    return z


@pytest.mark.parametrize(("lam", "p"), [(1e7, 0.3), (1e2, 0.05), (1.0, 0.9)])
def test_banded_baseline_equals_the_dense_definition(lam, p):
    signal = np.random.default_rng(0).normal(size=(3, 150)).cumsum(axis=1)
    got = steps.als_baseline(signal, lam, p, 5)
    for row, lead in zip(got, signal, strict=True):
        np.testing.assert_allclose(row, dense_baseline(lead, lam, p, 5), atol=1e-7)


def test_baseline_of_a_flat_or_zero_lead_is_the_lead():
    for level in (0.0, 3.5):
        flat = np.full((2, 60), level)
        np.testing.assert_allclose(steps.als_baseline(flat), flat, atol=1e-6)


def test_baseline_is_much_faster_than_the_sparse_solver():
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    signal = np.random.default_rng(2).normal(size=(2, 5000)).cumsum(axis=1)

    def naive(y):
        size = len(y)
        second = sparse.diags([1.0, -2.0, 1.0], [0, -1, -2], shape=(size, size - 2))
        penalty = 1e7 * (second @ second.T)
        weights = np.ones(size)
        for _ in range(5):
            z = spsolve((sparse.diags(weights) + penalty).tocsc(), weights * y)
            weights = np.where(y > z, 0.3, 0.7)
        return z

    start = time.process_time()
    slow = np.stack([naive(row) for row in signal])
    middle = time.process_time()
    fast = steps.als_baseline(signal)
    end = time.process_time()
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    assert 2 * (end - middle) < middle - start


def test_lambda_scaled_with_the_rate_bends_alike_in_seconds():
    def wander(rate):
        at = np.arange(0, 8, 1 / rate)
        return np.sin(2 * np.pi * 0.3 * at)[None] + 0.2 * np.sin(2 * np.pi * 2 * at)[None]

    fine = steps.als_baseline(wander(500), steps.als_lambda_at(1e7, 500))
    coarse = steps.als_baseline(wander(100), steps.als_lambda_at(1e7, 100))
    unscaled = steps.als_baseline(wander(100), 1e7)
    assert steps.als_lambda_at(1e7, 500) == 1e7
    scaled_error = np.abs(fine[:, ::5] - coarse).max()
    assert scaled_error < 0.05
    assert np.abs(fine[:, ::5] - unscaled).max() > 5 * scaled_error


def test_group_normalisation_equals_slow_loops():
    signal = np.random.default_rng(3).normal(2, 3, size=(12, 40))
    groups = [range(3), range(3, 6), range(6, 12)]
    got = steps.normalise(signal, groups)
    for rows in groups:
        values = [signal[lead, t] for lead in rows for t in range(40)]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        for lead in rows:
            for t in range(40):
                expected = (signal[lead, t] - mean) / (variance + 1e-12) ** 0.5
                assert got[lead, t] == pytest.approx(expected, abs=1e-10)


def test_clip_is_by_the_deviation_of_the_whole_record_around_zero():
    signal = np.random.default_rng(4).normal(1, 1, size=(3, 100))
    signal[0, 0] = 99
    got = steps.clip_to_sigma(signal, 4)
    assert got.max() == pytest.approx(4 * signal.std())
    np.testing.assert_array_equal(got[1:], signal[1:])


@pytest.mark.parametrize(("rate", "target"), [(1000, 500), (360, 500), (257, 100), (500, 500)])
def test_resampling_keeps_a_slow_wave_and_its_offset(rate, target):
    at = np.arange(0, 4, 1 / rate)
    wave = (5 + 0.1 * at + np.sin(2 * np.pi * 3 * at))[None]
    got = steps.resample(wave, rate, target)
    then = np.arange(got.shape[1]) / target
    expected = 5 + 0.1 * then + np.sin(2 * np.pi * 3 * then)
    assert got.shape[1] == np.ceil(len(at) * target / rate)
    assert np.abs(got[0] - expected)[20:-20].max() < 0.02
    assert np.abs(got[0] - expected).max() < 0.35


def test_resampling_removes_what_the_new_rate_cannot_hold():
    at = np.arange(0, 4, 1 / 500)
    hum = np.sin(2 * np.pi * 80 * at)[None]
    assert np.abs(steps.resample(hum, 500, 100)[0, 20:-20]).max() < 0.05


def test_high_pass_removes_drift_and_keeps_beats():
    at = np.arange(0, 10, 1 / 100)
    beats = np.sin(2 * np.pi * 8 * at)
    got = steps.high_pass((beats + 3 + np.sin(2 * np.pi * 0.05 * at))[None], 100, 0.5)
    assert np.abs(got[0] - beats)[100:-100].max() < 0.1


def test_gaps_are_filled_by_lines_and_ends_are_held():
    row = np.array([[np.nan, 1, np.nan, 3, np.inf, np.nan]])
    np.testing.assert_allclose(steps.fill_gaps(row), [[1, 1, 2, 3, 3, 3]])


@pytest.mark.parametrize(("before", "after"), [(100, 500), (250, 500), (1000, 500), (360, 500)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_kept_filter_is_the_one_that_scipy_designs(before, after, kind):
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(after, before)
    signal = np.random.default_rng(0).normal(size=(2, 301)).astype(kind)
    signal[:, 0] = signal[:, -1] = 0
    line = np.zeros_like(signal, dtype=np.float64)
    expected = resample_poly(signal - line, ratio.numerator, ratio.denominator, axis=-1)
    found = steps.resample(signal, float(before), float(after))
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
