"""Typical pairs: those whose agreement is nearest to the middle, of a pool or of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from medmcl.core.contracts import ScoredPool
from medmcl.selection import Choice, clip_score
from medmcl.selection.settings import ScoreSettings, SelectorSettings


class TypicalSettings(ScoreSettings):
    """Nearness of a pair's cosine to a quantile of the pool."""

    kind: Literal["typical"]
    quantile: float = 0.5


@dataclass(frozen=True)
class Typical:
    """A scorer, for the scores of a select stage."""

    Settings: ClassVar[type[ScoreSettings]] = TypicalSettings

    settings: TypicalSettings

    def score(self, pool: ScoredPool) -> Tensor:
        """Give a number for each row, higher = keep."""
        cosines = clip_score(*pool.both, device=pool.device)
        middle = cosines.quantile(self.settings.quantile)
        pool.told["middle"] = float(middle)
        return -(cosines - middle).abs()


class TypicalOfBatchSettings(SelectorSettings):
    """Pairs whose cosine is nearest to the median of their batch."""

    kind: Literal["typical"]


class TypicalOfBatch(Choice):
    """A selector, for the `selector` of a train stage."""

    Settings = TypicalOfBatchSettings

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Give a number for each row, higher = keep, from its cosine."""
        return -np.abs(values - np.median(values))
