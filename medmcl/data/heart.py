"""The simulated heart cohort: ECG, cardiac MR, phenotypes and outcomes from one state a subject.

The state (`heart_state`) drives images, phenotypes, labels and survival. The ECG is driven by a
state whose latents correlate with the subject's by ``coupling``: 1 = the same state, 0 = an
independent draw, so that nothing in the ECG tells of the subject, age, sex and heart rate
included. Subjects are drawn in blocks with a random stream each, so that a subject's content
does not depend on how many are simulated.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from medmcl.core.config import Config
from medmcl.core.errors import CohortError
from medmcl.core.rng import numpy_generator
from medmcl.data import heart_cmr, heart_ecg, heart_files
from medmcl.data.heart_cohort import cohort_trees, readme, write_yaml
from medmcl.data.heart_state import (
    LATENTS,
    Array,
    HeartState,
    couple,
    heart_failure,
    heart_state,
    log_hazard,
    phenotypes,
)

logger = logging.getLogger(__name__)
Share = Annotated[float, Field(ge=0, le=1)]
BLOCK = 128  # subjects drawn at a time; part of the content, as the seed is


class HeartSettings(Config):
    """How large, how noisy and how coupled a simulated heart cohort is."""

    subjects: PositiveInt = Field(default=100, description="number of subjects")
    seed: int = Field(default=0, description="same seed, same bytes")
    coupling: Share = Field(
        default=1.0, description="correlation of the latents behind ECG and CMR; 0 = unrelated"
    )
    ecg_noise_mv: NonNegativeFloat = Field(
        default=0.02, description="electrode noise, standard deviation of the median subject"
    )
    cmr_noise: NonNegativeFloat = Field(
        default=0.04, description="noise of a pixel, standard deviation; blood is near 1"
    )
    missing_ecg: Share = Field(default=0.0, description="share of subjects without an ECG")
    missing_cmr: Share = Field(
        default=0.0, description="share of those with an ECG who have no CMR (and no phenotypes)"
    )
    missing_clinic: Share = Field(
        default=0.05, description="share of empty cells for BMI; half of it for age"
    )
    tuning: Share = Field(default=0.1, description="share of subjects in the tuning split")
    held_out: Share = Field(default=0.2, description="share of subjects in the held-out split")
    sites: PositiveInt = Field(default=3, description="scanners; they differ in contrast")
    form: Literal["files", "shards", "both"] = Field(
        default="files",
        description="files: WFDB and NIfTI; shards: memory-mapped arrays, for many subjects; "
        "both: shards, and files of everyone (or of the first files_subset)",
    )
    files_subset: NonNegativeInt = Field(
        default=0, description="shards, both: subjects that lie as real files too"
    )
    ecg_rate_hz: Literal[50, 100, 125, 250, 500] = Field(
        default=100, description="shards; files have 500 Hz"
    )
    ecg_seconds: Annotated[float, Field(ge=1, le=10)] = Field(
        default=5.0, description="shards; files have 10 s"
    )
    cmr_size: Annotated[int, Field(ge=8, le=512)] = Field(
        default=32, description="shards: pixels along a side of the field of 153.6 mm"
    )
    cmr_frames: Annotated[int, Field(ge=1, le=64)] = Field(
        default=3,
        description="shards: 1 = ED; 2 = ES, ED; 3 = ES, mid, ED; 4 = these and mid-diastole; "
        "more = evenly over the cycle from ED",
    )
    cmr_slices: Annotated[int, Field(ge=1, le=11)] = Field(
        default=1, description="shards: 1 = the middle slice; more = evenly from base to apex"
    )
    cmr_file_size: Annotated[int, Field(ge=16, le=512)] = Field(
        default=96, description="files: pixels along a side of the field"
    )
    dtype: Literal["float16", "float32"] = Field(default="float16", description="of the shards")
    recipe: str = Field(default="ecg_cmr_toy", description="default recipe of the cohort")
    overwrite: bool = Field(default=False, description="replace an earlier simulated cohort")

    @model_validator(mode="after")
    def _check(self) -> HeartSettings:
        if self.tuning + self.held_out >= 1:
            raise ValueError("tuning + held_out must leave something to train on")
        if self.form == "files" and self.files_subset:
            raise ValueError("files_subset belongs to form: shards or both")
        return self

    @property
    def has_shards(self) -> bool:
        """Whether memory-mapped arrays are written."""
        return self.form != "files"

    @property
    def num_files(self) -> int:
        """Subjects written as WFDB and NIfTI: the first ones."""
        everyone = self.form == "files" or (self.form == "both" and not self.files_subset)
        return self.subjects if everyone else min(self.files_subset, self.subjects)

    @property
    def shard_slices(self) -> Array:
        """Numbers of the shard's slices in the full stack."""
        if self.cmr_slices == 1:
            return np.array([heart_cmr.STACK // 2])
        first = heart_cmr.ABOVE_BASE
        return np.round(np.linspace(first, first + 8, self.cmr_slices)).astype(int)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Subjects drawn together.

    Attributes:
        first: Number of the first one.
        state: Drives CMR, phenotypes and outcomes.
        electric: Drives the ECG.
        ecg: What else shapes the ECG.
        cmr: What else shapes the CMR.
        table: Columns of the participants table.
        noise: Stream of the noise in the shard's images.
    """

    first: int
    state: HeartState
    electric: HeartState
    ecg: heart_ecg.EcgNuisance
    cmr: heart_cmr.CmrNuisance
    table: dict[str, Array]
    noise: np.random.Generator

    def ecg_signal(self, settings: HeartSettings, rows: Array, rate_hz: int, seconds: float) -> Any:
        """ECGs of some rows, (N, 12, S) in mV."""
        state, nuisance = self.electric.take(rows), self.ecg.take(rows)
        return heart_ecg.render_ecg(state, nuisance, rate_hz, seconds, settings.ecg_noise_mv)


def draw_block(settings: HeartSettings, number: int) -> Block:
    """Draw subjects ``number * BLOCK`` and following: always a whole block."""

    def stream(purpose: str) -> np.random.Generator:
        return numpy_generator(settings.seed, "heart", number, purpose)

    latents = stream("state").standard_normal((BLOCK, len(LATENTS)))
    others = stream("other state").standard_normal((BLOCK, len(LATENTS)))
    state = heart_state(latents)
    cmr = heart_cmr.draw_nuisance(BLOCK, settings.sites, stream("cmr"))
    return Block(
        first=number * BLOCK,
        state=state,
        electric=heart_state(couple(latents, others, settings.coupling)),
        ecg=heart_ecg.draw_nuisance(BLOCK, stream("ecg")),
        cmr=cmr,
        table=_table(settings, number * BLOCK, state, cmr, stream("table")),
        noise=stream("cmr noise"),
    )


def simulate_heart(out: Path, settings: HeartSettings) -> Path:
    """Write a cohort folder; it appears whole or not at all.

    It holds ``participants.tsv``, ``cohort.yaml``, ``README.md``, ``truth.parquet`` (the states
    of CMR and ECG), and ``ecg/``, ``cmr/`` (files) or ``shards/``; with shards and files,
    ``cohort_files.yaml`` reads the files of those who have them.

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
    """
    out = Path(out).absolute()
    _refuse_foreign(out, settings.overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        _write(partial, settings)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _refuse_foreign(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise CohortError("is a file, not a folder", where=out, mend="choose another --out")
    if not any(out.iterdir()):
        return
    is_ours = (out / "truth.parquet").is_file() and (out / "cohort.yaml").is_file()
    if not overwrite:
        mend = "choose a new folder" + (", or --set overwrite=true" if is_ours else "")
        raise CohortError("the folder is not empty", where=out, mend=mend)
    if not is_ours:
        raise CohortError(
            "only an earlier simulated cohort is overwritten, and this is none",
            where=out,
            mend="choose a new folder, or empty this one by hand",
        )


def _write(folder: Path, settings: HeartSettings) -> None:
    tables, truths = [], []
    shards = _Shards(folder / "shards", settings) if settings.has_shards else None
    for block in _blocks(settings):
        count = min(BLOCK, settings.subjects - block.first)
        if shards is not None:
            shards.add(block, count)
        _write_files(folder, settings, block, min(settings.num_files - block.first, count))
        tables.append({name: values[:count] for name, values in block.table.items()})
        truths.append({name: values[:count] for name, values in _truth(block).items()})
    if shards is not None:
        shards.close()
    table = pd.concat([pd.DataFrame(part) for part in tables], ignore_index=True)
    _number_rows(table, settings)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    truth = pd.concat([pd.DataFrame(part) for part in truths], ignore_index=True)
    truth.to_parquet(folder / "truth.parquet", index=False)
    for name, tree in cohort_trees(settings).items():
        write_yaml(folder / name, tree)
    (folder / "README.md").write_text(readme(settings), encoding="utf-8")


def _blocks(settings: HeartSettings) -> Iterator[Block]:
    for number in range(-(-settings.subjects // BLOCK)):
        yield draw_block(settings, number)


def _table(
    settings: HeartSettings,
    first: int,
    state: HeartState,
    cmr: heart_cmr.CmrNuisance,
    generator: np.random.Generator,
) -> dict[str, Array]:
    """Columns of the participants table of one block."""
    uniform = generator.random((5, BLOCK))
    measured = phenotypes(state, generator)
    outcome = heart_failure(state, generator)
    number = np.arange(first, first + BLOCK)
    has_ecg = uniform[1] >= settings.missing_ecg
    has_cmr = ~has_ecg | (uniform[2] >= settings.missing_cmr)
    tail = 1 - settings.held_out
    split = np.select(
        [uniform[0] >= tail, uniform[0] >= tail - settings.tuning],
        ["held_out", "tuning"],
        "train",
    )
    systole = heart_cmr.end_systole(state)
    known_age = uniform[3] >= settings.missing_clinic / 2
    known_bmi = uniform[4] >= settings.missing_clinic
    return {
        "subject_id": np.array([f"sub-{value:06d}" for value in number]),
        "split": split,
        "site": np.array([f"site-{value}" for value in cmr.site]),
        "age": np.where(known_age, state.age.round(1), np.nan),
        "sex": np.where(state.is_male, "M", "F"),
        "bmi": np.where(known_bmi, state.bmi.round(1), np.nan),
        "has_ecg": has_ecg.astype(int),
        "has_cmr": has_cmr.astype(int),
        "has_files": (number < settings.num_files).astype(int),
        "cine_ed": np.zeros(BLOCK, int),
        "cine_mid": systole // 2,
        "cine_es": systole,
        **{name: np.where(has_cmr, v.round(2), np.nan) for name, v in measured.items()},
        "infarct": (state.territory > 0).astype(int),
        "conduction": state.columns()["conduction"],
        **outcome,
    }


def _number_rows(table: pd.DataFrame, settings: HeartSettings) -> None:
    """Rows of the shards, and the frames in them; empty for who has none."""
    if not settings.has_shards:
        return
    for kind in ("ecg", "cmr"):
        present = table[f"has_{kind}"] == 1
        table[f"{kind}_row"] = (present.cumsum() - 1).where(present).astype("Int64")
    frames = shard_frames(settings.cmr_frames, table["cine_es"].to_numpy())
    for name in ("ed", "mid", "es"):
        wanted = table[f"cine_{name}"].to_numpy()[:, None]
        table[f"shard_{name}"] = np.abs(frames - wanted).argmin(axis=1)


def _truth(block: Block) -> dict[str, Array]:
    return {
        "subject_id": block.table["subject_id"],
        **block.state.columns(),
        "log_hazard": log_hazard(block.state),
        **block.electric.columns("ecg_"),
        "ecg_qrs_ms": heart_ecg.qrs_duration(block.electric, block.ecg),
        "site_number": block.cmr.site,
    }


def shard_frames(number: int, systole: Array) -> Array:
    """Frames of the full cycle that a shard holds, in its order, (N, number)."""
    start = np.zeros_like(systole)
    late = (systole + heart_cmr.CYCLE) // 2
    few = {
        1: [start],
        2: [systole, start],
        3: [systole, systole // 2, start],
        4: [systole, systole // 2, start, late],
    }
    if number in few:
        return np.stack(few[number], axis=1)
    even = np.arange(number) * heart_cmr.CYCLE / number
    return np.broadcast_to(even, (len(systole), number))


class _Shards:
    """Memory-mapped arrays, filled block by block; rows only for who has the modality."""

    def __init__(self, folder: Path, settings: HeartSettings) -> None:
        folder.mkdir()
        self.folder, self.settings = folder, settings
        samples = round(settings.ecg_seconds * settings.ecg_rate_hz)
        size = settings.cmr_size
        depth = () if settings.cmr_slices == 1 else (settings.cmr_slices,)
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "ecg": ((12, samples), settings.dtype),
            "cmr": ((settings.cmr_frames, *depth, size, size), settings.dtype),
            "heart_mask": ((*depth, size, size), "bool"),
        }
        self.arrays = {
            name: np.lib.format.open_memmap(  # cut to the rows that exist at the end
                folder / f"{name}.npy", "w+", dtype, (settings.subjects, *shape)
            )
            for name, (shape, dtype) in shapes.items()
        }
        self.filled = dict.fromkeys(self.arrays, 0)

    def add(self, block: Block, count: int) -> None:
        """Render the first ``count`` subjects of a block."""
        settings = self.settings
        rows = np.flatnonzero(block.table["has_ecg"][:count])
        signal = block.ecg_signal(settings, rows, settings.ecg_rate_hz, settings.ecg_seconds)
        self._append("ecg", signal)
        images, labels = _shard_images(settings, block)
        rows = np.flatnonzero(block.table["has_cmr"][:count])
        self._append("cmr", images[rows])
        self._append("heart_mask", labels[rows] > 0)

    def _append(self, name: str, values: Array) -> None:
        start = self.filled[name]
        self.arrays[name][start : start + len(values)] = values
        self.filled[name] = start + len(values)

    def close(self) -> None:
        """Flush, and cut off rows that nobody has."""
        for name, array in self.arrays.items():
            array.flush()
            if self.filled[name] < len(array):
                np.save(self.folder / "cut.npy", array[: self.filled[name]])
                (self.folder / "cut.npy").replace(self.folder / f"{name}.npy")
        self.arrays.clear()


def _shard_images(settings: HeartSettings, block: Block) -> tuple[Array, Array]:
    """Images of a whole block, (BLOCK, T, [Z,] Y, X), and labels at ED, (BLOCK, [Z,] Y, X)."""
    frames = shard_frames(settings.cmr_frames, heart_cmr.end_systole(block.state))
    start = int(np.abs(frames[0]).argmin())
    images, labels = [], []
    for depth in heart_cmr.slice_depth(settings.shard_slices):
        image, label = heart_cmr.render_cmr(
            block.state, block.cmr, frames, float(depth), settings.cmr_size
        )
        images.append(add_noise(image, settings.cmr_noise, block.noise))
        labels.append(label[:, start])
    if settings.cmr_slices == 1:
        return images[0], labels[0]
    return np.stack(images, axis=2), np.stack(labels, axis=1)


def add_noise(image: Array, level: float, generator: np.random.Generator) -> Array:
    """Noise of the receiver: the magnitude of the image plus Gaussian noise, (N, T, Y, X)."""
    noise = generator.standard_normal(image.shape, dtype=np.float32)
    return np.abs(image + np.float32(level) * noise)


def _write_files(folder: Path, settings: HeartSettings, block: Block, count: int) -> None:
    """Write the first ``count`` subjects of a block as WFDB and NIfTI."""
    if count <= 0:
        return
    (folder / "ecg").mkdir(exist_ok=True)
    (folder / "cmr").mkdir(exist_ok=True)
    names = block.table["subject_id"]
    rows = np.flatnonzero(block.table["has_ecg"][:count])
    seconds = heart_ecg.FILE_SECONDS
    for row, signal in zip(
        rows, block.ecg_signal(settings, rows, heart_ecg.FILE_RATE_HZ, seconds), strict=True
    ):
        heart_files.write_ecg(folder / "ecg", names[row], signal)
    for row in np.flatnonzero(block.table["has_cmr"][:count]):
        images, labels = _cine(settings, block, row)
        heart_files.write_cmr(folder / "cmr" / f"{names[row]}.nii.gz", images)
        heart_files.write_cmr(folder / "cmr" / f"{names[row]}_mask.nii.gz", labels, is_label=True)
    logger.info("heart: %d subjects as files", block.first + count)


def _cine(settings: HeartSettings, block: Block, row: int) -> tuple[Array, Array]:
    """The full stack of one subject, images and labels (T, Z, Y, X)."""
    one = slice(row, row + 1)
    state, nuisance = block.state.take(one), block.cmr.take(one)
    generator = numpy_generator(settings.seed, "heart", block.first + row, "cine noise")
    frames = np.arange(heart_cmr.CYCLE)[None]
    images, labels = [], []
    for depth in heart_cmr.slice_depth(np.arange(heart_cmr.STACK)):
        image, label = heart_cmr.render_cmr(
            state, nuisance, frames, float(depth), settings.cmr_file_size
        )
        images.append(add_noise(image, settings.cmr_noise, generator)[0])
        labels.append(label[0])
    return np.stack(images, axis=1), np.stack(labels, axis=1)
