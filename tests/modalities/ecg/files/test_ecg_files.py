import os

import pytest

from medmcl.core.contracts import NamesFiles, RecordRef
from medmcl.modalities.ecg.adapter import ECG
from medmcl.modalities.ecg.files.wfdb import wfdb_files
from medmcl.modalities.ecg.settings import ECGSettings, ECGSource


def names(folder, record="r"):
    return [path.relative_to(folder).as_posix() for path in wfdb_files(folder / record)]


def head(folder, text, record="r"):
    (folder / f"{record}.hea").write_text(text)


def test_signal_files_have_the_names_that_the_header_gives(tmp_path):
    head(tmp_path, "# made by hand\n\nr 3 500 1000\na.dat 16 1000\nb.mat 16\n  a.dat 16\n# x 1")
    assert names(tmp_path) == ["r.hea", "a.dat", "b.mat"]
    assert wfdb_files(tmp_path / "r.hea") == wfdb_files(tmp_path / "r")


def test_files_of_segments_are_files_of_the_record(tmp_path):
    head(tmp_path, "r/4 2 500 3000\nlayout 0\ns1 1000\n~ 1000\ns2 1000\n")
    head(tmp_path, "s1 1 500 1000\none.dat 16\n", "s1")
    head(tmp_path, "s2/1 1 500 1000\ns1 1000\n", "s2")  # nested: not followed
    assert names(tmp_path) == ["r.hea", "s1.hea", "one.dat", "s2.hea"]


@pytest.mark.parametrize(
    "text",
    ["", "r", "r x 500", "r/x 2", "\x00\xff nonsense", "r 2 500 10\na.mat 16\n", "r 0 500\n"],
)
def test_of_a_broken_header_everything_of_its_stem_counts(tmp_path, text):
    for name in ("r.dat", "r.mat", "other.dat"):
        (tmp_path / name).write_bytes(b"x")
    head(tmp_path, text)
    assert {"r.hea", "r.dat", "r.mat"} <= set(names(tmp_path))
    assert "other.dat" not in names(tmp_path)


def test_names_that_lead_out_of_the_folder_and_missing_headers_do_no_harm(tmp_path):
    head(tmp_path, "r 3 500 10\n../up.dat 16\n/etc/passwd 16\na.dat 16\n")
    assert names(tmp_path) == ["r.hea", "a.dat"]
    assert names(tmp_path, "none") == ["none.hea"]
    (tmp_path / "folder.hea").mkdir()
    assert names(tmp_path, "folder") == ["folder.hea"]
    os.mkfifo(tmp_path / "pipe.hea")  # opening it would wait for ever
    assert names(tmp_path, "pipe") == ["pipe.hea"]


@pytest.mark.parametrize(
    ("reader", "name", "expected"),
    [
        ("wfdb", "r", ["r.hea", "a.dat"]),
        ("ecg", "r", ["r.hea", "a.dat"]),
        ("ecg", "x.xml", ["x.xml"]),
        ("ecg", "x.odd", ["x.odd"]),
        ("dicom", "r", ["r"]),
    ],
)
def test_the_adapter_names_the_files_of_its_reader(tmp_path, reader, name, expected):
    head(tmp_path, "r 1 500 10\na.dat 16\n")
    adapter = ECG(ECGSource(reader=reader), ECGSettings())
    assert isinstance(adapter, NamesFiles)
    place = RecordRef(subject="s", record="r", paths={"path": tmp_path / name})
    assert [path.name for path in adapter.files(place)] == expected
    assert adapter.files(RecordRef(subject="s", record="r")) == []
