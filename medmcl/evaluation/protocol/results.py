"""Rows of a results table, and how they are kept on disk."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from medmcl.core.atomic import write_atomically
from medmcl.core.limits import parse_json
from medmcl.core.sealed import reading
from medmcl.core.suppression import TOO_FEW, few, placeless, read_count
from medmcl.data.tables.spreadsheet import csv_text, unshielded
from medmcl.evaluation.aspects.aspect import ASPECTS
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME, Interval, Sampled, in_brackets

CROSS_VALIDATION = "cross-validation"
"""What the split of predictions out of fold is called."""
OUT_OF_FOLD = "no test out of fold: the interval is of people alone, and too narrow"
"""Why differences out of fold have no p value: fits of different folds share people, and no
estimator of the variance of K-fold cross-validation is unbiased (Bengio & Grandvalet 2004, JMLR
5:1089-1105)."""
FOR_A_VERDICT = "for a verdict"
NOBODY_TOLD = "nearly the same prediction for everyone"
"""How the note of a difference ends that is to a method which tells nobody from others."""
FEWEST_DECIDING = 10
"""Events (or people without, if fewer) below which chance alone may order everybody."""
MAJORITY = "majority"
"""Rows of the prediction that knows nothing."""
WHOLES = ("macro", "all classes")
"""Targets whose rows are of all others together: means, with events summed."""
COVARIATES, BESIDE = "covariates", "covariates + embedding"
"""Rows of plain columns, and of the same columns with the embedding beside them."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number of an evaluation, with all that is needed to read it.

    Attributes:
        task: Task name.
        target: Column of the task; ``macro`` for the mean over columns.
        kind: Kind of task (binary, ..., survival); of what is no task the name of its aspect.
        metric: Metric by name.
        direction: Whether higher or lower is better; ``target``: the nearer to its ideal value (0
            for an intercept, 1 for a slope or a ratio). ``chance``, of a confounder: neither; the
            nearer to chance, the less an embedding tells of it.
        method: What was evaluated.
        protocol: How predictions were made from it.
        label_fraction: Share of training labels used.
        train_subjects: People whose labels the predictions were fitted with; None where it is not
            known, 0 where no label was. The median over draws, and over folds.
        train_events: Those of them with the target (an event, a label, a class); None where the
            target has none.
        tuning_subjects: People whose labels settings were chosen with.
        split: Split that was scored.
        value: The number; None = not estimable, the note says why.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Rows scored.
        events: People with it in any row; of a metric at a horizon by then.
        seeds: Predictions averaged (training seeds times draws of the labelled subset).
        seed_spread: Standard deviation over them.
        note: Remarks and reasons.
        versus: Another method; then the row is the paired difference method minus versus.
        subjects: Subjects scored.
        p_value: Of a difference, two-sided, where there is a test; the note names it.
        told: Modalities that ``method`` was paired with or reads, and ``versus`` was not, and
            that could have named the outcome: where it is ahead, it is not called better.
        versus_told: The same, turned around.
        non_events: People with a row without the event; None where that says nothing.
        resampling: What the bootstrap of the interval drew: ``subject``, ``site`` (whole),
            ``stratified`` (subjects inside classes of the outcome), or ``pair`` (of two samples).
        rounded_to: Step that value and ends are rounded to, as a report does where they would tell
            a hidden count; None where they are not.
    """

    task: str
    target: str
    kind: str
    metric: str
    direction: Literal["higher", "lower", "target", "chance"]
    method: str
    protocol: str
    label_fraction: float = 1.0
    split: str = "held_out"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    events: int | None = None
    seeds: int = 1
    seed_spread: float | None = None
    note: str = ""
    versus: str = ""
    subjects: int = 0
    p_value: float | None = None
    resampling: str = "subject"
    train_subjects: int | None = None
    train_events: int | None = None
    tuning_subjects: int | None = None
    told: str = ""
    versus_told: str = ""
    non_events: int | None = None
    rounded_to: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite: a table never holds NaN."""
        for name in ("value", "low", "high", "seed_spread", "p_value"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} of {self.task}/{self.metric} is {number}; give None")

    @property
    def shown(self) -> str:
        """The value with its interval, or that it is not estimable."""
        if self.value is None:
            return TOO_FEW if self.note.startswith(TOO_FEW) else "not estimable"
        return in_brackets(self.value, self.low, self.high, "+" if self.versus else "")

    @property
    def told_whole(self) -> str:
        """As `shown`, with why there is no interval: of sentences, beside which no note stands."""
        lacks = self.value is not None and self.low is None and ALL_THE_SAME in self.note
        return f"{self.shown} ({ALL_THE_SAME})" if lacks else self.shown

    @property
    def is_of_task(self) -> bool:
        """Whether it is about a task, and not a row of another aspect's own."""
        return self.kind not in ASPECTS

    @property
    def deciding(self) -> tuple[int, str]:
        """How many people decide it, and what they are: see `deciding_of`."""
        return deciding_of(self.kind, self.target, self)

    @property
    def untested(self) -> str:
        """Why a difference has no p value, and is not called better or worse; empty if it may.

        Of a mean over classes the note says so, where the rarest class is too small.
        """
        said = untested(self.split, self.deciding) if self.is_of_task else ""
        noted = (part for part in self.note.split("; ") if part.endswith(FOR_A_VERDICT))
        return said or next(noted, "")

    @classmethod
    def of(cls, interval: Interval, *, note: str = "", **about: Any) -> Result:
        """Make a row from an interval and what it is about."""
        notes = [text for text in (interval.note, note) if text]
        found = {**interval.numbers(), "note": "; ".join(dict.fromkeys(notes))}
        found["non_events"] = interval.non_events
        return cls(seeds=interval.seeds, seed_spread=interval.seed_spread, **found, **about)


def deciding_of(kind: str, target: str, row: Result | Interval | Sampled) -> tuple[int, str]:
    """Give how many people decide a number, and what they are.

    Those with or without the event, whichever are fewer (a person with rows of both is on both
    sides); of a survival task, and of a mean over targets, those with it; where there is no event
    all of them.
    """
    people = row.subjects or row.n
    if row.events is None:
        return people, "people"
    counts = [(row.events, "events")]
    if kind != "survival" and target != "macro":
        without = people - row.events if row.non_events is None else row.non_events
        counts.append((without, "without the event"))
    return min(counts)


def untested(split: str, deciding: tuple[int, str]) -> str:
    """Say why a paired difference of a task has no p value and no verdict; empty if it may.

    Args:
        split: What was scored.
        deciding: As `deciding_of` gives it.
    """
    if split == CROSS_VALIDATION:
        return OUT_OF_FOLD
    count, what = deciding
    return "" if count >= FEWEST_DECIDING else f"too few {what} ({few(count)}) {FOR_A_VERDICT}"


def save_results(path: Path, results: Iterable[Result]) -> None:
    """Write rows as ``.json`` or ``.csv`` by the file's ending, whole or not at all.

    Small counts stand in them as they are given: a report hides them first
    (`medmcl.evaluation.report.small_counts`).
    """
    rows = [placeless(vars(result)) for result in results]
    if path.suffix == ".csv":
        write_atomically(path, csv_text(rows, [field.name for field in fields(Result)]))
    else:
        write_atomically(path, json.dumps(rows, indent=1, ensure_ascii=False))


def load_results(path: Path) -> list[Result]:
    """Read rows that `save_results` wrote.

    Raises:
        ArtefactError: If the file is missing or holds something else.
    """
    with reading(path, "is not a results file"):
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                return [Result(**_typed(row)) for row in csv.DictReader(file)]
        return [Result(**row) for row in parse_json(path.read_text(encoding="utf-8"))]


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Give the cells of a CSV row back their types; an empty number is None."""
    typed: dict[str, Any] = {}
    for field in fields(Result):
        if field.name not in row:  # of a file that an older version wrote
            continue
        text, kind = unshielded(row[field.name]), str(field.type)
        if "None" in kind and text == "":
            typed[field.name] = None
        elif kind.startswith("int"):
            typed[field.name] = read_count(text)
        elif kind.startswith("float"):
            typed[field.name] = float(text)
        else:
            typed[field.name] = text
    return typed


def headline_metric(results: Sequence[Result], task: str) -> str | None:
    """Give the first metric of a task: the one its kind is usually judged by."""
    return next((row.metric for row in results if row.task == task), None)


def headline_rows(results: Sequence[Result], task: str) -> list[Result]:
    """Rows of a task's first metric for its main target, without differences."""
    metric = headline_metric(results, task)
    rows = [row for row in results if row.task == task and row.metric == metric and not row.versus]
    targets = list(dict.fromkeys(row.target for row in rows))
    main = "macro" if "macro" in targets else targets[0] if targets else ""
    return [row for row in rows if row.target == main]


def difference_rows(results: Sequence[Result], task: str) -> list[Result]:
    """Paired differences in a task's first metric for its main target."""
    shown = headline_rows(results, task)
    if not shown:
        return []
    return [
        row
        for row in results
        if row.task == task
        and row.versus
        and row.metric == shown[0].metric
        and row.target == shown[0].target
    ]


def people(row: Result) -> tuple[object, ...]:
    """Whom a row is about: split, rows, people and events; rows that differ are not compared."""
    return (row.split, row.n, row.subjects, row.events)


def flipped(row: Result) -> Result:
    """Turn a paired difference around: versus minus method."""
    return replace(
        row,
        method=row.versus,
        versus=row.method,
        told=row.versus_told,
        versus_told=row.told,
        value=None if row.value is None else 0.0 - row.value,  # of 0 not -0
        low=None if row.high is None else 0.0 - row.high,
        high=None if row.low is None else 0.0 - row.low,
    )
