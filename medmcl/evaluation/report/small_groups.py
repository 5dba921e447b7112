"""Counts of groups that follow from their sum, other groups, other tasks, or Table 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from medmcl.core.suppression import FEWEST_SUBJECTS, Hidden, leaves_one
from medmcl.evaluation.protocol.evidence import PresenceRow, SubgroupRow
from medmcl.evaluation.report.small_rows import Known, hidden_row, rounded
from medmcl.evaluation.report.table_one import TableOne

EVERYONE, AS_IF = "everyone", "as if"
Group = SubgroupRow | PresenceRow
Levels = Mapping[str, tuple[int, ...]]
"""Level of a category to how many of the scored people have it, by each variable that has it."""


def levels_of(table: TableOne | None, splits: Collection[str]) -> Levels:
    """Give how many have a level, of any variable of Table 1.

    Args:
        table: As shown.
        splits: What was scored; where no column is called so, those count that say so.
    """
    if table is None:
        return {}
    named = [name in splits for name in table.splits]
    chosen = named if any(named) else [name.startswith("scored") for name in table.splits]
    found: dict[str, tuple[int, ...]] = {}
    for row in table.rows:
        for cell, is_scored in zip(row.cells, chosen, strict=True):
            if row.statistic == "count" and is_scored and cell.count is not None:
                found[row.level] = (*found.get(row.level, ()), cell.count)
    return found


def hidden_groups(rows: Sequence[Group], levels: Levels, known: Known) -> list[Group]:
    """Rows of groups as shown; where any group or its people are hidden, no count tells it.

    Of a task of which few of a group are not scored, no group is counted. Where only groups are
    held back, all others but everyone are counted in fives: another attribute, task or pattern
    would tell what one holds back. Where sums still do, the smallest are withheld.

    Args:
        rows: Rows of subgroups, and by what subjects have.
        levels: How many people there are of a group at most.
        known: What is shown of people.
    """
    same: dict[object, set[int]] = {}
    for row in rows:
        if row.subjects and _name(row)[0] != EVERYONE:
            same.setdefault(_name(row), set()).add(row.subjects)
    done: list[Group] = []
    for row in rows:
        attribute, group = _name(row)
        own = (*levels.get(group, ()), *same.get((attribute, group), ()))
        is_part = attribute != EVERYONE and isinstance(row, SubgroupRow)  # no step of the flow
        wholes = own if is_part else (*known.wholes, *own)
        done.append(hidden_row(row, replace(known, wholes=wholes))[0])
    if all(_is_open(row) for row in done):
        return done
    gone = {row.task for row in done if isinstance(row.subjects, Hidden)}
    parts: dict[object, list[int]] = {}
    whole = {_kind(row): row.subjects for row in done if _name(row)[0] == EVERYONE}
    for place, row in enumerate(done):
        attribute, _ = _name(row)
        if attribute != EVERYONE:
            done[place] = _counted(row, Hidden if row.task in gone else _in_five)
            parts.setdefault((_kind(row), attribute), []).append(place)
    for places in parts.values():
        people = whole.get(_kind(done[places[0]]))
        while people is not None and _is_told([done[k] for k in places], people):
            left = [k for k in places if str(done[k].subjects)[:1].isdigit()]
            if not left:
                break
            least = min(left, key=lambda k: done[k].subjects or 0)
            done[least] = _counted(done[least], Hidden)
    return done


def _name(row: Group) -> tuple[str, str]:
    """What a group is of, and its name."""
    if isinstance(row, SubgroupRow):
        return row.attribute, row.group
    return (row.modalities if row.modalities == EVERYONE else row.asked), row.modalities


def _kind(row: Group) -> object:
    kind = row.task, row.target, row.method, row.metric, row.label_fraction
    return (type(row), *kind)


def _is_open(row: Group) -> bool:
    """Whether people of a group are shown, and those with the event if it has one."""
    counts = (row.subjects, row.events)
    return row.subjects is not None and not any(isinstance(one, Hidden) for one in counts)


def _counted(row: Group, shown: Callable[[int], int]) -> Group:
    """A row with counts as they are shown, and numbers that do not tell them."""
    if row.subjects is None or row.subjects < FEWEST_SUBJECTS:
        return row
    names = ("n", "subjects", "events")
    counts = {name: shown(count) for name in names if (count := getattr(row, name)) is not None}
    return rounded(replace(row, **counts), {})  # type: ignore[arg-type]  # each under its name


def _in_five(count: int) -> int:
    low = count - count % FEWEST_SUBJECTS
    return Hidden(int(count), f"{low:,} to {low + FEWEST_SUBJECTS - 1:,}")


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
