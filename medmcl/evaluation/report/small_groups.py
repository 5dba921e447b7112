"""Counts of subgroups that follow from their sum, or from Table 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from medmcl.core.suppression import WITHHELD, Hidden
from medmcl.evaluation.protocol.evidence import SubgroupRow
from medmcl.evaluation.report.table_one import TableOne

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


def hidden_groups(
    rows: Sequence[SubgroupRow], levels: Levels, rounded: Callable[[SubgroupRow], SubgroupRow]
) -> list[SubgroupRow]:
    """Hide more groups, smallest first, until no hidden count follows from all groups together.

    Args:
        rows: Rows as they are shown by themselves.
        levels: How many people there are of a group at most.
        rounded: Gives a row with numbers that tell no count.
    """
    done = list(rows)
    wholes = {_kind(row): row.subjects for row in rows if row.attribute == "everyone"}
    parts: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        if row.attribute != "everyone":
            parts.setdefault((_kind(row), row.attribute), []).append(place)
    for places in parts.values():
        whole = wholes.get(_kind(rows[places[0]]))
        while whole is not None and _is_told([done[k] for k in places], whole, levels):
            open_ = [k for k in places if _is_open(done[k])]
            if not open_:
                break
            least = min(open_, key=lambda k: done[k].subjects or 0)
            row = done[least]
            done[least] = rounded(
                replace(row, n=Hidden(row.n or 0), subjects=Hidden(row.subjects or 0))
            )
    return done


def _kind(row: SubgroupRow) -> object:
    return row.task, row.target, row.method, row.metric, row.label_fraction


def _is_open(row: SubgroupRow) -> bool:
    return row.subjects is not None and not isinstance(row.subjects, Hidden)


def _is_told(rows: Sequence[SubgroupRow], whole: int, levels: Levels) -> bool:
    """Whether the sum and the bounds of all groups leave one number for a hidden count."""
    ends = [_bounds(row, levels) for row in rows]
    low, high = _range(whole)
    for row, (least, most) in zip(rows, ends, strict=True):
        if row.subjects is None or not isinstance(row.subjects, Hidden):
            continue
        others = [sum(end[side] for end in ends) - (least, most)[side] for side in (0, 1)]
        if min(most, high - others[0]) - max(least, low - others[1]) < 1:
            return True
    return False


def _bounds(row: SubgroupRow, levels: Levels) -> tuple[float, float]:
    """Fewest and most people of a group by what is shown."""
    if row.subjects is not None and str(row.subjects) != WITHHELD:
        return _range(row.subjects)
    return 1, min(levels.get(row.group, ()), default=math.inf)


def _range(count: int) -> tuple[float, float]:
    """The ends of a count as shown."""
    text = str(count).replace(",", "")
    if text.startswith("<"):
        return 1, int(text[1:]) - 1
    if text == WITHHELD:
        return 1, math.inf
    low, _, high = text.partition(" to ")
    return int(low), int(high or low)
