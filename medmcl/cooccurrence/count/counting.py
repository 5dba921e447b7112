"""Counts from a stream of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from medmcl.cooccurrence.count.counter import DEFAULT_MEMORY, PairCounter
from medmcl.cooccurrence.count.counts import Counts, Vocabulary
from medmcl.cooccurrence.count.items import Tokens
from medmcl.cooccurrence.count.rules import Rules


def count_events(
    chunks: Iterable[Tokens],
    vocabularies: Mapping[str, Vocabulary],
    rules: Rules | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    fast: bool | None = None,
) -> Counts:
    """Count co-occurrences in a stream of events.

    Args:
        chunks: Events of whole patients; a patient is in one chunk.
        vocabularies: Of each modality; token numbers run over them one after the other.
        rules: What to count; `Rules` of the whole record if not given.
        memory: Bytes that sums and buffers may take; the result itself comes on top.
        fast: Use numba; if not given, where it is installed. Results are equal.

    Raises:
        ConfigError: Unknown window or pairing.
        ExtraNotInstalledError: ``fast`` without numba.
    """
    counter = PairCounter(vocabularies, rules or Rules(), memory=memory, fast=fast)
    for chunk in chunks:
        counter.add(chunk)
    return counter.counts()
