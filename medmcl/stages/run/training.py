"""Running the stages that make something for later ones: in a run, and once more in each fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.recipe.on_cohort import prepare_inputs
from medmcl.stages.recipe.skipped_stages import leave_out, why_left_out
from medmcl.stages.recipe.spec import AnyStage, RecipeSpec
from medmcl.stages.run.run import Run, write_run_files
from medmcl.stages.train.models import Setting

REHEARSE = Parts(
    {
        "train": "medmcl.stages.train.train:rehearse",
        "factorise": "medmcl.stages.factorise.factorise:rehearse_factorise",
        "select": "medmcl.stages.select.select:rehearse_select",
        "cluster": "medmcl.stages.cluster.cluster:rehearse_cluster",
        "join": "medmcl.stages.join.join:rehearse_join",
        "poison": "medmcl.stages.poison.poison:rehearse_poison",
    }
)
RUN = Parts(
    {
        "train": "medmcl.stages.train.train:run_train",
        "factorise": "medmcl.stages.factorise.factorise:run_factorise",
        "select": "medmcl.stages.select.select:run_select",
        "cluster": "medmcl.stages.cluster.cluster:run_cluster",
        "join": "medmcl.stages.join.join:run_join",
        "poison": "medmcl.stages.poison.poison:run_poison",
    }
)
"""Stages that make something for later ones: a new kind is one line here and one in `AnyStage`."""


def run_stage(stage: AnyStage, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Run a stage, unless a cluster stage before it found that it would not pay."""
    reason = why_left_out(stage, setting.checkpoints)
    if not reason:
        done: dict[str, Any] = RUN[stage.stage](stage, prepared, setting)
        return done
    facts = leave_out(stage, reason)
    setting.record.say(f"{stage.name}: left out, {reason}")
    if setting.world.rank == 0:
        checkpoints = setting.checkpoints(stage.name)
        checkpoints.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.finish(facts)
    return facts


def train_apart(
    folder: Path,
    cohort: Cohort,
    recipe: RecipeSpec,
    stages: Sequence[AnyStage],
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
        cohort, recipe, folder, shown=False, heed=lambda: stop.heed("reading records")
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
    made = [stage for stage in stages if not isinstance(stage, EvaluateSpec)]
    for stage in made:
        REHEARSE[stage.stage](stage, prepared, setting)
    write_run_files(folder, config, prepared)
    for stage in made:
        stop.heed(stage.name)
        run_stage(stage, prepared, setting)
    return Run(folder)


def seconds_of(run: Run, stages: Sequence[AnyStage]) -> float:
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
            mend="leave `folds` out here, and ask for it afterwards with one process: medmcl "
            "evaluate RUN --cohort … --set evaluate.folds='5 x 1' --set evaluate.refit=all",
        )
