"""Columns of the subjects table that are made of events: index dates, and outcomes after them.

A landmark task asks at an index date (the first discharge) what happens in a window after it (a
readmission within 30 days). `add_dates` makes both. Events of inputs are cut at the index date by
their reader; here is what keeps an outcome from being asked at another date than that, or from
being an input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning, counted, task_finding
from medmcl.data.cohort.outcomes import task_texts
from medmcl.data.cohort.records import path_columns
from medmcl.data.cohort.spec import CohortSpec, DateKeys, ModalitySpec, SubjectsKeys, SurvivalKeys
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import Table, event_dates, texts, tidy
from medmcl.data.tables.lost_zeros import refuse_lost_zeros
from medmcl.data.tables.subject_rows import SubjectTable


def add_dates(
    keys: SubjectsKeys, table: Table, ids: np.ndarray, read: Callable[[str], Table]
) -> tuple[Table, list[Finding]]:
    """Add the columns of ``subjects.dates`` to the subjects table.

    Args:
        keys: What cohort.yaml says of the subjects.
        table: The subjects table.
        ids: Subject of each of its rows. (N,) object
        read: Gives a table of the cohort by its name.

    Raises:
        CohortError: A column is missing, or is there already; no row is of a subject of the table.
    """
    people = pd.Index(pd.unique(pd.Series(ids, dtype=object).dropna()), dtype=object)
    dates: dict[str, np.ndarray] = {}
    frame, findings = table.frame, list[Finding]()
    for name, one in keys.dates.items():
        field = f"subjects.dates.{name}"
        if name in frame.columns:
            raise CohortError(
                f"the subjects table has a column '{name}' of its own",
                where=field,
                fix="call the date otherwise",
            )
        events = _events(one, read(one.table), keys.id or "id", people, field)
        cells, told = _column(name, one, events, dates, people)
        findings += told
        if one.is_date:
            dates[name] = cells.to_numpy("M8[ns]")
        added = tidy(cells.reindex(ids).to_frame(name)).set_axis(frame.index)
        frame = frame.assign(**{name: added[name]})
    return replace(table, frame=frame), findings


def _events(
    keys: DateKeys, table: Table, id_column: str, people: pd.Index, field: str
) -> pd.DataFrame:
    """Give the dated events that are meant: ``row`` (of the person), ``time``, ``value``."""
    column = keys.id or id_column
    ids = texts(table.require(column, f"{field}.id"))
    owner = people.get_indexer(pd.Index(ids))
    refuse_lost_zeros(ids, people, f"{field}, table {table.where}, column {column}")
    table.require(keys.date, f"{field}.date")
    if len(owner) and (owner < 0).all():
        raise CohortError(
            "no event belongs to a subject of the subjects table",
            where=f"{field}, table {table.where}, column {column}",
            got=f"for example {table.frame[column].iloc[0]!r}",
            expected=f"for example {next(iter(people), None)!r}",
            fix=f"name the column with the subject id: {field}.id",
        )
    chosen = owner >= 0
    if keys.where is not None:
        said = evaluate(keys.where, table.frame, {}, f"{field}.where")
        chosen &= said.known & said.data.astype(bool)
    frame = table.frame[chosen]
    time, _ = event_dates(frame[keys.date], f"{field}.date, table {table.where}")
    value = None if keys.value is None else table.require(keys.value, f"{field}.value")[chosen]
    found = pd.DataFrame(
        {"row": owner[chosen], "time": time.to_numpy("M8[ns]"), "value": value}, index=frame.index
    )
    return found[found["time"].notna()].sort_values("time", kind="stable")


def _column(
    name: str,
    keys: DateKeys,
    events: pd.DataFrame,
    dates: Mapping[str, np.ndarray],
    people: pd.Index,
) -> tuple[pd.Series, list[Finding]]:
    """Give what each person has of it, and what is to be told."""
    where = f"subjects.dates.{name}"
    row, time = events["row"].to_numpy(), events["time"].to_numpy("M8[ns]")
    kept = np.ones(len(events), dtype=bool)
    if keys.after is not None:
        kept = time > dates[keys.after][row]  # comparing with NaT gives False
    elif keys.at is not None:
        kept = time == dates[keys.at][row]
    is_window = keys.value is None and not keys.is_date
    which = "first" if is_window else keys.which
    chosen = events[kept].drop_duplicates("row", keep=which).set_index("row")
    chosen = chosen.reindex(np.arange(len(people)))
    happened = chosen["time"].to_numpy("M8[ns]")
    found: list[Finding] = []
    if keys.value is not None:
        return chosen["value"].set_axis(people), found
    if keys.is_date:
        if keys.after is None and keys.where is None and keys.which == "first":
            rows = int(len(events) - chosen["time"].notna().sum())
            if rows:
                what = f"{counted(rows, 'row')} beside the first of a subject: left out, one date a"
                fix = "nothing, if that is meant; which: last takes the last"
                found.append(cohort_warning("dates.further", where, f"{what} subject", fix))
        return pd.Series(happened + _days(keys.plus_days), people), found
    start = dates[str(keys.after)]
    within = keys.within_days
    end = dates[str(keys.until)] if within is None else start + _days(within)
    known = end > start
    yes = happened <= end
    if keys.followed is not None:
        known &= yes | (dates[keys.followed] >= end)
    if keys.new:
        before = np.zeros(len(people), dtype=bool)
        before[row[time <= start[row]]] = True
        already = int((known & before).sum())
        if already:
            what = (
                f"{counted(already, 'subject')} with the event at or before {keys.after}: unknown"
            )
            fix = "nothing, if new events are asked for"
            found.append(cohort_warning("dates.prevalent", where, what, fix))
        known &= ~before
    return pd.Series(np.where(known, yes, np.nan), people), found


def _days(days: float) -> np.timedelta64:
    return np.timedelta64(round(days * 86400), "s")


def _anchor(name: str, dates: Mapping[str, DateKeys]) -> str | None:
    """Give the date that an outcome is asked at; None where it may lie before any."""
    return dates[name].after or dates[name].at


def tasks_of_no_index(spec: CohortSpec, subjects: SubjectTable) -> list[Finding]:
    """Refuse tasks of events that are not asked at the index date: inputs could hold the answer.

    An outcome that is made of events is asked after (or at) the very date that ``index:`` names.
    A survival task with dates is, by what it is.
    """
    dates = spec.keys.subjects.dates
    index = None if spec.keys.index is None else spec.keys.index.column
    found = []
    for name, task in spec.tasks.items():
        if isinstance(task, SurvivalKeys) and task.dated:
            continue
        try:
            read = [c for t in task_texts(task) for c in columns_of(t, subjects.frame.columns)]
        except CohortError:
            continue  # building the task says what is wrong with its expression
        for column in read:
            if column not in dates or (index is not None and _anchor(column, dates) == index):
                continue
            asked = _anchor(column, dates)
            at = "at no date" if asked is None else f"after '{asked}'"
            cut = "at no index date" if index is None else f"at '{index}'"
            found.append(
                task_finding(
                    name,
                    "task.not_at_index",
                    f"'{column}' is asked {at}, and inputs are cut {cut}: they could hold the "
                    "answer",
                    f"index: {{column: {asked}}}"
                    if asked
                    else f"say after: the index date, under subjects.dates.{column}",
                    "error",
                )
            )
            break
    return found


def refuse_future_inputs(
    spec: ModalitySpec,
    own: Table | None,
    subjects: SubjectTable,
    dates: Mapping[str, DateKeys],
) -> None:
    """Refuse a modality that reads a column made of events: it tells what happened later.

    Raises:
        CohortError: It does.
    """
    known = pd.Index([*subjects.frame.columns, *subjects.doubtful.columns])
    own_columns = set() if own is None else set(own.frame.columns)
    read = {*spec.source_columns, *path_columns(spec)}
    read |= {one for one in (spec.keys.record, spec.keys.date) if one is not None}
    if spec.keys.present is not None:
        read |= set(columns_of(spec.keys.present, known))
    told = sorted((read & set(dates)) - own_columns)
    if told:
        raise CohortError(
            f"reads '{told[0]}', which is made of events that may lie after the index date",
            where=f"modalities.{spec.name}",
            fix=f"take it out; subjects.dates.{told[0]} is for index: and tasks",
        )
