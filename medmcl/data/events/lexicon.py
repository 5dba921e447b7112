"""Concepts in notes by a dictionary of the user's: longest match, whole words, denials left out.

Denials follow NegEx in short: a cue denies the concepts within six words of its sentence, up to a
word such as "but"; the cues are in ``negation_cues.yaml``. This finds what a lexicon names and no
more; where a clinical NLP system has found concepts already, give those instead.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from medmcl.core.config import lookup, read_yaml
from medmcl.core.errors import CohortError
from medmcl.data.events.tables import COLUMNS, EventTable, read_events
from medmcl.data.tables.files import read_table, texts

_WORD = re.compile(r"\w+")
_GAP = re.compile(r"[\s\-\u2013/'\u2019,()]{1,4}")
"""What may stand between two words of one term."""
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n\s*\n|\n\s*[-*\u2022#]")
_CONCEPT, _BEFORE, _AFTER, _ENDS, _HARMLESS = range(5)
Kind = int


@dataclass(frozen=True)
class Found:
    """A concept in a text, and whether the text denies it."""

    concept: str
    begin: int
    end: int
    negated: bool


@dataclass(frozen=True)
class _Span:
    """A run of words: numbers of the first and one past the last, what it is, and its concept."""

    first: int
    last: int
    kind: Kind
    concept: str = ""


class _Sentence:
    """Words of a sentence, and whether two neighbours may belong to one term."""

    def __init__(self, text: str, places: Sequence[tuple[int, int]]) -> None:
        self._text, self._places = text, places
        self.words = [text[begin:end].casefold() for begin, end in places]

    def joined(self, word: int) -> bool:
        """Whether a term may go on after a word."""
        gap = self._places[word][1], self._places[word + 1][0]
        return _GAP.fullmatch(self._text, *gap) is not None


class Lexicon:
    """Finds the terms of a dictionary in text.

    Args:
        terms: Term to concept id; capitals do not matter.
        languages: Whose denials to know: ``en``, ``de``.

    Raises:
        CohortError: A term without a word.
    """

    def __init__(self, terms: Mapping[str, str], languages: Sequence[str] = ("en", "de")) -> None:
        self._concepts, self._cues = _Tree(), _Tree()
        for term, concept in terms.items():
            words = _words_of(term)
            if not words:
                raise CohortError("a term of the lexicon has no word", got=repr(term))
            self._concepts.add(words, _CONCEPT, concept)
        cues = _cues()
        self._reach = int(cues["words"])
        kinds = {"before": _BEFORE, "after": _AFTER, "ends": _ENDS, "harmless": _HARMLESS}
        for language in languages:
            known = {name: cues[name] for name in cues if name != "words"}
            for name, kind in kinds.items():
                for cue in lookup("language", language, known)[name]:
                    self._cues.add(_words_of(cue), kind, "")

    def find(self, text: str) -> list[Found]:
        """Give the concepts of a text in their order; the longest term wins, then the first."""
        found = []
        for begin, end in _sentences(text):
            places = [(m.start(), m.end()) for m in _WORD.finditer(text, begin, end)]
            sentence = _Sentence(text, places)
            concepts = list(self._concepts.spans(sentence))
            cues = list(self._cues.spans(sentence)) if concepts else []
            for one in concepts:
                place = places[one.first][0], places[one.last - 1][1]
                found.append(Found(one.concept, *place, self._denied(one, cues)))
        return found

    def _denied(self, one: _Span, cues: list[_Span]) -> bool:
        """Whether a cue within reach denies a concept, with no end between them."""
        for cue in cues:
            if cue.kind == _BEFORE and 0 <= one.first - cue.last < self._reach:
                gap = (cue.last, one.first)
            elif cue.kind == _AFTER and 0 <= cue.first - one.last < self._reach:
                gap = (one.last, cue.first)
            else:
                continue
            if not any(e.kind == _ENDS and gap[0] <= e.first < gap[1] for e in cues):
                return True
        return False


class _Tree:
    """Terms by their words."""

    _LEAF = ""

    def __init__(self) -> None:
        self._root: dict[str, Any] = {}

    def add(self, words: Sequence[str], kind: Kind, concept: str) -> None:
        """Add a term. A cue that denies in both directions keeps both meanings."""
        node = self._root
        for word in words:
            node = node.setdefault(word, {})
        node.setdefault(self._LEAF, []).append((kind, concept))

    def spans(self, sentence: _Sentence) -> Iterator[_Span]:
        """Give the longest terms from left to right, none within another."""
        words, at = sentence.words, 0
        while at < len(words):
            last, leaves = at, []
            node, here = self._root, at
            while here < len(words) and words[here] in node:
                node, here = node[words[here]], here + 1
                if self._LEAF in node:
                    last, leaves = here, node[self._LEAF]
                if here < len(words) and not sentence.joined(here - 1):
                    break
            for kind, concept in dict.fromkeys(leaves):
                yield _Span(at, last, kind, concept)
            at = max(last, at + 1)


def read_lexicon(path: Path, languages: Sequence[str] = ("en", "de")) -> Lexicon:
    """Read a lexicon: a table with the columns ``term`` and ``concept``.

    Raises:
        CohortError: No such table or column, or a term that means two concepts.
    """
    table = read_table(path.parent, path.name)
    terms: dict[str, str] = {}
    rows = (texts(table.require(name, "lexicon")) for name in ("term", "concept"))
    for term, concept in zip(*rows, strict=True):
        if term is None or concept is None:
            raise CohortError(
                "a row of the lexicon is not whole", where=path, got=f"{term}, {concept}"
            )
        key = " ".join(_words_of(term))
        if terms.setdefault(key, concept) != concept:
            raise CohortError(
                "a term of the lexicon means two concepts",
                where=path,
                got=f"'{term}': {terms[key]} and {concept}",
                fix="keep one of them",
            )
    return Lexicon(terms, languages)


def _words_of(term: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(term)]


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        yield begin, end.start()
        begin = end.end()
    yield begin, len(text)


@cache
def _cues() -> dict[str, Any]:
    return read_yaml(Path(__file__).with_name("negation_cues.yaml"))


log = logging.getLogger(__name__)


@dataclass
class NotesRead:
    """What was found in notes: how many, those without text, concepts, and those denied."""

    notes: int = 0
    without_text: int = 0
    found: int = 0
    negated: int = 0


@dataclass
class Notes:
    """A table of notes, read with a lexicon; each concept that is not denied is an event.

    Attributes:
        table: The notes, with a column of text.
        lexicon: What to look for.
        prefix: Put before every concept, for example ``CUI//``.
        read: What was found.
    """

    table: EventTable
    lexicon: Lexicon
    prefix: str = ""
    read: NotesRead = field(default_factory=NotesRead)

    def events(self) -> Iterator[pa.Table]:
        """Give the concepts, all in `COLUMNS`."""
        for rows in read_events(self.table):
            yield self._concepts(rows)
        log.info(
            "%s: %d notes (%d without text), %d concepts found, %d of them denied and left out",
            self.table.name, self.read.notes, self.read.without_text, self.read.found,
            self.read.negated,
        )  # fmt: skip

    def _concepts(self, rows: pa.Table) -> pa.Table:
        note, code = [], []
        for number, text in enumerate(rows["text"].to_pylist()):
            self.read.notes += 1
            if text is None:
                self.read.without_text += 1
                continue
            found = self.lexicon.find(text)
            kept = [one.concept for one in found if not one.negated]
            self.read.found += len(found)
            self.read.negated += len(found) - len(kept)
            note += [number] * len(kept)
            code += [self.prefix + concept for concept in kept]
        events = rows.take(pa.array(note, pa.int64()))
        events = events.set_column(COLUMNS.index("code"), "code", pa.array(code, pa.string()))
        empty = pa.nulls(len(code), pa.string())
        return events.set_column(COLUMNS.index("text"), "text", empty)
