"""Settings of an evaluate stage that a command gives: ``--set evaluate.draws=5``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from medmcl.core.config import faults_of
from medmcl.core.errors import ConfigError
from medmcl.core.overrides import apply_override, refuse_overrides, written
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.recipe.settings import of_cohort_beside_stage

PREFIX = "evaluate."
"""What stands before the keys of the stage."""
OF_FITTING = ("label_fractions", "draws", "folds", "refit", "fold_by", "baselines", "confounders")
"""Keys that say how probes are fitted, or what beside: kept ones are applied as they are."""


def evaluate_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part overrides into those of the evaluate stage, and those of the cohort.

    Raises:
        OverrideError: One that is neither.
    """
    own = {key: value for key, value in overrides.items() if key.startswith(PREFIX)}
    return own, of_cohort_beside_stage(overrides)


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
    laid, applied = copy.deepcopy(dict(tree)), {}
    for dotted, value in overrides.items():
        key = dotted.removeprefix(PREFIX)
        if is_frozen and key.split(".")[0] in OF_FITTING:
            raise of_fitting(written(dotted, value))
        path = apply_override(laid, key, copy.deepcopy(value), where=written(dotted, value))
        applied[path] = written(dotted, value)
    faults = faults_of(EvaluateSpec, laid, "evaluate")
    refuse_overrides(faults, applied)
    if faults:
        what = "is not valid:\n" + "\n".join(f"  - {fault.text}" for fault in faults)
        raise ConfigError(what, where="evaluate")
    return EvaluateSpec.model_validate(laid)


def of_fitting(given: str) -> ConfigError:
    """Give the error of an option that says how to fit, where kept probes are applied."""
    return ConfigError(
        "the probes that the run kept are applied here and nothing is fitted, so this would not be "
        "read",
        where=given,
        fix="leave it out; or --probe refit, which fits on this cohort's train split",
    )
