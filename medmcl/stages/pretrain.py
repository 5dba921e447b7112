"""``medmcl pretrain``: a recipe on a cohort, from nothing or from where it stopped, to a report."""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from medmcl.core.config import fingerprint, read_yaml
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.data.cohort import Cohort, open_cohort
from medmcl.data.loading import Prepared, cache_folder, prepare
from medmcl.engine.checkpoint import write_atomically
from medmcl.engine.record import Record, progress
from medmcl.engine.world import World, barrier, pick_device, start_world, stop_world
from medmcl.stages.evaluate import run_evaluate
from medmcl.stages.launch import choose_precision
from medmcl.stages.recipe import EvaluateSpec, RecipeSpec, TrainSpec, expand, read_recipe
from medmcl.stages.report import write_run_report
from medmcl.stages.run import Run, cohort_overrides, recipe_overrides, write_run_files
from medmcl.stages.train import Setting, run_train

PACKAGES = ("medmcl", "torch", "numpy", "pandas", "scikit-learn", "timm", "monai")


def pretrain(
    cohort: Cohort | str | Path,
    *,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
) -> Run | None:
    """Run every stage of a recipe on a cohort and write the report.

    Args:
        cohort: Open cohort, folder, cohort.yaml, or a name under ``cohorts/``.
        recipe: File or name; the cohort's own recipe if not given.
        out: Run folder; must be new unless ``resume``.
        overrides: Dotted key to value, as ``--set``.
        seed: Seed of everything random.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        resume: Go on with the unfinished run at ``out``; the same weights as if never stopped.

    Returns:
        The run; None on ranks other than the first.

    Raises:
        MedmclError: Something the user gave cannot be used; nothing was trained.
        Interrupted: A stop signal came; the state is saved.
    """
    overrides = dict(overrides or {})
    opened = (
        cohort if isinstance(cohort, Cohort) else open_cohort(cohort, cohort_overrides(overrides))
    )
    spec = read_recipe(_recipe_name(recipe, opened), recipe_overrides(overrides))
    where = pick_device(device)
    config = {
        "cohort": str(opened.path if isinstance(cohort, Cohort) else cohort),
        "cohort_overrides": cohort_overrides(overrides),
        "cohort_fingerprint": opened.fingerprint,
        "tasks": opened.usable_tasks,
        "seed": seed,
        "precision": choose_precision(precision, where),
        "recipe": json.loads(spec.model_dump_json(by_alias=True)),
    }
    folder = _run_folder(out, opened, spec, config, resume)
    stages = expand(spec, config["tasks"])
    _refuse_bad_tasks(opened, stages)
    world = start_world(device)
    try:
        return _run(folder, opened, spec, stages, config, world)
    finally:
        stop_world(world)


def _run(
    folder: Path,
    cohort: Cohort,
    spec: RecipeSpec,
    stages: list[TrainSpec | EvaluateSpec],
    config: dict[str, Any],
    world: World,
) -> Run | None:
    first = world.rank == 0
    record = Record(folder / "metrics.jsonl", active=first)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        record.say(f"cohort {cohort.name}: {len(cohort.subjects)} subjects; recipe {spec.name}")
        prepared = _prepare(cohort, spec, folder, first)
        write_run_files(folder, config, prepared)
        if not (folder / "provenance.json").exists():
            _write_provenance(folder, config, world)
    barrier(world)
    if not first:
        prepared = _prepare(cohort, spec, folder, first)
    setting = Setting(
        recipe=spec,
        seed=config["seed"],
        precision=config["precision"],
        world=world,
        folder=folder,
        record=record,
    )
    run = Run(folder)
    facts, evaluations = [], []
    for stage in stages:
        if isinstance(stage, TrainSpec):
            facts.append(run_train(stage, prepared, setting))
        elif first:
            evaluations.append(run_evaluate(stage, run, cohort, world.device, record))
        barrier(world)
    if not first:
        return None
    write_run_report(run, cohort, prepared, facts, evaluations)
    return run


def _prepare(cohort: Cohort, spec: RecipeSpec, folder: Path, shown: bool) -> Prepared:
    """Prepare the records that the recipe reads; the splits of training only."""
    for name in spec.inputs:
        if name not in cohort.spec.modalities:
            raise ConfigError(
                f"the recipe '{spec.name}' reads '{name}', which the cohort does not have",
                expected=", ".join(cohort.spec.modalities),
                mend="name another recipe, or add the modality to cohort.yaml",
            )
    total = sum(len(cohort.records[name]) for name in spec.inputs)
    with progress("reading records", total, shown=shown) as bar:
        return prepare(
            cohort, spec.inputs, cache=cache_folder(folder.parent), progress=lambda n: bar(n)
        )


def _recipe_name(recipe: str | Path | None, cohort: Cohort) -> str | Path:
    name = recipe or cohort.spec.recipe
    if name is None:
        raise ConfigError(
            "no recipe is named", mend="--recipe NAME (see `medmcl recipes`), or `recipe:` in "
            f"{cohort.name}'s cohort.yaml",
        )  # fmt: skip
    return name


def _run_folder(
    out: str | Path | None,
    cohort: Cohort,
    spec: RecipeSpec,
    config: dict[str, Any],
    resume: bool,
) -> Path:
    """Choose and claim the run folder; a resumed run must ask for what the first one did."""
    if out is None:
        if resume:
            raise ConfigError("--resume needs --out, the folder of the run to go on with")
        stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
        return Path("runs") / f"{cohort.name}-{spec.name}-{stamp}"
    folder = Path(out)
    before = folder / "config.yaml"
    if not resume:
        if folder.exists() and any(folder.iterdir()):
            raise ArtefactError(
                "the run folder is not empty", where=folder, mend="--resume, or another --out"
            )
        return folder
    if not before.exists():
        if folder.exists() and any(p.name != "metrics.jsonl" for p in folder.iterdir()):
            raise ArtefactError("there is no run to resume", where=folder)
        return folder
    old = read_yaml(before)
    new = json.loads(json.dumps(config))
    differing = sorted(_differences(old, new))
    if differing:
        raise ConfigError(
            "the run to resume was started with other settings",
            where=folder,
            got="; ".join(differing[:10]),
            mend="give the same cohort, recipe, --set and --seed, or start a new --out",
        )
    return folder


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in {*old, *new}:
            found += _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for n, (a, b) in pairs for line in _differences(a, b, f"{path}.{n}")]
    return [] if old == new else [f"{path}: {old!r} before, {new!r} now"]


def _refuse_bad_tasks(cohort: Cohort, stages: list[TrainSpec | EvaluateSpec]) -> None:
    """Refuse faults of the outcomes that the recipe names; others are no concern of this run."""
    for stage in stages:
        if isinstance(stage, TrainSpec):
            named = [stage.task]
        else:
            named = [] if stage.tasks == "all" else list(stage.tasks)
        for task in filter(None, named):
            cohort.targets(task)


def _write_provenance(folder: Path, config: dict[str, Any], world: World) -> None:
    provenance = {
        "recipe": config["recipe"]["name"],
        "cohort": config["cohort"],
        "config_hash": fingerprint(config),
        "cohort_fingerprint": config["cohort_fingerprint"],
        "seed": config["seed"],
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(world.device)
        if world.device.type == "cuda"
        else "cpu",
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "versions": {name: _version(name) for name in PACKAGES},
        "started": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "parents": [],
    }
    write_atomically(folder / "provenance.json", json.dumps(provenance, indent=1))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
