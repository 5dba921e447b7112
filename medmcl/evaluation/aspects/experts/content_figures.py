"""Figures of what experts take: the words that stand out with each, and their surest patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.aspects.experts.content import ExpertContent, TakenPiece, TakenWord
from medmcl.evaluation.aspects.experts.lines import against_even
from medmcl.evaluation.report.pictures import (
    COLOURS,
    PAGE,
    TALLEST,
    Picture,
    colour,
    drawing,
    number,
    shorten,
    small_multiples,
)
from medmcl.evaluation.report.words import listed

MOST_EXPERTS = 12  # drawn; words of all are in the table
COLUMNS = 3  # panels of words beside one another
MOST_PIECES = 8  # of an expert, beside one another

SIGNS = (
    " ▁ marks the start of a word, ## a piece of one; <cls> and <end> are the start and end of a "
    "text, <unk> is a word without a number."
)


def content_pictures(content: ExpertContent) -> list[Picture]:
    """Draw the words and the pieces of each modality."""
    words = [_words(content, name) for name, found in content.words.items() if found]
    pieces = [_pieces(content, name) for name, found in content.pieces.items() if found]
    return [*words, *pieces]


def _most(content: ExpertContent, modality: str, found: Sequence[int]) -> list[int]:
    """The experts that take most of a modality, of those that have something to show."""
    shares = content.shares[modality]
    ranked = sorted(set(found), key=lambda e: (-shares[e], e))[:MOST_EXPERTS]
    return sorted(ranked)


def _rest(found: Sequence[int], drawn: Sequence[int]) -> str:
    more = len(set(found)) - len(drawn)
    return f" {more} more experts, which take less, are in the table only." if more else ""


def _about(content: ExpertContent) -> str:
    return f"block {content.block} of stage {content.stage}"


def _looked_at(content: ExpertContent) -> str:
    return f"{content.rows:,} samples of the {content.split} split"


def _wordless(content: ExpertContent, modality: str, found: Sequence[int]) -> str:
    """Name the experts that have no word to show."""
    lacking = [str(e) for e in range(len(content.shares[modality])) if e not in found]
    return f" Without any word: expert {listed(lacking, MOST_EXPERTS)}." if lacking else ""


def _decided(content: ExpertContent, modality: str, what: str, gate: float | None = None) -> str:
    """Say how far gates are from even ones; nothing where they were not kept."""
    gate = content.gates.get(modality) if gate is None else gate
    experts = len(content.shares[modality])
    return "" if gate is None else " " + against_even(what, gate, experts)


def _words(content: ExpertContent, modality: str) -> Picture:
    found = content.words[modality]
    every = [one.expert for one in found]
    experts = _most(content, modality, every)
    longest = max(every.count(e) for e in experts)
    hidden = content.hidden_words.get(modality, 0)
    with small_multiples(len(experts), 0.45 + 0.17 * longest, COLUMNS) as (figure, grid):
        for axes, expert in zip(grid.flat, experts, strict=False):
            own = [one for one in found if one.expert == expert]
            _panel(axes, own, longest, f"expert {expert}: {content.shares[modality][expert]:.0%}")
        return Picture.of(
            figure,
            title=f"Words of {modality} that stand out with each expert, {_about(content)}",
            aid="Beside the expert, its share of all tokens. Words that it takes more often than "
            "others do, the most telling first; the bar is the share of a word's occurrences that "
            f"go to it. {_looked_at(content)}; a word counts once for each token, start and end of "
            f"a text are tokens too. Not named: {hidden:,} pairs of expert and word from fewer "
            f"than {FEWEST_SUBJECTS} people." + _wordless(content, modality, every) + SIGNS
            + _decided(content, modality, "The mean gate of all tokens")
            + _rest(every, experts),
            lead="Words by expert",
            said=[_said(found, expert) for expert in experts],
            header=("expert", "word", "taken", "share of the expert's tokens",
                    "share of the word's occurrences", "lift"),
            rows=[
                (one.expert, one.word, one.tokens, f"{one.of_expert:.1%}", f"{one.of_word:.1%}",
                 number(one.lift, 1)) for one in found
            ],
        )  # fmt: skip


def _panel(axes: Any, words: Sequence[TakenWord], longest: int, title: str) -> None:
    places = np.arange(len(words))
    axes.barh(places, [1.0] * len(words), color="#F0F0F0", height=0.72)
    axes.barh(places, [one.of_word for one in words], color=COLOURS[5], height=0.72)
    for place, one in enumerate(words):
        axes.text(0.02, place, shorten(one.word, 22), va="center", fontsize=8)
        axes.text(1.02, place, f"{one.of_word:.0%}", va="center", fontsize=8, color="#555555")
    axes.set(xlim=(0, 1.2), ylim=(longest - 0.4, -0.6), xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    for side in axes.spines.values():
        side.set_visible(False)


def _said(found: Sequence[TakenWord], expert: int) -> str:
    own = [one for one in found if one.expert == expert][:3]
    return f"expert {expert}: " + ", ".join(f"{one.word} {one.of_word:.0%}" for one in own)


def _pieces(content: ExpertContent, modality: str) -> Picture:
    found = content.pieces[modality]
    every = [one.expert for one in found]
    experts = _most(content, modality, every)
    is_signal = bool(content.names.get(modality))
    most = max(every.count(e) for e in experts)
    columns = min(MOST_PIECES, most) if is_signal else MOST_PIECES  # patches keep their size
    side = min(0.62, (TALLEST - 0.3) / len(experts))
    what = "Stretches" if is_signal else "Patches"
    leads = f" Leads, from above: {', '.join(content.names[modality])}." if is_signal else ""
    box = "In colour" if is_signal else "In the frame"
    mean = float(np.mean([one.gate for one in found]))
    span = _span(found) if is_signal else 0.0
    height = 0.3 + side * len(experts)
    with drawing(PAGE, height, len(experts), columns) as (figure, grid):
        for axes in grid.flat:
            axes.axis("off")
        for line, expert in zip(grid, experts, strict=True):
            own = [one for one in found if one.expert == expert][:columns]
            for axes, one in zip(line, own, strict=False):
                _trace(axes, one, span) if is_signal else _crop(axes, one)
            share = content.shares[modality][expert]
            line[0].text(-0.12, 0.5, f"expert {expert}\n{share:.0%}", ha="right", va="center",
                         transform=line[0].transAxes, fontsize=8)  # fmt: skip
        return Picture.of(
            figure,
            title=f"{what} of {modality} that each expert takes most surely, {_about(content)}",
            aid=f"{box}, one token, with its neighbours around it; the highest gates first, one a "
            f"person, of {_looked_at(content)}. Under the expert's number, its share of all tokens "
            f"of {modality}.{leads}"
            + _decided(content, modality, "The mean gate of those shown", mean)
            + " These are pieces of single people's records, shown because the recipe asks for "
            "them (experts.shown_pieces)." + _rest(every, experts),
            lead=f"{what} by expert",
            said=[
                f"expert {e}: gates {number(max(gates), 2)} to {number(min(gates), 2)}"
                for e in experts
                if (gates := [one.gate for one in found if one.expert == e])
            ],
            header=("expert", "gate", "row of the grid", "column of the grid"),
            rows=[(one.expert, number(one.gate), *one.place) for one in found],
            raster=not is_signal,
        )


def _crop(axes: Any, one: TakenPiece) -> None:
    """The patch framed among its neighbours; white beyond the edge of the image."""
    pixels = np.where(np.isfinite(one.pixels), one.pixels, 1.0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    height, width = pixels.shape[0] / 3, pixels.shape[1] / 3
    x, y = width - 0.5, height - 0.5
    axes.plot([x, x + width, x + width, x, x], [y, y, y + height, y + height, y],
              color=colour(1), linewidth=1.1)  # fmt: skip


def _span(found: Sequence[TakenPiece]) -> float:
    """Distance between the leads of a stretch: what nearly all of them keep within."""
    sizes = [np.nanmax(one.pixels, axis=1) - np.nanmin(one.pixels, axis=1) for one in found]
    return max(1e-9, float(np.quantile(np.concatenate(sizes), 0.9)))


def _trace(axes: Any, one: TakenPiece, span: float) -> None:
    """The stretch in colour between its neighbours, lead under lead on one scale."""
    samples = one.pixels.shape[1] // 3
    inner = slice(samples, 2 * samples)
    for place, lead in enumerate(one.pixels):
        level = lead - np.nanmedian(lead) - place * span
        axes.plot(np.arange(3 * samples), level, color="#B5B5B5", linewidth=0.7)
        axes.plot(np.arange(3 * samples)[inner], level[inner], color=COLOURS[0], linewidth=0.9)
    axes.set_ylim(-span * (len(one.pixels) - 0.2), span * 0.9)
