"""What can be known of the attacks of a recipe before any record is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmcl.core.config import nearest, refuse_unknown
from medmcl.core.errors import ConfigError
from medmcl.stages.poison_spec import PoisonSpec
from medmcl.stages.recipe import EvaluateSpec, RecipeSpec, TowersSpec, TrainSpec


def refuse_attack(recipe: RecipeSpec, spec: PoisonSpec) -> None:
    """Refuse an attack on what the recipe does not read."""
    refuse_unknown(spec.wanted, recipe.inputs, f"stage {spec.name}", "the recipe reads no")


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
