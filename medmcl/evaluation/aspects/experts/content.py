"""What each expert of a layer takes: words that stand out, and the pieces of signals it is sure of.

Words and pieces come from people. A word is named only if an expert takes it from several subjects,
and pieces are kept only where somebody asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.shown import SHOWN_LEADS
from medmcl.core.suppression import FEWEST_SUBJECTS


@dataclass(frozen=True, kw_only=True)
class TakenWord:
    """A token of text that an expert takes more often than chance would have it.

    Attributes:
        expert: Number of the expert.
        number: Number of the token.
        tokens: How often the expert took it.
        of_expert: Its share of the tokens that the expert takes, 0 to 1.
        of_word: Share of its occurrences that this expert takes, 0 to 1.
        lift: ``of_expert`` over the token's share of all tokens; above 1.
        word: What the number stands for.
    """

    expert: int
    number: int
    tokens: int
    of_expert: float
    of_word: float
    lift: float
    word: str = ""

    def named(self, word: str) -> TakenWord:
        """The same with what its number stands for."""
        return replace(self, word=word)


@dataclass(frozen=True, kw_only=True)
class TakenPiece:
    """A patch of an image, or a stretch of a signal, that an expert takes with a high gate.

    Attributes:
        expert: Number of the expert.
        gate: Its gate, 0 to 1.
        place: Row and column of the patch in the grid of tokens.
        pixels: The patch in the middle of its neighbours: (3h, 3w) or (3h, 3w, 3) in 0 to 1; of a
            signal (leads, 3 samples) in its unit. NaN beyond the edge.
    """

    expert: int
    gate: float
    place: tuple[int, int]
    pixels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ExpertContent:
    """What the experts of one layer take of the rows of one split.

    Attributes:
        stage: The stage whose kept weights routed.
        block: Number of the block of the layer, from 0.
        split: Where the rows are from.
        rows: How many were looked at.
        subjects: How many people they are of.
        shares: Modality to the share of its tokens that each expert takes, (E,).
        gates: Modality to the mean gate with which its tokens are taken; of first choices between
            1/E (even) and 1.
        words: Text modality to its words.
        hidden_words: Text modality to the number of (expert, token) pairs that stand out, but in
            too few people to be named.
        pieces: Modality to its pieces; empty where nobody asked.
        names: Modality to the names of what ``pixels`` has along its first axis (leads).
        left_out: What was asked for and could not be shown, in sentences.
    """

    stage: str
    block: int
    split: str
    rows: int
    subjects: int
    shares: Mapping[str, np.ndarray]
    gates: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, Sequence[TakenWord]] = field(default_factory=dict)
    hidden_words: Mapping[str, int] = field(default_factory=dict)
    pieces: Mapping[str, Sequence[TakenPiece]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def word_rows(self) -> list[dict[str, Any]]:
        """The words as rows of plain values."""
        about = {"stage": self.stage, "block": self.block, "split": self.split}
        return [
            {**about, "modality": name, "expert": one.expert, "word": one.word,
             "tokens": one.tokens, "of_expert": one.of_expert, "of_word": one.of_word,
             "lift": one.lift}
            for name, words in self.words.items()
            for one in words
        ]  # fmt: skip

    def piece_rows(self) -> list[dict[str, Any]]:
        """Gates and places of the pieces as rows of plain values, without what they show."""
        about = {"stage": self.stage, "block": self.block, "split": self.split}
        return [
            {**about, "modality": name, "expert": one.expert, "gate": one.gate,
             "grid_row": one.place[0], "grid_column": one.place[1]}
            for name, pieces in self.pieces.items()
            for one in pieces
        ]  # fmt: skip


def taken_words(
    expert: np.ndarray,
    number: np.ndarray,
    subject: np.ndarray,
    *,
    most: int,
    fewest: int = FEWEST_SUBJECTS,
) -> tuple[list[TakenWord], int]:
    """Find the tokens that stand out with each expert.

    They are ranked by what they add to the mutual information of expert and token number: count
    times log lift.

    Args:
        expert: Who took each token, (N,) int64; below 0: nobody.
        number: Number of the token, (N,) int64.
        subject: Whose text it is in, (N,) int64.
        most: Words an expert.
        fewest: Subjects from whom the expert must take it for it to be named.

    Returns:
        Words, expert after expert, the most telling first; and how many (expert, token) pairs with
        a lift above 1 are of fewer subjects and stay unnamed.
    """
    here = expert >= 0
    expert, number, subject = expert[here], number[here], subject[here]
    if not len(expert):
        return [], 0
    _, own = np.unique(number, return_counts=True)
    word_totals = dict(zip(np.unique(number).tolist(), own.tolist(), strict=True))
    pairs, counts = np.unique(np.stack([expert, number], 1), axis=0, return_counts=True)
    triples = np.unique(np.stack([expert, number, subject], 1), axis=0)[:, :2]
    _, people = np.unique(triples, axis=0, return_counts=True)  # in the order of the pairs
    taken = np.bincount(expert)
    found: dict[int, list[TakenWord]] = {}
    hidden = 0
    for (e, w), count, persons in zip(
        pairs.tolist(), counts.tolist(), people.tolist(), strict=True
    ):
        of_expert = count / taken[e]
        lift = of_expert / (word_totals[w] / len(number))
        if lift <= 1:
            continue
        if persons < fewest:
            hidden += 1
            continue
        found.setdefault(e, []).append(
            TakenWord(expert=e, number=w, tokens=count, of_expert=float(of_expert),
                      of_word=count / word_totals[w], lift=float(lift))
        )  # fmt: skip
    ranked = {
        e: sorted(words, key=lambda one: (-one.tokens * np.log(one.lift), one.number))
        for e, words in sorted(found.items())
    }
    return [one for words in ranked.values() for one in words[:most]], hidden


def surest(
    expert: np.ndarray, gate: np.ndarray, subject: np.ndarray, *, most: int
) -> dict[int, list[tuple[int, int]]]:
    """Find the tokens that each expert takes with the highest gates, one a subject.

    Args:
        expert: Who took each token, (B, T) int64; below 0: nobody.
        gate: With which gate, (B, T).
        subject: Whose row it is, (B,) int64.
        most: Tokens an expert.

    Returns:
        Expert to (row, token), the highest gate first; of equal gates the first row, then token.
    """
    length = expert.shape[1]
    found: dict[int, list[tuple[int, int]]] = {}
    for place in np.argsort(-gate.reshape(-1), kind="stable").tolist():
        row, token = divmod(place, length)
        own = found.setdefault(int(expert[row, token]), [])
        if len(own) < most and all(subject[row] != subject[other] for other, _ in own):
            own.append((row, token))
    return {e: places for e, places in sorted(found.items()) if e >= 0}


COLOUR = ("red", "green", "blue")


def can_cut(shape: InputShape, grid: tuple[int, ...] | None) -> bool:
    """Whether tokens that lie in ``grid`` are patches of a flat image, or stretches of a signal."""
    if grid is None or len(grid) != 2:
        return False
    if shape.is_signal:
        leads, samples = shape.shape
        return leads % grid[0] == 0 and samples % grid[1] == 0
    return shape.is_picture and shape.shape[1] % grid[0] == 0 and shape.shape[2] % grid[1] == 0


def cut(
    x: np.ndarray, shape: InputShape, grid: tuple[int, ...], token: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut a token with a neighbour on every side out of one row of encoder input.

    Args:
        x: The row: (channels, H, W), or (leads, samples).
        shape: What is known of it.
        grid: (rows, columns) of tokens.
        token: Which one.

    Returns:
        Of an image (3h, 3w) or, in colour, (3h, 3w, 3) in 0 to 1, its own darkest and brightest
        hundredth cut off; of several frames the last. Of a signal (leads, 3 samples), and the names
        of its leads. NaN beyond the edge.
    """
    row, column = divmod(token, grid[1])
    if shape.is_signal:
        return _stretch(x, shape.names, grid, row, column)
    in_colour = shape.names == COLOUR
    image = x if in_colour else x[-1:]
    low, high = np.quantile(image, [0.01, 0.99])
    image = np.clip((image - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    height, width = image.shape[0] // grid[0], image.shape[1] // grid[1]
    wide = np.pad(
        image, ((height, height), (width, width), (0, 0)), constant_values=np.nan
    )  # the patch at (r, c) and its neighbours start at (r, c) of this
    piece = wide[row * height : (row + 3) * height, column * width : (column + 3) * width]
    return (piece if in_colour else piece[..., 0]), ()


def _stretch(
    x: np.ndarray, names: tuple[str, ...], grid: tuple[int, ...], row: int, column: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    span, samples = x.shape[0] // grid[0], x.shape[1] // grid[1]
    leads = list(range(row * span, (row + 1) * span))
    if span > len(SHOWN_LEADS):
        named = [lead for lead in leads if names and names[lead] in SHOWN_LEADS]
        leads = (named or leads)[: len(SHOWN_LEADS)]
    wide = np.pad(x[leads], ((0, 0), (samples, samples)), constant_values=np.nan)
    own = tuple(names[lead] for lead in leads) if names else ()
    return wide[:, column * samples : (column + 3) * samples], own
