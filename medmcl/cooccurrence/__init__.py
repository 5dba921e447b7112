"""Co-occurrence of EHR codes and concepts: counted, factorised, merged, released."""

from __future__ import annotations

from medmcl.cooccurrence.counts import Block, Counts, Margin, Vocabulary
from medmcl.cooccurrence.exchange import load_counts, save_counts
from medmcl.cooccurrence.ledger import Ledger
from medmcl.cooccurrence.merging import merge
from medmcl.cooccurrence.private import release_private
from medmcl.cooccurrence.release import release_threshold
from medmcl.cooccurrence.tokens import count_tokens

__all__ = [
    "Block",
    "Counts",
    "Ledger",
    "Margin",
    "Vocabulary",
    "count_tokens",
    "load_counts",
    "merge",
    "release_private",
    "release_threshold",
    "save_counts",
]
