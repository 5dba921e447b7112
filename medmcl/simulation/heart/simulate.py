"""The simulated heart cohort: ECG, cardiac MR, phenotypes and outcomes from one state a subject.

The state (`state`) drives images, phenotypes, labels and survival. The ECG is driven by a
state whose latents correlate with the subject's by ``coupling``: 1 = the same state, 0 = an
independent draw, so that nothing in the ECG tells of the subject, age, sex and heart rate
included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.progress import progress
from medmcl.core.rng import numpy_generator
from medmcl.data.loading.worker_pool import beside
from medmcl.simulation.folder import cohort_tree, whole, write_about, write_yaml
from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart import ecg as heart_ecg
from medmcl.simulation.heart import files as heart_files
from medmcl.simulation.heart.files import Shards, number_rows
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.state import Array
from medmcl.simulation.heart.subjects import BLOCK, Block, draw_block, truth_columns


@whole("truth.parquet", "cohort.yaml")
def simulate_heart(folder: Path, settings: HeartSettings) -> None:
    """Write a cohort folder; it appears whole or not at all.

    It holds ``participants.tsv``, ``cohort.yaml``, ``README.md``, ``truth.parquet`` (the states
    of CMR and ECG), and ``ecg/``, ``cmr/`` (files) or ``shards/``; with shards and files,
    ``cohort_files.yaml`` reads the files of those who have them.

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
    """
    blocks = range(-(-settings.subjects // BLOCK))
    said = [
        (block.table, truth_columns(block)) for block in map(partial(draw_block, settings), blocks)
    ]
    table, truth = (_joined(parts, settings.subjects) for parts in zip(*said, strict=True))
    if settings.has_shards:
        number_rows(table, settings)
    shards = Shards(folder / "shards", settings, table) if settings.has_shards else None
    work = [partial(_write_files, folder, settings, one) for one in range(settings.num_files)]
    work += [] if shards is None else [partial(shards.write, one) for one in blocks]
    with progress("simulating hearts", len(work)) as bar:
        for _ in beside(lambda one: one(), work, told=bar):
            pass
    if shards is not None:
        shards.close()
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    truth.to_parquet(folder / "truth.parquet", index=False)
    facts = about(settings)
    write_about(folder, "heart/", settings, **facts)
    if settings.has_shards and settings.num_files:
        tree = cohort_tree("heart/", settings, **{**facts, "shards": False})
        write_yaml(folder / "cohort_files.yaml", tree)


def about(settings: HeartSettings) -> dict[str, Any]:
    """What cohort.yaml and README say beside the settings: of the shards, where there are any."""
    voxel = round(heart_cmr.FIELD_MM / settings.cmr_size, 6)
    return {
        "shards": settings.has_shards,
        "cycle": heart_cmr.CYCLE,
        "spacing": [voxel, voxel, heart_cmr.SLICE_MM],
        "frames": {1: ["ed"], 2: ["es", "ed"]}.get(settings.cmr_frames, ["es", "mid", "ed"]),
    }


def _joined(blocks: Sequence[Mapping[str, Array]], subjects: int) -> pd.DataFrame:
    """Put columns of all blocks together, of the first so many subjects."""
    return pd.concat(map(pd.DataFrame, blocks), ignore_index=True).head(subjects)


def _write_files(folder: Path, settings: HeartSettings, subject: int) -> None:
    """Write a subject as WFDB and NIfTI."""
    number, row = divmod(subject, BLOCK)
    block = draw_block(settings, number)
    name = block.table["subject_id"][row]
    if block.table["has_ecg"][row]:
        seconds = heart_ecg.FILE_SECONDS
        rows = np.array([row])
        (signal,) = block.ecg_signal(settings, rows, heart_ecg.FILE_RATE_HZ, seconds)
        (folder / "ecg").mkdir(exist_ok=True)
        heart_files.write_ecg(folder / "ecg", name, signal)
    if block.table["has_cmr"][row]:
        images, labels = _cine(settings, block, row)
        (folder / "cmr").mkdir(exist_ok=True)
        heart_files.write_cmr(folder / "cmr" / f"{name}.nii.gz", images)
        heart_files.write_cmr(folder / "cmr" / f"{name}_mask.nii.gz", labels, is_label=True)


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
        images.append(heart_cmr.add_noise(image, settings.cmr_noise, generator)[0])
        labels.append(label[0])
    return np.stack(images, axis=1), np.stack(labels, axis=1)
