"""Which pairs deserve training: scores of a pool, choices from scores, and choices within a batch.

Higher = keep, everywhere. To add a scorer: a class that keeps the contract `Scorer`, and a line in
`SCORERS`; a selector within batches: a `Choice`, and a line in `SELECTORS`; maps and settings stand
in ``settings.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.selection.choices import Choice as Choice
    from medmcl.selection.choices import RandomChoice as RandomChoice
    from medmcl.selection.differential import Differential as Differential
    from medmcl.selection.duplicates import exact_duplicates as exact_duplicates
    from medmcl.selection.duplicates import near_duplicates as near_duplicates
    from medmcl.selection.keep import Keep as Keep
    from medmcl.selection.pair_scores import clip_score as clip_score
    from medmcl.selection.pair_scores import neg_clip_loss as neg_clip_loss
    from medmcl.selection.pair_scores import pair_losses as pair_losses
    from medmcl.selection.pools import map_parquet as map_parquet
    from medmcl.selection.ranking import rank_fusion as rank_fusion
    from medmcl.selection.ranking import ranks as ranks
    from medmcl.selection.ranking import top_share as top_share
    from medmcl.selection.ranking import two_stage as two_stage
    from medmcl.selection.settings import SCORERS as SCORERS
    from medmcl.selection.settings import SELECTORS as SELECTORS
    from medmcl.selection.target_scores import norm_sim as norm_sim
    from medmcl.selection.target_scores import norm_sim_dynamic as norm_sim_dynamic
else:
    __getattr__, __dir__ = lazy(__name__)
