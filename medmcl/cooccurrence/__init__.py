"""Co-occurrence of EHR codes and concepts: counted, factorised, merged, released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.cooccurrence.count.counter import count_events as count_events
    from medmcl.cooccurrence.count.counts import Block as Block
    from medmcl.cooccurrence.count.counts import Counts as Counts
    from medmcl.cooccurrence.count.counts import Margin as Margin
    from medmcl.cooccurrence.count.counts import Vocabulary as Vocabulary
    from medmcl.cooccurrence.count.rules import Rules as Rules
    from medmcl.cooccurrence.count.tokens import count_tokens as count_tokens
    from medmcl.cooccurrence.embed.baselines import cl as cl
    from medmcl.cooccurrence.embed.baselines import concate as concate
    from medmcl.cooccurrence.embed.baselines import within_only as within_only
    from medmcl.cooccurrence.embed.factorise import factorise as factorise
    from medmcl.cooccurrence.embed.pmi import claime_pmi as claime_pmi
    from medmcl.cooccurrence.exchange.folder import load_counts as load_counts
    from medmcl.cooccurrence.exchange.folder import save_counts as save_counts
    from medmcl.cooccurrence.exchange.merging import merge as merge
    from medmcl.cooccurrence.release.ledger import Ledger as Ledger
    from medmcl.cooccurrence.release.private import release_private as release_private
    from medmcl.cooccurrence.release.release import release_threshold as release_threshold
else:
    __getattr__, __dir__ = lazy(__name__)
