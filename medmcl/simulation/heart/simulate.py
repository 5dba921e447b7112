"""The simulated heart cohort: ECG, cardiac MR, phenotypes and outcomes from one state a subject.

The state (`state`) drives images, phenotypes, labels and survival. The ECG is driven by a
state whose latents correlate with the subject's by ``coupling``: 1 = the same state, 0 = an
independent draw, so that nothing in the ECG tells of the subject, age, sex and heart rate
included.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.folder import cohort_tree, whole, write_about, write_yaml
from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart import ecg as heart_ecg
from medmcl.simulation.heart import files as heart_files
from medmcl.simulation.heart.files import Shards, number_rows
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.state import Array
from medmcl.simulation.heart.subjects import BLOCK, Block, draw_block, truth_columns

logger = logging.getLogger(__name__)


@whole("truth.parquet", "cohort.yaml")
def simulate_heart(folder: Path, settings: HeartSettings) -> None:
    """Write a cohort folder; it appears whole or not at all.

    It holds ``participants.tsv``, ``cohort.yaml``, ``README.md``, ``truth.parquet`` (the states
    of CMR and ECG), and ``ecg/``, ``cmr/`` (files) or ``shards/``; with shards and files,
    ``cohort_files.yaml`` reads the files of those who have them.

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
    """
    tables, truths = [], []
    shards = Shards(folder / "shards", settings) if settings.has_shards else None
    for block in _blocks(settings):
        count = min(BLOCK, settings.subjects - block.first)
        if shards is not None:
            shards.add(block, count)
        _write_files(folder, settings, block, min(settings.num_files - block.first, count))
        tables.append({name: values[:count] for name, values in block.table.items()})
        truths.append({name: values[:count] for name, values in truth_columns(block).items()})
    if shards is not None:
        shards.close()
    table = pd.concat([pd.DataFrame(part) for part in tables], ignore_index=True)
    if settings.has_shards:
        number_rows(table, settings)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    truth = pd.concat([pd.DataFrame(part) for part in truths], ignore_index=True)
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


def _blocks(settings: HeartSettings) -> Iterator[Block]:
    for number in range(-(-settings.subjects // BLOCK)):
        yield draw_block(settings, number)


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
        images, labels = _cine(settings, block, int(row))
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
        images.append(heart_cmr.add_noise(image, settings.cmr_noise, generator)[0])
        labels.append(label[0])
    return np.stack(images, axis=1), np.stack(labels, axis=1)
