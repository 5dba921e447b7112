"""Blocks of encoders that keep no activations, and run again in the backward pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from medmcl.core.errors import ConfigError
from medmcl.engine.post_step_hooks import moves

_BLOCK = re.compile(r"(?:^|\.)(?:blocks?|layers?|stages?|stage_list)\.?\d+$")


def recompute_blocks(model: nn.Module, where: str) -> int:
    """Let every block run again in the backward pass; give how many there are.

    Random numbers are those of the first pass, so gradients are the same to the bit. Blocks that
    learn from a pass itself (running statistics of batch norm, loads of experts) are left alone:
    they would learn twice.

    Source:
        Chen et al. 2016, arXiv 1604.06174; `torch.utils.checkpoint`, non-reentrant. Differs: none.

    Args:
        model: The towers.
        where: The stage, for errors.

    Raises:
        ConfigError: There is no block that can.
    """
    found = blocks_to_recompute(model, where)
    for block in found:
        block.forward = partial(_again, block, block.forward)
    return len(found)


def blocks_to_recompute(model: nn.Module, where: str) -> list[nn.Module]:
    """Give the blocks that `recompute_blocks` takes; raises as it does."""
    found = [part for part in repeated_blocks(model) if not _learns_twice(part)]
    if not found:
        raise ConfigError(
            "no encoder has blocks that can be computed twice: there are none, or batch norm or "
            "experts with a load bias in each",
            where=where,
            fix="leave recompute out; accumulate: 4 takes less memory where there is no batch norm",
        )
    return found


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Give the modules that stand in a row of their like and have parts; of nested ones the inner.

    Those of a row that is one itself (a stage of a ResNet) are its members.
    """
    named = dict(model.named_modules())
    found = [n for n, part in named.items() if _BLOCK.search(n) and any(part.children())]
    inner = [n for n in found if not any(other.startswith(f"{n}.") for other in found)]
    blocks: list[nn.Module] = []
    for name in inner:
        part = named[name]
        members = [one for one in part.children() if any(one.children())]
        is_row = isinstance(part, nn.Sequential) and len({type(one) for one in members}) == 1
        blocks += members if is_row else [part]
    return blocks


def _learns_twice(block: nn.Module) -> bool:
    norms = nn.modules.batchnorm._BatchNorm
    return any(isinstance(one, norms) for one in block.modules()) or bool(moves(block))


def _again(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
