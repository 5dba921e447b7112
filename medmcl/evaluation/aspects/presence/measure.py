"""A method by what subjects have: as they are, and as if only some modalities were there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.results import deciding_of, untested
from medmcl.evaluation.protocol.scoring import Samplers
from medmcl.evaluation.protocol.setting import Setting
from medmcl.evaluation.protocol.subgroups import (
    FEWEST_SUBJECTS,
    TOO_SMALL,
    among,
    group_of,
    held_back,
    numbers_of,
    pooled,
    uncounted,
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
    direction = table.sampled[key][0].spec.direction
    about = {"target": key[0], "metric": key[1], "direction": direction, **table.about(setting)}
    row = partial(PresenceRow, **about)
    own, subjects = table.rows, setting.subjects[setting.scored]
    names = np.where(own, np.asarray(patterns, dtype=object)[setting.scored], "")
    rows: list[PresenceRow] = []
    if len(set(names[own].tolist())) > 1 or table.variants:
        names = pooled(names, subjects, OTHERS)
        counts = Counter(names[own].tolist())
        found = sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))
        groups = [group_of(setting, name, own & (names == name)) for name in found]
        held = held_back([one.subjects for one in groups], [one.least for one in groups])
        groups = [group_of(setting, EVERYONE, own), *groups]
        for group, reason in zip(groups, ["", *held], strict=True):
            told: dict[str, Any] = {"suppressed": True, "note": reason}
            told = told if reason else numbers_of(setting, table, samplers, key, group)
            rows.append(row(asked="as they are", modalities=group.name, **told))
    return rows + [_as_if(row, setting, table, one, samplers, key) for one in table.variants]


def _as_if(
    row: Callable[..., PresenceRow],
    setting: Setting,
    table: Predicted,
    variant: Predicted,
    samplers: Samplers,
    key: tuple[str, str],
) -> PresenceRow:
    """The method as if only some modalities were there, and what that costs."""
    row = partial(row, asked="as if", modalities=variant.method)
    group = group_of(setting, variant.method, variant.rows & table.rows)
    if group.is_too_small:
        return row(suppressed=True, note=TOO_SMALL)
    level = setting.resampling.level
    less, whole = (among(setting, one, samplers, key, group.rows) for one in (variant, table))
    found = row(**less.interval(level).numbers())
    if not np.isnan([*less.points, *whole.points]).any():
        apart = less.minus(whole)
        lost = apart.interval(level)
        said = untested(table.split, deciding_of(setting.targets.kind, found.target, lost))
        found = replace(
            found,
            difference=lost.value,
            difference_low=lost.low,
            difference_high=lost.high,
            p_value=None if said else apart.p_value(),
            note="; ".join(text for text in (found.note, said) if text),
        )
    rest = group_of(setting, "the others", table.rows & ~group.rows)
    return uncounted(found) if rest.subjects and rest.is_too_small else found
