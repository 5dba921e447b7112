"""A rule in steps: each leaves fewer rows, by one score, by several fused, or by the pool itself.

The published pipeline is two steps: 30 % of the pool by negCLIPLoss, then 20 % of the pool by
NormSim (`medmcl.selection.two_stage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.selection.ranking import rank_fusion, rows_of, top_share
from medmcl.selection.settings import Step

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
