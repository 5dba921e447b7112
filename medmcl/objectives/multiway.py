"""Losses of many modalities at once: Symile, GRAM, CentroBind, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives.pairwise.alignment import compared, require_pooled
from medmcl.objectives.pairwise.contrastive import (
    LogitScale,
    as_one_number,
    comparable,
    info_nce,
    info_nce_chance,
)
from medmcl.objectives.settings import (
    COSINE,
    EPS,
    CentroBindSettings,
    GramSettings,
    MultiwaySettings,
    SymileSettings,
)

Many = Sequence[Tensor] | Mapping[str, Tensor]


class Multiway(nn.Module):
    """What every objective over many modalities has: their names, one view, one scale."""

    across_ranks: Literal["gather", "stream", "rows"] = "gather"
    gathers: tuple[str, ...] = ("pooled",)

    def __init__(self, settings: MultiwaySettings, shape: ModelShape) -> None:
        super().__init__()
        self.settings = settings
        asked = tuple(shape.inputs) if settings.modalities == "all" else settings.modalities
        self.names = tuple(lookup("modality", name, shape.inputs.keys()) for name in asked)
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            got = ", ".join(self.names)
            raise ConfigError("at least two different modalities are needed", got=got)
        self.views: tuple[str, ...] = (settings.view,)
        self.scale = LogitScale(settings.scale)

    def scale_of(self, pair: tuple[str, str]) -> LogitScale | None:
        """The scale of all modalities together; None if one of the pair is not among them."""
        return self.scale if set(pair) <= set(self.names) else None


class Whole(Multiway, ABC):
    """What objectives have that charge one term for all modalities, of the rows that have all."""

    name: ClassVar[str]

    def __init__(self, settings: MultiwaySettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        self.terms: tuple[str, ...] = (f"{self.name}/{'+'.join(self.names)}",)

    def forward(self, seen: Mapping[str, Embeddings], _: Batch) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        (view,) = self.views
        for name in self.names:
            require_pooled(seen[view], name, view)
        rows = seen[view].batch.rows(*self.names)
        if len(rows) < 2:
            return {}
        return {self.terms[0]: self.charge([seen[view].pooled[name][rows] for name in self.names])}

    @abstractmethod
    def charge(self, points: list[Tensor]) -> Term:
        """Give the term of points (rows, D) each; rows of one number belong together."""


def stacked(embeddings: Many, normalise: bool = True) -> Tensor:
    """Give M tensors (B, D) as one (M, B, D), in float32 or wider, of unit length if asked.

    Raises:
        MedmclError: If there are fewer than 2 modalities or rows, shapes differ, or values are not
            real numbers with a fraction.
    """
    points = list(embeddings.values() if isinstance(embeddings, Mapping) else embeddings)
    if len(points) < 2:
        raise MedmclError("at least 2 modalities are needed", got=len(points))
    whole = torch.stack(comparable(points))
    return functional.normalize(whole, dim=-1) if normalise else whole


MOST_LOGITS = 2**28
"""Logits of one anchor beyond which ``negatives: all`` is refused: 1 GiB in float32."""


def symile(
    embeddings: Many,
    logit_scale: float | Tensor,
    negatives: Literal["shifted", "all"] = "shifted",
    normalise: bool = True,
) -> Tensor:
    """Give the Symile loss: each modality looks for the tuple of the others that belongs to it.

    The logit of a tuple is ``logit_scale`` times the multilinear inner product, the sum over d of
    the product of all M entries d.

    Args:
        embeddings: M tensors (B, D), or a mapping to them; row i of each belongs together.
        logit_scale: 1 / temperature. The inner product of M unit vectors shrinks as
            D^(-(M - 2) / 2), so a scale that suits two modalities is too small for more; the
            objective ``symile`` makes up for it, this function does not.
        negatives: ``shifted``: B - 1 tuples an anchor, the k-th of the other modalities moved on by
            k rows: O(B^2). Rows of a batch come in random order, so this is as good as a fresh
            shuffle, and the loss stays a pure function. ``all``: every combination of rows,
            B^(M - 1) tuples an anchor.
        normalise: Whether rows are scaled to unit length first.

    Returns:
        Scalar, nats; lower is better. The mean over the M anchors; log B for embeddings that tell
        nothing (``shifted``). Two modalities: the symmetric InfoNCE loss.

    Raises:
        MedmclError: If shapes or numbers cannot be used, or ``all`` asks for too much memory.

    Source:
        Saporta et al. 2024, Contrasting with Symile, arXiv 2411.01053, eq. (3) and section 4.
        Differs: shifts in place of random shuffles.
    """
    points = stacked(embeddings, normalise)
    scale = as_one_number(logit_scale, points, "logit_scale")
    anchors = range(len(points))
    with torch.autocast(points.device.type, enabled=False):
        logits = _against_shifted if negatives == "shifted" else _against_all
        losses = [functional.cross_entropy(*logits(points, anchor, scale)) for anchor in anchors]
    return torch.stack(losses).mean()


def _against_shifted(points: Tensor, anchor: int, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, B) and where the positives stand: on the diagonal."""
    others = [x for number, x in enumerate(points) if number != anchor]
    right = reduce(torch.mul, others)
    wrong = reduce(torch.mul, [x.roll(-k, 0) for k, x in enumerate(others)])
    own = torch.eye(len(right), dtype=torch.bool, device=right.device)
    positive = (points[anchor] * right).sum(1, keepdim=True)
    logits = torch.where(own, positive, points[anchor] @ wrong.T)
    return scale * logits, torch.arange(len(right), device=right.device)


def _against_all(points: Tensor, anchor: int, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, B^(M - 1)) and where the positives stand."""
    rows, others = points.shape[1], len(points) - 1
    if rows ** (others + 1) > MOST_LOGITS:
        raise MedmclError(
            "negatives: all needs too much memory",
            got=f"{rows} rows to the power of {others + 1} modalities",
            fix="negatives: shifted, or smaller batches",
        )
    tuples = points.new_ones((1, points.shape[2]))
    for number, x in enumerate(points):
        if number != anchor:
            tuples = (tuples[:, None] * x[None]).flatten(0, 1)
    step = sum(rows**k for k in range(others))
    return scale * (points[anchor] @ tuples.T), step * torch.arange(rows, device=points.device)


class Symile(Whole):
    """Charges for all modalities together, over the rows that have every one of them.

    Sees: everything they share, also what shows in no pair (with c = a xor b, any two are
    independent). Cannot: use rows that lack one of them, so it learns nothing from a modality that
    is never measured with all others; tell whether the others agree among themselves apart from the
    anchor; nor be read as cosines, since retrieval of one modality needs all others.

    Source:
        Saporta et al. 2024, arXiv 2411.01053. Differs: see `symile`; absent modalities leave the
        row out, where the paper puts a learned vector and a flag in their place.
    """

    Settings = SymileSettings

    name = "symile"
    settings: SymileSettings

    def charge(self, points: list[Tensor]) -> Term:
        """See `symile`."""
        rows, others, negatives = len(points[0]), len(points) - 1, self.settings.negatives
        wider = points[0].shape[1] ** ((others - 1) / 2) if self.settings.rescale else 1.0
        chance = (1 if negatives == "shifted" else others) * info_nce_chance(rows)
        return Term(symile(points, wider * self.scale(), negatives), rows, chance=chance)


def gram(
    embeddings: Many,
    logit_scale: float | Tensor,
    anchor: int = 0,
    cosine: float = COSINE,
    eps: float = EPS,
) -> Tensor:
    """Give the GRAM loss: the anchor looks for the others with which it spans the least volume.

    The logit of anchor row i and the others' row j is ``logit_scale`` * (-V_ij + ``cosine`` * mean
    cosine of i with the others at j), with V = sqrt(det(G + eps I)) and G the Gram matrix of the M
    unit vectors. The loss is the mean of both directions.

    Args:
        embeddings: M tensors (B, D), or a mapping to them; row i of each belongs together.
        logit_scale: 1 / temperature.
        anchor: Number of the modality that looks for the others.
        cosine: Weight of the mean cosine. 0 is the paper's loss, which cannot tell a vector from
            its negative, and has no gradient for the anchor once two of the others coincide.
        eps: Keeps the gradient finite where the volume is 0.

    Returns:
        Scalar, nats; lower is better. log B for embeddings that tell nothing.

    Raises:
        MedmclError: If shapes or numbers cannot be used.

    Source:
        Cicchetti et al. 2025, Gramian multimodal representation learning, arXiv 2412.11959, eq. (5)
        to (8). Differs: the cosine term; eps; no label smoothing and no matching loss.
    """
    points = stacked(embeddings)
    if not 0 <= anchor < len(points):
        raise MedmclError("there is no such anchor", got=anchor, expected=f"0 to {len(points) - 1}")
    if not eps > 0:
        raise MedmclError("eps must be above 0: the gradient is not finite otherwise", got=eps)
    scale = as_one_number(logit_scale, points, "logit_scale")
    with torch.autocast(points.device.type, enabled=False):
        others = torch.cat([points[:anchor], points[anchor + 1 :]])
        similarity = points[anchor] @ others.transpose(1, 2)
        logits = -_volumes(similarity, others, eps)
        if cosine:
            logits = logits + cosine * similarity.mean(0)
        logits = scale * logits
        own = torch.arange(len(logits), device=logits.device)
        forth, back = functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own)
    return (forth + back) / 2


def _volumes(similarity: Tensor, others: Tensor, eps: float) -> Tensor:
    """Volumes (N, B) from cosines of the anchors with the others (M - 1, N, B), others (M-1, B, D).

    det(G + eps I) = det(G_o + eps I) * (1 + eps - c' (G_o + eps I)^-1 c): one small matrix a row,
    not one a pair of rows. In float64, as eps is close to the rounding of float32.
    """
    wide = others.double().transpose(0, 1)
    inner = wide @ wide.transpose(1, 2)
    inner = inner + eps * torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
    half = torch.linalg.cholesky(inner)
    sides = similarity.double().permute(2, 0, 1)
    projected = torch.linalg.solve_triangular(half, sides, upper=False)
    height = (1 + eps - projected.square().sum(1)).clamp(min=eps).T
    base = half.diagonal(dim1=-2, dim2=-1).prod(-1)
    return (base * height.sqrt()).to(similarity.dtype)


class Gram(Whole):
    """Charges for all modalities together by their volume, over the rows that have every one.

    Sees: whether M vectors lie in a common plane, so also what shows in no pair. Cannot: tell a
    vector from its negative, or go on learning once any two of them coincide (the volume is 0
    whatever the third does); the cosine term fixes both. Rows that lack a modality are left out.
    Only the anchor is contrasted: the others are drawn together through it.

    Source:
        Cicchetti et al. 2025, arXiv 2412.11959. Differs: see `gram`.
    """

    Settings = GramSettings

    name = "gram"
    settings: GramSettings

    def __init__(self, settings: GramSettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        anchor = self.names[0] if settings.anchor is None else settings.anchor
        self.anchor = self.names.index(lookup("modality", anchor, self.names))

    def charge(self, points: list[Tensor]) -> Term:
        """See `gram`."""
        rows, settings = len(points[0]), self.settings
        value = gram(points, self.scale(), self.anchor, settings.cosine, settings.eps)
        return Term(value, rows, chance=info_nce_chance(rows))


class CentroBind(Multiway):
    """Charges for every modality against the mean point of the other present ones.

    Sees: what a modality shares with the others on average; needs no middle modality, and uses
    every row with two modalities or more. Cannot: see what shows in no pair, or leave out a
    modality that is noise, which blurs every mean it is part of.

    Source:
        Jeong et al. 2024, arXiv 2410.02086. Differs: a modality is left out of its own mean, so
        that nothing is aligned with itself; the mean is taken over present modalities.
    """

    Settings = CentroBindSettings
    across_ranks = "stream"

    def __init__(self, settings: CentroBindSettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        self.terms: tuple[str, ...] = tuple(f"centrobind/{name}" for name in self.names)

    def forward(self, seen: Mapping[str, Embeddings], _: Batch) -> dict[str, Term]:
        """Give a term for each modality with at least two rows that have another one too."""
        embeddings, scale = seen[self.settings.view], self.scale()
        for name in self.names:
            require_pooled(embeddings, name, self.settings.view)
        batch = embeddings.batch
        own = batch.own or slice(None)
        present = torch.stack([batch.present[name][own] for name in self.names])
        known = np.stack([batch.values(batch.present[name]) for name in self.names])
        shown = torch.stack([embeddings.pooled[name] for name in self.names])
        # Absent ones are zeros, whatever stands there.
        points = functional.normalize(torch.where(present[..., None], shown, 0.0), dim=-1)
        charged: dict[str, tuple[Tensor, int]] = {}
        for number, term in enumerate(self.terms):
            rows = np.flatnonzero(known[number] & (known.sum(0) > 1))
            if len(rows) < 2:
                continue
            others = [x for k, x in enumerate(points) if k != number]
            with compared(batch, rows) as (mine, _groups):
                mean = functional.normalize(torch.stack(others).sum(0)[mine], dim=1)
                charged[term] = (info_nce(points[number][mine], mean, scale), len(rows))
        return {
            name: Term(value, count, 1 / len(charged), info_nce_chance(count))
            for name, (value, count) in charged.items()
        }
