"""Results by what subjects have, as tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.metrics.sampled import in_brackets
from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import Column, written
from medmcl.evaluation.report.section import Shown

ABOUT: tuple[Column, ...] = ("task", "target", "method", "metric", "labels")


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
