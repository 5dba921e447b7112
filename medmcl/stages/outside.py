"""Whom to score of a cohort that the run was not trained on."""

from __future__ import annotations

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.loading import Prepared
from medmcl.stages.run import Run
from medmcl.stages.seen import chance_twins, seen_people

EVERYBODY = (
    "the cohort has no held-out split: all of its people are scored, but those whom the run is "
    "known to have learned from"
)


def outside_splits(
    run: Run, prepared: Prepared, known: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Choose the rows to score: held_out, or everybody; not who the run learned from.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        known: Samples that have the outcome. (N,) bool

    Returns:
        ``held_out`` or ``not scored`` for each sample, (N,), and what a reader must know.
    """
    notes = []
    splits = np.where(prepared.splits == "held_out", "held_out", "not scored").astype(object)
    if not (known & (splits == "held_out")).any():
        splits[:] = "held_out"
        notes.append(EVERYBODY)
    seen = seen_people(run, prepared)
    twins = chance_twins(run, prepared)
    if twins:
        notes.append(
            f"{counted(twins, 'subject')} whose row is that of somebody the run learned from, as "
            "often as chance would have it: scored as other people"
        )
    if seen is None:
        notes.append("whether the run learned from people of this cohort is unknown")
    elif seen.any():
        people = len(np.unique(prepared.subjects[seen]))
        splits[seen] = "not scored"
        notes.append(f"{people} subjects have a record that the run learned from: not scored")
    return splits, tuple(notes)
