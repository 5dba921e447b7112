"""What a cohort says of its texts, and how a recipe prepares them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config, Probability
from medmcl.modalities.text.bpe import BASE

BY_MARKS = ("delete", "swap", "sentence_drop", "sentence_shuffle")
"""Options that need marks."""


class TextSource(Config):
    """What a cohort says of its texts."""

    reader: Literal["text"] = "text"
    column: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """column with the text, or several, one after another; none: one .txt file a record"""
    encoding: str = "utf-8"
    sections: tuple[str, ...] = ()
    """of a report, in this order: [findings, impression]; none: all"""
    prefix: str = ""
    """words put before every text that is not empty: "a photo of " """


class TextSettings(Config):
    """How a recipe prepares texts. Sizes are ours: the ECG-CMR paper has no text."""

    max_tokens: Annotated[int, Field(ge=3)] = 128
    """length of a row, start and end included; PTB-XL's need < 64"""
    vocabulary: Annotated[int, Field(ge=16)] = 8000
    """largest number of distinct tokens"""
    min_count: Annotated[int, Field(ge=1)] = 2
    """a word (`bpe`: a pair) seen less often has no number of its own"""
    lowercase: bool = True
    tokeniser: Literal["words", "trigrams", "bpe"] = "trigrams"
    """unknown words: spelled in pieces of 1 to 3 characters, or one <unk> (`words`); `bpe`: byte
    pairs, nothing is unknown"""
    model: Path | None = None
    """folder of a transformers tokeniser, used instead ([text])"""
    clip_vocabulary: Path | None = None
    """CLIP's vocabulary in a local file, used instead; its length is 77"""
    vocabulary_of: Path | None = None
    """run folder whose tokeniser is used instead, as it was learned"""
    vocabulary_name: str | None = None
    """which text modality of that run, if it has several"""

    marks: bool = False
    """also prepared: where words and sentences begin, and which words are clinical; for views with
    `delete`, `swap`, `sentence_drop` or `sentence_shuffle`"""

    @model_validator(mode="after")
    def _check(self) -> TextSettings:
        if self.model is not None and self.clip_vocabulary is not None:
            raise ValueError("clip_vocabulary: not beside model, which has a tokeniser of its own")
        if self.vocabulary_of is not None and (self.model or self.clip_vocabulary):
            raise ValueError("vocabulary_of: not beside model or clip_vocabulary, which have one")
        if self.vocabulary_name is not None and self.vocabulary_of is None:
            raise ValueError("vocabulary_name: only vocabulary_of reads it")
        if self.tokeniser == "bpe" and self.vocabulary < BASE:
            raise ValueError(f"vocabulary: byte pairs start from {BASE} tokens; give more")
        return self


class TextAugment(Config):
    """What a view does to texts; see the module for what differs from its sources.

    A dropped token becomes <unk> (of CLIP, which has none: padding) and leaves its place.
    """

    dropout: Probability = 0.1
    """share of tokens, of any kind, that become <unk>; beside an option by marks 0 if not given"""
    shuffle: Probability = 0.0
    """of shuffling a text's sentences, by their signs alone"""
    delete: Probability = 0.0
    """of a plain word to go; a sentence keeps one"""
    swap: Probability = 0.0
    """of two plain words side by side to change places, each once"""
    sentence_drop: Probability = 0.0
    """of a sentence to go; one with words stays"""
    sentence_shuffle: Probability = 0.0
    """of shuffling a text's sentences, none of them torn"""

    @model_validator(mode="before")
    @classmethod
    def _spare(cls, given: Any) -> Any:
        """Tokens of chance, a "no" among them, go beside an option by marks only if asked for."""
        if isinstance(given, dict) and "dropout" not in given and any(map(given.get, BY_MARKS)):
            return {**given, "dropout": 0.0}
        return given

    @model_validator(mode="after")
    def _one_shuffle(self) -> TextAugment:
        if self.shuffle and self.sentence_shuffle:
            raise ValueError("shuffle: not beside sentence_shuffle, which does the same by marks")
        return self

    @property
    def by_marks(self) -> tuple[str, ...]:
        """Options above 0 that need marks."""
        return tuple(name for name in BY_MARKS if getattr(self, name))
