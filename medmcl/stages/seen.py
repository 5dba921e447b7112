"""Whom a run has seen: nobody whom a stage was fitted or chosen on is scored, in any form."""

from __future__ import annotations

import numpy as np

from medmcl.data.loading import Prepared
from medmcl.data.reading import MEASURED
from medmcl.stages.run import Run
from medmcl.stages.study import is_another
from medmcl.stages.train_records import PEOPLE, hashed_people, kept_records, learned_from


def seen_people(run: Run, prepared: Prepared) -> np.ndarray | None:
    """Say which samples are of people that the run was fitted or chosen on, (N,) bool.

    People are told by the content of measured records (of others, where the run read no measured
    kind), whatever they are called; in the run's own cohort by their ids, too, however it is split
    now. Rows of tables that are as often equal by chance tell nobody (`chance_twins`).

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.

    Returns:
        None where that is unknown: the run kept neither.
    """
    cohort = prepared.cohort
    measured = [n for n, adapter in prepared.adapters.items() if adapter.kind in MEASURED]
    seen = learned_from(run.path, prepared, among=measured or tuple(prepared.adapters))
    if chance_twins(run, prepared):
        seen = np.zeros(len(prepared.splits), dtype=bool)
    is_own = run.config.get("cohort_fingerprint") == cohort.fingerprint
    if is_own or (not is_another(run, cohort) and (not measured or seen is None or seen.any())):
        by_id = _by_id(run, prepared)
        seen = by_id if seen is None or not measured else seen | by_id
    if seen is None:
        return None
    return np.asarray(np.isin(prepared.subjects, prepared.subjects[seen]))


def chance_twins(run: Run, prepared: Prepared) -> int:
    """Count people whose row of a table is that of somebody the run learned from, as by chance.

    Two people of one age and sex have the same row of a narrow table. Of U that were learned from,
    as many are expected to be met as people here have twins among one another (and one more, as
    none is no proof), times U over the people here. Where three times as many are met, or the run
    reads more than tables, rows stand for people, and the count is 0.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
    """
    kept = kept_records(run.path)
    kinds = {adapter.kind for adapter in prepared.adapters.values()}
    seen = learned_from(run.path, prepared) if kinds == {"tabular"} else None
    if kept is None or seen is None or not seen.any():
        return 0
    alike = len(np.unique(prepared.subjects[seen]))
    rows = np.stack([prepared.identity(name) for name in prepared.adapters], axis=1)
    people = np.unique(np.column_stack([rows, prepared.subjects]), axis=0)
    _, which, times = np.unique(people[:, :-1], axis=0, return_inverse=True, return_counts=True)
    twins = int((times[which] > 1).sum())
    others = max(len(one) for one in kept.values())
    expected = (twins + 1) * others / max(1, len(np.unique(prepared.subjects)) - 1)
    return alike if alike <= 3 * expected else 0


def _by_id(run: Run, prepared: Prepared) -> np.ndarray:
    """Samples of people whose ids the run kept, hashed; of train and tuning if it kept none."""
    kept = kept_records(run.path) or {}
    if PEOPLE not in kept:
        return np.isin(prepared.splits, ("train", "tuning"))
    names, codes = np.unique(prepared.samples["subject"].astype(str), return_inverse=True)
    return np.asarray(np.isin(hashed_people(run.config["cohort"], names), kept[PEOPLE])[codes])
