"""Signals that are no human ECG at rest, with true headers: they are not refused on a guess."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, lfilter, sosfilt

from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.limb import explain
from medmcl.modalities.ecg.checks.rate import rate_odds
from medmcl.modalities.ecg.checks.values import ONE_WAVE, chest_odds
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE

PLACE = RecordRef(subject="s1", record="r1", paths={"path": Path("r1.hea")})
SHARES = (-0.5, 0.1, 0.5, 1.0, 1.2, 1.0)
"""Of V1 to V6, as simulators and phantoms have them."""
JUDGED = {"wrong_rate", "swapped_leads", "precordial_order", "limb_electrodes"}


def record(leads, rate):
    """Make a record of I, II, V1 to V6, (8, S), whose header is right."""
    i, ii = leads[:2]
    limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    signal = np.concatenate([limb, leads[2:]]).astype(np.float32)
    return ECGRecord(signal_mv=signal, leads=TWELVE, rate_hz=rate, header_rate_hz=rate)


def said(records, source=None, alone=True):
    """Give (level, code) of what is said by looks, of each alone and of all together."""
    ecg = ECG(ECGSource(reader="wfdb", **(source or {})), ECGSettings(rate_hz=100, pad="zero"))
    ecg.among = len(records)
    found = [finding for one in records if alone for finding in ecg.inspect(one, PLACE)]
    found += ecg.inspect_together(records)
    codes = {(finding.level, finding.code.removeprefix("ecg.")) for finding in found}
    return {pair for pair in codes if pair[1] in JUDGED}


def noise(kind, rate, rng):
    white = rng.normal(size=(8, 10 * rate))
    at = np.arange(10 * rate) / rate
    turns = 2 * np.pi * (1.2 + 0.1 * np.arange(8))[:, None]
    return {
        "white": lambda: 0.3 * white,
        "walk": lambda: 0.02 * white.cumsum(axis=1),
        "band": lambda: sosfilt(butter(2, [0.5, 40], "band", fs=rate, output="sos"), white),
        "sines": lambda: np.sin(turns * at + rng.random()),
        "one sine": lambda: np.sin(31.4 * at + 6 * rng.random((8, 1))),
    }[kind]()


def template(beats, rate, rng, *, seconds=10, spread=0.0, noisy=0.01, even=True):
    """One P, QRS and T of Gaussian waves, times a gain for each lead."""
    at, starts = np.arange(seconds * rate) / rate, [0.3]
    while starts[-1] < seconds:
        starts.append(starts[-1] + 60 / beats * (1 if even else 1 + 0.03 * rng.normal()))
    since = at - np.array(starts)[:, None]
    waves = [(0, 0.012, 1), (min(0.25, 15 / beats), 0.05, 0.3), (-0.16, 0.025, 0.15)]
    parts = [size * np.exp(-(((since - c) / w) ** 2)).sum(axis=0) for c, w, size in waves]
    gains = np.array([0.6, 1.0, *SHARES])[:, None] * (1 + spread * rng.normal(size=(8, 3)))
    return gains @ parts + noisy * rng.normal(size=(8, len(at)))


# Columns are P, Q, R, S, T of I, II and V1 to V6.
GAINS = np.array(
    [
        [1, 0.1, 1, 1.2, 1], [2, 1, 1, 1, 3], [1.2, 0.5, -1, -1, 0.4], [0, 0.3, -0.5, -1, 0.1],
        [0, 0.5, 1, -0.3, 1], [0.8, 0.2, 1, 0.3, 1.2], [0.3, 0.4, 1, 0.4, 0.8],
        [0.5, 0.3, 0.8, 0.3, 0.6],
    ]
)  # fmt: skip


def dynamical(beats, rate, rng, gains):
    """Solve the equations of motion of McSharry et al. 2003, IEEE Trans Biomed Eng 50:289."""
    turn = 2 * np.pi * (beats + rng.uniform(-8, 8)) / 60
    phase = -np.pi / 2 + turn * np.arange(10 * rate) / rate
    size, width = np.array([1.2, -5, 30, -7.5, 0.75]), np.array([0.25, 0.1, 0.1, 0.1, 0.4])
    centre = np.deg2rad([-70, -15, 0, 15, 100])
    away = (phase[:, None] - centre + np.pi) % (2 * np.pi) - np.pi
    pulls = -turn * size * away * np.exp(-(away**2) / (2 * width**2))
    signal = lfilter([1 / rate], [1, -(1 - 1 / rate)], gains @ pulls.T, axis=1)
    signal *= 1.2 / np.ptp(signal[1])
    return signal + 0.01 * rng.normal(size=signal.shape)


@pytest.mark.parametrize("kind", ["white", "walk", "band", "sines", "one sine"])
@pytest.mark.parametrize(("rate", "count"), [(100, 24), (250, 6), (500, 6)])
def test_signals_without_beats_are_not_judged(kind, rate, count):
    rng = np.random.default_rng(0)
    records = [record(noise(kind, rate, rng), float(rate)) for _ in range(count)]
    for one in records:
        assert rate_odds(Look(one)) is None
        assert chest_odds(Look(one)) is None
    assert said(records) == set()


@pytest.mark.parametrize(
    "options",
    [{}, {"noisy": 0.0}, {"noisy": 0.05}, {"spread": 0.2}, {"spread": 0.2, "even": False}],
    ids=str,
)
def test_one_wave_form_times_a_gain_is_no_error(options):
    rng = np.random.default_rng(0)
    beats = np.linspace(60, 150, 12)
    records = [record(template(one, 500, rng, **options), 500.0) for one in beats]
    assert all(Look(one).shapes.common > ONE_WAVE for one in records)
    assert not {pair for pair in said(records) if pair[0] == "error"}
    for one in (60, 120, 150):
        records = [record(template(one, 500, rng, **options), 500.0) for _ in range(6)]
        assert not {pair for pair in said(records, alone=False) if pair[0] == "error"}


@pytest.mark.parametrize(("beats", "rate"), [(70, 250), (120, 500)])
@pytest.mark.parametrize("kind", ["one", "each"])
def test_hearts_of_the_dynamical_model_are_no_error(kind, beats, rate):
    rng = np.random.default_rng(0)
    gains = GAINS if kind == "each" else np.outer([0.6, 1.0, *SHARES], np.ones(5))
    records = [record(dynamical(beats, rate, rng, gains), float(rate)) for _ in range(12)]
    assert not {pair for pair in said(records) if pair[0] == "error"}


@pytest.mark.parametrize("gains", [np.ones(12), np.arange(1, 13) / 6])
def test_twelve_leads_of_one_wave_in_any_size_are_no_error(gains):
    rng = np.random.default_rng(0)
    records = []
    for beats in np.linspace(60, 120, 12):
        wave = template(beats, 500, rng, noisy=0.0)[1]
        signal = gains[:, None] * wave + 0.01 * rng.normal(size=(12, len(wave)))
        one = record(signal[:8], 500.0)
        records.append(replace(one, signal_mv=signal.astype(np.float32)))
    assert not {pair for pair in said(records) if pair[0] == "error"}


def test_many_exchanges_and_reversals_explain_nothing():
    gains = np.arange(1, 7, dtype=float)
    leads = TWELVE[:6]
    assert explain(leads, np.outer(gains, gains), 0.05).explanations == ()


@pytest.mark.parametrize("seconds", [5, 10, 20])
@pytest.mark.parametrize("beats", [140, 160, 182])
def test_fast_hearts_are_at_most_a_warning_of_the_cohort(beats, seconds):
    rng = np.random.default_rng(0)
    options = {"seconds": seconds, "spread": 0.2, "even": False}
    records = [record(template(beats, 500, rng, **options), 500.0) for _ in range(12)]
    assert not {pair for pair in said(records, alone=False) if pair[0] == "error"}
