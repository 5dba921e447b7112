"""Public sample files of each format, as medmcl reads them, and the picture of what it reads.

    python -m benchmarks.evaluation.samples_read [--further FOLDER]

Samples are those that come with pydicom, nibabel, bed-reader and matplotlib; FOLDER may hold
checkouts of the repositories in `FURTHER`, by ``owner+name``. Nothing of them is kept but what was
read. The figure, of samples from the packages and of a simulated heart, goes to ``docs/figures``.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import ROOT, Row, Study, table
from medmcl.core.errors import RecordError

FIGURE = ROOT / "docs" / "figures" / "formats.png"
ECG = ("ecg", {"reader": "ecg"})
ANALYZE = ("image", {"reader": "nifti", "orient": "stored"})
FURTHER: dict[str, tuple[str, str, str, Mapping[str, Any]]] = {
    "perottelab+IntroECG": ("GE MUSE XML", "1-Waveform Extraction/*.xml", *ECG),
    "BIVectors+BRAVEHEART": ("GE MUSE XML", "Example ECGs/*.xml", *ECG),
    "sixlettervariables+sierra-ecg-tools": ("Philips XML", "examples/xml/1_03/*.XML", *ECG),
    "FDA+aecg-python": ("HL7 aECG", "src/aecg/data/**/Example aECG.xml", *ECG),
    "holgern+pyedflib": ("EDF", "pyedflib/tests/data/*.edf", *ECG),
    "cran+AnalyzeFMRI": ("Analyze", "inst/example.hdr", *ANALYZE),
    "chrchang+plink-ng": ("PLINK 2", "2.0/**/*.pgen", "genetics", {"reader": "pgen"}),
}
"""Repository to the format of its samples, where they lie, and what a cohort says of them."""
CODE15 = "bowang-lab+ECG-FM"
"""Holds signals of CODE-15 as .mat; they are written into the layout of its HDF5 files here."""
SERIES = ("98892001/CT5N", "77654033/CT2", "98892003/MR1", "98892003/MR700")
"""Folders of pydicom's samples: a series, one with slices missing, several, one round an axis."""


@dataclass(frozen=True)
class Sample:
    """A file, or folder, that somebody else published, and what a cohort says of it."""

    form: str
    origin: str
    path: Path
    kind: str
    source: Mapping[str, Any]
    subject: str = "1"

    def read(self) -> Any:
        """Give the record that an adapter reads."""
        from medmcl.core.contracts import RecordRef
        from medmcl.modalities import ADAPTERS

        adapter = ADAPTERS[self.kind]
        reads = adapter(adapter.Source(**self.source), adapter.Settings())
        place = RecordRef(subject=self.subject, record="1", paths={"path": self.path},
                          values={"subject": self.subject})  # fmt: skip
        return reads.read(place)


def package(name: str, *parts: str) -> Path:
    """A file that comes with a package, which may be absent."""
    found = find_spec(name)
    return Path(str(found.origin)).parent.joinpath(*parts) if found else Path("absent")


def samples(further: Path | None, work: Path) -> Iterator[Sample]:
    """Give the samples that are there."""
    dicom = package("pydicom", "data", "test_files")
    nifti = package("nibabel", "tests", "data")
    packed = package("nibabel", "nicom", "tests", "data", "philips_mprage.dcm.gz")
    image = {"reader": "dicom", "orient": "stored"}
    found = [
        Sample("DICOM waveforms", "pydicom", dicom / "waveform_ecg.dcm", *ECG),
        Sample("DICOM, a slice", "pydicom", dicom / "MR_small.dcm", "cmr", {"reader": "dicom"}),
        *(Sample("DICOM, a series", "pydicom", dicom / "dicomdirtests" / one, "image", image) for one in SERIES),
        Sample("DICOM, an image", "pydicom", dicom / "CT_small.dcm", "image", {"reader": "dicom"}),
        Sample("NIfTI, 3-D", "nibabel", nifti / "anatomical.nii", "image", {"reader": "nifti"}),
        Sample("NIfTI, 4-D", "nibabel", nifti / "functional.nii", "cmr", {"reader": "nifti", "axes": "xyzt"}),
        Sample("JPEG", "matplotlib", package("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg"),
               "image", {"reader": "image"}),
        Sample("PLINK 1", "bed-reader", package("bed_reader", "tests", "data", "toydata.5chrom.bed"),
               "genetics", {"reader": "plink"}, "per0"),
    ]  # fmt: skip
    if packed.is_file():
        (work / "mprage.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
        found.append(Sample("DICOM, enhanced", "nibabel", work / "mprage.dcm", "image", image))
    for name, (form, pattern, kind, source) in FURTHER.items() if further else ():
        origin = name.replace("+", "/")
        who = "HG00096" if kind == "genetics" else "1"
        files = sorted((further / name).glob(pattern))
        found += [Sample(form, origin, one, kind, source, who) for one in files]
    if further and (further / CODE15).is_dir():
        found += code15(further / CODE15, work / "exams_part0.hdf5")
    yield from (one for one in found if one.path.exists())


def code15(folder: Path, file: Path) -> list[Sample]:
    """Signals of CODE-15 in its layout: (N, 4096, 12), zeros before and behind, a last row of them."""
    import h5py
    from scipy.io import loadmat

    read = [loadmat(one)["feats"].T for one in sorted(folder.glob("data/code_15/org/*.mat"))]
    rows = np.zeros((len(read) + 1, 4096, 12), dtype=np.float32)
    for row, signal in zip(rows, read, strict=False):
        before = (4096 - len(signal)) // 2
        row[before : before + len(signal)] = signal
    with h5py.File(file, "w") as held:
        held["tracings"], held["exam_id"] = rows, np.arange(len(rows))
    source = {"reader": "hdf5", "dataset": "tracings", "ids": "exam_id", "row": "subject",
              "axes": "SL", "rate_hz": 400, "units": "mV", "trim": "zeros"}  # fmt: skip
    return [Sample("HDF5, CODE-15", CODE15.replace("+", "/"), file, "ecg", source)]


def told(sample: Sample) -> Row:
    """What was read of a sample."""
    row: Row = {"format": sample.form, "from": sample.origin, "file": sample.path.name}
    try:
        raw = sample.read()
    except RecordError as error:
        said = str(error).partition("\n")[0].removeprefix(f"{sample.path}: ")
        return {**row, "read": f"refused: {said}"}
    if sample.kind == "ecg":
        from medmcl.modalities.ecg.leads import TWELVE

        row["read"] = f"{len(raw.leads)} signals x {raw.signal_mv.shape[1]} samples"
        row["known leads"] = len(set(raw.leads) & set(TWELVE))
        row["states"] = f"{raw.rate_hz:g} Hz, {raw.units}"
        row["range"] = [float(np.nanmin(raw.signal_mv)), float(np.nanmax(raw.signal_mv))]
    elif sample.kind == "genetics":
        left_out = raw.variants.left_out
        row["read"] = f"{len(raw.dosage)} variants" + (f", {left_out} left out" if left_out else "")
    else:
        values = raw.voxels if sample.kind == "cmr" else raw.pixels
        row["read"] = " x ".join(map(str, values.shape))
        known = [f"{one:g}" for one in raw.spacing_mm or () if np.isfinite(one)]
        row["states"] = f"{' x '.join(known)} mm" if known else ""
        row["range"] = [float(values.min()), float(values.max())]
    return row


def run(given: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        found = list(samples(given.further, Path(place)))
        rows = [told(one) for one in found]
        draw({one.form: one for one in reversed(found)}, Path(place))
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--further", type=Path, help="folder of checkouts, by owner+name")


Panel = tuple[str, str, Callable[[Any], None]]
"""Heading, what lies in the folder, and who draws what was read."""


def panels(found: Mapping[str, Sample], work: Path) -> list[Panel]:
    """The picture: a layout, and what comes of it."""
    import nibabel

    from medmcl.simulation.kinds import simulate
    from tests.support.series_dicom import square, write_series

    simulate("heart", work / "heart", {"subjects": 4, "form": "files"})
    one = sorted((work / "heart" / "ecg").glob("*.hea"))[0]
    ecg = Sample("", "", one, *ECG).read()
    cine = sorted(p for p in (work / "heart" / "cmr").glob("*.nii.gz") if "mask" not in p.name)[0]
    nifti = Sample("", "", cine, "cmr", {"reader": "nifti", "axes": "xyzt"}).read()
    voxels = np.asarray(nibabel.load(cine).dataobj).T.astype(np.uint16)
    write_series(work / "d", voxels, square((1.8, 1.8, 8.0)))
    dicom = Sample("", "", work / "d", "cmr", {"reader": "dicom"}).read()
    rng = np.random.default_rng(0)
    series = rng.normal(size=(80, 24)) + 2 * rng.normal(size=(80, 3)).repeat(8, axis=1)

    def trace(raw: Any, lead: str = "II") -> Callable[[Any], None]:
        row = raw.signal_mv[list(raw.leads).index(lead)][: round(3 * raw.rate_hz)]
        return lambda axes: axes.plot(np.arange(len(row)) / raw.rate_hz, row, "k", linewidth=0.6)

    def grey(picture: Any, **more: Any) -> Callable[[Any], None]:
        return lambda axes: axes.imshow(picture, cmap="gray", **more)

    def words(text: str) -> Callable[[Any], None]:
        return lambda axes: axes.text(0.02, 0.95, text, va="top", family="monospace", fontsize=6.5,
                                      transform=axes.transAxes)  # fmt: skip

    middle = nifti.voxels.shape[1] // 2
    head = found["NIfTI, 3-D"].read().pixels[0]
    scan, image = found["DICOM, a slice"].read().voxels, found["DICOM, an image"].read().pixels
    return [
        ("ECG: WFDB, EDF", "ecg/s001.hea  ecg/s001.dat\nor ecg/s001.edf", trace(ecg)),
        ("ECG: DICOM waveforms", "ecg/s001.dcm", trace(found["DICOM waveforms"].read())),
        ("ECG: MUSE, UK Biobank, aECG", "ecg/s001.xml", trace(ecg, "V2")),
        ("ECG: npy, HDF5, Zarr, parquet", "all.npy  (N, 12, S)\ncolumn ecg_row: 17",
         grey(np.vstack([ecg.signal_mv[:, :200]] * 3), aspect="auto")),
        ("Cardiac MR: NIfTI, 4-D", "cmr/s001.nii.gz  axes: xyzt", grey(nifti.voxels[0, middle])),
        ("Cardiac MR: DICOM", "cmr/s001/IM0001 ...\nor cmr/s001.zip", grey(dicom.voxels[0, middle])),
        ("Cardiac MR: ED and ES", "s001_ed.nii.gz\ns001_es.nii.gz",
         grey(np.hstack([nifti.voxels[0, middle], nifti.voxels[nifti.voxels.shape[0] // 3, middle]]))),
        ("MR volumes: NIfTI", "mri/s001.nii.gz\nor .hdr and .img (Analyze)", grey(head[head.shape[0] // 2])),
        ("MR volumes: DICOM", "mri/s001/IM0001 ...\nor one enhanced file", grey(scan[0, 0])),
        ("Images: JPEG, PNG, DICOM", "xray/s001.jpg", grey(image[0], vmin=image.min() + 900)),
        ("Brain graphs", "fc/s001.npy  (R, R)\nor ts/s001.1D", grey(np.corrcoef(series.T))),
        ("Genotypes: PLINK 1, 2", "g.bed  g.bim  g.fam\nor g.pgen  g.pvar  g.psam", grey(_dosages(found["PLINK 1"]), aspect="auto")),
        ("Table", "participants.csv  or .csv.gz", words("subject_id,age,sex,dx\ns001,61,F,case\ns002,55,M,control\ns003,n/a,F,")),
        ("Health record: MEDS, OMOP", "data/train/0.parquet\nor condition_occurrence.csv", words("subject_id time       code\n      1001 2150-03-02 ICD10//I50\n      1001 2150-03-05 RX//D14\n      1002 2150-07-19 ICD10//E11")),
        ("Reports", "notes/s001.txt\nor a column", words("Sinus rhythm. Left axis.\nInferior infarct,\nage undetermined.")),
        ("Images with captions", "shards/000.tar", words("0000.jpg\n0000.txt\n0000.json\n0001.jpg ...")),
    ]  # fmt: skip


def _dosages(sample: Sample) -> np.ndarray:
    from bed_reader import open_bed

    with open_bed(sample.path) as file:
        return np.asarray(file.read(np.s_[:30, :60]))


def draw(found: Mapping[str, Sample], work: Path) -> None:
    """Every panel, with its files below."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 8, "image.interpolation": "none"})
    shown = panels(found, work)
    shape = {"figsize": (8.4, 7.4), "gridspec_kw": {"height_ratios": [1, 1, 1, 0.4]}}
    figure, grid = plt.subplots(4, 4, layout="constrained", **shape)
    for axes, (heading, files, paint) in zip(grid.flat, shown, strict=True):
        paint(axes)
        axes.set(xticks=[], yticks=[])
        axes.set_title(heading, fontsize=8, fontweight="bold", loc="left")
        axes.set_xlabel(files, family="monospace", fontsize=6.5, loc="left")
    figure.savefig(FIGURE, metadata={"Software": None}, dpi=100)
    plt.close(figure)


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {"format": "format", "sample of": "from", "file": "file", "what was read": "read",
               "leads by name": "known leads", "rate and unit, or spacing": "states"}  # fmt: skip
    return {"samples": table(columns, rows)}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
