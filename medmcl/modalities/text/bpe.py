"""Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), learned from the cohort's texts.

Over bytes, as GPT-2 (Radford et al. 2019): each of the 256 has a number, so that no text is
unknown. A text is cut into words first, and no token reaches over a cut: letters with the space
before them, signs with the space before them, spaces, and **each digit by itself**: 120 and 12 are
told apart by their digits, not by tokens of chance. Differs from GPT-2: white space is one space,
each text begins with one (as in SentencePiece), and spelling is unified first.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

from medmcl.core.errors import ArtefactError
from medmcl.modalities.text.tokens import SENTENCE_ENDS, SPECIAL, Special, normalise

Pair = tuple[int, int]
T = TypeVar("T", int, str)

BYTES = 256
BASE = len(SPECIAL) + BYTES
"""The smallest vocabulary: special tokens, then the bytes in their order."""
SPACE = "\u2581"  # how a space is shown
LONGEST = 64  # letters; what is longer (a key, an address) is cut: merging takes their square
WORD = re.compile(rf" ?[^\W\d_]{{1,{LONGEST}}}|\d| ?[^\w\s]| ?_{{1,{LONGEST}}}| ")
_KEPT = 100_000  # words whose numbers are remembered


def unified(text: str, lowercase: bool) -> str:
    """Give what tokens can be decoded to: one spelling, one space before each word."""
    plain = normalise(text, lowercase).encode("utf-8", "replace").decode("utf-8")
    return "".join(f" {word}" for word in plain.split())


@dataclass(frozen=True)
class BytePairs(Special):
    """Bytes, and pairs of tokens that became tokens, in the order in which they were learned.

    Numbers: special tokens (0 to 3), bytes (4 to 259), then one a merge.

    Attributes:
        merges: The two tokens that each further token is made of.
        lowercase: Whether texts are put in lower case.
        contents: The bytes of each token; none of the special ones.
        ranks: Pair to the token it becomes; lower ones are merged first.
        numbers_of: The tokens of one word, remembered.
    """

    merges: tuple[Pair, ...]
    lowercase: bool = True
    contents: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    ranks: dict[Pair, int] = field(init=False, repr=False, compare=False)
    numbers_of: Callable[[str], tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Spell every token out."""
        contents = [b""] * len(SPECIAL) + [bytes((one,)) for one in range(BYTES)]
        for left, right in self.merges:
            if not (len(SPECIAL) <= min(left, right) and max(left, right) < len(contents)):
                raise ArtefactError(
                    "is not a list of byte pairs",
                    got=f"the pair {left}, {right} as token {len(contents)}",
                    expected=f"two earlier tokens, {len(SPECIAL)} to {len(contents) - 1}",
                )
            contents.append(contents[left] + contents[right])
        ranks = {pair: BASE + number for number, pair in enumerate(self.merges)}
        if len(ranks) != len(self.merges):
            raise ArtefactError("is not a list of byte pairs", expected="no pair twice")
        object.__setattr__(self, "contents", tuple(contents))
        object.__setattr__(self, "ranks", ranks)
        object.__setattr__(self, "numbers_of", lru_cache(_KEPT)(self._merged))

    def __reduce__(self) -> tuple[Any, ...]:
        return BytePairs, (self.merges, self.lowercase)

    @classmethod
    def learn(cls, texts: Iterable[str], size: int, min_count: int, lowercase: bool) -> BytePairs:
        """Merge the most frequent pair of neighbours, again and again.

        Of pairs seen equally often the one with the lower left number is first, then the one with
        the lower right: what is learned depends on how often words occur, not on their order.

        Args:
            texts: The texts of the train split.
            size: Largest number of tokens, special ones and bytes included.
            min_count: A pair seen less often is not merged.
            lowercase: Whether to put texts in lower case.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(WORD.findall(unified(text, lowercase)))
        learning = _Learning(counts)
        return cls(tuple(learning.merges(size - BASE, min_count)), lowercase)

    def __len__(self) -> int:
        return len(self.contents)

    def encode(self, text: str) -> list[int]:
        """Give the numbers of a text, without start, end and padding."""
        numbers: list[int] = []
        for word in WORD.findall(unified(text, self.lowercase)):
            numbers += self.numbers_of(word)
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """Give the text that tokens stand for; special ones stand for nothing."""
        whole = b"".join(self.contents[number] for number in numbers)
        return whole.decode("utf-8", "replace").removeprefix(" ")

    def spelling(self, number: int) -> str:
        """Show one token: a space as ``▁``, a part of a character as ``<0xE2>``."""
        if number < len(SPECIAL):
            return SPECIAL[number]
        content = self.contents[number]
        try:
            return content.decode("utf-8").replace(" ", SPACE)
        except UnicodeDecodeError:
            return "".join(chr(c) if 32 < c < 127 else f"<0x{c:02X}>" for c in content)

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of the signs that end a sentence."""
        ends = {sign.encode() for sign in SENTENCE_ENDS}
        ends |= {b" " + sign for sign in ends}
        return tuple(number for number, content in enumerate(self.contents) if content in ends)

    def _merged(self, word: str) -> tuple[int, ...]:
        return tuple(merged(_as_bytes(word), self.ranks, lambda pair: self.ranks[pair]))

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {"merges": [list(pair) for pair in self.merges], "lowercase": self.lowercase}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BytePairs:
        """Take back what `state` gave."""
        merges = tuple((int(left), int(right)) for left, right in state["merges"])
        return cls(merges, bool(state["lowercase"]))


class _Learning:
    """Distinct words as tokens, and how often each pair of neighbours stands in all of them."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.words = [_as_bytes(word) for word in counts]
        self.counts = list(counts.values())
        self.pairs: Counter[Pair] = Counter()
        self.places: dict[Pair, set[int]] = {}
        for number in range(len(self.words)):
            self._count(number)
        self.heap = [(-count, pair) for pair, count in self.pairs.items()]
        heapq.heapify(self.heap)

    def _count(self, number: int) -> set[Pair]:
        """Count the pairs of one word."""
        found = set()
        for pair in pairwise(self.words[number]):
            self.pairs[pair] += self.counts[number]
            self.places.setdefault(pair, set()).add(number)
            found.add(pair)
        return found

    def merges(self, most: int, least: int) -> Iterator[Pair]:
        """Give at most so many pairs, each seen at least so often when it was chosen."""
        for new in range(BASE, BASE + most):
            pair = self._next()
            if pair is None or self.pairs[pair] < least:
                return
            yield pair
            changed: set[Pair] = set()
            for number in list(self.places[pair]):
                before = self.words[number]
                for old in pairwise(before):
                    self.pairs[old] -= self.counts[number]
                    self.places[old].discard(number)
                    changed.add(old)
                self.words[number] = _replaced(before, pair, new)
                changed |= self._count(number)
            for one in changed:
                if self.pairs[one] > 0:
                    heapq.heappush(self.heap, (-self.pairs[one], one))

    def _next(self) -> Pair | None:
        """Take the most frequent pair; entries of the heap whose count is past are dropped."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if self.pairs[pair] == -count:
                return pair
        return None


def _as_bytes(word: str) -> list[int]:
    return [len(SPECIAL) + one for one in word.encode("utf-8")]


def merged(
    symbols: list[T], ranks: Mapping[tuple[T, T], int], made: Callable[[tuple[T, T]], T]
) -> list[T]:
    """Merge the pair of neighbours with the lowest rank, until no neighbours have one.

    Args:
        symbols: What a word is made of.
        ranks: Pair to its rank.
        made: From a pair to the symbol that stands for it.
    """
    while len(symbols) > 1:
        rank, pair = min((ranks.get(pair, math.inf), pair) for pair in pairwise(symbols))
        if rank == math.inf:
            break
        symbols = _replaced(symbols, pair, made(pair))
    return symbols


def _replaced(symbols: Sequence[T], pair: tuple[T, T], new: T) -> list[T]:
    """Write one symbol for each occurrence of a pair, from the left."""
    left, right = pair
    written: list[T] = []
    place, last = 0, len(symbols) - 1
    while place <= last:
        if place < last and symbols[place] == left and symbols[place + 1] == right:
            written.append(new)
            place += 2
        else:
            written.append(symbols[place])
            place += 1
    return written
