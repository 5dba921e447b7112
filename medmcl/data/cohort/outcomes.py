"""From the tasks of a cohort.yaml to targets, one row a sample, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, counted, task_finding
from medmcl.core.targets import Targets
from medmcl.data.cohort.codes import CodeMap, parse_codes
from medmcl.data.cohort.follow_up import follow_up_faults
from medmcl.data.cohort.spec import (
    UNITS_PER_YEAR,
    BinaryKeys,
    MulticlassKeys,
    MultilabelKeys,
    RegressionKeys,
    SurvivalKeys,
    Task,
)
from medmcl.data.expressions.expression import Values, evaluate
from medmcl.data.expressions.spellings import other_spellings
from medmcl.data.expressions.syntax import ExpressionError, columns_of
from medmcl.data.tables.cells import held, no_truth
from medmcl.data.tables.files import as_text, dates, missing_column
from medmcl.data.tables.odd_cells import correct, odd_cells, told

DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """Where the labels of a task stand.

    Attributes:
        table: The table of subjects, or of the records of one modality.
        rows: Row of each sample in it, -1 where it has none. (N,) int64.
        subjects: Whose each sample is. (N,) object.
        train: Samples of the train split. (N,) bool.
        index: Index date of each sample, NaT where unknown. (N,) datetime64[ns].
    """

    table: pd.DataFrame
    rows: np.ndarray
    subjects: np.ndarray
    train: np.ndarray
    index: np.ndarray

    def take(self, samples: np.ndarray) -> LabelRows:
        """Give the same for some samples, (N,) bool."""
        parts = {n: getattr(self, n)[samples] for n in ("rows", "subjects", "train", "index")}
        return replace(self, **parts)

    def row_name(self, row: int) -> str:
        """Give what messages call a row of the table: its first sample, or its number, from 1."""
        samples = np.flatnonzero(self.rows == row)
        return self.name(samples[0]) if len(samples) else f"row {row + 1}"

    def name(self, sample: int | np.integer) -> str:
        """Give what messages call a sample."""
        return f"subject {self.subjects[sample]}"

    def spread(self, values: Values) -> Values:
        """Give each sample the value of its row."""
        has = self.rows >= 0
        data = np.zeros(len(self.rows), dtype=values.data.dtype)
        known = np.zeros(len(self.rows), bool)
        data[has], known[has] = values.data[self.rows[has]], values.known[self.rows[has]]
        return replace(values, data=data, known=known)


class TaskFaultError(CohortError):
    """A task that cannot be built at all; carries the code of its finding."""

    def __init__(self, code: str, what: str, *, fix: str, where: object = None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code


def build_targets(
    name: str, task: Task, labels: LabelRows, maps: Mapping[str, CodeMap]
) -> tuple[Targets | None, list[Finding]]:
    """Build the targets of one task; None with an error finding if that is not possible."""
    builder = _Builder(name, task, labels, maps)
    try:
        targets = builder.build()
    except CohortError as error:
        code = fault_code(error)
        what = error.what + (f" (got {error.got})" if error.got is not None else "")
        builder.add(code, what, error.fix or f"correct the task: expected {error.expected}")
        return None, builder.findings
    builder.look_for_one_class(targets)
    return targets, builder.findings


def fault_code(error: CohortError) -> str:
    """Name the kind of fault that keeps a task from being built."""
    if isinstance(error, TaskFaultError):
        return error.code
    if isinstance(error, ExpressionError):
        return "expression"
    return "missing_column" if "no column" in error.what else "invalid"


class _Builder:
    """Builds one task; a method for each kind."""

    def __init__(
        self, name: str, task: Task, labels: LabelRows, maps: Mapping[str, CodeMap]
    ) -> None:
        self.name, self.task, self.labels, self.maps = name, task, labels, maps
        self.findings: list[Finding] = []

    def add(self, code: str, what: str, fix: str, *, warning: bool = False) -> None:
        """Note a finding."""
        level: Literal["error", "warning"] = "warning" if warning else "error"
        self.findings.append(task_finding(self.name, f"task.{code}", what, fix, level))

    def build(self) -> Targets:
        """Give the targets."""
        if isinstance(self.task, BinaryKeys):
            return self._targets((self.name,), [self._truth(self.task.column, "column")])
        if isinstance(self.task, MultilabelKeys):
            if self.task.labels is not None:
                return self._listed(self.task.labels, self.task.unlabelled)
            columns = self.task.columns
            values = [self._truth(text, name) for name, text in columns.items()]
            return self._targets(tuple(columns), values)
        if isinstance(self.task, MulticlassKeys):
            return self._multiclass(self.task)
        if isinstance(self.task, RegressionKeys):
            return self._regression(self.task)
        return self._survival(self.task)

    def _listed(self, text: str, unlabelled: str) -> Targets:
        """Give a column for each label that some sample has; who has none is left out."""
        value = self._value(text)
        if value.kind not in ("codes", "text"):
            raise TaskFaultError(
                "not_labels",
                f"'{text}' holds no labels",
                fix="name a column of codes, or map[column]",
            )
        held = [frozenset[str]()] * len(value.known)
        for row in np.flatnonzero(value.known):
            cell = value.data[row]
            held[row] = cell if value.kind == "codes" else parse_codes(cell)
        has = np.array([bool(one) for one in held], dtype=bool)
        known = value.known if unlabelled == "negative" else has
        names = sorted(frozenset[str]().union(*held))
        if not names:
            raise TaskFaultError("no_labels", f"'{text}' holds no label", fix="complete the column")
        columns = [np.array([name in one for one in held], dtype=np.float64) for name in names]
        return self._targets(tuple(names), [Values(x, known, "number", text) for x in columns])

    def _value(self, text: str) -> Values:
        value = self.labels.spread(self._of_rows(text))
        for what, fix in other_spellings(text, self.labels.table):
            self.add("two_spellings", what, fix, warning=True)
        return value

    def _of_rows(self, text: str) -> Values:
        """Give the value of an expression for each row of the table."""
        labels = self.labels
        return evaluate(text, labels.table, self.maps, f"tasks.{self.name}", labels.row_name)

    def _number(self, text: str) -> Values:
        value = self._value(text)
        if value.kind not in ("number", "truth"):
            shown = next(iter(value.data[value.known]), "")
            rows = self._of_rows(text)
            odd = odd_cells(rows.data, rows.known)
            if odd.any():
                what = f"'{text}' is a number, but for {told(rows.data, odd, self.labels.row_name)}"
                raise TaskFaultError("not_a_number", what, fix=correct(odd))
            raise TaskFaultError(
                "not_a_number",
                f"'{text}' is not a number, for example {shown!r}",
                fix="clean the column so that every cell is a number or empty",
            )
        return replace(value, data=value.data.astype(np.float64), kind="number")

    def _truth(self, text: str, key: str) -> Values:
        """Give what is true or false; ``key`` is the one of the task that says it."""
        value = self._value(text)
        data = value.data[value.known]
        if value.kind != "truth" and not (value.kind == "number" and set(data) <= {0.0, 1.0}):
            plain = text.isidentifier() or text not in self.labels.table.columns
            said = text if plain else f"`{text}`"
            what, fix = no_truth(said, key, value, self.labels.rows, self.labels.subjects)
            raise TaskFaultError("not_binary", what, fix=fix)
        return replace(value, data=value.data.astype(np.float64), kind="number")

    def _targets(self, columns: tuple[str, ...], values: list[Values]) -> Targets:
        known = np.stack([value.known for value in values], axis=1)
        data = np.stack([value.data for value in values], axis=1).astype(np.float64, copy=False)
        data[~known] = 0.0
        return Targets(
            name=self.name,
            kind=self.task.kind,
            columns=columns,
            values=data,
            known=known,
            modality=self.task.of,
        )

    def _regression(self, task: RegressionKeys) -> Targets:
        columns = task.columns or {self.name: str(task.column)}
        targets = self._targets(tuple(columns), [self._number(c) for c in columns.values()])
        return replace(targets, unit=task.unit)

    def _multiclass(self, task: MulticlassKeys) -> Targets:
        value = self._value(task.column)
        if value.kind == "codes":
            raise TaskFaultError(
                "not_one_class",
                f"'{task.column}' holds several codes in a cell",
                fix="use kind: multilabel, with a column for each",
            )
        said = np.full(len(value.known), None, dtype=object)
        said[value.known] = [as_text(cell) for cell in value.data[value.known]]
        classes = tuple(map(as_text, task.classes)) or tuple(sorted(set(said[value.known])))
        number = {label: position for position, label in enumerate(classes)}
        strange = sorted(set(said[value.known]) - set(number))
        if strange:
            raise TaskFaultError(
                "unknown_class",
                f"'{task.column}' holds {', '.join(strange[:10])}, not among the classes "
                f"{', '.join(classes)}",
                fix="add them to classes:, or correct the cells",
            )
        data = np.array([number.get(label, 0) for label in said], dtype=np.float64)
        targets = self._targets(("class",), [replace(value, data=data, kind="number")])
        return replace(targets, classes=classes)

    def _survival(self, task: SurvivalKeys) -> Targets:
        competing: Values | None = None
        if task.time is not None:
            time, event = self._number(str(task.time)), self._truth(str(task.event), "event")
        else:
            time, event, competing = self._from_dates(task)
        known = time.known & event.known
        half = int((event.known & ~time.known & (event.data > 0)).sum())
        if half and task.time is not None:
            self.add(
                "no_time",
                f"{counted(half, 'sample')} with the event, but no time: the target is unknown",
                "fill in the time, or leave the event empty",
                warning=True,
            )
        below = known & (time.data < 0)
        if below.any():
            first = int(np.flatnonzero(below)[0])
            self.add(
                "negative_time",
                f"{counted(int(below.sum()), 'time')} below zero, for example {time.data[first]:g} "
                f"{task.unit} for {self.labels.name(first)}",
                "correct the times, or count them from another index date",
            )
            known &= ~below
        if task.competing is not None:
            competing = self._competing(task.competing, event)
            if task.dated:
                self._look_for_earlier(task, competing)
        if competing is not None:
            known = known & competing.known
        followed = np.flatnonzero(known)
        for fault in follow_up_faults(
            self.name, task, time.data[followed], self.labels.subjects[followed]
        ):
            self.add(*fault)
        targets = self._targets(
            ("time", "event"), [replace(time, known=known), replace(event, known=known)]
        )
        return replace(
            targets,
            unit=task.unit,
            horizons_years=tuple(task.horizons_years),
            competing=None if competing is None else known & (competing.data > 0),
        )

    def _competing(self, text: str, event: Values) -> Values:
        """Whether a competing event ended follow-up; rows that also have the event are a fault."""
        found = self._truth(text, "competing")
        both = found.known & event.known & (found.data > 0) & (event.data > 0)
        if both.any():
            first = int(np.flatnonzero(both)[0])
            self.add(
                "two_events",
                f"{counted(int(both.sum()), 'sample')} with the event and a competing one, for "
                f"example {self.labels.name(first)}",
                "let competing: be true only where it ended follow-up before the event",
            )
        return replace(found, known=found.known & ~both)

    def _look_for_earlier(self, task: SurvivalKeys, competing: Values) -> None:
        """Warn of competing events whose own date lies before the end of follow-up."""
        last = self._dates(str(task.censor_date))
        for column in sorted(columns_of(str(task.competing), self.labels.table.columns)):
            try:
                own = self._dates(column)
            except CohortError:
                continue  # holds no dates
            early = competing.known & (competing.data > 0) & (own < last)
            if early.any():
                self.add(
                    "competing_earlier",
                    f"{counted(int(early.sum()), 'competing event')} dated before the censoring "
                    f"date ({column} before {task.censor_date}): counted at the censoring date",
                    f"competing_date: {column} in place of competing:",
                    warning=True,
                )

    def _from_dates(self, task: SurvivalKeys) -> tuple[Values, Values, Values | None]:
        """Count time from the index date; an event at or before it makes the target unknown.

        Of the event and a competing one that has a date, the first ends the time; of one day the
        event does.
        """
        happened, last = self._dates(str(task.event_date)), self._dates(str(task.censor_date))
        other = np.full(len(last), np.datetime64("NaT"), dtype="M8[D]")
        if task.competing_date is not None:
            other = self._dates(task.competing_date)
        index = self.labels.index.astype("M8[D]")
        nothing = np.datetime64("NaT")
        late, late_other = happened > last, other > last
        other = np.where(late_other, nothing, other)
        after = (other < happened) & ~late
        happened = np.where(late | after, nothing, happened)
        event, ended = ~np.isnat(happened), ~np.isnat(other)
        ended &= ~event
        end = np.where(event, happened, np.where(ended, other, last))
        days = (end - index) / np.timedelta64(1, "D")
        known = np.isfinite(days)
        prevalent = known & (event | ended) & (days <= 0)
        some = "event" if task.competing_date is None else "event, or a competing one,"
        if prevalent.any():
            self.add(
                "prevalent",
                f"{counted(int(prevalent.sum()), 'sample')} with the {some} at or before the index "
                "date; the target is unknown",
                "nothing, if incident events are asked for",
                warning=True,
            )
        if (late | late_other).any():
            self.add(
                "event_after_censoring",
                f"{counted(int((late | late_other).sum()), 'event')} dated after the censoring "
                "date: taken as censored",
                "nothing, if follow-up ends at the censoring date",
                warning=True,
            )
        if after.any():
            self.add(
                "event_after_competing",
                f"{counted(int(after.sum()), 'event')} dated after the competing event: the "
                "competing one ended follow-up",
                "nothing, if the event can follow the competing one; else correct the dates",
                warning=True,
            )
        known &= ~prevalent
        endless = np.isnat(last) & ~np.isnat(index) & ~prevalent
        if endless.any():
            self.add(
                "no_end",
                f"{counted(int(endless.sum()), 'sample')} without {task.censor_date}: of the "
                f"{int((endless & known).sum()):,} with an event the target is known, of the "
                "others not, so that events look commoner than they are",
                "fill in when they were last seen",
                warning=True,
            )
        scale = UNITS_PER_YEAR[task.unit] / DAYS_PER_YEAR
        data = np.where(known, days * scale, 0.0)
        said = str(task.event_date)
        return (
            Values(data, known, "number", said),
            Values(event.astype(np.float64), known, "number", said),
            None if task.competing_date is None
            else Values(ended.astype(np.float64), known, "number", task.competing_date),
        )  # fmt: skip

    def _dates(self, column: str) -> np.ndarray:
        table = self.labels.table
        if column not in table.columns:
            raise missing_column(column, list(table.columns), f"tasks.{self.name}")
        read = dates(table[column], f"tasks.{self.name}").to_numpy("M8[D]")
        has = self.labels.rows >= 0
        result = np.full(len(has), np.datetime64("NaT"), dtype="M8[D]")
        result[has] = read[self.labels.rows[has]]
        return result

    def look_for_one_class(self, targets: Targets) -> None:
        """Note outcomes that teach nothing: no label, all alike, or all alike in train."""
        if isinstance(self.task, MultilabelKeys) and self.task.labels is not None:
            # of the labels that a column holds, some are so rare that nobody in train has them
            taught = (targets.values[self.labels.train & targets.known[:, 0]] > 0).any(axis=0)
            untaught = [name for name, one in zip(targets.columns, taught, strict=True) if not one]
            if untaught:
                self.add(
                    "one_class",
                    f"{counted(len(untaught), 'label')} of {len(taught)} that nobody has in the "
                    f"train split: {', '.join(untaught[:10])}"
                    f"{', ...' if len(untaught) > 10 else ''}",
                    "nothing, if they are that rare: nothing is learned of them",
                    warning=any(taught),
                )
            return
        columns = [1] if targets.kind == "survival" else range(len(targets.columns))
        for column in columns:
            known = targets.known[:, column]
            label = targets.columns[column]
            what = f"'{label}'" if len(targets.columns) > 1 else "the outcome"
            if targets.kind == "survival":
                what = "the event"
            if not known.any():
                self.add("no_labels", f"{what} is known for no sample", "complete the column")
                continue
            for rows, place in ((known, ""), (known & self.labels.train, " in the train split")):
                if rows.any() and np.ptp(targets.values[rows, column]) == 0:
                    value = targets.values[rows, column][0]
                    value = (
                        targets.classes[int(value)]
                        if targets.kind == "multiclass"
                        else f"{value:g}"
                    )
                    self.add(
                        "one_class",
                        f"{what} is {value} for {_all(int(rows.sum()))}{place}"
                        f"{self._cells(column, rows if place else None)}",
                        "check the column and its expression, or take the task out",
                    )
                    break

    def _cells(self, column: int, samples: np.ndarray | None) -> str:
        """Say what the cells that an outcome is made of hold, ``"; x holds 0 (50), 2 (10)"``."""
        texts_of = _texts(self.task)
        text = texts_of[min(column, len(texts_of) - 1)]
        table, rows = self.labels.table, self.labels.rows
        used = np.unique(rows[rows >= 0] if samples is None else rows[samples & (rows >= 0)])
        read = columns_of(text, table.columns)
        return "".join(f"; {name} holds {held(table[name].iloc[used])}" for name in read)


def _all(count: int) -> str:
    return "the only labelled sample" if count == 1 else f"all {count:,} labelled samples"


def _texts(task: Task) -> list[str]:
    """Give the expression of each outcome; a survival task has one, whether the event happened."""
    if isinstance(task, SurvivalKeys):
        return [str(task.event if task.event is not None else task.event_date)]
    if isinstance(task, MultilabelKeys) and task.labels is not None:
        return [task.labels]
    if isinstance(task, MultilabelKeys) or (isinstance(task, RegressionKeys) and task.columns):
        return list(task.columns.values())
    return [str(task.column)]


def task_texts(task: Task) -> list[str]:
    """Give every expression and column that a task reads."""
    told = task.model_dump()
    plain = ("column", "labels", "time", "event", "event_date", "censor_date", "competing",
             "competing_date")  # fmt: skip
    texts_of = [told[key] for key in plain if told.get(key) is not None]
    return [*texts_of, *(told.get("columns") or {}).values()]


def tellers(task: Task, known: pd.Index) -> set[str]:
    """Give the columns that a task is made of, and those that tell it (``leaky_columns``).

    Args:
        task: The task.
        known: Columns of the table that its labels stand in.

    Raises:
        CohortError: An expression of the task cannot be read.
    """
    return {column for text in task_texts(task) for column in columns_of(text, known)} | {
        *task.leaky_columns
    }
