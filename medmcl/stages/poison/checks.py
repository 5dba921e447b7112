"""What can be known of the attacks of a recipe before any record is read, and if it suffices."""

from __future__ import annotations

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.stages.evaluate.attack.task import UNKNOWN, AttackTask, task_of_classes
from medmcl.stages.poison.spec import PoisonSpec


def refuse_attack_on(spec: PoisonSpec, cohort: Cohort) -> None:
    """Refuse an attack that the tables of a cohort show to be impossible.

    Raises:
        ConfigError: No such task, class or kind of record, nobody who shows the class, or fewer
            records than are to be poisoned.
        CohortError: The task has faults.
    """
    where = f"stage {spec.name}"
    if not set(spec.wanted) <= set(cohort.spec.modalities):
        return  # refused where the recipe's inputs are
    refuse_absent(
        spec.task,
        cohort.spec.tasks,
        f"the cohort has no task '{spec.task}'",
        none="a task in its cohort.yaml",
        where=f"{where}, task",
        fix=f"--set stages.{spec.name}.task=TASK --set stages.{spec.name}.label=CLASS",
    )
    task = task_of_classes(cohort.targets(spec.task), spec.label, where)
    kind = cohort.spec.modalities[spec.modality].kind
    if spec.trigger != "usual":
        from medmcl.stages.poison.poisoned_rows import refuse_other_kind  # needs torch

        refuse_other_kind(spec, kind)
    samples = cohort.samples
    able = (samples["split"] == "train").to_numpy() & (task.shown != UNKNOWN)
    able &= samples[list(spec.wanted)].notna().all(axis=1).to_numpy()
    if spec.manifest is None:
        refuse_pool(spec, task, np.flatnonzero(able))


def count_of(spec: PoisonSpec, records: int) -> int:
    """So many of the records that it draws from does a stage poison that is given no manifest."""
    return spec.count if spec.count is not None else round((spec.share or 0) * records)


def refuse_pool(spec: PoisonSpec, task: AttackTask, rows: np.ndarray) -> None:
    """Refuse records that none of the target are among, or that are too few.

    Args:
        spec: A poison stage without ``manifest``.
        task: Which class each sample shows.
        rows: Samples of known class that could be poisoned, (N,) int64.

    Raises:
        ConfigError: With a class, or a number, that would do.
    """
    where, key = f"stage {spec.name}", f"--set stages.{spec.name}"
    shown = task.shown[rows]
    there = [name for number, name in enumerate(task.names) if (shown == number).any()]
    if task.names[task.target] not in there:
        raise ConfigError(
            f"no train record shows {spec.task} = {spec.label}, so there is nothing to say it with",
            where=f"{where}, label",
            got=f"{counted(len(rows), 'train record')} of known class, none of this one",
            expected=", ".join(there) or "train records of the target",
            fix=f"{key}.label=CLASS, one of these" if there else f"{key}.task=TASK",
        )
    is_consistent = spec.trigger == "label_consistent"
    able = int(((shown == task.target) == is_consistent).sum())
    count = count_of(spec, len(rows))
    if not 1 <= count <= able:
        kind = "of the target" if is_consistent else "of other classes"
        share = "" if spec.share is None else f" (share: {spec.share:g} of {len(rows):,})"
        raise ConfigError(
            "so many samples cannot be poisoned",
            where=where,
            got=f"count: {count:,}{share}",
            expected=f"1 to {able:,}, the samples {kind}" if able else f"samples {kind}",
            fix=f"{key}.count={min(max(count, 1), able)}" if able else f"{key}.label=CLASS",
        )
