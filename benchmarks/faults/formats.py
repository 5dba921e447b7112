"""One small sound example of each format that is read, and how it is read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.form import Format, RefusedError
from benchmarks.faults.model_formats import model_formats
from benchmarks.faults.own_formats import own_formats
from benchmarks.faults.recorded import LEADS, RATE, SAMPLES, Recorded, ecg, ecg_format


def _wfdb(folder: Path) -> None:
    rows = ecg()
    (folder / "a.dat").write_bytes(rows.T.astype("<i2").tobytes())
    head = [f"a 12 {RATE} {SAMPLES}"]
    head += [f"a.dat 16 1000/mV 16 0 {row[0]} {int(row.sum()) % 65536} 0 {lead}"
             for row, lead in zip(rows, LEADS, strict=True)]  # fmt: skip
    (folder / "a.hea").write_text("\n".join(head) + "\n")


def _has_other_sums(folder: Path) -> bool:
    """Whether leads of a WFDB record add up to other than their header says, in 16 bits."""
    said = [line.split()[6] for line in (folder / "a.hea").read_text().splitlines()[1:]]
    steps = np.frombuffer((folder / "a.dat").read_bytes(), "<i2")
    whole = steps.size == len(said) * SAMPLES
    return not whole or [str(n % 65536) for n in steps.reshape(-1, len(said)).sum(0)] != said


def _muse(folder: Path) -> None:
    from tests.support.ecg_files import EIGHT, muse_waveform, write_muse

    rows = dict(zip(LEADS, ecg(), strict=True))
    leads = {name: np.round(rows[name] / 4.88) for name in EIGHT}
    write_muse(folder / "a.xml", muse_waveform("Rhythm", leads, RATE))


def _ukb(folder: Path) -> None:
    from tests.support.ecg_files import ukb_waves, write_ukb

    strip = ukb_waves(dict(zip(LEADS, np.round(ecg() / 5).astype(int), strict=True)))
    write_ukb(folder / "a.xml", strip, samples=SAMPLES)
    text = (folder / "a.xml").read_text().replace(">500</SampleRate>", f">{RATE}</SampleRate>")
    (folder / "a.xml").write_text(text)


def _aecg(folder: Path) -> None:
    from tests.support.ecg_files import aecg_set, write_aecg

    table = dict(zip(LEADS, np.round(ecg() / 5).astype(int), strict=True))
    write_aecg(folder / "a.xml", aecg_set(table, rate=RATE))


def _edf(folder: Path) -> None:
    from tests.support.ecg_files import write_edf

    write_edf(
        folder / "a.edf", dict(zip(LEADS, np.round(ecg() / 5).astype(int), strict=True)), RATE
    )


def _hdf5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        signals = np.stack([ecg().T, ecg().T[::-1]]).astype(np.float32) / 1000
        file.create_dataset("tracings", data=signals, chunks=(1, SAMPLES, 12), compression="gzip")
        file["exam_id"] = np.array([11, 12])


def _ecg_dicom(folder: Path) -> None:
    from pydicom import dcmread

    from tests.support.ecg_files import write_dicom

    write_dicom(folder / "a.dcm", np.round(ecg() / 4.88).astype(int), LEADS, median=False)
    dataset = dcmread(folder / "a.dcm")
    dataset.WaveformSequence[0].SamplingFrequency = RATE
    dataset.save_as(folder / "a.dcm")


def _frame(table: Mapping[str, Any], path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(table)
    if ".parquet" in path.name:
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")


def _ecg_table(name: str) -> Callable[[Path], None]:
    table = dict(zip(LEADS, ecg() / 1000, strict=True))
    return lambda folder: _frame(table, folder / name)


def _ecg_lists(folder: Path) -> None:
    table = {lead: [row.astype(np.float32) / 1000] for lead, row in zip(LEADS, ecg(), strict=True)}
    _frame(table, folder / "a.parquet")


def _nifti(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import nibabel

        voxels = np.random.default_rng(0).integers(0, 900, (24, 24, 8, 3)).astype(np.int16)
        image = nibabel.Nifti1Image(voxels, np.diag([1.8, 1.8, 8.0, 1.0]))
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / name)

    return write


def _analyze(folder: Path) -> None:
    import nibabel

    voxels = np.random.default_rng(0).integers(0, 900, (24, 24, 8, 3)).astype(np.int16)
    nibabel.save(nibabel.AnalyzeImage(voxels, np.diag([1.8, 1.8, 8.0, 1.0])), folder / "a.img")


def _picture(name: str, **more: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        picture = Image.fromarray(pixels)
        (picture.convert("P") if name.endswith("gif") else picture).save(folder / name, **more)

    return write


def _image_dicom(folder: Path) -> None:
    from tests.support.image_dicom import write_dicom_image

    pixels = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    write_dicom_image(folder / "a.dcm", pixels)


def _cine() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (3, 3, 24, 24)).astype(np.uint16)


def _series(folder: Path) -> None:
    from tests.support.series_dicom import write_series

    write_series(folder, _cine())


def _enhanced(folder: Path) -> None:
    from tests.support.series_dicom import write_enhanced

    write_enhanced(folder / "a.dcm", _cine())


def _zip(folder: Path) -> None:
    import shutil

    from tests.support.series_dicom import zipped

    _series(folder / "d")
    zipped(folder / "d", folder / "a.zip")
    shutil.rmtree(folder / "d")


def _zips(folder: Path) -> None:
    """A zip a half of the frames, in one folder."""
    import shutil

    from tests.support.series_dicom import write_series, zipped

    for half, frames in enumerate((slice(0, 2), slice(2, None))):
        own = folder / f"d{half}"
        write_series(own, _cine()[frames], first=10 * half,
                     TriggerTime=lambda t, z, half=half: f"{25.5 * (t + 2 * half) + z / 8:.8g}")  # fmt: skip
        zipped(own, folder / f"{half}.zip")
        shutil.rmtree(own)


def _ecg_groups(folder: Path) -> None:
    """Limb leads and chest leads in groups of their own, and median beats beside."""
    from tests.support.ecg_files import write_dicom

    steps = np.round(ecg() / 4.88).astype(int)
    groups = [
        ("MEDIAN BEAT", LEADS, np.ones((12, 90), int), RATE),
        *(("RHYTHM", LEADS[own], steps[own], RATE) for own in (slice(0, 6), slice(6, None))),
    ]
    write_dicom(folder / "a.dcm", steps, LEADS, groups=groups)


def _zarr(folder: Path) -> None:
    import zarr

    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
    signals = np.stack([ecg().T, ecg().T[::-1]]).astype(np.float32) / 1000
    group.create_array("tracings", data=signals, chunks=(1, SAMPLES, 12))
    group.create_array("exam_id", data=np.array([11, 12]))


def _pgen(folder: Path) -> None:
    from tests.support.small_genomes import genomes, variant_table, write_pgen

    genotypes, _, _ = genomes(20, 30)
    dosages = genotypes.astype(np.float32)
    dosages[0, 0], dosages[3, 5] = 0.25, 1.75
    write_pgen(folder / "g", dosages, variant_table(30), [f"s{n:03d}" for n in range(1, 21)])


def _matrix() -> np.ndarray:
    series = np.random.default_rng(0).normal(size=(40, 8))
    return np.corrcoef(series.T)


def _edges(folder: Path) -> None:
    weights = _matrix()
    rows, columns = np.triu_indices(8, 1)
    table = {"source": rows, "target": columns, "weight": weights[rows, columns]}
    _frame(table, folder / "a.csv")


def _plink(folder: Path) -> None:
    from tests.support.small_genomes import genomes, variant_table, write_plink

    genotypes, _, _ = genomes(20, 30)
    names = [f"s{number:03d}" for number in range(1, 21)]
    write_plink(folder / "g.bed", genotypes, variant_table(30), names)


def _dosages(folder: Path) -> None:
    from tests.support.small_genomes import genomes, variant_table

    genotypes, _, _ = genomes(20, 30, missing=0)
    table = variant_table(30)
    _frame(table, folder / "v.csv")
    columns = {name: genotypes[:, number] for number, name in enumerate(table["id"])}
    _frame({"person": [f"s{n:03d}" for n in range(1, 21)], **columns}, folder / "d.csv")


COHORT = """schema: medmcl/cohort@1
subjects: {table: people.csv, id: subject, split: split, group: site}
missing: {age: [-9999]}
modalities:
  clinic: {reader: table, columns: {age: number, sex: category}}
  report: {reader: text, column: note}
tasks:
  sick: {kind: binary, column: "sick == 1"}
  death: {kind: survival, time: days, event: event, horizons_years: [1, 2]}
"""


def _people(count: int = 20) -> dict[str, Any]:
    numbers = np.arange(count)
    return {
        "subject": [f"s{n:03d}" for n in numbers],
        "split": ["train"] * (count - 8) + ["tuning"] * 4 + ["held_out"] * 4,
        "site": ["A", "B"] * (count // 2),
        "age": 40 + numbers,
        "sex": ["F", "M"] * (count // 2),
        "note": [f"finding number {n} in words" for n in numbers],
        "sick": numbers % 2,
        "days": 100 * numbers + 5,
        "event": numbers % 3 == 0,
    }


def _cohort(name: str = "people.csv") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "cohort.yaml").write_text(COHORT.replace("people.csv", name))
        _frame(_people(), folder / name)

    return write


def write_cohort(folder: Path) -> None:
    """Write a cohort of 20 people."""
    _cohort()(folder)


def _open(folder: Path) -> Any:
    from medmcl.data.check.check import check_people
    from medmcl.data.cohort.cohort import load_cohort

    cohort, findings = load_cohort(folder)
    if cohort is None or any(one.level == "error" for one in findings):
        raise RefusedError
    check_people(cohort, [*cohort.spec.modalities], [*cohort.usable_tasks])
    return [cohort.samples.astype(str).to_numpy().tolist(), [*cohort.spec.modalities]]


def _shards(folder: Path) -> None:
    import tarfile

    from PIL import Image

    with tarfile.open(folder / "people.tar", "w") as tar:
        for number in range(6):
            held = io.BytesIO()
            Image.fromarray(np.full((8, 8), 9 * number, np.uint8)).save(held, "png")
            parts = {"png": held.getvalue(), "txt": b"a finding",
                     "json": json.dumps({"age": number, "split": "train"}).encode()}  # fmt: skip
            for ending, content in parts.items():
                info = tarfile.TarInfo(f"{number:04d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _listed(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from medmcl.data.tables.files import read_table

        return read_table(folder, name).frame.astype(str).to_numpy().tolist()

    return read


def _events() -> dict[str, Any]:
    numbers = np.arange(60)
    return {
        "subject": [f"p{n // 6}" for n in numbers],
        "time": [f"2020-01-{1 + n % 28:02d} 10:00:00" for n in numbers],
        "code": [f"ICD10CM//I{n % 9}" for n in numbers],
    }


def _event_lines(folder: Path) -> None:
    table = _events()
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    (folder / "e.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _read_events(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from medmcl.data.events.tables import EventTable, read_events

        columns = {"subject": "subject", "time": "time", "code": "code"}
        table = EventTable(path=folder / name, name="e", columns=columns)
        return [rows.to_pylist() for rows in read_events(table)]

    return read


def _meds(folder: Path) -> None:
    import pandas as pd

    table = _events()
    table["subject_id"] = np.arange(60) // 6
    table["time"] = pd.to_datetime(table["time"]).astype("datetime64[us]")
    table["numeric_value"] = np.arange(60, dtype=np.float32)
    del table["subject"]
    _frame(table, folder / "m.parquet")


def _read_meds(folder: Path) -> Any:
    from medmcl.data.events.meds import read_shard

    return [repr(events) for events in read_shard(folder / "m.parquet", size=100)]


def _vectors(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        ids = [f"s{n:03d}" for n in range(20)]
        values = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
        if name.endswith(".npz"):
            np.savez_compressed(folder / name, ids=np.array(ids), vectors=values)
        else:
            columns = {f"e{n}": values[:, n] for n in range(6)}
            _frame({"subject": ids, **columns}, folder / name)

    return write


def _read_vectors(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from medmcl.stages.factorise.vector_files import read_vectors

        return read_vectors("v", folder / name, "subject").values

    return read


def _counts(folder: Path) -> None:
    from medmcl.cooccurrence.exchange.folder import save_counts
    from tests.support.small_counts import some_counts

    save_counts(some_counts(), folder / "counts")
    for file in (folder / "counts").iterdir():
        file.rename(folder / file.name)
    (folder / "counts").rmdir()


def _read_counts(folder: Path) -> Any:
    from medmcl.cooccurrence.exchange.folder import load_counts
    from tests.support.small_counts import numbers

    return repr(numbers(load_counts(folder)))


def _keep(folder: Path) -> None:
    from medmcl.selection.keep import Keep

    scores = {"clip": np.linspace(0, 1, 20)}
    kept = Keep(
        ids=np.arange(20), kept=scores["clip"] > 0.5, rule="half", cohort="c", scores=scores
    )
    kept.save(folder / "keep.parquet")


def _read_keep(folder: Path) -> Any:
    from medmcl.selection.keep import Keep

    found = Keep.load(folder / "keep.parquet")
    return [found.ids.tolist(), found.kept.tolist(), found.rule]


def _sealed_tree(folder: Path) -> None:
    from medmcl.core.sealed import sealed

    tree = {"stage": "contrast", "losses": [0.5, 0.25], "names": {"a": 1, "b": None}, "on": True}
    (folder / "done.json").write_text(json.dumps(sealed(tree)))


def _read_tree(folder: Path) -> Any:
    from medmcl.core.sealed import read_sealed

    return read_sealed(folder / "done.json")


def _save(name: str, values: Callable[[], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, values())


def _stores(stated: Mapping[str, Any]) -> dict[str, Format]:
    """ECGs of many people in one file or folder, where what reads them is installed."""
    found: dict[str, Format] = {}
    if find_spec("h5py"):
        read = ecg_format(_hdf5, "a.h5", "hdf5", axes="SL", ids="exam_id", row="exam", **stated)
        found["HDF5 of ECGs"] = replace(read, read=replace(read.read, values={"exam": 11}))
    if find_spec("zarr"):
        for part, damaged in {"chunk": "c/0/0/0", "zarr.json": "zarr.json"}.items():
            read = ecg_format(_zarr, "a.zarr", "zarr", f"a.zarr/tracings/{damaged}", axes="SL",
                              dataset="tracings", ids="exam_id", row="exam", **stated)  # fmt: skip
            found[f"Zarr, {part}"] = replace(read, read=replace(read.read, values={"exam": 11}))
    return found


def _genomes() -> dict[str, Format]:
    """Filesets of genotypes, and tables of dosages."""
    found: dict[str, Format] = {}
    plink = {"reader": "plink"}
    for part in ("bed", "bim", "fam"):
        read = Recorded("genetics", plink, {"path": "g.bed"})
        found[f"PLINK .{part}"] = Format(_plink, read, (f"g.{part}",))
    for part in ("pgen", "pvar", "psam") if find_spec("pgenlib") else ():
        read = Recorded("genetics", {"reader": "pgen"}, {"path": "g.pgen"})
        found[f"PLINK 2 .{part}"] = Format(_pgen, read, (f"g.{part}",))
    read = Recorded("genetics", {"reader": "dosages"}, {"dosages": "d.csv", "variants": "v.csv"})
    found["dosages"] = Format(_dosages, read, ("d.csv", "v.csv"))
    return found


def formats() -> dict[str, Format]:
    """Every format by name."""
    stated = {"rate_hz": RATE, "units": "mV"}
    cmr = {"mode": "cine_2dt", "frames": 3, "size": 8}
    graph: dict[str, Any] = {"reader": "connectivity"}
    small = {"size": 8, "channels": "colour"}
    found = {
        "WFDB header": ecg_format(_wfdb, "a", "wfdb", "a.hea"),
        "WFDB signal": ecg_format(_wfdb, "a", "wfdb", "a.dat", sealed=_has_other_sums),
        "MUSE XML": ecg_format(_muse, "a.xml", "muse_xml"),
        "UK Biobank XML": ecg_format(_ukb, "a.xml", "ukb_xml"),
        "HL7 aECG": ecg_format(_aecg, "a.xml", "aecg"),
        "EDF": ecg_format(_edf, "a.edf", "edf"),
        "DICOM waveform": ecg_format(_ecg_dicom, "a.dcm", "dicom"),
        "DICOM waveform, several groups": ecg_format(_ecg_groups, "a.dcm", "dicom"),
        "npy of an ECG": ecg_format(
            _save("a.npy", lambda: ecg() / 1000),
            "a.npy",
            "npy",
            axes="LS",
            leads=[*LEADS],
            **stated,
        ),
        "parquet, a column a lead": ecg_format(
            _ecg_table("a.parquet"), "a.parquet", "parquet", **stated
        ),
        "parquet, a list a lead": ecg_format(_ecg_lists, "a.parquet", "parquet", **stated),
        "csv of an ECG": ecg_format(_ecg_table("a.csv"), "a.csv", "parquet", **stated),
        "csv.gz of an ECG": ecg_format(
            _ecg_table("a.csv.gz"), "a.csv.gz", "parquet", sealed=True, **stated
        ),
    }
    found |= _stores(stated)
    for name in ("a.nii", "a.nii.gz"):
        read = Recorded("cmr", {"reader": "nifti", "axes": "xyzt"}, {"path": name}, cmr)
        found[f"NIfTI {name[1:]}"] = Format(_nifti(name), read, (name,), sealed="gz" in name)
    for part in ("hdr", "img"):
        read = Recorded("cmr", {"reader": "nifti", "axes": "xyzt"}, {"path": "a.img"}, cmr)
        found[f"Analyze .{part}"] = Format(_analyze, read, (f"a.{part}",))
    pictures = {"PNG": "a.png", "JPEG": "a.jpg", "TIFF": "a.tif", "BMP": "a.bmp", "GIF": "a.gif"}
    for name, file in pictures.items():
        read = Recorded("image", {"reader": "image"}, {"path": file}, small)
        found[name] = Format(_picture(file), read, (file,), sealed=name == "PNG")
    read = Recorded("image", {"reader": "dicom"}, {"path": "a.dcm"}, {"size": 8})
    found["DICOM image"] = Format(_image_dicom, read, ("a.dcm",))
    series = {
        "DICOM cine, a file an image": (_series, ".", "IM0004", False),
        "DICOM cine, enhanced": (_enhanced, "a.dcm", "a.dcm", False),
        "DICOM cine in a zip": (_zip, "a.zip", "a.zip", True),
        "DICOM cine in zips of a folder": (_zips, ".", "1.zip", True),
    }
    for name, (write, path, damaged, sealed) in series.items():
        read = Recorded("cmr", {"reader": "dicom"}, {"path": path}, cmr)
        found[name] = Format(write, read, (damaged,), sealed)
    saves: dict[str, Callable[[Path], object]] = {
        "a.npy": _save("a.npy", _matrix),
        "a.npz": lambda folder: np.savez_compressed(folder / "a.npz", a=_matrix()),
        "a.csv": lambda folder: np.savetxt(folder / "a.csv", _matrix(), delimiter=","),
        "a.txt": lambda folder: np.savetxt(folder / "a.txt", _matrix()),
    }
    for file, save in saves.items():
        read = Recorded("graph", graph, {"path": file})
        found[f"graph {file[1:]}"] = Format(save, read, (file,), sealed=file == "a.npz")
    read = Recorded("graph", {"reader": "edge_list"}, {"path": "a.csv"})
    found["edge list"] = Format(_edges, read, ("a.csv",))
    found |= _genomes()
    read = Recorded(
        "text", {"reader": "text"}, {"path": "a.txt"}, {"max_tokens": 12, "min_count": 1}
    )
    found["text"] = Format(
        lambda folder: (folder / "a.txt").write_text("The heart is not enlarged.\n" * 4),
        read,
        ("a.txt",),
    )
    found["cohort.yaml"] = Format(_cohort(), _open, ("cohort.yaml",))
    for name in ("people.csv", "people.tsv", "people.parquet", "people.csv.gz"):
        read = _open if name == "people.csv" else _listed(name)  # the cohort takes 30 times as long
        found[f"table {name[6:]}"] = Format(_cohort(name), read, (name,), sealed="gz" in name)
    found["tar shards"] = Format(_shards, _listed("people.tar"), ("people.tar",))
    found["events .csv"] = Format(
        lambda f: _frame(_events(), f / "e.csv"), _read_events("e.csv"), ("e.csv",)
    )
    found["events .jsonl"] = Format(_event_lines, _read_events("e.jsonl"), ("e.jsonl",))
    found["events .parquet"] = Format(
        lambda f: _frame(_events(), f / "e.parquet"), _read_events("e.parquet"), ("e.parquet",)
    )
    found["MEDS shard"] = Format(_meds, _read_meds, ("m.parquet",))
    for name in ("v.csv", "v.parquet", "v.npz"):
        found[f"vectors {name[1:]}"] = Format(
            _vectors(name), _read_vectors(name), (name,), sealed=name == "v.npz"
        )
    found["counts"] = Format(
        _counts, _read_counts, ("manifest.json", "vocabulary.parquet"), sealed=False
    )
    found["keep file"] = Format(_keep, _read_keep, ("keep.parquet",))
    found["done.json of a run"] = Format(_sealed_tree, _read_tree, ("done.json",), sealed=True)
    return {**found, **own_formats(), **model_formats()}
