"""``medmcl check``: every fault of a cohort, and of a recipe on it, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import MedmclError
from medmcl.core.findings import Finding
from medmcl.data.check import check_cohort, grouped
from medmcl.data.cohort import Cohort, load_cohort
from medmcl.stages.recipe import expand, read_recipe
from medmcl.stages.run import cohort_overrides, only_cohort_overrides, recipe_overrides


def check(
    cohort: Cohort | str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Finding]:
    """Find every fault of a cohort and of a recipe on it (the cohort's own if none is named).

    Args:
        cohort: Cohort, folder, cohort.yaml or name.
        recipe: Recipe whose preparation is tried on the records.
        overrides: Dotted key to value, as ``--set``.
        progress: Told how many records are done.

    Returns:
        Findings, errors first, grouped by scope and code; none twice.
    """
    overrides = dict(overrides or {})
    if isinstance(cohort, Cohort):
        opened: Cohort | None = cohort
    else:
        opened, findings = load_cohort(cohort, cohort_overrides(overrides))
        if opened is None:
            return grouped(findings)
    assert opened is not None  # one way or the other
    about, inputs = _check_recipe(recipe or opened.spec.recipe, opened, overrides)
    return grouped([*about, *check_cohort(opened, inputs, progress=progress)])


def _check_recipe(
    name: str | Path | None, cohort: Cohort, overrides: Mapping[str, Any]
) -> tuple[list[Finding], dict[str, Any]]:
    """Faults of the recipe itself, and how it prepares the modalities that the cohort has."""
    if name is None:
        only_cohort_overrides(overrides)
        return [], {}
    try:
        spec = read_recipe(name, recipe_overrides(overrides))
        expand(spec, cohort.usable_tasks)
    except MedmclError as error:
        return [_recipe_finding(str(name), str(error))], {}
    inputs = {m: s for m, s in spec.inputs.items() if m in cohort.spec.modalities}
    missing = [m for m in spec.inputs if m not in inputs]
    return [
        _recipe_finding(str(name), f"reads '{m}', which the cohort does not have") for m in missing
    ], inputs


def _recipe_finding(name: str, what: str) -> Finding:
    return Finding(
        code="recipe",
        where=f"recipe {name}",
        what=what,
        mend="mend the recipe, or name another (`medmcl recipes`)",
        scope="cohort",
    )
