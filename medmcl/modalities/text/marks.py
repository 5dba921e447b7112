"""Marks beside a text's tokens: where words begin, which of them are plain, where sentences end.

So that an augmentation sees words where the cache holds token numbers only. Marks are made of the
text as it was read, before its tokens lose case and spelling, and change no token. Where words,
clauses or sentences come to be found otherwise, raise `medmcl.data.loading.cache.VERSION`: caches
are known by ``marks: true``, not by the lists of words.

Chunks are what stands between white space; pieces are a chunk's words and runs of signs. Of each
piece is known whether it is a **plain** word, which an augmentation may take or move, and whether
a sentence ends with it. Everything else is protected:

- every run of signs: ``%``, ``<``, ``-``, brackets and stops;
- words that `clinical_words` lists, all with a digit, and a unit behind a number;
- "about", "up to" and their like before a number, "to", "out of", "and" between two;
- the words of a denied clause: after "no", "kein", "sans" up to its end, with "not", "absent",
  "nicht", "pas" from its start. A clause ends with the sentence, at ``;`` and at "but", "aber",
  "mais" and their like, **not at a comma**: "no effusion, edema or mass" is one denial. Where this
  is wrong ("no effusion, heart enlarged") too much is protected, never too little;
- words that signs glue to others in a chunk (``extrasystole(n)``, ``and/or``), and abbreviations
  with their stop, which without them would seem to end a sentence.

A sentence ends at ``.``, ``!`` or ``?`` before white space, but not after an abbreviation, a
single letter or a bare number (``Dr.``, ``z. B.``, ``No. 3``, ``1.``, ``12.03.``), not between a
short word and a number (``Jan. 12``), unless this counts a list (``No mass. 2. Effusion``), not in
brackets, not before a small letter where the text begins with a capital, and not between a question
and its "no". What may be an abbreviation or a word ("min", "inc") ends none: two sentences as one
are moved whole, half a sentence would be torn. Line breaks end none: reports are wrapped in the
middle of sentences. These rules are ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from medmcl.modalities.text.clinical_words import (
    BOUNDS,
    LINKS,
    UNITS_WITH_STOP,
    denies_after,
    denies_clause,
    ends_clause,
    folded,
    is_number,
    is_protected,
    is_unit,
    word_set,
)

ABBREVIATIONS = UNITS_WITH_STOP - {"in"} | word_set("abbreviations")
"""What a full stop belongs to; short for a word, in reports of three languages."""
ANSWERS = word_set("answers")
"""What stays with the question before it."""

_SHORT = 4  # letters that a word may have whose stop before a number ends no sentence

_PIECE = re.compile(r"[^\W_]+(?:[-'’./,:+·][^\W_]+)*|[\W_]+")  # noqa: RUF001  # typographic quotes are meant
_PLAIN = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")  # noqa: RUF001  # typographic quotes are meant
_STOP = re.compile(r"([.!?]+)[)\]}\"'”’»*]*$")  # noqa: RUF001  # typographic quotes are meant
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Piece:
    """A word or a run of signs.

    Attributes:
        text: As it is written.
        chunk: Number of the chunk it stands in.
        is_word: Whether it is a word.
        is_plain: Whether it is a word that may go or change places.
        ends: Whether a sentence ends with it.
    """

    text: str
    chunk: int
    is_word: bool
    is_plain: bool
    ends: bool


def split_pieces(text: str) -> list[Piece]:
    """Cut a text into pieces, none of them lost but the white space.

    Example:
        >>> [one.text for one in split_pieces("No edema. Heart is 9 cm wide.") if one.is_plain]
        ['Heart', 'is', 'wide']
    """
    cut = [_PIECE.findall(chunk) for chunk in text.split()]
    texts = [piece for pieces in cut for piece in pieces]
    last = [number == len(pieces) - 1 for pieces in cut for number in range(len(pieces))]
    whose = [number for number, pieces in enumerate(cut) for _ in pieces]
    words = [_is_word(piece) for piece in texts]
    ends_of = _sentence_ends(cut)
    ends = [here and ends_of[chunk] for here, chunk in zip(last, whose, strict=True)]
    alone = [_is_alone(pieces, ended) for pieces, ended in zip(cut, ends_of, strict=True)]
    free = [one and alone[chunk] for one, chunk in zip(_free(texts), whose, strict=True)]
    for start, stop in (*_denied(texts, words, ends), *_around_numbers(texts, words)):
        free[start:stop] = [False] * (stop - start)
    return [Piece(*one) for one in zip(texts, whose, words, free, ends, strict=True)]


def _is_word(piece: str) -> bool:
    return piece[0].isalnum()


def _is_alone(pieces: Sequence[str], ended: bool) -> bool:
    """Whether a chunk has one word, and no stop that belongs to it."""
    return sum(map(_is_word, pieces)) == 1 and (ended or not pieces[-1].startswith("."))


def _free(texts: Sequence[str]) -> list[bool]:
    """Whether each piece is a word that may go for what it is, units behind numbers included."""
    return [
        _PLAIN.fullmatch(text) is not None and not counted and not is_protected(text)
        for text, counted in zip(texts, _counted(texts), strict=True)
    ]


def _counted(texts: Sequence[str]) -> list[bool]:
    """Whether each piece is a number, or a unit behind one; signs are what stands before them."""
    found, counted = [], False
    for text in texts:
        if _is_word(text):
            counted = is_number(text) or (counted and is_unit(text))
        found.append(counted)
    return found


def _around_numbers(texts: Sequence[str], words: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Give where words that bound a number, or link it to the number before, begin and end."""
    start, strong = 0, False  # of the words that lead to the next number, and whether they matter
    for number, (text, counted) in enumerate(zip(texts, _counted(texts), strict=True)):
        if not words[number]:
            continue
        if is_number(text):
            if strong:
                yield start, number
            start, strong = number + 1, True
        elif folded(text) in LINKS:
            strong = strong or folded(text) in BOUNDS
        else:
            start, strong = number + 1, counted


def _denied(
    texts: Sequence[str], words: Sequence[bool], ends: Sequence[bool]
) -> Iterator[tuple[int, int]]:
    """Give where denials begin and end: at most one a clause, from the first to its end."""
    start = 0
    for number, text in enumerate(texts):
        is_sign_end = ends[number] or (not words[number] and ";" in text)
        if is_sign_end or ends_clause(text) or number == len(texts) - 1:
            stop = number + 1
            first = _first_denied(texts, words, start, stop)
            if first is not None:
                yield first, stop
            start = stop


def _first_denied(texts: Sequence[str], words: Sequence[bool], start: int, stop: int) -> int | None:
    """From where a clause is denied; one that stands last, or before a sign, answers for all."""
    first: int | None = None
    for number in range(start, stop):
        text = texts[number]
        if not words[number]:
            continue
        if denies_clause(text):
            return start
        if denies_after(text):
            if number + 1 == stop or not words[number + 1]:
                return start
            first = number if first is None else first
    return first


def _sentence_ends(cut: Sequence[Sequence[str]]) -> list[bool]:
    """Whether a sentence ends with each chunk."""
    first = next((one[0] for one in cut if _is_word(one[0])), "")
    has_capitals, depth = first[:1].isupper(), 0
    ends = []
    for number, pieces in enumerate(cut):
        for piece in pieces:
            if not _is_word(piece):
                depth = _depth(piece, depth)
        following = cut[number + 1] if number + 1 < len(cut) else ()
        ends.append(depth == 0 and _ends(pieces, cut[number - 1 : number], following, has_capitals))
    return ends


def _depth(signs: str, depth: int) -> int:
    for sign in signs:
        depth = depth + 1 if sign in _OPENING else max(0, depth - 1) if sign in _CLOSING else depth
    return depth


def _ends(
    pieces: Sequence[str],
    before: Sequence[Sequence[str]],
    following: Sequence[str],
    has_capitals: bool,
) -> bool:
    """Whether a sentence ends with a chunk, given the ones around it."""
    stop = None if _is_word(pieces[-1]) else _STOP.search(pieces[-1])
    if stop is None:
        return False
    if not following:
        return True
    ahead = _first_word(following)
    if "?" in stop[1] and folded(ahead) in ANSWERS:
        return False
    if stop[1] != "." or len(pieces) == 1:
        return True
    if has_capitals and ahead[:1].islower():
        return False
    counted = bool(before) and is_number(before[0][-1])
    return not _is_shortened(pieces[-2], following, counted)


def _first_word(pieces: Sequence[str]) -> str:
    return next((one for one in pieces if _is_word(one)), "")


def _is_shortened(word: str, following: Sequence[str], counted: bool) -> bool:
    """Whether a full stop belongs to the word before it: an abbreviation, a letter, a number."""
    short = folded(word)
    if counted and is_unit(short):
        return short in UNITS_WITH_STOP
    before_number = _first_word(following)[:1].isdigit()
    if short in ("no", "nr", "nos"):
        return before_number
    if before_number and short.isalpha() and len(short) <= _SHORT and not _is_item(following):
        return True
    is_number_only = short[:1].isdigit() and not any(map(str.isalpha, short))
    return len(short) == 1 or "." in short or is_number_only or short in ABBREVIATIONS


def _is_item(pieces: Sequence[str]) -> bool:
    """Whether a chunk is the number of a list's line: ``2.``, ``2)``."""
    return len(pieces) == 2 and pieces[0].isdigit() and pieces[1] in (".", ")")


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
