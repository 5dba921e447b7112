"""Numbers that the host must know of tensors: the one place where a device is waited for.

A GPU works through what it was told while Python runs ahead. Whoever asks it for a number stops
both until it has caught up, so a training step asks for none that the host can know without it.
What is read all the same is read here, and `tests/engine/absent_device_checks.py` lists by whom.
Of several ranks each reads besides what they tell each other: how many rows each has, and how many
tokens for experts; who has which modality and group, and which targets are known; counts of terms
that are means over rows; of a batch in parts, who has a gradient of which weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def read(x: Tensor | np.ndarray) -> np.ndarray:
    """Give the values of a tensor: at once on a CPU, where nothing is copied."""
    if isinstance(x, np.ndarray):
        return x
    values: np.ndarray = x.detach().cpu().numpy()
    return values


def numbers(flags: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Give the numbers of the rows that are flagged, ascending, (N,) int64 on ``device``."""
    import torch

    return torch.from_numpy(np.flatnonzero(read(flags))).to(device, non_blocking=True)
