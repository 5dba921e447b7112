"""Which rows a train stage may draw: those of its subset that a keep file or a selection keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.stages.stage import Context
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.subset import in_subset


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


def kept_rows(
    rows: np.ndarray, spec: TrainSpec, prepared: Prepared, context: Context
) -> np.ndarray:
    """Leave out the rows that are not of the stage's subset, or that a selection does not keep.

    The file that ``--keep`` named holds for stages that train without labels: it judges pairs, not
    labels. What a stage is ``selected_by`` holds for it alone. In a rehearsal, before the select
    stage has run, all rows stay.

    Raises:
        ConfigError: No row is left.
        ArtefactError: What a select stage kept is gone, or is not what it kept.
    """
    rows = in_subset(rows, spec.subset, prepared, context.run.seed, f"stage {spec.name}")
    left = rows if spec.task is not None else given_rows(rows, prepared, context.run.given_keep)
    if spec.selected_by is not None:
        keep = context.run.artefact(spec.selected_by, Keep, prepared.cohort.fingerprint)
        left = left if keep is None else left[_flags(keep, prepared)[left]]
    if len(rows) and not len(left):
        raise ConfigError(
            "the selection keeps none of the rows that the stage would train on",
            where=f"stage {spec.name}",
            got=f"0 of {len(rows)} rows",
            fix="keep a larger share",
        )
    return left


def given_rows(rows: np.ndarray, prepared: Prepared, keep: Keep | None) -> np.ndarray:
    """Leave out the rows that what ``--keep`` gave does not keep; all stay without it."""
    return rows if keep is None else rows[_flags(keep, prepared)[rows]]


def _flags(keep: Keep, prepared: Prepared) -> np.ndarray:
    return keep.among(_ids(prepared.cohort), prepared.cohort.fingerprint)


def _ids(cohort: Cohort) -> list[str]:
    return [str(one) for one in cohort.samples["sample"]]
