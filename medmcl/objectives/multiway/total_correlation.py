"""Symile: one contrastive loss over all modalities at once, which sees what no pair shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import MedmclError
from medmcl.objectives.multiway.multiway import (
    Many,
    Multiway,
    stacked,
)
from medmcl.objectives.pairwise.chance import info_nce_chance
from medmcl.objectives.pairwise.contrastive import as_one_number
from medmcl.objectives.settings import SymileSettings

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


class Symile(Multiway):
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

    def __init__(self, settings: SymileSettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        self.settings = settings
        self.terms: tuple[str, ...] = (f"symile/{'+'.join(self.names)}",)

    def forward(
        self,
        seen: Mapping[str, Embeddings],
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        points = self.together(seen)
        if points is None:
            return {}
        wider = points[0].shape[1] ** ((len(points) - 2) / 2) if self.settings.rescale else 1.0
        value = symile(points, wider * self.scale(), self.settings.negatives)
        rows = len(points[0])
        others = 1 if self.settings.negatives == "shifted" else len(points) - 1
        return {self.terms[0]: Term(value, rows, chance=others * info_nce_chance(rows))}
