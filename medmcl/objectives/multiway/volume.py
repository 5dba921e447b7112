"""GRAM: modalities of one subject span a small volume, those of different subjects a large one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import MedmclError
from medmcl.objectives.multiway.multiway import (
    Many,
    Multiway,
    stacked,
)
from medmcl.objectives.pairwise.chance import info_nce_chance
from medmcl.objectives.pairwise.contrastive import as_one_number
from medmcl.objectives.settings import COSINE, EPS, GramSettings


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


def volumes(anchors: Tensor, others: Many, eps: float = EPS) -> Tensor:
    """Volume that each anchor spans with the others of each row, (N, B); lower = more alike.

    Args:
        anchors: (N, D).
        others: M - 1 tensors (B, D), or a mapping to them.
        eps: Added to the diagonal of the Gram matrix.
    """
    points = list(others.values() if isinstance(others, Mapping) else others)
    whole = functional.normalize(torch.stack(points), dim=-1)
    similarity = functional.normalize(anchors, dim=-1) @ whole.transpose(1, 2)
    return _volumes(similarity, whole, eps)


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


class Gram(Multiway):
    """Charges for all modalities together by their volume, over the rows that have every one.

    Sees: whether M vectors lie in a common plane, so also what shows in no pair. Cannot: tell a
    vector from its negative, or go on learning once any two of them coincide (the volume is 0
    whatever the third does); the cosine term fixes both. Rows that lack a modality are left out.
    Only the anchor is contrasted: the others are drawn together through it.

    Source:
        Cicchetti et al. 2025, arXiv 2412.11959. Differs: see `gram`.
    """

    Settings = GramSettings

    def __init__(self, settings: GramSettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        self.settings = settings
        numbers = {name: number for number, name in enumerate(self.names)}
        anchor = settings.anchor
        self.anchor = 0 if anchor is None else lookup("modality", anchor, numbers)
        self.terms: tuple[str, ...] = (f"gram/{'+'.join(self.names)}",)

    def forward(
        self,
        seen: Mapping[str, Embeddings],
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        points = self.together(seen)
        if points is None:
            return {}
        settings = self.settings
        value = gram(points, self.scale(), self.anchor, settings.cosine, settings.eps)
        rows = len(points[0])
        return {self.terms[0]: Term(value, rows, chance=info_nce_chance(rows))}
