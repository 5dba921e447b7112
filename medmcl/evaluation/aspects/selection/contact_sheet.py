"""The contact sheet of a selection: pairs as a person looks at them, best, borderline and worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from medmcl.core.shown import Shown, ShownCells, ShownImage, ShownSignal
from medmcl.evaluation.aspects.selection.evidence import (
    ROWS,
    RecordView,
    SelectionEvidence,
    ShownPair,
)
from medmcl.evaluation.report.pictures import shorten
from medmcl.evaluation.report.record_pictures import image_src, is_coarse, signal_src

LONGEST_TEXT = 300
"""Characters of a text that are shown."""
MOST_CELLS = 12
SINGLE_PEOPLE = (
    "These are records of single people, shown because somebody asked for them: whoever may not "
    "see the data may not see this page."
)
Look = Literal["kept", "out", "odd", "plain"]
TITLES = {"best": "Best", "borderline": "Borderline", "worst": "Worst"}


@dataclass(frozen=True, kw_only=True)
class Face:
    """A side of a pair on the page: a picture, a text, or cells.

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


@dataclass(frozen=True, kw_only=True)
class Card:
    """A pair on the page.

    Attributes:
        title: Its id.
        state: What is said of it beside its id; may be empty.
        look: ``kept``, ``out``, ``odd`` or ``plain``: how its edge is drawn.
        scores: (name, value as text).
        faces: Pictures first.
    """

    title: str
    state: str
    look: Look
    scores: tuple[tuple[str, str], ...]
    faces: tuple[Face, ...]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of cards.

    Attributes:
        title: What it shows.
        aid: How to read it.
        rows: (name of the row, its cards); a row may be empty.
        columns: So many cards beside one another, 2 to 4.
    """

    title: str
    aid: str
    rows: tuple[tuple[str, tuple[Card, ...]], ...]
    columns: int


def contact_sheet(evidence: SelectionEvidence) -> Sheet | None:
    """Lay out the pairs; None if there are none."""
    if not any(evidence.pairs.values()):
        return None
    contents = _contents(evidence)
    rows = tuple((TITLES[row], tuple(map(_card, evidence.pairs.get(row, ())))) for row in ROWS)
    by = f"score {evidence.sheet_by}" if evidence.sheet_by else "score"
    return Sheet(
        title=f"Pairs to look at, {evidence.name}",
        aid=f"By the {by}: the highest; those nearest to the place where as many pairs as are kept "
        "end, from either side; the lowest. One a person in each row. "
        + scales_said(contents)
        + SINGLE_PEOPLE,
        rows=rows,
        columns=columns_for(contents, max(len(cards) for _, cards in rows)),
    )


def _contents(evidence: SelectionEvidence) -> list[Shown]:
    pairs = [pair for row in evidence.pairs.values() for pair in row]
    return [side.content for pair in pairs for side in pair.sides]


def columns_for(contents: Sequence[Shown], most: int) -> int:
    """So many cards beside one another, of rows of at most ``most``: signals need half the page."""
    wide = any(isinstance(content, ShownSignal) for content in contents)
    return 2 if wide else 4 if most in (4, 7, 8) else 3


def scales_said(contents: Sequence[Shown]) -> str:
    """How images and signals are drawn, of the kinds that are there."""
    kinds = {type(content) for content in contents}
    own = any(isinstance(one, ShownImage) and one.window is None for one in contents)
    images = "Each image has its own window, its 1st to 99th percentile. " if own else ""
    signals = (
        "ECGs are in the proportion of 25 mm/s to 10 mm/mV: a large square is 0.2 s by 0.5 mV. "
    )
    return images + (signals if ShownSignal in kinds else "")


def _card(pair: ShownPair) -> Card:
    return Card(
        title=shorten(pair.id, 40),
        state="kept" if pair.kept else "not kept",
        look="kept" if pair.kept else "out",
        scores=scores_said(pair.scores),
        faces=faces_of(pair.sides),
    )


def faces_of(sides: Sequence[RecordView]) -> tuple[Face, ...]:
    """Draw the records of a pair: pictures first, then texts, then cells."""
    faces = [_face(side) for side in sides]
    faces.sort(key=lambda face: (not face.src, not face.text))
    return tuple(faces)


def scores_said(scores: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Names and values of scores as text."""
    return tuple((shorten(name, 40), f"{value:.4g}") for name, value in scores.items())


def _face(side: RecordView) -> Face:
    found = side.content
    if isinstance(found, ShownImage):
        rows, columns = found.pixels.shape[:2]
        alt = f"{side.name}: {columns} by {rows} pixels"
        return Face(name=side.name, src=image_src(found), alt=alt, note=found.note,
                    coarse=is_coarse(found))  # fmt: skip
    if isinstance(found, ShownSignal):
        src, scale = signal_src(found)
        seconds = found.values_mv.shape[1] / found.rate_hz
        alt = f"{side.name}: leads {', '.join(found.leads)}, {seconds:.3g} s"
        note = "; ".join(part for part in (found.note, scale) if part)
        return Face(name=side.name, src=src, alt=alt, note=note, wide=True)
    if isinstance(found, ShownCells):
        more = len(found.cells) - MOST_CELLS
        notes = [found.note, f"{more} more are not shown" if more > 0 else ""]
        return Face(name=side.name, cells=found.cells[:MOST_CELLS],
                    note="; ".join(note for note in notes if note))  # fmt: skip
    return Face(name=side.name, text=cut_text(found) or "(an empty text)")


def cut_text(text: str, most: int = LONGEST_TEXT) -> str:
    """A text with single spaces, its lines kept, cut with an ellipsis at the end of a word."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    plain = "\n".join(line for line in lines if line)
    if len(plain) <= most:
        return plain
    start = plain[: most - 1]
    words = start.rsplit(maxsplit=1)[0]
    return f"{words if len(words) > most // 2 else start}…"
