"""Counts as one row of whole numbers, in an order that all sites know without talking."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Margin, Provenance
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class Layout:
    """What stands where in the row; the same for every site, and no number of it is secret.

    Attributes:
        empty: Counts with the vocabularies, blocks, window and pairing rule, and no numbers.
        of_tokens: Modalities whose margins count patients.
        of_cells: Pairs whose cells count patients.
    """

    empty: Counts
    of_tokens: tuple[str, ...]
    of_cells: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """Length of the row."""
        sizes = {name: len(words) for name, words in self.empty.vocabularies.items()}
        tokens = sum(n * (2 + (name in self.of_tokens)) for name, n in sizes.items())
        cells = sum(
            sizes[a] * sizes[b] * (1 + ((a, b) in self.of_cells)) for a, b in self.empty.blocks
        )
        return tokens + cells + 2

    @property
    def digest(self) -> str:
        """Hash of all that must agree: tokens, versions, blocks, window, rules."""
        whole = self.empty
        text = json.dumps(
            [
                [[name, words.version, words.tokens] for name, words in whole.vocabularies.items()],
                [whole.window, whole.pairing, list(whole.blocks)],
                [self.of_tokens, self.of_cells],
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
    none: dict[str, Margin] = {}
    empty = {
        pair: Block(sparse.csr_array(block.pairs.shape, dtype=np.int64))
        for pair, block in sorted(counts.blocks.items())
    }
    return Layout(
        empty=replace(
            counts,
            margins=none,
            blocks=empty,
            units=0,
            patients=0,
            sites=1,
            notes=(),
            provenance=Provenance(),
        ),
        of_tokens=tuple(n for n, one in counts.margins.items() if one.patients is not None),
        of_cells=tuple(
            p for p, block in sorted(counts.blocks.items()) if block.patients is not None
        ),
    )


def empty_like(counts: Counts) -> Counts:
    """Counts of nobody in the same layout: what a coordinator needs, and nothing of a site."""
    layout = layout_of(counts)
    return unflatten(np.zeros(layout.size, dtype=np.int64), layout)


def flatten(counts: Counts) -> np.ndarray:
    """All numbers of a site, int64 (size,)."""
    layout = layout_of(counts)
    if counts.units is None or counts.patients is None:
        raise ArtefactError("patients and units are not known", expected="exact counts")
    parts = []
    for name in layout.empty.vocabularies:
        margin = counts.margins[name]
        parts += [margin.tokens, margin.pairs]
        parts += [] if margin.patients is None else [margin.patients]
    for pair in layout.empty.blocks:
        block = counts.blocks[pair]
        parts.append(block.pairs.toarray().ravel())
        parts += [] if block.patients is None else [block.patients.toarray().ravel()]
    parts.append(np.array([counts.units, counts.patients]))
    return np.concatenate(parts).astype(np.int64, copy=False)


def unflatten(values: np.ndarray, layout: Layout) -> Counts:
    """Counts from a row of numbers, int64 (size,)."""
    place = 0

    def take(size: int) -> np.ndarray:
        nonlocal place
        place += size
        return values[place - size : place].copy()

    margins = {}
    for name, words in layout.empty.vocabularies.items():
        tokens, pairs = take(len(words)), take(len(words))
        patients = take(len(words)) if name in layout.of_tokens else None
        margins[name] = Margin(tokens, pairs, patients)
    blocks = {}
    for pair, block in layout.empty.blocks.items():
        rows, columns = block.pairs.shape
        matrices = [
            sparse.csr_array(take(rows * columns).reshape(rows, columns))
            for _ in range(1 + (pair in layout.of_cells))
        ]
        blocks[pair] = Block(*matrices)
    units, people = map(int, take(2))
    return replace(layout.empty, margins=margins, blocks=blocks, units=units, patients=people)
