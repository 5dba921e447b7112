"""What can be known of a recipe's models before any record is read.

A slip of the pen in a tower, a stage or an objective is told at once, not when the records of a
cohort are prepared. What depends on the shape of an input is left to the rehearsal of the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from medmcl.core.config import Config, check, nearest
from medmcl.core.errors import ConfigError
from medmcl.core.overrides import typed
from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.model_settings import input_projections_of
from medmcl.stages.recipe.resolve_modalities import asked_inputs
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import Check, Plan
from medmcl.stages.train.checks import refuse_view

OTHERWISE = "prepares records otherwise than its encoder was trained on"


def faults_of_models(recipe: RecipeSpec, kinds: Mapping[str, str]) -> list[ConfigError]:
    """Say why the models of a recipe cannot be built, each fault once, from the recipe alone.

    Args:
        recipe: The recipe as resolved for a cohort, of single stages
            (`medmcl.stages.recipe.resolve_modalities.for_cohort`, `expand`).
        kinds: Modality of the cohort to its kind.
    """
    found: dict[tuple[str, ...], ConfigError] = {}
    for one in _checks(recipe, kinds):
        try:
            one()
        except ConfigError as error:
            found.setdefault((str(error.where), error.what, str(error.got)), error)
    return list(found.values())


def other_inputs(recipe: RecipeSpec, kinds: Mapping[str, str]) -> dict[str, str]:
    """Modality to how ``inputs`` prepares its records otherwise than its encoder knows them.

    Args:
        recipe: The recipe as resolved for a cohort, without faults.
        kinds: Modality of the cohort to its kind.
    """
    found = {}
    for name, tower in recipe.towers.items():
        known = asked_inputs(tower, kinds.get(name))
        if known and name in recipe.inputs:
            model: type[Config] = ADAPTERS.settings[kinds[name]]
            given = model.model_validate(recipe.inputs[name])
            if said := differing(given, model.model_validate(known)):
                found[name] = said
    return found


def differing(given: Config, known: Config) -> str:
    """Say which settings differ, as ``rate_hz is 250, not 500``; empty where none does."""
    whole = [one.model_dump(mode="json") for one in (given, known)]
    short = [one.model_dump(mode="json", exclude_unset=True) for one in (given, known)]
    said = []
    for key in whole[1]:
        if whole[0][key] != whole[1][key]:
            ours, theirs = (typed({**a, **b}[key]) for a, b in zip(whole, short, strict=True))
            said.append(f"{key} is {ours}, not {theirs}")
    return "; ".join(said)


def _checks(recipe: RecipeSpec, kinds: Mapping[str, str]) -> Iterable[Check]:
    """Give the checks of a recipe; those of a stage of ``for_each`` name it as it is written."""
    yield partial(_refuse_unread_towers, recipe, kinds)
    for name, settings in recipe.inputs.items():
        if name in kinds:
            where, own = recipe.stands(f"inputs.{name}"), ADAPTERS.settings[kinds[name]]
            yield partial(check, own, settings, where, ConfigError, under=where)
    for name, view in recipe.views.items():
        yield partial(refuse_view, f"views.{name}", view, recipe, kinds)
    for number, stage in enumerate(recipe.stages):
        before = recipe.stages[:number]
        yield from stage.checks(Plan(recipe, before, kinds, recipe.called(stage.name)))


def _refuse_unread_towers(recipe: RecipeSpec, kinds: Mapping[str, str]) -> None:
    """Refuse a tower, or an input projection, of what the recipe does not read."""
    own = recipe.shared is None
    section = "towers" if own else "shared.input_projections"
    for name in recipe.towers if own else input_projections_of(recipe.shared or {}):
        if name in recipe.inputs:
            continue
        alike = [one for one in recipe.inputs if kinds.get(one) == name]
        hint = f"; did you mean '{alike[0]}', which is of kind {name}?" if len(alike) == 1 else ""
        raise ConfigError(
            f"unknown modality '{name}'" + (hint or nearest(name, recipe.inputs)),
            where=f"{section}.{name}",
            expected=f"a modality that the recipe reads: {', '.join(recipe.inputs)}",
            fix=f"write {section}.{(alike or list(recipe.inputs))[0]}, or leave it out"
            if len(alike) == 1 or len(recipe.inputs) == 1
            else "correct the name, or leave it out",
        )
