"""How a figure of the report is drawn and carried: style, colours, and a self-contained picture."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmcl.core.config import read_yaml
from medmcl.evaluation.report.captions import Caption
from medmcl.evaluation.report.words import listed

# Okabe & Ito 2008: told apart under every common colour blindness, and in grey by lightness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
HATCHES = ("", "///", "...", "xxx", "---", "\\\\\\")  # of bars, beside colour
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = (  # beside colour, which not all see: as many as there are colours
    "-", "--", "-.", ":",
    (0, (5, 1, 1, 1, 1, 1)), (0, (4, 4)), (0, (1, 4)), (0, (9, 2, 3, 2)),
)  # fmt: skip
INK, FAINT = "#222222", "#D9D9D9"
COLUMN, PAGE = 3.35, 7.1  # inches: 85 mm and 180 mm, the widths that journals print
TALLEST = 8.4  # inches: what fits a printed page with its heading and reading aid
DPI = 200  # of pictures of pixels
SMALL = 8.0  # points: the smallest text, at the width a figure is drawn for
MOST_SAID = 8  # numbers that a screen reader says of a figure; all are in its table

STYLE = read_yaml(Path(__file__).with_name("style.yaml"))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its reading aid and the table of what it shows.

    Attributes:
        title: What it shows, in a few words.
        aid: One line on how to read it.
        src: The image as a data address, nothing outside the file.
        alt: What a screen reader says: what is drawn, and the main numbers.
        header: Columns of the table behind it.
        rows: Cells of that table, as text.
        further: More images of the same figure, where one would not fit a page.
        narrow: Drawn for one column of print (85 mm), else for the page (180 mm).
    """

    title: str
    aid: str
    src: str
    alt: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    narrow: bool = False
    further: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        drawn: Any,
        called: Caption,
        *,
        said: Sequence[str],
        header: tuple[str, ...],
        rows: Iterable[Sequence[object]],
        narrow: bool = False,
        raster: bool = False,
    ) -> Picture:
        """Make one of a figure, or of the images that a long one was parted into.

        Args:
            drawn: The figure, while it is drawn (`drawing`); or a list of what `encode` gave.
            called: What it shows, how to read it, and what a screen reader says first.
            said: Its main numbers, for a screen reader.
            header: Columns of the table behind it.
            rows: Its cells; whatever they are, they are shown as text.
            narrow: Whether it is drawn for one column of print.
            raster: Whether it has so many points that pixels are smaller than lines.
        """
        first, *more = drawn if isinstance(drawn, list) else [encode(drawn, raster=raster)]
        cells = tuple(tuple(str(cell) for cell in row) for row in rows)
        return cls(title=called["title"], aid=called["aid"], src=first,
                   alt=spoken(called["lead"], said), header=header, rows=cells, narrow=narrow,
                   further=tuple(more))  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, leaving matplotlib's own settings as they were."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> Any:
    """Make a figure and its axes without pyplot; ``axes`` is always a (rows, columns) array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


@contextmanager
def drawing(
    width: float, height: float, rows: int = 1, columns: int = 1, **more: Any
) -> Iterator[tuple[Any, Any]]:
    """Give the figure and axes of `canvas` to draw on, in the report's style."""
    with style():
        yield canvas(width, height, rows, columns, **more)


@contextmanager
def small_multiples(
    count: int, height: float, most: int = 3, width: float = PAGE, strip: float = 0.0, **more: Any
) -> Iterator[tuple[Any, list[Any]]]:
    """Give a figure and its panels, of some height in inches, less where all would not fit a page.

    Args:
        count: Panels.
        height: Of a panel.
        most: Panels beside one another.
        width: Of the figure.
        strip: Height of a second, lower axis in each panel; 0: there is none.
        more: As of `canvas`.

    Yields:
        Figure, and the axes of each panel (with a strip a pair of them).
    """
    columns = min(most, count)
    lines = -(-count // columns)
    height = min(height, TALLEST / lines - strip)
    tall = [height, strip] if strip else [height]
    with drawing(width, lines * (height + strip), len(tall) * lines, columns,
                 height_ratios=tall * lines, **more) as (figure, grid):  # fmt: skip
        parts = [grid[k :: len(tall)].flat for k in range(len(tall))]
        for spare in (axes for part in parts for axes in part[count:]):
            spare.axis("off")
        yield figure, list(zip(*parts, strict=True) if strip else parts[0])[:count]


def model_keys(figure: Any, axes: Any, models: Sequence[str], **look: Any) -> None:
    """Put the mark of each model in one legend below; ``look``: of the marks, as matplotlib's."""
    names = distinct(models)
    marks = [
        axes.plot([], [], marker=mark(k), color=colour(k), **look)[0] for k in range(len(models))
    ]
    figure.legend(marks, [names[one] for one in models], loc="outside lower left", ncols=3)


def head(axes: Any, title: str, second: str, most: int = 36) -> None:
    """Write the title of a panel with a smaller second line, clear of what is drawn."""
    lines = second.count("\n") + 1
    axes.set_title(shorten(title, most) + lines * "\n", fontsize=9)
    axes.text(0, 1.03, second, transform=axes.transAxes, fontsize=SMALL, color="#444444")


def legend_below(figure: Any, columns: int = 4, **look: Any) -> None:
    """Put one legend below all axes, clear of what they show; the same name stands once.

    Args:
        figure: What is labelled in it is named.
        columns: Names beside one another, on a figure of one column of print one.
        look: Of the legend, as matplotlib's.
    """
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        names = distinct(list(named), 38)
        wide = figure.get_size_inches()[0] > COLUMN
        figure.legend(list(named.values()), [names[one] for one in named],
                      loc="outside lower left", ncols=columns if wide else 1,
                      **{"fontsize": 8.5, "handlelength": 2.6, **look})  # fmt: skip


def encode(figure: Any, *, raster: bool = False) -> str:
    """Give the figure as a data address: SVG, or PNG where there are many points.

    ``Figure.savefig`` draws twice, first without output, so that the layout is known; here the
    layout is asked for, and the figure is drawn once.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas = FigureCanvasAgg(figure) if raster else FigureCanvasSVG(figure)
    figure.set_dpi(DPI)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    figure.set_dpi(DPI)  # of pixels within the file: an SVG was laid out in points
    buffer = io.BytesIO()
    if raster:
        canvas.print_png(buffer, metadata={"Software": None})
    else:
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    mime = "image/png" if raster else "image/svg+xml"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def colour(position: int) -> str:
    """Colour number ``position``, around again after the last."""
    return COLOURS[position % len(COLOURS)]


def mark(position: int) -> str:
    """Marker number ``position``; where colours start again, markers are shifted against them."""
    return MARKERS[(position + position // len(COLOURS)) % len(MARKERS)]


def number(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:z.{digits}f}"


def shorten(text: object, most: int = 34) -> str:
    """Cut long names in their middle, so that labels stay inside the figure and tell apart."""
    plain = " ".join(str(text).split())
    if len(plain) <= most:
        return plain
    tail = (most - 1) * 2 // 5
    return f"{plain[: most - 1 - tail]}…{plain[len(plain) - tail :]}"


def distinct(names: Sequence[str], most: int = 34) -> dict[str, str]:
    """Give each name its own short label; those that would look alike are numbered."""
    labels: dict[str, str] = {}
    for name in names:
        label, number = shorten(name, most), 2
        while label in labels.values():
            label = f"{shorten(name, most - 4)} ({number})"
            number += 1
        labels[name] = label
    return labels


def spoken(lead: str, parts: Sequence[str]) -> str:
    """What a screen reader says: what is drawn, then its main numbers."""
    return f"{lead}. {listed(parts, MOST_SAID, '; ')}." if parts else f"{lead}."


def pages(heights: Sequence[float]) -> list[range]:
    """Part panels of some heights, in inches, into images that each fit a printed page."""
    parts: list[range] = []
    first, used = 0, 0.0
    for place, height in enumerate(heights):
        if used and used + height > TALLEST:
            parts.append(range(first, place))
            first, used = place, 0.0
        used += height
    return [*parts, range(first, len(heights))]
