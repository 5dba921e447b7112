"""Text: reports and notes as token numbers, with a vocabulary learned from the cohort.

Works offline: words seen often in training have a number of their own, other words are spelled in
pieces of up to three characters; ``tokeniser: bpe`` learns byte pairs instead. ``model: path``
takes the tokeniser of a local transformers model, ``clip_vocabulary: path`` CLIP's,
``vocabulary_of: run`` that of an earlier run. Padding is 0 in every case.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core import members
from medmcl.core.batch import InputShape
from medmcl.core.config import Config, lookup
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import FIND_FILE, ConfigError, RecordError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator
from medmcl.core.sealed import OF, read_sealed
from medmcl.modalities.opening import cell_of
from medmcl.modalities.text.bpe import BytePairs
from medmcl.modalities.text.clip import ClipTokens
from medmcl.modalities.text.sections import ReportText, take_sections
from medmcl.modalities.text.settings import TextAugment, TextSettings, TextSource
from medmcl.modalities.text.tokens import LocalModel, Vocabulary, normalise, split_words

if TYPE_CHECKING:
    from torch import Tensor

FILE = "preprocessing.json"


def tokens_of_run(folder: Path, name: str | None = None) -> Mapping[str, Any]:
    """Give the fitted state of a text modality of a run.

    Args:
        folder: The run folder.
        name: The modality; None: the only one of texts.

    Raises:
        ConfigError: No such run, no text modality, several and no name, or not that name.
    """
    file = folder / FILE
    if not file.is_file():
        raise ConfigError(
            f"is not the folder of a run (it has no {FILE})",
            where=f"vocabulary_of: {folder}",
            fix="give the folder that `medmcl pretrain --out` named",
        )
    try:
        entries = read_sealed(file)
        entries.pop(OF, None)
        states = {key: one["state"] for key, one in entries.items() if one["kind"] == "text"}
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError("is damaged", where=file, got=error) from None
    where, fix = f"vocabulary_of: {folder}", "name one of them: vocabulary_name"
    if not states:
        kinds = ", ".join(f"{key} ({one['kind']})" for key, one in entries.items()) or "none"
        raise ConfigError("that run has no text modality", where=where, got=kinds)
    if name is None and len(states) > 1:
        got = ", ".join(states)
        raise ConfigError("that run has several text modalities", where=where, got=got, fix=fix)
    found = lookup("text modality", name or next(iter(states)), states, where, fix)
    return dict(found)


_CONTROLS = re.compile("[\x80-\x84\x86-\x9f]")
"""Of Latin-1: no text has them. Bytes of cp1252 have letters and quotes there."""
_ODD = re.compile("[^\x00-\x7f]{1,3}")
SIZES = (2, 3, 4, 5)
"""Characters of a term; short ones bear abbreviations and endings, long ones whole stems."""


def text_terms(text: str, lowercase: bool = True) -> list[str]:
    """Give every run of 2 to 5 characters of each word, a space at either end of the word.

    Words shorter than a run are terms as they are. As often as they occur, in order.

    Source:
        Damashek 1995, Science 267:843 (n-grams of characters); within words as scikit-learn's
        ``analyzer="char_wb"``. Differs: a short word is one term, not one for each size.

    Example:
        >>> text_terms("ST up")[:6]
        [' s', 'st', 't ', ' st', 'st ', ' st ']
    """
    terms: list[str] = []
    for word in normalise(text, lowercase).split():
        padded = f" {word} "
        for size in SIZES:
            if size > len(padded):
                break
            terms.extend(padded[start : start + size] for start in range(len(padded) - size + 1))
    return terms


Tokens = Vocabulary | BytePairs | LocalModel | ClipTokens
"""What turns a text to numbers (``encode``) and a number to what it stands for (``spelling``)."""


_STATES: Mapping[str, type[Tokens]] = {
    "model": LocalModel,
    "clip": ClipTokens,
    "merges": BytePairs,
    "words": Vocabulary,
}
"""What only the state of each has."""


class Text:
    """Texts: reports, notes, captions; see `medmcl.core.contracts.Adapter`. A raw record: `str`."""

    kind: ClassVar[str] = "text"
    measured: ClassVar[bool] = False
    free_text: ClassVar[bool] = True
    triggers: ClassVar[str] = "words"
    input_projection: ClassVar[str] = "table"
    endings: ClassVar[Mapping[str, str]] = {".txt": "text"}
    of_many: ClassVar[tuple[str, ...]] = ("column",)
    packed: ClassVar[Mapping[str, tuple[str, str]]] = {"text": ("txt", "{name}.txt")}
    Source: ClassVar[type[Config]] = TextSource
    Settings: ClassVar[type[Config]] = TextSettings
    Augment: ClassVar[type[Config]] = TextAugment

    def __init__(self, source: TextSource, settings: TextSettings) -> None:
        self.source, self.settings = source, settings
        self._tokens: Tokens | None = None
        model, clip = settings.model, settings.clip_vocabulary
        if (model and model.is_dir()) or (clip and clip.is_file()):
            self._tokens = self._named()

    def read(self, place: RecordRef) -> str:
        """The text of a cell, of several or of a file; an empty cell is an empty text.

        With `sections` only those, or all of a text that has none of them (`ReportText.whole`).
        With `prefix` that comes first, but an empty text stays empty.

        Raises:
            RecordError: No such column or file, or bytes that are not text in the encoding.
        """
        column, sections = self.source.column, self.source.sections
        if column is None:
            text = _read_file(place, self.source.encoding)
        else:
            columns = (column,) if isinstance(column, str) else column
            cells = [cell_of(place, one) for one in columns]
            text = "\n".join(str(cell) for cell in cells if cell not in (None, ""))
        text = take_sections(text, sections) if sections else text
        prefix = self.source.prefix
        return _behind(prefix, text) if prefix and text.strip() else text

    def pack(self, place: RecordRef) -> tuple[str, bytes]:
        """What is read of it, in UTF-8."""
        return "txt", self.read(place).encode("utf-8")

    def show(self, raw: str) -> str:
        """All of it."""
        return str(raw) or "(an empty text)"

    def inspect(self, raw: str, place: RecordRef) -> list[Finding]:
        """Empty texts (or of which no token is made), lacking sections, texts longer than a row."""
        where, encode = place.where, split_words if self._tokens is None else self._tokens.encode
        length = 2 + len(encode(raw))
        if length == 2:
            fix = "say with `present` who has a text"
            return [Finding(code="text.empty", where=where, what="the text is empty", fix=fix)]
        found, warn = [], partial(Finding, where=where, level="warning")
        if isinstance(raw, ReportText) and raw.whole:
            what = f"no section {' or '.join(self.source.sections)}: the whole text is taken"
            fix = "nothing, if that is meant; otherwise name its headers: modalities.NAME.sections"
            found.append(warn(code="text.whole", what=what, fix=fix))
        if length > self.settings.max_tokens:
            what = f"the text has {length} tokens or more; {self.settings.max_tokens} are read"
            fix = "raise inputs.NAME.max_tokens if the end matters"
            found.append(warn(code="text.long", what=what, fix=fix))
        return [*found, *_garbled(raw, where)]

    def fit(self, raws: Iterable[str]) -> None:
        """Learn the vocabulary; a local model's, CLIP's or a run's is taken as it is."""
        said = self.settings
        size, least, lowercase = said.vocabulary, said.min_count, said.lowercase
        self._tokens = self._named()
        if self._tokens is None and said.tokeniser == "bpe":
            self._tokens = BytePairs.learn(raws, size, least, lowercase)
        elif self._tokens is None:
            spell = said.tokeniser == "trigrams"
            self._tokens = Vocabulary.learn(raws, size, least, lowercase, spell)

    def _named(self) -> Tokens | None:
        """The tokeniser that the recipe names."""
        if self.settings.model is not None:
            return LocalModel.from_folder(self.settings.model)
        if self.settings.clip_vocabulary is not None:
            return ClipTokens.from_file(self.settings.clip_vocabulary)
        if self.settings.vocabulary_of is not None:
            run, name = self.settings.vocabulary_of, self.settings.vocabulary_name
            return _from_state(tokens_of_run(run, name))
        return None

    @property
    def tokens(self) -> Tokens:
        """What turns words to numbers; known after `fit`."""
        if self._tokens is None:
            raise RuntimeError("fit or load_state comes before the vocabulary is used")
        return self._tokens

    def prepare(self, raw: str) -> np.ndarray:
        """Token numbers, (max_tokens,) int64: start, text, end, padding; the end is never cut.

        With ``marks: true`` (2, max_tokens): the marks of the tokens below them, 0 beside the text.
        """
        tokens, room = self.tokens, self.settings.max_tokens - 2
        encoded = tokens.encode(raw)
        numbers = [tokens.cls, *encoded[:room], tokens.end]
        row = np.full(self.settings.max_tokens, tokens.pad, dtype=np.int64)
        row[: len(numbers)] = numbers
        if not self.settings.marks:
            return row
        from medmcl.modalities.text.marks import token_marks

        marks = np.zeros_like(row)
        marks[1 : len(numbers) - 1] = token_marks(raw, tokens, encoded)[:room]
        return np.stack([row, marks])

    def simple_features(self, raw: str) -> list[str]:
        """Runs of 2 to 5 characters within words, whatever tokens an encoder reads."""
        return text_terms(raw, self.settings.lowercase)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Prepare several texts, for example zero-shot prompts, (N, *prepared_shape) int64."""
        rows = np.zeros((len(texts), *self.prepared_shape), dtype=np.int64)
        for number, text in enumerate(texts):
            rows[number] = self.prepare(text)
        return rows

    def spell(self, number: int) -> str:
        """What a token number stands for, as people read it."""
        return self.tokens.spelling(number)

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(max_tokens,), or (2, max_tokens) with marks."""
        length = self.settings.max_tokens
        return (2, length) if self.settings.marks else (length,)

    @property
    def input_shape(self) -> InputShape:
        """The tokens, with the size of the vocabulary; padding is 0."""
        shape = (self.settings.max_tokens,)
        return InputShape(kind=self.kind, shape=shape, vocabulary=len(self.tokens))

    def plain(self, x: Tensor) -> Tensor:
        """The tokens of the prepared rows, (B, max_tokens)."""
        return (x[:, 0] if self.settings.marks else x).long()

    def padding(self, x: Tensor) -> Tensor:
        """Which tokens are padding, (B, max_tokens)."""
        return self.plain(x) == self.tokens.pad

    def augment(self, x: Tensor, options: TextAugment, generator: RowGenerator) -> Tensor:
        """Take and move words by marks, shuffle sentences, and turn some tokens to <unk>.

        Raises:
            ConfigError: An option needs marks, and none were prepared.
        """
        import torch

        from medmcl.modalities.text.augment import disturb_words

        tokens = self.tokens
        if options.by_marks and not self.settings.marks:
            raise ConfigError(
                "a view takes or moves words of which no marks are prepared",
                got=f"{', '.join(options.by_marks)}; marks: false",
                fix="say in the recipe's inputs of these texts: marks: true",
            )
        prepared, x = x, self.plain(x)
        if options.by_marks:
            x = disturb_words(x, prepared[:, 1], options, tokens, generator)
        draws = generator.uniform(2, *x.shape, row_dim=1)
        chosen = generator.uniform(len(x), 1) < options.shuffle
        x = torch.where(chosen, _shuffle_sentences(x, draws[0], tokens), x)
        special = (x == tokens.pad) | (x == tokens.cls) | (x == tokens.end)
        dropped = (draws[1] < options.dropout) & ~special
        return x.masked_fill(dropped, tokens.unk)

    def state(self) -> dict[str, Any]:
        """The vocabulary, or the local model's tokeniser: what is needed without its folder."""
        return self.tokens.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._tokens = _from_state(state)


def _from_state(state: Mapping[str, Any]) -> Tokens:
    kind = next((kind for key, kind in _STATES.items() if key in state), Vocabulary)
    return kind.from_state(state)


def _shuffle_sentences(x: Tensor, draws: Tensor, tokens: Tokens) -> Tensor:
    """Put the sentences of each row (B, T) in random order; a sentence ends at . ! ? or ;."""
    import torch

    is_stop = torch.zeros_like(x, dtype=torch.bool)
    for stop in tokens.stops:
        is_stop |= x == stop
    sentence = is_stop.long().cumsum(dim=1) - is_stop.long()
    order = draws.gather(1, sentence)  # one random key a sentence, in [0, 1)
    order = order.masked_fill(x == tokens.cls, -1.0)
    order = order.masked_fill(x == tokens.end, 2.0).masked_fill(x == tokens.pad, 3.0)
    return x.gather(1, order.argsort(dim=1, stable=True))


def _behind(prefix: str, text: str) -> str:
    """Put words before a text, which stays what it is."""
    both = prefix + text
    return ReportText(both, text.whole) if isinstance(text, ReportText) else both


def _garbled(text: str, where: str) -> list[Finding]:
    """Tell a text that was read in another encoding than it was written in: Ã¼ for ü."""
    odd = _CONTROLS.search(text) or (_ODD.search(text) if _is_utf8(text) else None)
    if odd is None:
        return []
    what = f"letters are garbled ({odd[0]!r}): read in another encoding than they were written in"
    fix = "say the file's own in cohort.yaml: modalities.NAME.encoding: utf-8, or cp1252"
    return [Finding(code="text.garbled", where=where, what=what, fix=fix, level="warning")]


def _is_utf8(text: str) -> bool:
    """Whether its bytes, of a letter each, are UTF-8 of other letters."""
    try:
        return text.encode("latin-1").decode("utf-8") != text
    except UnicodeError:
        return False


def _read_file(place: RecordRef, encoding: str) -> str:
    path = place.paths.get("path")
    if path is None:
        fix = "give modalities.NAME a path, or a column"
        raise RecordError("neither a column nor a file holds the text", where=place.where, fix=fix)
    try:
        with members.open_binary(path) as raw, io.TextIOWrapper(raw, encoding=encoding) as file:
            text = file.read()
    except FileNotFoundError:
        raise RecordError("there is no such file", where=path, fix=FIND_FILE) from None
    except LookupError:
        fix = "use a name Python knows: utf-8, latin-1, cp1252"
        raise RecordError("unknown encoding", where=path, got=encoding, fix=fix) from None
    except (OSError, UnicodeError) as error:
        fix = "say the file's own in cohort.yaml: modalities.NAME.encoding: latin-1"
        raise RecordError(
            "is not text in the declared encoding", where=path, got=error, fix=fix
        ) from None
    if "\0" in text:
        raise RecordError("is not a text file (it holds zero bytes)", where=path)
    return text
