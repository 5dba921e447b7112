"""An evaluation as it may leave: counts of few people hidden in all that a report is made of.

What is found stays as it is in memory; a report, and all files beside it, are made of `as_shown`.
What of the people of a task is shown is decided once (`small_rows.Known`), from all rows and from
the wholes that a report shows: its flow, Table 1, the splits that folds are made of.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from types import MappingProxyType
from typing import Any

from medmcl.core.suppression import (
    FEWEST_SUBJECTS,
    WITHHELD,
    Hidden,
    shown_count,
    step_of,
    to_step,
)
from medmcl.data.cohort.splits import SPLITS
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import Applied, FittedOn
from medmcl.evaluation.protocol.results import CROSS_VALIDATION, Result
from medmcl.evaluation.report.rounded import Rounded
from medmcl.evaluation.report.small_evidence import shown_evidence
from medmcl.evaluation.report.small_groups import (
    columns_scored,
    hidden_groups,
    levels_of,
    outcomes_of,
)
from medmcl.evaluation.report.small_rows import (
    Counted,
    Known,
    Outcomes,
    hidden_row,
    is_mean,
    least_of,
    rounded,
)
from medmcl.evaluation.report.table_one import Cell, Row, TableOne


def as_shown(data: Evaluation) -> Evaluation:
    """Give an evaluation with what would tell of few people hidden; ``data`` is left as it is.

    Where it says how, all counts are rounded instead.
    """
    if data.rounding is not None:
        return Rounded(data.rounding).evaluation(data)
    splits = {row.split for row in data.results}
    levels, outcomes = levels_of(data.table_one, splits), outcomes_of(data.table_one, data.results)
    rows = [*data.results, *_aside(data)]
    wholes, others = _wholes(data, {row.split for row in rows}, outcomes)
    known = Known.of(rows, wholes, others, outcomes)
    groups = hidden_groups([*data.subgroups, *data.presence], levels, known)
    return replace(
        data,
        results=[known.spoken(row) for row in hidden_rows(data.results, known)],
        subgroups=[known.spoken(row) for row in groups[: len(data.subgroups)]],
        presence=[known.spoken(row) for row in groups[len(data.subgroups) :]],
        evidence=[known.spoken(shown_evidence(one, known)) for one in data.evidence],
        fitted=[_fitted(one, known) for one in data.fitted],
        strange=[known.said(line) for line in data.strange],
        notes=[known.said(line) for line in data.notes],
        gaps=[known.said(line) for line in data.gaps],
        study=replace(data.study, gaps=tuple(map(known.said, data.study.gaps))),
        applied=[_applied(one, known) for one in data.applied],
        shown={name: [_inside(one, known) for one in found] for name, found in data.shown.items()},
        flow=_flow(data.flow),
        table_one=data.table_one and table_shown(data.table_one, data),
        embedding_map=data.embedding_map if _dots(data) >= FEWEST_SUBJECTS else {},
    )


def hidden_rows(
    rows: Iterable[Counted], known: Known, called: Mapping[str, str] = MappingProxyType({})
) -> list[Counted]:
    """Give rows of results with small counts, and what would tell them, hidden.

    Args:
        rows: Results, or rows of another class with their fields.
        known: What is shown of people.
        called: What a field of `Result` is called in these rows, where that is another name.
    """
    pairs = [hidden_row(row, known, called) for row in rows]
    tasks = {row.task for row, held in pairs if held}  # type: ignore[attr-defined]  # of any class
    return [
        rounded(row, called) if is_mean(row) and row.task in tasks else row  # type: ignore[attr-defined]  # as above
        for row, _ in pairs
    ]


def _aside(data: Evaluation) -> Iterator[Result]:
    """Rows of results that aspects hold by themselves."""
    for one in itertools.chain(*data.shown.values()):
        for value in vars(one).values() if is_dataclass(one) else ():
            if isinstance(value, (list, tuple)):
                yield from (row for row in value if isinstance(row, Result))


def _fitted(one: FittedOn, known: Known) -> FittedOn:
    known = known.of_task(one.task)
    counts = {
        name: None
        if (count := getattr(one, name)) is None
        else shown_count(count, *known.wholes, *known.others)
        for name in ("subjects", "rows")
    }
    return replace(known.spoken(one), **counts)


def _applied(one: Applied, known: Known) -> Applied:
    people = one.subjects
    return replace(one, subjects=people and shown_count(people, *known.wholes, *known.others))


def _inside(found: Any, known: Known) -> Any:
    """What an aspect found beside results, with rows and ledger lines in it as shown."""
    if not is_dataclass(found) or isinstance(found, type):
        return found
    changes: dict[str, Any] = {}
    for name, value in vars(found).items():
        if not isinstance(value, (list, tuple)) or not value:
            continue
        if all(isinstance(one, Result) for one in value):
            changes[name] = type(value)(map(known.spoken, hidden_rows(value, known)))
        elif all(isinstance(one, FittedOn) for one in value):
            changes[name] = type(value)(_fitted(one, known) for one in value)
    told, rows = vars(found), changes.get("rows", ())
    if rows and (chance := told.get("chance")) and told.get("name") in known.tasks:  # their share
        step = step_of(least_of(rows[0].n))
        changes["chance"] = {k: v and to_step(v, step) for k, v in chance.items()}
    return known.spoken(replace(found, **changes))


def _wholes(
    data: Evaluation, splits: Collection[str], outcomes: Mapping[object, Outcomes]
) -> tuple[set[int], set[int]]:
    """Counts in flow and Table 1: of people whom those who are scored are among, and of others.

    Who is scored is of a split, or of folds of several; nobody is of the splits beside. All who
    have the inputs are told by a task of which nobody lacks the outcome.
    """
    sizes, table = _sizes(data), data.table_one
    folded, whole = _splits(sizes)
    shown = [*sizes.items(), (CROSS_VALIDATION, folded), ("", whole)]
    for row in table.rows if table is not None else ():
        if table is not None and row.statistic == "subjects":
            shown += [(name, cell.count) for name, cell in zip(table.splits, row.cells, strict=True)
                      if cell.count is not None]  # fmt: skip
    beside = {*SPLITS, CROSS_VALIDATION} - {*splits} if splits else set()
    wholes = {count for name, count in shown if name not in beside}
    inputs = {
        row.subjects
        for row in (data.results if table is not None else ())
        for known in (outcomes.get(row.task, ([*wholes], []))[0],)
        if row.subjects and known and wholes.issuperset(known)  # nobody lacks this outcome
        if not isinstance(shown_count(row.subjects, *wholes), Hidden)
    }
    return wholes | inputs, {count for name, count in shown if name in beside}


def _sizes(data: Evaluation) -> dict[str, int]:
    return {step: subjects for step, subjects, _ in data.flow}


def _splits(sizes: Mapping[str, int]) -> tuple[int, ...]:
    """People of the splits that folds are made of: train and tuning, or all."""
    train, tuning, held_out = (sizes.get(name, 0) for name in SPLITS)
    return train + tuning, train + tuning + held_out


def _flow(flow: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Steps of which none is another one less few; the splits, and their sum, stay as they are."""
    columns = []
    for counts in zip(*[step[1:] for step in flow], strict=True):
        sizes = {step[0]: count for step, count in zip(flow, counts, strict=True)}
        near = [*(sizes[name] for name in SPLITS if name in sizes), _splits(sizes)[1]]
        done: list[int] = []
        for (name, *_), count in zip(reversed(flow), reversed(counts), strict=True):
            shown = count if name in SPLITS else _apart(count, near)
            near += [] if isinstance(shown, Hidden) else [shown]
            done.insert(0, shown)
        columns.append(done)
    return [(step[0], *pair) for step, *pair in zip(flow, *columns, strict=True)]


def _apart(count: int, shown: Iterable[int]) -> int:
    """A count of a flow, as the range it lies in where it is few more or fewer than another."""
    for other in shown:
        if 0 < other - count < FEWEST_SUBJECTS:
            return shown_count(count, other)
        if other and 0 < count - other < FEWEST_SUBJECTS:
            return Hidden(count, f"{other + 1:,} to {other + FEWEST_SUBJECTS - 1:,}")
    return count


def _dots(data: Evaluation) -> int:
    return len(data.embedding_map.get("points", ()))


def table_shown(table: TableOne, data: Evaluation) -> TableOne:
    """Give Table 1 as it may leave beside an evaluation; one of rounded counts is left as it is."""
    if data.rounding is not None:
        return table
    return _apart_from_results(_table_one(table, _sizes(data)), data.results)


def _apart_from_results(table: TableOne, results: Sequence[Result]) -> TableOne:
    """Table 1 without levels of an outcome that 1 to 4 more people have than results tell.

    These lack an input: they were not scored, or not fitted on.
    """
    told: dict[tuple[str, str, bool], set[int]] = {}
    last: dict[str, int] = {}
    for row in results:
        last[row.task] = max(row.events or 0, last.get(row.task, 0))
    for row in results:
        by_horizon = row.kind == "survival" and row.events != last[row.task]
        if row.events is None or is_mean(row) or by_horizon:
            continue
        counts = [(False, row.events, row.subjects or row.n)]
        if row.train_events is not None and row.train_subjects and row.label_fraction == 1:
            counts.append((True, row.train_events, row.train_subjects))
        for is_train, events, people in counts:
            sides = {"yes": events, "no": people - events}
            for level, count in (
                {row.target: events} if row.kind == "multiclass" else sides
            ).items():
                for name in (row.task, f"{row.task}: {row.target}", f"{row.task}: event"):
                    told.setdefault((name, level, is_train), set()).add(count)
    scored = columns_scored(table, {row.split for row in results})
    train = [name in ("train", "training") for name in table.splits]
    near = {
        (row.variable, place)
        for row in table.rows
        for place, cell in enumerate(row.cells)
        for is_train, columns in ((False, scored), (True, train))
        if columns[place] and row.statistic == "count" and cell.count is not None
        if any(0 < cell.count - count < FEWEST_SUBJECTS
               for count in told.get((row.variable, row.level, is_train), ()))
    }  # fmt: skip
    return replace(table, rows=tuple(_without(row, near) for row in table.rows))


def _without(row: Row, near: Collection[tuple[str, int]]) -> Row:
    """A row of Table 1 without its counts in some columns of its variable."""
    places = [place for variable, place in near if variable == row.variable]
    if not places or row.statistic != "count":
        return row
    cells = (Cell(text=WITHHELD) if k in places else cell for k, cell in enumerate(row.cells))
    return replace(row, cells=tuple(cells), differences=tuple(None for _ in row.differences))


def _table_one(table: TableOne, sizes: Mapping[str, int]) -> TableOne:
    """Table 1 in which no column is a step of the flow less few, by itself or by sum or share."""
    people = [cell.count for row in table.rows[:1] for cell in row.cells]
    shown = {
        place: count
        for place, (name, n) in enumerate(zip(table.splits, people, strict=bool(people)))
        if n is not None and sizes.get(name) != n
        and isinstance(count := shown_count(n, *sizes.values(), *_splits(sizes)), Hidden)
    }  # fmt: skip
    if not shown:
        return table
    most: dict[tuple[str, int], int] = {}
    for row in table.rows:
        for place in shown:
            key, count = (row.variable, place), row.cells[place].count or 0
            most[key] = max(count, most.get(key, 0))

    def cell(row: Row, place: int) -> Cell:
        one = row.cells[place]
        if place not in shown or one.count is None:
            return one
        if row.statistic == "subjects":
            return Cell(text=str(shown[place]))
        if one.count == most[row.variable, place]:
            return Cell(text=WITHHELD)
        return Cell(text=f"{one.count:,}", count=one.count)

    rows = (
        replace(row, cells=tuple(cell(row, place) for place in range(len(people))),
                differences=tuple(None for _ in row.differences))
        for row in table.rows
    )  # fmt: skip
    return replace(table, rows=tuple(rows))
