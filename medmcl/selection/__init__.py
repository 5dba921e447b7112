"""Which pairs deserve training: scores of a pool, choices from scores, and choices within a batch.

Higher = keep, everywhere. To add a scorer: a class that keeps the contract `Scorer`, and a line in
`SCORERS`; a selector within batches: a `Choice`, and a line in `SELECTORS`; maps and settings stand
in ``settings.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.selection.choices import Choice, RandomChoice
    from medmcl.selection.differential import Differential
    from medmcl.selection.duplicates import exact_duplicates, near_duplicates
    from medmcl.selection.keep import Keep
    from medmcl.selection.pair_scores import clip_score, neg_clip_loss, pair_losses
    from medmcl.selection.pools import map_parquet
    from medmcl.selection.ranking import rank_fusion, ranks, top_share, two_stage
    from medmcl.selection.settings import SCORERS, SELECTORS
    from medmcl.selection.target_scores import norm_sim, norm_sim_dynamic
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "SCORERS",
    "SELECTORS",
    "Choice",
    "Differential",
    "Keep",
    "RandomChoice",
    "clip_score",
    "exact_duplicates",
    "map_parquet",
    "near_duplicates",
    "neg_clip_loss",
    "norm_sim",
    "norm_sim_dynamic",
    "pair_losses",
    "rank_fusion",
    "ranks",
    "top_share",
    "two_stage",
]
