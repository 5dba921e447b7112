"""Cox's partial likelihood, the loss of a log-hazard under censoring."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.objectives.pairwise.contrastive import widen


def cox_partial_likelihood(
    log_hazard: Tensor,
    time: Tensor,
    event: Tensor,
    ties: Literal["efron", "breslow"] = "efron",
) -> Tensor:
    """Give the negative log partial likelihood, a mean over events.

    The risk set of an event holds every row whose time is not earlier; a row censored at the very
    time of an event still counts as at risk.

    Args:
        log_hazard: (B,), higher = earlier event expected.
        time: Time to event or to censoring, (B,), any unit.
        event: Whether the event was seen, (B,), bool or 0 and 1.
        ties: How events at one time share their risk set.

    Returns:
        Scalar, nats an event; lower is better.

    Raises:
        MedmclError: If shapes differ, a time is not finite, or there is no event.

    Source:
        Cox 1975, Biometrika 62(2):269; Breslow 1974, Biometrics 30(1):89; Efron 1977,
        JASA 72(359):557. Differs: mean over events in place of the sum.
    """
    if not log_hazard.shape == time.shape == event.shape or log_hazard.ndim != 1:
        raise MedmclError(
            "log_hazard, time and event must have one shape (B,)",
            got=f"{tuple(log_hazard.shape)}, {tuple(time.shape)}, {tuple(event.shape)}",
        )
    happened = event.bool()
    if not happened.any():
        raise MedmclError("Cox's likelihood needs at least one event", got=f"{len(time)} censored")
    if not torch.isfinite(time).all():
        raise MedmclError("a survival time is not finite")
    order = torch.argsort(time, descending=True, stable=True)
    hazard, happened = widen(log_hazard)[order], happened[order]
    _, group, sizes = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    last = sizes.cumsum(0) - 1
    at_risk = torch.logcumsumexp(hazard, 0)[last][group]
    if ties == "efron":
        at_risk = at_risk + _efron(hazard - at_risk, happened, group, len(sizes))
    return (at_risk - hazard)[happened].mean()


def _efron(share: Tensor, happened: Tensor, group: Tensor, groups: int) -> Tensor:
    """Log of the part of its risk set that the n-th of several tied events still faces.

    ``share`` is the log-hazard minus that of the whole risk set, (B,), latest time first.
    """
    dead = happened.to(share.dtype)
    deaths = share.new_zeros(groups).index_add(0, group, dead)
    earlier = (torch.cumsum(deaths, 0) - deaths)[group]
    place = torch.cumsum(dead, 0) - dead - earlier
    tied = share.new_zeros(groups).index_add(0, group, share.exp() * dead)[group]
    return torch.log1p(-place * dead / deaths[group].clamp(min=1) * tied)
