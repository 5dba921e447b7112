"""A metric among some of the scored subjects, with what is too small to show held back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from medmcl.core.suppression import UNKNOWN, to_step
from medmcl.evaluation.metrics.sampled import Sampled
from medmcl.evaluation.models.knn import one_hot
from medmcl.evaluation.protocol.evidence import PresenceRow, SubgroupRow
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.scoring import Samplers, score
from medmcl.evaluation.protocol.setting import Setting

FEWEST_SUBJECTS = 20
FEWEST_EVENTS = 5
TOO_SMALL = (
    f"fewer than {FEWEST_SUBJECTS} subjects, "
    f"or fewer than {FEWEST_EVENTS} with (or without) the event"
)
WITHHELD = "withheld, so that a smaller group cannot be told by subtraction"
COUNTS_WITHHELD = f"counts {WITHHELD}; the value is rounded to two digits for the same reason"
RANKED = ("auroc", "c_index", "c_index_ipcw")
"""Metrics of pairs of people: those of everyone and of one group do not give that of the others,
as a mean over people would. Written in full they would give counts away, being a count of pairs by
another: two digits do not."""


Row = TypeVar("Row", SubgroupRow, PresenceRow)


@dataclass(frozen=True)
class Group:
    """Scored rows that are shown together.

    Attributes:
        name: Its name.
        rows: (scored,) bool.
        subjects: How many.
        least: Subjects of the rarest outcome; None where the outcome has none.
    """

    name: str
    rows: np.ndarray
    subjects: int
    least: int | None

    @property
    def is_too_small(self) -> bool:
        """Whether no number of it is shown."""
        few = self.least is not None and self.least < FEWEST_EVENTS
        return self.subjects < FEWEST_SUBJECTS or few


def pooled(
    groups: np.ndarray, subjects: np.ndarray, name: str = f"other sites (<{FEWEST_SUBJECTS})"
) -> np.ndarray:
    """Give groups of fewer than 20 subjects one name, but who is unknown, (N,) object."""
    names = np.asarray(groups, dtype=object).copy()
    for group in dict.fromkeys(names.tolist()):
        rows = names == group
        if group != UNKNOWN and len(np.unique(subjects[rows])) < FEWEST_SUBJECTS:
            names[rows] = name
    return names


def subgroup_rows(
    setting: Setting,
    table: Predicted,
    subgroups: Mapping[str, np.ndarray],
    samplers: Samplers,
) -> list[SubgroupRow]:
    """Score a method among groups of the scored subjects: everyone first, then each attribute.

    It is scored by the headline, and of a binary task by the calibration slope beside.

    Groups of fewer than 20 subjects, or with fewer than 5 subjects with or without the event (of
    any column, or class that is scored at all), show no number. Where what is held back of an
    attribute could be told by subtraction (one group alone, or too few in all), the next smallest
    group is held back too; of metrics in `RANKED` only its counts. Sites of fewer than 20 subjects
    are pooled first.

    Args:
        setting: The evaluation.
        table: Predictions.
        subgroups: Attribute to the group of every row of the task, (N,) text.
        samplers: Bootstrap of the scored rows.
    """
    first = next(iter(table.sampled), None)
    if first is None or table.pools_constants:
        return []
    wanted = [first[1], *(["calibration_slope"] if setting.targets.kind == "binary" else [])]
    chosen = {metric: next(key for key in table.sampled if key[1] == metric) for metric in wanted}
    subjects = setting.subjects[setting.scored]
    parts: dict[str, list[Group]] = {"everyone": [group_of(setting, "everyone", table.rows)]}
    for attribute, labels in subgroups.items():
        names = np.asarray(labels, dtype=object)[setting.scored]
        if attribute == "site":
            names = pooled(names, subjects)
        found = [n for n in dict.fromkeys(names.tolist()) if n != UNKNOWN]
        found = [*sorted(map(str, found), key=in_order), *([UNKNOWN] if UNKNOWN in names else [])]
        each = [group_of(setting, name, table.rows & (names == name)) for name in found]
        each = [group for group in each if group.subjects]
        if len(each) > 1:
            parts[attribute] = each
    rows: list[SubgroupRow] = []
    for attribute, each in parts.items():
        held = held_back([group.subjects for group in each], [group.least for group in each])
        for group, reason in zip(each, held, strict=True):
            for metric, key in chosen.items():
                row = SubgroupRow(
                    target=key[0],
                    metric=metric,
                    direction=table.sampled[key][0].spec.direction,
                    attribute=attribute,
                    group=group.name,
                    **table.about(setting),
                )
                if reason and not (reason == WITHHELD and metric in RANKED):
                    rows.append(replace(row, suppressed=True, note=reason))
                    continue
                row = replace(row, **numbers_of(setting, table, samplers, key, group))
                rows.append(uncounted(replace(row, note="")) if reason else row)
    return rows


def left_out(
    setting: Setting | None, rows: Sequence[SubgroupRow], subgroups: Mapping[str, np.ndarray]
) -> list[str]:
    """Say of which attributes all groups were pooled to one, so that there is nothing to compare.

    Args:
        setting: The evaluation; None where nobody was scored.
        rows: Those of `subgroup_rows`.
        subgroups: As there.
    """
    if setting is None:
        return []
    shown = {row.attribute for row in rows}
    return [
        f"subgroups by {name} left out: each has fewer than {FEWEST_SUBJECTS} scored subjects"
        for name, labels in subgroups.items()
        if rows and name not in shown and len({*np.asarray(labels)[setting.scored].tolist()}) > 1
    ]


def in_order(name: str) -> tuple[int, float, str]:
    """Sort bands of numbers by where they begin, other names by letter."""
    band = re.match(r"(<|>=|)(-?[0-9.]+(?:e[+-]?[0-9]+)?)(?: to <|$)", name)
    if band is None:
        return 3, 0.0, name
    return {"<": 0, "": 1, ">=": 2}[band[1]], float(band[2]), name


def held_back(subjects: Sequence[int], least: Sequence[int | None]) -> list[str]:
    """Say why each group of an attribute shows no number; empty where it does.

    Args:
        subjects: Subjects of each group.
        least: Subjects of its rarer outcome; None where the outcome has none.
    """
    reasons = [
        TOO_SMALL if n < FEWEST_SUBJECTS or (e is not None and e < FEWEST_EVENTS) else ""
        for n, e in zip(subjects, least, strict=True)
    ]
    while any(reasons):
        out = [k for k, reason in enumerate(reasons) if reason]
        shown = [k for k, reason in enumerate(reasons) if not reason]
        events = [least[k] or 0 for k in out if least[k] is not None]
        tells = len(out) == 1 or sum(subjects[k] for k in out) < FEWEST_SUBJECTS
        tells |= bool(events) and sum(events) < FEWEST_EVENTS
        # all too small, and together as many as that allows: then each has just that many
        alike = bool(events) and sum(events) == len(events) * (FEWEST_EVENTS - 1)
        tells |= alike and WITHHELD not in reasons
        if not tells or not shown:
            break
        reasons[min(shown, key=lambda k: subjects[k])] = WITHHELD
    return reasons


def group_of(setting: Setting, name: str, rows: np.ndarray) -> Group:
    """Count the subjects of some scored rows (scored,), and those of their rarest outcome."""
    targets, here = setting.targets, setting.scored[rows]
    people = setting.subjects[here]
    least = None
    if targets.kind == "survival":
        least = len(np.unique(people[targets.event[here]]))
    elif targets.kind != "regression":
        values, known = one_hot(targets)
        whole = values[setting.scored]
        sides = [
            len(np.unique(people[known[here, k] & ((values[here, k] > 0) == positive)]))
            for k in range(values.shape[1])
            if known[here, k].any() and (targets.kind != "multiclass" or whole[:, k].any())
            for positive in (True, False)
        ]
        least = min(sides, default=0)
    return Group(name, rows, len(np.unique(people)), least)


def among(
    setting: Setting,
    table: Predicted,
    samplers: Samplers,
    key: tuple[str, str],
    rows: np.ndarray,
) -> Sampled:
    """Sample one metric of a method among some scored rows (scored,), with the fewer draws."""
    few = Samplers(samplers.short, samplers.short)
    return score(setting, table, few, rows, only=key[1])[key][1]


def numbers_of(
    setting: Setting, table: Predicted, samplers: Samplers, key: tuple[str, str], group: Group
) -> dict[str, Any]:
    """Give one metric of a method among a group, with its interval and counts, as a row has it."""
    sampled = table.sampled[key][1]  # of everyone: the row of the results has it already
    if not np.array_equal(group.rows, table.rows):
        sampled = among(setting, table, samplers, key, group.rows)
    return sampled.interval(setting.resampling.level).numbers()


def uncounted(row: Row) -> Row:
    """Take the counts away: beside those of everyone they would tell the few who are left."""
    names = ("value", "low", "high", "difference", "difference_low", "difference_high")
    shown: dict[str, Any] = {
        name: to_step(one, 0.01)
        for name in names
        if row.metric in RANKED and (one := getattr(row, name, None)) is not None
    }
    note = "; ".join(text for text in (row.note, COUNTS_WITHHELD) if text)
    return replace(row, n=None, events=None, subjects=None, note=note, **shown)
