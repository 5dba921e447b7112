"""Records as a person looks at them: cards in rows, with pictures, texts, cells and scores."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from medmcl.core.shown import Shown, ShownCells, ShownImage, ShownSignal
from medmcl.evaluation.report.pictures import INK, SMALL, drawing, encode, shorten

LONGEST_TEXT = 300
"""Characters of a text that are shown."""
MOST_CELLS = 12
SINGLE_PEOPLE = (
    "These are records of single people, shown because somebody asked for them: whoever may not "
    "see the data may not see this page."
)
PAPER = "ECGs are in the proportion of 25 mm/s to 10 mm/mV: a large square is 0.2 s by 0.5 mV. "
WINDOWS = "Each image has its own window, its 1st to 99th percentile. "

Look = Literal["kept", "out", "odd", "plain"]
"""How the edge of a card is drawn."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """A record on the page: a picture, a text, or cells.

    Attributes:
        name: The modality.
        note: A line below it, empty if there is none.
        src: Picture as a data address; empty without.
        alt: What a screen reader says of the picture.
        coarse: Whether its pixels are shown as squares.
        wide: Whether it needs half the page.
        text: Text; empty without.
        cells: (name, value).
    """

    name: str
    note: str = ""
    src: str = ""
    alt: str = ""
    coarse: bool = False
    wide: bool = False
    text: str = ""
    cells: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordView:
    """One modality's record of a sample.

    Attributes:
        name: The modality.
        content: What is looked at.
    """

    name: str
    content: Shown

    @property
    def face(self) -> Face:
        """The record as it is drawn."""
        found, name = self.content, self.name
        if isinstance(found, ShownImage):
            rows, columns = found.pixels.shape[:2]
            return Face(name=name, src=image_src(found), note=found.note, coarse=is_coarse(found),
                        alt=f"{name}: {columns} by {rows} pixels")  # fmt: skip
        if isinstance(found, ShownSignal):
            src, scale = signal_src(found)
            seconds = found.values_mv.shape[1] / found.rate_hz
            return Face(name=name, src=src, wide=True,
                        alt=f"{name}: leads {', '.join(found.leads)}, {seconds:.3g} s",
                        note="; ".join(part for part in (found.note, scale) if part))  # fmt: skip
        if isinstance(found, ShownCells):
            more = len(found.cells) - MOST_CELLS
            notes = (found.note, f"{more} more are not shown" if more > 0 else "")
            return Face(name=name, cells=found.cells[:MOST_CELLS],
                        note="; ".join(note for note in notes if note))  # fmt: skip
        return Face(name=name, text=cut_text(found) or "(an empty text)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """A sample to look at.

    Attributes:
        id: The sample.
        state: What is said of it beside its id; may be empty.
        look: How its edge is drawn.
        numbers: Name to score, or to what else is said of it in numbers.
        sides: Its records.
        rank: Its place where cards are in order, from 1; 0: none is said.
    """

    id: str
    state: str
    look: Look
    sides: tuple[RecordView, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)
    rank: int = 0

    @property
    def title(self) -> str:
        """Its id, after its rank if it has one."""
        return f"{self.rank}. {shorten(self.id)}" if self.rank else shorten(self.id, 40)

    @property
    def scores(self) -> tuple[tuple[str, str], ...]:
        """Names and values of its numbers as text."""
        return tuple((shorten(name, 40), f"{value:.4g}") for name, value in self.numbers.items())

    @property
    def faces(self) -> list[Face]:
        """Its records as they are drawn: pictures first, then texts, then cells."""
        return sorted((s.face for s in self.sides), key=lambda one: (not one.src, not one.text))


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of cards.

    Attributes:
        title: What it shows.
        order: How to read it: which cards there are, in which order.
        rows: Name of a row to its cells; a row may be empty.
    """

    title: str
    order: str
    rows: Mapping[str, Sequence[Card]]

    @property
    def _contents(self) -> list[Shown]:
        cards = [card for row in self.rows.values() for card in row]
        return [side.content for card in cards for side in card.sides]

    @property
    def aid(self) -> str:
        """How to read it, with how images and signals are drawn, of the kinds that are there."""
        found = self._contents
        own = any(isinstance(one, ShownImage) and one.window is None for one in found)
        signals = any(isinstance(one, ShownSignal) for one in found)
        drawn = (WINDOWS if own else "") + (PAPER if signals else "")
        return f"{self.order} {drawn}{SINGLE_PEOPLE}"

    @property
    def columns(self) -> int:
        """So many cards beside one another: signals need half the page."""
        if any(isinstance(one, ShownSignal) for one in self._contents):
            return 2
        return 4 if max(map(len, self.rows.values())) in (4, 7, 8) else 3


def cut_text(text: str, most: int = LONGEST_TEXT) -> str:
    """A text with single spaces, its lines kept, cut with an ellipsis at the end of a word."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    plain = "\n".join(line for line in lines if line)
    if len(plain) <= most:
        return plain
    start = plain[: most - 1]
    words = start.rsplit(maxsplit=1)[0]
    return f"{words if len(words) > most // 2 else start}…"


LONGEST = 420
"""Pixels along the longer side of an image: larger ones are made smaller."""
COARSE = 128
"""Pixels along the longer side below which a page shows the pixels as squares."""
WIDTH = 4.3  # inches of an ECG
PRINTED = 25 / 10  # mm a second over mm a mV: how ECGs are printed
MOST_HIGH = 3.4  # inches; a taller trace is pressed together, and its caption says so
LANE_MV = 1.0  # a lead has this much room or more
GAP_MV = 0.45  # between leads


def windowed(pixels: np.ndarray) -> np.ndarray:
    """Scale to 0 to 1, the darkest and the brightest hundredth cut off; NaN is 0."""
    pixels = np.asarray(pixels, dtype=np.float64)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape)
    low, high = np.quantile(finite, [0.01, 0.99])
    if high <= low:  # a small bright shape on nothing
        low, high = finite.min(), finite.max()
    return np.clip((np.nan_to_num(pixels, nan=low) - low) / max(high - low, 1e-9), 0, 1)


def image_src(image: ShownImage) -> str:
    """The image as a PNG data address, with square pixels."""
    from PIL import Image

    if image.window is None:
        shown = windowed(image.pixels)
    else:
        low, high = image.window
        shown = np.clip((np.nan_to_num(image.pixels, nan=low) - low) / (high - low), 0, 1)
    grey = np.round(shown * 255).astype(np.uint8)
    rows, columns = grey.shape[0] * image.aspect, float(grey.shape[1])
    factor = min(1.0, LONGEST / max(rows, columns))
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    picture = Image.fromarray(grey)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def is_coarse(image: ShownImage) -> bool:
    """Whether an image has so few pixels that they are shown as squares."""
    return max(image.pixels.shape[:2]) < COARSE


def signal_src(signal: ShownSignal) -> tuple[str, str]:
    """Draw leads under one another over a grid of 0.2 s and 0.5 mV.

    Returns:
        SVG data address; and what is odd about its scale, empty if nothing.
    """
    seconds = signal.values_mv.shape[1] / signal.rate_hz
    lanes = [_lane(row) for row in signal.values_mv]
    height_mv = sum(up + down + GAP_MV for down, up in lanes)
    wanted = WIDTH / seconds / PRINTED * height_mv
    height = min(wanted, MOST_HIGH)
    said = "" if height == wanted else f"amplitudes at {height / wanted:.0%} of that"
    with drawing(WIDTH, height) as (figure, ((axes,),)):
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        _grid(axes, seconds, height_mv)
        times = np.arange(signal.values_mv.shape[1]) / signal.rate_hz
        top = height_mv
        for row, lead, (down, up) in zip(signal.values_mv, signal.leads, lanes, strict=True):
            level = top - GAP_MV / 2 - up
            axes.plot(times, row + level - _middle(row), color=INK, linewidth=0.75)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}
            axes.text(0.006 * seconds, top - 0.04 * height_mv / len(lanes), lead, va="top",
                      fontsize=SMALL, fontweight="bold", bbox=box)  # fmt: skip
            top -= up + down + GAP_MV
        return encode(figure), said


def _middle(row: np.ndarray) -> float:
    finite = row[np.isfinite(row)]
    return float(np.median(finite)) if finite.size else 0.0


def _lane(row: np.ndarray) -> tuple[float, float]:
    """Room of a lead below and above its median, in mV."""
    finite = row[np.isfinite(row)]
    if not finite.size:
        return LANE_MV / 2, LANE_MV / 2
    down = float(np.median(finite) - finite.min())
    up = float(finite.max() - np.median(finite))
    spare = max(0.0, LANE_MV - down - up) / 2
    return down + spare, up + spare


def _grid(axes: Any, seconds: float, height_mv: float) -> None:
    """Lines as on paper; small squares only where they can be told apart."""
    axes.set(xlim=(0, seconds), ylim=(0, height_mv), xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor("#FFFCFB")
    steps = [(0.2, 0.5, "#F0BDB6", 0.5)]
    if seconds <= 6 and height_mv <= 20:
        steps.insert(0, (0.04, 0.1, "#FAE3DF", 0.3))
    for second, mv, look, width in steps:
        across = np.arange(0, seconds + 1e-9, second)
        along = np.arange(0, height_mv + 1e-9, mv) if height_mv <= 60 else np.zeros(1)
        axes.vlines(across, 0, height_mv, color=look, linewidth=width)
        axes.hlines(along, 0, seconds, color=look, linewidth=width)
