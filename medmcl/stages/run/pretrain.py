"""``medmcl pretrain``: a recipe on a cohort, from nothing or from where it stopped, to a report."""

from __future__ import annotations

import datetime
import json
import logging
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medmcl.core.atomic import is_content
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, MedmclError
from medmcl.core.lazy import packages_with_parts
from medmcl.core.suppression import placeless
from medmcl.data.check import lost_by_outcome
from medmcl.data.check.lost_by_outcome import lacking_splits
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared, oddities
from medmcl.data.loading.reading import content_digest
from medmcl.engine.peers import peers_here, same_on_all, together
from medmcl.engine.record import Record
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.engine.world import World, any_rank, barrier, pick_device, start_world, stop_world
from medmcl.selection.keep import Keep
from medmcl.stages.recipe.on_cohort import (
    faults_with,
    prepare_inputs,
    recipe_on,
    refuse_faulty,
    used_tasks,
)
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.folder import finished_stages
from medmcl.stages.run.launch import (
    WRECKED_CODE,
    choose_precision,
    claimed_run,
    new_run_folder,
)
from medmcl.stages.run.own_cohort import COHORT_FILE
from medmcl.stages.run.run import (
    GIVE_KEEP,
    GIVEN,
    PACKAGES_WITH_PARTS,
    Run,
    read_config,
    write_run_files,
)
from medmcl.stages.run.stage_reuse import (
    differences,
    named,
    run_and_stage,
    shared_stages,
    take_over,
)
from medmcl.stages.run.store import FIRST, FIRST_FILES, LOCAL, Store
from medmcl.stages.run.training import dry_run, run_stages
from medmcl.stages.stage import STAGES, Context, StageSpec
from medmcl.stages.train.train_filter import read_keep

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation

log = logging.getLogger("medmcl")
PACKAGES = ("medmcl", "torch", "numpy", "pandas", "scikit-learn", "timm", "monai")


def pretrain(
    cohort: Cohort | str | Path,
    *,
    recipe: str | Path | RecipeSpec | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    keep: str | Path | None = None,
    reuse: Run | str | Path | None = None,
    resume: bool = False,
    rank_timeout: float | None = None,
) -> Run | None:
    """Run every stage of a recipe on a cohort and write the report.

    Args:
        cohort: Open cohort, folder, cohort.yaml, or a name under ``cohorts/``.
        recipe: File or name, or as `recipe_on` resolves it for the cohort; the cohort's own recipe
            if not given.
        out: Run folder; must be new unless ``resume``.
        overrides: Dotted key to value, as ``--set``; an open cohort, or a recipe that was read,
            takes none.
        seed: Seed of everything random.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        keep: Keep file of this cohort (`medmcl.select`); stages that train without labels draw
            only rows that it keeps.
        reuse: Run of this cohort, whose finished stages are taken over where this recipe has them
            under the same names and settings: the weights are those that training would give.
            ``FOLDER:STAGE``: that stage and those that it needs, and no others.
        resume: Go on with the unfinished run at ``out``; the same weights as if never stopped.
        rank_timeout: Seconds that ranks wait for one that is silent or late in a step, before all
            end (`medmcl.engine.peers`).

    Returns:
        The run; None on ranks other than the first.

    Raises:
        EndedTogether: Another rank ended the run.
        MedmclError: Something the user gave cannot be used; nothing was trained.
        Interrupted: A stop signal came; the state is saved.
    """
    with together(rank_timeout):
        return run_recipe(
            cohort, recipe=recipe, out=out, overrides=overrides, seed=seed, device=device,
            precision=precision, keep=keep, reuse=reuse, resume=resume,
        )[0]  # fmt: skip


@together()
def run_recipe(
    cohort: Cohort | str | Path,
    *,
    recipe: str | Path | Mapping[str, Any] | RecipeSpec | None,
    out: str | Path | None,
    overrides: Mapping[str, Any] | None,
    seed: int,
    device: str,
    precision: str = "auto",
    keep: str | Path | None = None,
    reuse: Run | str | Path | None = None,
    resume: bool = False,
) -> tuple[Run | None, list[Evaluation]]:
    """Do what `pretrain` does, of a recipe that may be given as its tree; its evaluations, too."""
    peers = peers_here()
    first = peers is None or peers.rank == 0
    overrides = dict(overrides or {})
    opened, spec = recipe_on(cohort, recipe, overrides)
    where = pick_device(device)
    config = {
        "cohort": opened.name,
        "cohort_overrides": dict(opened.overrides),
        "cohort_fingerprint": opened.fingerprint,
        **({} if opened.noise is None else {"noisy_pairs": str(opened.noise)}),
        "tasks": list(opened.spec.tasks),
        "seed": seed,
        "precision": choose_precision(precision, where),
        "recipe": json.loads(spec.as_written.model_dump_json(by_alias=True)),
    }
    kept = None if out is None else Store(Path(out)).file(GIVEN, Keep)
    if keep is None and resume and kept is not None and kept.exists():
        keep = kept
    try:
        given = None if keep is None else read_keep(keep, opened)
    except ArtefactError as error:
        raise error if keep != kept else error.again(ArtefactError, fix=GIVE_KEEP) from None
    if given is not None:
        config["keep"] = given.fingerprint
    folder = _named_folder(out, opened, spec, resume)
    if peers is not None:
        asked = {**config, "--resume": resume, "--out": out and str(out), "versions": _versions()}
        same_on_all(peers, "what they are asked for", asked, _said)
        folder = Path(peers.shared("the run folder", str(folder))[0])
    with claimed_run(folder):
        if first:  # the others see what it makes of the folder
            _refuse_taken(folder, config, resume)
        if resume:
            config = _as_begun(folder, config)
        other, until = (None, None) if reuse is None else run_and_stage(reuse)
        shared = [] if other is None else shared_stages(other, config, spec.stages, until)
        _refuse_bad_tasks(opened, spec, folder)
        run = Run.begun(folder, config, spec, given)
        world = start_world(device)
        try:
            with StopRequest() if peers is None else nullcontext(peers.stop) as stop:
                reused = (other, shared) if other else None
                found = _run(run, opened, world, stop, resume=resume, reused=reused)
        except Interrupted as stopped:
            stopped.folder = folder
            raise
        if first and peers is not None and run.wrecked:
            peers.code = WRECKED_CODE
        if peers is not None:
            peers.wait("the first rank to evaluate")
        stop_world(world)  # where a rank failed, the others are told before connections close
        return found


def _said(first: Any, other: Any) -> str:
    return named(differences(first, other))


def _run(
    run: Run,
    cohort: Cohort,
    world: World,
    stop: StopRequest,
    *,
    resume: bool,
    reused: tuple[Run, list[StageSpec]] | None = None,
) -> tuple[Run | None, list[Evaluation]]:
    first, folder, spec = world.rank == 0, run.path, run.recipe
    record = Record(folder / "metrics.jsonl", active=first)
    if first:
        if resume:
            run.forget_damaged(stage.name for stage in spec.stages)
            if not (folder / "config.yaml").exists():
                record.say(f"nothing to resume in {folder}; starting")
        record.say(f"cohort {cohort.name}: {len(cohort.subjects)} subjects; recipe {spec.name}")
        prepared = prepare_inputs(cohort, spec, folder, stop=stop)
        for line in _remarks(prepared):
            record.say(line)
    barrier(world, "the first rank to prepare records")
    if not first:
        prepared = prepare_inputs(cohort, spec, folder, shown=False, stop=stop)
    digests = {  # of the records of each modality, and of who has which
        name: content_digest(stored.digests) + content_digest(prepared.present[name])
        for name, stored in prepared.stored.items()
    }
    same_on_all(world.peers, "the records that they prepared", digests, _said)
    context = Context(run=run, world=world, record=record, stop=stop)
    dry_run(spec.stages, prepared, context)
    if first:
        _write_first_files(prepared, context, reused, resume)
    barrier(world, "the first rank to write what the run is")  # nobody reads a part of it
    facts = _run_stages(prepared, context)
    if not first:
        return None, []
    from medmcl.stages.run.report import write_run_report
    from medmcl.stages.select.report import selections_of

    write_run_report(
        run, cohort, prepared, facts, context.evaluations, selections=selections_of(run, prepared)
    )
    return run, context.evaluations


def _write_first_files(
    prepared: Prepared,
    context: Context,
    reused: tuple[Run, list[StageSpec]] | None,
    resume: bool,
) -> None:
    """Write what a run is before its first step."""
    run, record = context.run, context.record
    write_run_files(run, prepared)
    parents, keep = [], run.given_keep
    if keep is not None:
        run.save(GIVEN, keep)  # the one that is there may be damaged
        parents.append({"keep": keep.fingerprint, "rule": keep.rule, "of": dict(keep.provenance)})
    if reused is not None:
        other, stages = reused
        parents.append(take_over(other, stages, run))
        told = ", ".join(stage.name for stage in stages)
        record.say(f"taken over from {other.path}: {told}")
    try:
        is_told = resume and bool(run.tree("provenance", {}))
    except ArtefactError as error:
        record.say(f"{error.args[0].splitlines()[0]}; written anew")
        is_told, parents = (
            False,
            [*parents, {"lost": "what provenance.json said before it was damaged"}],
        )
    if is_told:
        then, now = run.tree("provenance").get("threads"), torch.get_num_threads()
        if then not in (None, now):
            record.say(
                f"warning: this run was begun on {then} of torch's threads and goes on on {now}: "
                "last digits may differ from those of one that was never stopped "
                f"(OMP_NUM_THREADS={then})"
            )
        run.promise("provenance.json")  # a process that was killed may not have come to it
        return
    config, world = run.config, context.world
    provenance = {
        "recipe": config["recipe"]["name"],
        "cohort": config["cohort"],
        "config_hash": fingerprint(placeless(config)),
        "cohort_fingerprint": config["cohort_fingerprint"],
        COHORT_FILE: str(prepared.cohort.path.resolve()),
        "seed": config["seed"],
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(world.device)
        if world.device.type == "cuda"
        else "cpu",
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "versions": _versions(),
        PACKAGES_WITH_PARTS: packages_with_parts(),
        "started": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "parents": parents,
        FIRST: FIRST_FILES,
    }
    run.save_tree("provenance", provenance)


def _run_stages(prepared: Prepared, context: Context) -> list[dict[str, Any]]:
    """Run all stages; give the facts of those that make something."""
    facts: list[dict[str, Any]] = []
    for learns, some in groupby(context.run.recipe.stages, lambda stage: stage.learns):
        if learns:
            facts += run_stages([*some], prepared, context)
            continue
        for stage in some:
            if any_rank(context.stop.asked, context.world):
                raise Interrupted(f"before {stage.name}")
            if context.world.rank == 0:
                STAGES[stage.stage](stage).run(prepared, context)
    return facts


def _remarks(prepared: Prepared) -> list[str]:
    """What whoever starts a run should know of its data: wrong pairs, leads and records out."""
    noise = prepared.cohort.noise
    wrong = [] if noise is None else [f"pairs made wrong on purpose: {noise}"]
    wrong += prepared.masked_leads()
    wrong += [f"warning: {said}" for said in oddities(prepared.warnings)]
    for name, has in prepared.present.items():
        lacking = lacking_splits(has & prepared.kept, prepared.splits, prepared.subjects)
        wrong += [f"warning: {name}: {said}" for said in lacking.values()]
    if not prepared.excluded:
        return wrong
    found = prepared.losses()
    uneven = [f"warning: {one.what}" for one in lost_by_outcome.uneven(found)]
    return [*wrong, prepared.exclusions(), *lost_by_outcome.told(found), *uneven]


def _named_folder(out: str | Path | None, cohort: Cohort, spec: RecipeSpec, resume: bool) -> Path:
    """Give the folder of the run: as it was named, or after what it holds."""
    if out is not None:
        return Path(out)
    if resume:
        raise ConfigError("--resume needs --out, the folder of the run to go on with")
    return new_run_folder(f"{cohort.name}-{spec.name}")


_BEFORE = ("metrics.jsonl", LOCAL)
"""Files of a run folder that is no run yet."""


def _refuse_taken(folder: Path, config: dict[str, Any], resume: bool) -> None:
    """Refuse a folder that holds something else; a resumed run must ask for what the first did.

    What a run leaves that was killed before it wrote its config is nothing.
    """
    before = folder / "config.yaml"
    is_begun = before.exists() or (folder / "provenance.json").exists() or finished_stages(folder)
    if resume and is_begun:
        then, now = _asked_before(folder, config), json.loads(json.dumps(config))
        differing = differences(then, now) and differences(then, placeless(now))
        if differing:
            raise ConfigError(
                "the run to resume was started with other settings (then -> now)",
                where=folder,
                got=named(differing),
                fix="give the same cohort, recipe, --set, --keep and --seed, or start a new --out",
            )
    elif any(is_content(one) and one.name not in _BEFORE for one in folder.iterdir()):
        raise ArtefactError(
            "there is no run to resume" if resume else "the run folder is not empty",
            where=folder,
            fix="--resume, or another --out" if is_begun else "name another --out",
        )


def _as_begun(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Give the settings as the run wrote them: a newer medmcl has more, of which none is used."""
    with suppress(ArtefactError):  # damaged: it is written anew
        then = read_config(Store(folder))
        if not differences(then, json.loads(json.dumps(config))):
            return then
    return config


def _asked_before(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Give the settings that a run was begun with.

    Where config.yaml is damaged, ``provenance.json`` says whether they are those of now.

    Raises:
        ArtefactError: It is, and that says otherwise, or nothing.
    """
    store = Store(folder)
    try:
        return read_config(store)
    except ArtefactError as error:
        try:
            before = store.tree("provenance", {}).get("config_hash")
        except ArtefactError:
            before = None
        if before == fingerprint(placeless(config)):
            log.warning("%s; written anew, for provenance.json has the hash of the settings that "
                        "are given now", error.args[0])  # fmt: skip
            return dict(json.loads(json.dumps(config)))
        if before is None:
            raise
        raise error.again(
            ArtefactError,
            expected="the settings of the first command: provenance.json is of other settings than "
            "are given now",
            fix="give the cohort, recipe, --set, --keep and --seed of the first command",
        ) from None


_READ_AT_ONCE = 2000
"""Records that are read for the sake of one refusal; with more, faulty outcomes refuse at once."""


def _refuse_bad_tasks(cohort: Cohort, spec: RecipeSpec, folder: Path) -> None:
    """Refuse faults of the outcomes that the recipe uses; others are no concern of this run.

    The faults of the records stand in the same refusal where the records are few. They are cached
    as they are read, so that the next try does not read them again.
    """
    try:
        for fault in faults_with(cohort, spec.stages, files=False):
            raise fault
        refuse_faulty(cohort, used_tasks(cohort, spec.stages))
    except CohortError as outcomes:
        count = sum(len(cohort.records.get(name, ())) for name in spec.inputs)
        if count > _READ_AT_ONCE or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise
        try:
            with StopRequest() as stop:
                prepare_inputs(cohort, spec, folder, stop=stop)
        except MedmclError as records:
            what = f"{outcomes.what}\n{records.what}"
            fix = "; ".join(error.fix for error in (outcomes, records) if error.fix)
            raise CohortError(what, where=outcomes.where, fix=fix) from None
        raise


def _versions() -> dict[str, str]:
    found = dict.fromkeys(PACKAGES, "not installed")
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
