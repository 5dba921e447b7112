"""The first lines of a report: plain sentences with intervals, made from the result rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmcl.evaluation.aspects.attack.rates import EFFECT
from medmcl.evaluation.aspects.confounders.lines import confounder_headline
from medmcl.evaluation.aspects.paired_choice.measure import CHANCE, OVERALL
from medmcl.evaluation.aspects.selection.lines import selection_headline
from medmcl.evaluation.aspects.tasks.too_good import too_good
from medmcl.evaluation.protocol.evidence import UNKNOWN_ENCODER
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.answers import (
    MOST_TASKS,
    Said,
    against_what,
    for_whom,
    how_sure,
    how_well,
    verdict,
    who,
)
from medmcl.evaluation.report.words import listed

if TYPE_CHECKING:
    from medmcl.evaluation.report.data import ReportData


_DIRECTIONS = 4
"""So many directions of retrieval have a sentence of their own."""


def headline(data: ReportData) -> list[Said]:
    """Answer who, how well, how sure, for whom and against what; then what else was found."""
    every = [
        *_wreck_lines(data),
        *who(data),
        *(Said("Who", f"{line}.") for line in data.strange),
        *(Said("Who", line) for line in selection_headline(data.selections)),
        *how_well(data),
        *(Said("How well", f"{line}.") for line in too_good(data.task_rows)),
        *_how_scored(data),
        *how_sure(data),
        *for_whom(data),
        *against_what(data),
        *(Said("Also", line) for line in confounder_headline(data.confounders)),
        *(Said("Also", line) for line in _retrieval_lines(data.retrieval_rows)),
        *(Said("Also", line) for line in _choice_lines(data.choice_rows)),
        *(Said("Also", line) for line in attack_lines(data.attack_rows)),
    ]
    return every or [Said("", f"{data.title}: nothing has been evaluated yet.")]


def _wreck_lines(data: ReportData) -> list[Said]:
    """Say before all else that the training is wrecked."""
    if not data.wrecked:
        return []
    said = "; ".join(f"{name} ({why})" for name, why in data.wrecked.items())
    line = (
        f"This run is wrecked: {said}. Results of models that hold such a stage say nothing of "
        f"the data or of the method. Try to {data.remedy}."
    )
    return [Said("Wrecked", line)]


def _left_out_lines(data: ReportData) -> list[str]:
    """Say which stages were not trained."""
    if not data.left_out:
        return []
    return [
        f"Not every stage was trained: {'; '.join(data.left_out)}. What needed them is left "
        "out, and what is joined is joined of the others."
    ]


def _how_scored(data: ReportData) -> list[Said]:
    """Say what readers must know of how predictions came about."""
    said = _left_out_lines(data)
    crossed = [row for row in data.task_rows if row.split == "cross-validation"]
    if crossed:
        sites = any("by site" in row.protocol for row in crossed)
        how = "whole sites left out" if sites else "by subject"
        said.append(f"Probes are scored out of fold, {how}: nobody by a fit that saw them.")
    foreign = [line.method for line in data.evidence.fitted if line.note == UNKNOWN_ENCODER]
    if foreign:
        said.append(f"Vectors from elsewhere ({listed(foreign, MOST_TASKS)}): {UNKNOWN_ENCODER}.")
    return [Said("How sure", line) for line in said]


def _retrieval_lines(found: Sequence[Result]) -> list[str]:
    """A line a direction; of many directions the best, the worst and the middle."""
    chance = {row.target: row.value for row in found
              if row.method == "chance" and row.metric == "recall@10"}  # fmt: skip
    ours = [row for row in found if row.method != "chance" and row.metric == "recall@10"]
    told = sorted((row for row in ours if row.value is not None), key=lambda row: -_number(row))
    if len(told) <= _DIRECTIONS:
        return [_retrieval_line(row, chance.get(row.target)) for row in ours if row in told]
    middle = float(np.median([_number(row) for row in told]))
    lines = [
        f"Retrieval in {len(told)} directions: median recall@10 is {middle:.3f}; best and worst:"
    ]
    return lines + [_retrieval_line(row, chance.get(row.target)) for row in (told[0], told[-1])]


def _retrieval_line(row: Result, chance: float | None) -> str:
    by_chance = "" if chance is None else f" (chance {chance:.3f})"
    return f"Retrieval {row.target}: {row.metric} is {row.shown}{by_chance}."


def _choice_lines(found: Sequence[Result]) -> list[str]:
    """A line a set of pairs: every model, later ones against the first."""
    lines = []
    for task in dict.fromkeys(row.task for row in found):
        rows = [row for row in found if (row.task, row.target) == (task, OVERALL)]
        gains = {row.method: row for row in rows if row.versus and row.value is not None}
        said = [
            f"{row.method} {row.shown}"
            + (
                f", against {gains[row.method].versus} {gains[row.method].shown}"
                f"{verdict(gains[row.method])}"
                if row.method in gains
                else ""
            )
            for row in rows
            if not row.versus and row.method != "chance"
        ]
        lines.append(
            f"Paired choice {task}, {rows[0].n:,} pairs (chance {CHANCE}): {'; '.join(said)}."
        )
    return lines


def attack_lines(found: Sequence[Result]) -> list[str]:
    """A line an attack and model, with every way in which it was asked."""
    lines = []
    for task, model in dict.fromkeys((row.task, row.method) for row in found if not row.versus):
        rows = [row for row in found if (row.task, row.method) == (task, model)]
        ways = [
            way for way in dict.fromkeys(row.protocol for row in rows)
            if any(row.protocol == way and row.metric == EFFECT for row in rows)
        ]  # fmt: skip
        said = [_asked([row for row in rows if row.protocol == way]) for way in ways]
        if said:
            taken = _taken(rows) if model == found[0].method else ""
            lines.append(
                f"Stage {task} (target {rows[0].target}) on {model}: {'; '.join(said)}.{taken}"
            )
    return lines


def _asked(rows: Sequence[Result]) -> str:
    """Say what an attack does to a model by one way of asking, and against the first model."""
    rates = {row.metric: row.shown for row in rows if not row.versus}
    gaps = [row for row in rows if row.versus and row.metric == "attack_success"]
    against = "".join(f", against {gap.versus} {gap.shown}{verdict(gap)}" for gap in gaps[:1])
    return (
        f"{rows[0].protocol.replace('_', '-')} attack success {rates['attack_success']}{against}, "
        f"told so without the trigger (false_success) {rates['false_success']}, clean accuracy "
        f"{rates['clean_accuracy']}"
    )


def _taken(rows: Sequence[Result]) -> str:
    """Say by which ways of asking an attack took: the trigger makes more be told the target.

    That is, the interval of its effect lies above 0.
    """
    effects = [row for row in rows if row.metric == EFFECT and not row.versus]
    sure = [row for row in effects if row.low is not None]
    took = [row for row in sure if row.low is not None and row.low > 0]
    said = {id(row): f"{row.protocol.replace('_', '-')} {row.shown}" for row in sure}
    if not sure:
        return ""
    if not took:
        return f" The attack did not take: trigger_effect {', '.join(said.values())}."
    rest = [said[id(row)] for row in sure if row not in took]
    but = f", not {', '.join(rest)}" if rest else ""
    return f" The attack took (trigger_effect {', '.join(said[id(row)] for row in took)}{but})."


def _number(row: Result) -> float:
    return float("nan") if row.value is None else row.value
