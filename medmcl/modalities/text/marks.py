"""Marks beside a text's tokens: where words begin, which of them are plain, where sentences end.

So that an augmentation sees words where the cache holds token numbers only. Marks are made of the
text as it was read, before its tokens lose case and spelling, and change no token. Where words,
clauses or sentences come to be found otherwise, raise `medmcl.data.loading.cache.VERSION`: caches
are known
by ``marks: true``, not by the lists of words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from medmcl.modalities.text.pieces import Piece, split_pieces

STARTS, WORD, PLAIN, ENDS = 1, 2, 4, 8
"""Bits of a mark: the token begins a piece; is of a word; of a plain word; ends a sentence."""

Span = tuple[int, int]
"""Numbers of the first and the last piece that a token is of; as a rule they are one."""


class Encodes(Protocol):
    """What turns a text to numbers."""

    def encode(self, text: str) -> list[int]:
        """Give the numbers of a text, without start, end and padding."""


@runtime_checkable
class Locates(Protocol):
    """What also knows where in a text its tokens stand."""

    def places(self, text: str) -> tuple[list[int], list[Span]]:
        """Give the numbers of a text, and the first character of each and the one behind it."""


def token_marks(text: str, tokens: Encodes | Locates, numbers: Sequence[int]) -> np.ndarray:
    """Mark each token of a text.

    Args:
        text: The text as read.
        tokens: The tokeniser.
        numbers: What it makes of the text, without start and end.

    Returns:
        (len(numbers),) int64, bits `STARTS`, `WORD`, `PLAIN` and `ENDS`. All 0 where the tokens of
        a text are not those of its chunks, one after another: it is left as it is. A chunk whose
        tokens do not part where its pieces do is one protected word.
    """
    text = unicodedata.normalize("NFC", text)
    pieces = split_pieces(text)
    if isinstance(tokens, Locates):
        seen, spans = _located(text, pieces, tokens)
    else:
        seen, spans = _chunk_by_chunk(pieces, tokens)
    if seen != list(numbers):
        return np.zeros(len(numbers), dtype=np.int64)
    return _marks(pieces, spans)


def _marks(pieces: Sequence[Piece], spans: Sequence[Span]) -> np.ndarray:
    torn = {piece for a, b in spans if a < b for piece in range(a, b + 1)}
    marks = np.zeros(len(spans), dtype=np.int64)
    for number, (first, last) in enumerate(spans):
        if number == 0 or spans[number - 1] != (first, last):
            marks[number] |= STARTS
        if any(pieces[one].is_word for one in range(first, last + 1)):
            marks[number] |= WORD
        if pieces[first].is_plain and first not in torn:
            marks[number] |= PLAIN
        is_last = number == len(spans) - 1 or spans[number + 1][1] != last
        if is_last and pieces[last].ends:
            marks[number] |= ENDS
    return marks


def _chunk_by_chunk(pieces: Sequence[Piece], tokens: Encodes) -> tuple[list[int], list[Span]]:
    numbers: list[int] = []
    spans: list[Span] = []
    first = 0
    for _, group in groupby(pieces, key=lambda piece: piece.chunk):
        texts = [piece.text for piece in group]
        made = tokens.encode("".join(texts))
        cuts = _cuts(texts, made, tokens)
        if cuts is None:
            spans += [(first, first + len(texts) - 1)] * len(made)
        else:
            for number, (start, stop) in enumerate(pairwise(cuts)):
                spans += [(first + number, first + number)] * (stop - start)
        numbers += made
        first += len(texts)
    return numbers, spans


def _cuts(texts: Sequence[str], made: list[int], tokens: Encodes) -> list[int] | None:
    """Where the tokens of a chunk part as its pieces do: 0, ..., their number; None: nowhere."""
    cuts, written = [0], ""
    for text in texts[:-1]:
        written += text
        part = tokens.encode(written)
        if part != made[: len(part)] or len(part) < cuts[-1]:
            return None
        cuts.append(len(part))
    return [*cuts, len(made)]


def _located(text: str, pieces: Sequence[Piece], tokens: Locates) -> tuple[list[int], list[Span]]:
    """Find the pieces of each token by their characters; white space is of the piece behind it."""
    owner: list[int] = []
    for number, piece in enumerate(pieces):
        end = text.index(piece.text, len(owner)) + len(piece.text)
        owner += [number] * (end - len(owner))
    owner += [len(pieces) - 1] * (len(text) - len(owner))
    numbers, places = tokens.places(text)
    spans: list[Span] = []
    for start, end in places:
        while start < end - 1 and text[start].isspace():
            start += 1
        here = max(start, end - 1)
        spans.append((owner[min(start, here)], owner[here]) if here < len(owner) else (0, 0))
    return numbers, spans
