"""Counts of groups that follow from their sum, other groups, other tasks, or Table 1."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medmcl.core.suppression import FEWEST_SUBJECTS, WITHHELD, Hidden, leaves_one
from medmcl.evaluation.protocol.evidence import PresenceRow, SubgroupRow
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.protocol.subgroups import COUNTS_WITHHELD
from medmcl.evaluation.report.small_rows import Known, Outcomes, hidden_row, rounded
from medmcl.evaluation.report.table_one import Cell, Row, TableOne

COUNTS = ("n", "subjects", "events")
EVERYONE, AS_IF = "everyone", "as if"
WHOLE = (EVERYONE, EVERYONE)
Group = SubgroupRow | PresenceRow
Levels = Mapping[tuple[str, str], tuple[int, ...]]
"""Attribute and group to how many of the scored people are of it; of any attribute under ""."""

_COLUMN = re.compile(r": | \([^()]*\)$")
"""What stands behind the name of a task in Table 1: one of its columns, or its unit."""


def levels_of(table: TableOne | None, splits: Collection[str]) -> Levels:
    """Give how many have a level of Table 1, by its variable, and whatever that is called.

    Yes and no, which outcomes have too, are by their variable alone.

    Args:
        table: As shown.
        splits: What was scored; where no column is called so, those count that say so.
    """
    if table is None:
        return {}
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for row in table.rows:
        for cell in _scored(row, table, splits):
            if row.statistic == "subjects" and cell.count is not None:
                found[WHOLE] = (*found.get(WHOLE, ()), cell.count)
            if row.statistic == "count" and cell.count is not None:
                is_flag = row.level in ("yes", "no", "0", "1")
                named = row.variable.partition(",")[0]
                for key in ((named, row.level), *([] if is_flag else [("", row.level)])):
                    found[key] = (*found.get(key, ()), cell.count)
    return found


def outcomes_of(table: TableOne | None, results: Sequence[Result]) -> dict[object, Outcomes]:
    """Give how many have a value of each task, or of its columns, where Table 1 says who lacks.

    Args:
        table: As shown.
        results: What was scored.
    """
    found: dict[object, Outcomes] = {}
    if table is None:
        return found
    chosen = columns_scored(table, {row.split for row in results})
    levels = _sides(table, chosen, results)
    for row in table.rows:
        if row.statistic == "missing":
            own: Outcomes = ([], [])
            for people, lack, is_scored in zip(table.rows[0].cells, row.cells, chosen, strict=True):
                few = FEWEST_SUBJECTS - 1 if lack.text.startswith("<") else None  # at most
                gone = few if lack.count is None else lack.count
                if people.count is not None and gone is not None:
                    own[not is_scored].append(people.count - gone)
            own[1].append(sum(own[1]))  # train and tuning together
            for lack, is_scored in zip(row.cells, chosen, strict=True):
                if lack.text == WITHHELD:  # who has a value may be all but few of one of these
                    own[not is_scored].extend(levels[not is_scored])
            scored, others = found.get(_COLUMN.split(row.variable)[0], ([], []))
            found[_COLUMN.split(row.variable)[0]] = (scored + own[0], others + own[1])
    return found


def _sides(table: TableOne, chosen: Sequence[bool], results: Sequence[Result]) -> Outcomes:
    """How many have a level, or an outcome, of those who were scored and of others."""
    scored = {count for row in results for count in (row.events, row.non_events)}
    others = {row.train_events for row in results}
    for row in table.rows:
        for cell, is_scored in zip(row.cells, chosen, strict=True):
            if row.statistic == "count":
                (scored if is_scored else others).add(cell.count)
    return [n for n in scored if n is not None], [n for n in others if n is not None]


def _scored(row: Row, table: TableOne, splits: Collection[str]) -> list[Cell]:
    """The cells of a row that are of who was scored."""
    chosen = columns_scored(table, splits)
    return [cell for cell, is_scored in zip(row.cells, chosen, strict=True) if is_scored]


def columns_scored(table: TableOne, splits: Collection[str]) -> list[bool]:
    """Say of each column of Table 1 whether it is of who was scored.

    Args:
        table: Table 1.
        splits: What was scored; where no column is called so, those count that say so.
    """
    named = [name in splits for name in table.splits]
    return named if any(named) else [name.startswith("scored") for name in table.splits]


def hidden_groups(rows: Sequence[Group], levels: Levels, known: Known) -> list[Group]:
    """Rows of groups as shown; where any group or its people are hidden, no count tells it.

    Of a task of which few of a group are not scored, no group is counted: by Table 1, or by another
    task, but for one that has fewer people of some group: then a difference counts no people. Where
    only groups are held back, all others but everyone are counted in fives, unless Table 1 counts
    the same people: another attribute, task or pattern would tell what one holds back. Where sums
    still do, the smallest are withheld.

    Args:
        rows: Rows of subgroups, and by what subjects have.
        levels: How many people there are of a group at most.
        known: What is shown of people.
    """
    sizes: dict[object, dict[tuple[str, str], int]] = {}
    for row in rows:
        if row.subjects:
            sizes.setdefault(_kind(row), {})[_name(row)] = row.subjects
    distinct = list({tuple(own.items()): own for own in sizes.values()}.values())
    larger = {tuple(own.items()): [one for one in distinct if _may_hold(one, own)]
              for own in distinct}  # fmt: skip
    done: list[Group] = []
    for row in rows:
        attribute, group = _name(row)
        tasks = larger[tuple(sizes[_kind(row)].items())] if row.subjects else ()
        same = [one[attribute, group] for one in tasks
                if attribute != EVERYONE and (attribute, group) in one]  # fmt: skip
        told = levels.get((attribute, group)) or levels.get(("", group), ())
        own = (*told, *same)
        is_part = attribute != EVERYONE and isinstance(row, SubgroupRow)  # no step of the flow
        wholes = own if is_part else (*known.wholes, *own)
        outcomes = {} if is_part else known.outcomes
        done.append(hidden_row(row, replace(known, wholes=wholes, outcomes=outcomes))[0])
    if all(_is_open(row) for row in done):
        return done
    gone = {row.task for row in done if isinstance(row.subjects, Hidden)}
    tables: dict[object, list[int]] = {}
    whole = {_kind(row): row.subjects for row in done if _name(row)[0] == EVERYONE}
    for place, row in enumerate(done):
        attribute, _ = _name(row)
        if attribute != EVERYONE:
            is_whole = levels.get(WHOLE, ()) == (whole.get(_kind(row)),)
            row = _in_fives(row, is_whole and levels.get(_name(row), ()) == (row.subjects,))
            done[place] = _uncounted(row) if row.task in gone else row
            tables.setdefault((_kind(row), attribute), []).append(place)
    for places in tables.values():
        people = whole.get(_kind(done[places[0]]))
        while people is not None and _is_told([done[k] for k in places], people):
            left = [k for k in places if (done[k].subjects or 0) >= FEWEST_SUBJECTS]
            if not left:
                break
            least = min(left, key=lambda k: done[k].subjects or 0)
            done[least] = _uncounted(done[least])
    return done


def _name(row: Group) -> tuple[str, str]:
    """What a group is of, and its name."""
    if isinstance(row, SubgroupRow):
        return row.attribute, row.group
    return (row.modalities if row.modalities == EVERYONE else row.asked), row.modalities


def _may_hold(others: Mapping[Any, int], people: Mapping[Any, int]) -> bool:
    """Whether the people of a task may all be among those of another, by the size of each group."""
    return all(others.get(name, count) >= count for name, count in people.items())


def _kind(row: Group) -> object:
    kind = row.task, row.target, row.method, row.metric, row.label_fraction
    return (type(row), *kind)


def _is_open(row: Group) -> bool:
    """Whether people of a group are shown, and those with the event if it has one."""
    counts = (row.subjects, row.events)
    return row.subjects is not None and not any(isinstance(one, Hidden) for one in counts)


def _in_fives(row: Group, is_counted: bool) -> Group:
    """A row with counts as ranges of five, and numbers that do not tell them.

    Args:
        row: The row.
        is_counted: Whether Table 1 counts its people: everybody of it is scored.
    """
    if row.subjects is None or row.subjects < FEWEST_SUBJECTS:
        return row
    ranges: dict[str, Any] = {}
    for name in COUNTS:
        if (count := getattr(row, name)) is not None and not (
            is_counted and name != "events" and count == row.subjects
        ):
            low = count - count % FEWEST_SUBJECTS
            ranges[name] = Hidden(count, f"{low:,} to {low + FEWEST_SUBJECTS - 1:,}")
    return rounded(replace(row, **ranges), {})


def _uncounted(row: Group) -> Group:
    if row.subjects is None:
        return row
    note = "; ".join(text for text in (row.note, COUNTS_WITHHELD) if text)
    return replace(row, **dict.fromkeys(COUNTS), note=note)  # type: ignore[arg-type]  # None each


def _is_told(rows: Sequence[Group], whole: int) -> bool:
    """Whether the sum of all groups leaves one number for a hidden count."""
    is_whole = _name(rows[0])[0] != AS_IF
    return is_whole and leaves_one([_range(row.subjects) for row in rows], _range(whole))


def _range(count: int | None) -> tuple[float, float]:
    """The ends of a count as shown."""
    text = str(count).replace(",", "")
    if text.startswith("<"):
        return 1, int(text[1:]) - 1
    if not text[:1].isdigit():
        return 1, math.inf
    low, _, high = text.partition(" to ")
    return int(low), int(high or low)
