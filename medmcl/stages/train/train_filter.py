"""Which rows a train stage may draw: those of its subset that a keep file or a selection keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medmcl.core.atomic import file_aside
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.stages.run.first_rank import refuse_changed
from medmcl.stages.train.models import Setting
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.subset import in_subset

GIVEN = "given"
"""Name, in the run folder, of the keep file that ``--keep`` named."""


def keep_file(folder: Path, stage: str) -> Path:
    """Where a run keeps what a select stage chose, or what ``--keep`` gave (`GIVEN`)."""
    return folder / "selection" / f"{stage}.parquet"


def read_keep(path: Path | str, cohort: Cohort) -> Keep:
    """Read a keep file and make sure that it is of this cohort.

    Raises:
        ArtefactError: It cannot be read, is of another cohort, or has ids unknown to this one.
        ConfigError: It keeps nothing.
    """
    keep = Keep.load(Path(path), cohort=cohort.fingerprint)
    kept = keep.among(_ids(cohort), cohort.fingerprint)
    if not kept.any():
        raise ConfigError("the keep file keeps no row", where=path, got=keep.rule)
    return keep


def copy_keep(path: Path, folder: Path) -> None:
    """Put the keep file that was given into the run folder: from then on the run reads its own."""
    target = keep_file(folder, GIVEN)
    if target.exists():
        return
    with file_aside(target) as aside:
        shutil.copyfile(path, aside)


def kept_rows(
    rows: np.ndarray, spec: TrainSpec, prepared: Prepared, setting: Setting
) -> np.ndarray:
    """Leave out the rows that are not of the stage's subset, or that a selection does not keep.

    The file that ``--keep`` named holds for stages that train without labels: it judges pairs, not
    labels. What a stage is ``selected_by`` holds for it alone. In a rehearsal, before the select
    stage has run, all rows stay.

    Raises:
        ConfigError: No row is left.
        ArtefactError: What a select stage kept is gone, or is not what it kept.
    """
    rows = in_subset(rows, spec.subset, prepared, setting.seed, f"stage {spec.name}")
    left = rows if spec.task is not None else given_rows(rows, prepared, setting.keep)
    if spec.selected_by is not None:
        keep = _selected(spec.selected_by, prepared.cohort, setting)
        left = left if keep is None else left[_flags(keep, prepared)[left]]
    if len(rows) and not len(left):
        raise ConfigError(
            "the selection keeps none of the rows that the stage would train on",
            where=f"stage {spec.name}",
            got=f"0 of {len(rows)} rows",
            fix="keep a larger share",
        )
    return left


def given_rows(rows: np.ndarray, prepared: Prepared, path: Path | None) -> np.ndarray:
    """Leave out the rows that the file of ``--keep`` does not keep; all stay without one."""
    if path is None:
        return rows
    keep = Keep.load(path, cohort=prepared.cohort.fingerprint)
    return rows[_flags(keep, prepared)[rows]]


def _selected(stage: str, cohort: Cohort, setting: Setting) -> Keep | None:
    """What a select stage of this run kept; None if it has not run yet."""
    if setting.checkpoints(stage).done is None:
        return None
    path = keep_file(setting.folder, stage)
    keep = Keep.load(path, cohort=cohort.fingerprint)
    refuse_changed(keep.fingerprint, path, stage, setting, did="kept")
    return keep


def _flags(keep: Keep, prepared: Prepared) -> np.ndarray:
    return keep.among(_ids(prepared.cohort), prepared.cohort.fingerprint)


def _ids(cohort: Cohort) -> list[str]:
    return [str(one) for one in cohort.samples["sample"]]
