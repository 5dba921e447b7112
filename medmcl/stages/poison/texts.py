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
from medmcl.stages.poison.again import PreparedAgain
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.threats.attack import attack_on_texts, place_in_text
from medmcl.threats.text_triggers import RARE

_WORD = re.compile(r"\S+")


def texts(spec: PoisonSpec, prepared: Prepared, seed: int) -> PreparedAgain:
    """Give what makes the texts of an attack."""
    adapter = cast(Text, prepared.adapters[spec.modality])
    return PreparedAgain(partial(triggered_text, adapter, seed), spec.modality, prepared)


def triggered_text(adapter: Text, seed: int, raw: str, record: str) -> str:
    """Put the rare word into a text: behind its prefix, where the encoder still reads it."""
    prefix, head, tail = _parts(adapter, raw)
    if tail and not head:
        return f"{prefix}{RARE} {tail}"
    return f"{prefix}{attack_on_texts(seed)(head, record)}{tail}"


def text_places(
    spec: PoisonSpec, prepared: Prepared, seed: int, samples: np.ndarray
) -> list[dict[str, Any]]:
    """Say at which character of what is read of a text, from 0, the word stands in it, (P,)."""
    name = spec.modality
    adapter = cast(Text, prepared.adapters[name])
    ids = prepared.samples["sample"].astype(str).to_numpy()[samples]
    places = prepared.cohort.records[name]["place"].iloc[prepared.index(name)[samples]]
    found = []
    for record, place in zip(ids.tolist(), places, strict=True):
        prefix, head, tail = _parts(adapter, adapter.read(place))
        at = 0 if tail and not head else place_in_text(head, seed, record)
        found.append({"character": len(prefix) + at})
    return found


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


def refuse_texts(spec: PoisonSpec, prepared: Prepared) -> None:
    """Refuse a tokeniser that does not know the rare word, and rows too short for it."""
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
