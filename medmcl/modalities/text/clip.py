"""CLIP's own tokeniser from a local file: lower-cased byte-pair tokens, numbers one above theirs.

CLIP pads with 0, which is also the number of ``!``. Here 0 is padding and nothing else: CLIP's
token n is number n + 1, here and in the table of the encoder ``clip_text``.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from medmcl.core.errors import ArtefactError, ConfigError, damage
from medmcl.core.limits import parse_json, whole_bytes
from medmcl.modalities.text.bpe import merged
from medmcl.modalities.text.tokens import SENTENCE_ENDS

MERGES = 49152 - 256 - 2
_MOST = 2**26
"""Bytes that are unpacked of a vocabulary, which has some 3 MB."""
"""So many merges of OpenAI's file are used; the rest of it is not."""
LAST = "</w>"
EXPECTED = "bpe_simple_vocab_16e6.txt.gz of open_clip or OpenAI, or a CLIP model's tokenizer.json"
CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)
RUN = re.compile(r"L+|N|O+")
ESCAPE = re.compile(r"\x1b\[[\d;]*[a-zA-Z]")
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
SINGLE, DOUBLE = re.compile("[\u02bc\u2018-\u201b]"), re.compile("[\u201c-\u201f]")
LIGATURES = re.compile("[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]")
LONG_S = "\ufb05"  # its first letter stays a long s, as in ftfy
C1 = re.compile("[\x80-\x9f]")
WIDE = re.compile("[\u3000\uff01-\uffef]")


class ClipTokens:
    """Byte-pair tokens by CLIP's merges.

    Source:
        Sennrich et al. 2016, arXiv 1508.07909, on bytes, as Radford et al. 2021 use it. Numbers
        are open_clip's plus one. Differs: text that was decoded wrongly (``Ã©``) stays as it is,
        where open_clip lets ftfy guess what was meant; a text that spells a special token is text.

    Args:
        merges: Pairs of symbols, the first to be merged first.
        source: File they came from.
    """

    pad: ClassVar[int] = 0
    unk: ClassVar[int] = 0
    """CLIP has no unknown token: what a view drops leaves an empty place."""

    def __init__(self, merges: Sequence[tuple[str, str]], source: str) -> None:
        self.merges, self.source = tuple(merges), source
        letters = list(_letters().values())
        symbols = [*letters, *(one + LAST for one in letters), *("".join(m) for m in self.merges)]
        self.symbols = tuple(symbols)
        self.numbers = {symbol: number for number, symbol in enumerate(symbols, 1)}
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.cls, self.end = len(symbols) + 1, len(symbols) + 2
        self._known: dict[str, list[int]] = {}

    @classmethod
    def from_file(cls, path: Path) -> ClipTokens:
        """Read OpenAI's list of merges (text, or gzip), or a ``tokenizer.json``.

        Raises:
            ConfigError: There is no such file, or it is not CLIP's vocabulary.
        """
        if not path.is_file():
            raise ConfigError(
                "there is no such vocabulary",
                where=path,
                expected=EXPECTED,
                fix="copy it there; nothing is downloaded",
            )
        with damage(path, "is not CLIP's vocabulary", error=ConfigError, expected=EXPECTED):
            content = whole_bytes(path, "table", ConfigError)
            if content[:2] == b"\x1f\x8b":
                content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MOST)
            text = content.decode("utf-8")
            if text.lstrip().startswith("{"):
                return cls._from_json(parse_json(text), str(path))
            return cls(_pairs(text.split("\n")[1 : MERGES + 1]), str(path))

    @classmethod
    def _from_json(cls, tree: Mapping[str, Any], source: str) -> ClipTokens:
        found = cls(_pairs(tree["model"]["merges"]), source)
        given = tree["model"]["vocab"]
        other = [s for s, number in found.numbers.items() if given.get(s) != number - 1]
        if other:
            raise ValueError(f"{len(other)} tokens have other numbers, first {other[0]!r}")
        return found

    def __len__(self) -> int:
        return len(self.numbers) + 3  # padding, start, end

    def spelling(self, number: int) -> str:
        """Show one token as CLIP's file writes it: ``</w>`` ends a word, bytes are letters."""
        special = {self.pad: "<pad>", self.cls: "<cls>", self.end: "<end>"}
        return special.get(number) or self.symbols[number - 1]

    def encode(self, text: str) -> list[int]:
        """Give the numbers of a text, without start, end and padding."""
        numbers: list[int] = []
        for word in split_clip_words(clean(text)):
            if word not in self._known:
                self._known[word] = self._merge(word)
            numbers.extend(self._known[word])
        return numbers

    def _merge(self, word: str) -> list[int]:
        letters = _letters()
        symbols = [letters[byte] for byte in word.encode("utf-8")]
        symbols[-1] += LAST
        return [self.numbers[symbol] for symbol in merged(symbols, self.ranks, "".join)]

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of the signs that end a sentence."""
        return tuple(self.numbers[sign + LAST] for sign in SENTENCE_ENDS)

    def state(self) -> dict[str, Any]:
        """The merges, so that a run does not need the file again."""
        return {"clip": self.source, "merges": self._lines(), "sha256": _digest(self._lines())}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ClipTokens:
        """Take back what `state` gave."""
        if _digest(state["merges"]) != state["sha256"]:
            raise ArtefactError("the stored tokeniser was changed", where=state["clip"])
        return cls(_pairs(state["merges"]), str(state["clip"]))

    def _lines(self) -> list[str]:
        return [" ".join(pair) for pair in self.merges]


def clean(text: str) -> str:
    """Bring a text to CLIP's form: plain quotes, no ligatures or wide letters, one space, lower.

    Source:
        What ftfy 6 does in open_clip, but for what it guesses of wrongly decoded text.
    """
    if "<" not in text:
        text = html.unescape(text)
    text = ESCAPE.sub("", text)
    text = C1.sub(_windows, text)
    text = LIGATURES.sub(_compatible, text.replace(LONG_S, "\u017ft"))
    text = WIDE.sub(_compatible, text)
    text = DOUBLE.sub('"', SINGLE.sub("'", text))
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = CONTROL.sub("", text)
    text = unicodedata.normalize("NFC", text)
    text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()


def split_clip_words(text: str) -> list[str]:
    """Split into contractions, runs of letters, single digits, and runs of other signs.

    Example:
        >>> split_clip_words("it's 12mm, l. (ap)")
        ['it', "'s", '1', '2', 'mm', ',', 'l', '.', '(', 'ap', ')']
    """
    kinds = "".join(map(_kind, text))
    words, place = [], 0
    while place < len(text):
        found = CONTRACTION.match(text, place) or RUN.match(kinds, place)
        end = place + 1 if found is None else found.end()
        if found is not None:
            words.append(text[place:end])
        place = end
    return words


@lru_cache(maxsize=4096)
def _kind(sign: str) -> str:
    """Letter, number, space or other, as Unicode has it."""
    first = unicodedata.category(sign)[0]
    return first if first in "LN" else "S" if sign.isspace() else "O"


def _windows(found: re.Match[str]) -> str:
    return found[0].encode("latin-1").decode("cp1252", "replace").replace("\ufffd", found[0])


def _compatible(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", found[0])


def _pairs(lines: Iterable[Any]) -> list[tuple[str, str]]:
    pairs = []
    for line in lines:
        parts = line.split() if isinstance(line, str) else list(line)
        if not parts:
            continue
        if len(parts) != 2:
            raise ValueError(f"a merge is two symbols, not {line!r}")
        pairs.append((parts[0], parts[1]))
    if not pairs:
        raise ValueError("no merges")
    return pairs


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@lru_cache(maxsize=1)
def _letters() -> dict[int, str]:
    """A visible letter for each byte, in the order of their numbers (GPT-2's)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {
        **{byte: chr(byte) for byte in seen},
        **{byte: chr(256 + place) for place, byte in enumerate(hidden)},
    }
