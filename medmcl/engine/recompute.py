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
    found = [
        part
        for name, part in model.named_modules()
        if _BLOCK.search(name) and any(True for _ in part.children()) and not _learns_twice(part)
    ]
    if not found:
        raise ConfigError(
            "no encoder has blocks that can be computed twice: there are none, or batch norm or "
            "experts with a load bias in each",
            where=where,
            fix="leave recompute out; accumulate: 4 takes less memory with any encoder",
        )
    for block in found:
        block.forward = partial(_again, block, block.forward)
    return len(found)


def _learns_twice(block: nn.Module) -> bool:
    norms = nn.modules.batchnorm._BatchNorm
    return any(isinstance(one, norms) for one in block.modules()) or bool(moves(block))


def _again(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
