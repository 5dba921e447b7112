"""Randomness by name: every draw comes from (seed, purpose, position), never from hidden state.

Because a generator is a pure function of its key, resuming a run needs no saved generator state:
step 417 draws the same numbers whether or not the process was killed at step 416.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GENERATORS: dict[str, Callable[[], torch.Generator]] = {}
"""Type of a device to what makes its generators, where torch cannot."""


def derive_seed(seed: int, *key: str | int) -> int:
    """Give a 63-bit seed that depends on ``seed`` and on every part of ``key``."""
    text = "\x1f".join(map(str, (seed, *key)))
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

    made = GENERATORS.get(torch.device(device).type)
    generator = torch.Generator(device=device) if made is None else made()
    return generator.manual_seed(derive_seed(seed, *key))


class RowGenerator:
    """Random numbers of the rows of a batch: a row is given the same on however many ranks.

    They are drawn for all rows of the global batch, and those of the rows that are here are given.

    Args:
        generator: Their source, in one state on all ranks; they are drawn on its device.
        first: Place of the first row here among those of the global batch.
        total: Rows of the global batch; if not given, all are here.
    """

    def __init__(
        self, generator: torch.Generator, first: int = 0, total: int | None = None
    ) -> None:
        self._generator, self._first, self._total = generator, first, total

    def uniform(self, *shape: int, row_dim: int = 0) -> Tensor:
        """Give numbers on [0, 1) of this shape; the rows here are its dimension ``row_dim``."""
        import torch

        return self._drawn(torch.rand, shape, row_dim)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Give standard normal numbers, (rows, ...)."""
        import torch

        return self._drawn(partial(torch.randn, dtype=dtype), shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Give whole numbers from ``low`` to below ``high``, (rows, ...) int64."""
        import torch

        return self._drawn(partial(torch.randint, low, high), shape)

    def _drawn(self, draw: Callable[..., Tensor], shape: Sequence[int], row_dim: int = 0) -> Tensor:
        whole, here = list(shape), shape[row_dim]
        whole[row_dim] = here if self._total is None else self._total
        drawn = draw(tuple(whole), generator=self._generator, device=self._generator.device)
        return drawn if self._total is None else drawn.narrow(row_dim, self._first, here)
