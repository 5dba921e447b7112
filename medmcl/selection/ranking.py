"""From scores to a choice: ranks, shares, scores fused or one after the other, rules in steps.

Higher = keep. Ties are settled in favour of the earlier row, so that the same scores always give
the same choice.

Each step of a rule leaves fewer rows, by one score, by several fused, or by the pool itself. The
published pipeline is two steps: 30 % of the pool by negCLIPLoss, then 20 % of the pool by
NormSim (`medmcl.selection.two_stage`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.selection.settings import Step


def ranks(scores: Tensor) -> Tensor:
    """Give the rank of each row, (N,) int64: 1 = the highest score, each number once."""
    return _placed(-_sound(scores), "ordinal").long()


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
    kept[_sound(scores).sort(descending=True, stable=True).indices[:number]] = True
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
    places = [
        one * (_placed(_sound(score), "average") - 1) / max(len(score) - 1, 1)
        for one, score in zip(given, scores, strict=True)
    ]
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


def _placed(scores: Tensor, ties: str) -> Tensor:
    """Ranks from 1 = the lowest, (N,) float64 on the device of the scores."""
    from scipy.stats import rankdata

    found = np.asarray(rankdata(scores.cpu().numpy(), ties), dtype=np.float64)
    return torch.from_numpy(found).to(scores.device)


def _sound(scores: Tensor) -> Tensor:
    """Scores of one axis without NaN, or a refusal."""
    if scores.ndim != 1:
        raise MedmclError("scores must have one axis", got=f"shape {tuple(scores.shape)}")
    bad = torch.isnan(scores)
    if bad.any():
        raise MedmclError(
            f"{int(bad.sum())} scores are NaN: such rows can be neither kept nor left",
            got=f"first in row {int(bad.nonzero()[0])}",
        )
    return scores


Chooser = Callable[[Tensor, int], Tensor]
"""From the numbers of the rows that are left, and how many to keep, to those that stay."""


def written(steps: Sequence[Step]) -> str:
    """Say a rule in words: ``best 30 % of the pool by ncl, then ...``."""
    return ", then ".join(map(str, steps))


def follow(
    steps: Sequence[Step],
    scores: Mapping[str, Tensor],
    choosers: Mapping[str, Chooser] | None = None,
) -> Tensor:
    """Tell which rows of a pool a rule keeps.

    Args:
        steps: In their order; shares are of the pool, not of what the step before has left.
        scores: Name to (N,), higher = keep.
        choosers: Name to what chooses among the rows that are left by themselves
            (`norm_sim_dynamic`), where there is no fixed score.

    Returns:
        (N,) bool. Ties are settled in favour of the earlier row.

    Raises:
        MedmclError: A step names an unknown score, keeps no row or more than are left; or a score
            is NaN.
    """
    known = {**scores, **(choosers or {})}
    rows = len(next(iter(scores.values())))
    kept = torch.ones(rows, dtype=torch.bool, device="cpu")
    for step in steps:
        for name in step.names:
            if name not in known:
                raise MedmclError(
                    f"the rule names an unknown score '{name}'", expected=", ".join(known)
                )
        left = kept.nonzero().flatten()
        stay = _stay(step, left, rows, scores, choosers or {})
        kept = torch.zeros_like(kept)
        kept[stay] = True
    return kept


def _stay(
    step: Step,
    left: Tensor,
    rows: int,
    scores: Mapping[str, Tensor],
    choosers: Mapping[str, Chooser],
) -> Tensor:
    if step.at_least is not None:
        score = scores[step.names[0]].cpu()[left]
        stay = left[score >= step.at_least]
        if not len(stay):
            raise MedmclError(
                f"no row has {step}", got=f"at most {score.max().item():.4g}", fix="a lower one"
            )
        return stay
    share = step.share if step.share is not None else 1.0
    number = rows_of(share, rows)
    if number > len(left):
        raise MedmclError(
            f"{100 * share:g} % of a pool of {rows} rows is more than the steps before have left",
            got=f"{len(left)} rows left",
            expected=f"{number} at least",
            fix="shares are of the pool, and get smaller from step to step",
        )
    if step.names[0] in choosers:
        return choosers[step.names[0]](left, number)
    named = [scores[name].cpu() for name in step.names]
    score = named[0] if len(named) == 1 else rank_fusion(named)
    return left[top_share(score[left], share, of=rows)]
