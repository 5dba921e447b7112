"""What the worlds of three factors share: splits and pairs, levels and words, what is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.config import read_yaml
from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.simulation.folder import splits_of
from medmcl.simulation.trifactor.settings import PAIRED, TrifactorSettings


@dataclass(frozen=True)
class World:
    """A drawn world.

    Attributes:
        people: Columns of `draw_seats`, and those that tasks, captions and readers name.
        truth: Rows as in ``people``: what the cohort does not know.
        modalities: As in cohort.yaml.
        tasks: As in cohort.yaml.
        write: Writes the files of the modalities into a folder.
        about: Paragraphs of the README.
        files: File to what it holds, for the README.
        prompts: As in cohort.yaml.
        facts: What stands in truth.json beside the settings.
    """

    people: pd.DataFrame
    truth: pd.DataFrame
    modalities: Mapping[str, Any]
    tasks: Mapping[str, Any]
    write: Callable[[Path], None]
    about: tuple[str, ...]
    files: Mapping[str, str]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Array = np.ndarray


def draw_seats(settings: TrifactorSettings) -> pd.DataFrame:
    """Give a row for each subject, those of pairs last.

    Columns: ``subject_id``, ``split``, ``pair`` and ``attribute`` (empty outside pairs), and
    ``like``: number of the row whose chance draws it shares, the first of its pair or itself.
    """
    count, paired = settings.subjects, PAIRED[settings.world]
    order = numpy_generator(settings.seed, "trifactor", "splits").permutation(count)
    split = splits_of(order, settings)
    pairs = [f"p{number:05d}" for number in range(settings.pairs * len(paired))]
    first = count + 2 * np.arange(len(pairs))
    return pd.DataFrame(
        {
            "subject_id": [f"s{number:06d}" for number in range(settings.rows)],
            "split": [*split, *["held_out"] * (2 * len(pairs))],
            "pair": [*[""] * count, *np.repeat(pairs, 2)],
            "attribute": [*[""] * count, *np.repeat(paired, 2 * settings.pairs)],
            "like": np.concatenate([np.arange(count), np.repeat(first, 2)]),
        }
    )


def draw_levels(settings: TrifactorSettings, seats: pd.DataFrame) -> Array:
    """Numbers of the levels of every row, (N, 3) int.

    Ordinary rows show each combination that their split may show equally often on average. A pair
    is two combinations of held_out that differ in its attribute alone, all such equally likely.

    Raises:
        ConfigError: No two combinations of held_out differ in that attribute alone.
    """
    hidden = draw_unseen(settings)
    rng = numpy_generator(settings.seed, "trifactor", "levels")
    levels = np.empty((len(seats), 3), dtype=np.int64)
    ordinary = (seats["pair"] == "").to_numpy()
    last = (seats["split"] == "held_out").to_numpy()
    shown = hidden if hidden.any() else ~hidden
    for rows, allowed in ((ordinary & ~last, ~hidden), (ordinary & last, shown)):
        cells = np.argwhere(allowed)
        levels[rows] = cells[rng.integers(len(cells), size=rows.sum())]
    for axis, name in enumerate(settings.factors):
        paired = np.flatnonzero(seats["attribute"] == name)
        if len(paired):
            found = _apart(shown, axis)
            if not len(found):
                raise ConfigError(
                    f"no two held-out combinations differ in {name} alone",
                    where="simulate trifactor",
                    got=f"{len(np.argwhere(shown))} combinations, levels={settings.level_count}",
                    fix="--set unseen=0, a larger unseen, or more levels",
                )
            pick = numpy_generator(settings.seed, "trifactor", "pairs", name)
            drawn = found[pick.integers(len(found), size=len(paired) // 2)]
            levels[paired] = pick.permuted(drawn, axis=1).reshape(-1, 3)
    return levels


def draw_unseen(settings: TrifactorSettings) -> Array:
    """Combinations that held_out alone shows, (L, L, L) bool; none outside the world of pictures.

    Every level of every factor has as many of them as any other, to within one.
    """
    count = settings.level_count
    hidden = np.zeros((count, count, count), dtype=bool)
    if settings.world != "pictures":
        return hidden
    rng = numpy_generator(settings.seed, "trifactor", "unseen")
    # A diagonal (i, i + a, i + b) has each level of each factor once.
    steps = rng.permutation(count**2)[:, None]
    start = np.arange(count)
    cells = np.stack(
        np.broadcast_arrays(start, start + steps // count, start + steps % count), axis=-1
    ).reshape(-1, 3)
    chosen = cells[: round(settings.unseen * count**3)] % count
    hidden[tuple(chosen.T)] = True
    return hidden


def _apart(shown: Array, axis: int) -> Array:
    """Pairs of shown combinations that differ in one factor alone, (P, 2, 3)."""
    cells = np.argwhere(shown)
    rest = np.delete(cells, axis, axis=1)
    same = (rest[:, None] == rest[None]).all(axis=2)
    return cells[np.argwhere(np.triu(same, 1))]


_WORDS = read_yaml(Path(__file__).with_name("words.yaml"))
LEVELS = {name: tuple(words.split()) for name, words in _WORDS.items()}
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
