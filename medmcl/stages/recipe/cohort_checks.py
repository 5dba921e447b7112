"""Faults that a recipe has with one cohort, seen from its tables alone: groups, K, confounders.

What a check reads with is imported where a stage asks for it: a recipe of a table needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from medmcl.core.errors import MedmclError
from medmcl.data.cohort.cohort import Cohort
from medmcl.stages.cluster.checks import refuse_many
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.evaluate.confounder_names import confounder_names
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.checks import refuse_attack_on
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.spec import AnyStage
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.train.spec import TrainSpec


def faults_with(
    cohort: Cohort, stages: Sequence[AnyStage], *, files: bool = True
) -> list[MedmclError]:
    """Give every fault of the expanded stages with this cohort that needs no record to be read.

    Args:
        cohort: The cohort.
        stages: Of a recipe.
        files: Whether lists and manifests that stages name are read; a run that has taken them can
            do without.
    """
    found = []
    more = _file_checks(cohort, stages) if files else ()
    for check in (*_checks(cohort, stages), *more):
        try:
            check()
        except MedmclError as fault:
            found.append(fault)
    return found


def used_tasks(cohort: Cohort, stages: Sequence[AnyStage]) -> list[str]:
    """Name the tasks that stages train on, score, or choose rows near to."""
    used: dict[str, None] = {}
    for stage in stages:
        if isinstance(stage, SelectSpec):
            own = (one.task for one in stage.targets if one.cohort is None)
            used |= {task: None for task in own if task is not None}
        elif isinstance(stage, EvaluateSpec):
            used |= dict.fromkeys(cohort.spec.tasks if stage.tasks == "all" else stage.tasks)
        elif not isinstance(stage, ClusterSpec) and stage.task is not None:
            used[stage.task] = None
    return list(used)


def _checks(cohort: Cohort, stages: Sequence[AnyStage]) -> Iterable[Callable[[], object]]:
    tasks = [one for one in used_tasks(cohort, stages) if one in cohort.spec.tasks]
    for stage in stages:
        if isinstance(stage, PoisonSpec):
            yield partial(refuse_attack_on, stage, cohort)
        if isinstance(stage, EvaluateSpec):
            yield partial(confounder_names, stage, cohort)
            if stage.embeddings:
                from medmcl.stages.factorise.given_vectors import lay_vectors
            for name, path in stage.embeddings.items():
                yield partial(lay_vectors, name, Path(path), cohort)
        if isinstance(stage, ClusterSpec):
            for name in stage.modalities:
                yield partial(refuse_many, stage, name, len(_train_rows(cohort, [name])))
        if isinstance(stage, TrainSpec):
            yield from _columns(stage, tasks, cohort)


def _columns(
    stage: TrainSpec, tasks: Sequence[str], cohort: Cohort
) -> Iterable[Callable[[], object]]:
    """Checks of what a train stage reads of columns: its groups, its subset."""
    if stage.groups is not None and stage.groups.columns:
        from medmcl.stages.cluster.column_groups import column_groups, refuse_outcomes

        where = f"stage {stage.name}, groups"
        yield partial(refuse_outcomes, stage.groups, tasks, cohort, where)
        rows = _train_rows(cohort, stage.towers)
        yield partial(column_groups, stage.groups, rows, cohort, where, 0)
    if stage.subset is not None and stage.subset.column is not None:
        from medmcl.stages.train.subset import picked

        yield partial(picked, stage.subset, cohort, f"stage {stage.name}")


def _file_checks(cohort: Cohort, stages: Sequence[AnyStage]) -> Iterable[Callable[[], object]]:
    for stage in stages:
        if isinstance(stage, PoisonSpec) and stage.manifest is not None:
            from medmcl.stages.poison.given import read_given

            yield partial(read_given, stage, cohort)
        if isinstance(stage, TrainSpec) and stage.subset is not None and stage.subset.file:
            from medmcl.stages.train.subset import picked

            yield partial(picked, stage.subset, cohort, f"stage {stage.name}")


def _train_rows(cohort: Cohort, modalities: Iterable[str]) -> np.ndarray:
    """Train samples with a record of any of the modalities, (N,)."""
    samples = cohort.samples
    known = [name for name in modalities if name in cohort.spec.modalities]
    has = samples[known].notna().any(axis=1) if known else samples["split"].notna()
    return np.flatnonzero((samples["split"] == "train") & has)
