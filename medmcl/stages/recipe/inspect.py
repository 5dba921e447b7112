"""``medmcl check``: every fault of a cohort, and of a recipe on it, at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from medmcl.core.atomic import working_folder
from medmcl.core.errors import ContractError, MedmclError, OverrideError
from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted
from medmcl.core.progress import progress as shown_progress
from medmcl.data.check.check import Checked, check_cohort, check_shard
from medmcl.data.cohort.cohort import Cohort, at_hand, load_cohort
from medmcl.data.cohort.garbage import collector_paused
from medmcl.data.loading.prepare import cache_folder
from medmcl.data.loading.shared_work import Shard
from medmcl.stages.recipe.file import find_recipe, read_recipe
from medmcl.stages.recipe.model_checks import OTHERWISE, faults_of_models, other_inputs
from medmcl.stages.recipe.on_cohort import faults_with
from medmcl.stages.recipe.resolve_modalities import ROLES, for_cohort, kinds_of, roles_said
from medmcl.stages.recipe.settings import cohort_overrides, only_cohort_overrides, recipe_overrides
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import named
from medmcl.stages.train.spec import TowersSpec

log = logging.getLogger("medmcl")


def check(
    cohort: Cohort | str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
    shard: Shard | None = None,
) -> Checked:
    """Find every fault of a cohort and of a recipe on it (the cohort's own if none is named).

    Args:
        cohort: Cohort, folder, cohort.yaml or name.
        recipe: Recipe whose preparation is tried on the records.
        overrides: Dotted key to value, as ``--set``.
        progress: Told how many records are done; if not given, a bar is shown on a terminal.
        shard: Read a share of the records, and leave what was found in the cache; whoever finds
            that of all shards there judges.

    Returns:
        A list of findings, errors first, grouped by scope and code, none twice. Its ``overview``
        says what was looked at: subjects, records, labels; None if the cohort cannot be opened.
    """
    overrides = dict(overrides or {})
    if recipe is not None:
        find_recipe(recipe)
    if isinstance(cohort, Cohort):
        opened: Cohort | None = at_hand(cohort, cohort_overrides(overrides))
    else:
        opened, findings = load_cohort(cohort, cohort_overrides(overrides))
        if opened is None:
            return Checked(findings)
    assert opened is not None  # one way or the other
    about, spec = _check_recipe(recipe or opened.spec.keys.recipe, opened, overrides)
    if not opened.spec.modalities and any(one.level == "error" for one in opened.findings):
        about, spec = [], None  # what is wrong with cohort.yaml took them
    inputs = {} if spec is None else _inputs(spec, opened)
    trains = spec is not None and bool(named(spec.stages, TowersSpec))
    counts = {name: len(records) for name, records in opened.records.items()}
    said = ", ".join(counted(count, f"{name} record") for name, count in counts.items())
    people = counted(len(opened.subjects), "subject")
    log.info("cohort %s: %s; reading %s", opened.name, people, said or "no records")
    total = sum(counts.values())
    parts = None if shard is None else cache_folder(Path("runs"))
    with shown_progress("reading records", total, shown=progress is None) as bar:
        if shard is not None and parts is not None:
            unread = check_shard(opened, inputs, shard, parts=parts, progress=progress or bar)
            if unread.missing:
                return Checked([], None, unread)
        found = check_cohort(opened, inputs, trains=trains, progress=progress or bar, parts=parts)
    unset = [one.where for one in found if one.code == "recipe.inputs"]
    told = [one.what for one in about]  # each slip of a recipe once
    found[:] = [
        one
        for one in found
        if one.code != "recipe.inputs" or not any(f"({one.where})" in what for what in told)
    ]
    name = recipe or opened.spec.keys.recipe
    skipped = ""
    if any(one.level == "error" for one in (*about, *found)):
        skipped = "" if name is None else _skipped(spec, unset)
    elif spec is not None:
        about += [_recipe_fault(str(name), one) for one in _refused(opened, spec)]
    return Checked([*about, *found], found.overview, skipped=skipped)


def _skipped(recipe: RecipeSpec | None, unset: list[str]) -> str:
    """Say what of a recipe errors kept from being tried: settings of inputs, the rehearsal."""
    whose = "the recipe" if recipe is None else ", ".join(unset)
    said = [f"records were looked at without the settings of {whose}"] if whose else []
    if recipe is None or any(stage.learns for stage in recipe.stages):
        said.append("the recipe was not rehearsed")
    return f"{', and '.join(said)}: correct what is at fault, and check again" if said else ""


def gpu_needs(
    cohort: str | Path, recipe: str | Path | None, overrides: Mapping[str, Any]
) -> list[str]:
    """Say in a line for each train stage what it takes of a GPU, counted without one.

    Args:
        cohort: As of `check`, which found no error.
        recipe: As there.
        overrides: As there.
    """
    from medmcl.stages.train.rehearse import CARDS_GB, footprints

    opened, _ = load_cohort(cohort, cohort_overrides(dict(overrides)))
    spec = None
    if opened is not None:
        spec = _check_recipe(recipe or opened.spec.keys.recipe, opened, overrides)[1]
    if opened is None or spec is None:
        return []
    lines = []
    try:
        for one in footprints(opened, spec, "bf16"):
            fits = (f"{one.rows_in(card):,} in {card} GB" for card in CARDS_GB)
            lines.append(
                f"{one.stage}: {one.whole.parameters / 1e6:,.3g} M parameters; a step of "
                f"{one.whole.rows:,} rows in bf16: {one.whole.flops / 1e12:,.3g} TFLOP, "
                f"{one.whole.peak / 1e9:,.3g} GB; largest batch: {', '.join(fits)}"
            )
    except ContractError as error:
        lines.append(str(error))
    return lines


def _refused(cohort: Cohort, recipe: RecipeSpec) -> list[MedmclError]:
    """Rehearse each stage as `pretrain` does before the first step, and give what it refuses.

    One record of each modality stands for all of them; a recipe that trains nothing is left alone.
    """
    if not any(stage.learns for stage in recipe.stages):
        return []
    with collector_paused():
        from medmcl.data.loading.stand_in import stand_in
        from medmcl.stages.run.training import dry_run, idle_context

    refused: list[MedmclError] = []
    with working_folder(Path(gettempdir()) / "medmcl-rehearsal") as folder:
        context = idle_context(folder, recipe)
        try:
            prepared = stand_in(cohort, recipe.inputs)
        except MedmclError as error:
            return [error]
        if prepared is None:
            return []
        for stage in recipe.stages:
            try:
                dry_run([stage], prepared, context)
            except MedmclError as error:
                refused.append(error)
    return refused


_SHOWN = 5
"""Findings of one code and one fix that are written out."""


def written(findings: Checked) -> str:
    """Write what was found for people: groups with their fixes, what was looked at, the sum."""
    groups: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for one in findings:
        groups.setdefault((one.level, one.code), {}).setdefault(one.fix, []).append(one)
    root = "" if findings.overview is None else f"{findings.overview.root}/"
    lines = []
    for (level, code), fixes in groups.items():
        lines.append(_heading(level, code, list(fixes.values())))
        for fix, found in fixes.items():
            for one in found[:_SHOWN]:
                said = f"  {one.where}: {one.what}"
                lines.append(said.replace(root, "") if root else said)
            lines.append(f"  to fix: {fix}")
    if findings.overview is not None:
        lines += ["looked at", *(f"  {line}" for line in str(findings.overview).splitlines())]
    return "\n".join([*lines, *_sum(findings)])


def _heading(level: str, code: str, groups: list[list[Finding]]) -> str:
    count = sum(map(len, groups))
    shown = sum(min(len(found), _SHOWN) for found in groups)
    return f"{level} {code}" + (f" ({count} in all; {shown} shown)" if count > shown else "")


def _sum(findings: Checked) -> list[str]:
    """Say how many faults there are, and how to go on without the records that have them."""
    errors = [finding for finding in findings if finding.level == "error"]
    lines = []
    read = findings.overview.records if findings.overview is not None else ()
    all_lost = any(one.read and one.faulty == one.read for one in read)
    if any(finding.scope == "record" for finding in errors) and not all_lost:
        lines.append("records with errors can be left out: --set cohort.on_bad_record=exclude")
    if errors and all(finding.scope == "task" for finding in errors):
        lines.append(
            "only outcomes are at fault, and `medmcl predict RUN` reads none: `medmcl check "
            "--predict RUN --cohort ...` looks at the people as it does"
        )
    warnings = counted(len(findings) - len(errors), "warning")
    lines += [findings.skipped] if findings.skipped else []
    return [*lines, f"{counted(len(errors), 'error')}, {warnings}"]


def _check_recipe(
    name: str | Path | None, cohort: Cohort, overrides: Mapping[str, Any]
) -> tuple[list[Finding], RecipeSpec | None]:
    """Give the faults of the recipe itself, and the recipe if it can be read."""
    if name is None:
        only_cohort_overrides(overrides)
        return [], None
    try:
        spec = for_cohort(read_recipe(name, recipe_overrides(overrides)), kinds_of(cohort))
        spec = spec.expanded(cohort.usable_tasks)
    except OverrideError:
        raise
    except MedmclError as error:
        if error.where == ROLES and cohort.spec.lost("modalities"):
            return [], None  # one that is at fault may have the role: its own finding says it
        return [_recipe_fault(str(name), error)], None
    faults: list[MedmclError] = [*faults_of_models(spec, kinds_of(cohort))]
    if not faults:
        faults = faults_with(cohort, spec.stages)
    about = [_recipe_fault(str(name), fault) for fault in faults]
    known = {*cohort.spec.modalities, *cohort.spec.lost("modalities")}  # its own finding says it
    if not about:
        about += [
            cohort_warning("recipe.other_inputs", f"inputs.{m}", f"{OTHERWISE}: {said}",
                           f"take them out of inputs.{m}, so that the card prepares; or leave "
                           "them, if that is meant: the report says so too")
            for m, said in other_inputs(spec, kinds_of(cohort)).items()
        ]  # fmt: skip
    missing = [m for m in spec.inputs if m not in known]
    what = "reads '{}', which the cohort does not have" + roles_said(spec)
    about += [_recipe_fault(str(name), MedmclError(what.format(m))) for m in missing]
    return about, spec


def _inputs(spec: RecipeSpec, cohort: Cohort) -> dict[str, Any]:
    """How the recipe prepares the modalities that the cohort has."""
    return {m: s for m, s in spec.inputs.items() if m in cohort.spec.modalities}


def _recipe_fault(name: str, error: MedmclError) -> Finding:
    """Give a fault of the recipe itself, with the fix that its error names."""
    told = (("", error.where), ("got ", error.got), ("expected ", error.expected))
    notes = [f"{label}{value}" for label, value in told if value is not None]
    what = error.what + (f" ({'; '.join(notes)})" if notes else "")
    fix = error.fix or "correct the recipe, or name another (`medmcl recipes`)"
    return cohort_error("recipe", f"recipe {name}", what, fix)
