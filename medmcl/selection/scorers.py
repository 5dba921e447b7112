"""The scorers of pools as parts of a recipe: each its settings, and what it makes of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medmcl.core.contracts import ScoredPool
from medmcl.selection.pair_scores import clip_score, neg_clip_loss
from medmcl.selection.settings import (
    ClipScoreSettings,
    NegClipLossSettings,
    NormSimDynamicSettings,
    NormSimSettings,
    ScoreSettings,
)
from medmcl.selection.target_scores import norm_sim, norm_sim_dynamic


@dataclass(frozen=True)
class ClipScore:
    """Cosine of two modalities; see `clip_score`."""

    Settings: ClassVar[type[ScoreSettings]] = ClipScoreSettings

    settings: ClipScoreSettings

    def score(self, pool: ScoredPool) -> Tensor:
        """Score rows, (N,), higher = keep."""
        pool.told["pair"] = pool.pair
        return clip_score(*pool.both, device=pool.device)


@dataclass(frozen=True)
class NegClipLoss:
    """Negative CLIP loss of two modalities; see `neg_clip_loss`."""

    Settings: ClassVar[type[ScoreSettings]] = NegClipLossSettings

    settings: NegClipLossSettings

    def score(self, pool: ScoredPool) -> Tensor:
        """Score rows, (N,), higher = keep."""
        given = self.settings
        temperature = pool.temperature() if given.temperature is None else given.temperature
        divisions = given.divisions if given.batch_size < len(pool.ids) else 1
        pool.told.update(
            pair=pool.pair, temperature=temperature, batch_size=given.batch_size,
            divisions=divisions, tail=given.tail, seed=pool.seed,
        )  # fmt: skip
        return neg_clip_loss(
            *pool.both, temperature, given.batch_size, tail=given.tail, divisions=divisions,
            seed=pool.seed, device=pool.device,
        )  # fmt: skip


@dataclass(frozen=True)
class NormSim:
    """Nearness of one modality to a target cohort; see `norm_sim`."""

    Settings: ClassVar[type[ScoreSettings]] = NormSimSettings

    settings: NormSimSettings

    def score(self, pool: ScoredPool) -> Tensor:
        """Score rows, (N,), higher = keep."""
        (side,) = self.settings.sides(pool.pair)
        pool.told.update(modality=side, p=self.settings.p)
        target = pool.target(side, self.settings.target)
        return norm_sim(pool.pooled[side], target, float(self.settings.p), device=pool.device)


@dataclass(frozen=True)
class NormSimDynamic:
    """Nearness of one modality to what is left of the pool itself; see `norm_sim_dynamic`."""

    Settings: ClassVar[type[ScoreSettings]] = NormSimDynamicSettings

    settings: NormSimDynamicSettings

    def choose(self, pool: ScoredPool, left: Tensor, number: int) -> Tensor:
        """Give the ``number`` rows of ``left`` that stay."""
        (side,) = self.settings.sides(pool.pair)
        rows, rounds = pool.pooled[side], self.settings.rounds
        return norm_sim_dynamic(rows, number, rounds, start=left, device=pool.device)

    def tell(self, pool: ScoredPool, kept: Tensor) -> Tensor:
        """Nearness to what was kept, (N,)."""
        (side,) = self.settings.sides(pool.pair)
        rows = pool.pooled[side]
        return norm_sim(rows, rows[kept.numpy()], 2, device=pool.device)
