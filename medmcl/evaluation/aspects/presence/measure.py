"""A method by what subjects have: as they are, and as if only some modalities were there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.evaluation.metrics.sampled import Sampled
from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.results import deciding_of, untested
from medmcl.evaluation.protocol.scoring import Samplers, score
from medmcl.evaluation.protocol.setting import Setting
from medmcl.evaluation.protocol.subgroups import (
    COUNTS_WITHHELD,
    FEWEST_SUBJECTS,
    RANKED,
    TOO_SMALL,
    Group,
    group_of,
    held_back,
    pooled,
)

EVERYONE = "everyone"
OTHERS = f"other patterns (<{FEWEST_SUBJECTS} each)"


def presence_rows(
    setting: Setting, table: Predicted, patterns: np.ndarray, samplers: Samplers
) -> list[PresenceRow]:
    """Score the headline of a method by what subjects have, then as if they had less.

    As they are: everyone, then each pattern of modalities; patterns of fewer than 20 subjects are
    pooled, and what is still too small is held back as in `subgroup_rows`. As if: each variant
    of the method among the subjects whose modalities it changes, with the paired difference to the
    same subjects with all they have (negative = worse, where higher is better).

    Args:
        setting: The evaluation.
        table: Predictions, with variants if there are any.
        patterns: What every row of the task has, as ``ecg + cmr``. (N,) object
        samplers: Bootstrap of the scored rows.
    """
    key = next(iter(table.sampled), None)
    if key is None or table.pools_constants or table.has_no_features:
        return []
    asking = _Asking(setting, table, samplers, key)
    rows = list(asking.by_pattern(np.asarray(patterns, dtype=object)[setting.scored]))
    return [*rows, *(asking.if_only(variant) for variant in table.variants)]


def _uncounted(row: PresenceRow) -> PresenceRow:
    """Take the counts away: beside those of everyone they would tell the few who are left."""
    note = "; ".join(text for text in (row.note, COUNTS_WITHHELD) if text)
    row = replace(row, n=None, events=None, subjects=None, note=note)
    if row.metric not in RANKED:
        return row
    names = ("value", "low", "high", "difference", "difference_low", "difference_high")
    cut = {name: one for name in names if (one := getattr(row, name)) is not None}
    return replace(row, **{name: round(one, 2) for name, one in cut.items()})


class _Asking:
    """Scores one metric of one method among groups of the scored rows."""

    def __init__(
        self, setting: Setting, table: Predicted, samplers: Samplers, key: tuple[str, str]
    ) -> None:
        self.setting, self.table, self.key = setting, table, key
        self.level = setting.resampling.level
        self.samplers = Samplers(samplers.short, samplers.short)

    def by_pattern(self, patterns: np.ndarray) -> Iterator[PresenceRow]:
        """Everyone, then each pattern, the most frequent first; nothing where all have the same."""
        own, subjects = self.table.rows, self.setting.subjects[self.setting.scored]
        if len(set(patterns[own].tolist())) < 2 and not self.table.variants:
            return
        names = pooled(np.where(own, patterns, ""), subjects, OTHERS)
        found = [name for name in dict.fromkeys(names[own].tolist()) if name != OTHERS]
        found.sort(key=lambda name: (-int((names[own] == name).sum()), name))
        found += [OTHERS] if OTHERS in names[own] else []
        yield self._as_they_are(group_of(self.setting, EVERYONE, own), "")
        groups = [group_of(self.setting, name, own & (names == name)) for name in found]
        held = held_back([one.subjects for one in groups], [one.least for one in groups])
        for group, reason in zip(groups, held, strict=True):
            yield self._as_they_are(group, reason)

    def _as_they_are(self, group: Group, reason: str) -> PresenceRow:
        base = self._base("as they are", group.name)
        if reason:
            return replace(base, suppressed=True, note=reason)
        sampled = self.table.sampled[self.key][1]  # of everyone: the row of the results has it
        if not np.array_equal(group.rows, self.table.rows):
            sampled = self._score(self.table, group.rows)
        return replace(base, **sampled.interval(self.level).numbers())

    def if_only(self, variant: Predicted) -> PresenceRow:
        """The method as if only some modalities were there, and what that costs."""
        base = self._base("as if", variant.method)
        group = group_of(self.setting, variant.method, variant.rows & self.table.rows)
        if group.is_too_small:
            return replace(base, suppressed=True, note=TOO_SMALL)
        rest = group_of(self.setting, "the others", self.table.rows & ~group.rows)
        less, whole = (self._score(one, group.rows) for one in (variant, self.table))
        found = replace(base, **less.interval(self.level).numbers())
        if np.isnan(less.points).any() or np.isnan(whole.points).any():
            return _uncounted(found) if rest.subjects and rest.is_too_small else found
        apart = less.minus(whole)
        lost = apart.interval(self.level)
        counts = deciding_of(self.setting.targets.kind, base.target, lost)
        said = untested(self.table.split, counts)
        found = replace(
            found,
            difference=lost.value,
            difference_low=lost.low,
            difference_high=lost.high,
            p_value=None if said else apart.p_value(),
            note="; ".join(text for text in (found.note, said) if text),
        )
        return _uncounted(found) if rest.subjects and rest.is_too_small else found

    def _score(self, table: Predicted, rows: np.ndarray) -> Sampled:
        found = score(self.setting, table, self.samplers, rows, only=self.key[1])
        return found[self.key][1]

    def _base(self, asked: Any, modalities: str) -> PresenceRow:
        target, metric = self.key
        return PresenceRow(
            target=target,
            metric=metric,
            direction=self.table.sampled[self.key][0].spec.direction,
            asked=asked,
            modalities=modalities,
            **self.table.about(self.setting),
        )
