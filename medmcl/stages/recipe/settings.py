"""Overrides of a command: which are the cohort's, which the recipe's, and what is wrong with them.

Nothing here imports torch, which takes seconds: a slip of the pen is told before that. What checks
models and the evaluate stage is imported where a command reads them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.config import check, faults_of, read_yaml
from medmcl.core.errors import ConfigError, MedmclError, OverrideError
from medmcl.core.overrides import apply_override, naming_overrides, refuse_overrides, written
from medmcl.data.cohort.locate import find_cohort
from medmcl.data.cohort.spec import CohortKeys
from medmcl.modalities import ADAPTERS, kind_of
from medmcl.stages.recipe.file import find_recipe, read_recipe, unknown_override
from medmcl.stages.recipe.spec import RecipeSpec

if TYPE_CHECKING:
    from medmcl.stages.evaluate.spec import EvaluateSpec


def refuse_settings(
    cohort: str | Path,
    recipe: str | Path | None,
    overrides: Mapping[str, Any],
    *,
    reads_recipe: bool = True,
    reads_stage: bool = False,
    builds: bool = False,
) -> None:
    """Refuse what can be told of overrides from the files of cohort and recipe alone.

    Whatever else is wrong with these files is left to whoever opens them, with all its faults.

    Args:
        cohort: Folder, cohort.yaml or name.
        recipe: File or name; the cohort's own if None.
        overrides: Dotted key to value, as ``--set``.
        reads_recipe: Whether the command reads a recipe; otherwise all must concern the cohort.
        reads_stage: Whether it reads ``evaluate.KEY``, too.
        builds: Whether it builds the recipe's models, and ends at their first fault.

    Raises:
        OverrideError: An override that cannot be used.
        MedmclError: There is no such cohort, or no such recipe.
    """
    file = find_cohort(cohort)
    if recipe is not None:
        find_recipe(recipe)
    if reads_stage:
        _, overrides = evaluate_overrides(overrides)
    if not reads_recipe:
        only_cohort_overrides(overrides)
    try:
        tree = read_yaml(file)
        name = recipe if recipe is not None else tree.get("recipe")
        _refuse_of_cohort(tree, cohort_overrides(overrides))
        if reads_recipe and name is not None:
            spec = read_recipe(name, recipe_overrides(overrides))
            if builds:
                _refuse_of_models(spec, tree, recipe_overrides(overrides))
    except OverrideError:
        raise
    except MedmclError:  # of the files themselves
        return


def _refuse_of_models(
    recipe: RecipeSpec, tree: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """Refuse overrides of inputs, towers, views and objectives, by the kinds that the file says."""
    from medmcl.stages.recipe.model_checks import faults_of_models
    from medmcl.stages.recipe.resolve_modalities import for_cohort

    modalities, tasks = (tree.get(section) or {} for section in ("modalities", "tasks"))
    if not (overrides and isinstance(modalities, dict) and isinstance(tasks, dict)):
        return
    found = [kind_of(one if isinstance(one, dict) else {}) for one in modalities.values()]
    if not set(found) <= set(ADAPTERS):
        return  # whoever opens the cohort says what is wrong with it
    kinds = dict(zip(modalities, map(str, found), strict=True))
    try:
        faults: list[MedmclError] = [
            *faults_of_models(for_cohort(recipe, kinds).expanded(list(tasks)), kinds)
        ]
    except MedmclError as error:
        faults = [error]
    for fault in faults:
        named = naming_overrides(fault, overrides)
        if isinstance(named, OverrideError):
            raise named


def _refuse_of_cohort(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse overrides of the top level of cohort.yaml; what its adapters read comes later."""
    applied = {}
    for key, value in overrides.items():
        text = written(key if key == "data_root" else f"cohort.{key}", value)
        applied[apply_override(tree, key, value, where=text)] = text
    for section in ("tasks", "modalities"):  # null takes one out
        if isinstance(tree.get(section), dict):
            tree[section] = {name: one for name, one in tree[section].items() if one is not None}
    refuse_overrides(faults_of(CohortKeys, tree), applied)


def cohort_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that concern the cohort: ``cohort.x`` and ``data_root``."""
    own = {key: value for key, value in overrides.items() if _is_of_cohort(key)}
    return {key.removeprefix("cohort."): value for key, value in own.items()}


def recipe_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that concern the recipe: all others."""
    return {key: value for key, value in overrides.items() if not _is_of_cohort(key)}


def _is_of_cohort(key: str) -> bool:
    return key.startswith("cohort.") or key == "data_root"


def only_cohort_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of a command that reads no recipe: they all must concern the cohort."""
    others = recipe_overrides(overrides)
    if others:
        raise unknown_override(*next(iter(others.items())), known=())
    return cohort_overrides(overrides)


OF_FITTING = ("label_fractions", "draws", "folds", "refit", "fold_by", "baselines", "confounders")
"""Keys that say how probes are fitted, or what beside: kept ones are applied as they are."""


def evaluate_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the overrides of ``evaluate`` into those of its stage, and those of the cohort.

    Raises:
        OverrideError: One that is neither, with what was probably meant: a key of the stage alone,
            or as ``pretrain`` takes it.
    """
    from medmcl.stages.evaluate.spec import EvaluateSpec

    own = {key: value for key, value in overrides.items() if key.startswith("evaluate.")}
    rest = {key: value for key, value in overrides.items() if key not in own}
    for dotted, value in own.items():
        key = dotted.split(".")[1]
        if key not in EvaluateSpec.model_fields:
            tree = {"stage": "evaluate", key: value}
            faults = faults_of(EvaluateSpec, tree, "evaluate")
            refuse_overrides(faults, {(key,): written(dotted, value)})
    for dotted, value in recipe_overrides(rest).items():
        keys = [part for part in dotted.split(".") if part in EvaluateSpec.model_fields]
        if dotted.split(".")[0] in ("stages", *EvaluateSpec.model_fields) and keys:
            meant = "evaluate." + dotted[f".{dotted}".index(f".{keys[0]}") :]
            raise OverrideError(
                f"'{dotted}' is no setting of this command; did you mean '{meant}'?",
                where=written(dotted, value),
                expected="evaluate.KEY of the evaluate stage, cohort.NAME, data_root",
                fix=f"write {written(meant, value)}",
            )
    return own, rest


def with_settings(
    tree: Mapping[str, Any], overrides: Mapping[str, Any], *, is_frozen: bool = False
) -> EvaluateSpec:
    """Lay settings over an evaluate stage.

    Args:
        tree: The stage, as a recipe says it.
        overrides: ``evaluate.KEY`` to value.
        is_frozen: Kept probes are applied: keys that say how to fit others are refused.

    Raises:
        OverrideError: An override that cannot be used, with the key that was probably meant.
        ConfigError: The stage is not valid.
    """
    from medmcl.stages.evaluate.spec import EvaluateSpec

    laid, applied = copy.deepcopy(dict(tree)), {}
    for dotted, value in overrides.items():
        key = dotted.removeprefix("evaluate.")
        if is_frozen and key.split(".")[0] in OF_FITTING:
            raise of_fitting(written(dotted, value))
        path = apply_override(laid, key, copy.deepcopy(value), where=written(dotted, value))
        applied[path] = written(dotted, value)
    refuse_overrides(faults_of(EvaluateSpec, laid, "evaluate"), applied)
    return check(EvaluateSpec, laid, "evaluate", ConfigError, under="evaluate")


def of_fitting(given: str) -> ConfigError:
    """Give the error of an option that says how to fit, where kept probes are applied."""
    return ConfigError(
        "the probes that the run kept are applied here and nothing is fitted, so this would not be "
        "read",
        where=given,
        fix="leave it out; or --probe refit, which fits on this cohort's train split",
    )
