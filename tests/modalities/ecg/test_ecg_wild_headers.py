"""WFDB headers as found in the wild: micro signs, other units, skewed signals, names of leads."""

from pathlib import Path

import numpy as np
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource

GAIN = 0.2
"""Steps a microvolt, as of an amplifier with 5 microvolts a step."""


def steps(leads: int = 2, samples: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(-900, 900, size=(leads, samples))


def write(
    folder: Path,
    unit: bytes,
    table: np.ndarray,
    names: tuple[str, ...] = ("I", "II"),
    fmt: tuple[str, ...] = ("16", "16"),
) -> Path:
    """A record with its header written byte by byte."""
    folder.joinpath("r.dat").write_bytes(table.T.astype("<i2").tobytes())
    lines = [f"r {len(table)} 500 {table.shape[1]}".encode()]
    for row, name, kind in zip(table, names, fmt, strict=True):
        head = f"r.dat {kind} {GAIN}(0)/".encode()
        lines.append(head + unit + f" 16 0 {row[0]} {row.sum() % 65536} 0 {name}".encode())
    folder.joinpath("r.hea").write_bytes(b"\n".join(lines) + b"\n# \xe4 comment\n")
    return folder / "r"


def read(path: Path, **source):
    adapter = ECG(ECGSource(reader="wfdb", **source), ECGSettings())
    return adapter.read(RecordRef(subject="s", record="r", paths={"path": path}, values={}))


@pytest.mark.parametrize("fmt", [("16", "16"), ("16:0", "16:1")])
@pytest.mark.parametrize(
    ("unit", "mv"),
    [
        ("µV".encode(), 1e-3),
        ("μV".encode(), 1e-3),
        ("µV".encode("latin-1"), 1e-3),
        ("µv".encode(), 1e-3),
        (b"uV", 1e-3),
        (b"uv", 1e-3),
        (b"UV", 1e-3),
        (b"microvolt", 1e-3),
        (b"MICROVOLTS", 1e-3),
        (b"nV", 1e-6),
        (b"mV", 1.0),
        (b"mv", 1.0),
        (b"millivolt", 1.0),
        (b"V", 1e3),
    ],
)
def test_units_of_a_header_are_read_as_written(tmp_path, unit, mv, fmt):
    record = read(write(tmp_path, unit, steps(), fmt=fmt))
    expected = steps() / GAIN * mv
    np.testing.assert_allclose(record.signal_mv[0], expected[0, : record.signal_mv.shape[1]])
    assert record.quality == ()


@pytest.mark.parametrize("unit", [b"MV", b"\xe6V", b"\xc3\xa6V", b"furlong"])
def test_a_unit_that_is_not_clear_is_an_error_and_no_guess(tmp_path, unit):
    path = write(tmp_path, unit, steps())
    with pytest.raises(RecordError, match="the unit of 'I' is not known"):
        read(path)


def test_the_cohort_says_what_mv_in_capitals_means(tmp_path):
    path = write(tmp_path, b"MV", steps())
    for unit, mv in (("mV", 1.0), ("uV", 1e-3)):
        record = read(path, units=unit)
        np.testing.assert_allclose(record.signal_mv, steps() / GAIN * mv, rtol=1e-6)
        assert record.header_units is None


def test_skewed_signals_are_aligned_and_their_common_samples_kept(tmp_path):
    table = steps()
    path = write(tmp_path, b"uV", table, fmt=("16", "16:3"))
    record = read(path)
    expected = np.stack([table[0, :-3], table[1, 3:]]) / GAIN / 1000
    np.testing.assert_allclose(record.signal_mv, expected, rtol=1e-6)
    assert record.quality == ()  # the checksums are those of the samples as stored


def test_skew_of_a_signal_that_is_left_out_cuts_nothing(tmp_path):
    path = write(tmp_path, b"uV", steps(3), names=("I", "II", "ABP"), fmt=("16", "16", "16:5"))
    header = Path(f"{path}.hea")
    lines = header.read_bytes().splitlines()
    lines[3] = lines[3].replace(b"/uV", b"/mmHg")
    header.write_bytes(b"\n".join(lines))
    record = read(path)
    assert record.leads == ("I", "II")
    assert record.signal_mv.shape == (2, 60)


def test_skew_within_a_record_of_segments_is_a_gap_and_at_its_end_is_cut(tmp_path):
    table = steps()
    write(tmp_path, b"uV", table, fmt=("16", "16:3"))
    tmp_path.joinpath("whole.hea").write_text("whole/2 2 500 120\nr 60\nr 60\n")
    record = read(tmp_path / "whole")
    assert record.signal_mv.shape == (2, 117)
    assert np.isnan(record.signal_mv).all(axis=0).nonzero()[0].tolist() == [57, 58, 59]


def test_a_header_may_call_leads_as_other_countries_and_iso_11073_do(tmp_path):
    names = ("MDC_ECG_ELEC_POTL_I", "D2", "-aVR", "+aVL", "VF", "C1")
    table = steps(6)
    record = read(write(tmp_path, b"uV", table, names=names, fmt=("16",) * 6))
    assert record.leads == ("I", "II", "aVR", "aVL", "aVF", "V1")
    np.testing.assert_allclose(record.signal_mv[2], -table[2] / GAIN / 1000, rtol=1e-6)


def test_one_lead_under_two_names_is_refused(tmp_path):
    with pytest.raises(RecordError, match="lead V1 stands twice"):
        read(write(tmp_path, b"uV", steps(), names=("V1", "C1")))
