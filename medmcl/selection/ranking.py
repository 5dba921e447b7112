"""From scores to a choice: ranks, shares, two scores fused or one after the other.

Higher = keep. Ties are settled in favour of the earlier row, so that the same scores always give
the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError


def ranks(scores: Tensor) -> Tensor:
    """Give the rank of each row, (N,) int64: 1 = the highest score, each number once."""
    order = _descending(scores)
    found = torch.empty_like(order)
    found[order] = torch.arange(1, len(order) + 1, device=order.device)
    return found


def top_share(scores: Tensor, share: float, *, of: int | None = None) -> Tensor:
    """Tell which rows have the highest scores, (N,) bool.

    Args:
        scores: (N,).
        share: Share to keep, in (0, 1]; the number of rows is rounded down.
        of: What it is a share of; N if not given.

    Raises:
        MedmclError: If that is no row, or more than there are, or a score is NaN.
    """
    number = rows_of(share, len(scores) if of is None else of)
    if number > len(scores):
        raise MedmclError(
            "fewer rows have a score than are to be kept", got=len(scores), expected=number
        )
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    kept[_descending(scores)[:number]] = True
    return kept


def two_stage(
    first: Tensor, second: Tensor, first_share: float = 0.3, share: float = 0.2
) -> Tensor:
    """Keep the best by one score and among these the best by another, (N,) bool.

    Args:
        first: Scores of the pool, (N,): negCLIPLoss in the published pipeline.
        second: Other scores, (N,): NormSim. Only those of the survivors count.
        first_share: Share of the pool that is left by the first.
        share: Share of the *pool* that is left in the end.

    Raises:
        MedmclError: If shares are out of order, keep no row, or a score is NaN.

    Source:
        Wang et al. 2024, arXiv 2405.19547: 30 % by negCLIPLoss, then 20 % by NormSim.
    """
    if first.shape != second.shape:
        raise MedmclError(
            "both scores must be of the same rows",
            got=f"{tuple(first.shape)} and {tuple(second.shape)}",
        )
    if share > first_share:
        raise MedmclError(
            "the second share is of the pool, and cannot be larger than the first",
            got=f"{first_share} and {share}",
        )
    kept = top_share(first, first_share)
    rows = kept.nonzero().flatten()
    kept[rows[~top_share(second[rows], share, of=len(first))]] = False
    return kept


def rank_fusion(scores: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Fuse scores of different scales by their ranks.

    Args:
        scores: Scores of the same rows, (N,) each, higher = keep.
        weights: Of each; all alike if not given.

    Returns:
        (N,) in [0, 1], higher = keep: the weighted mean of ranks; 1 = the highest in all. Rows of
        equal score share the mean of their ranks.

    Raises:
        MedmclError: If lengths differ, weights are not above 0, or a score is NaN.
    """
    given = [1.0] * len(scores) if weights is None else [float(one) for one in weights]
    if not scores or len({tuple(one.shape) for one in scores}) > 1 or len(given) != len(scores):
        raise MedmclError(
            "rank fusion needs scores of the same rows, and a weight for each",
            got=f"shapes {[tuple(one.shape) for one in scores]}, {len(given)} weights",
        )
    if not all(math.isfinite(one) and one > 0 for one in given):
        raise MedmclError("weights must be above 0", got=given)
    places = [one * _mean_places(score) for one, score in zip(given, scores, strict=True)]
    return torch.stack(places).sum(0) / sum(given)


def rows_of(share: float, rows: int) -> int:
    """How many rows a share is, rounded down; `MedmclError` if it is none."""
    if not 0 < share <= 1:
        raise MedmclError("a share to keep must lie in (0, 1]", got=share)
    number = math.floor(share * rows + 1e-9)
    if not number:
        raise MedmclError(
            f"{share:g} of {rows} rows is no row", fix="keep a larger share, or a larger pool"
        )
    return number


def _descending(scores: Tensor) -> Tensor:
    _refuse_nan(scores)
    return scores.sort(descending=True, stable=True).indices


def _mean_places(scores: Tensor) -> Tensor:
    """Share of the others that are lower, ties counted half, (N,) float64."""
    _refuse_nan(scores)
    _, which, counts = scores.unique(return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    middle = below.double() + (counts - 1).double() / 2
    return middle[which] / max(len(scores) - 1, 1)


def _refuse_nan(scores: Tensor) -> None:
    if scores.ndim != 1:
        raise MedmclError("scores must have one axis", got=f"shape {tuple(scores.shape)}")
    bad = torch.isnan(scores)
    if bad.any():
        raise MedmclError(
            f"{int(bad.sum())} scores are NaN: such rows can be neither kept nor left",
            got=f"first in row {int(bad.nonzero()[0])}",
        )
