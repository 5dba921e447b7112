"""Layers of other packages learn from made-up embeddings before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from medmcl.core.lazy import refuse_slips
from medmcl.encoders.joined import Layer
from medmcl.modalities.outside import fails
from medmcl.stages.stage import STAGES

TOLERANCE = 1e-4
"""By which share of its largest number a row alone may differ from that row among others."""


def rehearse_layer(stage: str, build: Callable[[int], Layer], width: int, rows: int) -> None:
    """Let a layer learn from noise, then derive; learned anew from what a run keeps, the same.

    Args:
        stage: Kind of stage, by its entry point.
        build: Gives a layer for features of a width, as `DerivedSpec.layer`.
        width: Of the features, E.
        rows: Train rows that it will see; more than 4 E say nothing new and are not made.

    Raises:
        ConfigError: The layer refuses them.
        ContractError: It fails, or gives what it must not give.
    """
    package = STAGES.package(stage)
    x = np.random.default_rng(0).normal(size=(min(rows, 4 * width), width)).astype(np.float32)
    said = f"the layer of stage '{stage}' (package {package}) failed on features of shape {x.shape}"
    with fails(said, "correct the package (docs/extend.md has the contract)"), torch.no_grad():
        slips = list(_slips(build(width), build(width), x))
    refuse_slips(STAGES.group, stage, package, slips)


def _slips(layer: Any, other: Any, x: np.ndarray) -> Iterator[str]:
    layer.fit(x)
    seen = torch.from_numpy(x[:2])
    given = layer(seen)
    width = layer.width
    if not isinstance(given, torch.Tensor) or tuple(given.shape) != (2, width):
        got = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        yield f"the layer must give (B, width), here a tensor {(2, width)}: it gives {got}"
        return
    if given.dtype != torch.float32:
        yield f"the layer must give torch.float32: it gives {given.dtype}"
        return
    if not given.isfinite().all():
        yield "what the layer gives is not finite"
        return
    near = TOLERANCE * float(given.abs().max())
    if float((layer(seen[:1]) - given[:1]).abs().max()) > near:
        yield "what the layer gives of a row must not depend on the rows beside it"
    other.load_state_dict(layer.state_dict())
    if float((other(seen) - given).abs().max()) > near:
        yield "what fit learns must lie in buffers: a layer that was given them gives other rows"
