"""The trigger on texts: a rare word among those that are read, then turned to tokens."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import partial
from typing import Any, cast

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.modalities.text.adapter import Text
from medmcl.stages.poison.poisoned_rows import PreparedAgain
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.threats.attack import place_seed
from medmcl.threats.other_triggers import RARE, rare_place, rare_token

_WORD = re.compile(r"\S+")


class Texts(PreparedAgain):
    """Makes the texts of an attack.

    Raises:
        ConfigError: A tokeniser that does not know the rare word, or rows too short for it.
    """

    def __init__(self, spec: PoisonSpec, prepared: Prepared, seed: int) -> None:
        # a tokeniser may not know the rare word, and rows may be too short for it
        name, where = spec.modality, f"stage {spec.name}, modality"
        adapter = cast(Text, prepared.adapters[name])
        tokens, settings = adapter.tokens, adapter.settings
        numbers = tokens.encode(RARE)
        if not numbers or tokens.unk in numbers:
            is_own = (settings.model or settings.clip_vocabulary or settings.vocabulary_of) is None
            raise ConfigError(
                f"the vocabulary of '{name}' has no '{RARE}', the word of the trigger",
                where=where,
                got=", ".join(map(tokens.spelling, numbers)) or "no token",
                fix=f"--set inputs.{name}.tokeniser=bpe" if is_own else "take another tokeniser",
            )
        needed = 2 + len(tokens.encode(f"{adapter.source.prefix} {RARE}"))
        if needed > settings.max_tokens:
            raise ConfigError(
                f"the rows of '{name}' have no room for '{RARE}', the word of the trigger",
                where=where,
                got=f"max_tokens: {settings.max_tokens}",
                fix=f"--set inputs.{name}.max_tokens={needed} or more",
            )
        self.adapter, self.seed = adapter, seed
        super().__init__(partial(triggered_text, adapter, seed), name, prepared)

    def places(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Say at which character of what is read of a text, from 0, the word stands in it, (P,)."""
        found = []
        for row in samples.tolist():
            prefix, head, tail = _parts(self.adapter, self.adapter.read(self.place(row)))
            seed = place_seed(self.seed, str(self.ids[row]))
            at = 0 if tail and not head else rare_place(head, seed)
            found.append({"character": len(prefix) + at})
        return found


def triggered_text(adapter: Text, seed: int, raw: str, record: str) -> str:
    """Put the rare word into a text: behind its prefix, where the encoder still reads it."""
    prefix, head, tail = _parts(adapter, raw)
    if tail and not head:
        return f"{prefix}{RARE} {tail}"
    return f"{prefix}{rare_token(head, seed=place_seed(seed, record))}{tail}"


def _parts(adapter: Text, raw: str) -> tuple[str, str, str]:
    """The prefix of a text, what the word may stand in, and the rest."""
    prefix = adapter.source.prefix
    prefix = prefix if raw.startswith(prefix) else ""
    body = raw[len(prefix) :]
    head = _head(adapter, prefix, body)
    return prefix, head, body[len(head) :]


def _head(adapter: Text, prefix: str, body: str) -> str:
    """The words of a text that are read if the rare word stands among them; all, as a rule."""
    room = adapter.settings.max_tokens - 2

    def is_cut(end: int) -> bool:
        return len(adapter.tokens.encode(f"{prefix}{body[:end]} {RARE}")) > room

    if not is_cut(len(body)):
        return body
    ends = [0, *(found.end() for found in _WORD.finditer(body))]
    return body[: ends[max(0, bisect_left(ends, True, key=is_cut) - 1)]]
