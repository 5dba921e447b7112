"""ECG features: against hearts whose truth is known, real recordings, and hostile ones."""

import os
from pathlib import Path

import numpy as np
import pytest

from medmcl.modalities.ecg.features import _spectrum, ecg_features, feature_names
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.simulation.heart.ecg import LEADS, qrs_duration
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import draw_block

ROOT = os.environ.get("MEDMCL_DATA")


def record(signal, rate_hz=500.0, leads=TWELVE):
    return ECGRecord(signal_mv=np.asarray(signal, np.float32), leads=tuple(leads), rate_hz=rate_hz)


def columns(signals, rate_hz, seconds=10.0):
    rows = [ecg_features(record(signal, rate_hz), TWELVE, seconds) for signal in signals]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def hearts():
    assert LEADS == TWELVE
    block = draw_block(HeartSettings(), 0)
    rows = np.arange(96)
    signals = block.ecg_signal(HeartSettings(), rows, 250, 10.0)
    truth = block.electric.take(rows)
    return columns(signals, 250.0), truth, qrs_duration(truth, block.ecg.take(rows)), signals


def test_rate_of_simulated_hearts_is_right(hearts):
    found, truth, _, _ = hearts
    error = np.abs(found["rate"] - truth.rate)
    assert np.median(error) < 1
    assert error.max() < 8  # the median of ten varying intervals


def test_qrs_follows_the_true_duration(hearts):
    found, _, qrs, _ = hearts
    assert np.isfinite(found["qrs_ms"]).all()
    assert np.corrcoef(found["qrs_ms"], qrs)[0, 1] > 0.95
    assert np.median(np.abs(found["qrs_ms"] - qrs)) < 25


def test_conduction_shows_in_the_intervals(hearts):
    found, truth, _, _ = hearts
    normal, left, right, block = (truth.conduction == number for number in range(4))
    assert found["qrs_ms"][left | right].min() > np.quantile(found["qrs_ms"][normal], 0.98)
    assert np.nanmin(found["pr_ms"][block]) > np.nanquantile(found["pr_ms"][normal], 0.95)


def test_qt_lengthens_with_the_interval_and_qtc_hardly(hearts):
    found, truth, _, _ = hearts
    normal = (truth.conduction == 0) & np.isfinite(found["qt_ms"])
    interval = 1 / truth.rate[normal]
    assert np.corrcoef(found["qt_ms"][normal], interval)[0, 1] > 0.7
    assert abs(np.corrcoef(found["qtc_ms"][normal], interval)[0, 1]) < 0.5


def test_intervals_hardly_depend_on_the_sampling_rate(hearts):
    found, _, _, signals = hearts
    block = draw_block(HeartSettings(), 0)
    coarse = block.ecg_signal(HeartSettings(), np.arange(20), 100, 10.0)
    other = columns(coarse, 100.0)
    for name, bound in (("rate", 0.5), ("qrs_ms", 8), ("qt_ms", 8), ("pr_ms", 8)):
        assert np.nanmedian(np.abs(other[name] - found[name][:20])) < bound
    assert np.isfinite(other["V6_hz_30_40"]).all()
    assert len(signals) == 96


def test_amplitudes_are_in_mv_and_scale_with_the_signal(hearts):
    found, _, _, signals = hearts
    twice = ecg_features(record(2 * signals[0], 250.0), TWELVE, 10.0)
    for name in ("II_r_mv", "V1_s_mv", "V5_t_mv", "sokolow_mv"):
        assert twice[name] == pytest.approx(2 * found[name][0], rel=0.02)
    assert twice["II_hz_8_10"] == pytest.approx(found["II_hz_8_10"][0] + np.log10(4), abs=0.01)
    assert twice["qrs_ms"] == pytest.approx(found["qrs_ms"][0], abs=2)
    assert twice["axis_cos"] == pytest.approx(found["axis_cos"][0], abs=0.01)


def test_limb_leads_and_axis_agree(hearts):
    found, _, _, _ = hearts
    assert np.allclose(found["axis_cos"] ** 2 + found["axis_sin"] ** 2, 1)
    assert np.nanmax(np.abs(found["III_st_mv"] - found["II_st_mv"] + found["I_st_mv"])) < 0.03
    upright = found["I_r_mv"] > found["I_q_mv"] + found["I_s_mv"]
    assert ((found["axis_cos"] > 0) == upright).mean() > 0.9


def test_leads_and_seconds_that_are_not_asked_for_do_not_count(hearts):
    _, _, _, signals = hearts
    few = ecg_features(record(signals[0], 250.0), ("I",), 4.0)
    assert tuple(few) == feature_names(("I",))
    alone = ecg_features(record(signals[0][:1, :1000], 250.0, ("I",)), ("I",), 10.0)
    assert few == pytest.approx(alone, nan_ok=True)
    assert np.isnan(few["axis_cos"])
    assert np.isfinite(few["rate"])


def test_absent_leads_are_derived_or_untold(hearts):
    found, _, _, signals = hearts
    two = ecg_features(record(signals[0][:2], 250.0, ("I", "II")), TWELVE, 10.0)
    assert tuple(two) == feature_names(TWELVE)
    assert two["aVF_r_mv"] == pytest.approx(found["aVF_r_mv"][0], abs=0.05)
    assert np.isnan(two["V1_r_mv"])


HOSTILE = {
    "zeros": np.zeros((12, 5000)),
    "one level": np.full((12, 5000), 3.0),
    "nan": np.full((12, 5000), np.nan),
    "noise": np.random.default_rng(0).standard_normal((12, 5000)),
    "short": np.random.default_rng(0).standard_normal((12, 40)),
    "one sample": np.ones((12, 1)),
    "mains": np.tile(np.sin(np.arange(5000) * 0.628), (12, 1)),
    "steps": np.repeat(np.random.default_rng(0).standard_normal((12, 50)), 100, axis=1) * 1e4,
    "one spike": np.eye(12, 5000),
    "spikes": np.tile(np.arange(5000) % 150 == 0, (12, 1)) * 300.0,
    "fast": np.tile(np.sin(np.arange(5000) * 0.03), (12, 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("rate_hz", [50.0, 500.0])
def test_hostile_signals_give_numbers_or_nothing(name, rate_hz):
    values = ecg_features(record(HOSTILE[name], rate_hz), TWELVE, 10.0)
    assert tuple(values) == feature_names(TWELVE)
    assert not np.isinf(list(values.values())).any()


def test_gaps_are_bridged(hearts):
    found, _, _, signals = hearts
    holed = signals[0].copy()
    holed[:, 600:610] = np.nan
    holed[3] = np.nan
    values = ecg_features(record(holed, 250.0), TWELVE, 10.0)
    assert values["rate"] == pytest.approx(found["rate"][0], abs=1)
    assert np.isnan(values["aVR_r_mv"])
    assert values["qrs_ms"] == pytest.approx(found["qrs_ms"][0], abs=8)


@pytest.mark.skipif(ROOT is None, reason="MEDMCL_DATA is not set")
def test_real_recordings_measure_as_adults_do():
    from medmcl.modalities.ecg.files.wfdb import read_wfdb

    paths = sorted((Path(ROOT or "") / "ptbxl" / "records100").glob("*/*.hea"))[::25]
    if not paths:
        pytest.skip("no PTB-XL")
    rows = []
    for path in paths:
        channels = read_wfdb(path.with_suffix(""))
        rows.append(ecg_features(record(channels.signal, channels.rate_hz), TWELVE, 10.0))
    middle = {
        name: np.nanmedian([row[name] for row in rows])
        for name in ("rate", "pr_ms", "qrs_ms", "qtc_ms", "axis_cos")
    }
    told = np.isfinite([[row[name] for name in middle] for row in rows]).mean(axis=0)
    assert (told > 0.93).all()
    assert 60 < middle["rate"] < 85
    assert 145 < middle["pr_ms"] < 190
    assert 75 < middle["qrs_ms"] < 105
    assert 370 < middle["qtc_ms"] < 430
    assert middle["axis_cos"] > 0.5


@pytest.mark.parametrize("span", [200, 201, 500])
def test_the_spectrum_is_that_of_scipy(span):
    from scipy.signal import welch

    rows = np.random.default_rng(0).normal(size=(3, 1003)) + 2
    hertz, power = _spectrum(rows, span, 100.0)
    expected = welch(rows, fs=100.0, nperseg=span, axis=1)
    assert np.allclose(hertz, expected[0])
    assert np.allclose(power, expected[1], rtol=1e-12, atol=1e-30)
