"""A recipe on a cohort: read, resolved and checked; its faults there; its records prepared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.core.errors import CohortError, ConfigError, MedmclError, OverrideError
from medmcl.core.findings import Finding, counted
from medmcl.core.overrides import written
from medmcl.core.progress import progress
from medmcl.data.cohort.cohort import Cohort, at_hand
from medmcl.data.loading.prepare import Prepared, cache_folder, prepare, prepare_shard
from medmcl.data.loading.shared_work import Shard
from medmcl.engine.signals import StopRequest
from medmcl.stages.recipe.file import list_recipes, read_recipe
from medmcl.stages.recipe.model_checks import faults_of_models
from medmcl.stages.recipe.resolve_modalities import for_cohort, kinds_of, roles_said
from medmcl.stages.recipe.settings import cohort_overrides, recipe_overrides
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import StageSpec, named
from medmcl.stages.train.spec import TrainSpec


def recipe_on(
    cohort: Cohort | str | Path,
    recipe: str | Path | Mapping[str, Any] | RecipeSpec | None,
    overrides: Mapping[str, Any],
) -> tuple[Cohort, RecipeSpec]:
    """Open a cohort, and give it with the recipe for it: its modalities by name, single stages.

    Args:
        cohort: Open cohort, folder, cohort.yaml or name.
        recipe: File or name, or what a file would hold; the cohort's own recipe if not given. What
            this gave for the cohort stays as it is.
        overrides: Dotted key to value, as ``--set``.

    Raises:
        MedmclError: Cohort, recipe or overrides cannot be used, alone or together. An open cohort,
            or a recipe that was read, takes none.
    """
    opened = at_hand(cohort, cohort_overrides(overrides))
    if isinstance(recipe, RecipeSpec):
        for key, value in recipe_overrides(overrides).items():
            raise OverrideError(
                "a recipe that was read takes no overrides any more",
                got=written(key, value),
                fix="give its name or file, or what a file would hold",
            )
        return opened, recipe
    named = recipe or opened.spec.keys.recipe
    if named is None:
        raise _no_recipe(opened)
    spec = for_cohort(read_recipe(named, recipe_overrides(overrides)), kinds_of(opened))
    spec = spec.expanded(list(opened.spec.tasks))
    for fault in faults_of_models(spec, kinds_of(opened)):
        raise fault
    return opened, spec


def prepare_inputs(
    cohort: Cohort,
    spec: RecipeSpec,
    folder: Path,
    *,
    shown: bool = True,
    stop: StopRequest | None = None,
) -> Prepared:
    """Prepare the records that a recipe reads; the splits of training only.

    Args:
        cohort: The cohort.
        spec: The recipe, as `recipe_on` gives it.
        folder: What is written; prepared records are cached beside it.
        shown: Whether a bar tells how far it is.
        stop: Asked after every record whether to stop.

    Raises:
        ConfigError: The cohort lacks a modality.
        CohortError: Records that cannot be used.
        Interrupted: A stop signal came.
    """
    for name in spec.inputs:
        if name not in cohort.spec.modalities:
            raise ConfigError(
                f"the recipe '{spec.name}' reads '{name}', which the cohort does not have",
                expected=", ".join(cohort.spec.modalities) + roles_said(spec),
                fix="correct the name, name another recipe, or add the modality to cohort.yaml",
            )
    total = sum(len(cohort.records[name]) for name in spec.inputs)
    with progress("reading records", total, shown=shown) as bar:

        def told(done: int) -> None:
            if stop is not None:
                stop.check_interrupt("reading records")
            bar(done)

        return prepare(cohort, spec.inputs, cache=cache_folder(folder.parent), progress=told)


def _no_recipe(cohort: Cohort) -> ConfigError:
    """Give the error for a cohort without a recipe; says which would fit."""
    kinds = kinds_of(cohort)
    if not kinds:
        return ConfigError(
            "no recipe is named, and the cohort has no modality to read",
            where=f"cohort {cohort.name}",
            expected="`modalities:` in its cohort.yaml",
            fix="for a model of the columns of its table: `modalities: {clinic: {reader: "
            'table, columns: "*"}}` and a recipe for tables (`medmcl recipes`); for vectors: '
            "medmcl evaluate --embeddings FILE --cohort COHORT --out FOLDER",
        )
    fit = _fitting(kinds)
    return ConfigError(
        "no recipe is named",
        got=f"cohort {cohort.name} of {', '.join(f'{n} ({k})' for n, k in kinds.items())}",
        expected=f"a recipe that reads these: {', '.join(fit) or 'none that ships does'}",
        fix=f"for example --recipe {fit[0] if fit else 'FILE'} (`medmcl recipes` says what "
        f"each does), or `recipe:` in {cohort.name}'s cohort.yaml",
    )


def _fitting(kinds: Mapping[str, str]) -> list[str]:
    """Name the recipes for a cohort of these modalities, by their kinds; first the shortest."""
    found: dict[str, int] = {}
    for name in list_recipes():
        if name.endswith("_toy"):
            continue
        try:
            spec = for_cohort(read_recipe(name), kinds)
        except MedmclError:  # a role that nothing takes, a kind that it does not know
            continue
        stages = named(spec.stages, TrainSpec).values()
        charged = {one.kind for stage in stages for one in stage.objectives.values()}
        least = 2 if "cross_modal" in charged else 0
        if {*spec.inputs} <= {*kinds} and len(spec.inputs) >= least:
            found[name] = len(spec.stages)
    return sorted(found, key=lambda name: found[name])


def prepare_records(
    cohort: str, recipe: str | None, out: Path, overrides: Mapping[str, Any], shard: str | None
) -> str:
    """Prepare the records that a recipe reads; give what was done, in words.

    Args:
        cohort: Folder, cohort.yaml or name.
        recipe: File or name; the cohort's own if not given.
        out: Run that will read them: they are cached beside it (`cache_folder`).
        overrides: As ``--set``.
        shard: Which share of them, as ``2/8``; whoever ends last joins all.

    Raises:
        MedmclError: Cohort, recipe or overrides cannot be used, or records cannot; of these whoever
            joins all shards tells.
    """
    one = None if shard is None else Shard.read(shard)
    opened, spec = recipe_on(cohort, recipe, overrides)
    cache = cache_folder(out.parent)
    if one is not None:
        total = sum(len(opened.records.get(name, ())) for name in spec.inputs)
        with progress("reading records", -(-total // one.of)) as bar:
            stand = prepare_shard(opened, spec.inputs, one, cache=cache, progress=bar)
        if stand.missing:
            return stand.told(one, f"joins them in {cache}")
    prepared = prepare_inputs(opened, spec, out)
    made = (counted(len(rows.usable), f"{name} record") for name, rows in prepared.stored.items())
    lost = prepared.exclusions()
    return f"prepared: {', '.join(made)}, in {cache}" + (f"\n{lost}" if lost else "")


def faults_with(
    cohort: Cohort, stages: Sequence[StageSpec], *, files: bool = True
) -> list[MedmclError]:
    """Give every fault of the expanded stages with this cohort that needs no record to be read.

    Args:
        cohort: The cohort.
        stages: Of a recipe.
        files: Whether lists and manifests that stages name are read; a run that has taken them can
            do without.
    """
    tasks = [one for one in used_tasks(cohort, stages) if one in cohort.spec.tasks]
    checks = [check for stage in stages for check in stage.checks_on(cohort, tasks)]
    if files:
        checks += [check for stage in stages for check in stage.file_checks(cohort)]
    found = []
    for check in checks:
        try:
            check()
        except MedmclError as fault:
            found.append(fault)
    return found


def used_tasks(cohort: Cohort, stages: Sequence[StageSpec]) -> list[str]:
    """Name the tasks that stages train on, score, or choose rows near to."""
    used = [task for stage in stages for task in stage.used_tasks(cohort.spec.tasks)]
    return list(dict.fromkeys(used))


def refuse_faulty(cohort: Cohort, tasks: Iterable[str]) -> None:
    """Refuse outcomes that are at fault, all in one error.

    Raises:
        CohortError: Names every fault, and how to leave the outcomes out.
    """
    tasks = [*tasks]
    faults: dict[str, list[Finding]] = {}
    for task in tasks:
        if task not in cohort.spec.tasks:
            cohort.targets(task)  # refuses, with the nearest name
        if wrong := [one for one in cohort.task_findings(task) if one.level == "error"]:
            faults[task] = wrong
    if not faults:
        return
    said = "".join(f"\n  - {one}" for found in faults.values() for one in found)
    leave = " ".join(f"--set cohort.tasks.{task}=null" for task in faults)
    is_all = not set(cohort.usable_tasks) & set(tasks)
    predicts = "; people without outcomes are predicted: medmcl predict RUN" if is_all else ""
    raise CohortError(
        f"outcomes that are used here have faults:{said}",
        where=f"cohort {cohort.name}",
        fix=f"fix them, or leave them out: {leave}{predicts}",
    )
