"""How many labelled people, and events among them, a share of the labels is."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.core.suppression import few
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.words import fraction_name


def people_of(rows: Sequence[Result]) -> str:
    """Give ``" (43 people, 9 events)"``, ``" (40 to 43 people)"`` where rows differ, or nothing.

    Of a share of the labels also ``; tuned on 60``: people who chose settings, all of them.
    """
    people = sorted({row.train_subjects for row in rows if row.train_subjects})
    events = sorted({row.train_events for row in rows if row.train_events is not None})
    if not people:
        return ""
    said = [f"{_span(people)} people", *([f"{_span(events)} events"] if events else [])]
    chosen = sorted({n for row in rows if row.label_fraction < 1 and (n := row.tuning_subjects)})
    return f" ({', '.join(said)}{f'; tuned on {_span(chosen)}' if chosen else ''})"


def share_of(rows: Sequence[Result]) -> str:
    """Give ``1 % labels (43 people, 9 events)`` of rows at one share; ``no labels`` where none."""
    if all(row.train_subjects == 0 for row in rows):
        return "no labels"
    return fraction_name(rows[0].label_fraction) + people_of(rows)


def _span(counts: Sequence[int]) -> str:
    return few(counts[0]) if len(counts) == 1 else f"{few(counts[0])} to {few(counts[-1])}"
