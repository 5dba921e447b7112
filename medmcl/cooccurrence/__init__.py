"""Co-occurrence of EHR codes and concepts: counted, factorised, merged, released."""

from __future__ import annotations

from medmcl.cooccurrence.counts import Block, Counts, Margin, Vocabulary
from medmcl.cooccurrence.tokens import count_tokens

__all__ = ["Block", "Counts", "Margin", "Vocabulary", "count_tokens"]
