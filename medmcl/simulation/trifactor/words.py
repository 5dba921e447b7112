"""Captions of the simulated factors: a word for each, some of them left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.trifactor.settings import TrifactorSettings

Array = np.ndarray
LEVELS = {
    "easy": ("bano", "demi", "filu", "gora", "hupe", "kavo", "lesi", "mitu", "nodra", "pulo"),
    "middle": ("rafen", "selik", "tibor", "vosan", "wumel", "zarit", "brenok", "clisun", "drovam",
               "fluges"),
    "hard": ("amsto", "entri", "irgal", "orpek", "ulvan", "askido", "embrul", "ostifa", "ufrone",
             "inzewo"),
    "colour": ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink", "white",
               "lime"),
    "texture": ("solid", "striped", "dotted", "checked", "halved", "ringed", "zigzag", "gridded",
                "quartered", "faded"),
    "shape": ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart",
              "diamond", "arrow"),
}  # fmt: skip
"""Factor to the words of its levels; no word stands for two."""


def levels_of(settings: TrifactorSettings) -> dict[str, tuple[str, ...]]:
    """Factor to the words of the levels in use."""
    return {name: LEVELS[name][: settings.level_count] for name in settings.factors}


def named_levels(settings: TrifactorSettings, levels: Array) -> pd.DataFrame:
    """Words of the levels (N, 3), a column for each factor."""
    names = levels_of(settings)
    return pd.DataFrame(
        {name: np.array(words)[levels[:, k]] for k, (name, words) in enumerate(names.items())}
    )


def draw_kept(settings: TrifactorSettings, seats: pd.DataFrame) -> Array:
    """Which factors each caption names, (N, 3) bool: the first at least, and all in pairs."""
    rng = numpy_generator(settings.seed, "trifactor", "captions")
    kept: Array = rng.random((len(seats), 3)) < np.array(settings.keep)
    kept[~kept.any(axis=1), 0] = True
    kept[(seats["pair"] != "").to_numpy()] = True
    return kept


def captions(words: pd.DataFrame, kept: Array) -> list[str]:
    """Join the words (N, 3) that are kept, in the order of the factors."""
    rows = zip(words.to_numpy(), kept, strict=True)
    return [" ".join(row[keeps]) for row, keeps in rows]


def word_tasks(settings: TrifactorSettings) -> dict[str, Any]:
    """A multiclass task for each factor."""
    return {
        name: {"kind": "multiclass", "column": name, "classes": list(words)}
        for name, words in levels_of(settings).items()
    }


def word_prompts(settings: TrifactorSettings) -> dict[str, dict[str, list[str]]]:
    """Texts for zero-shot: the word alone, which is a caption that keeps one factor."""
    return {name: {word: [word] for word in words} for name, words in levels_of(settings).items()}
