"""ECGs as devices and archives deliver them: HL7 aECG, EDF, HDF5."""

import numpy as np
import pytest
from ecg_files import EIGHT, aecg_set, write_aecg, write_edf
from pydantic import ValidationError

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ExtraNotInstalledError, RecordError
from medmcl.modalities.ecg.adapter import ECG
from medmcl.modalities.ecg.files.readers import guess_reader, read_channels
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.modalities.ecg.settings import ECGSettings, ECGSource


def steps(leads=EIGHT, samples=300, seed=0):
    """Values as stored: whole steps, a row a lead."""
    rows = np.random.default_rng(seed).integers(-400, 400, (len(leads), samples))
    return dict(zip(leads, rows, strict=True))


def read(reader, path, values=None, **source):
    place = RecordRef(subject="s1", record="r1", paths={"path": path}, values=values or {})
    return ECG(ECGSource(reader=reader, **source), ECGSettings()).read(place)


def refused(reader, path, **more):
    with pytest.raises(RecordError) as error:
        read(reader, path, **more)
    return str(error.value)


def same(record, table, step_uv=5.0, rate=500.0):
    assert record.rate_hz == pytest.approx(rate)
    assert set(record.leads) == set(table)
    for name, row in zip(record.leads, record.signal_mv, strict=True):
        np.testing.assert_allclose(row, table[name] * step_uv / 1000, atol=1e-6)


# ------------------------------------------------------------------ HL7 aECG


@pytest.mark.parametrize("reader", ["aecg", "ecg"])
def test_the_rhythm_of_hl7_is_read_and_no_derived_beat(tmp_path, reader):
    table, beat = steps(TWELVE), steps(TWELVE, 1000, 1)
    path = write_aecg(tmp_path / "a.xml", aecg_set(table), derived=aecg_set(beat))
    same(read(reader, path), table)
    assert read(reader, path).units == "uV"
    assert guess_reader(path) == "aecg"


def test_of_several_sets_of_samples_the_longest_is_read_and_said(tmp_path):
    table = steps(samples=400)
    path = write_aecg(tmp_path / "a.xml", aecg_set(steps(samples=100)), aecg_set(table, rate=250))
    record = read("aecg", path)
    same(record, table, rate=250)
    assert record.quality == ("the longest of 2 sequence sets is read",)


def test_origin_units_and_steps_of_time_count(tmp_path):
    text = write_aecg(tmp_path / "a.xml", aecg_set(steps())).read_text()
    text = text.replace('<origin value="0" unit="uV"/>', '<origin value="0.5" unit="mV"/>')
    text = text.replace('value="0.002" unit="s"', 'value="2" unit="ms"')
    (tmp_path / "b.xml").write_text(text)
    record = read("aecg", tmp_path / "b.xml")
    np.testing.assert_allclose(record.signal_mv[0], steps()["I"] * 0.005 + 0.5, atol=1e-6)
    assert record.rate_hz == 500


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("component", "comp", "holds no series of samples"),
        ("<series>", "<series2>", "is not XML"),
        ("TIME_ABSOLUTE", "TIME_OTHER", "<scale> is missing"),
        ('value="0.002"', 'value="0"', "the step of time is none"),
        ('unit="s"', 'unit="d"', "the step of time is none"),
        ("<scale value", "<scale valu", "<scale> is missing"),
        ("<digits>", "<digits>x ", "is not a number"),
        ("<digits>", "<digits>1 2 3</digits><digits>", None),
        ('MDC_ECG_LEAD_II"', 'MDC_ECG_LEAD_I"', "stands twice"),
    ],
)
def test_damage_of_hl7_is_told(tmp_path, old, new, said):
    text = write_aecg(tmp_path / "a.xml", aecg_set(steps())).read_text()
    (tmp_path / "b.xml").write_text(text.replace(old, new, 1 if said is None else -1))
    assert (said or "different lengths") in refused("aecg", tmp_path / "b.xml")


def test_a_file_of_beats_alone_is_refused(tmp_path):
    path = write_aecg(tmp_path / "a.xml", derived=aecg_set(steps()))
    assert "representative beats only" in refused("aecg", path)


# ------------------------------------------------------------------ EDF


@pytest.mark.parametrize("reader", ["edf", "ecg"])
def test_edf_gives_what_its_two_points_say(tmp_path, reader):
    table = steps(TWELVE)
    path = write_edf(tmp_path / "a.edf", {f"ECG {n}": row for n, row in table.items()})
    record = read(reader, path)
    same(record, table, rate=100)
    assert record.units == "uV"


def test_edf_is_not_a_step_off_as_with_wfdb(tmp_path):
    from wfdb.io.convert.edf import read_edf

    table = steps(("I", "II"))
    path = write_edf(tmp_path / "a.edf", table, unit="mV", step=0.005)
    theirs = read_edf(str(path)).p_signal.T
    ours = read_channels("edf", path, row=None).signal
    np.testing.assert_allclose(ours, np.stack([*table.values()]) * 0.005, atol=1e-9)
    np.testing.assert_allclose(theirs, ours - 0.005, atol=1e-9)


def test_annotations_and_signals_of_other_rates_are_left_out_and_said(tmp_path):
    table = {**steps(EIGHT), "RESP": np.arange(75), "EDF Annotations": np.zeros(180)}
    rates = {"RESP": 25, "EDF Annotations": 60}
    path = write_edf(tmp_path / "a.edf", table, per_record=rates, reserved="EDF+C")
    record = read("edf", path)
    same(record, steps(EIGHT), rate=100)
    assert record.quality == ("of another rate, left out: RESP",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b[:-100], "is truncated"),
        (lambda b: b"\xffBIOSEMI" + b[8:], "BDF, of 24 bits"),
        (lambda b: b[:192] + b"EDF+D" + b[197:], "gaps between its records"),
        (
            lambda b: b[:236] + b"many    " + b[244:],
            "number of records is missing, or is no number",
        ),
        (lambda b: b[:236] + b"999     " + b[244:], "is truncated"),
        (lambda b: b[:252] + b"0   " + b[256:], "header that cannot be"),
        (lambda b: b[:252] + b"9999" + b[256:], "header that cannot be"),
        (lambda b: b[:244] + b"0       " + b[252:], "header that cannot be"),
        (lambda b: b[:200], "is no EDF"),
        (lambda b: b.replace(b"-163840", b"163835 "), "what a step of"),
    ],
)
def test_damage_of_edf_is_told(tmp_path, change, said):
    path = write_edf(tmp_path / "a.edf", steps())
    path.write_bytes(change(path.read_bytes()))
    assert said in refused("edf", path)


def test_a_recording_that_does_not_say_its_length_is_read_to_its_end(tmp_path):
    path = write_edf(tmp_path / "a.edf", steps())
    content = path.read_bytes()
    path.write_bytes(content[:236] + b"-1      " + content[244:])
    same(read("edf", path), steps(), rate=100)


# ------------------------------------------------------------------ HDF5

SAID = {"rate_hz": 400, "units": "mV", "axes": "SL", "dataset": "tracings"}


def code15(path, people=5):
    """Write records as CODE-15 has them: (N, S, 12) with the exam of each row beside."""
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    signals = np.random.default_rng(0).normal(size=(people, 64, 12)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["tracings"] = signals
        file["exam_id"] = 1000 + 7 * np.arange(people)[::-1]
    return signals


def test_a_record_of_code15_is_found_by_its_exam(tmp_path):
    path = tmp_path / "exams_part0.hdf5"
    signals = code15(path)
    keyed = {**SAID, "row": "exam_id", "ids": "exam_id"}
    for number, exam in enumerate(1000 + 7 * np.arange(5)[::-1]):
        record = read("hdf5", path, {"exam_id": exam}, **keyed)
        np.testing.assert_array_equal(record.signal_mv, signals[number].T)
        assert record.leads == TWELVE
    by_number = read("ecg", path, {"n": 3}, **SAID, row="n")
    np.testing.assert_array_equal(by_number.signal_mv, signals[3].T)
    assert "no row of 'exam_id' has the name" in refused(
        "hdf5", path, values={"exam_id": 1}, **keyed
    )
    assert "there is no such row" in refused("hdf5", path, values={"n": 5}, **SAID, row="n")
    other = {**SAID, "dataset": "waves"}
    assert "no data set 'waves'" in refused("hdf5", path, values={"n": 0}, **other, row="n")
    assert "shape does not agree" in refused(
        "hdf5", path, values={"n": 0}, **{**SAID, "axes": "LS"}, row="n"
    )


def test_data_that_lie_elsewhere_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    code15(tmp_path / "away.h5")
    for name, link in (("x", h5py.ExternalLink("away.h5", "tracings")), ("y", h5py.SoftLink("/z"))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["tracings"] = link
        said = refused("hdf5", tmp_path / f"{name}.h5", values={"n": 0}, **SAID, row="n")
        assert "no data set 'tracings'" in said
    (tmp_path / "raw").write_bytes(bytes(5 * 64 * 12 * 4))
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("tracings", (5, 64, 12), "f4", external=[(tmp_path / "raw", 0, 15360)])
    said = refused("hdf5", tmp_path / "e.h5", values={"n": 0}, **SAID, row="n")
    assert "lie in other files" in said


def test_what_claims_more_than_memory_is_refused(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("tracings", (9, 4_000_000, 12), "f4", chunks=(9, 400_000, 12))
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    monkeypatch.setenv("MEDMCL_RECORD_MB", "100")
    said = refused("hdf5", tmp_path / "a.h5", values={"n": 0}, **SAID, row="n")
    assert "claims more memory" in said


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[hdf5\]"):
        read("hdf5", tmp_path / "a.h5", {"n": 0}, **SAID, row="n")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"reader": "hdf5"}, "state rate_hz and units"),
        ({"reader": "wfdb", "dataset": "x"}, "dataset: only the readers hdf5 and zarr"),
        ({"reader": "hdf5", "rate_hz": 1, "units": "mV", "ids": "x"}, "ids: say with row"),
    ],
)
def test_keys_of_hdf5_are_of_hdf5(source, said):
    with pytest.raises(ValidationError, match=said):
        ECGSource(**source)
