"""Sampling rates of diseased hearts: a rhythm is no wrong rate, and messages say what can be."""

import re

import numpy as np
import pytest

from benchmarks.ecg.ecg_rhythms import KINDS, draw
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.rate import (
    BEATS,
    DEVICES_HZ,
    check_rate,
    device_rate,
    sinus_beats,
)
from medmcl.modalities.ecg.checks.together import inspect_together
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(1)
    return {kind: [draw(kind, generator).signal for _ in range(9)] for kind in KINDS}


def record(signal, stated):
    return ECGRecord(
        signal_mv=signal.astype(np.float32), leads=TWELVE, rate_hz=stated, header_rate_hz=stated
    )


def said(signal, stated):
    return [*check_rate(Look(record(signal, stated), where="s1.hea"), None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [10, 5])
def test_no_rhythm_makes_a_right_rate_wrong(drawn, kind, seconds):
    for signal in drawn[kind]:
        assert said(signal[:, : seconds * 500], 500.0) == []


@pytest.mark.parametrize(
    "kind",
    ["ventricular tachycardia", "torsades", "paced", "atrial fibrillation", "bigeminy"],
)
def test_a_cohort_of_one_disease_accuses_no_rate(drawn, kind):
    records = [record(signal, 500.0) for signal in drawn[kind]]
    records[0] = record(drawn[kind][0][:, :2500], 500.0)  # lasts half as long as the others
    found = [one for one in inspect_together(records, TWELVE) if one.code == "ecg.wrong_rate"]
    assert not [one for one in found if one.level == "error"]
    assert all("is their rate wrong?" in one.what for one in found)


@pytest.mark.parametrize("stated", [100.0, 250.0, 1000.0])
def test_a_wrong_rate_of_sinus_rhythm_is_an_error(drawn, stated):
    found = [said(signal, stated) for signal in drawn["sinus rhythm"]]
    assert np.mean([[one.level for one in each] == ["error"] for each in found]) > 0.85
    together = inspect_together([record(s, stated) for s in drawn["sinus rhythm"]], TWELVE)
    assert [one.level for one in together if one.code == "ecg.wrong_rate"] == ["error"]


def test_what_is_proposed_is_a_rate_of_a_device_at_which_a_heart_beats(drawn):
    """Over rates, lengths and rhythms; the beats that are named follow from the rates."""
    told = 0
    rates = (20, 37, 50, 86, 100, 128, 250, 257, 333, 400, 500, 1000, 1250, 2000, 2500, 5000)
    kinds = ("sinus rhythm", "sinus tachycardia", "bradycardia", "supraventricular tachycardia")
    for stated in rates:
        for signal in [signal for kind in kinds for signal in drawn[kind][:2]]:
            for one in said(signal, float(stated)):
                told += 1
                pairs = re.findall(r"(\d+) at ([\d.]+) Hz", one.what)
                named = re.findall(r"[\d.]+(?= Hz| or [\d.]+ Hz)", one.fix)
                assert pairs
                assert named
                for beats, rate in pairs:
                    assert float(rate) in DEVICES_HZ
                    assert BEATS[0] - 1 <= float(beats) <= BEATS[1] + 1
                assert all(float(rate) in DEVICES_HZ for rate in named)
    assert told >= 15


def test_a_sinus_rhythm_is_plain_and_no_other_rhythm_is(drawn):
    for signal in drawn["sinus rhythm"][:6]:
        assert sinus_beats(signal, 500.0) is not None
    for kind in ("ventricular tachycardia", "bundle branch block", "torsades", "bigeminy"):
        assert all(sinus_beats(signal, 500.0) is None for signal in drawn[kind])


def test_no_other_rate_makes_beats_that_are_not_there(drawn):
    """At a rate k times too high a heart of B beats seems to have k B; none of them is missed."""
    for signal in drawn["sinus rhythm"]:
        right = sinus_beats(signal, 500.0)
        assert right is not None
        for rate in (100.0, 250.0, 400.0, 500.0, 600.0, 1000.0, 2000.0):
            beats = sinus_beats(signal, rate)
            assert beats is None or beats == pytest.approx(right * rate / 500, rel=0.1)


def test_no_device_has_a_rate_in_between():
    assert device_rate(500.2) == 500
    assert device_rate(5000) is None
    assert device_rate(1250) is None
    assert sinus_beats(np.zeros((0, 0)), 100.0) is None
    assert sinus_beats(np.zeros((12, 1000)), 100.0) is None
