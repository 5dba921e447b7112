"""Counts that grow by chunks of events: any window, any number of modalities, bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Margin, Pair, Vocabulary
from medmcl.cooccurrence.count.items import Chunk, Items, Tally, Tokens, arrange
from medmcl.cooccurrence.count.meetings import (
    blocks_of,
    margin_of,
    patients_of,
    records_of,
    self_pairs,
    zeros,
)
from medmcl.cooccurrence.count.rules import PAIRINGS, Rules, notes_of, parse_window
from medmcl.cooccurrence.count.sums import DenseSum, SparseSum, Sum
from medmcl.core.config import lookup
from medmcl.core.errors import ExtraNotInstalledError

log = logging.getLogger(__name__)
DEFAULT_MEMORY = 2 << 30
_BYTES_A_PAIR = 96
_BYTES_AN_EVENT = 160
"""Of events in flight, with what sorting them takes (measured peaks, rounded up)."""
_IN_CACHE = 500_000
"""Events that are sorted and counted at a time: what they meet stays in the cache."""
_CELLS_AN_EVENT = 25
"""Dense cells are gone through once a time, so many of them ask for more events at a time."""


def events_at_a_time(memory: int) -> int:
    """Give the events of a chunk that fit a quarter of ``memory``."""
    return max(memory // 4 // _BYTES_AN_EVENT, 1000)


class PairCounter:
    """Counts that grow by chunks of events.

    Sums are dense if they fit half of ``memory``, sparse otherwise. Within a modality only half of
    the cells is summed, where the other half is its mirror image; what lies on the diagonal and is
    no such pair is kept apart.

    Args:
        vocabularies: Of each modality; token numbers run over them one after the other.
        rules: What to count.
        memory: Bytes that sums and buffers may take.
        fast: Use numba; if not given, where it is installed.

    Attributes:
        tally: What was left out.
        units: Units counted so far.
        patients: Patients counted so far.
        piece: Events that are sorted and counted at a time.
        margins: Of each modality, so far.
        sums: Of each block, so far.
        diagonals: Of each modality, so far.
    """

    def __init__(
        self,
        vocabularies: Mapping[str, Vocabulary],
        rules: Rules,
        *,
        memory: int = DEFAULT_MEMORY,
        fast: bool | None = None,
    ) -> None:
        self.vocabularies, self.rules = dict(vocabularies), rules
        self.tally = Tally()
        self.units = self.patients = 0
        self._window = parse_window(rules.window)
        self._distinct = lookup("pairing", rules.pairing, PAIRINGS) == "distinct"
        there = find_spec("numba") is not None
        if fast and not there:
            raise ExtraNotInstalledError("numba", "fast")
        if fast is None and not there:
            log.info("counting with numpy; several times faster with pip install 'medmcl[fast]'")
        self._fast = there if fast is None else fast
        self._budget = max(memory // 8 // _BYTES_A_PAIR, 1)
        self.piece = events_at_a_time(memory)
        if self._fast and self._dense(memory):
            self.piece = min(self.piece, max(_IN_CACHE, self._cells // _CELLS_AN_EVENT))
        self._sizes = tuple(map(len, self.vocabularies.values()))
        self.margins = {name: zeros(len(v)) for name, v in self.vocabularies.items()}
        self.sums = {pair: self._sum(pair, memory) for pair in self._needed}
        self.diagonals = {
            name: (np.zeros(size, np.int64), np.zeros(size, np.int64))
            for name, size in zip(self.vocabularies, self._sizes, strict=True)
        }

    def add(self, events: Tokens) -> None:
        """Count some patients' events; no patient comes in two calls."""
        for some in _pieces(events, self.piece):
            self.add_chunk(
                arrange(
                    some, self._sizes, self._window, distinct=self._distinct,
                    drop_duplicates=self.rules.drop_duplicates, tally=self.tally,
                )
            )  # fmt: skip

    def add_chunk(self, chunk: Chunk) -> None:
        """Count some patients' items, in their order; no patient comes in two calls."""
        self.units += chunk.units
        self.patients += chunk.patients
        named = dict(zip(self.vocabularies, chunk.modalities, strict=True))
        for name, items in named.items():
            size = len(self.vocabularies[name])
            more = margin_of(items, size, chunk.reach)
            if self._by_patient:  # pairs follow from the block, when all are counted
                people = patients_of(items, size)
                more = Margin(people, np.zeros_like(people), people, np.minimum(people, 1))
            self.margins[name] = self.margins[name] + more
        for a, b in self.sums:
            self.add_items((a, b), named[a], named[b], chunk.reach)

    def add_items(self, pair: Pair, a: Items, b: Items, reach: int) -> None:
        """Add the pairs of one block over the same patients' items."""
        same = pair[0] == pair[1]
        half = same and self._half
        shape = (len(self.vocabularies[pair[0]]), len(self.vocabularies[pair[1]]))
        if half:
            more, who = self_pairs(a, shape[0])
            pairs, people = self.diagonals[pair[0]]
            self.diagonals[pair[0]] = (pairs + more, people + who)
        if self._fast:
            self.sums[pair].add_fast(records_of(a, b, shape[0], reach, same=same, half=half))
            return
        for block in blocks_of(
            a, b, shape, reach, same=same, half=half, people=self._people, budget=self._budget
        ):
            self.sums[pair].add(block)

    def counts(self) -> Counts:
        """Give the counts; the counter is used up."""
        asked, blocks = self.rules.blocks(tuple(self.vocabularies)), {}
        for pair in list(self.sums):
            block = self.take(pair)
            if self._by_patient and pair[0] == pair[1]:
                margin = self.margins[pair[0]]
                self.margins[pair[0]] = replace(margin, pairs=np.asarray(block.pairs.sum(axis=1)))
            if pair in asked:
                blocks[pair] = block
        return Counts(
            vocabularies=self.vocabularies,
            margins=self.margins,
            blocks={pair: blocks[pair] for pair in asked},
            units=self.units,
            patients=self.patients,
            window=str(self._window),
            pairing=self.rules.pairing,
            notes=notes_of(self.rules),
        )

    def take(self, pair: Pair) -> Block:
        """Give a block, mirrored, as its pairing rule wants it; its sums are used up."""
        half = pair[0] == pair[1] and self._half
        block = self.sums.pop(pair).take(self.diagonals[pair[0]] if half else None)
        if self._by_patient and block.patients is not None:
            people = block.patients if pair[0] != pair[1] else _off_diagonal(block.patients)
            block = Block(people, people)
        return block if self.rules.patients else replace(block, patients=None)

    @property
    def _by_patient(self) -> bool:
        """Whether a pair counts once a patient, so that pairs and patients are the same."""
        return self._distinct and self._window.sliding

    @property
    def _half(self) -> bool:
        """Whether mirrored cells need no counting.

        Patients of a cell are counted once also where a sliding window has i before j and then j
        before i, so there both halves are looked at together.
        """
        return not (self._window.sliding and (self.rules.patients or self._by_patient))

    @property
    def _needed(self) -> tuple[Pair, ...]:
        """Blocks asked for, and those that margins are made of."""
        own = tuple((name, name) for name in self.vocabularies) if self._by_patient else ()
        return tuple(dict.fromkeys((*self.rules.blocks(tuple(self.vocabularies)), *own)))

    @property
    def _cells(self) -> int:
        return sum(len(self.vocabularies[a]) * len(self.vocabularies[b]) for a, b in self._needed)

    @property
    def _people(self) -> bool:
        """Whether patients of cells are counted."""
        return self.rules.patients or self._by_patient

    def _dense(self, memory: int) -> bool:
        """Whether sums fit as dense arrays."""
        return self._cells * (8 if self._people else 4) <= memory // 2

    def _sum(self, pair: Pair, memory: int) -> Sum:
        rows, columns = (len(self.vocabularies[name]) for name in pair)
        room = memory // 8 // 24
        if self._dense(memory):
            return DenseSum(rows, columns, patients=self._people, fast=self._fast, room=room)
        return SparseSum(rows, columns, patients=self._people, room=room)


def _pieces(events: Tokens, size: int) -> Iterator[Tokens]:
    """Cut events between patients into pieces of about ``size``."""
    if len(events) <= size:
        yield events
        return
    starts = np.flatnonzero(np.r_[True, events.subject[1:] != events.subject[:-1]])
    at = 0
    while at < len(events):
        after = starts[np.searchsorted(starts, at + size) :]
        stop = int(after[0]) if len(after) else len(events)
        visit = None if events.visit is None else events.visit[at:stop]
        yield Tokens(events.subject[at:stop], events.time[at:stop], events.token[at:stop], visit)
        at = stop


def _off_diagonal(matrix: sparse.csr_array) -> sparse.csr_array:
    found = sparse.csr_array(matrix - sparse.diags_array(matrix.diagonal(), dtype=np.int64))
    found.eliminate_zeros()
    return found


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
