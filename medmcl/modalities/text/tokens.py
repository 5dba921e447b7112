"""Token numbers of texts: a vocabulary learned from the cohort, or a local model's tokeniser."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmcl.core.errors import ArtefactError, ConfigError, damage
from medmcl.core.lazy import import_extra

SPECIAL = ("<pad>", "<unk>", "<cls>", "<end>")
PIECE = "##"  # marks a piece of a word, as opposed to a whole one
SENTENCE_ENDS = (".", "!", "?", ";")
COPY_MODEL = "copy a transformers model there; nothing is downloaded"
WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]|_")


def normalise(text: str, lowercase: bool = True) -> str:
    """Bring a text to one spelling: composed umlauts, one micro sign, optionally lower case."""
    text = unicodedata.normalize("NFKC", text)
    return unicodedata.normalize("NFKC", text.lower()) if lowercase else text


def split_words(text: str) -> list[str]:
    """Split into words (any script), numbers (``0,5`` is one) and single signs.

    Example:
        >>> split_words("QRS-Dauer 0,12 s; Übergang")
        ['QRS', '-', 'Dauer', '0,12', 's', ';', 'Übergang']
    """
    return WORD.findall(text)


def _pieces(word: str) -> Iterable[str]:
    for size in (1, 2, 3):
        for start in range(len(word) - size + 1):
            yield PIECE + word[start : start + size]


class Special:
    """Numbers of the special tokens of a vocabulary that is learned here."""

    pad, unk, cls, end = range(4)


@dataclass(frozen=True)
class Vocabulary(Special):
    """Tokens in the order of their numbers, the four special ones first.

    Attributes:
        words: All tokens; pieces of words begin with ``##``.
        lowercase: Whether texts are put in lower case.
        spell: Whether unknown words are spelled in pieces, longest first.
    """

    words: tuple[str, ...]
    lowercase: bool = True
    spell: bool = True
    numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Number the tokens."""
        if self.words[: len(SPECIAL)] != SPECIAL or len(set(self.words)) != len(self.words):
            raise ArtefactError("is not a vocabulary", expected=f"{SPECIAL} first, no token twice")
        numbers = {word: number for number, word in enumerate(self.words)}
        object.__setattr__(self, "numbers", numbers)

    @classmethod
    def learn(
        cls, texts: Iterable[str], size: int, min_count: int, lowercase: bool, spell: bool
    ) -> Vocabulary:
        """Count words, and give numbers to the most frequent ones.

        A quarter of ``size`` is kept for pieces: first single characters, then the pairs and
        triples that words are most often made of.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split_words(normalise(text, lowercase)))
        pieces: Counter[str] = Counter()
        for word, count in counts.items() if spell else ():
            for piece in _pieces(word):
                pieces[piece] += count
        single = len(PIECE) + 1
        kept = sorted(pieces, key=lambda one: (len(one) > single, -pieces[one], one))[: size // 4]
        often = [word for word, count in counts.items() if count >= min_count]
        words = sorted(often, key=lambda word: (-counts[word], word))
        words = words[: size - len(SPECIAL) - len(kept)]
        return Vocabulary((*SPECIAL, *kept, *words), lowercase, spell)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Give the numbers of a text, without start, end and padding."""
        numbers: list[int] = []
        for word in split_words(normalise(text, self.lowercase)):
            if word in self.numbers:
                numbers.append(self.numbers[word])
            else:
                numbers.extend(self._spell(word) if self.spell else [self.unk])
        return numbers

    def _spell(self, word: str) -> list[int]:
        numbers, start = [], 0
        while start < len(word):
            for size in (3, 2, 1):
                number = self.numbers.get(PIECE + word[start : start + size])
                if number is not None:
                    break
            numbers.append(self.unk if number is None else number)
            start += size
        return numbers

    def spelling(self, number: int) -> str:
        """Show one token; a piece of a word begins with ``##``."""
        return self.words[number]

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of the signs that end a sentence."""
        return tuple(self.numbers[sign] for sign in SENTENCE_ENDS if sign in self.numbers)

    def state(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {"words": list(self.words), "lowercase": self.lowercase, "spell": self.spell}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocabulary:
        """Take back what `state` gave."""
        return cls(tuple(state["words"]), bool(state["lowercase"]), bool(state["spell"]))


class LocalModel:
    """The tokeniser of a transformers model that lies on disk; nothing is downloaded."""

    def __init__(self, tokeniser: Any, source: str) -> None:
        self.tokeniser, self.source = tokeniser, source
        self.pad, self.unk = tokeniser.pad_token_id, tokeniser.unk_token_id
        self.cls, self.end = tokeniser.cls_token_id, tokeniser.sep_token_id
        if self.pad != 0 or None in (self.unk, self.cls, self.end):
            raise ConfigError(
                "this tokeniser's special tokens are not supported",
                where=source,
                got=f"padding {self.pad}, unknown {self.unk}, start {self.cls}, end {self.end}",
                expected="padding 0 and all four, as BERT models have",
            )

    @classmethod
    def from_folder(cls, folder: Path) -> LocalModel:
        """Read a tokeniser saved by transformers.

        Raises:
            ExtraNotInstalledError: transformers is not installed.
            ConfigError: The folder holds no tokeniser.
        """
        transformers = import_extra("transformers", "text")
        if not folder.is_dir():
            raise ConfigError("there is no such folder", where=folder, fix=COPY_MODEL)
        with damage(folder, "no tokeniser can be read there", error=ConfigError, fix=COPY_MODEL):
            tokeniser = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        return cls(tokeniser, str(folder))

    def __len__(self) -> int:
        return len(self.tokeniser)

    def encode(self, text: str) -> list[int]:
        """Give the numbers of a text, without start, end and padding."""
        return self.places(text)[0]

    def places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Give the numbers of a text, and the first character of each and the one behind it."""
        made = self.tokeniser(
            text, add_special_tokens=False, verbose=False, return_offsets_mapping=True
        )
        return list(map(int, made["input_ids"])), [(a, b) for a, b in made["offset_mapping"]]

    def spelling(self, number: int) -> str:
        """Show one token as the model's own tokeniser writes it."""
        return str(self.tokeniser.convert_ids_to_tokens(int(number)))

    @property
    def stops(self) -> tuple[int, ...]:
        """Numbers of the signs that end a sentence."""
        numbers = self.tokeniser.convert_tokens_to_ids(list(SENTENCE_ENDS))
        return tuple(number for number in numbers if number != self.unk)

    def state(self) -> dict[str, Any]:
        """The whole tokeniser, so that a run does not need the folder again."""
        special = {
            name: str(token)
            for name, token in self.tokeniser.special_tokens_map.items()
            if not isinstance(token, list)
        }
        definition = self.tokeniser.backend_tokenizer.to_str()
        digest = hashlib.sha256(definition.encode()).hexdigest()
        return {"model": self.source, "json": definition, "sha256": digest, "special": special}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LocalModel:
        """Take back what `state` gave."""
        transformers = import_extra("transformers", "text")
        tokenizers = import_extra("tokenizers", "text")
        if hashlib.sha256(state["json"].encode()).hexdigest() != state["sha256"]:
            raise ArtefactError("the stored tokeniser was changed", where=state["model"])
        tokeniser = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(state["json"]), **state["special"]
        )
        return cls(tokeniser, str(state["model"]))
