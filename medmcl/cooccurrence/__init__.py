"""Co-occurrence of EHR codes and concepts: counted, factorised, merged, released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.cooccurrence.count.counter import count_events
    from medmcl.cooccurrence.count.counts import Block, Counts, Margin, Vocabulary
    from medmcl.cooccurrence.count.rules import Rules
    from medmcl.cooccurrence.count.tokens import count_tokens
    from medmcl.cooccurrence.embed.baselines import cl, concate, within_only
    from medmcl.cooccurrence.embed.factorise import factorise
    from medmcl.cooccurrence.embed.pmi import claime_pmi
    from medmcl.cooccurrence.exchange.folder import load_counts, save_counts
    from medmcl.cooccurrence.exchange.merging import merge
    from medmcl.cooccurrence.release.ledger import Ledger
    from medmcl.cooccurrence.release.private import release_private
    from medmcl.cooccurrence.release.release import release_threshold
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Block",
    "Counts",
    "Ledger",
    "Margin",
    "Rules",
    "Vocabulary",
    "cl",
    "claime_pmi",
    "concate",
    "count_events",
    "count_tokens",
    "factorise",
    "load_counts",
    "merge",
    "release_private",
    "release_threshold",
    "save_counts",
    "within_only",
]
