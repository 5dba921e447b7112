"""How many people decide: labelled ones, and events among them."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.core.suppression import few
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import WHOLES, Result
from medmcl.evaluation.report.words import fraction_name

FEW_EVENTS = 100
"""Fewer events (or people without) say little: Collins et al. 2016, Stat Med 35:214-226."""


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
    return " to ".join(dict.fromkeys((few(counts[0]), few(counts[-1]))))


def deciding(data: Evaluation) -> dict[str, tuple[int, str]]:
    """Task to the fewest scored rows that decide it, over its targets, and what they are.

    Those with or without the outcome, whichever are fewer; of a survival task those with it; of a
    task of numbers all of them. Of several targets the one that has the fewest is named.
    """
    fewest: dict[str, tuple[int, str]] = {}
    main = {row.task: row.metric for row in data.main_rows}
    several = {row.task for row in data.task_rows if row.target in WHOLES}
    for row in data.task_rows:
        if row.metric != main.get(row.task):
            continue
        if row.versus or row.method != data.method or row.target in WHOLES:
            continue
        if row.n == 0:
            continue
        count, what = row.deciding
        own = count, f"{what} of {row.target}" if row.task in several else what
        fewest[row.task] = min(own, fewest.get(row.task, own))
    return fewest
