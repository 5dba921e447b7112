"""Channels last: how weights of convolutions lie in memory, chosen by what a device takes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.rng import seed_torch

WARM, TIMED = 2, 3
"""Passes before the first that is timed; those that are, of each layout in turn."""


def lies_channels_last(module: nn.Module) -> bool:
    """Lay the weights of convolutions channels last, in place; tell whether there are any.

    Values and names stay, so do checkpoints; what a convolution gives lies as its weights do.
    """
    found = False
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as documented
        elif isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # as documented
        else:
            continue
        found = True
    return found


def is_faster(
    tower: nn.Module, x: Tensor, autocast: Callable[[], Any], clock: Callable[[], float]
) -> tuple[float, float]:
    """Time a forward and backward pass of a tower both ways, in turn.

    The tower itself is left as it is: batch statistics, gradients and random numbers, which the
    loop seeds anew at each step.

    Args:
        tower: Gives (Encoded, points) for ``x``.
        x: Rows (B, ...) on the device.
        autocast: Gives the context in which to encode.
        clock: Seconds, after the device has done what it was asked.

    Returns:
        Median seconds as it lies, and channels last.
    """
    ways = [copy.deepcopy(tower), copy.deepcopy(tower)]
    lies_channels_last(ways[1])
    seen: list[list[float]] = [[], []]
    for number in range(WARM + TIMED):
        for way, seconds in zip(ways, seen, strict=True):
            way.train()
            seed_torch(number, x.device)
            began = clock()
            with autocast():
                encoded, pooled = way(x)
                loss = pooled.sum() + encoded.features.float().sum()
            if loss.requires_grad:  # else it is frozen
                loss.backward()
            way.zero_grad(set_to_none=True)
            if number >= WARM:
                seconds.append(clock() - began)
    return statistics.median(seen[0]), statistics.median(seen[1])


def clock_of(device: torch.device) -> Callable[[], float]:
    """Give the clock to time a device with: CPU seconds of this process, or the GPU's end."""
    if device.type == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock
