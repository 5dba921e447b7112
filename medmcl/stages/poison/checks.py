"""What can be known of an attack before any record is read: its classes, and if records suffice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
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


UNKNOWN = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackTask:
    """Classes of which a sample shows one.

    Attributes:
        names: Of the classes: those of a multiclass task, ``not X`` and ``X`` of a binary one, the
            columns of a multilabel one.
        shown: Class of each sample, (N,) int64; -1 where it is unknown, or not exactly one.
        target: Class that the attacker wants.
    """

    names: tuple[str, ...]
    shown: np.ndarray
    target: int


def attack_task(prepared: Prepared, task: str, label: str, where: str) -> AttackTask:
    """Read the classes of a task, and find the wanted one among them.

    Raises:
        ConfigError: The task has no classes, or not this one.
    """
    return task_of_classes(prepared.tasks(task), label, where)


def task_of_classes(targets: Targets, label: str, where: str) -> AttackTask:
    """Find the wanted class among those of a task; see `attack_task`."""
    task, classes = targets.name, _classes(targets)
    if classes is None:
        raise ConfigError(
            "an attack needs a task of classes",
            where=f"{where}, task",
            got=f"{task}: {targets.kind}",
            expected="binary, multiclass or multilabel",
        )
    names, shown = classes
    fix = f"--set {where.replace('stage ', 'stages.')}.label=CLASS"
    what = f"the task '{task}' has no class '{label}'"
    refuse_absent(label, names, what, where=f"{where}, label", fix=fix)
    return AttackTask(names=names, shown=shown, target=names.index(label))


def _classes(targets: Targets) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Give the names of the classes and the class of each sample; None of another kind of task."""
    if targets.kind == "multilabel":
        whole = targets.known.all(axis=1) & ((targets.values > 0).sum(axis=1) == 1)
        return targets.columns, np.where(whole, targets.values.argmax(axis=1), UNKNOWN)
    names: tuple[str, ...]
    if targets.kind == "binary":
        names = (f"not {targets.columns[0]}", targets.columns[0])
    elif targets.kind == "multiclass":
        names = tuple(str(one) for one in targets.classes)
    else:
        return None
    known, value = targets.known[:, 0], targets.values[:, 0]
    return names, np.where(known, np.where(known, value, 0).astype(np.int64), UNKNOWN)
