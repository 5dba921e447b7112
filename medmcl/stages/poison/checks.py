"""What can be known of the attacks of a recipe before any record is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.roles import refuse_unread
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.spec import TowersSpec, TrainSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort


def refuse_attack(recipe: RecipeSpec, spec: PoisonSpec) -> None:
    """Refuse an attack on what the recipe does not read."""
    refuse_unread(spec.wanted, recipe, f"stage {spec.name}")


def refuse_poisoned_by(spec: TrainSpec, attacks: Sequence[str]) -> None:
    """Refuse a stage that is poisoned by what is no poison stage before it."""
    if spec.poisoned_by is not None and spec.poisoned_by not in attacks:
        raise ConfigError(
            f"'{spec.poisoned_by}' is no poison stage before it"
            f"{nearest(spec.poisoned_by, attacks)}",
            where=f"stage {spec.name}, poisoned_by",
            expected=", ".join(attacks) or "the name of a poison stage",
        )


def refuse_attacked(
    stage: EvaluateSpec, made: Mapping[str, TowersSpec], attacks: Mapping[str, PoisonSpec]
) -> None:
    """Refuse to judge an attack that is not there, or models that do not see what it triggers."""
    spec = stage.attack
    if spec is None:
        return
    where = f"stage {stage.name}, attack"
    if spec.attack is None and len(attacks) != 1:
        raise ConfigError(
            "which attack is judged?",
            where=where,
            got=f"poison stages: {', '.join(attacks) or 'none'}",
            expected="one poison stage before it, or `attack: NAME`",
            mend="leave `attack` out of the evaluate stage, or go on from the recipe `poisoned`"
            if not attacks
            else None,
        )
    name = spec.attack or next(iter(attacks))
    if name not in attacks:
        raise ConfigError(
            f"'{name}' is no poison stage before it{nearest(name, attacks)}",
            where=where,
            expected=", ".join(attacks) or "the name of a poison stage",
        )
    for model in spec.models.values():
        if model not in made:
            raise ConfigError(
                f"'{model}' is no stage with towers before it{nearest(model, made)}",
                where=where,
                expected=", ".join(made),
            )
        if model in made and attacks[name].modality not in made[model].towers:
            raise ConfigError(
                f"stage '{model}' has no tower for '{attacks[name].modality}', which the attack "
                "triggers",
                where=where,
                expected="a stage with that tower",
            )


def refuse_attack_on(spec: PoisonSpec, cohort: Cohort) -> None:
    """Refuse an attack that the tables of a cohort show to be impossible.

    Raises:
        ConfigError: No such task, class or kind of record, nobody who shows the class, or fewer
            records than are to be poisoned.
        CohortError: The task has faults.
    """
    import numpy as np

    from medmcl.stages.evaluate.attack.task import UNKNOWN, task_of_classes
    from medmcl.stages.poison.pool import refuse_pool

    where = f"stage {spec.name}"
    if not set(spec.wanted) <= set(cohort.spec.modalities):
        return  # refused where the recipe's inputs are
    if spec.task not in cohort.spec.tasks:
        raise ConfigError(
            f"the cohort has no task '{spec.task}'{nearest(spec.task, cohort.spec.tasks)}",
            where=f"{where}, task",
            expected=", ".join(cohort.spec.tasks) or "a task in its cohort.yaml",
            mend=f"--set stages.{spec.name}.task=TASK --set stages.{spec.name}.label=CLASS",
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
