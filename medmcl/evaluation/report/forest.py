"""Forests: lines with a name at the left, a value with its interval, and words at the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

from medmcl.evaluation.report.pictures import (
    INK,
    PAGE,
    SMALL,
    TALLEST,
    colour,
    drawing,
    encode,
    head,
    mark,
    model_keys,
    pages,
    shorten,
)

LETTER = 5.4  # points a letter of a label, on average
EDGE = 0.9  # inches of what is around the lines


class Spanned(Protocol):
    """What has a value with an interval."""

    @property
    def value(self) -> float | None:
        """The number; None: not estimable."""

    @property
    def low(self) -> float | None:
        """Lower end."""

    @property
    def high(self) -> float | None:
        """Upper end."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a forest.

    Attributes:
        label: Its name; of a heading all that there is.
        marks: What is drawn on it, beneath one another, each with the number of its look; None
            where there is nothing.
        beside: Words at its right.
        instead: Words in the place of marks.
        is_bold: Whether its name is bold, as that of a heading.
    """

    label: str
    marks: Sequence[tuple[Spanned | None, int]] = ()
    beside: str = ""
    instead: str = ""
    is_bold: bool = False


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Lines on one scale.

    Attributes:
        lines: From the top.
        xlabel: What is measured.
        title: Heading.
        second: A smaller line below it.
        reference: Value of everyone, or of what knows nothing: a line.
        is_gain: Whether values are differences: then the line is full, else dashed.
        beside: Heading of the words at the right.
        span: Ends of the scale; as the values have it if not given.
        line: Inches of a mark.
        gap: Room between lines of several marks, in marks.
        size: Of a marker, in points.
        are_bars: Whether values are shares, drawn as bars, not dots.
        are_indented: Whether names stand at the left, so that an indent is seen.
    """

    lines: Sequence[Line]
    xlabel: str
    title: str = ""
    second: str = ""
    reference: float | None = None
    is_gain: bool = False
    beside: str = ""
    span: tuple[float, float] | None = None
    line: float = 0.2
    gap: float = 0.0
    size: float = 6.0
    are_bars: bool = False
    are_indented: bool = False

    @property
    def steps(self) -> list[float]:
        """Height of each line, in marks."""
        heading = 1.2 if self.gap else 1.0
        return [len(one.marks) + self.gap if one.marks else heading for one in self.lines]

    def parted(self) -> list[Forest]:
        """Give it as forests that each fit a page, parted at headings where that is possible."""
        starts = [k for k, one in enumerate(self.lines) if one.is_bold and not one.marks]
        blocks = [self.lines[a:b] for a, b in pairwise([0, *starts, len(self.lines)]) if a < b]
        found = pages([self.line * len(block) for block in blocks])
        return [replace(self, lines=[one for k in page for one in blocks[k]]) for page in found]

    def height(self) -> float:
        """Inches it takes with its edges, pressed together where it would not fit a page."""
        return min(self.line * sum(self.steps) + EDGE, TALLEST)


def plant(axes: Any, forest: Forest) -> None:
    """Draw a forest."""
    beside: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(), "va": "center_baseline", "fontsize": SMALL,
    }  # fmt: skip
    used, middles = -0.5, []
    for one, step in zip(forest.lines, forest.steps, strict=True):
        middles.append(used + step / 2)
        used += step
        for k, (row, look) in enumerate(one.marks):
            height = middles[-1] + k - (len(one.marks) - 1) / 2
            if row is not None:
                (_bar if forest.are_bars else _dot)(axes, row, height, look, forest.size)
        axes.text(0.02, middles[-1], one.instead, color="#666666", style="italic", **beside)
        axes.text(1.02, middles[-1], one.beside, **beside)
    axes.text(1.02, 1.0, forest.beside, transform=axes.transAxes, va="bottom", fontsize=SMALL,
              color="#444444")  # fmt: skip
    if forest.reference is not None:
        full = {"color": "black"} if forest.is_gain else {"color": "#777777", "linestyle": "--"}
        axes.axvline(forest.reference, linewidth=0.9, **full)
    labels = [one.label for one in forest.lines]
    axes.set_yticks(middles, labels, ha="left" if forest.are_indented else "right")
    pad = LETTER * max(map(len, labels)) + 10 if forest.are_indented else 3.5
    axes.tick_params(axis="y", length=0, pad=pad)
    for label, one in zip(axes.get_yticklabels(), forest.lines, strict=True):
        label.set_fontweight("bold" if one.is_bold else "normal")
    axes.set_ylim(used + 0.1, -0.6)
    axes.set(xlim=forest.span, xlabel=forest.xlabel)
    axes.grid(axis="x")
    if forest.are_bars:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    if forest.second:
        head(axes, forest.title, forest.second)
    else:
        axes.set_title(shorten(forest.title, 70))


def _dot(axes: Any, row: Spanned, place: float, look: int, size: float) -> None:
    """A value with its interval at a height, or the words that there is none."""
    if row.value is None:
        axes.text(0.02, place, "not estimable", transform=axes.get_yaxis_transform(), fontsize=8)
        return
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place] * 2, color=colour(look), linewidth=size / 3)
    axes.plot([row.value], [place], marker=mark(look), color=colour(look), markersize=size,
              linestyle="")  # fmt: skip


def _bar(axes: Any, row: Spanned, place: float, look: int, _: float) -> None:
    """A bar with its interval on it."""
    axes.barh(place, row.value, height=0.62, color=colour(look), alpha=0.75)
    axes.plot([row.low, row.high], [place] * 2, color=INK, linewidth=1.1)


def planted(forests: Sequence[Forest], models: Sequence[str] = ()) -> list[str]:
    """Draw forests under one another, as few images as fit a page each.

    Args:
        forests: From the top.
        models: Names of the marks, in a legend below each image; none without.
    """
    heights, images = [one.height() for one in forests], []
    for page in pages(heights):
        own = [heights[k] for k in page]
        room = 0.3 if models else 0.0
        with drawing(PAGE, min(sum(own) + room, TALLEST), len(own), height_ratios=own) as drawn:
            figure, grid = drawn
            for (axes,), k in zip(grid, page, strict=True):
                plant(axes, forests[k])
            if models:
                model_keys(figure, axes, models, markersize=forests[0].size, linewidth=2)
            images.append(encode(figure))
    return images
