"""A cine as DICOM, in a folder, a zip and an enhanced object, beside the same cine as NIfTI.

    python -m benchmarks.heart.cine_formats [--subjects 8] [--acdc]

Simulated hearts, and the two frames of ACDC's patients, are written as DICOM and as NIfTI and read
back. CPU seconds are of one thread, in one run, each the least of three readings. The figure goes
to ``docs/figures``.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import ROOT, Row, Study, number, table

FIGURE = ROOT / "docs" / "figures" / "cine_dicom.svg"
FORMS = {"folder": "a file an image, in a folder", "zip": "the same in a zip",
         "enhanced": "one enhanced object"}  # fmt: skip
SHOWN = (0, 4, 8, 12)
"""Frames of the figure."""


def hearts(subjects: int, folder: Path) -> Iterator[np.ndarray]:
    """Simulated cines, (T, Z, Y, X) of whole numbers."""
    import nibabel

    from medmcl.simulation.kinds import simulate

    simulate("heart", folder, {"subjects": subjects, "form": "files"})
    for path in sorted((folder / "cmr").glob("*.nii.gz")):
        if "mask" not in path.name:
            yield np.asarray(nibabel.load(path).dataobj).T


def patients(acdc: Path) -> Iterator[np.ndarray]:
    """ED and ES of each patient of ACDC."""
    import nibabel

    for folder in sorted(acdc.glob("patient*")):
        files = sorted(folder.glob("*_frame??.nii.gz"))
        yield np.stack([np.asarray(nibabel.load(one).dataobj).T for one in files])


def written(voxels: np.ndarray, folder: Path, spacing: tuple[float, ...]) -> dict[str, Path]:
    """Write a cine in every form, obliquely."""
    import nibabel

    from tests.support.series_dicom import square, write_enhanced, write_series, zipped

    whole, affine = voxels.astype(np.uint16), square(spacing)
    write_series(folder / "d", whole, affine)
    nibabel.save(nibabel.Nifti1Image(whole.T, affine), folder / "a.nii.gz")
    return {
        "nifti": folder / "a.nii.gz",
        "folder": folder / "d",
        "zip": zipped(folder / "d", folder / "a.zip"),
        "enhanced": write_enhanced(folder / "a.dcm", whole, affine),
    }


def read(path: Path) -> Any:
    """Read a cine as a cohort does."""
    from medmcl.core.contracts import RecordRef
    from medmcl.modalities.cmr.adapter import CMR, CMRSettings, CMRSource

    is_nifti = path.name.endswith(".nii.gz")
    source = {"reader": "nifti", "axes": "xyzt"} if is_nifti else {"reader": "dicom"}
    cmr = CMR(CMRSource.model_validate(source), CMRSettings(frames=1))
    return cmr.read(RecordRef(subject="s", record="r", paths={"path": path}))


def seconds(path: Path) -> float:
    """CPU seconds of reading, the least of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        read(path)
        found.append(time.process_time() - began)
    return min(found)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        sources = {"simulated hearts": hearts(given.subjects, work / "hearts")}
        if given.acdc:
            sources["ACDC, ED and ES"] = patients(Path(os.environ["MEDMCL_DATA"]) / "acdc")
        rows: list[Row] = []
        for data, cines in sources.items():
            told: dict[str, list[Row]] = {form: [] for form in FORMS}
            for count, voxels in enumerate(cines):
                paths = written(voxels, work / f"{len(rows)}_{count}", (1.8, 1.8, 8.0))
                base, plain = read(paths["nifti"]), seconds(paths["nifti"])
                if not rows and not count:
                    draw(base.voxels, read(paths["folder"]).voxels)
                for form in FORMS:
                    one = read(paths[form])
                    told[form].append({
                        "equal": bool(np.array_equal(one.voxels, base.voxels)
                                      and one.orientation == base.orientation),
                        "mm": float(np.abs(np.subtract(one.spacing_mm, base.spacing_mm)).max()),
                        "times": seconds(paths[form]) / plain,
                        "images": voxels.shape[0] * voxels.shape[1],
                    })  # fmt: skip
            rows += [{
                "data": data, "form": form, "cines": len(ones),
                "images": math.floor(np.median([one["images"] for one in ones])),
                "equal": sum(one["equal"] for one in ones),
                "mm": round(max(one["mm"] for one in ones), 7),
                "times": round(float(np.median([one["times"] for one in ones])), 1),
            } for form, ones in told.items()]  # fmt: skip
            yield rows


def draw(nifti: np.ndarray, dicom: np.ndarray) -> None:
    """Some frames of the middle slice of both, and their difference."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "medmcl", "image.interpolation": "none"})
    middle = nifti.shape[1] // 2
    rows = {"NIfTI, 4-D": nifti, "DICOM folder": dicom, "difference": np.abs(nifti - dicom)}
    top = float(nifti.max())
    figure, panels = plt.subplots(3, len(SHOWN), figsize=(5.2, 4.0), layout="constrained")
    for line, (name, voxels) in zip(panels, rows.items(), strict=True):
        for axes, frame in zip(line, SHOWN, strict=True):
            axes.imshow(voxels[frame, middle, ::-1], cmap="gray", vmin=0, vmax=top)
            axes.set(xticks=[], yticks=[])
            if voxels is nifti:
                axes.set_title(f"frame {frame}")
        line[0].set_ylabel(name)
    figure.savefig(FIGURE, metadata={"Date": None})
    plt.close(figure)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--acdc", action="store_true", help="also ACDC, in the folder MEDMCL_DATA")


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "cines": "data", "n": "cines", "as": lambda row: FORMS[row["form"]],
        "images of a cine": "images", "equal to NIfTI, every voxel": "equal",
        "largest difference of spacing, mm": number("mm", "g"),
        "CPU time of reading, times that of `.nii.gz`": number("times", ".1f"),
    }  # fmt: skip
    return {"cines": table(columns, rows)}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
