"""From connectivity matrices to graphs: thresholds, signs and node features, for a whole batch.

Ties are kept together: whether an edge stays never depends on the order of the regions, so that
another order gives the same graph in another order.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medmcl.core.graph_rows import Graphs
from medmcl.modalities.graph.settings import GraphSettings


def build_graphs(
    weights: Tensor, present: Tensor, settings: GraphSettings, cut: Tensor | None = None
) -> Graphs:
    """Build graphs.

    Args:
        weights: Connectivity, symmetric, (B, R, R); the diagonal and whatever stands beside absent
            regions is ignored.
        present: Which regions are there, (B, R) bool.
        settings: Threshold, signs, node features.
        cut: Pairs whose edge is dropped after the threshold, and hidden in features too, symmetric,
            (B, R, R) bool.
    """
    pairs = pairs_of(present)
    weights = torch.where(pairs, weights, 0.0)
    if settings.signs == "positive":
        weights = weights.clamp(min=0.0)
    kept = _kept(weights.abs(), present, settings)
    if cut is not None:
        weights = weights.masked_fill(cut, 0.0)
        kept = kept & ~cut
    thinned = torch.where(kept, weights, 0.0)
    return Graphs(
        present=present,
        edges=_channels(thinned, settings),
        nodes=_features(weights, thinned, present, settings),
    )


def pairs_of(present: Tensor) -> Tensor:
    """Pairs of two different regions that are there, (B, R, R) bool."""
    own = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    return present[:, :, None] & present[:, None, :] & ~own


def _kept(size: Tensor, present: Tensor, settings: GraphSettings) -> Tensor:
    """Which edges stay, by absolute weight (B, R, R); an edge of weight zero is none."""
    there = size > 0
    if settings.min_weight is not None:
        return there & (size >= settings.min_weight)
    if settings.density is not None:
        regions = present.sum(dim=1)
        wanted = (settings.density * (regions * (regions - 1) // 2)).round().long()
        row, column = torch.triu_indices(len(size[0]), len(size[0]), 1, device=size.device)
        most = math.ceil(settings.density * len(row)) + 1
        limit = _ranked(size[:, row, column], wanted, most)
        return there & (size >= limit[:, None, None])
    if settings.neighbours is not None:
        wanted = torch.full_like(present.sum(dim=1), settings.neighbours)
        limit = _ranked(size, wanted, settings.neighbours)
        chosen = size >= limit[..., None]
        return there & (chosen | chosen.transpose(1, 2))
    return there


def _ranked(sizes: Tensor, wanted: Tensor, most: int) -> Tensor:
    """The ``wanted``-th largest of the last axis, for each row of the first, at most ``most``."""
    most = min(max(most, 1), sizes.shape[-1])
    best = sizes.topk(most, dim=-1).values
    place = (wanted.clamp(1, most) - 1).reshape(-1, *[1] * (sizes.ndim - 1))
    limit = best.gather(-1, place.expand(*best.shape[:-1], 1))[..., 0]
    none = (wanted < 1).reshape(-1, *[1] * (limit.ndim - 1))
    return limit.masked_fill(none, torch.inf)


def _channels(weights: Tensor, settings: GraphSettings) -> Tensor:
    if settings.signs == "split":
        return torch.stack([weights.clamp(min=0.0), (-weights).clamp(min=0.0)], dim=1)
    return (weights.abs() if settings.signs == "absolute" else weights)[:, None]


def _features(weights: Tensor, thinned: Tensor, present: Tensor, settings: GraphSettings) -> Tensor:
    """Node features side by side, zero for absent regions, (B, R, F)."""
    others = (present.sum(dim=1) - 1).clamp(min=1).to(weights.dtype)[:, None]
    parts = [weights.new_zeros(*weights.shape[:2], 0)]
    for name in settings.nodes:
        if name == "profile":
            parts.append(weights.abs() if settings.signs == "absolute" else weights)
        elif name == "strength":
            parts += [(part.sum(dim=2) / others)[..., None] for part in _split(thinned)]
        elif name == "degree":
            parts += [((part > 0).sum(dim=2) / others)[..., None] for part in _split(thinned)]
        elif name == "local_degree":
            parts.append(_local_degree(thinned != 0, others))
        else:
            own = torch.eye(weights.shape[1], dtype=weights.dtype, device=weights.device)
            parts.append(own.expand(len(weights), -1, -1))
    return torch.cat(parts, dim=2) * present[..., None]


def _split(weights: Tensor) -> tuple[Tensor, Tensor]:
    return weights.clamp(min=0.0), (-weights).clamp(min=0.0)


def _local_degree(edges: Tensor, others: Tensor) -> Tensor:
    """Degree, and least, largest, mean and deviation of the neighbours' degrees, as shares."""
    degree = edges.sum(dim=2) / others
    near = degree[:, None, :].expand_as(edges)
    count = edges.sum(dim=2)
    alone = count == 0
    least = near.masked_fill(~edges, torch.inf).amin(dim=2).masked_fill(alone, 0.0)
    most = near.masked_fill(~edges, -torch.inf).amax(dim=2).masked_fill(alone, 0.0)
    mean = (near * edges).sum(dim=2) / count.clamp(min=1)
    spread = ((near - mean[..., None]).square() * edges).sum(dim=2) / count.clamp(min=1)
    return torch.stack([degree, least, most, mean, spread.sqrt()], dim=2)


Estimate = Literal["pearson", "ledoit_wolf", "partial"]
FLAT = 1e-9  # of its size: a signal that varies less is constant but for rounding
LARGEST = 1 - 1e-6  # correlation whose Fisher z is still finite


def constant_columns(series: np.ndarray) -> np.ndarray:
    """Which columns of (T, R) do not vary, (R,) bool; NaN counts as varying, as does no row."""
    if not len(series):
        return np.zeros(series.shape[1], dtype=bool)
    with np.errstate(invalid="ignore"):
        spread = series.max(axis=0) - series.min(axis=0)
        return np.asarray(spread <= FLAT * np.abs(series).max(axis=0))


def connectivity(series: np.ndarray, estimate: Estimate) -> np.ndarray:
    """Give the connectivity of time series (T, R) that are finite and vary: (R, R), diagonal 1.

    ``pearson``: sample correlation. ``ledoit_wolf``: correlation of the covariance of the
    standardised series, shrunk towards a multiple of the identity. ``partial``: minus the inverse
    of that shrunk covariance, scaled to a unit diagonal with its sign turned: what two regions
    share beyond all others.

    Source:
        Ledoit & Wolf 2004, J Multivariate Anal 88:365-411, eq. 14; scikit-learn computes it.
    """
    centred = series - series.mean(axis=0)
    standard = centred / np.sqrt((centred**2).mean(axis=0))
    if estimate == "pearson":
        found = standard.T @ standard / len(standard)
    else:
        from sklearn.covariance import ledoit_wolf

        found = ledoit_wolf(standard, assume_centered=True)[0]
        found = found if estimate == "ledoit_wolf" else -np.linalg.inv(found)
    scale = np.sqrt(np.abs(np.diag(found)))
    found = np.clip((found + found.T) / 2 / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def fisher_z(correlation: np.ndarray) -> np.ndarray:
    """Give artanh of correlations; those nearer to ±1 than 1e-6 count as ±(1 - 1e-6)."""
    return np.asarray(np.arctanh(np.clip(correlation, -LARGEST, LARGEST)))


def window_starts(length: int, width: int, count: int) -> list[int]:
    """First time points of ``count`` parts of ``width``, evenly spaced over ``length``."""
    if count == 1:
        return [(length - width) // 2]
    return [round(k * (length - width) / (count - 1)) for k in range(count)]
