"""The five answers at the head of a report: who, how well, how sure, for whom, against what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medmcl.core.findings import counted
from medmcl.core.suppression import few
from medmcl.evaluation.aspects.tasks.doubtful import is_of_nothing
from medmcl.evaluation.aspects.tasks.metrics import CENSORED
from medmcl.evaluation.aspects.tasks.panels import by_when
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.survival.calibration import NOT_FOLLOWED
from medmcl.evaluation.models.strength import is_alike
from medmcl.evaluation.protocol.evidence import ENCODER_OF, LEARNED_FROM, SubgroupRow
from medmcl.evaluation.protocol.folds import FOLDS
from medmcl.evaluation.protocol.resampling import OVER
from medmcl.evaluation.protocol.results import (
    BESIDE,
    COVARIATES,
    CROSS_VALIDATION,
    FEWEST_DECIDING,
    NOBODY_TOLD,
    WHOLES,
    Result,
    difference_rows,
    flipped,
    headline_rows,
)
from medmcl.evaluation.report.labelled import FEW_EVENTS, deciding, people_of
from medmcl.evaluation.report.section import Said
from medmcl.evaluation.report.words import (
    about_what,
    held_back_by_reason,
    listed,
    measured,
    metric_name,
    verdict,
)

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation

MOST_TASKS = 6  # with a sentence of their own
MOST_NAMED = 12  # tasks in the list of who was scored
TOO_SURE = (
    "Intervals out of fold are of people alone and too narrow, since fits of different folds share "
    "people (Bengio & Grandvalet 2004, JMLR 5:1089-1105): no difference is tested."
)


def who(data: Evaluation) -> list[Said]:
    """Say whom the tasks were scored on: people and events of the rows, not the size of a split."""
    groups: dict[tuple[str, int, int], list[Result]] = {}
    for row in data.main_rows:
        groups.setdefault((row.split, row.subjects or row.n, row.n), []).append(row)
    said = []
    for (split, people, n), rows in groups.items():
        records = f" ({few(n)} records)" if n != people else ""
        tasks = listed([_with_events(data, row) for row in rows], MOST_NAMED)
        is_elsewhere = data.study.external and not data.fits
        said.append(f"{_people(few(people), split, is_elsewhere)}{records}: {tasks}")
    made = _made(data)
    if not said and data.flow:
        step, people, n = data.flow[-1]
        said = [f"{few(people)} subjects with {few(n)} samples ({step})"]
    text = ". ".join(part for part in (made, "; ".join(said)) if part)
    lines = [text, *(note for note in dict.fromkeys(data.notes) if LEARNED_FROM in note)]
    return [Said("Who", f"{line[0].upper()}{line[1:]}.") for line in lines if line]


def _people(count: str, split: str, is_elsewhere: bool) -> str:
    if split == "held_out" and is_elsewhere:
        return f"{count} people were scored"  # all of another cohort, or those it holds out
    if split == "held_out":
        return f"{count} held-out people were scored"
    if split == CROSS_VALIDATION:
        return f"{count} people were scored out of fold"
    return f"{count} people of {split.replace('_', ' ')} were scored"


def _with_events(data: Evaluation, row: Result) -> str:
    if row.events is None or row.target in WHOLES:
        return row.task
    competing = (
        f", {few(count)} people with the competing event"
        for one in data.evidence
        if (one.task, one.method) == (row.task, row.method) and (count := one.competing) is not None
    )
    return f"{row.task} ({few(row.events)} events{next(competing, '')})"


def _made(data: Evaluation) -> str:
    """The recipe, and the cohort that was scored; both cohorts if it was trained on another."""
    recipe = f"recipe {data.provenance['recipe']}" if "recipe" in data.provenance else ""
    cohort = f"cohort {data.scored_on}" if data.scored_on else ""
    if data.trained_on and data.scored_on != data.trained_on:
        trained = f"{recipe or 'a model'} trained on cohort {data.trained_on}"
        return f"{trained}, scored on {cohort}"
    return " on ".join(part for part in (recipe, cohort) if part)


def how_well(data: Evaluation) -> list[Said]:
    """One sentence a task: at the most labels, and at the fewest."""
    said = []
    for row in data.main_rows[:MOST_TASKS]:
        task, rows = row.task, headline_rows(data.task_rows, row.task)
        if row.value is None:
            said.append(f"{task}: not estimable ({row.note}).")
            continue
        if is_of_nothing(data.task_rows, row):
            said.append(
                f"{task}: {row.method} {_verb(row, 'give')} nearly the same prediction for "
                "everyone: no discrimination is claimed."
            )
            continue
        shares = [one for one in rows if one.method == row.method]
        enough = [row, *filter(_is_fitted_on_enough, shares)]
        fewest = min(enough, key=lambda one: one.label_fraction)
        known = people_of([row]).removeprefix(" (").removesuffix(")")
        fitted = f", fitted on {known}" if known else ""
        what = measured(row.metric, row.target)
        text = f"{task}: {row.method} {_verb(row, 'reach')} {what} {row.told_whole}{fitted}"
        if CENSORED in row.note.split("; "):
            text += "; what is ranked are log hazards of the event, not its risks by a horizon"
        if fewest.label_fraction < row.label_fraction:
            share = f"{100 * fewest.label_fraction:g} % of the labels{people_of([fewest])}"
            text += f"; with {share} {fewest.told_whole}"
        said.append(f"{text}.")
        if row.split == CROSS_VALIDATION:
            said.append(_applied(data, row))
        for one in rows:
            if one.protocol == "zero_shot" and one.method != row.method and one.value is not None:
                said.append(f"{task} without any label, by prompts: {one.told_whole}.")
    more = len(data.main_rows) - MOST_TASKS
    if more > 0:
        said.append(f"{more} more tasks are drawn below.")
    return [Said("How well", text) for text in said]


def _verb(row: Result, plain: str) -> str:
    """Put a verb into the number of a method: covariates are many, a model is one."""
    if row.method in (COVARIATES, BESIDE):
        return plain
    return f"{plain}es" if plain.endswith("ch") else f"{plain}s"


def _applied(data: Evaluation, row: Result) -> str:
    """Say which model `predict` applies, on whom it was fitted, and what the folds tell of it."""
    own = (one for one in data.applied if (one.task, one.method) == (row.task, row.method))
    one = next(own, None)
    if one is None:
        return (
            f"{row.task}: that is of models fitted in folds, and the run keeps no model of "
            f"{row.method} that medmcl predict could apply."
        )
    known = "the people" if one.subjects is None else f"{few(one.subjects)} people"
    encoder = ", with stages trained on train" if one.encoder else ""
    text = (
        f"{row.task}: that is of models fitted in folds. medmcl predict applies none of them, but "
        f"{one.protocol.replace('_', ' ')} of {one.method}, fitted once on {known} of "
        f"{' and '.join(one.splits)} of cohort {one.cohort}{encoder}; nobody was scored by it"
    )
    if one.subjects is None or row.train_subjects is None:
        return f"{text}."
    here = row.train_subjects
    rather = (
        "fewer, so expect it to do a little worse"
        if one.subjects < here
        else "as many, so expect the same of it"
        if one.subjects == here
        else "more, so expect it to do as well or a little better"
    )
    return f"{text}. The fits of the folds had {few(here)} people, it has {rather}."


def how_sure(data: Evaluation) -> list[Said]:
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
    notes = {row.task: row.note for row in data.main_rows}
    calibrated = [
        (f"{about_what(one.task, one.target)}{by_when(one)}", found)
        for one in data.evidence
        if isinstance(found := one.calibration, Calibration)
        and one.method == data.method
        and not is_alike(notes.get(one.task, ""), one.target)
    ]
    slopes = [f"{what} {one.slope}" for what, one in calibrated if one.slope.value is not None]
    ratios = [
        f"{what} {one.observed_expected}"
        for what, one in calibrated
        if one.observed_expected.value is not None
    ]
    if slopes:
        said.append(f"Calibration slope (1 is best): {listed(slopes, 3, '; ')}.")
    if ratios:
        said.append(f"Observed over predicted risk (1 is best): {listed(ratios, 3, '; ')}.")
    said += [
        f"Calibration of {what}: {note}."
        for what, found in calibrated
        for note in found.note.split("; ")
        if note.endswith(NOT_FOLLOWED)
    ]
    if not (slopes or ratios) and any(one.calibration is not None for one in data.evidence):
        said.append("Whether predicted risks are right cannot be told; the appendix says why.")
    said.append(f"Brackets hold {100 * data.level:g} % intervals {OVER[data.resampling]}.")
    return [Said("How sure", text) for text in said]


def for_whom(data: Evaluation) -> list[Said]:
    """Say between which groups a task ranges, and for whom nothing is known."""
    if not data.main_rows:
        return []
    said = []
    told = [row for row in data.main_rows[:3] if not is_of_nothing(data.task_rows, row)]
    for main in told:
        rows = [
            row
            for row in data.subgroups
            if (row.task, row.target, row.metric, row.method)
            == (main.task, main.target, main.metric, main.method)
            and row.attribute != "everyone"
        ]
        shown = [row for row in rows if row.value is not None]
        if shown:
            by = listed(list(dict.fromkeys(row.attribute for row in shown)), 4)
            text = f"{_ends(main.kind, shown)}{_held_back(rows)}".removeprefix("; ")
            said.append(f"{main.task}, {metric_name(main.metric)} by {by}: {text}.")
    if told and not said:
        said.append("No subgroup had enough people, or none was named: nothing is known by group.")
    if not data.study.external:
        said.append("Nobody outside the cohort that it was trained on was scored.")
    return [Said("For whom", text) for text in said]


def _ends(kind: str, rows: Sequence[SubgroupRow]) -> str:
    """The lowest and the highest of groups that enough people decide, with interval and people."""
    sure = [
        row
        for row in rows
        if row.subjects is not None
        and row.low is not None
        and _is_decided(kind, row.target, row.subjects, row.events)
    ]
    sure.sort(key=lambda row: row.value or 0.0)
    said = " to ".join(
        f"{row.shown} ({row.attribute} {row.group}, {row.subjects:,} people)"
        for row in dict.fromkeys((sure[0], sure[-1]) if sure else ())
    )
    more = sum(row.subjects is not None for row in rows) - len(sure)
    why = f"fewer than {FEWEST_DECIDING} people decide, or there is no interval"
    left = f"{counted(more, 'group')} not named: {why}" if more else ""
    return "; ".join(part for part in (said, left) if part)


def _is_decided(kind: str, target: str, people: int, events: int | None) -> bool:
    """Whether so many people decide a number that it is told away from its table."""
    if events is None:
        return people >= FEWEST_DECIDING
    one_sided = kind == "survival" or target in WHOLES
    return min(events, people if one_sided else people - events) >= FEWEST_DECIDING


def _is_fitted_on_enough(row: Result) -> bool:
    """Whether a share of the labels is more than a handful of people, or events among them."""
    people = row.train_subjects
    return people is None or _is_decided(row.kind, row.target, people, row.train_events)


def _held_back(rows: Sequence[SubgroupRow]) -> str:
    """Say how many groups show no number, or no counts, and why."""
    found = {why: counted(len(names), "group") for why, names in held_back_by_reason(rows).items()}
    few = found.pop("too small to show", "")
    parts = [f"{few} too small to show"] if few else []
    parts += [f"{count} {why}, so that a smaller one cannot be told by subtraction"
              for why, count in found.items()]  # fmt: skip
    return "".join(f"; {part}" for part in parts)


def against_what(data: Evaluation) -> list[Said]:
    """One sentence a task: the difference to the hardest rival on the same people."""
    said = [
        f"{row.task}: {text}"
        for row in data.main_rows[:MOST_TASKS]
        if not is_of_nothing(data.task_rows, row)
        and (text := _gain(data.task_rows, row) + _added(data.task_rows, row))
    ]
    if data.main_rows and not said and not any(row.versus for row in data.task_rows):
        said = ["Nothing: no other method was scored on the same people."]
    return [Said("Against what", f"{text.removesuffix('.')}.") for text in said]


def _alike(results: Sequence[Result], row: Result) -> set[str]:
    """Rivals of a row that predict nearly the same for everyone: nothing is said against them."""
    return {
        one.method
        for one in headline_rows(results, row.task)
        if one.label_fraction == row.label_fraction and is_of_nothing(results, one)
    }


def _gain(results: Sequence[Result], row: Result) -> str:
    """The difference to the hardest rival, `BESIDE` apart: it holds the embedding itself."""
    alike = _alike(results, row)
    told = [
        turned
        for other in difference_rows(results, row.task)
        if (turned := flipped(other) if other.versus == row.method else other).method == row.method
        and other.label_fraction == row.label_fraction
        and other.value is not None
    ]
    every = [turned for turned in told if turned.versus not in alike]
    gains = [other for other in every if other.versus != BESIDE]
    if not gains:
        return ""
    sign = 1 if row.direction == "higher" else -1
    hardest = min(gains, key=lambda other: sign * (other.value or 0.0))
    rival = hardest.versus
    passed = listed([one.versus for one in told if one.versus in alike], MOST_TASKS)
    left = f"; passed over, as {NOBODY_TOLD}: {passed}" if passed else ""
    if gains[1:]:
        apart = f" ({BESIDE} apart)" if len(gains) < len(every) else ""
        rival = f"the best of the {len(gains)} others{apart}, {rival},"
    return f"{row.method} against {rival} {hardest.told_whole}{verdict(hardest)}{left}"


def _added(results: Sequence[Result], row: Result) -> str:
    """What the embedding adds to covariates, where that difference was made."""
    if _alike(results, row) & {BESIDE, COVARIATES}:
        return ""
    for other in difference_rows(results, row.task):
        turned = flipped(other) if other.versus == BESIDE else other
        pair = (turned.method, turned.versus) == (BESIDE, COVARIATES)
        if pair and turned.label_fraction == row.label_fraction and turned.value is not None:
            return f"; beside covariates the embedding adds {turned.told_whole}{verdict(turned)}"
    return ""


def _left_out(data: Evaluation) -> list[str]:
    """Say which stages were not trained."""
    if not data.left_out:
        return []
    return [
        f"Not every stage was trained: {'; '.join(data.left_out)}. What needed them is left "
        "out, and what is joined is joined of the others."
    ]


def how_scored(data: Evaluation) -> list[Said]:
    """Say what readers must know of how predictions came about."""
    said = _left_out(data)
    crossed = [row for row in data.task_rows if row.split == CROSS_VALIDATION]
    if crossed:
        sites = any("by site" in row.protocol for row in crossed)
        how = "whole sites left out" if sites else "by subject"
        said.append(f"Probes are scored out of fold, {how}: nobody by a fit that saw them.")
        said.append(TOO_SURE)
        notes = [(row.task, note) for row in data.main_rows for note in row.note.split("; ")]
        said += [f"{task}, {note}." for task, note in notes if note.startswith(FOLDS)]
    foreign: dict[str, list[str]] = {}
    for line in data.fitted:
        if line.what.startswith(ENCODER_OF):
            foreign.setdefault(line.note, []).append(line.method)
    said += [f"Vectors from elsewhere ({listed(names, MOST_TASKS)}): {note}."
             for note, names in foreign.items()]  # fmt: skip
    return [Said("How sure", line) for line in said]
