"""Running the stages that make something for later ones: in a run, and once more in each fold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from medmcl.core.errors import ConfigError, ContractError, MedmclError, is_of_memory
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.cache import ClosedSplitError
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.worker_pool import ProcessDiedError, beside, lent
from medmcl.engine.record import Record
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.engine.world import World, any_rank, barrier
from medmcl.modalities.outside import raised_at
from medmcl.stages.recipe.on_cohort import prepare_inputs
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run, bears_copies, write_run_files
from medmcl.stages.stage import SKIPPED, STAGES, Context, Stage, StageSpec


def idle_context(folder: Path, recipe: RecipeSpec, precision: str = "fp32") -> Context:
    """Give what stages share that are only rehearsed: a run of which nothing is written."""
    return Context(
        run=Run.begun(folder, {"seed": 0, "precision": precision}, recipe),
        world=World(),
        record=Record(folder, active=False),
        stop=StopRequest(),
    )


def dry_run(stages: Sequence[StageSpec], prepared: Prepared, context: Context) -> None:
    """Refuse what a stage cannot do, before any does anything."""
    for spec in stages:
        with shut(spec, prepared, context) as open_to_it, _blamed(spec, "dry_run"):
            STAGES[spec.stage](spec).dry_run(open_to_it, context)


@contextmanager
def _blamed(spec: StageSpec, method: str) -> Iterator[None]:
    """Say of what a stage from outside raises unexpectedly whose fault it is, and where.

    Raises:
        ContractError: A stage from outside failed.
    """
    try:
        yield
    except (MedmclError, Interrupted):
        raise
    except Exception as error:
        if spec.stage not in STAGES.outside or is_of_memory(error):
            raise
        raise ContractError(
            f"stage {spec.name} ({spec.stage}, package {STAGES.package(spec.stage)}) failed in "
            f"{method}",
            got=raised_at(error),
            fix="correct the package (docs/extend.md has what a stage is given)",
        ) from error


@contextmanager
def shut(spec: StageSpec, prepared: Prepared, context: Context) -> Iterator[Prepared]:
    """Give what a stage may read: one that learns does not reach held_out, however it reads.

    Raises:
        ClosedSplitError: Names the stage.
    """
    context.run.learning = spec.learns
    try:
        yield prepared.for_learning if spec.learns else prepared
    except ClosedSplitError as refused:
        where = f"stage {spec.name} ({spec.stage})"
        raise ClosedSplitError(refused.split, where) from refused
    finally:
        context.run.learning = False


def run_stage(spec: StageSpec, prepared: Prepared, context: Context) -> dict[str, Any]:
    """Run a stage from where it stands, unless what its sources became makes it pointless.

    Returns:
        The facts that stand in its record, or of a finished stage stood there already. None on a
        rank that has no part in the stage: the first is about to write them.
    """
    run, name = context.run, spec.name
    reason = spec.why_skipped(run.facts)
    work: Stage[Any] = STAGES[spec.stage](spec)
    if not reason and run.is_finished(name):
        run.kept(name)
        if context.world.rank == 0:
            run.checkpoints(name).settle()  # a process that was killed may not have come to it
        work.refuse_other(run.facts(name))
        return run.facts(name)
    if not reason and work.by_first_rank and context.world.rank != 0:
        return {}  # who calls waits for the first rank
    if reason:
        context.record.say(f"{name}: left out, {reason}")
        done = {SKIPPED: reason, "sentence": f"Stage {name} left out: {reason}."}
    else:
        with shut(spec, prepared, context) as open_to_it, _blamed(spec, "run"):
            done = work.run(open_to_it, context)
        _refuse_facts(work, done)
    facts = {"stage": name, **done}
    if "steps" not in facts:
        facts.setdefault("sentence", f"Stage {name}: {spec.summary()}.")
    if context.world.rank == 0:
        run.finish(name, facts)
    return facts


def run_stages(
    stages: Sequence[StageSpec], prepared: Prepared, context: Context
) -> list[dict[str, Any]]:
    """Run stages that make something; give their facts.

    Some that follow one another and read nothing of one another are done at the same time, by this
    process and by copies of it (`medmcl.data.loading.worker_pool.beside`), where those compute the
    same: on a CPU, by one thread each.

    Raises:
        Interrupted: A stop signal came; the state is saved.
    """
    facts = {}
    for group in _independent(stages):
        beside_others = _beside_others(group, context)
        for spec in (one for one in group if one not in beside_others):
            if any_rank(context.stop.asked, context.world):
                raise Interrupted(f"before {spec.name}")
            facts[spec.name] = run_stage(spec, prepared, context)
            barrier(context.world, f"the first rank to end {spec.name}")  # and to write all of it
        done = _at_the_same_time(beside_others, prepared, context)
        facts |= {spec.name: one for spec, one in zip(beside_others, done, strict=True)}
        if len(group) > 1:
            context.record.sort([spec.name for spec in group])
    return [facts[spec.name] for spec in stages]


def _independent(stages: Sequence[StageSpec]) -> list[list[StageSpec]]:
    """Give stages in order, in one list those that read nothing of one another."""
    found: list[list[StageSpec]] = []
    for spec in stages:
        joins = found and all(STAGES[x.stage](x).bears_others for x in (spec, found[-1][0]))
        if joins and {one.name for one in found[-1]}.isdisjoint(spec.sources()):
            found[-1].append(spec)
        else:
            found.append([spec])
    return found


def _beside_others(group: Sequence[StageSpec], context: Context) -> list[StageSpec]:
    """Give those of a group that are done at the same time; none if that is one or cannot be.

    What had begun goes on alone: it may take lines of the record back. Beside a GPU, used or not,
    autograd has threads of its own once it was used, and refuses to go on in a copy.
    """
    world = context.world
    if min(lent(), len(group)) == 1 or world.size > 1 or not bears_copies(world.device):
        return []
    if torch.accelerator.is_available():
        return []
    begun = context.record.stages()
    waiting = [spec for spec in group if spec.name not in begun]
    return waiting if len(waiting) > 1 else []


def _at_the_same_time(
    stages: Sequence[StageSpec], prepared: Prepared, context: Context
) -> Iterator[dict[str, Any]]:
    def work(spec: StageSpec) -> dict[str, Any]:
        context.stop.check_interrupt(spec.name)
        try:
            return run_stage(spec, prepared, context)
        except Exception as error:
            if not isinstance(error, Interrupted):
                why = str(error).partition("\n")[0] or type(error).__name__
                said = f"{spec.name} failed, {why}; what is trained beside it goes on first"
                context.record.say(said)
            raise

    if stages:
        names = ", ".join(spec.name for spec in stages)
        context.record.say(f"{min(lent(), len(stages))} at a time: {names}")
        context.record.rewind()
    context.record.is_shared = bool(stages)
    try:
        yield from beside(work, stages, at_once=True)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}; so is what was trained beside it") from None
    except ProcessDiedError as error:
        left = ", ".join(spec.name for spec in stages if not context.run.is_finished(spec.name))
        fix = f"{error.fix}; with --resume the run goes on, and keeps what is finished"
        raise error.again(ProcessDiedError, where=f"stages not finished: {left}", fix=fix) from None
    finally:
        context.record.is_shared = False


def _refuse_facts(work: Stage[Any], facts: object) -> None:
    """Refuse what a run cannot keep of a stage.

    Raises:
        ConfigError: Names the stage, and the package that brings it.
    """
    wrong = "" if isinstance(facts, dict) else repr(facts)
    for key, value in facts.items() if isinstance(facts, dict) else ():
        try:
            json.dumps({key: value})
        except (TypeError, ValueError):
            wrong = f"{key}: {type(value).__module__}.{type(value).__name__}"
            break
    if wrong:
        raise ConfigError(
            "`run` of a stage gives no facts that can be kept",
            where=f"stage {work.spec.name} ({work.spec.stage}), of the package "
            f"{type(work).__module__.partition('.')[0]}",
            got=wrong,
            expected="a dict of plain JSON values",
            fix="return one, {} at least; int(…) and float(…) of numpy numbers, and arrays as an "
            "artefact (`context.run.save`)",
        )


def train_apart(
    folder: Path,
    cohort: Cohort,
    recipe: RecipeSpec,
    config: dict[str, Any],
    *,
    world: World,
    stop: StopRequest,
) -> Run:
    """Train stages of a recipe once more, in a folder of their own; what is finished there stays.

    Args:
        folder: The folder; a run without a report.
        cohort: The cohort, in the splits to train on.
        recipe: The recipe, resolved; stages that evaluate are passed over.
        config: What the folder's config.yaml says.
        world: This process alone.
        stop: Asked whether to stop.

    Raises:
        Interrupted: A stop signal came; the state is saved.
    """
    run = Run.begun(folder, config, recipe)
    prepared = prepare_inputs(cohort, recipe, folder, shown=False, stop=stop)
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder / "metrics.jsonl", active=True)
    context = Context(run=run, world=world, record=record, stop=stop)
    made = [stage for stage in recipe.stages if stage.learns]
    dry_run(made, prepared, context)
    write_run_files(run, prepared)
    run_stages(made, prepared, context)
    return run


def seconds_of(run: Run, stages: Sequence[StageSpec]) -> float:
    """Seconds that the finished stages of a run took."""
    return sum(float(run.facts(stage.name).get("seconds", 0.0)) for stage in stages)


def refuse_ranks(size: int, where: str) -> None:
    """Refuse to train stages again where several processes are one run.

    Raises:
        ConfigError: Says how else.
    """
    if size > 1:
        raise ConfigError(
            "the stages of a fold are trained by one process",
            where=where,
            got=f"refit: all, and {size} processes",
            fix="leave `folds` out here, and ask for it afterwards with one process: medmcl "
            "evaluate RUN --cohort … --set evaluate.folds='5 x 1' --set evaluate.refit=all",
        )
