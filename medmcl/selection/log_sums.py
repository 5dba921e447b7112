"""Log-sum-exp of all rows and all columns of a matrix of similarities that is never whole.

Tiles small enough for the cache of a CPU are multiplied, and each is used for its rows and for its
columns. Cosines are bounded, so one shift for the whole batch nearly always keeps every sum in
range: that is the fast way, which needs one exponential and no maximum. It is guarded: where a sum
is so small that terms too small for float32 could matter to it, the batch is taken again the exact
way, with the maximum of each row and of each column of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from medmcl.selection.pools import full_precision

TILE = {"cpu": 512}
"""Device type to rows and columns of a tile: 1 MiB on a CPU."""
TILE_ELSEWHERE = 8192
CEILING = 87.0
"""exp of no more than this is finite in float32, which ends at exp(88.7)."""
LEAST = -87.0
"""Smaller exponents are taken as this: exp is many times slower where its result is subnormal."""
FLOOR = -60.0
"""Logarithm of the least sum that is trusted; `LEAST` adds a 1e-7th to it in 50,000 rows."""


class LogSums:
    """Log-sum-exp over rows and columns of ``a @ b.T``, finite for all finite input.

    Args:
        bound: No entry of ``a @ b.T`` is larger: 1 / temperature for cosines over a temperature.
        exact: Whether to take the exact way at once. Set once the guard has refused a batch, as
            batches of one pool are alike.
    """

    def __init__(self, bound: float, *, exact: bool = False) -> None:
        self.bound, self.exact = bound, exact

    def __call__(
        self, a: Tensor, b: Tensor, *, rows: bool = True, columns: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Give log sum_j exp(a_i b_j), (n,), and log sum_i exp(a_i b_j), (m,).

        Args:
            a: (n, D).
            b: (m, D).
            rows: Whether the sums of rows are of interest; the others may be anything.
            columns: Likewise of columns.
        """
        with full_precision(a.device):
            if not self.exact:
                found = self._fast(a, b)
                least = self._shift(max(len(a), len(b))) + FLOOR
                sound = [bool(((one >= least) & one.isfinite()).all()) for one in found]
                if (sound[0] or not rows) and (sound[1] or not columns):
                    return found
                self.exact = True
            return self._exact(a, b)

    def _shift(self, most: int) -> float:
        return max(0.0, self.bound + math.log(most) - CEILING)

    def _fast(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        over_b, over_a = a.new_zeros(len(a)), a.new_zeros(len(b))
        shift = self._shift(max(len(a), len(b)))
        for at, to, tile in _tiles(a, b):
            if shift:
                tile.sub_(shift)
            if self.bound + shift > -LEAST:
                tile.clamp_(min=LEAST)
            tile.exp_()
            over_b[at] += tile.sum(1)
            over_a[to] += tile.sum(0)
        return over_b.log_().add_(shift), over_a.log_().add_(shift)

    def _exact(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        over_b, over_a = a.new_full((len(a),), -math.inf), a.new_full((len(b),), -math.inf)
        for at, to, tile in _tiles(a, b):
            tops, highs = tile.amax(1), tile.amax(0)
            sums = (tile - highs).clamp_(min=LEAST).exp_().sum(0).log_().add_(highs)
            over_a[to] = torch.logaddexp(over_a[to], sums)
            sums = tile.sub_(tops[:, None]).clamp_(min=LEAST).exp_().sum(1).log_().add_(tops)
            over_b[at] = torch.logaddexp(over_b[at], sums)
        return over_b, over_a


def _tiles(a: Tensor, b: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Give rows, columns and their product; the next one overwrites it."""
    size = TILE.get(a.device.type, TILE_ELSEWHERE)
    space = a.new_empty(min(size, len(a)) * min(size, len(b)))
    for i in range(0, len(a), size):
        for j in range(0, len(b), size):
            left, right = a[i : i + size], b[j : j + size]
            tile = space[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=tile)
            yield slice(i, i + size), slice(j, j + size), tile
