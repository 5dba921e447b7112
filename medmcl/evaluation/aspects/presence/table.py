"""Results by what subjects have, as tables of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.metrics.sampled import in_brackets
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import Column, written
from medmcl.evaluation.report.section import Section, Shown

ABOUT: tuple[Column, ...] = ("task", "target", "method", "metric", "labels")


def sections(data: Evaluation) -> Iterator[Section]:
    """The headline of every method, by what people have."""
    yield Section.of("presence", "By modalities present", short="By modalities",
                     part="For whom", tables=presence_tables(data.presence))  # fmt: skip


def files(data: Evaluation) -> dict[str, Rows]:
    """The rows of the tables."""
    return {"presence": [asdict(row) for row in data.presence]}


def presence_tables(rows: Sequence[PresenceRow]) -> list[Shown]:
    """Two tables: by pattern of modalities, and as if some modalities were not there."""
    parts = {
        asked: [row for row in rows if row.asked == asked] for asked in ("as they are", "as if")
    }
    return [
        Shown.of(
            caption(__file__, "as_they_are"),
            written(parts["as they are"], *ABOUT, ("has", "modalities"), ("value", "shown"), "n",
                    "events", "note"),
        ),
        Shown.of(
            caption(__file__, "as_if"),
            written(parts["as if"], *ABOUT, "modalities", ("value", "shown"),
                    ("difference", _difference), "p", "n", "events", "note"),
        ),
    ]  # fmt: skip


def _difference(row: PresenceRow) -> str:
    ends = (row.difference_low, row.difference_high)
    return "-" if row.difference is None else in_brackets(row.difference, *ends, "+")
