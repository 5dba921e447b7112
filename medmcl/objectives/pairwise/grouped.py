"""Negatives of one group: which rows a contrastive loss compares, and which it hides."""

from __future__ import annotations

import torch
from torch import Tensor

from medmcl.core.batch import GROUPS, Batch
from medmcl.core.errors import MedmclError


def not_alone(groups: Tensor) -> Tensor:
    """Tell which rows share their group with another row, (B,) bool."""
    _, own, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    return counts[own] > 1


def other_groups(groups: Tensor) -> Tensor:
    """Tell which two rows are of different groups, (B, B) bool."""
    return groups[:, None] != groups[None, :]


def compared_rows(
    a: Tensor, b: Tensor, groups: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Leave out the rows that are alone in their group; all stay without groups.

    Raises:
        MedmclError: Groups are not one number a row, or every row is alone in its group.
    """
    if groups is None:
        return a, b, None
    if groups.shape != (len(a),):
        raise MedmclError(
            "groups must give one number for each row",
            got=f"shape {tuple(groups.shape)}",
            expected=f"({len(a)},)",
        )
    rows = not_alone(groups)
    if not rows.any():
        raise MedmclError(
            "every row is alone in its group, so there is no negative",
            got=f"{len(a)} rows in {len(a)} groups",
            fix="leave the term out, or use larger batches",
        )
    return a[rows], b[rows], groups[rows]


def with_groups(batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give the rows that a loss can compare, and their groups if a batch mixes them.

    Args:
        batch: Whose target `GROUPS` holds the group of each row, where groups are mixed.
        rows: Rows that have what is compared, (N,) int64.

    Returns:
        Of those the ones whose group has another of them, and their groups; all and None if the
        batch knows no groups.
    """
    if GROUPS not in batch.targets:
        return rows, None
    known = batch.known[GROUPS][rows, 0]
    rows = rows[known]
    groups = batch.targets[GROUPS][rows, 0].long()
    shared = not_alone(groups) if len(groups) else known[known]
    return rows[shared], groups[shared]
