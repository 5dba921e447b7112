"""Faults that a recipe has with one cohort, seen from its tables alone: groups, K, confounders."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.core.errors import MedmclError
from medmcl.data.cohort.cohort import Cohort
from medmcl.stages.stage import StageSpec


def faults_with(
    cohort: Cohort, stages: Sequence[StageSpec], *, files: bool = True
) -> list[MedmclError]:
    """Give every fault of the expanded stages with this cohort that needs no record to be read.

    Args:
        cohort: The cohort.
        stages: Of a recipe.
        files: Whether lists and manifests that stages name are read; a run that has taken them can
            do without.
    """
    tasks = [one for one in used_tasks(cohort, stages) if one in cohort.spec.tasks]
    checks = [check for stage in stages for check in stage.checks_on(cohort, tasks)]
    if files:
        checks += [check for stage in stages for check in stage.file_checks(cohort)]
    found = []
    for check in checks:
        try:
            check()
        except MedmclError as fault:
            found.append(fault)
    return found


def used_tasks(cohort: Cohort, stages: Sequence[StageSpec]) -> list[str]:
    """Name the tasks that stages train on, score, or choose rows near to."""
    used = [task for stage in stages for task in stage.used_tasks(cohort.spec.tasks)]
    return list(dict.fromkeys(used))
