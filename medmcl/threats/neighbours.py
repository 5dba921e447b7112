"""Nearest neighbours of embeddings, blockwise: what detectors of poison look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError

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
        MedmclError: Another shape, numbers that are not finite, or too few rows.
    """
    x = given.detach() if isinstance(given, Tensor) else torch.from_numpy(np.asarray(given))
    if x.ndim != 2:
        raise MedmclError("embeddings are a matrix", got=tuple(x.shape), expected="(N, E)")
    x = x.double()  # float32 loses the distance of rows that are nearly one
    if bad := int((~torch.isfinite(x).all(dim=1)).sum()):
        raise MedmclError("embeddings are not finite", got=f"{bad} of {len(x)} rows")
    if not 1 <= k <= len(x) - 2:
        raise MedmclError(
            "there are not so many neighbours",
            got=f"k = {k} of {len(x)} rows",
            expected=f"1 <= k <= {len(x) - 2}",
        )
    return x


def nearest(x: Tensor, reference: Tensor, k: int, own: Sequence[int] = (0,)) -> Near:
    """Give the k + 1 nearest rows of ``reference`` to each row of ``x``, by Euclidean distance.

    Args:
        x: (N, E).
        reference: (R, E).
        k: One more is given.
        own: Where in ``reference`` the first row of ``x`` stands, and the others after it in order:
            a row is no neighbour of itself.
    """
    distances, rows = [], []
    same = _SAME * float(x.norm(dim=1).mean())
    for first in range(0, len(x), BLOCK):
        block = torch.cdist(x[first : first + BLOCK], reference)
        block[block < same] = 0.0
        mine = torch.arange(len(block), device=block.device)
        for begin in own:
            block[mine, begin + first + mine] = torch.inf
        found = block.topk(k + 1, dim=1, largest=False)
        distances.append(found.values)
        rows.append(found.indices)
    return Near(torch.cat(distances), torch.cat(rows))


def dimension(distances: Tensor, k: int, estimator: str) -> Tensor:
    """Give the local intrinsic dimension from ascending distances (N, k + 1), (N,).

    ``mle``: -k / sum_l log(d_l / d_{k+1} + 1e-4) over l = 1 to k. ``mom``, by moments:
    m / (d_{k+1} - m), m the mean of the k nearest.

    Source: Amsaleg et al. 2015 as the code of Huang et al. 2025 (ICLR) has it.

    Raises:
        MedmclError: There is no such estimator.
    """
    if estimator == "mle":
        ratios = distances[:, :k] / distances[:, k : k + 1]
        return -k / torch.log(ratios + _EPSILON).sum(dim=1)
    if estimator == "mom":
        mean = distances[:, :k].mean(dim=1)
        return mean / (distances[:, k] - mean)
    raise MedmclError(
        "there is no such estimator", got=f"estimator={estimator!r}", expected="mle or mom"
    )
