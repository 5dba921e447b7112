"""Complexes among noise: told from it, and none lost that was found before."""

import numpy as np
import pytest

from benchmarks.ecg.ecg_beats import count, disturbed, hearts, level
from benchmarks.ecg.ecg_rhythms import draw
from medmcl.modalities.ecg.beats import find_beats
from medmcl.modalities.ecg.complexes import (
    BEAT_HZ,
    REST,
    STEEP_HZ,
    _to_the_middle,
    band_of,
    find_complexes,
    noise_above,
    smooth,
)


@pytest.fixture(scope="module")
def simulated():
    return hearts()[:32]


def found(records, leads, kind, size):
    """Precision and recall."""
    generator, sums = np.random.default_rng(5), np.zeros(3)
    for signal, true in records:
        noisy = level(disturbed(signal[leads], kind, size, generator))
        sums += count(find_beats(noisy).peaks / BEAT_HZ, true)
    hits, wrong, missed = sums
    return hits / (hits + wrong), hits / (hits + missed)


@pytest.mark.parametrize(
    ("kind", "size", "precision"),
    [("none", 0.0, 0.995), ("white", 0.3, 0.99), ("muscle", 0.2, 0.97), ("wander", 0.5, 0.995)],
)
def test_two_leads_under_noise(simulated, kind, size, precision):
    told, recalled = found(simulated, [1, 10], kind, size)
    assert told >= precision
    assert recalled >= 0.97


@pytest.mark.parametrize(("size", "precision", "recall"), [(0.1, 0.998, 0.978), (0.3, 0.99, 0.98)])
def test_two_leads_of_small_complexes_under_noise(simulated, size, precision, recall):
    """I and V2: of some hearts their QRS holds no more power than the noise of its window."""
    told, recalled = found(simulated, [0, 7], "white", size)
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
