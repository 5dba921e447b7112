"""What can be known of the attacks of a recipe before any record is read."""

from __future__ import annotations

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.stages.evaluate.attack.task import UNKNOWN, task_of_classes
from medmcl.stages.poison.pool import refuse_pool
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
    if spec.task not in cohort.spec.tasks:
        raise ConfigError(
            f"the cohort has no task '{spec.task}'{nearest(spec.task, cohort.spec.tasks)}",
            where=f"{where}, task",
            expected=", ".join(cohort.spec.tasks) or "a task in its cohort.yaml",
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
