"""The task of an attack: which class each sample shows, and which one the attacker wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared

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
