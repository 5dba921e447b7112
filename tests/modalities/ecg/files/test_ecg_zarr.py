"""ECGs as one array of a Zarr store, written by zarr itself."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ExtraNotInstalledError, RecordError
from medmcl.core.limits import below
from medmcl.data.loading.reading import read_record
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.files import zarr as store_files
from medmcl.modalities.ecg.files.readers import guess_reader

SAID = {"rate_hz": 400, "units": "mV", "axes": "SL", "dataset": "tracings", "row": "exam_id",
        "ids": "exam_id"}  # fmt: skip
STORES = pytest.mark.parametrize(
    ("version", "more"),
    [(2, {}), (3, {}), (3, {"chunk_key_encoding": ("v2", "/")})],
    ids=["v2", "v3", "slashes"],
)


def write_store(folder, version=3, people=5, **more):
    """Write records as CODE-15 has them: (N, S, 12), two a chunk, their exams beside."""
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    signals = np.random.default_rng(0).normal(size=(people, 64, 12)).astype(np.float32)
    group = zarr.open_group(folder, mode="w", zarr_format=version)
    encoding = more.pop("chunk_key_encoding", None)
    if encoding:
        more["chunk_key_encoding"] = dict(zip(("name", "separator"), encoding, strict=True))
    group.create_array("tracings", data=signals, chunks=(2, 32, 12), **more)
    group.create_array("exam_id", data=1000 + 7 * np.arange(people)[::-1])
    return signals


def place(path, exam, **said):
    adapter = ECG(ECGSource(**{"reader": "zarr", **SAID, **said}), ECGSettings())
    return adapter, RecordRef(
        subject="s", record="r", paths={"path": path}, values={"exam_id": exam}
    )


def read(path, exam, **said):
    adapter, where = place(path, exam, **said)
    return adapter.read(where)


@STORES
def test_a_record_is_found_by_its_exam(tmp_path, version, more):
    path = tmp_path / "code15"
    signals = write_store(path, version, **more)
    assert guess_reader(path) == "zarr"
    for number, exam in enumerate(1000 + 7 * np.arange(5)[::-1]):
        found = read(path, exam, reader="ecg")
        np.testing.assert_array_equal(found.signal_mv, signals[number].T)
    assert store_files.read_array(path, "tracings", None).shape == signals.shape
    by_number = read(path, 3, ids=None)
    np.testing.assert_array_equal(by_number.signal_mv, signals[3].T)
    for wrong, words in (
        ({"exam": 1}, "no row of 'exam_id'"),
        ({"exam": 9, "ids": None}, "no such row"),
        ({"exam": 0, "ids": None, "dataset": "waves"}, "no array of Zarr"),
        ({"exam": 0, "ids": None, "dataset": "../.."}, "no array|another folder"),
        ({"exam": 0, "ids": None, "axes": "LS"}, "shape does not agree"),
    ):
        with pytest.raises(RecordError, match=words):
            read(path, **wrong)
    assert read(path, 0, ids=None, dataset=None).signal_mv.shape == (12, 64)


@STORES
def test_a_record_lies_in_its_own_chunks(tmp_path, version, more):
    """So that who changes another is prepared anew, and it is not."""
    path = tmp_path / "code15"
    signals = write_store(path, version, **more)
    adapter, first = place(path, 0, ids=None)
    _, last = place(path, 4, ids=None)
    own, others = set(adapter.files(first)), set(adapter.files(last))
    shared = own & others
    assert {one.name for one in shared} <= set(store_files.META)
    assert own - shared
    for file in own - shared:
        file.unlink()  # Zarr has zeros for what is not there
    assert not read(path, 0, ids=None).signal_mv.any()
    np.testing.assert_array_equal(read(path, 4, ids=None).signal_mv, signals[4].T)


class Runs:
    def __reduce__(self):
        return (print, ("code of a stranger runs",))


@pytest.mark.parametrize("where", ["filters", "compressor"])
def test_a_codec_that_runs_code_is_refused(tmp_path, capsys, where):
    write_store(tmp_path / "s", 2)
    file = tmp_path / "s" / "tracings" / ".zarray"
    said = json.loads(file.read_text())
    said[where] = {"id": "pickle"} if where == "compressor" else [{"id": "pickle"}]
    file.write_text(json.dumps(said))
    for chunk in (tmp_path / "s" / "tracings").glob("0*"):
        chunk.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(RecordError, match="packed by 'pickle', which is not read"):
        read(tmp_path / "s", 0, ids=None)
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"shape": [5, "x"]}', '{"shape": [5, 64, 12]}',
                                  '{"shape": [5, 64, 12], "chunks": 3}',
                                  '{"shape": [1e999, 64, 12], "chunks": [2, 32, 12]}',
                                  '{"shape": [5, 64, 12], "chunks": [1e999, 32, 12]}',
                                  '{"shape": [5, 64, 12], "chunk_key_encoding": "c", "chunk_grid": '
                                  '{"configuration": {"chunk_shape": [2, 32, 12]}}}'])  # fmt: skip
def test_damaged_descriptions_are_refused(tmp_path, text):
    write_store(tmp_path / "s", 2)
    (tmp_path / "s" / "tracings" / ".zarray").write_text(text)
    adapter, where = place(tmp_path / "s", 0, ids=None)
    assert adapter.files(where)
    with pytest.raises(RecordError):
        adapter.read(where)


@pytest.mark.parametrize(
    ("version", "packed", "said"),
    [(2, "blosc", "truncated"), (3, "blosc", "truncated"), (3, "zstd", "cannot be read as zarr"),
     (2, "gzip", "cannot be read as zarr"), (2, None, "cannot be read as zarr")],
)  # fmt: skip
def test_a_chunk_that_was_cut_is_refused(tmp_path, version, packed, said):
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    codecs = {"gzip": {"id": "gzip", "level": 1}, "zstd": zarr.codecs.ZstdCodec(), None: None}
    codecs["blosc"] = {"id": "blosc"} if version == 2 else zarr.codecs.BloscCodec()
    write_store(tmp_path / "s", version, compressors=codecs[packed])
    array = tmp_path / "s" / "tracings"
    chunk = array / "0.0.0" if version == 2 else array / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-500])
    with pytest.raises(RecordError, match=said):
        read(tmp_path / "s", 0, ids=None)


@pytest.mark.parametrize("packed", ["gzip", "zstd", "blosc"])
def test_claims_beyond_memory_are_refused_before_they_are_read(tmp_path, monkeypatch, packed):
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    of = {
        "gzip": zarr.codecs.GzipCodec,
        "zstd": zarr.codecs.ZstdCodec,
        "blosc": zarr.codecs.BloscCodec,
    }
    write_store(tmp_path / "s", compressors=of[packed]())
    big = np.ones((2, 400_000, 12), np.float32)
    zarr.create_array(tmp_path / "big", data=big, chunks=big.shape, compressors=of[packed]())
    (chunk,) = (one for one in (tmp_path / "big" / "c").rglob("*") if one.is_file())
    own = tmp_path / "s" / "tracings" / "c" / "0" / "0" / "0"
    own.write_bytes(chunk.read_bytes())  # 38 MB in the place of 6 kB
    monkeypatch.setenv("MEDMCL_RECORD_MB", "4")
    with pytest.raises(RecordError, match="claims more memory"):
        read(tmp_path / "s", 0, ids=None)
    monkeypatch.setenv("MEDMCL_RECORD_MB", "0.001")
    with pytest.raises(RecordError, match="claims more memory"):
        read(tmp_path / "s", 2, ids=None)


def test_a_list_of_names_beyond_memory_is_refused_and_the_record_is_read_with_a_finding(
    tmp_path, monkeypatch
):
    """It filled the memory, and then ended in a traceback: naming the files reads it, too."""
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    write_store(tmp_path / "s")
    big = zarr.create_array(tmp_path / "big", data=np.ones(4_000_000), chunks=(4_000_000,))
    chunk = tmp_path / "s" / "exam_id" / "c" / "0"
    for most, said in (("4", "claims more memory"), ("4000", "cannot be read as zarr")):
        monkeypatch.setenv("MEDMCL_RECORD_MB", most)
        chunk.write_bytes((big.store_path.store.root / "c" / "0").read_bytes())  # not of 5 rows
        raw, (finding,) = read_record(*place(tmp_path / "s", 1000))
        assert raw is None
        assert said in finding.what


@pytest.mark.parametrize(
    ("part", "inside"),
    [("tracings/c/0", False), ("tracings/c/0/0", False), ("tracings/c/0/0", True)],
)
def test_a_link_among_the_folders_of_chunks_is_not_followed(tmp_path, part, inside):
    """In the middle it was: samples came from elsewhere, of any size."""
    store, away = tmp_path / "data" / "s", tmp_path / ("data" if inside else ".") / "away"
    write_store(store)
    (store / part).rename(away)
    (store / part).symlink_to(away)
    adapter, ref = place(store, 0, ids=None)
    roots = below([tmp_path / "data"])
    raw, findings = read_record(adapter, replace(ref, roots=roots))
    assert raw is None
    told = "a folder of chunks is a link" if inside else "leads out of the folders"
    assert told in findings[0].what


@pytest.mark.parametrize("part", ["exam_id/c/0", "exam_id/c", "exam_id/zarr.json"])
def test_a_list_of_names_that_lies_elsewhere_is_not_read(tmp_path, part):
    """Which row is whose was said by a file outside; only the files of the row were looked at."""
    store, away = tmp_path / "data" / "s", tmp_path / "away"
    write_store(store)
    (store / part).rename(away)
    (store / part).symlink_to(away)
    adapter, ref = place(store, 1000)
    raw, findings = read_record(adapter, replace(ref, roots=below([tmp_path / "data"])))
    assert raw is None
    assert "leads out of the folders" in findings[0].what
    assert read_record(adapter, replace(ref, roots=below([tmp_path])))[0] is not None


@pytest.mark.parametrize("way", ["shards", "two"])
def test_what_is_packed_otherwise_is_refused(tmp_path, way):
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    two = (zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec())
    write_store(
        tmp_path / "s", **({"shards": (4, 64, 12)} if way == "shards" else {"compressors": two})
    )
    with pytest.raises(RecordError, match="which is not read") as refused:
        read(tmp_path / "s", 0, ids=None)
    assert "without shards" in refused.value.fix


def test_the_extra_is_named(tmp_path, monkeypatch):
    write_store(tmp_path / "s")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[zarr\]"):
        read(tmp_path / "s", 0, ids=None)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no such folder"):
        read(Path(tmp_path / "none"), 0, ids=None)
