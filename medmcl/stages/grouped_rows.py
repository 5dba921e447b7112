"""The groups within which a train stage finds its negatives: of a cluster stage, or of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted
from medmcl.data.group_sampler import WithinGroupSampler
from medmcl.data.loading import Prepared
from medmcl.data.samplers import UniformSampler
from medmcl.evaluation.subgroups import UNKNOWN
from medmcl.grouping import pool_small
from medmcl.grouping.groups import NOWHERE
from medmcl.objectives import OBJECTIVES
from medmcl.stages.cluster import load_groups
from medmcl.stages.group_spec import GroupsSpec, nearly_all, told
from medmcl.stages.groups import sample_groups, sample_table
from medmcl.stages.models import Setting
from medmcl.stages.recipe import TrainSpec

_OTHERS = "(others)"
MOST_VALUES = 50
"""Values of a column beyond which it is no column of groups."""


@dataclass(frozen=True)
class RowGroups:
    """Which rows of a cohort share a group.

    Attributes:
        numbers: Group of each sample, (N,) int64, 0 and on; `NOWHERE` where it is in none.
        is_mixed: Whether batches hold rows of several groups.
        notes: What is worth saying of them.
    """

    numbers: np.ndarray
    is_mixed: bool
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Group of each sample as a target, (N, 1) float32, and whether it has one, (N, 1) bool."""
        known = self.numbers != NOWHERE
        return np.where(known, self.numbers, 0).astype(np.float32)[:, None], known[:, None]


def groups_of(
    spec: TrainSpec, rows: np.ndarray, prepared: Prepared, setting: Setting
) -> RowGroups | None:
    """Give the groups of a stage; None if it has none, or the cluster stage has not run yet.

    Args:
        spec: The stage.
        rows: Samples that it trains on.
        prepared: The cohort.
        setting: Of the run.

    Raises:
        ConfigError: An objective cannot tell groups in mixed batches, or there is no such column.
        CohortError: Rows have no value in a column, and it is not said what to do with them.
    """
    if spec.groups is None:
        return None
    is_mixed = spec.groups.batches == "mixed"
    _refuse_blind(spec)
    if spec.groups.stage is not None:
        found = load_groups(spec.groups.stage, prepared, setting)
        if found is None:
            return None
        numbers = found.of(prepared.samples["sample"].astype(str).tolist())
        return _numbered(numbers, rows, is_mixed, ())
    labels, notes = column_groups(spec.groups, rows, prepared, f"stage {spec.name}, groups")
    return _numbered(labels, rows, is_mixed, notes)


def group_sampler(
    groups: RowGroups | None, rows: np.ndarray, prepared: Prepared, batch_size: int, seed: int
) -> UniformSampler | WithinGroupSampler:
    """Give the sampler of a stage: batches of one group, or of everybody."""
    subjects = prepared.subjects[rows]
    if groups is None or groups.is_mixed:
        return UniformSampler(rows, subjects, batch_size=batch_size, seed=seed)
    own = groups.numbers[rows]
    return WithinGroupSampler(rows, subjects, own, batch_size=batch_size, seed=seed)


def tuning_in_groups(
    rows: np.ndarray, groups: RowGroups, batch_size: int
) -> tuple[np.ndarray, ...]:
    """Deal rows of the tuning split into batches of one group, as even as can be.

    Rows of groups that no train row is in, or that are alone in theirs, are left out.
    """
    batches: list[np.ndarray] = []
    for group in np.unique(groups.numbers[rows]):
        own = rows[groups.numbers[rows] == group]
        if group != NOWHERE and len(own) >= 2:
            batches += np.array_split(own, -(-len(own) // batch_size))
    return tuple(batches)


def column_groups(
    spec: GroupsSpec, rows: np.ndarray, prepared: Prepared, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the group of each sample by columns, (N,) int64, and what is worth saying.

    Groups of fewer than ``smallest`` of the ``rows`` are pooled.
    """
    columns = [_column(name, prepared, where) for name in spec.columns]
    missing = np.logical_or.reduce([one == UNKNOWN for one in columns])
    notes: list[str] = []
    if missing[rows].any():
        notes.append(_missing(spec, columns, rows, missing, where))
    known = ~missing if spec.missing == "leave_out" else np.ones(len(missing), dtype=bool)
    trained = np.zeros(len(missing), dtype=bool)
    trained[rows] = True
    trained &= known
    if not trained.any():
        raise CohortError("no row that the stage trains on has a value", where=where)
    if spec.missing == "group":
        columns = [np.where(missing, UNKNOWN, one) for one in columns]
    found, small = pooled_columns(columns, trained, spec.smallest)
    counts = np.unique(found[trained], return_counts=True)[1]
    notes.insert(
        0, f"{counted(len(counts), 'group')} by {told(spec.columns)}, of {int(counts.min()):,} to "
        f"{int(counts.max()):,} rows"
    )  # fmt: skip
    if small:
        shown = ", ".join(small[:5]) + (", ..." if len(small) > 5 else "")
        notes.append(
            f"{counted(len(small), 'group')} of fewer than {spec.smallest} rows pooled: {shown}"
        )
    found[~known] = NOWHERE
    return found, (*notes, *nearly_all(counts))


def pooled_columns(
    columns: list[np.ndarray], trained: np.ndarray, smallest: int
) -> tuple[np.ndarray, list[str]]:
    """Give a group for every combination of values, and the names of those that were pooled.

    Small groups give up the column of the most values first, then the next, so that what is left
    of the others is still shared; what is small in the end is pooled.

    Args:
        columns: Value of each row in each column, (N,) text each.
        trained: Rows that groups are counted over, (N,) bool.
        smallest: Rows that a group must have.

    Returns:
        Group of each row, (N,) int64, `NOWHERE` where no trained row has its values.
    """
    values = np.stack([one.astype(str) for one in columns], axis=1)
    names, codes = np.unique(values, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    sizes = np.bincount(codes[trained], minlength=len(names))
    small = (sizes > 0) & (sizes < smallest)
    merged = names.astype(object)
    order = sorted(range(len(columns)), key=lambda one: -len(np.unique(values[:, one])))
    for column in order:
        _, groups = np.unique(merged.astype(str), axis=0, return_inverse=True)
        groups = groups.reshape(-1)
        still = np.bincount(groups, weights=sizes)[groups] < smallest
        if not still[sizes > 0].any():
            break
        merged[still, column] = _OTHERS
    groups = np.unique(merged.astype(str), axis=0, return_inverse=True)[1].reshape(-1)
    seen = sizes > 0
    counted_ = np.repeat(groups[seen], sizes[seen])
    becomes = dict(zip(counted_.tolist(), pool_small(counted_, smallest).tolist(), strict=True))
    of_name = np.array([becomes.get(group, NOWHERE) for group in groups.tolist()])
    pooled = [" / ".join(name) for name in names[small]] if seen.sum() > 1 else []
    return of_name[codes], pooled


def _missing(
    spec: GroupsSpec,
    columns: list[np.ndarray],
    rows: np.ndarray,
    missing: np.ndarray,
    where: str,
) -> str:
    """Say what is done with rows without a value; refuse them if the recipe does not say."""
    count = int(missing[rows].sum())
    if spec.missing == "refuse":
        lacks = {
            name: int((one[rows] == UNKNOWN).sum())
            for name, one in zip(spec.columns, columns, strict=True)
        }
        raise CohortError(
            "rows that the stage trains on have no value in a column of groups",
            where=where,
            got=f"{count:,} of {len(rows):,} rows; "
            + ", ".join(f"{name}: {n:,}" for name, n in lacks.items() if n),
            expected="a value in every row",
            mend="fill them in, or say what to do: groups.missing=leave_out, or "
            "groups.missing=group (they are one group, whose rows may differ in the value)",
        )
    done = "left out" if spec.missing == "leave_out" else "a group of their own"
    return f"{counted(count, 'row')} without a value: {done}"


def _column(name: str, prepared: Prepared, where: str) -> np.ndarray:
    """Give the value of each sample as text, `UNKNOWN` where it has none, (N,) object."""
    cohort = prepared.cohort
    known = {k: v for k, v in sample_groups(cohort, {}).items() if k != "modalities"}
    if name in known:
        return np.asarray(known[name], dtype=object)
    table = sample_table(cohort, name)
    if name not in table:
        able = dict.fromkeys([*known, *map(str, table.columns)])
        raise ConfigError(
            f"there is no column '{name}' to group by{nearest(name, able)}",
            where=where,
            expected="site, sex, age, an entry of `subgroups:` in cohort.yaml, a column of the "
            "subjects table or of a table of each record",
        )
    values = table[name]
    found = values.astype(object).where(values.notna(), UNKNOWN).map(_text).to_numpy(object)
    found[found == ""] = UNKNOWN
    different = len(set(found.tolist()))
    if different > MOST_VALUES:
        raise ConfigError(
            f"'{name}' has too many values for groups",
            where=where,
            got=f"{different:,} values",
            expected=f"at most {MOST_VALUES}",
            mend="cut it into bands: `subgroups:` of cohort.yaml with bands: [50, 60, 70]",
        )
    return np.asarray(found)


def _text(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _numbered(
    labels: np.ndarray, rows: np.ndarray, is_mixed: bool, notes: tuple[str, ...]
) -> RowGroups:
    """Number the groups from 0 on."""
    names = np.unique(labels[rows][labels[rows] != NOWHERE])
    number: Mapping[int, int] = {int(name): code for code, name in enumerate(names)}
    numbers = np.array([number.get(int(one), NOWHERE) for one in labels], dtype=np.int64)
    return RowGroups(numbers=numbers, is_mixed=is_mixed, notes=notes)


def _refuse_blind(spec: TrainSpec) -> None:
    """Refuse mixed batches for objectives that would compare rows of different groups."""
    if spec.groups is None or spec.groups.batches != "mixed":
        return
    for label, objective in spec.objectives.items():
        kind = OBJECTIVES.get(objective.kind)
        compares = kind is not None and kind.across_ranks == "gather"
        if compares and not getattr(kind, "takes_groups", False):
            able = [n for n, one in OBJECTIVES.items() if getattr(one, "takes_groups", False)]
            raise ConfigError(
                f"the objective '{label}' cannot tell groups apart within a batch",
                where=f"stage {spec.name}, groups.batches",
                got=f"mixed, with {objective.kind}",
                expected=f"batches: one_group, or {', '.join(able)}",
                mend=f"--set stages.{spec.name}.groups.batches=one_group",
            )
