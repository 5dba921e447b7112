"""Which rows a train stage may draw: those that a keep file, or a select stage before it, keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.data.cohort import Cohort
from medmcl.data.loading import Prepared
from medmcl.selection.keep import Keep
from medmcl.stages.models import Setting
from medmcl.stages.recipe import TrainSpec
from medmcl.stages.select import keep_file

GIVEN = "given"
"""Name, in the run folder, of the keep file that ``--keep`` named."""


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
    """Put the keep file that was given into the run folder, so that the run tells all of itself."""
    target = keep_file(folder, GIVEN)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    shutil.copyfile(path, aside)
    aside.replace(target)


def kept_rows(
    rows: np.ndarray, spec: TrainSpec, prepared: Prepared, setting: Setting
) -> np.ndarray:
    """Leave out the rows that a selection does not keep.

    The file that ``--keep`` named holds for stages that train without labels: it judges pairs, not
    labels. What a stage is ``selected_by`` holds for it alone. In a rehearsal, before the select
    stage has run, all rows stay.

    Raises:
        ConfigError: No row is left.
    """
    cohort = prepared.cohort
    files = [] if spec.selected_by is None else [keep_file(setting.folder, spec.selected_by)]
    files += [setting.keep] if setting.keep is not None and spec.task is None else []
    left = rows
    for path in files:
        if path != setting.keep and not path.exists():  # a rehearsal: not yet selected
            continue
        keep = Keep.load(path, cohort=cohort.fingerprint)
        left = left[keep.among(_ids(cohort), cohort.fingerprint)[left]]
    if len(rows) and not len(left):
        raise ConfigError(
            "the selection keeps none of the rows that the stage would train on",
            where=f"stage {spec.name}",
            got=f"0 of {len(rows)} rows",
            mend="keep a larger share",
        )
    return left


def _ids(cohort: Cohort) -> list[str]:
    return [str(one) for one in cohort.samples["sample"]]
