"""Repeated blocks of encoders, compiled: each kind of block once, whatever the depth."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from medmcl.core.errors import ConfigError
from medmcl.engine.recompute import repeated_blocks

KINDS = 64
"""Most versions of one block: widths, drop rates, with and without gradient. More is an error of
torch, not a silent return to slow steps."""


def compiles(wanted: bool | Literal["auto"], device: torch.device) -> bool:
    """Tell whether blocks are compiled on a device; ``auto``: on a GPU that torch compiles for.

    Raises:
        ConfigError: It is asked for where nothing can compile.
    """
    if not wanted or device.type not in ("cpu", "cuda"):
        return False  # a device that is not there runs nothing
    why = _hindrance(device)
    if wanted == "auto":
        return device.type == "cuda" and not why
    if why:
        raise ConfigError(why, where="compile", fix="leave compile out, or compile: auto")
    return True


def _hindrance(device: torch.device) -> str:
    from torch.utils._triton import has_triton

    if device.type == "cuda":
        return "" if has_triton() else "blocks cannot be compiled for this GPU: triton is missing"
    found = any(shutil.which(name) for name in ("g++", "clang++"))
    return "" if found else "blocks cannot be compiled: there is no C++ compiler (g++)"


def compile_blocks(
    model: nn.Module, where: str, backend: str = "inductor", *, any_length: bool = False
) -> int:
    """Let every repeated block run compiled when it trains; give how many there are.

    Names of weights stay, so do checkpoints; in evaluation blocks run as they are. Each block is
    one graph, without a break; one of which torch can make none (with experts on a CPU, of whose
    rows it does not know how many there are) is told of, and runs as it is.
    Where the number of present rows changes from step to step, torch compiles a second time, for
    any number. Blocks with convolutions run as they are on a CPU: compiled by torch's inductor
    they took up to half as long again (ResNets in one and two dimensions).

    Source:
        `torch.compile`, one region a block. Differs: none.

    Args:
        model: The towers, or what decodes.
        where: The stage, for errors.
        backend: What compiles.
        any_length: Rows and tokens differ from call to call: blocks are compiled for any number of
            them at once, else for the first, for other lengths, and for other rows in turn. One row
            alone is compiled for itself.

    Raises:
        ConfigError: There is no block.
    """
    blocks = blocks_to_compile(model, where, backend)
    torch._dynamo.config.recompile_limit = KINDS
    for block in blocks:
        block.forward = _Compiled(block, backend, any_length)
    return len(blocks)


def blocks_to_compile(model: nn.Module, where: str, backend: str = "inductor") -> list[nn.Module]:
    """Give the blocks that `compile_blocks` takes; raises as it does."""
    blocks, note = repeated_blocks(model), ""
    if blocks and backend == "inductor" and next(model.parameters()).device.type == "cpu":
        blocks = [one for one in blocks if not any(isinstance(x, _ConvNd) for x in one.modules())]
        note = ": those with convolutions are slower compiled on a CPU" if not blocks else ""
    if not blocks:
        raise ConfigError(
            f"no encoder has blocks to compile{note}", where=where, fix="leave compile out"
        )
    return blocks


class _Compiled:
    """What a block does: compiled in training, as it is in evaluation, or where torch cannot."""

    def __init__(self, block: nn.Module, backend: str, any_length: bool) -> None:
        self.block, self.any_length = block, any_length
        self.plain: Callable[..., Any] = block.forward
        self.compiled: Callable[..., Any] | None = torch.compile(
            block.forward, fullgraph=True, backend=backend
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.compiled is None or not self.block.training:
            return self.plain(*args, **kwargs)
        if self.any_length:
            for x in (*args, *kwargs.values()):
                if isinstance(x, Tensor) and x.ndim > 1:  # rows and tokens, or tokens twice
                    torch._dynamo.maybe_mark_dynamic(x, [0, 1])
        try:
            return self.compiled(*args, **kwargs)
        except Exception as error:
            from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

            if not isinstance(error, torch._dynamo.exc.Unsupported | GuardOnDataDependentSymNode):
                raise
            self.compiled = None
            kind, why = type(self.block).__name__, str(error).splitlines()[0]
            warnings.warn(f"a block ({kind}) runs as it is, uncompiled: {why}", stacklevel=2)
            return self.plain(*args, **kwargs)
