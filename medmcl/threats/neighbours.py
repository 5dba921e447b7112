"""Nearest neighbours of embeddings, blockwise: what detectors of poison look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError, MedmclError, damage

BLOCK = 1024
"""Rows whose distances to all others are held at once."""
_EPSILON = 1e-4
_SAME = 1e-6
"""Distance, in mean lengths of a row, below which rows are copies: embeddings are float32."""


@dataclass(frozen=True, eq=False)
class Near:
    """The neighbours of each of N rows among R.

    Attributes:
        distances: To the nearest, ascending, (N, k + 1).
        rows: Which rows of the R they are, (N, k + 1) int64.
    """

    distances: Tensor
    rows: Tensor


def embeddings_of(given: object, k: int) -> Tensor:
    """Give embeddings as (N, E) finite float64, or refuse.

    Args:
        given: (N, E).
        k: Neighbours that will be asked for: there must be more than k + 1 rows.

    Raises:
        MedmclError: No numbers, another shape, numbers that are not finite, a k that is no whole
            number, or too few rows.
    """
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise MedmclError(
            "neighbours are counted", where="k", got=repr(k), expected="a whole number", fix="k=16"
        )
    what, expected = "embeddings are numbers", "a tensor or an array (N, E)"
    with damage("embeddings", what, error=MedmclError, expected=expected, fix=None):
        if isinstance(given, Tensor) and not given.is_complex():
            x = given.detach().double()  # float32 loses the distance of rows that are nearly one
        else:
            x = torch.from_numpy(np.asarray(given).astype(np.float64, casting="same_kind"))
    if x.ndim != 2:
        raise MedmclError("embeddings are a matrix", got=tuple(x.shape), expected="(N, E)")
    if bad := int((~torch.isfinite(x).all(dim=1)).sum()):
        raise MedmclError("embeddings are not finite", got=f"{bad} of {len(x)} rows")
    refuse_few(len(x), int(k))
    return x


def refuse_few(count: int, k: int, batch: int | None = None) -> None:
    """Refuse what has too few rows for ``k`` neighbours.

    Raises:
        ConfigError: Fewer rows, or rows of a batch, than k + 2; or k below 1.
    """
    if k < 1:
        raise ConfigError(
            "a row has one neighbour or more", where="k", got=k, fix="a larger k; 16 is usual"
        )
    if count < k + 2:
        raise ConfigError(
            "there are too few rows to look for neighbours among",
            got=f"{count:,} rows, k = {k}",
            expected=f"{k + 2:,} rows or more for k = {k}: each needs k neighbours and one more",
            fix=f"a smaller k (at most {count - 2})" if count > 2 else "more records",
        )
    if batch is not None and batch < k + 2:
        raise ConfigError(
            "a batch has too few rows to look for neighbours among",
            where="batch",
            got=f"{batch:,} rows, k = {k}",
            expected=f"{k + 2:,} rows or more",
            fix="a larger batch, or a smaller k",
        )


def nearest(x: Tensor, reference: Tensor, k: int, own: Sequence[int] = (0,)) -> Near:
    """Give the k + 1 nearest rows of ``reference`` to each row of ``x``, by Euclidean distance.

    Args:
        x: (N, E).
        reference: (R, E).
        k: One more is given.
        own: Where in ``reference`` the first row of ``x`` stands, and the others after it in order,
            from its first row again behind its last: a row is no neighbour of itself.
    """
    distances, rows = [], []
    same = _SAME * float(x.norm(dim=1).mean())
    for first in range(0, len(x), BLOCK):
        block = torch.cdist(x[first : first + BLOCK], reference)
        block[block < same] = 0.0
        mine = torch.arange(len(block), device=block.device)
        for begin in own:
            block[mine, (begin + first + mine) % len(reference)] = torch.inf
        found = block.topk(k + 1, dim=1, largest=False)
        distances.append(found.values)
        rows.append(found.indices)
    return Near(torch.cat(distances), torch.cat(rows))


def dimension(distances: Tensor, k: int, estimator: str, most: float | None = None) -> Tensor:
    """Give the local intrinsic dimension from ascending distances (N, k + 1), (N,).

    ``mle``: -k / sum_l log(d_l / d_{k+1} + 1e-4) over l = 1 to k. ``mom``, by moments:
    m / (d_{k+1} - m), m the mean of the k nearest.

    Both grow without bound as the k + 1 distances become alike, and the published ones are wrong
    there: by ``mle`` the 1e-4 makes the logarithms positive, so the dimension falls below 0. With
    ``most`` it is that from there on: where all distances are alike, where the formula gives more,
    and where the k nearest are copies of the row (distance 0), of which nothing can be told.

    Source: Amsaleg et al. 2015 as the code of Huang et al. 2025 (ICLR) has it.

    Args:
        distances: To the nearest, ascending.
        k: Neighbours.
        estimator: ``mle`` or ``mom``.
        most: The largest dimension that is given; as published if None.

    Raises:
        MedmclError: There is no such estimator.
    """
    nearer, last = distances[:, :k], distances[:, k]
    above: Tensor | float
    if estimator == "mle":
        above, below = float(k), -torch.log(nearer / last[:, None] + _EPSILON).sum(dim=1)
    elif estimator == "mom":
        above = nearer.mean(dim=1)
        below = last - above
    else:
        refuse_absent(estimator, ("mle", "mom"), f"there is no such estimator: {estimator}")
    if most is None:
        return above / below
    is_told = (above < most * below) & (nearer[:, -1] > 0)
    return torch.where(is_told, above / below, most).clamp(max=most)
