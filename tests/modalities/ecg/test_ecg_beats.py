"""Beats: found where they were put, whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ecg.ecg_beats import count, disturbed, hearts, level
from benchmarks.ecg.ecg_rhythms import draw
from medmcl.modalities.ecg import complexes as ecg_complexes
from medmcl.modalities.ecg.beats import AFTER_SECONDS, CENTRE, find_beats, find_waves
from medmcl.modalities.ecg.complexes import (
    BEAT_HZ,
    REST,
    STEEP_HZ,
    _to_the_middle,
    band_of,
    find_complexes,
    likeness,
    noise_above,
    smooth,
)


@pytest.fixture(scope="module")
def simulated():
    return hearts()


def counted(records, leads, kind, size, seed=5):
    """Beats found, told though there are none, and missed."""
    generator = np.random.default_rng(seed)
    noisy = (level(disturbed(signal[leads], kind, size, generator)) for signal, _ in records)
    pairs = zip(noisy, (true for _, true in records), strict=True)
    return sum(count(find_beats(rows).peaks / BEAT_HZ, true) for rows, true in pairs)


def rates(counts):
    """Precision and recall."""
    hits, wrong, missed = counts
    return hits / (hits + wrong), hits / (hits + missed)


def found(records, leads, kind, size):
    return rates(counted(records, leads, kind, size))


@pytest.mark.parametrize(
    ("kind", "size", "precision"),
    [("none", 0.0, 0.995), ("muscle", 0.2, 0.97), ("wander", 0.5, 0.995)],
)
def test_two_leads_under_noise(simulated, kind, size, precision):
    told, recalled = found(simulated[:32], [1, 10], kind, size)
    assert told >= precision
    assert recalled >= 0.97


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_two_leads_under_white_noise(simulated, seed):
    """II and V5, each draw of noise on its own: .99 is reached."""
    assert min(rates(counted(simulated, [1, 10], "white", 0.3, seed))) >= 0.99


@pytest.mark.parametrize(("size", "precision", "recall"), [(0.1, 0.997, 0.988), (0.3, 0.97, 0.97)])
def test_two_leads_of_small_complexes_under_white_noise(simulated, size, precision, recall):
    """I and V2, three draws of noise together: .99 is NOT reached at 0.3 mV.

    Of some hearts the QRS holds no more power than the noise of its window: four of the 96 have
    most of the errors (benchmarks/ecg/ecg_beats.md).
    """
    told, recalled = rates(
        sum(counted(simulated, [0, 7], "white", size, seed) for seed in (5, 6, 7))
    )
    assert told >= precision
    assert recalled >= recall


def test_wide_complexes_under_noise():
    generator = np.random.default_rng(8)
    kinds = ("bundle branch block", "paced", "ventricular tachycardia")
    drawn = [draw(kind, generator) for kind in kinds for _ in range(6)]
    told, recalled = found([(one.signal, one.beats) for one in drawn], [0, 1], "white", 0.3)
    assert told >= 0.995
    assert recalled >= 0.82


def test_beats_found_at_the_end_of_their_complexes_are_told_at_the_middle():
    power = np.ones(5 * BEAT_HZ)
    starts = np.arange(300, 2200, 400)
    for start in starts:
        power[start : start + 81] = 9.0
    for late in (-30, 0, 40, 60):
        assert late + _to_the_middle(power, starts + 40 + late) == pytest.approx(0, abs=1)


@pytest.mark.parametrize("leads", [1, 2, 12])
def test_noise_stands_out_no_more_often_than_it_should(leads):
    noise = np.random.default_rng(leads).normal(size=(leads, 200 * BEAT_HZ))
    size = smooth(band_of(noise, STEEP_HZ), 0.1)
    above = size > noise_above(leads, STEEP_HZ, 0.1) * np.quantile(size, REST)
    assert above.mean() < 2e-3
    if leads == 1:
        assert above.mean() > 2e-4  # the bound is that of noise, not any


def test_twelve_leads_under_noise(simulated):
    told, recalled = found(simulated[:12], slice(None), "white", 0.3)
    assert min(told, recalled) >= 0.99


def test_beats_of_other_shapes_under_noise():
    generator = np.random.default_rng(2)
    kinds = ("sinus rhythm", "bradycardia", "atrial fibrillation", "bundle branch block")
    drawn = [draw(kind, generator) for kind in kinds for _ in range(6)]
    told, recalled = found([(one.signal, one.beats) for one in drawn], [0, 1], "white", 0.3)
    assert min(told, recalled) >= 0.98


def test_a_dead_lead_and_one_of_noise_take_no_beat_away():
    one = draw("sinus rhythm", np.random.default_rng(3))
    generator = np.random.default_rng(4)
    noise = generator.normal(size=one.signal[0].shape)
    rows = level(disturbed(one.signal[1:2], "white", 0.2, generator))
    rows = np.concatenate([rows, 0 * rows, level(noise[None])])
    hits, wrong, missed = count(find_complexes(rows) / BEAT_HZ, one.beats)
    assert hits == len(one.beats[(one.beats > 0.15) & (one.beats < 9.85)])
    assert wrong <= 1
    assert missed == 0


def test_the_order_and_size_of_leads_do_not_matter():
    one = draw("sinus rhythm", np.random.default_rng(6))
    rows = level(disturbed(one.signal[:3], "white", 0.4, np.random.default_rng(7)))
    gains = np.array([[3.0], [0.01], [40.0]])
    assert np.array_equal(find_complexes(rows), find_complexes((rows * gains)[::-1]))


def trace(times, seconds=10.0, t_wave=0.0, wide=None, leads=2, noise=0.0):
    """Gaussian complexes at some times, in mV; those in ``wide`` are broad and upside down."""
    at = np.arange(round(seconds * BEAT_HZ)) / BEAT_HZ
    row = np.zeros(len(at))
    for number, time in enumerate(times):
        odd = wide is not None and number in wide
        row += (-1.2 if odd else 1.0) * np.exp(
            -0.5 * ((at - time) / (0.025 if odd else 0.012)) ** 2
        )
        row += t_wave * np.exp(-0.5 * ((at - time - 0.28) / 0.05) ** 2)
    generator = np.random.default_rng(0)
    rows = np.array([row * (1 - 0.3 * lead) for lead in range(leads)])
    return rows + noise * generator.standard_normal(rows.shape)


@pytest.mark.parametrize("rate", [35, 60, 110, 180])
def test_beats_lie_where_they_were_put(rate):
    times = np.arange(0.5, 9.6, 60 / rate)
    beats = find_beats(trace(times, noise=0.03))
    assert len(beats.peaks) == len(times)
    assert np.abs(beats.peaks / BEAT_HZ - times).max() < 0.012


def test_tall_t_waves_are_no_beats():
    times = np.arange(0.5, 9.6, 0.9)
    assert len(find_beats(trace(times, t_wave=1.4)).peaks) == len(times)


def test_a_beat_of_another_shape_is_found_and_kept_out_of_the_median():
    times = np.arange(0.5, 9.6, 0.8)
    whole = find_beats(trace(times))
    mixed = find_beats(trace(times, wide=(3, 8)))
    assert len(mixed.peaks) == len(times)
    assert (~mixed.alike).sum() == 2
    assert np.abs(mixed.median - whole.median).max() < 0.02


def test_an_artefact_in_one_lead_is_no_beat():
    times = np.arange(0.5, 9.6, 0.8)
    rows = trace(times, leads=4)
    rows[0, 2300:2303] += 20.0
    assert len(find_beats(rows).peaks) == len(times)


def test_flat_and_short_signals_have_no_beats():
    for rows in (np.zeros((3, 5000)), np.ones((1, 100)), np.zeros((2, 0))):
        beats = find_beats(rows)
        assert len(beats.peaks) == 0
        assert beats.median is None


def test_one_beat_is_a_beat_without_a_median():
    beats = find_beats(trace([1.0], seconds=2.0))
    assert len(beats.peaks) == 1
    assert beats.median is None
    assert len(beats.intervals) == 0


def test_likeness_at_each_lag_is_the_correlation_of_slow_loops():
    generator = np.random.default_rng(0)
    wide, template = generator.normal(size=(5, 3, 30)), generator.normal(size=(3, 21))
    template -= template.mean(axis=1, keepdims=True)
    found = likeness(wide, template)
    assert found.shape == (5, 10)
    for beat in range(5):
        for lag in range(10):
            part = wide[beat, :, lag : lag + 21]
            part = part - part.mean(axis=1, keepdims=True)
            size = np.sqrt((part**2).sum() * (template**2).sum())
            assert found[beat, lag] == pytest.approx((part * template).sum() / size, abs=1e-12)


def test_steepness_is_that_of_scipy_step_by_step():
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import butter, sosfiltfilt

    rows = np.random.default_rng(1).normal(size=(4, 1200))
    band = butter(2, (5.0, 25.0), btype="bandpass", fs=500, output="sos")
    slope = np.abs(np.gradient(sosfiltfilt(band, rows, axis=1), axis=1))
    scaled = np.minimum(slope / np.quantile(slope, 0.98, axis=1)[:, None], 3.0)
    power = uniform_filter1d((scaled**2).mean(axis=0), 50, mode="constant")
    assert np.allclose(ecg_complexes._steepness(rows), np.sqrt(power), atol=1e-10)


TIMES = (np.arange(CENTRE + round(AFTER_SECONDS * BEAT_HZ) + 1) - CENTRE) / BEAT_HZ


def beat(p_at=-0.16, qrs=0.012, t_at=0.28, p_mv=0.15, t_mv=0.3):
    def wave(at, width, mv):
        return mv * np.exp(-0.5 * ((TIMES - at) / width) ** 2)

    row = wave(p_at, 0.02, p_mv) + wave(0, qrs, 1.2) + wave(2.2 * qrs, qrs, -0.3)
    row += wave(t_at, 0.04, t_mv)
    return np.array([row, 0.6 * row])


def seconds(sample):
    return (sample - CENTRE) / BEAT_HZ


def test_waves_lie_where_they_were_put():
    waves = find_waves(beat(), np.full(2, 0.002), 0.9)
    assert abs(seconds(waves.p_peak) + 0.16) < 0.006
    assert abs(seconds(waves.t_peak) - 0.28) < 0.006
    # the tangent of a Gaussian meets zero two widths from its centre
    assert abs(seconds(waves.p_onset) + 0.16 + 0.04) < 0.01
    assert abs(seconds(waves.t_end) - 0.28 - 0.08) < 0.01
    assert -0.045 < seconds(waves.onset) < -0.02


@pytest.mark.parametrize("moved", [-0.06, -0.03, 0.03, 0.06])
def test_t_end_and_p_onset_move_with_their_waves(moved):
    still = find_waves(beat(), np.full(2, 0.002), 0.9)
    later = find_waves(beat(t_at=0.28 + moved), np.full(2, 0.002), 0.9)
    assert seconds(later.t_end) - seconds(still.t_end) == pytest.approx(moved, abs=0.006)
    earlier = find_waves(beat(p_at=-0.16 + moved / 2), np.full(2, 0.002), 0.9)
    assert seconds(earlier.p_onset) - seconds(still.p_onset) == pytest.approx(moved / 2, abs=0.006)


def test_a_qrs_twice_as_wide_measures_twice_as_wide():
    narrow, wide = (find_waves(beat(qrs=w, t_at=0.33), np.zeros(2), 1.0) for w in (0.011, 0.022))
    ratio = (wide.offset - wide.onset) / (narrow.offset - narrow.onset)
    assert ratio == pytest.approx(2, rel=0.15)


def test_absent_waves_cannot_be_told():
    waves = find_waves(beat(p_mv=0, t_mv=0), np.full(2, 0.002), 0.9)
    assert waves.p_onset is None
    assert waves.t_end is None


def test_waves_below_the_noise_are_not_believed():
    assert find_waves(beat(p_mv=0.05), np.full(2, 0.002), 0.9).p_onset is not None
    assert find_waves(beat(p_mv=0.05), np.full(2, 0.03), 0.9).p_onset is None


def test_a_beat_without_a_qrs_has_no_waves():
    generator = np.random.default_rng(0)
    assert find_waves(np.zeros((2, len(TIMES))), np.zeros(2), 0.9) is None
    assert find_waves(generator.standard_normal((2, len(TIMES))), np.ones(2), 0.9) is None
