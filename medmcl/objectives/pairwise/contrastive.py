"""Contrastive losses as pure functions: InfoNCE, NT-Xent, sigmoid.

Row i of one side belongs to row i of the other; every other row of the batch is a negative.
Similarity is the cosine, higher = more alike. ``logit_scale`` = 1 / temperature. Half precision is
widened to float32 before the similarities are taken, also under autocast; of two precisions the
wider one is taken.

Chance levels are what the losses are of embeddings that tell nothing, in nats. Embeddings that are
all one point have just these values, whatever the logit scale; the sigmoid loss has it if its bias
is the best one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import GROUPS, Batch
from medmcl.core.errors import MedmclError
from medmcl.core.layers import widen
from medmcl.objectives.pairwise.tiles import is_in_ring, tiled_info_nce, tiled_sigmoid
from medmcl.objectives.settings import ScaleSettings


def not_alone(groups: Tensor) -> Tensor:
    """Tell which rows share their group with another row, (B,) bool."""
    _, own, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    return counts[own] > 1


def other_groups(groups: Tensor) -> Tensor:
    """Tell which two rows are of different groups, (B, B) bool."""
    return groups[:, None] != groups[None, :]


def compared_rows(a: Tensor, b: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leave out the rows that are alone in their group.

    Of rows in a ring (`rows_in_ring`) who asks has left them out: company may be on other ranks.

    Raises:
        MedmclError: Groups are not one number a row, or every row is alone in its group.
    """
    if groups.shape != (len(a),):
        raise MedmclError(
            "groups must give one number for each row",
            got=f"shape {tuple(groups.shape)}",
            expected=f"({len(a)},)",
        )
    if is_in_ring():
        return a, b, groups
    rows = not_alone(groups)
    if not rows.any():
        raise MedmclError(
            "every row is alone in its group, so there is no negative",
            got=f"{len(a)} rows in {len(a)} groups",
            fix="leave the term out, or use larger batches",
        )
    return a[rows], b[rows], groups[rows]


def with_groups(batch: Batch, has: np.ndarray) -> tuple[np.ndarray, Tensor | None]:
    """Give the rows that a loss can compare, and their groups if a batch mixes them.

    Args:
        batch: Whose target `GROUPS` holds the group of each row, where groups are mixed.
        has: Which rows have what is compared, (B,) bool, on the host.

    Returns:
        Numbers of those whose group has another of them, ascending, on the host, and their groups,
        where the batch is; all and None if the batch knows no groups.
    """
    rows = np.flatnonzero(has)
    if GROUPS not in batch.targets:
        return rows, None
    rows = rows[batch.values(batch.known[GROUPS])[rows, 0]]
    groups = batch.values(batch.targets[GROUPS])[rows, 0].astype(np.int64)
    _, own, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shared = counts[own] > 1
    on_device = torch.from_numpy(groups[shared]).to(batch.ids.device, non_blocking=True)
    return rows[shared], on_device


TILE_FROM = {"cpu": 2048}
"""Device type to the rows from which losses are computed in tiles; faster there, and lean."""
TILE_FROM_ELSEWHERE = 16384


def worth_tiles(rows: int, device: torch.device) -> bool:
    """Whether so many rows are compared in tiles on a device."""
    return rows >= TILE_FROM.get(device.type, TILE_FROM_ELSEWHERE)


def _in_tiles(rows: Tensor) -> bool:
    return is_in_ring() or worth_tiles(len(rows), rows.device)


def info_nce(
    a: Tensor,
    b: Tensor,
    logit_scale: float | Tensor,
    weight: float = 0.5,
    normalise: bool = True,
    groups: Tensor | None = None,
) -> Tensor:
    """Give the symmetric InfoNCE loss: ``weight`` CE(a to b) + (1 - ``weight``) CE(b to a).

    Large batches are computed in tiles, exactly, without the (B, B) matrix in memory; that path
    has no second derivative. Inside `rows_in_ring` the loss is over the rows of all ranks.

    Args:
        a: Embeddings of one side, (B, D).
        b: Embeddings of the other side, (B, D); row i belongs to row i of ``a``.
        logit_scale: 1 / temperature, a number or a tensor of one element: 10 for 0.1.
        weight: Share of the a-to-b direction (each row of ``a`` looks for its ``b``), in [0, 1].
        normalise: Whether rows are scaled to unit length first.
        groups: Group of each row, (B,): negatives are the other rows of a row's own group, and
            rows that are alone in theirs are left out. The loss is the mean of the losses of the
            groups, each alone in a batch, weighted by their rows.

    Returns:
        Scalar, nats; lower is better. log B for embeddings that tell nothing.

    Raises:
        MedmclError: If shapes differ, values are not real numbers with a fraction, there are fewer
            than 2 rows, the scale is not finite and positive, or every row is alone in its group.

    Source:
        Radford et al. 2021, fig. 3, arXiv 2103.00020; weight per direction: Zhang et al. 2020,
        eq. (4), arXiv 2010.00747, as in Turgut et al. 2025. Groups: Zhang et al. 2024,
        arXiv 2402.11816, whose code has batches of one group only. Differs: none.
    """
    if not 0 <= weight <= 1:
        raise MedmclError("weight must lie in [0, 1]", got=weight)
    a, b, scale = _prepare(a, b, logit_scale, normalise)
    if groups is not None:
        a, b, groups = compared_rows(a, b, groups)
    with torch.autocast(a.device.type, enabled=False):
        if _in_tiles(a):
            return tiled_info_nce(a, b, scale, weight, groups=groups)
        logits = scale * (a @ b.T)
        if groups is not None:
            logits = logits.masked_fill(other_groups(groups), -math.inf)
        own = torch.arange(len(a), device=a.device)
        forth, back = functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own)
        return weight * forth + (1 - weight) * back


def nt_xent(
    a: Tensor,
    b: Tensor,
    logit_scale: float | Tensor,
    normalise: bool = True,
    groups: Tensor | None = None,
) -> Tensor:
    """Give the NT-Xent loss of two views: negatives are all other rows of both views.

    Args:
        a: Embeddings of the first view, (B, D).
        b: Embeddings of the second view of the same rows, (B, D).
        logit_scale: 1 / temperature.
        normalise: Whether rows are scaled to unit length first.
        groups: As in `info_nce`.

    Returns:
        Scalar, nats; lower is better. log (2 B - 1) for embeddings that tell nothing.

    Raises:
        MedmclError: As `info_nce`.

    Source:
        Chen et al. 2020, eq. (1), arXiv 2002.05709. Differs: none.
    """
    a, b, scale = _prepare(a, b, logit_scale, normalise)
    if groups is not None:
        a, b, groups = compared_rows(a, b, groups)
    with torch.autocast(a.device.type, enabled=False):
        both = torch.cat([a, b])
        if _in_tiles(both):
            others, twice = both.roll(len(a), 0), None if groups is None else groups.repeat(2)
            return tiled_info_nce(both, others, scale, 1.0, groups=twice, itself=len(a))
        hidden = torch.eye(len(both), dtype=torch.bool, device=a.device)
        if groups is not None:
            hidden = hidden | other_groups(groups).repeat(2, 2)
        logits = (scale * (both @ both.T)).masked_fill(hidden, -math.inf)
        partner = torch.arange(len(both), device=a.device).roll(len(a))
        return functional.cross_entropy(logits, partner)


def sigmoid_loss(
    a: Tensor,
    b: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    normalise: bool = True,
    groups: Tensor | None = None,
) -> Tensor:
    """Give the sigmoid loss: every pair of rows is its own yes-or-no question.

    Args:
        a: Embeddings of one side, (B, D).
        b: Embeddings of the other side, (B, D).
        logit_scale: 1 / temperature.
        logit_bias: Added to every logit; about -log B at the start, as most pairs do not match.
        normalise: Whether rows are scaled to unit length first.
        groups: As in `info_nce`.

    Returns:
        Scalar, nats a row (the sum over its B pairs); lower is better.

    Raises:
        MedmclError: As `info_nce`.

    Source:
        Zhai et al. 2023, algorithm 1, arXiv 2303.15343. Differs: none.
    """
    a, b, scale = _prepare(a, b, logit_scale, normalise)
    if groups is not None:
        a, b, groups = compared_rows(a, b, groups)
    bias = as_one_number(logit_bias, a, "logit_bias")
    with torch.autocast(a.device.type, enabled=False):
        if _in_tiles(a):
            return tiled_sigmoid(a, b, scale, bias, groups=groups)
        logits = scale * (a @ b.T) + bias
        sign = 2 * torch.eye(len(a), dtype=a.dtype, device=a.device) - 1
        answers = functional.logsigmoid(sign * logits)
        if groups is not None:
            answers = answers.masked_fill(other_groups(groups), 0.0)
        return -answers.sum() / len(a)


def as_one_number(value: float | Tensor, like: Tensor, name: str) -> Tensor:
    """Give ``value`` as a tensor of shape (1,) beside ``like``; `MedmclError` if not finite.

    Tensors on an accelerator are not looked into: that would stall it at every step.
    """
    if not isinstance(value, Tensor):
        value = torch.tensor([float(value)], dtype=like.dtype, device=like.device)
    elif value.numel() != 1:
        raise MedmclError(f"{name} must hold one number", got=f"shape {tuple(value.shape)}")
    if value.device.type == "cpu" and not torch.isfinite(value.detach()).all():
        raise MedmclError(f"{name} must be finite", got=value.item())
    return value.reshape(1).to(dtype=like.dtype, device=like.device)


def comparable(points: Sequence[Tensor]) -> list[Tensor]:
    """Give embeddings of the same rows, (B, D) each, in float32 or wider.

    Raises:
        MedmclError: Shapes differ, there are fewer than 2 rows, or values are not real numbers
            with a fraction.
    """
    shapes = [tuple(x.shape) for x in points]
    if len(set(shapes)) > 1 or points[0].ndim != 2:
        got = " and ".join(map(str, shapes))
        raise MedmclError("embeddings must be matrices of one shape (B, D)", got=got)
    if len(points[0]) < 2 and not is_in_ring():
        raise MedmclError(
            "a contrastive loss needs at least 2 rows: with fewer there is no negative",
            got=len(points[0]),
            fix="leave the term out, or use larger batches",
        )
    if not all(x.is_floating_point() for x in points):
        got = " and ".join(str(x.dtype) for x in points)
        what, fix = "embeddings must hold floating-point numbers", "embeddings.float()"
        raise MedmclError(what, got=got, fix=fix)
    wider = reduce(torch.promote_types, [widen(x).dtype for x in points])
    return [x.to(wider) for x in points]


def _prepare(
    a: Tensor, b: Tensor, logit_scale: float | Tensor, normalise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    a, b = comparable((a, b))
    scale = as_one_number(logit_scale, a, "logit_scale")
    if scale.device.type == "cpu" and scale.item() <= 0:
        raise MedmclError("logit_scale must be above 0", got=scale.item())
    if normalise:
        a, b = functional.normalize(a, dim=1), functional.normalize(b, dim=1)
    return a, b, scale


def info_nce_chance(rows: int, groups: Tensor | None = None, views: int = 1) -> float | Tensor:
    """Give the chance level of `info_nce`, or with two views that of `nt_xent`.

    Args:
        rows: Rows that are compared.
        groups: Group of each, (rows,), where negatives are of a row's own.
        views: Views whose rows are candidates; of two a row is no candidate of its own.
    """
    if groups is None:
        return math.log(views * rows - (views - 1))
    return (views * _sizes(groups) - (views - 1)).log().mean()


def sigmoid_chance(rows: int, groups: Tensor | None = None) -> float | Tensor:
    """Give the chance level of `sigmoid_loss`: every pair has the logit of the share that match.

    Args:
        rows: Rows that are compared, at least two.
        groups: Group of each, (rows,), where negatives are of a row's own.
    """
    if groups is None:
        return math.log(rows) + (rows - 1) * math.log(rows / (rows - 1))
    pairs = _sizes(groups).sum()  # asked about; ``rows`` of them match
    others = pairs - rows
    return ((pairs / rows).log() * rows + torch.xlogy(others, pairs / others)) / rows


def _sizes(groups: Tensor) -> Tensor:
    """Rows of the group of each row; `torch.unique` would wait for the device."""
    ordered = groups.sort()[0]
    ends = (torch.searchsorted(ordered, groups, right=right) for right in (True, False))
    return torch.sub(*ends).float()


class LogitScale(nn.Module):
    """Holds the logarithm of the scale, one parameter of shape (1,).

    A learned scale that a step pushed above ``max`` is set back to ``max`` before it is used, so
    its gradient never vanishes.
    """

    def __init__(self, settings: ScaleSettings) -> None:
        super().__init__()
        start = torch.tensor([math.log(settings.init)], device="cpu")
        self.log = nn.Parameter(start, requires_grad=settings.learned)
        self.max = settings.max

    def forward(self) -> Tensor:
        """Give the scale, (1,)."""
        if self.log.requires_grad:
            with torch.no_grad():
                self.log.clamp_(max=math.log(self.max))
        return self.log.exp()
