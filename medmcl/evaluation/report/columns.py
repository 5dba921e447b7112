"""How rows of numbers are written in a table: a column is told by its heading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypedDict

from medmcl.evaluation.protocol.results import WHOLES
from medmcl.evaluation.report.labelled import share_of
from medmcl.evaluation.report.pictures import number
from medmcl.evaluation.report.words import (
    counts_shown,
    fraction_name,
    measured,
    metric_name,
    p_shown,
    rows_shown,
    verdict,
)

VALUE = "value (95 % interval)"
Column = str | tuple[str, str | Callable[[Any], object]]
"""A heading of `WRITTEN`, or of a field as it is; or another heading with the field or writer."""


class Cells(TypedDict):
    """A table as text: what a figure or table of the page is made with."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def counted(name: str) -> Callable[[Any], str]:
    """Write a field that counts; a dash where it is held back or has no meaning."""

    def write(row: Any) -> str:
        count = getattr(row, name)
        return "-" if count is None else f"{count:,}"

    return write


def rounded(name: str, digits: int = 3) -> Callable[[Any], str]:
    """Write a field with so many digits; a dash where there is none."""
    return lambda row: number(getattr(row, name), digits)


def short(name: str) -> Callable[[Any], str]:
    """Write a field to four figures; a dash where there is none."""
    return lambda row: "-" if getattr(row, name) is None else f"{getattr(row, name):.4g}"


WRITTEN: Mapping[str, str | Callable[[Any], object]] = {
    VALUE: "shown",
    "metric": lambda row: metric_name(row.metric),
    "protocol": lambda row: row.protocol.replace("_", " "),
    "labels": lambda row: fraction_name(row.label_fraction),
    "difference": lambda row: f"{row.method} minus {row.versus}",
    "reading": lambda row: verdict(row).removeprefix(", "),
    "p": lambda row: p_shown(row.p_value),
    "by": "attribute",
    "n": lambda row: "-" if row.n is None else rows_shown(row.n, vars(row).get("subjects")),
    "events": lambda row: counted("events")(row) + _of_several(row),
    "subjects": counted("subjects"),
    "n (events)": lambda row: counts_shown(row.n, row.events, row.target, row.subjects),
    "spread over seeds": lambda row: (
        "-" if row.seed_spread is None else f"{row.seed_spread:.3f} ({row.seeds})"
    ),
}
"""Heading to the field of a row, or to what writes it, where that is not the field of its name."""
MEASURED: Column = ("metric", lambda row: measured(row.metric, row.target))
SHARE: Column = ("labels", lambda row: share_of([row]))


def _of_several(row: Any) -> str:
    """What events of a mean over targets are: their sum, so that a person may count twice."""
    return " over targets" if row.events and vars(row).get("target") in WHOLES else ""


def _text(row: Any, how: str | Callable[[Any], object]) -> str:
    found = getattr(row, how) if isinstance(how, str) else how(row)
    return "" if found is None else str(found)


def pivoted(rows: Iterable[Any], by: Sequence[str]) -> list[dict[str, Any]]:
    """Put rows that agree in some fields on one line.

    Args:
        rows: Results.
        by: Fields that tell lines apart.

    Returns:
        A line: the fields of its first row, and every row by its metric.
    """
    lines: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(tuple(getattr(row, name) for name in by), dict(vars(row)))
        line[row.metric] = row
    return list(lines.values())


def cell_of(name: str) -> Callable[[Any], str]:
    """Write the value of one row of a pivoted line; nothing where it has none of that name."""
    return lambda line: "" if getattr(line, name) is None else getattr(line, name).shown


class _Plain(SimpleNamespace):
    """A row of plain values: what it has not is None."""

    def __getattr__(self, name: str) -> None:
        return None


def written(rows: Iterable[Any], *columns: Column) -> Cells:
    """Write rows under headings.

    Args:
        rows: Results, evidence, or rows of plain values (`Mapping`).
        columns: In their order.
    """
    pairs = [(one, WRITTEN.get(one, one)) if isinstance(one, str) else one for one in columns]
    told = (_Plain(**row) if isinstance(row, Mapping) else row for row in rows)
    return Cells(
        header=tuple(heading for heading, _ in pairs),
        rows=tuple(tuple(_text(row, how) for _, how in pairs) for row in told),
    )
