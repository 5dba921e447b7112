"""The five answers at the head of a report: who, how well, how sure, for whom, against what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medmcl.core.suppression import few
from medmcl.evaluation.aspects.tasks.panels import by_when
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.survival.calibration import SurvivalCalibration
from medmcl.evaluation.protocol.resampling import OVER
from medmcl.evaluation.protocol.results import (
    BESIDE,
    COVARIATES,
    Result,
    difference_rows,
    flipped,
    headline_rows,
)
from medmcl.evaluation.report.labelled import people_of
from medmcl.evaluation.report.words import about_what, listed, measured, metric_name

if TYPE_CHECKING:
    from medmcl.evaluation.report.data import ReportData

Question = Literal["Wrecked", "Who", "How well", "How sure", "For whom", "Against what", "Also", ""]
QUESTIONS: tuple[Question, ...] = ("Who", "How well", "How sure", "For whom", "Against what")
MOST_TASKS = 6  # with a sentence of their own
MOST_NAMED = 12  # tasks in the list of who was scored
FEW_EVENTS = 100
"""Fewer events (or people without) say little: Collins et al. 2016, Stat Med 35:214-226."""


@dataclass(frozen=True)
class Said:
    """A sentence at the head of a report.

    Attributes:
        question: Which of the five questions it answers; ``Also`` for what is beside them, empty
            where nothing was evaluated.
        text: The sentence.
    """

    question: Question
    text: str

    def __str__(self) -> str:
        return f"{self.question}: {self.text}" if self.question in QUESTIONS else self.text


def who(data: ReportData) -> list[Said]:
    """Say whom the tasks were scored on: people and events of the rows, not the size of a split."""
    groups: dict[tuple[str, int, int], list[Result]] = {}
    for row in data.main_rows:
        groups.setdefault((row.split, row.subjects or row.n, row.n), []).append(row)
    said = []
    for (split, people, n), rows in groups.items():
        records = f" ({few(n)} records)" if n != people else ""
        tasks = listed([_with_events(row) for row in rows], MOST_NAMED)
        said.append(f"{_people(few(people), split)}{records}: {tasks}")
    made = _made(data)
    if not said and data.flow:
        step, people, n = data.flow[-1]
        said = [f"{few(people)} subjects with {few(n)} samples ({step})"]
    text = ". ".join(part for part in (made, "; ".join(said)) if part)
    return [Said("Who", f"{text[0].upper()}{text[1:]}.")] if text else []


def _people(count: str, split: str) -> str:
    if split == "held_out":
        return f"{count} held-out people were scored"
    if split == "cross-validation":
        return f"{count} people were scored out of fold"
    return f"{count} people of {split.replace('_', ' ')} were scored"


def _with_events(row: Result) -> str:
    if row.events is None or row.target in ("macro", "all classes"):
        return row.task
    return f"{row.task} ({few(row.events)} events)"


def _made(data: ReportData) -> str:
    """The recipe, and the cohort that was scored; both cohorts if it was trained on another."""
    recipe = f"recipe {data.provenance['recipe']}" if "recipe" in data.provenance else ""
    cohort = f"cohort {data.scored_on}" if data.scored_on else ""
    if data.trained_on and data.scored_on != data.trained_on:
        trained = f"{recipe or 'a model'} trained on cohort {data.trained_on}"
        return f"{trained}, scored on {cohort}"
    return " on ".join(part for part in (recipe, cohort) if part)


def how_well(data: ReportData) -> list[Said]:
    """One sentence a task: at the most labels, and at the fewest."""
    said = []
    for row in data.main_rows[:MOST_TASKS]:
        task, rows = row.task, headline_rows(data.task_rows, row.task)
        if row.value is None:
            said.append(f"{task}: not estimable ({row.note}).")
            continue
        shares = [one for one in rows if one.method == row.method]
        fewest = min(shares, key=lambda one: one.label_fraction)
        known = people_of([row]).removeprefix(" (").removesuffix(")")
        fitted = f", fitted on {known}" if known else ""
        what = measured(row.metric, row.target)
        text = f"{task}: {row.method} reaches {what} {row.shown}{fitted}"
        if fewest.label_fraction < row.label_fraction:
            share = f"{100 * fewest.label_fraction:g} % of the labels{people_of([fewest])}"
            text += f"; with {share} {fewest.shown}"
        said.append(f"{text}.")
        for one in rows:
            if one.protocol == "zero_shot" and one.method != row.method and one.value is not None:
                said.append(f"{task} without any label, by prompts: {one.shown}.")
    more = len(data.main_rows) - MOST_TASKS
    if more > 0:
        said.append(f"{more} more tasks are drawn below.")
    return [Said("How well", text) for text in said]


def how_sure(data: ReportData) -> list[Said]:
    """Say how many people decide, and whether predicted risks are right."""
    if not data.main_rows:
        return []
    scarce = [
        f"{task} ({few(count)} {what})"
        for task, (count, what) in deciding(data).items()
        if count < FEW_EVENTS
    ]
    said = []
    if scarce:
        said.append(
            f"Few people decide: {listed(scarce, MOST_TASKS)}. Below {FEW_EVENTS}, intervals are "
            "wide, and what lies inside them cannot be told apart."
        )
    slopes = [
        f"{about_what(one.task, one.target)}{by_when(one)} {found.slope}"
        for one in data.evidence.tasks
        if isinstance(found := one.calibration, Calibration | SurvivalCalibration)
        and one.method == data.method
        and found.slope.value is not None
    ]
    if slopes:
        said.append(f"Calibration slope (1 is best): {listed(slopes, 3, '; ')}.")
    elif any(one.calibration is not None for one in data.evidence.tasks):
        said.append("Whether predicted risks are right cannot be told; the appendix says why.")
    said.append(f"Brackets hold {100 * data.level:g} % intervals {OVER[data.resampling]}.")
    return [Said("How sure", text) for text in said]


def deciding(data: ReportData) -> dict[str, tuple[int, str]]:
    """Task to the fewest scored rows that decide it, over its targets, and what they are.

    Those with or without the outcome, whichever are fewer; of a survival task those with it; of a
    task of numbers all of them.
    """
    fewest: dict[str, tuple[int, str]] = {}
    main = {row.task: row.metric for row in data.main_rows}
    for row in data.task_rows:
        if row.metric != main.get(row.task):
            continue
        if row.versus or row.method != data.method or row.target in ("macro", "all classes"):
            continue
        if row.n == 0:
            continue
        counts = [(row.n, "people")]
        if row.events is not None:
            counts = [(row.events, "events")]
            if row.kind != "survival":
                counts.append((row.n - row.events, "without the event"))
        fewest[row.task] = min(*counts, fewest.get(row.task, counts[0]))
    return fewest


def for_whom(data: ReportData) -> list[Said]:
    """Say between which groups a task ranges, and for whom nothing is known."""
    if not data.main_rows:
        return []
    said = []
    for main in data.main_rows[:3]:
        rows = [
            row
            for row in data.evidence.subgroups
            if (row.task, row.target, row.metric, row.method)
            == (main.task, main.target, main.metric, main.method)
            and row.attribute != "everyone"
        ]
        shown = [row for row in rows if row.value is not None]
        hidden = sum(row.suppressed for row in rows)
        if len(shown) > 1:
            ends = sorted(shown, key=lambda row: row.value or 0.0)
            by = listed(list(dict.fromkeys(row.attribute for row in shown)), 4)
            text = " to ".join(f"{r.value:.3f} ({r.attribute} {r.group})" for r in
                               (ends[0], ends[-1]))  # fmt: skip
            few_of = f"; {hidden} groups are too small to show" if hidden else ""
            said.append(f"{main.task}, {metric_name(main.metric)} by {by}: {text}{few_of}.")
    if not said:
        said.append("No subgroup had enough people, or none was named: nothing is known by group.")
    if not data.study.external:
        said.append("Nobody outside the cohort that it was trained on was scored.")
    return [Said("For whom", text) for text in said]


def against_what(data: ReportData) -> list[Said]:
    """One sentence a task: the difference to the hardest rival on the same people."""
    said = [
        f"{row.task}: {text}"
        for row in data.main_rows[:MOST_TASKS]
        if (text := _gain(data.task_rows, row) + _added(data.task_rows, row))
    ]
    if data.main_rows and not said:
        said = ["Nothing: no other method was scored on the same people."]
    return [Said("Against what", f"{text.removesuffix('.')}.") for text in said]


def _gain(results: Sequence[Result], row: Result) -> str:
    """The difference to the hardest rival: the best of those without the embedding itself."""
    every = [
        turned
        for other in difference_rows(results, row.task)
        if (turned := flipped(other) if other.versus == row.method else other).method == row.method
        and other.label_fraction == row.label_fraction
        and other.value is not None
    ]
    gains = [other for other in every if other.versus != BESIDE]
    if not gains:
        return ""
    sign = 1 if row.direction == "higher" else -1
    hardest = min(gains, key=lambda other: sign * (other.value or 0.0))
    rival = hardest.versus
    if gains[1:]:
        without = " without the embedding" if len(gains) < len(every) else ""
        rival = f"the best of the {len(gains)} others{without}, {rival},"
    return f"{row.method} against {rival} {hardest.shown}{verdict(hardest)}"


def _added(results: Sequence[Result], row: Result) -> str:
    """What the embedding adds to covariates, where that difference was made."""
    for other in difference_rows(results, row.task):
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
    if not better:
        return ", worse"
    if row.told:
        return f", ahead, but {row.told}, which it was paired with, could name the outcome"
    return ", better"
