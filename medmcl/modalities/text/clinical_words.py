"""Words that an augmentation of reports must not take: English, German, some French and Swedish.

Kinds, by what a report says with them: negation, side and position, comparison and change,
uncertainty, time and dosing, numbers and their units. Words are compared without case, umlauts as
two letters and other accents dropped (`folded`). German adjectives are known in all endings, other
words by their stem or their end where little that is harmless has it. The lists are ours; NegEx
(Chapman et al. 2001, J Biomed Inform 34:301) is where the idea of cues with a direction comes from.
A word they do not know is not protected; a misspelled one neither, nor AS, the left ear, which is
"as" to them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from medmcl.core.config import read_yaml

_KEPT = 65536  # words whose kinds are remembered
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "\u2019": "'", "\u2018": "'", "`": "'"})
_ENDINGS = ("", "e", "er", "es", "en", "em")
_ROMAN = re.compile(r"(?:x{0,2}(?:ix|iv|v?i{1,3}|v)|x{1,2})[ab]?")
_HAS_DIGIT = re.compile(r"[\d½¼¾²³⅓⅔]")
_PARTS = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


@lru_cache(_KEPT)
def folded(word: str) -> str:
    """Bring a word to the spelling that the lists have.

    Example:
        >>> folded("Überdreht"), folded("LÉSION"), folded("außer")
        ('ueberdreht', 'lesion', 'ausser')
    """
    plain = unicodedata.normalize("NFC", word).casefold().translate(_UMLAUTS)
    letters = unicodedata.normalize("NFD", plain)
    return "".join(one for one in letters if not unicodedata.combining(one))


_LISTS = read_yaml(Path(__file__).with_name("clinical_words.yaml"))


def word_set(name: str) -> frozenset[str]:
    """Give the words of a list of clinical_words.yaml, folded."""
    return frozenset(folded(word) for line in _LISTS[name] for word in line.split())


def _stems(name: str) -> tuple[str, ...]:
    return tuple(sorted(word_set(name)))


def _declined(name: str) -> frozenset[str]:
    return frozenset(stem + ending for stem in word_set(name) for ending in _ENDINGS)


DENIES_AFTER = word_set("denies_after")
"""Negations of what follows, up to the end of the clause."""

DENIES_CLAUSE = word_set("denies_clause")
"""Negations that may also stand behind what they deny: the whole clause."""

DENIES_CLAUSE_STEMS = _stems("denies_clause_stems")

_WITHHELD = word_set("withheld")
_WITHHELD_STEMS = _stems("withheld_stems")
_WITHOUT = re.compile(
    r"non(?!etheless)[a-z]{4,}|[a-z]{2,}frei(?:e[rsnm]?)?|[a-z]{3,}los|[a-z]{4,}lose[rsnm]?"
)
"""Of "nontender", "fieberfrei" and "komplikationslos", but not "none", "kilos" and "closes"."""

CLAUSE_ENDS = word_set("clause_ends")
"""Words at which a denial ends. They are protected: without them it would reach further."""

_SIDES = word_set("sides") | _declined("sides_declined")
_SIDE_STEMS = _stems("side_stems")
_SIDE_ENDS = (
    *(f"{end}{more}" for end in ("seitig", "lateral") for more in (*_ENDINGS, "ly", "s")),
    *_stems("side_ends_more"),
)

_COMPARISON = word_set("comparison") | _declined("comparison_declined")

_UNCERTAIN = word_set("uncertain")
_UNCERTAIN_STEMS = _stems("uncertain_stems")

_TIME = word_set("time")

_NUMBERS = word_set("numbers") | _declined("numbers_declined")
_ONES = "ein|zwei|zwo|drei|vier|fuenf|sechs|sech|sieben|sieb|acht|neun|zehn|elf|zwoelf"
_NUMBER_WORD = re.compile(
    r"(?:thir|four|fif|six|seven|eigh|nine)teen(?:th)?s?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies|ieth|ieths)"
    r"|(?:hundred|thousand|million|billion)(?:th)?s?|[a-z]+fold|[a-z]+iemes?"
    rf"|(?!ein(?:e[rsnm]?|ig(?:e[rsnm]?)?)?$)(?:{_ONES}|zwanzig|hundert|tausend)"
    rf"(?:{_ONES}|und|zig|ssig|zwanzig|hundert|tausend)*(?:mal|fach|s?t)?(?:ige?)?(?:e[rsnm]?)?"
    r"|(?:zwanzig|hundert|tausend|million|milliard)(?:st)?(?:e[rsnm]?)?"
    r"|(?:tjugo|trettio|fyrtio|femtio|sextio|sjuttio|attio|nittio|hundra|tusen)[a-z]*"
)

UNITS = word_set("units")
"""What after a number is its unit, or leads to it ("of a", "per", "every other")."""

_MEASURE = re.compile(
    r"(?:nano|micro|mikro|milli|centi|zenti|deci|dezi|kilo|mega)?"
    r"(?:gram|gramm|gramme|litre|liter|metre|meter|mol|mole|volt|curie|sievert|gray|joule|watt|"
    r"equivalent|unit|second|sekunde)(?:s|n)?"
)

UNITS_WITH_STOP = word_set("units_with_stop")
"""Units that are short words, so that a full stop may be theirs."""

BOUNDS = word_set("bounds")
"""What a number that follows means with them and not without."""

LINKS = BOUNDS | word_set("links")
"""What between two numbers makes one of them: "3 to 5", "two out of ten", "one and a half"."""

_PROTECTED = (
    DENIES_AFTER
    | DENIES_CLAUSE
    | CLAUSE_ENDS
    | _WITHHELD
    | _SIDES
    | _COMPARISON
    | _UNCERTAIN
    | _TIME
    | _NUMBERS
)
_STEMS = DENIES_CLAUSE_STEMS + _WITHHELD_STEMS + _SIDE_STEMS + _UNCERTAIN_STEMS


def parts(word: str) -> list[str]:
    """Give a word in its folded spelling, and what its hyphens and other signs join.

    Example:
        >>> parts("Non-displaced")
        ['non-displaced', 'non', 'displaced']
    """
    whole = folded(word)
    found = _PARTS.findall(whole)
    return [whole] if found == [whole] else [whole, *found]


@lru_cache(_KEPT)
def is_protected(word: str) -> bool:
    """Whether a word, or a part of it, must stay whatever stands around it.

    True of what the lists have, of all with a digit, of Roman numerals (lead III, NYHA II) and of
    single letters but the article.
    """
    return bool(_HAS_DIGIT.search(word)) or any(map(_is_listed, parts(word)))


@lru_cache(_KEPT)
def denies_after(word: str) -> bool:
    """Whether a word denies what follows it."""
    return any(part in DENIES_AFTER for part in parts(word))


@lru_cache(_KEPT)
def denies_clause(word: str) -> bool:
    """Whether a word denies its clause, before and behind it."""
    return any(
        part in DENIES_CLAUSE or part.endswith("n't") or part.startswith(DENIES_CLAUSE_STEMS)
        for part in parts(word)
    )


def ends_clause(word: str) -> bool:
    """Whether a denial goes no further than here."""
    return folded(word) in CLAUSE_ENDS


@lru_cache(_KEPT)
def is_number(word: str) -> bool:
    """Whether a word is a number, written or in digits, or has one in it ("twenty-five")."""
    return bool(_HAS_DIGIT.search(word)) or any(map(_is_number_word, parts(word)))


@lru_cache(_KEPT)
def is_unit(word: str) -> bool:
    """Whether a word that follows a number, or its unit, is a unit (or the "per" of one)."""
    return folded(word) in UNITS or _MEASURE.fullmatch(folded(word)) is not None


def _is_number_word(part: str) -> bool:
    return part in _NUMBERS or _NUMBER_WORD.fullmatch(part) is not None


def _is_listed(part: str) -> bool:
    return (
        part in _PROTECTED
        or part.startswith(_STEMS)
        or part.endswith(("n't", *_SIDE_ENDS))
        or (len(part) == 1 and part != "a")
        or _ROMAN.fullmatch(part) is not None
        or _is_number_word(part)
        or _WITHOUT.fullmatch(part) is not None
    )
