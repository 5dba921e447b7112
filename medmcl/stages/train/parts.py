"""Whether batches of a stage can be encoded in parts (``accumulate``), and what that changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.model_settings import shared_settings
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.spec import TrainSpec

if TYPE_CHECKING:
    from medmcl.encoders.towers import Towers


def refuse_parts(recipe: RecipeSpec, spec: TrainSpec) -> None:
    """Refuse parts that the recipe alone shows to be impossible.

    Raises:
        ConfigError: A shared tower has experts, or there are more parts than rows.
    """
    if spec.accumulate == 1:
        return
    if recipe.shared is not None and shared_settings(recipe, spec).experts is not None:
        raise ConfigError(
            "a batch cannot be encoded in parts where a shared tower has experts: their room, who "
            "is served first and what routers are charged are of the whole batch",
            where=f"stage {spec.name}, accumulate",
            got=spec.accumulate,
            expected="1",
            fix=f"--set stages.{spec.name}.accumulate=1, or a tower without experts: "
            "--set shared.experts=null",
        )
    refuse_empty_parts(spec, spec.batch_size, 1)


def refuse_empty_parts(spec: TrainSpec, batch_size: int, ranks: int) -> None:
    """Refuse more parts than the smallest batch of a rank has rows.

    Args:
        spec: The stage.
        batch_size: Rows of a batch, as they are drawn.
        ranks: Processes that share them.

    Raises:
        ConfigError: Says how many parts there can be.
    """
    kept = batch_size
    if spec.selector is not None:
        kept = max(1, math.floor(spec.selector.share * batch_size + 1e-9))
    rows = kept // ranks
    if spec.parts <= max(1, rows):
        return
    selected = f", of which the selector keeps {kept} or more" if kept < batch_size else ""
    shared = f", on {ranks} processes" if ranks > 1 else ""
    raise ConfigError(
        "a batch has fewer rows than the parts it is to be encoded in",
        where=f"stage {spec.name}, accumulate",
        got=f"{spec.accumulate} parts; batches of {batch_size}{selected}{shared}",
        expected=f"at most {max(1, rows)}",
        fix=f"--set stages.{spec.name}.accumulate={max(1, rows)}, or a larger batch_size",
    )


def norms_of_parts(spec: TrainSpec, model: Towers) -> list[str]:
    """Give a sentence for each tower whose batch norms will see a part of a batch at a time."""
    if spec.parts == 1:
        return []
    from torch import nn

    norms = nn.modules.batchnorm._BatchNorm
    return [
        f"{spec.name}: batch norm in the tower of '{name}' sees the rows of a part "
        f"(accumulate: {spec.accumulate}), so it does not train as with the whole batch at once"
        for name, tower in model.towers.items()
        if any(isinstance(part, norms) and part.training for part in tower.modules())
    ]
