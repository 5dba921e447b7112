"""Runs that are being written, without all that `pretrain` does before."""

from medmcl.engine.record import Record
from medmcl.engine.world import World
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context


def context_in(folder, recipe, stop, *, seed=0, tasks=(), like=None):
    """What the stages of a recipe, resolved for a cohort, share in a folder.

    ``like``: the configuration of a run whose files stand in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = like or {"seed": seed, "precision": "fp32", "tasks": list(tasks)}
    return Context(
        run=Run.begun(folder, config, recipe.expanded(tasks)),
        world=World(),
        record=Record(folder / "metrics.jsonl", active=True),
        stop=stop,
    )
