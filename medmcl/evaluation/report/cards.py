"""Records as a person looks at them: cards in rows, with pictures, texts, cells and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from medmcl.core.shown import Shown, ShownCells, ShownImage, ShownSignal
from medmcl.evaluation.report.pictures import shorten
from medmcl.evaluation.report.record_pictures import image_src, is_coarse, signal_src

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
