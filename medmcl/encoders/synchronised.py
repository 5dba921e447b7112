"""Batch norm over the rows of all ranks: how a rank without a row takes part.

A synchronised batch norm is a collective, forward and backward. A rank on which a modality is
absent must join it, or the others wait for ever; with no rows it adds nothing to the statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def synchronise_norms(module: nn.Module, group: Any) -> nn.Module:
    """Turn every batch norm of ``module`` into a synchronised one of the process group, in place.

    With timm's conversion: torch's drops the activation that timm's fused norms hold.
    """
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(module, process_group=group)
    return converted


def live_norms(module: nn.Module) -> list[nn.SyncBatchNorm]:
    """Batch norms that wait for other ranks whenever ``module`` is called: the same on each rank.

    None in evaluation mode (frozen parts too), and none without a process group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return []
    norms = [m for m in module.modules() if isinstance(m, nn.SyncBatchNorm) and m.training]
    return [norm for norm in norms if dist.get_world_size(norm.process_group) > 1]


def rows_of_all_ranks(rows: int, norm: nn.SyncBatchNorm, device: torch.device) -> int:
    """Sum of ``rows`` over the ranks of the norm's process group; all of them must ask."""
    total = torch.tensor([rows], device=device)
    dist.all_reduce(total, group=norm.process_group)
    return int(total.item())


@contextmanager
def norms_as_learned(module: nn.Module) -> Iterator[None]:
    """Let batch norms use, and keep, their running statistics: one row alone has none of its own.

    Torch refuses such a row, or, where norms are synchronised, makes running variances infinite.
    In evaluation mode they do so by themselves, and are not looked for.
    """
    if not module.training:
        yield
        return
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    training = [norm for norm in norms if norm.training]
    for norm in training:
        norm.training = False
    try:
        yield
    finally:
        for norm in training:
            norm.training = True


@contextmanager
def statistics_put_back(module: nn.Module) -> Iterator[None]:
    """Let batch norms move their running statistics, and put them back: for a pass that is redone.

    Within, each norm sees them as it will when the pass is done again.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(x, x.clone()) for norm in norms for x in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, kept in before:
                x.copy_(kept)


@contextmanager
def without_rows(device: torch.device) -> Iterator[None]:
    """Let layers take zero rows as other ranks take theirs.

    Autocast is off: a rank without rows sends statistics in the type of its input, ranks with rows
    in float32. Attention is the plain one, which takes no rows on every device.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.autocast(device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


def nothing_of(*parts: Tensor | None) -> Tensor:
    """A zero whose backward pass goes through all ``parts``, whatever stands in them."""
    return torch.stack([part[:0].sum().float() for part in parts if part is not None]).sum()
