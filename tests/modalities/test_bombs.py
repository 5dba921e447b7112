"""Small files that claim much memory are refused before they take it, unless a person allows it."""

import bz2
import gzip
import io
import os
import resource
import zipfile

import nibabel
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from small_counts import edit, some_counts

from medmcl.cooccurrence.embed.relations import read_columns
from medmcl.cooccurrence.exchange.folder import load_counts, save_counts
from medmcl.cooccurrence.release.token_rows import read_rows
from medmcl.core import plain_text
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, RecordError
from medmcl.core.limits import most_bytes, parse_json
from medmcl.data.events.tables import EventTable, read_events
from medmcl.data.tables.files import read_table
from medmcl.encoders.weights import read_content
from medmcl.modalities.dicom import DicomFiles, open_dicom
from medmcl.modalities.ecg.files.edf import read_edf
from medmcl.modalities.ecg.files.readers import read_channels
from medmcl.modalities.ecg.files.xml import guess_dialect
from medmcl.modalities.ecg.files.zarr import read_array
from medmcl.modalities.genetics.files import open_fileset
from medmcl.modalities.graph.files import read_block, read_lines
from medmcl.modalities.image.files import read_image
from medmcl.modalities.volumes import read_nifti, read_npy
from medmcl.stages.factorise.vector_files import read_vectors
from medmcl.stages.train.train_filter import listed_ids

LONG = 400_000
"""Values of what is sound, and takes more than 1 MB."""


def nifti(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((100, 100, 40), np.int16), np.eye(4)), path)


def npy(path, shape=(12, LONG // 12)):
    np.save(path, np.zeros(shape, np.float32))


def npz(path):
    np.savez_compressed(path, a=np.zeros((600, 600)))


def image(path):
    Image.fromarray(np.zeros((600, 700), np.uint8)).save(path)


def xml(path):
    path.write_text(f"<LeadData>{'<a/>' * LONG}</LeadData>")


def wfdb(path):
    path.with_suffix(".dat").write_bytes(bytes(2 * LONG))
    path.with_suffix(".hea").write_text(f"a 1 500 {LONG}\na.dat 16 1000/mV 16 0 0 0 0 I\n")


def columns(path, count=LONG):
    frame = pd.DataFrame({"subject": np.arange(count) // 1, "I": np.zeros(count)})
    frame.to_parquet(path) if ".parquet" in path.name else frame.to_csv(path, index=False)


def repacked(path):
    columns(path.with_suffix(""))
    path.write_bytes(bz2.compress(path.with_suffix("").read_bytes()))


def dosages(path):
    pd.DataFrame({"id": np.arange(LONG)}).to_csv(path, index=False)


def ecg(reader, **more):
    return lambda path: read_channels(reader, path, leads=["I"], row=None, **more)


def fileset(path):
    return open_fileset("dosages", {"dosages": path, "variants": path})


def vectors(path):
    return read_vectors("v", path, "subject")


def repeated(path):
    """A text of 100 kB that stands once in the file, and in a thousand rows of it."""
    codes = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), ["a" * 100_000])
    table = pa.table({"a": ["p"] * 1000, "b": codes})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000


def token_rows(path):
    frame = pd.DataFrame({"subject": range(LONG), "modality": "codes", "code": "a", "count": 1})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


def table(path):
    read_table(path.parent, path.name)


def rows(path):
    read_rows(path, {})


def events(path):
    keys = {"subject": "a", "code": "b"}
    list(read_events(EventTable(path=path, name="t", columns=keys)))


def relations(path):
    read_columns(path, ["source", "target"], "two codes a row")


def holes(path):
    """A file with more zeros behind it than its disk may have."""
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.truncate(path, 2_000_000)


RECORDS = {
    "a.edf": (holes, read_edf),
    "a.dcm": (holes, lambda path: [*DicomFiles(path, {"": 1}).data_sets()]),
    "x/zarr.json": (holes, lambda path: read_array(path.parents[1], "x", None)),
    "nodes.txt": (holes, read_lines),
    "scan.nii.gz": (nifti, lambda path: read_nifti(path, "xyz")),
    "scan.nii": (nifti, lambda path: read_nifti(path, "xyz")),
    "scan.npy": (lambda path: npy(path, (100, 100, 40)), lambda path: read_npy(path, "xyz")),
    "ecg.npy": (lambda path: npy(path, (1, LONG)), ecg("npy")),
    "net.npz": (npz, lambda path: read_block(path, None, None)),
    "a.png": (image, read_image),
    "a.jpg": (image, read_image),
    "a.tif": (image, read_image),
    "a.xml": (xml, guess_dialect),
    "a.hea": (wfdb, ecg("wfdb")),
    "a.parquet": (columns, ecg("parquet")),
    "a.csv": (columns, ecg("parquet")),
    "a.csv.gz": (columns, ecg("parquet")),
}
TABLES = {
    "ids.txt": (holes, lambda path: listed_ids(path, [], "ids")),
    "text.parquet": (repeated, table),
    "events.parquet": (repeated, events),
    "t.parquet": (columns, table),
    "t.csv": (columns, table),
    "t.csv.gz": (columns, table),
    "v.csv": (columns, vectors),
    "v.parquet": (columns, vectors),
    "v.csv.gz": (columns, vectors),
    "rows.csv": (token_rows, rows),
    "rows.parquet": (token_rows, rows),
    "relations.csv": (columns, relations),
    "relations.parquet": (columns, relations),
    "g.csv": (columns, lambda path: read_block(path, None, None)),
    "d.csv": (dosages, fileset),
    "d.csv.bz2": (repacked, fileset),
}


@pytest.mark.parametrize("name", [*RECORDS, *TABLES])
def test_what_claims_more_memory_than_it_may_is_refused_and_can_be_allowed(
    name, tmp_path, monkeypatch
):
    made, read = (RECORDS | TABLES)[name]
    made(tmp_path / name)
    variable = "MEDMCL_RECORD_MB" if name in RECORDS else "MEDMCL_TABLE_MB"
    monkeypatch.setenv(variable, "1")
    with pytest.raises((RecordError, CohortError, ArtefactError)) as refused:
        read(tmp_path / name)
    said = str(refused.value)
    assert "more memory than a" in said
    assert "at most 1.05 MB" in said
    for _ in range(6):  # what is counted only so far asks for more
        monkeypatch.setenv(variable, said.partition(f"{variable}=")[2].split()[0])
        said = told_by(read, tmp_path / name)
        if variable not in said:
            return
    pytest.fail(said)


def told_by(read, path):
    """What reading refuses, if it does: what the file holds may be none of its kind."""
    try:
        read(path)
    except (RecordError, CohortError, ArtefactError, ConfigError) as other:
        return str(other)
    return ""


def gzip_bomb(path):
    """1 MB that promises and holds 1 GB, and more behind it."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((1000, 1000, 500))
    header.set_data_dtype(np.int16)
    with gzip.open(path, "wb", compresslevel=1) as file:
        header.write_to(file)
        for _ in range(1000):
            file.write(bytes(2**20))


def test_a_megabyte_that_inflates_to_a_gigabyte_takes_no_memory(tmp_path, monkeypatch):
    gzip_bomb(tmp_path / "a.nii.gz")
    monkeypatch.setenv("MEDMCL_RECORD_MB", "500")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RecordError, match=r"1000 x 1000 x 500 voxels(.|\n)*MEDMCL_RECORD_MB=2862"):
        read_nifti(tmp_path / "a.nii.gz", "xyz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("shape", [(10**12,), (2**31, 2**31), (1, 10**11)])
def test_a_header_of_an_array_that_promises_what_is_not_there(shape, tmp_path):
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        held, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    (tmp_path / "a.npy").write_bytes(held.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "a.npy")
    with pytest.raises(RecordError):
        read_npy(tmp_path / "a.npy", "xyz")
    with pytest.raises(RecordError, match="cannot be read as npy"):
        ecg("npy")(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="header says"):
        read_block(tmp_path / "a.npz", None, None)


@pytest.mark.parametrize("header", [
    "a 12 500 1000000000000\n" + "a.dat 16 1000/mV 16 0 0 0 0 I\n" * 12,
    "a 1 500 1000\na.dat 516x100000000 1000/mV 16 0 0 0 0 I\n",
    "a/2 1 0.000001 1000\nb 500\nb 500\n",
])  # fmt: skip
def test_a_header_of_an_ecg_that_promises_what_no_memory_holds(header, tmp_path):
    (tmp_path / "a.hea").write_text(header)
    (tmp_path / "b.hea").write_text("b 1 500 500\nb.dat 16 1000/mV 16 0 0 0 0 I\n")
    for name in "ab":
        (tmp_path / f"{name}.dat").write_bytes(bytes(1000))
    with pytest.raises(RecordError, match="MEDMCL_RECORD_MB"):
        ecg("wfdb")(tmp_path / "a")


def test_elements_within_one_another_and_items_of_dicom_are_bounded(tmp_path, monkeypatch):
    (tmp_path / "a.xml").write_text("<a>" * 5000 + "</a>" * 5000)
    with pytest.raises(RecordError, match="101 deep"):
        guess_dialect(tmp_path / "a.xml")
    meta = b"\x02\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + meta + b"\xfe\xff\0\xe0\0\0\0\0" * 1000)
    monkeypatch.setenv("MEDMCL_RECORD_MB", "1")
    with pytest.raises(RecordError, match="1,000 items claims more memory"):
        open_dicom(tmp_path / "a.dcm")


def test_json_that_is_nested_or_large_is_no_json(monkeypatch):
    assert parse_json("[1]") == [1]
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)
    monkeypatch.setenv("MEDMCL_TABLE_MB", "1")
    with pytest.raises(ValueError, match="MEDMCL_TABLE_MB"):
        parse_json("[" + "0," * 50_000 + "0]")


@pytest.mark.parametrize("given", ["0", "-1", "much", "inf", "nan"])
def test_a_bound_is_a_number_of_megabytes(given, monkeypatch):
    monkeypatch.setenv("MEDMCL_RECORD_MB", given)
    with pytest.raises(ConfigError, match=r"MEDMCL_RECORD_MB(.|\n)*above 0"):
        most_bytes()


def test_counts_whose_manifest_promises_more_than_there_is(tmp_path):
    folder = save_counts(some_counts(), tmp_path / "counts")
    edit(folder, lambda values: values["modalities"][0].update(size=10**12))
    with pytest.raises(ArtefactError, match=r"0 to 999999999999|add up|truth"):
        load_counts(folder)


FIRST, SECOND = "a,b," * 1000, '{"a": 1, "b": "x"}\n' + '{"a": 1, "b": "' + "y" * 3000


@pytest.mark.parametrize(
    ("name", "read", "text"),
    [("a.csv", table, FIRST), ("a.csv.gz", table, FIRST), ("a.tsv", table, FIRST),
     ("a.csv", rows, FIRST), ("a.csv.gz", events, FIRST), ("a.csv", relations, FIRST),
     ("a.jsonl", events, FIRST), ("a.jsonl.gz", events, FIRST), ("a.jsonl", events, SECOND)],
)  # fmt: skip
def test_a_line_without_end_is_refused_before_it_is_held(name, read, text, tmp_path, monkeypatch):
    path = tmp_path / name
    with (gzip.open if name.endswith(".gz") else open)(path, "wt") as file:
        file.write(text)
    monkeypatch.setattr(plain_text, "_LONGEST_LINE", 2000)
    with pytest.raises((CohortError, ArtefactError), match="no header and no record"):
        read(path)


def test_weights_that_are_packed_are_refused(tmp_path):
    plain, packed = tmp_path / "a.pt", tmp_path / "b.pt"
    torch.save({"w": torch.zeros(100_000)}, plain)
    assert read_content(plain)["w"].shape == (100_000,)
    with zipfile.ZipFile(plain) as a, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as b:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    with pytest.raises(ArtefactError, match="what it holds is packed"):
        read_content(packed)
