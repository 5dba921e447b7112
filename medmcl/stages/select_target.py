"""The target of NormSim: which rows of which cohort a pool should be near to."""

from __future__ import annotations

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.data.cohort import open_cohort
from medmcl.data.loading import Prepared
from medmcl.stages.run import Run
from medmcl.stages.select_spec import TargetSpec


def target_cohort(spec: TargetSpec, run: Run, prepared: Prepared, modality: str) -> Prepared:
    """Give the cohort that a target is of, prepared as the run's: this one, or the one named."""
    if spec.cohort is None:
        return prepared
    return run.prepare(open_cohort(spec.cohort), (modality,))


def target_rows(spec: TargetSpec, place: Prepared, modality: str, where: str) -> np.ndarray:
    """Give the rows of a target, sample numbers of ``place``.

    Args:
        spec: What the recipe says.
        place: The cohort, from `target_cohort`.
        modality: What must be present.
        where: What an error calls the place.

    Raises:
        ConfigError: There is no such row: the target would be empty.
        LeakageError: A row, or its subject, is of held_out.
    """
    split = spec.split or ("tuning" if spec.cohort is None else "train")
    rows = place.rows(split, (modality,))
    if spec.task is not None:
        rows = rows[_labelled(place.tasks(spec.task), rows, spec.label, where)]
    if not len(rows):
        asked = f"{split} rows with {modality}"
        asked += "" if spec.task is None else f" and a label of {spec.task}"
        raise ConfigError(
            "the target is empty: there is nothing to be near to",
            where=where,
            got=f"no {asked}{'' if spec.label is None else f' {spec.label}'} in "
            f"{place.cohort.name}",
            mend="name another split or cohort, or choose norm_sim_dynamic, which needs no target",
        )
    place.sides.refuse_leak(rows, "the target of NormSim")
    return rows


def _labelled(targets: Targets, rows: np.ndarray, label: str | None, where: str) -> np.ndarray:
    """Which rows have a label of the task, or the label named, (len(rows),) bool."""
    values, known = targets.values[rows], targets.known[rows]
    if label is None:
        return np.asarray(known.any(axis=1))
    names = targets.classes if targets.kind == "multiclass" else targets.columns
    if targets.kind in ("regression", "survival") or label not in map(str, names):
        raise ConfigError(
            f"the task '{targets.name}' has no label '{label}'{nearest(label, map(str, names))}",
            where=where,
            got=f"{targets.kind}: {', '.join(map(str, names))}",
        )
    column = list(map(str, names)).index(label)
    if targets.kind == "multiclass":
        return np.asarray(known[:, 0] & (values[:, 0] == column))
    return np.asarray(known[:, column] & (values[:, column] > 0))
