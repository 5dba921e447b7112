"""What the routers of a shared tower did, as numbers of the record while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def summary_of(model: nn.Module) -> Callable[[Mapping[str, torch.Tensor]], dict[str, Any]] | None:
    """Give what turns sums over rows into numbers on a model's routers; None if it has none."""
    from medmcl.encoders.shared.tower import SharedTower
    from medmcl.evaluation.metrics.routing import describe_routers

    if not isinstance(model, SharedTower) or not model.experts:
        return None
    return partial(describe_routers, blocks=model.trunk.expert_blocks)
