"""Embeddings of whole cohorts, kept in memory for as long as nothing they depend on changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.cohort.locate import tables_of
from medmcl.stages.run.run import Run, vector_width

KEPT = 4
"""Tables of embeddings (one a run, stage, modality, space and cohort) that memory holds."""


@dataclass(frozen=True)
class EmbeddingPlan:
    """What embeddings depend on, beside the cohort."""

    folder: str
    stamp: str
    modality: str
    stage: str
    space: str
    device: str


@dataclass(frozen=True)
class CohortKey:
    """A cohort, told apart by its fingerprint and its folder."""

    fingerprint: str
    root: str
    cohort: Cohort = field(compare=False)


@lru_cache(maxsize=KEPT)
def embedded(plan: EmbeddingPlan, source: CohortKey) -> pd.DataFrame:
    """Embed a cohort as `Run.embed` does, or give what that gave before. Do not change it."""
    return Run(plan.folder).embed(
        source.cohort,
        modality=plan.modality,
        stage=plan.stage,
        space=plan.space,
        device=plan.device,
    )


@lru_cache(maxsize=KEPT)
def opened_cohort(path: str, overrides: str, stamps: tuple[str, ...]) -> Cohort:  # noqa: ARG001  (part of the key)
    """Open a cohort, or give the one opened before if no table of it has changed."""
    return open_cohort(path, json.loads(overrides))


@lru_cache(maxsize=16)
def width_of(plan: EmbeddingPlan) -> int:
    """Give the width of the embeddings."""
    import torch

    towers = Run(plan.folder).towers(plan.stage, torch.device("cpu"))
    return vector_width(towers, plan.modality, plan.space)


def weights_stamp(run: Run, stage: str) -> str:
    """Tell which weights these are: changes when the run is trained again in the same folder."""
    files = [run.path / "config.yaml", run.path / "preprocessing.json"]
    if stage != "untrained":
        folder = run.checkpoints(stage).find(run.stage(stage).keep)
        files += [] if folder is None else [folder / "weights.safetensors"]
    return "|".join(_stamp(file) for file in files)


def _stamp(file: Path) -> str:
    if not file.exists():
        return f"{file}: absent"
    status = file.stat()
    return f"{file}: {status.st_size} {status.st_mtime_ns}"


def table_stamps(cohort: str | Path, overrides: Mapping[str, Any]) -> Iterator[str]:
    """Give the state of cohort.yaml and of every table that it names, without reading them."""
    yield from map(_stamp, tables_of(cohort, overrides))
