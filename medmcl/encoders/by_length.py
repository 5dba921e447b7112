"""Rows of like length encoded together, cut to the longest: padding that is not computed."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medmcl.encoders.encoded import Encoded, Encoder


def groups_by_length(lengths: np.ndarray, most: int) -> list[np.ndarray]:
    """Put rows into groups of like length: cut to the longest of each, they leave least padding.

    No fewer groups leave less, so there are ``most`` of them unless there are fewer lengths.

    Args:
        lengths: Of each row, (B,) int64.
        most: Groups, at least 1.

    Returns:
        Numbers of the rows of each group, the shortest first.
    """
    sizes, counts = np.unique(lengths, return_counts=True)
    before, order = np.concatenate([[0], counts.cumsum()]), np.arange(len(sizes))
    # area[a, b]: places of a group with the lengths a to b, all cut to b
    area = (before[None, 1:] - before[:-1, None]) * sizes
    area = np.where(order[:, None] <= order, area, np.inf)
    least, ends = area[0], []  # of the lengths up to each, in one group
    for _ in range(min(most, len(sizes)) - 1):
        places = least[:-1, None] + area[1:]
        ends.append(places.argmin(0))
        least = places.min(0)
    longest = [len(sizes) - 1]
    for end in reversed(ends):
        longest.append(end[longest[-1]])
    group = np.searchsorted(sizes[longest[::-1]], lengths)
    return [np.flatnonzero(group == number) for number in range(len(longest))]


def encode_by_length(encoder: Encoder, x: Tensor, lengths: np.ndarray, most: int) -> Encoded:
    """Encode rows as `Encoder` does, in groups that are cut to their longest row.

    Equal to the rows encoded whole within float error; dropout draws other numbers.

    Args:
        encoder: Keeps `medmcl.encoders.encoded.TakesCutRows`.
        x: Rows (B, T, ...), B at least 1.
        lengths: Of each row, (B,) int64, 1 to T: what follows is padding.
        most: Groups, at least 1.
    """
    groups = groups_by_length(lengths, most)
    order = np.concatenate(groups)
    taken, back = (
        torch.from_numpy(one).to(x.device, non_blocking=True) for one in (order, order.argsort())
    )
    parts = x.index_select(0, taken).split([len(rows) for rows in groups])
    encoded = [
        encoder(part[:, : max(2, int(lengths[rows].max()))])  # a size of one is compiled apart
        for rows, part in zip(groups, parts, strict=True)
    ]

    def whole(field: str, value: float) -> Tensor | None:
        """What all gave, padded to T, in the order of the rows."""
        given = [cast(Tensor | None, getattr(one, field)) for one in encoded]
        if given[0] is None:
            return None
        filled = [
            pad(one, (*[0, 0] * (one.ndim - 2), 0, x.shape[1] - one.shape[1]), value=value)
            for one in given
            if one is not None
        ]
        return torch.cat(filled).index_select(0, back)

    features = torch.cat([one.features for one in encoded]).index_select(0, back)
    return Encoded(features=features, tokens=whole("tokens", 0.0), padding=whole("padding", 1.0))
