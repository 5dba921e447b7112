"""Co-occurrence of EHR codes and concepts: counted, factorised, merged, released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.cooccurrence.baselines import cl, concate, within_only
    from medmcl.cooccurrence.counting import count_events
    from medmcl.cooccurrence.counts import Block, Counts, Margin, Vocabulary
    from medmcl.cooccurrence.exchange import load_counts, save_counts
    from medmcl.cooccurrence.factorising import factorise
    from medmcl.cooccurrence.ledger import Ledger
    from medmcl.cooccurrence.merging import merge
    from medmcl.cooccurrence.pmi import claime_pmi
    from medmcl.cooccurrence.private import release_private
    from medmcl.cooccurrence.release import release_threshold
    from medmcl.cooccurrence.rules import Rules
    from medmcl.cooccurrence.tokens import count_tokens
    from medmcl.data.ehr_tokens import simulate_tokens as simulate
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
    "simulate",
    "within_only",
]
