"""The scorers as parts of a recipe: settings at birth, then `(ids, pooled) -> (N,)`.

Each keeps the contract `Scorer`: over a batch, or over a table of embeddings of a whole cohort,
which may be memory-mapped. They compute where tensors are, or on ``device``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.selection.pair_scores import DIVISIONS, Tail, clip_score, neg_clip_loss
from medmcl.selection.pools import Pool, Rows, full_precision
from medmcl.selection.target_scores import norm_from_moment, norm_sim, second_moment


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Cosine of two modalities; see `clip_score`."""

    pair: tuple[str, str]
    device: torch.device | str | None = None

    def __call__(self, ids: Tensor, pooled: Mapping[str, Rows]) -> Tensor:  # noqa: ARG002  (the contract)
        """Score rows, (N,), higher = keep."""
        image, text = _of(pooled, *self.pair)
        return clip_score(image, text, device=self.device)


@dataclass(frozen=True, kw_only=True)
class NegClipLoss:
    """Negative CLIP loss of two modalities; see `neg_clip_loss`."""

    pair: tuple[str, str]
    temperature: float
    batch_size: int
    divisions: int = DIVISIONS
    tail: Tail = "wrap"
    seed: int = 0
    device: torch.device | str | None = None

    def __call__(self, ids: Tensor, pooled: Mapping[str, Rows]) -> Tensor:  # noqa: ARG002  (the contract)
        """Score rows, (N,), higher = keep."""
        image, text = _of(pooled, *self.pair)
        return neg_clip_loss(
            image,
            text,
            self.temperature,
            self.batch_size,
            tail=self.tail,
            divisions=self.divisions,
            seed=self.seed,
            device=self.device,
        )


@dataclass(frozen=True, kw_only=True)
class NormSim:
    """Nearness of one modality to a target cohort; see `norm_sim`."""

    modality: str
    target: Rows
    p: float = 2
    device: torch.device | str | None = None

    def __call__(self, ids: Tensor, pooled: Mapping[str, Rows]) -> Tensor:  # noqa: ARG002  (the contract)
        """Score rows, (N,), higher = keep."""
        (rows,) = _of(pooled, self.modality)
        if self.p != 2:
            return norm_sim(rows, self.target, self.p, device=self.device)
        pool = Pool(rows, self.modality, self.device)
        with full_precision(pool.device):
            return norm_from_moment(pool, self._moment.to(pool.device), len(self.target))

    @cached_property
    def _moment(self) -> Tensor:
        return second_moment(self.target, device=self.device)


SCORERS = {"clip_score": ClipScore, "neg_clip_loss": NegClipLoss, "norm_sim": NormSim}
"""Name in a recipe to scorer."""


def _of(pooled: Mapping[str, Rows], *names: str) -> list[Rows]:
    for name in names:
        if name not in pooled:
            raise MedmclError(
                f"there are no embeddings of '{name}'", got=", ".join(pooled), fix="another pair"
            )
    return [pooled[name] for name in names]
