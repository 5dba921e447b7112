"""Results by what subjects have, as tables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medmcl.evaluation.metrics.sampled import in_brackets
from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.report.section import Shown, folded
from medmcl.evaluation.report.words import fraction_name, group_value, metric_name, p_shown


def presence_tables(rows: Sequence[PresenceRow]) -> list[Shown]:
    """Two tables: by pattern of modalities, and as if some modalities were not there."""
    made = [
        Shown(
            title="By what subjects have",
            aid="Each method among the subjects with one pattern of modalities, 95 % interval. "
            "These are different people: a pattern may also be harder.",
            header=("task", "target", "method", "metric", "labels", "has", "value", "n", "events",
                    "note"),
            rows=tuple(_as_they_are(row) for row in rows if row.asked == "as they are"),
        ),
        Shown(
            title="As if some modalities were not there",
            aid="The same fitted predictor, the same people: those who have the modality named and "
            "others beside. The difference is to the prediction from all they have, 95 % interval.",
            header=("task", "target", "method", "metric", "labels", "modalities", "value",
                    "difference", "p", "n", "events", "note"),
            rows=tuple(_as_if(row) for row in rows if row.asked == "as if"),
        ),
    ]  # fmt: skip
    return [replace(one, folded=folded(one.rows)) for one in made if one.rows]


def _about(row: PresenceRow) -> tuple[str, ...]:
    return (row.task, row.target, row.method, metric_name(row.metric),
            fraction_name(row.label_fraction), row.modalities, group_value(row))  # fmt: skip


def _as_they_are(row: PresenceRow) -> tuple[str, ...]:
    return (*_about(row), *_counts(row), row.note)


def _as_if(row: PresenceRow) -> tuple[str, ...]:
    ends = (row.difference_low, row.difference_high)
    difference = "-" if row.difference is None else in_brackets(row.difference, *ends, "+")
    return (*_about(row), difference, p_shown(row.p_value), *_counts(row), row.note)


def _counts(row: PresenceRow) -> tuple[str, str]:
    n, events = ("-" if one is None else f"{one:,}" for one in (row.n, row.events))
    return n, events
