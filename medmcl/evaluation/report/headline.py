"""The first lines of a report: plain sentences with intervals, made from the result rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmcl.evaluation.attack_rates import EFFECT
from medmcl.evaluation.evidence import UNKNOWN_ENCODER
from medmcl.evaluation.paired_choice import CHANCE, OVERALL
from medmcl.evaluation.report.confounder_lines import confounder_headline
from medmcl.evaluation.report.labelled import Labelled
from medmcl.evaluation.report.selection_lines import selection_headline
from medmcl.evaluation.report.words import listed, measured
from medmcl.evaluation.results import (
    BESIDE,
    COVARIATES,
    Result,
    difference_rows,
    flipped,
    headline_rows,
)
from medmcl.evaluation.suppression import few

if TYPE_CHECKING:
    from medmcl.evaluation.report.data import ReportData


MOST_TASKS = 6  # with a sentence of their own
_DIRECTIONS = 4
"""So many directions of retrieval have a sentence of their own."""


def highlighted(results: Sequence[Result]) -> str:
    """The method a report is about if none is named: the first."""
    return next((row.method for row in results if not row.versus), "")


def headline(
    data: ReportData, results: Sequence[Result], found: Sequence[Result], highlight: str
) -> list[str]:
    """Say on whom, and what was found against each baseline.

    Args:
        data: The report; its provenance may name ``recipe``, ``cohort``, ``scored cohort``.
        results: Task rows and differences.
        found: Retrieval rows.
        highlight: The method the report is about.
    """
    lines: list[str] = []
    flow = data.flow
    who = (
        f"{few(flow[-1][1])} subjects with {few(flow[-1][2])} samples ({flow[-1][0]})"
        if flow
        else ""
    )
    first = ": ".join(part for part in (_made(data), who) if part)
    if first:
        lines.append(f"{first[0].upper()}{first[1:]}.")
    if data.left_out:
        lines.append(
            f"Not every stage was trained: {'; '.join(data.left_out)}. What needed them is left "
            "out, and what is joined is joined of the others."
        )
    lines += selection_headline(data.selections)
    crossed = [row for row in results if row.split == "cross-validation"]
    if any(row.protocol.endswith("by site") for row in crossed):
        lines.append(
            "Probes are scored out of fold, whole sites left out, over all splits; the encoder has "
            "seen inputs of the train split."
        )
    elif crossed:
        lines.append(
            "Probes are scored out of fold, by subject, over all splits; the encoder has seen "
            "inputs of the train split."
        )
    foreign = [line.method for line in data.evidence.fitted if line.note == UNKNOWN_ENCODER]
    if foreign:
        lines.append(f"Vectors from elsewhere ({listed(foreign, MOST_TASKS)}): {UNKNOWN_ENCODER}.")
    tasks = list(dict.fromkeys(row.task for row in results))
    for task in tasks[:MOST_TASKS]:
        lines += _task_lines(results, task, highlight, Labelled(data.evidence.fitted))
    if len(tasks) > MOST_TASKS:
        lines.append(f"{len(tasks) - MOST_TASKS} more tasks are under Discrimination.")
    lines += confounder_headline(data.confounders)
    lines += _retrieval_lines(found)
    lines += _choice_lines(data.choice_rows)
    lines += attack_lines(data.attack_rows)
    return lines or [f"{data.title}: nothing has been evaluated yet."]


def _made(data: ReportData) -> str:
    """The recipe, and the cohort that was scored; both cohorts if it was trained on another."""
    recipe = f"recipe {data.provenance['recipe']}" if "recipe" in data.provenance else ""
    cohort = f"cohort {data.scored_on}" if data.scored_on else ""
    if data.trained_on and data.scored_on != data.trained_on:
        trained = f"{recipe or 'a model'} trained on cohort {data.trained_on}"
        return f"{trained}, scored on {cohort}"
    return " on ".join(part for part in (recipe, cohort) if part)


def _task_lines(
    results: Sequence[Result], task: str, highlight: str, labelled: Labelled
) -> list[str]:
    """One sentence for the fewest and one for the most labels."""
    rows = [row for row in headline_rows(results, task) if row.method == highlight]
    if not rows:
        rows = headline_rows(results, task)[:1]
    fractions = sorted({row.label_fraction for row in rows})
    unlabelled = [row for row in headline_rows(results, task) if row.protocol == "zero_shot"]
    lines = []
    for fraction in dict.fromkeys((*fractions[-1:], *fractions[:1])):
        row = next(row for row in rows if row.label_fraction == fraction)
        people = labelled.people(task, fraction, row.method)
        labels = f" with {100 * fraction:g} % of the labels{people}" if len(fractions) > 1 else ""
        if row.value is None:
            lines.append(f"{task}{labels}: not estimable ({row.note}).")
            continue
        text = (
            f"{task}{labels}: {row.method} reaches {measured(row.metric, row.target)} {row.shown}"
        )
        lines.append(text + _gains(results, task, row) + _added(results, task, row) + ".")
    for row in unlabelled:
        if row not in rows and row.value is not None:
            lines.append(f"{task} without any label, by prompts: {row.shown}.")
    return lines


def _gains(results: Sequence[Result], task: str, row: Result) -> str:
    """The difference to the hardest rival: the best of those without the embedding itself."""
    turned = [
        flipped(other) if other.versus == row.method else other
        for other in difference_rows(results, task)
        if other.label_fraction == row.label_fraction
    ]
    every = [other for other in turned if other.method == row.method and other.value is not None]
    gains = [other for other in every if other.versus != BESIDE]
    if not gains:
        return ""
    sign = 1 if row.direction == "higher" else -1
    hardest = min(gains, key=lambda other: sign * (other.value or 0.0))
    rival = hardest.versus
    if gains[1:]:
        without = " without the embedding" if len(gains) < len(every) else ""
        rival = f"the best of the {len(gains)} others{without}, {rival},"
    return f"; against {rival} {hardest.shown}{verdict(hardest)}"


def _added(results: Sequence[Result], task: str, row: Result) -> str:
    """What the embedding adds to covariates, where that difference was made."""
    for other in difference_rows(results, task):
        turned = flipped(other) if other.versus == BESIDE else other
        pair = (turned.method, turned.versus) == (BESIDE, COVARIATES)
        if pair and turned.label_fraction == row.label_fraction and turned.value is not None:
            return f"; beside covariates the embedding adds {turned.shown}{verdict(turned)}"
    return ""


def verdict(row: Result) -> str:
    """Say of a paired difference whether it is better, worse, not clear; empty if unknown."""
    if row.low is None or row.high is None:
        return ""
    if row.low <= 0 <= row.high:
        return ", no clear difference"
    if row.direction == "target":
        return ", different"
    better = (row.low > 0) == (row.direction == "higher")
    return ", better" if better else ", worse"


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
