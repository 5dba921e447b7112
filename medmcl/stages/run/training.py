"""Running the stages that make something for later ones: in a run, and once more in each fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.stages.recipe.on_cohort import prepare_inputs
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.first_rank import awaited
from medmcl.stages.run.run import Run, write_run_files
from medmcl.stages.stage import STAGES, Stage, StageSpec
from medmcl.stages.train.models import Setting


def dry_run(stages: Sequence[StageSpec], prepared: Prepared, setting: Setting) -> None:
    """Refuse what a stage cannot do, before any does anything."""
    for spec in stages:
        STAGES[spec.stage](spec).dry_run(prepared, setting)


def run_stage(spec: StageSpec, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Run a stage from where it stands, unless what its sources became makes it pointless.

    Returns:
        The facts that stand in its record, or of a finished stage stood there already.
    """
    checkpoints = setting.checkpoints(spec.name)
    reason = spec.why_skipped(setting.checkpoints)
    work: Stage[Any] = STAGES[spec.stage](spec)
    if not reason and checkpoints.done is not None:
        work.refuse_other(checkpoints.done)
        return checkpoints.done
    if not reason and work.by_first_rank and setting.world.rank != 0:
        return awaited(spec.name, setting)
    if reason:
        setting.record.say(f"{spec.name}: left out, {reason}")
        done = {"left_out": reason, "sentence": f"Stage {spec.name} left out: {reason}."}
    else:
        done = work.run(prepared, setting)
    facts = {"stage": spec.name, **done}
    if "steps" not in facts:
        facts.setdefault("sentence", f"Stage {spec.name}: {spec.summary()}.")
    if setting.world.rank == 0:
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.finish(facts)
    return facts


def train_apart(
    folder: Path,
    cohort: Cohort,
    recipe: RecipeSpec,
    stages: Sequence[StageSpec],
    config: dict[str, Any],
    *,
    world: World,
    stop: StopRequest,
) -> Run:
    """Train stages of a recipe once more, in a folder of their own; what is finished there stays.

    Args:
        folder: The folder; a run without a report.
        cohort: The cohort, in the splits to train on.
        recipe: The recipe, resolved.
        stages: Its stages, expanded; those that evaluate are passed over.
        config: What the folder's config.yaml says.
        world: This process alone.
        stop: Asked whether to stop.

    Raises:
        Interrupted: A stop signal came; the state is saved.
    """
    prepared = prepare_inputs(
        cohort,
        recipe,
        folder,
        shown=False,
        check_interrupt=lambda: stop.check_interrupt("reading records"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        recipe=recipe,
        seed=config["seed"],
        precision=config["precision"],
        world=world,
        folder=folder,
        record=Record(folder / "metrics.jsonl", active=True),
        stop=stop,
    )
    made = [stage for stage in stages if stage.learns]
    dry_run(made, prepared, setting)
    write_run_files(folder, config, prepared)
    for stage in made:
        stop.check_interrupt(stage.name)
        run_stage(stage, prepared, setting)
    return Run(folder)


def seconds_of(run: Run, stages: Sequence[StageSpec]) -> float:
    """Seconds that the finished stages of a run took."""
    done = [run.checkpoints(stage.name).done or {} for stage in stages]
    return sum(float(facts.get("seconds", 0.0)) for facts in done)


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
