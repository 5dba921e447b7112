"""What can be known of an evaluate stage from the recipe alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.evaluation.aspects.aspect import OfModels
from medmcl.evaluation.aspects.attack.aspect import AttackSpec
from medmcl.stages.derived.spec import UntrainedSpec
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.stage import StageSpec, named
from medmcl.stages.train.spec import TowersSpec


def refuse_inside(
    spec: EvaluateSpec, before: Sequence[StageSpec], made: Mapping[str, TowersSpec]
) -> None:
    """Refuse models and aspects of stages that have not what they look at.

    That is a stage that gives no embeddings, a joined stage for what looks inside of one, of which
    it has several, and models without a tower for what is asked of each.

    Raises:
        ConfigError: Names the stage and the key.
    """
    unable = {one.name: one.stage for one in before if one.name not in made}
    for key, stages in spec.embedded_by.items():
        for name in stages:
            if name in unable:
                raise ConfigError(
                    f"stage '{name}' ({unable[name]}) gives no embeddings",
                    where=f"stage {spec.name}, {key}",
                    expected=f"one of: {', '.join(made) or 'none before it does'}",
                )
    joins = named(before, UntrainedSpec)
    for key, one in spec.asked.items():
        joined = next((joins[name] for name in one.stages() if name in joins), None)
        if one.looks_inside and joined is not None:
            raise ConfigError(
                "is looked at in one stage, not in joined or derived ones",
                where=f"stage {spec.name}, {key}.stage",
                got=f"{joined.name} ({joined.stage}), of {', '.join(joined.goes_on_from())}",
                expected=" or ".join(joined.goes_on_from()),
            )
        models = one.models.values() if isinstance(one, OfModels) else ()
        for model, side in product(models, one.modalities()):
            if model in made and side not in made[model].towers:
                raise ConfigError(
                    f"stage '{model}' has no tower for '{side}'",
                    where=f"stage {spec.name}, {key}",
                    expected=f"a stage with towers for {' and '.join(one.modalities())}",
                )


def refuse_attacked(
    stage: EvaluateSpec, made: Mapping[str, TowersSpec], attacks: Mapping[str, PoisonSpec]
) -> None:
    """Refuse to judge an attack that is not there, or models that do not see what it triggers."""
    spec: AttackSpec = stage.asked["attack"]
    where = f"stage {stage.name}, attack"
    if spec.attack is None and len(attacks) != 1:
        raise ConfigError(
            "which attack is judged?",
            where=where,
            got=f"poison stages: {', '.join(attacks) or 'none'}",
            expected="one poison stage before it, or `attack: NAME`",
            fix="leave `attack` out of the evaluate stage, or go on from the recipe `poisoned`"
            if not attacks
            else None,
        )
    name = spec.attack or next(iter(attacks))
    what, none = f"'{name}' is no poison stage before it", "the name of a poison stage"
    refuse_absent(name, attacks, what, where=where, none=none)
    for model in spec.models.values():
        refuse_absent(model, made, f"'{model}' is no stage with towers before it", where=where)
        if attacks[name].modality not in made[model].towers:
            raise ConfigError(
                f"stage '{model}' has no tower for '{attacks[name].modality}', which the attack "
                "triggers",
                where=where,
                expected="a stage with that tower",
            )
