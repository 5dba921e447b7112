"""Randomness by name: every draw comes from (seed, purpose, position), never from hidden state.

Because a generator is a pure function of its key, resuming a run needs no saved generator state:
step 417 draws the same numbers whether or not the process was killed at step 416.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *key: str | int) -> int:
    """Give a 63-bit seed that depends on ``seed`` and on every part of ``key``."""
    text = "\x1f".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_generator(seed: int, *key: str | int) -> np.random.Generator:
    """Give a NumPy generator for this purpose and position."""
    return np.random.default_rng(derive_seed(seed, *key))


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators, of the CPU and of ``device``.

    On a CPU, `torch.manual_seed` would also write down the stack for devices that are not there,
    which takes longer than what it is for.
    """
    import torch

    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def torch_generator(seed: int, *key: str | int, device: str | torch.device) -> torch.Generator:
    """Give a torch generator on ``device`` for this purpose and position."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *key))
