"""A recipe for any cohort becomes the recipe for this one: every modality by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medmcl.core.config import check, faults_of, lookup, refuse_absent
from medmcl.core.contracts import KnowsInputs
from medmcl.core.errors import ConfigError
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.encoders.build import ENCODERS, check_encoder, check_input_projection
from medmcl.encoders.settings import TowerSettings
from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.model_settings import input_projections_of
from medmcl.stages.recipe.roles import with_names
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import StageSpec

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
            not know; or input projections that are no mappings.
    """
    _refuse_kinds(recipe)
    recipe = with_names(recipe, kinds)
    shared = recipe.shared
    inputs, views = dict(recipe.inputs), dict(recipe.views)
    towers = dict(recipe.towers if shared is None else input_projections_of(shared))
    built_in = "towers" if shared is None else "shared.input_projections"
    stands: dict[str, str] = {}
    for name in kinds if recipe.modalities == "all" else recipe.modalities:
        what = f"the recipe '{recipe.name}' reads '{name}', which the cohort does not have"
        refuse_absent(name, kinds, what, where="modalities")
        known = recipe.kinds.get(kinds[name])
        if known is None and name in inputs and name in towers:
            continue
        if known is None:
            raise ConfigError(
                f"the recipe '{recipe.name}' does not say how to encode '{name}', which is of kind "
                f"'{kinds[name]}'",
                where="kinds",
                expected=", ".join(recipe.kinds) or "a kind with its tower",
                fix=f"--set 'kinds.{kinds[name]}={{tower: {{encoder: {{name: ...}}}}}}', or name "
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
    # records are prepared as the encoder of their tower knows them, where the recipe does not say
    asked = {name: asked_inputs(tower, kinds.get(name)) for name, tower in towers.items()}
    inputs = {name: {**asked.get(name, {}), **said} for name, said in inputs.items()}
    everyone = tuple(name for name in inputs if name in towers or shared is not None)
    stages: list[StageSpec] = []
    for stage in recipe.stages:
        stages.append(stage.for_cohort(everyone, stages, kinds))
    built = (
        {"towers": towers}
        if shared is None
        else {"shared": {**shared, "input_projections": towers}}
    )
    update = {
        "modalities": (),
        "kinds": {},
        "inputs": inputs,
        "views": views,
        "stages": tuple(stages),
        **built,
    }
    return recipe.model_copy(update=update).with_stands(stands)


def asked_inputs(tower: Mapping[str, Any], kind: str | None) -> Mapping[str, Any]:
    """How the encoder of a tower asks for its records to be prepared; empty where it does not.

    Settings that cannot be used are told by whoever checks the tower.
    """
    given = tower.get("encoder")
    if not isinstance(given, Mapping) or given.get("name") not in ENCODERS:
        return {}
    model = ENCODERS.settings[given["name"]]
    own = {key: value for key, value in given.items() if key != "name"}
    if faults_of(model, own):
        return {}
    settings = model.model_validate(own)
    asks = isinstance(settings, KnowsInputs) and settings.input_kind == kind
    return settings.inputs() if asks else {}


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
            check_input_projection(kind, said.tower, f"{where}.tower")
            continue
        tower = check(TowerSettings, said.tower, where, ConfigError, under=f"{where}.tower")
        check_encoder(tower.encoder, f"{where}.tower.encoder")


def kinds_of(cohort: Cohort) -> dict[str, str]:
    """Modality of a cohort to its kind."""
    return {name: one.kind for name, one in cohort.spec.modalities.items()}
