"""A recipe for any cohort becomes the recipe for this one: every modality by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from medmcl.core.config import check, lookup, nearest
from medmcl.core.errors import ConfigError
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.encoders.build import check_encoder, check_entrance
from medmcl.encoders.tower_settings import TowerSettings
from medmcl.modalities import ADAPTERS
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.spec import USUAL, PoisonSpec
from medmcl.stages.recipe.model_settings import entrances_of
from medmcl.stages.recipe.roles import with_names
from medmcl.stages.recipe.spec import AnyStage, RecipeSpec
from medmcl.stages.train.spec import JoinSpec, TrainSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort


def for_cohort(recipe: RecipeSpec, kinds: Mapping[str, str]) -> RecipeSpec:
    """Name every modality where the recipe says ``all`` or leaves towers open.

    Args:
        recipe: The recipe as read.
        kinds: Modality of the cohort to its kind, in the cohort's order.

    Returns:
        A recipe of which every stage names its towers; itself if it named them all.

    Raises:
        ConfigError: A modality that the cohort does not have, or of a kind that the recipe does
            not know; or entrances that are no mappings.
    """
    _refuse_kinds(recipe)
    recipe = with_names(recipe, kinds)
    shared = recipe.shared
    inputs, views = dict(recipe.inputs), dict(recipe.views)
    towers = dict(recipe.towers if shared is None else entrances_of(shared))
    built_in = "towers" if shared is None else "shared.entrances"
    stands: dict[str, str] = {}
    for name in kinds if recipe.modalities == "all" else recipe.modalities:
        if name not in kinds:
            raise ConfigError(
                f"the recipe '{recipe.name}' reads '{name}', which the cohort does not have"
                f"{nearest(name, kinds)}",
                where="modalities",
                expected=", ".join(kinds),
            )
        known = recipe.kinds.get(kinds[name])
        if known is None and name in inputs and name in towers:
            continue
        if known is None:
            raise ConfigError(
                f"the recipe '{recipe.name}' does not say how to encode '{name}', which is of kind "
                f"'{kinds[name]}'",
                where="kinds",
                expected=", ".join(recipe.kinds) or "a kind with its tower",
                mend=f"--set 'kinds.{kinds[name]}={{tower: {{encoder: {{name: ...}}}}}}', or name "
                "the modalities to read: --set 'modalities=[a, b]'",
            )
        if name not in inputs:
            stands[f"inputs.{name}"] = f"kinds.{kinds[name]}.input"
        if name not in towers:
            stands[f"{built_in}.{name}"] = f"kinds.{kinds[name]}.tower"
        inputs[name] = {**known.input, **inputs.get(name, {})}
        towers[name] = {**known.tower, **towers.get(name, {})}
        for view, options in known.augment.items():
            before = views.get(view, ViewSettings())
            if name not in before.augment:
                stands[f"views.{view}.augment.{name}"] = f"kinds.{kinds[name]}.augment.{view}"
            views[view] = before.with_default(name, options)
    everyone = tuple(name for name in inputs if name in towers or shared is not None)
    named: list[AnyStage] = []
    for stage in recipe.stages:
        named.append(_named(stage, everyone, named, kinds))
    sizes = {stage.name: getattr(stage, "towers", ()) for stage in named}
    stages = tuple(_paired(stage, sizes) for stage in named)
    built = {"towers": towers} if shared is None else {"shared": {**shared, "entrances": towers}}
    update = {
        "modalities": (),
        "kinds": {},
        "inputs": inputs,
        "views": views,
        "stages": stages,
        **built,
    }
    return recipe.model_copy(update=update).with_stands(stands)


def _refuse_kinds(recipe: RecipeSpec) -> None:
    """Refuse what ``kinds`` cannot say, of kinds that this cohort does not have too.

    Raises:
        ConfigError: Names the key.
    """
    for kind, said in recipe.kinds.items():
        adapter = lookup("kind of modality", kind, ADAPTERS, where="kinds")
        where = f"kinds.{kind}"
        check(adapter.Settings, said.input, where, ConfigError, under=f"{where}.input")
        for view, options in said.augment.items():
            key = f"{where}.augment.{view}"
            check(adapter.Augment, options, where, ConfigError, under=key)
        if recipe.shared is not None:
            check_entrance(kind, said.tower, f"{where}.tower")
            continue
        tower = check(TowerSettings, said.tower, where, ConfigError, under=f"{where}.tower")
        check_encoder(tower.encoder, f"{where}.tower.encoder")


def kinds_of(cohort: Cohort) -> dict[str, str]:
    """Modality of a cohort to its kind."""
    return {name: one.kind for name, one in cohort.spec.modalities.items()}


def _named(
    stage: AnyStage,
    everyone: tuple[str, ...],
    before: Sequence[AnyStage],
    kinds: Mapping[str, str],
) -> AnyStage:
    if isinstance(stage, PoisonSpec) and stage.trigger == "usual":
        usual = USUAL.get(kinds.get(stage.modality, ""), stage.trigger)
        given = {**stage.model_dump(), "trigger": usual}
        where, key = f"stage {stage.name}", f"stages.{stage.name}"
        return check(PoisonSpec, given, where, ConfigError, under=key)
    if isinstance(stage, TrainSpec) and not stage.towers:
        return stage.model_copy(update={"towers": everyone})
    if isinstance(stage, JoinSpec) and not stage.towers:
        have = {one.name: getattr(one, "towers", ()) for one in before}
        parts = [have.get(name, ()) for name in stage.of]
        shared = tuple(name for name in parts[0] if all(name in part for part in parts))
        return stage.model_copy(update={"towers": shared})
    return stage


def _paired(stage: AnyStage, towers: Mapping[str, Any]) -> AnyStage:
    if not isinstance(stage, EvaluateSpec) or stage.retrieval is None:
        return stage
    if stage.retrieval.pairs != "all":
        return stage
    pairs = tuple(combinations(towers.get(stage.retrieval.stage, ()), 2))
    return stage.model_copy(
        update={"retrieval": stage.retrieval.model_copy(update={"pairs": pairs})}
    )
