"""The groups within which a train stage finds its negatives: of a cluster stage, or of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medmcl.core.contracts import TakesGroups
from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import UniformSampler, WithinGroupSampler
from medmcl.grouping.groups import NOWHERE, Groups
from medmcl.objectives import OBJECTIVES
from medmcl.stages.cluster.column_groups import column_groups
from medmcl.stages.stage import Context
from medmcl.stages.train.spec import TrainSpec

MOST_ALONE = 0.1
"""Share of rows without a negative in mixed batches beyond which it is a warning."""


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
    spec: TrainSpec, rows: np.ndarray, prepared: Prepared, context: Context
) -> RowGroups | None:
    """Give the groups of a stage; None if it has none, or the cluster stage has not run yet.

    Args:
        spec: The stage.
        rows: Samples that it trains on.
        prepared: The cohort.
        context: What the stages of the run share.

    Raises:
        ConfigError: An objective cannot tell groups in mixed batches, or there is no such column.
        CohortError: Rows have no value in a column, and it is not said what to do with them.
    """
    if spec.groups is None:
        return None
    is_mixed = spec.groups.batches == "mixed"
    _refuse_blind(spec)
    if spec.groups.stage is not None:
        found = context.run.artefact(spec.groups.stage, Groups, prepared.cohort.fingerprint)
        if found is None:
            return None
        numbers = found.of(prepared.samples["sample"].astype(str).tolist())
        return _numbered(numbers, rows, is_mixed, ())
    where = f"stage {spec.name}, groups"
    labels, notes = column_groups(spec.groups, rows, prepared.cohort, where, context.run.seed)
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


def alone_share(groups: RowGroups, sampler: UniformSampler) -> float:
    """Give the share of the rows of mixed batches that are alone, or in no group, of one epoch."""
    alone = drawn = 0
    for batch in sampler(0):
        own = groups.numbers[batch]
        sizes = np.unique(own[own != NOWHERE], return_counts=True)[1]
        alone += int((sizes == 1).sum() + (own == NOWHERE).sum())
        drawn += len(batch)
    return alone / max(drawn, 1)


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


def _numbered(
    labels: np.ndarray, rows: np.ndarray, is_mixed: bool, notes: tuple[str, ...]
) -> RowGroups:
    """Number the groups from 0 on."""
    names = np.unique(labels[rows][labels[rows] != NOWHERE])
    number: Mapping[int, int] = {int(name): code for code, name in enumerate(names)}
    numbers = np.array([number.get(int(one), NOWHERE) for one in labels], dtype=np.int64)
    return RowGroups(numbers=numbers, is_mixed=is_mixed, notes=notes)


def _takes_groups(kind: object) -> bool:
    return isinstance(kind, TakesGroups) and kind.takes_groups


def _refuse_blind(spec: TrainSpec) -> None:
    """Refuse mixed batches for objectives that would compare rows of different groups."""
    if spec.groups is None or spec.groups.batches != "mixed":
        return
    for label, objective in spec.objectives.items():
        kind = OBJECTIVES.get(objective.kind)
        compares = kind is not None and kind.across_ranks != "rows"
        if compares and not _takes_groups(kind):
            able = [n for n, one in OBJECTIVES.items() if _takes_groups(one)]
            raise ConfigError(
                f"the objective '{label}' cannot tell groups apart within a batch",
                where=f"stage {spec.name}, groups.batches",
                got=f"mixed, with {objective.kind}",
                expected=f"batches: one_group, or {', '.join(able)}",
                fix=f"--set stages.{spec.name}.groups.batches=one_group",
            )
