"""Counts as one row of whole numbers, in an order that all sites know without talking."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Provenance
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class Layout:
    """What stands where in the row; the same for every site, and no number of it is secret.

    Attributes:
        empty: Counts of nobody, with the vocabularies, blocks, window and pairing rule; they say
            where patients are counted. All that a coordinator needs.
    """

    empty: Counts

    @property
    def size(self) -> int:
        """Length of the row."""
        return sum(math.prod(one.shape) for one in _numbers(self.empty)) + 2

    @property
    def digest(self) -> str:
        """Hash of all that must agree: tokens, versions, blocks, window, rules."""
        whole = self.empty
        text = json.dumps(
            [
                [[name, words.version, words.tokens] for name, words in whole.vocabularies.items()],
                [whole.window, whole.pairing, list(whole.blocks)],
                [
                    [name for name, one in whole.margins.items() if one.patients is not None],
                    [pair for pair, one in whole.blocks.items() if one.patients is not None],
                ],
                sorted(whole.nested),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def layout_of(counts: Counts) -> Layout:
    """The layout of a site's counts.

    Raises:
        ArtefactError: If the counts were released already: suppressed cells do not add up.
    """
    if counts.is_released:
        raise ArtefactError(
            "counts that were released are not summed securely",
            expected="exact counts; suppress their sum",
        )
    return Layout(
        replace(
            counts,
            margins={
                name: replace(counts.margins[name], most=None).each(np.zeros_like)
                for name in counts.vocabularies
            },
            blocks={
                pair: replace(block, largest=None).each(
                    lambda cells: sparse.csr_array(cells.shape, dtype=np.int64)
                )
                for pair, block in sorted(counts.blocks.items())
            },
            units=0,
            patients=0,
            sites=1,
            notes=(),
            provenance=Provenance(),
        )
    )


def flatten(counts: Counts) -> np.ndarray:
    """All numbers of a site, int64 (size,)."""
    if counts.units is None or counts.patients is None:
        raise ArtefactError("patients and units are not known", expected="exact counts")
    order = layout_of(counts).empty.blocks
    ordered = replace(counts, blocks={pair: counts.blocks[pair] for pair in order})
    parts = [
        one if isinstance(one, np.ndarray) else one.toarray().ravel() for one in _numbers(ordered)
    ]
    return np.concatenate([*parts, [counts.units, counts.patients]]).astype(np.int64, copy=False)


def unflatten(values: np.ndarray, layout: Layout) -> Counts:
    """Counts from a row of numbers, int64 (size,)."""
    place = 0

    def take(size: int) -> np.ndarray:
        nonlocal place
        place += size
        return values[place - size : place].copy()

    def cells(like: sparse.csr_array) -> sparse.csr_array:
        return sparse.csr_array(take(math.prod(like.shape)).reshape(like.shape))

    empty = layout.empty
    margins = {name: one.each(lambda like: take(len(like))) for name, one in empty.margins.items()}
    blocks = {pair: one.each(cells) for pair, one in empty.blocks.items()}
    units, people = map(int, take(2))
    return replace(empty, margins=margins, blocks=blocks, units=units, patients=people)


def _numbers(counts: Counts) -> Iterator[np.ndarray | sparse.csr_array]:
    """All arrays of counts, as they stand in the row; units and patients come after them."""
    for margin in (counts.margins[name] for name in counts.vocabularies):
        yield margin.tokens
        yield margin.pairs
        if margin.patients is not None:
            yield margin.patients
    for block in counts.blocks.values():
        yield block.pairs
        if block.patients is not None:
            yield block.patients
