"""Captions of the simulated shapes, and the prompts that ask for their attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.simulation.shapes.words import COLOURS, COUNTS, FILLERS, POSITIONS, SHAPES, TEXTURES

Option = TypeVar("Option")
_TABLES: dict[str, Mapping[str, Sequence[str]]] = {
    "count": COUNTS,
    "texture": TEXTURES,
    "colour": COLOURS,
    "position": POSITIONS,
}
_SENTENCES = (
    "{what} {where}",
    "{where}, {what}",
    "a picture of {what} {where}",
    "an image that shows {what} {where}",
    "we see {what} {where}",
    "{what} can be seen {where}",
)
_LABELS = ("{what} {where}", "{where}, {what}", "picture: {what} {where}", "shown: {what} {where}")
"""Where no number is named: ``a circle`` would name one."""
_PHRASES = (
    "{count} {texture} {colour} {shape}",
    "{count} {colour} {texture} {shape}",
    "{count} {shape}, {colour} and {texture},",
)
_DRAWS = len(_TABLES) + 3
"""Choices of a caption: a word for each attribute and for the shape, the phrase, the sentence."""
_PROMPTS = 24
"""Texts for each class, before equal ones are dropped."""


def caption(values: Mapping[str, str], rng: np.random.Generator, filler: int = 0) -> str:
    """Write a caption that names exactly these attributes, in words and an order drawn at random.

    Args:
        values: Attribute (shape, colour, texture, count, position) to value; the shape at least.
        rng: Draws the words.
        filler: Clauses added that name nothing.
    """
    parts = [_worded(values, rng.random(_DRAWS))]
    if filler:
        parts += [FILLERS[n] for n in rng.permutation(len(FILLERS))[:filler]]
    return ", ".join(parts)


def prompts(
    values: Mapping[str, Sequence[str]], named: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Texts for zero-shot: attribute to value to captions that name it.

    They are captions as the cohort has them, so they name the other attributes too: every value
    of these about equally often, and the same ones in the same words for every class, so that
    what is left in the mean of a class's texts is the class.

    Args:
        values: Attribute to the values in use.
        named: Attributes that the captions name; others get no prompts, as no caption tells of
            them, and neither does an attribute with one value.
    """
    return {
        attribute: _asking(attribute, values, named)
        for attribute in named
        if len(values[attribute]) > 1
    }


def _asking(
    attribute: str, values: Mapping[str, Sequence[str]], named: Sequence[str]
) -> dict[str, list[str]]:
    rng = numpy_generator(0, "shapes", "prompts", attribute)
    beside = {
        name: rng.permutation(np.resize(np.arange(len(values[name])), _PROMPTS))
        for name in named
        if name != attribute
    }
    draws = rng.random((_PROMPTS, _DRAWS))
    texts: dict[str, list[str]] = {}
    for value in values[attribute]:
        told = [
            {attribute: value} | {name: values[name][order[n]] for name, order in beside.items()}
            for n in range(_PROMPTS)
        ]
        texts[value] = list(dict.fromkeys(map(_worded, told, draws)))
    return texts


def _worded(values: Mapping[str, str], draws: np.ndarray) -> str:
    """Write the attributes in the words, phrase and sentence that the draws in [0, 1) choose."""
    words = dict.fromkeys(_TABLES, "")
    for (name, table), draw in zip(_TABLES.items(), draws, strict=False):
        if name in values:
            words[name] = _pick(table[values[name]], draw)
    one, many = _pick(SHAPES[values["shape"]], draws[-3])
    words["shape"] = one if values.get("count", "one") == "one" else many
    in_any_order = "texture" in values and "colour" in values
    phrase = _pick(_PHRASES if in_any_order else _PHRASES[:1], draws[-2])
    sentence = _pick(_SENTENCES if "count" in values else _LABELS, draws[-1])
    what = _with_article(" ".join(phrase.format(**words).split()))
    text = sentence.format(what=what, where=words["position"])
    return " ".join(text.split()).strip(" ,")


def _pick(options: Sequence[Option], draw: float) -> Option:
    return options[int(draw * len(options))]


def _with_article(phrase: str) -> str:
    """``a orange star`` becomes ``an orange star``."""
    is_vowel = phrase.startswith("a ") and phrase[2:3] in "aeiou"
    return f"an {phrase[2:]}" if is_vowel else phrase
