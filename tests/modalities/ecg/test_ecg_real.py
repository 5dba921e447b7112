"""Real recordings: a sample of PTB-XL, and records with 15 and 2 leads."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.leads import LIMB_ROWS, TWELVE

ROOT = os.environ.get("MEDMCL_DATA")
pytestmark = pytest.mark.skipif(ROOT is None, reason="MEDMCL_DATA is not set")


def place(name: str) -> RecordRef:
    path = Path(ROOT or "") / name
    if not Path(f"{path}.hea").exists():
        pytest.skip(f"{path}.hea is not there")
    return RecordRef(subject=path.name, record=path.name, paths={"path": path})


def test_ptbxl_records_raise_no_error_and_few_warnings():
    paths = sorted((Path(ROOT or "") / "ptbxl" / "records100").glob("*/*.hea"))[::60]
    if not paths:
        pytest.skip("no PTB-XL")
    source = ECGSource(reader="wfdb", leads="12std", rate_hz=100, units="mV")
    ecg = ECG(source, ECGSettings(rate_hz=100))
    levels = Counter()
    for path in paths:
        at = RecordRef(subject=path.stem, record=path.stem, paths={"path": path.with_suffix("")})
        record = ecg.read(at)
        assert record.leads == TWELVE
        levels.update(finding.level for finding in ecg.inspect(record, at))
        x = ecg.prepare(record)
        assert x.shape == (12, 1000)
        assert np.isfinite(x).all()
    assert levels["error"] == 0
    assert levels["warning"] <= 0.03 * len(paths)


def test_a_ventricular_tachycardia_says_nothing_of_the_rate():
    at = place("ptbxl/records100/07000/07304_lr")
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(rate_hz=100))
    assert ecg.inspect(ecg.read(at), at) == []


def test_swapped_names_are_found_in_real_records():
    paths = sorted((Path(ROOT or "") / "ptbxl" / "records100").glob("*/*.hea"))[::250]
    found = 0
    for path in paths:
        at = RecordRef(subject=path.stem, record=path.stem, paths={"path": path})
        names = {"I": "II", "II": "I"}
        ecg = ECG(ECGSource(reader="wfdb", leads=names), ECGSettings(rate_hz=100))
        codes = {finding.code: finding.what for finding in ecg.inspect(ecg.read(at), at)}
        found += "I and II are swapped" in codes.get("ecg.swapped_leads", "")
    if paths:
        assert found >= 0.9 * len(paths)


def test_swapped_chest_leads_are_found_in_real_records():
    paths = sorted((Path(ROOT or "") / "ptbxl" / "records100").glob("*/*.hea"))[::100]
    levels, raws = Counter(), []
    for path in paths:
        at = RecordRef(subject=path.stem, record=path.stem, paths={"path": path})
        names = {"V1": "V6", "V6": "V1"}
        ecg = ECG(ECGSource(reader="wfdb", leads=names), ECGSettings(rate_hz=100))
        found = ecg.inspect(ecg.read(at), at)
        levels.update(one.level for one in found if "V1 and V6 are swapped" in one.what)
        neighbours = ECGSource(reader="wfdb", leads={"V5": "V6", "V6": "V5"})
        raws.append(ECG(neighbours, ECGSettings(rate_hz=100)).read(at))
    if paths:
        assert levels["error"] >= 0.6 * len(paths)
        (together,) = ecg.inspect_together(raws)
        assert together.what.startswith("V5 and V6 are swapped")


def test_official_500_hz_records_are_prepared_as_the_paper_does():
    folder = Path(ROOT or "") / "ptbxl" / "records500"
    paths = sorted(folder.glob("*/*.hea"))[:5]
    ecg = ECG(ECGSource(reader="ecg"), ECGSettings())
    for path in paths:
        at = RecordRef(subject=path.stem, record=path.stem, paths={"path": path})
        x = ecg.prepare(ecg.read(at))
        assert x.shape == (12, 5000)
        for rows in (x[:3], x[3:6], x[6:]):
            assert rows.mean() == pytest.approx(0, abs=1e-4)
            assert rows.var() == pytest.approx(1, abs=1e-3)


def test_fifteen_leads_at_1000_hz_in_small_letters():
    at = place("wfdb_samples/s0010_re")
    ecg = ECG(ECGSource(reader="wfdb", rate_hz=1000, units="mV"), ECGSettings())
    record = ecg.read(at)
    assert record.leads == (*TWELVE, "X", "Y", "Z")
    assert record.rate_hz == 1000
    assert record.quality == ()
    assert ecg.inspect(record, at) == []
    assert ecg.prepare(record).shape == (12, 5000)
    derived = np.array(LIMB_ROWS) @ record.signal_mv[:2]
    assert np.abs(derived - record.signal_mv[:6]).max() < 0.01


def test_two_leads_of_half_an_hour_at_360_hz():
    at = place("wfdb_samples/100")
    settings = ECGSettings(rate_hz=100, leads=["II", "V5"])
    ecg = ECG(ECGSource(reader="wfdb", leads={"MLII": "II"}), settings)
    record = ecg.read(at)
    assert record.leads == ("II", "V5")
    assert record.seconds == pytest.approx(1805.6, abs=0.1)
    assert ecg.inspect(record, at) == []
    assert ecg.prepare(record).shape == (2, 1000)


def test_channels_without_lead_names_are_asked_for():
    at = place("wfdb_samples/test01_00s")
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(seconds=8))
    codes = [finding.code for finding in ecg.inspect(ecg.read(at), at)]
    assert codes == ["ecg.missing_leads"]
