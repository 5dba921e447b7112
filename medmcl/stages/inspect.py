"""``medmcl check``: every fault of a cohort, and of a recipe on it, at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import MedmclError
from medmcl.core.findings import Finding
from medmcl.data.check import check_cohort
from medmcl.data.cohort import load_cohort
from medmcl.stages.recipe import expand, read_recipe
from medmcl.stages.run import cohort_overrides, recipe_overrides


def check(
    cohort: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Find every fault of a cohort and, if named or the cohort's default, of a recipe on it."""
    overrides = dict(overrides or {})
    opened, findings = load_cohort(cohort, cohort_overrides(overrides))
    if opened is None:
        return findings
    inputs: dict[str, Any] = {}
    name = recipe or opened.spec.recipe
    if name is not None:
        try:
            spec = read_recipe(name, recipe_overrides(overrides))
            expand(spec, opened.usable_tasks)
            inputs = {m: s for m, s in spec.inputs.items() if m in opened.spec.modalities}
            missing = [m for m in spec.inputs if m not in opened.spec.modalities]
        except MedmclError as error:
            findings = [*findings, _recipe_finding(str(name), str(error))]
            missing = []
        for modality in missing:
            findings = [
                *findings,
                _recipe_finding(str(name), f"reads '{modality}', which the cohort does not have"),
            ]
    return [*findings, *check_cohort(opened, inputs)]


def _recipe_finding(name: str, what: str) -> Finding:
    return Finding(
        code="recipe",
        where=f"recipe {name}",
        what=what,
        mend="mend the recipe, or name another (`medmcl recipes`)",
        scope="cohort",
    )
