"""Round trips through every format, each file written here, and files that are broken."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ecg_files import (
    EIGHT,
    STEP_UV,
    muse_waveform,
    ukb_waves,
    write_dicom,
    write_muse,
    write_ukb,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.files import wfdb as wfdb_reader
from medmcl.modalities.ecg.files.readers import ECGRecord, guess_reader, number_of
from medmcl.modalities.ecg.files.wfdb import read_wfdb
from medmcl.modalities.ecg.leads import TWELVE

DECLARED = {"rate_hz": 100, "units": "mV"}


def counts(leads: int, samples: int = 120, seed: int = 0) -> np.ndarray:
    """Whole numbers like those of an amplifier, (L, S)."""
    return np.random.default_rng(seed).integers(-900, 900, size=(leads, samples))


def read(path: Path, reader: str, **source: object) -> ECGRecord:
    keys = {"values": source.pop("values", {})}
    adapter = ECG(ECGSource(reader=reader, **source), ECGSettings())
    return adapter.read(RecordRef(subject="s", record="r", paths={"path": path}, **keys))


def write_wfdb(folder: Path, name: str, mv: np.ndarray, leads, fmt="16", rate=500, units="mV"):
    import wfdb

    wfdb.wrsamp(
        name,
        fs=rate,
        units=[units] * len(leads),
        sig_name=list(leads),
        p_signal=mv.T.astype(np.float64),
        fmt=[fmt] * len(leads),
        adc_gain=[200.0 if units == "mV" else 0.2] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    return folder / name


@pytest.mark.parametrize(("fmt", "rate"), [("16", 500), ("212", 360), ("32", 1000), ("80", 250)])
def test_wfdb_round_trip_in_any_storage_format_rate_and_order(tmp_path, fmt, rate):
    leads = ("v1", "III", "AVR", "i", "MDC_ECG_LEAD_II", "vx")
    mv = counts(6) / 200 if fmt != "80" else counts(6).clip(-100, 100) / 200
    path = write_wfdb(tmp_path, "rec_v2", mv, leads, fmt=fmt, rate=rate)
    for given_path in (path, Path(f"{path}.hea")):
        record = read(given_path, "wfdb")
        assert record.leads == ("V1", "III", "aVR", "I", "II", "X")
        assert record.rate_hz == rate
        assert record.signal_mv.dtype == np.float32
        np.testing.assert_allclose(record.signal_mv, mv, atol=1e-6)
        assert record.quality == ()


def test_wfdb_units_of_each_signal_become_mv_and_pressures_are_left_out(tmp_path):
    import wfdb

    wfdb.wrsamp(
        "mixed",
        fs=250,
        units=["uV", "mV", "mmHg", "V"],
        sig_name=["I", "II", "ABP", "V1"],
        p_signal=np.tile([[1000.0, 1.0, 80.0, 0.001]], (50, 1)) * np.linspace(0.5, 1, 50)[:, None],
        fmt=["16"] * 4,
        write_dir=str(tmp_path),
    )
    record = read(tmp_path / "mixed", "wfdb")
    assert record.leads == ("I", "II", "V1")
    np.testing.assert_allclose(record.signal_mv[:, -1], 1.0, rtol=1e-3)
    assert any("ABP" in note for note in record.quality)


def test_wfdb_invalid_samples_are_nan(tmp_path):
    mv = counts(2) / 200
    mv[1, 7] = np.nan
    record = read(write_wfdb(tmp_path, "gap", mv, ("I", "II")), "wfdb")
    assert np.flatnonzero(np.isnan(record.signal_mv[1])).tolist() == [7]


def test_wfdb_record_of_several_segments_is_joined_with_gaps_as_nan(tmp_path):
    first, second = counts(2, 60, 1) / 200, counts(2, 40, 2) / 200
    write_wfdb(tmp_path, "seg_a", first, ("I", "II"))
    write_wfdb(tmp_path, "seg_b", second, ("I", "II"))
    (tmp_path / "whole.hea").write_text("whole/3 2 500 120\nseg_a 60\n~ 20\nseg_b 40\n")
    record = read(tmp_path / "whole", "wfdb")
    np.testing.assert_allclose(record.signal_mv[:, :60], first, atol=1e-6)
    assert np.isnan(record.signal_mv[:, 60:80]).all()
    np.testing.assert_allclose(record.signal_mv[:, 80:], second, atol=1e-6)
    (tmp_path / "layout.hea").write_text(
        "layout 2 500 0\n~ 0 200 16 0 0 0 0 I\n~ 0 200 16 0 0 0 0 II\n"
    )
    (tmp_path / "loose.hea").write_text("loose/4 2 500 120\nlayout 0\nseg_a 60\n~ 20\nseg_b 40\n")
    loose = read(tmp_path / "loose", "wfdb")
    np.testing.assert_array_equal(loose.signal_mv, record.signal_mv)
    data = (tmp_path / "seg_b.dat").read_bytes()
    (tmp_path / "seg_b.dat").write_bytes(data[:-8])
    with pytest.raises(RecordError, match=r"seg_b.dat: is truncated: 8 of 160 bytes"):
        read(tmp_path / "whole", "wfdb")


def test_segments_are_joined_by_the_names_of_leads_and_in_one_unit(tmp_path):
    """`wfdb.rdrecord` joins such records by place, in the units of the first segment."""
    first, second = counts(2, 60, 1) / 200, counts(2, 40, 2) / 200
    write_wfdb(tmp_path, "seg_a", first, ("I", "II"))
    write_wfdb(tmp_path, "seg_b", second, ("II", "I"))
    (tmp_path / "whole.hea").write_text("whole/2 2 500 100\nseg_a 60\nseg_b 40\n")
    record = read(tmp_path / "whole", "wfdb")
    assert record.leads == ("I", "II")
    np.testing.assert_allclose(record.signal_mv[:, 60:], second[::-1], atol=1e-6)
    write_wfdb(tmp_path, "seg_b", second * 1000, ("I", "II"), units="uV")
    with pytest.raises(RecordError, match="the unit of 'I' changes between segments"):
        read(tmp_path / "whole", "wfdb")


def test_sixteen_bit_records_read_here_are_what_wfdb_reads(tmp_path):
    import wfdb

    rng = np.random.default_rng(0)
    one, two = rng.integers(-3000, 3000, (50, 2)), rng.integers(-3000, 3000, (50, 1))
    one[7, 1] = two[9, 0] = -(2**15)  # not valid
    (tmp_path / "a.dat").write_bytes(b"h" * 24 + one.astype("<i2").tobytes())
    (tmp_path / "b.dat").write_bytes(two.astype("<i2").tobytes() + b"more")
    sums = [int(x.sum() % 65536) for x in (*one.T, *two.T)]
    (tmp_path / "r.hea").write_text(
        f"r 3 500 50\na.dat 16+24 1000(12)/mV 16 0 0 {sums[0]} 0 I\n"
        f"a.dat 16+24 200/mV 16 5 0 {sums[1]} 0 II\nb.dat 16 0/uV 16 0 0 {sums[2] + 1} 0 V1\n"
    )
    found = read_wfdb(tmp_path / "r")
    expected = wfdb.rdrecord(str(tmp_path / "r"), physical=True)
    np.testing.assert_array_equal(found.signal, expected.p_signal.T)
    assert np.isnan(found.signal).sum() == 2
    assert found.units == tuple(expected.units)
    assert found.notes == ("the checksum of V1 differs from the header's",)


def test_fields_of_a_header_are_those_of_wfdbs_own_table(monkeypatch):
    from wfdb.io import _header

    parse = wfdb_reader._wfdb().io._header._parse_signal_lines
    lines = ["a.dat 16+24 1000(12)/mV 16 5 0 7 0 I", "a.dat 212 0/uV", "b.dat 80x2:3 200 11 1024",
             "c.dat 16 100.5 12 3 -4 9 1 a name", "d.dat"]  # fmt: skip
    found = parse(lines[:4])
    with pytest.raises(_header.HeaderSyntaxError):
        parse(lines)
    monkeypatch.setattr(_header, "SIGNAL_SPECS", _header.SIGNAL_SPECS.table)
    assert found == parse(lines[:4])


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_truncated_wfdb_says_by_how_much(tmp_path, fmt):
    path = write_wfdb(tmp_path, "cut", counts(2, 100) / 200, ("I", "II"), fmt=fmt)
    data = Path(f"{path}.dat").read_bytes()
    Path(f"{path}.dat").write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordError, match=r"is truncated: .* 50 of 100 samples a lead") as caught:
        read(path, "wfdb")
    assert "0.10 s" in str(caught.value)
    assert "0.20 s" in str(caught.value)


def test_changed_samples_are_noticed_by_the_checksum(tmp_path):
    path = write_wfdb(tmp_path, "bits", counts(2) / 200, ("I", "II"))
    data = bytearray(Path(f"{path}.dat").read_bytes())
    data[2] ^= 0x11
    Path(f"{path}.dat").write_bytes(data)
    assert "checksum of II" in read(path, "wfdb").quality[0]


@pytest.mark.parametrize("name", ["../x.dat", "s3://bucket/x.dat", "a::https://host/x.dat", "/x"])
def test_a_header_cannot_send_the_reader_elsewhere(tmp_path, name):
    (tmp_path / "evil.hea").write_text(f"evil 1 500 100\n{name} 16 200/mV 16 0 0 0 0 I\n")
    with pytest.raises(RecordError):
        read(tmp_path / "evil", "wfdb")


def test_a_missing_wfdb_record_is_never_looked_for_on_the_network(tmp_path, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(RecordError, match="there is no such file"):
        read(tmp_path / "100", "wfdb")
    (tmp_path / "100.hea").write_text("100 1 360 650000\n100.dat 212 200 11 1024 0 0 0 MLII\n")
    with pytest.raises(RecordError, match=r"100.dat: there is no such file"):
        read(tmp_path / "100", "wfdb")


def test_a_header_that_states_an_absurd_length_does_not_burst_the_memory(tmp_path):
    (tmp_path / "long.hea").write_text("long/2 1 500 9000000000000\n~ 8999999999999\n~ 1\n")
    with pytest.raises(RecordError, match=r"its length .9,000,000,000,000 values"):
        read(tmp_path / "long", "wfdb")


def test_muse_round_trip_takes_the_rhythm_and_joins_waveforms(tmp_path):
    table = dict(zip(EIGHT, counts(8), strict=True))
    median = muse_waveform("Median", {name: row[:60] for name, row in table.items()})
    whole = write_muse(tmp_path / "a.xml", median, muse_waveform("Rhythm", table))
    limbs = {name: table[name] for name in EIGHT[:2]}
    chest = {name: table[name] for name in EIGHT[2:]}
    parts = write_muse(
        tmp_path / "b.xml", muse_waveform("Rhythm", limbs), muse_waveform("Rhythm", chest)
    )
    for path in (whole, parts):
        for reader in ("muse_xml", "ecg"):
            record = read(path, reader)
            assert record.leads == EIGHT
            assert record.rate_hz == 500
            np.testing.assert_allclose(record.signal_mv, counts(8) * STEP_UV / 1000, rtol=1e-5)


def test_muse_faults_are_named(tmp_path):
    table = {"I": counts(1)[0]}
    path = tmp_path / "a.xml"
    write_muse(path, muse_waveform("Median", table))
    with pytest.raises(RecordError, match="median beats only"):
        read(path, "muse_xml")
    text = muse_waveform("Rhythm", table).replace("Total>120<", "Total>150<")
    with pytest.raises(RecordError, match=r"'I' is truncated: 30 of 150"):
        read(write_muse(path, text), "muse_xml")
    text = muse_waveform("Rhythm", table).replace("PerBit>4.88<", "PerBit>x<")
    with pytest.raises(RecordError, match="LeadAmplitudeUnitsPerBit"):
        read(write_muse(path, text), "muse_xml")
    two = muse_waveform("Rhythm", table), muse_waveform("Rhythm", {"II": table["I"]}, rate=250)
    with pytest.raises(RecordError, match="different sampling rates"):
        read(write_muse(path, *two), "muse_xml")


def test_ukb_resting_round_trip_ignores_median_beats(tmp_path):
    table = dict(zip(TWELVE, counts(12), strict=True))
    path = write_ukb(tmp_path / "20205.xml", ukb_waves(table))
    for reader in ("ukb_xml", "ecg"):
        record = read(path, reader)
        assert record.leads == TWELVE
        assert record.rate_hz == 500
        np.testing.assert_allclose(record.signal_mv, counts(12) * 0.005, rtol=1e-5)
    with pytest.raises(RecordError, match="is truncated: 30 of 150 samples"):
        read(write_ukb(path, ukb_waves(table), samples=150), "ukb_xml")


def exercise(table, turns, more="", rate=500):
    """A full disclosure of (3, samples), in turns of a second or sample by sample."""
    values = table.reshape(3, -1, rate).transpose(1, 0, 2) if turns else table.T
    text = ",\n".join(",".join(map(str, line)) for line in values.reshape(-1, 100))
    return (
        "<FullDisclosure><NumberOfChannels>3</NumberOfChannels>"
        f'<SampleRate units="Hz">{rate}</SampleRate><Resolution units="uVperLsb">5</Resolution>'
        "<LeadOrder>I,2,3</LeadOrder><FullDisclosureData>\n"
        f"{text},{more}\n</FullDisclosureData></FullDisclosure>"
    )


@pytest.mark.parametrize("turns", [True, False])
@pytest.mark.parametrize("noise", [0, 20])
def test_ukb_exercise_round_trip_reads_the_full_disclosure_in_either_order(tmp_path, turns, noise):
    time = np.arange(2000) / 500
    beat = np.exp(-(((time % 0.8 - 0.4) / 0.02) ** 2))
    limb = np.outer([100, 160, 60], beat) + np.outer([-9, 0, 9], np.sin(time))
    disturbed = limb + noise * np.random.default_rng(0).normal(size=limb.shape)  # of 5 uV
    table = np.round(disturbed).astype(int)
    strips = "".join(
        f"<Strip>{ukb_waves({name: counts(3, 20)[n] for n, name in enumerate('I23')})}</Strip>"
        for _ in range(2)
    )
    path = tmp_path / "6025.xml"
    record = read(write_ukb(path, strips, exercise(table, turns)), "ukb_xml")
    assert record.leads == ("I", "II", "III")
    assert record.quality == ()
    np.testing.assert_allclose(record.signal_mv, table * 0.005, rtol=1e-5)
    record = read(write_ukb(path, strips, exercise(table, turns, "7,")), "ukb_xml")
    np.testing.assert_allclose(record.signal_mv, table * 0.005, rtol=1e-5)
    assert "last 1 values" in record.quality[0]
    record = read(write_ukb(path, strips), "ukb_xml")
    assert record.signal_mv.shape == (3, 20)
    assert "first of 2 strips" in record.quality[0]


def test_xml_bombs_and_foreign_entities_are_refused(tmp_path):
    path = tmp_path / "bomb.xml"
    levels = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 9))
    path.write_text(f'<!DOCTYPE x [<!ENTITY b0 "ha">{levels}]><x>&b8;</x>')
    for reader in ("muse_xml", "ukb_xml", "ecg"):
        with pytest.raises(RecordError, match="entities"):
            read(path, reader)
    path.write_text('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>')
    with pytest.raises(RecordError, match="entities"):
        read(path, "muse_xml")


def test_dicom_round_trip_takes_the_rhythm_not_the_longer_median(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", counts(12), TWELVE)
    for reader in ("dicom", "ecg"):
        record = read(path, reader)
        assert record.leads == TWELVE
        assert record.rate_hz == 500
        np.testing.assert_allclose(record.signal_mv, counts(12) * STEP_UV / 1000, rtol=1e-5)


def test_dicom_groups_of_one_rate_and_length_are_one_record(tmp_path):
    table = counts(12)
    parts = [
        ("", TWELVE[:3], table[:3]),
        ("", TWELVE[3:6], table[3:6]),
        ("", TWELVE[6:], table[6:]),
    ]
    strip = ("RHYTHM STRIP", ("II",), np.ones((1, 500), int), 1000)
    beat = ("AVERAGE BEAT", TWELVE, np.ones((12, 900), int))
    whole = ("RHYTHM", TWELVE, table)
    for groups, note in (
        (parts, ()),
        ([strip, whole, beat], ("group 2 of 3 is read",)),
        ([("", ("II",), table[:1]), whole], ("group 2 of 2 is read",)),
        ([beat, *parts, strip], ("group 2 and 3 and 4 of 5 is read",)),
    ):
        record = read(write_dicom(tmp_path / "a.dcm", table, TWELVE, groups=groups), "dicom")
        assert record.leads == TWELVE
        assert record.quality == note
        np.testing.assert_allclose(record.signal_mv, table * STEP_UV / 1000, rtol=1e-5)


def test_dicom_without_waveform_and_truncated_dicom_are_named(tmp_path):
    from pydicom import dcmread

    path = write_dicom(tmp_path / "a.dcm", counts(2), ("I", "II"), median=False)
    dataset = dcmread(path)
    dataset.WaveformSequence[0].NumberOfWaveformSamples = 150
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(RecordError, match="is truncated: 30 of 150"):
        read(tmp_path / "b.dcm", "dicom")
    del dataset.WaveformSequence
    dataset.save_as(tmp_path / "c.dcm")
    with pytest.raises(RecordError, match="no ECG waveform"):
        read(tmp_path / "c.dcm", "dicom")


@pytest.mark.parametrize("axes", ["LS", "SL"])
def test_npy_round_trip_alone_and_as_row_of_a_mapped_array(tmp_path, axes):
    mv = (np.stack([counts(12, 30, seed) for seed in range(4)]) / 200).astype(np.float32)
    stored = mv if axes == "LS" else mv.transpose(0, 2, 1)
    np.save(tmp_path / "all.npy", stored)
    np.save(tmp_path / "one.npy", stored[2])
    one = read(tmp_path / "one.npy", "npy", axes=axes, **DECLARED)
    row = read(tmp_path / "all.npy", "npy", axes=axes, row="n", values={"n": 2.0}, **DECLARED)
    for record in (one, row):
        assert record.leads == TWELVE
        assert record.rate_hz == 100
        np.testing.assert_array_equal(record.signal_mv, mv[2])
    wrong = "SL" if axes == "LS" else "LS"
    with pytest.raises(RecordError, match="correct axes"):
        read(tmp_path / "one.npy", "npy", axes=wrong, **DECLARED)


@pytest.mark.parametrize("cell", [4, -1, 1.5, "x", None, float("nan"), float("inf")])
def test_npy_row_that_does_not_exist_is_named(tmp_path, cell):
    np.save(tmp_path / "all.npy", np.zeros((4, 12, 30), np.float32))
    with pytest.raises(RecordError, match="row"):
        read(tmp_path / "all.npy", "npy", row="n", values={"n": cell}, **DECLARED)


def test_npy_of_microvolt_integers_and_of_objects(tmp_path):
    np.save(tmp_path / "a.npy", counts(12).astype(np.int16))
    record = read(tmp_path / "a.npy", "npy", rate_hz=500, units="µV")
    np.testing.assert_allclose(record.signal_mv, counts(12) / 1000, rtol=1e-6)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RecordError):
        read(tmp_path / "b.npy", "npy", **DECLARED)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "csv.gz"])
def test_table_round_trip_with_other_columns_ignored(tmp_path, ending):
    names = ["time", *(f"Lead {lead}" for lead in TWELVE), "remark"]
    frame = pd.DataFrame(counts(12).T / 200, columns=names[1:-1])
    frame.insert(0, "time", np.arange(120) / 100)
    frame["remark"] = "x"
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    for reader in ("parquet", "ecg"):
        record = read(path, reader, **DECLARED)
        assert record.leads == TWELVE
        np.testing.assert_allclose(record.signal_mv, counts(12) / 200, rtol=1e-6)


def test_names_in_the_file_are_renamed_and_a_name_given_twice_is_refused(tmp_path):
    path = write_wfdb(tmp_path, "a", counts(2) / 200, ("MLII", "ECG 2"))
    record = read(path, "wfdb", leads={"MLII": "II", "ECG 2": "-aVR"})
    assert record.leads == ("II", "aVR")
    np.testing.assert_allclose(record.signal_mv[1], -counts(2)[1] / 200, atol=1e-6)
    with pytest.raises(RecordError, match="stands twice"):
        read(path, "wfdb", leads={"MLII": "II", "ECG 2": "lead ii"})


def test_a_unit_that_nobody_states_is_asked_for(tmp_path):
    (tmp_path / "a.hea").write_text("a 1 500 50\na.dat 16 200/NU 16 0 0 0 0 II\n")
    (tmp_path / "a.dat").write_bytes(counts(1, 50).astype("<i2").tobytes())
    with pytest.raises(RecordError, match="unit of 'II' is not known"):
        read(tmp_path / "a", "wfdb")
    np.testing.assert_allclose(
        read(tmp_path / "a", "wfdb", units="mV").signal_mv[0], counts(1, 50)[0] / 200, rtol=1e-6
    )


def test_formats_are_told_by_their_endings(tmp_path):
    (tmp_path / "rec.1.hea").write_text("x")
    assert guess_reader(tmp_path / "rec.1") == "wfdb"
    assert guess_reader(tmp_path / "rec") == "wfdb"
    assert guess_reader(tmp_path / "x.NPY") == "npy"
    (tmp_path / "x.xml").write_text("<Report/>")
    with pytest.raises(RecordError, match="neither MUSE, Cardiosoft"):
        guess_reader(tmp_path / "x.xml")
    with pytest.raises(RecordError, match="name its reader"):
        guess_reader(tmp_path / "x.mat")


READERS = {
    "wfdb": ("a", {}),
    "muse_xml": ("a.xml", {}),
    "ukb_xml": ("a.xml", {}),
    "dicom": ("a.dcm", {}),
    "npy": ("a.npy", DECLARED),
    "parquet": ("a.parquet", DECLARED),
    "ecg": ("a.csv", DECLARED),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One intact file of each format, as bytes, and the folder to write broken ones to."""
    folder = tmp_path_factory.mktemp("whole")
    table = dict(zip(TWELVE, counts(12, 40), strict=True))
    write_wfdb(folder, "a", counts(12, 40) / 200, TWELVE)
    frame = pd.DataFrame({name: row / 200 for name, row in table.items()})
    frame.to_parquet(folder / "a.parquet")
    frame.to_csv(folder / "a.csv", index=False)
    np.save(folder / "a.npy", frame.to_numpy().T)
    files = {
        "wfdb": folder / "a.hea",
        "muse_xml": write_muse(folder / "m.xml", muse_waveform("Rhythm", table)),
        "ukb_xml": write_ukb(folder / "u.xml", ukb_waves(table), samples=40),
        "dicom": write_dicom(folder / "a.dcm", counts(12, 40), TWELVE),
        "npy": folder / "a.npy",
        "parquet": folder / "a.parquet",
        "ecg": folder / "a.csv",
    }
    content = {reader: path.read_bytes() for reader, path in files.items()}
    return folder, content, (folder / "a.dat").read_bytes()


def expect_record_or_error(folder, reader, content, dat):
    name, source = READERS[reader]
    path = folder / ("a.hea" if reader == "wfdb" else name)
    path.write_bytes(content)
    (folder / "a.dat").write_bytes(dat)
    try:
        record = read(folder / name, reader, **source)
    except RecordError:
        return
    assert record.signal_mv.ndim == 2
    assert len(record.leads) == len(record.signal_mv)


FUZZ = settings(
    max_examples=25,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("reader", READERS)
@FUZZ
@given(content=st.binary(max_size=400))
def test_random_bytes_give_a_clear_error(whole, reader, content):
    folder, _, dat = whole
    expect_record_or_error(folder, reader, content, dat)


@pytest.mark.parametrize("reader", READERS)
@FUZZ
@given(data=st.data())
def test_truncated_and_changed_bytes_give_a_record_or_a_clear_error(whole, reader, data):
    folder, contents, dat = whole
    content = bytearray(contents[reader][: data.draw(st.integers(0, len(contents[reader])))])
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(dat)))
    expect_record_or_error(folder, reader, bytes(content), dat[:cut])


@pytest.mark.parametrize("reader", READERS)
def test_empty_and_missing_files_are_named(tmp_path, reader):
    name, source = READERS[reader]
    with pytest.raises(RecordError, match="there is no such file"):
        read(tmp_path / name, reader, **source)
    (tmp_path / ("a.hea" if reader == "wfdb" else name)).touch()
    with pytest.raises(RecordError, match="zero bytes"):
        read(tmp_path / name, reader, **source)


def test_an_empty_signal_file_is_named(tmp_path):
    path = write_wfdb(tmp_path, "a", counts(1) / 200, ("I",))
    Path(f"{path}.dat").write_bytes(b"")
    with pytest.raises(RecordError, match=r"a.dat: the file is empty"):
        read(path, "wfdb")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(RecordError, match="there is no such file"):
        read(tmp_path / "a.npy", "npy", **DECLARED)


def test_dicom_deflated_is_refused_before_it_is_inflated(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", counts(2), ("I", "II"), median=False)
    content = path.read_bytes()
    old, new = b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.1.2.1.99"
    place = content.index(old)
    content = content[: place - 2] + struct.pack("<H", len(new)) + new + content[place + len(old) :]
    path.write_bytes(content)
    with pytest.raises(RecordError, match="deflated"):
        read(path, "dicom")


def test_a_real_dicom_ecg_of_another_maker_is_read():
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm", download=False)
    if path is None:
        pytest.skip("pydicom came without its test file")
    record = read(Path(str(path)), "dicom")
    assert record.leads == TWELVE
    assert record.rate_hz == 1000
    assert record.seconds == 10
    np.testing.assert_allclose(
        record.signal_mv[0] + record.signal_mv[2], record.signal_mv[1], atol=0.01
    )


@pytest.mark.parametrize("text", ["4,880", "-1,000", "12,345,678"])
def test_a_comma_that_may_part_thousands_is_refused(text):
    """4,880 is 4.88 at one device and 4880 at another."""
    with pytest.raises(RecordError, match="thousands or decimals"):
        number_of(text, "its scale", "a.xml")


@pytest.mark.parametrize(
    ("text", "value"), [("4,88", 4.88), ("0,005", 0.005), ("1000", 1e3), ("1234,500", 1234.5)]
)
def test_a_comma_of_decimals_is_read(text, value):
    assert number_of(text, "its scale", "a.xml") == value
