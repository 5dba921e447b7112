"""Whom to score of a cohort that the run was not trained on."""

from __future__ import annotations

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import chance_twins, same_ids, seen_people
from medmcl.stages.run.study import is_another

EVERYBODY = (
    "the cohort has no held-out split: all of its people are scored, but those whom the run is "
    "known to have learned from"
)
NOT_DECLARED = (
    "cohort.yaml declares no split, and nothing is fitted on this cohort: all of its people are "
    "scored, but those whom the run is known to have learned from"
)

OWN_NAME = (
    "in a cohort of the run's own name ids tell, too: where these are other people, give the "
    "folder of their cohort another name"
)


def no_split_to_heed(run: Run, cohort: Cohort) -> bool:
    """Whether a cohort's split is only the default's draw, and the run was not trained by it."""
    return is_another(run, cohort) and not cohort.spec.keys.subjects.declares_split


def outside_splits(
    run: Run, prepared: Prepared, known: np.ndarray, *, fits: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Choose the rows to score: held_out, or everybody; not who the run learned from.

    Everybody where the cohort has no held_out, or declares no split: one that is drawn only
    because none is said would leave four people of five unscored for nothing.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        known: Samples that have the outcome. (N,) bool
        fits: Whether probes are fitted on the cohort: then a drawn split is heeded, so that all
            that one report shows is of the same people.

    Returns:
        ``held_out`` or ``not scored`` for each sample, (N,), and what a reader must know.
    """
    notes = []
    splits = np.where(prepared.splits == "held_out", "held_out", "not scored").astype(object)
    undeclared = no_split_to_heed(run, prepared.cohort) and not fits
    if undeclared or not (known & (splits == "held_out")).any():
        splits[:] = "held_out"
        notes.append(NOT_DECLARED if undeclared else EVERYBODY)
    seen = seen_people(run, prepared)
    twins = chance_twins(run, prepared)
    if twins:
        notes.append(
            f"{counted(twins, 'subject')} with a row or text like one that the run learned from, "
            "as often as chance would have it: scored as other people"
        )
    if seen is None:
        notes.append("whether the run learned from people of this cohort is unknown")
    elif seen.any():
        people = len(np.unique(prepared.subjects[seen]))
        splits[seen] = "not scored"
        said = f"{people} subjects have a record that the run learned from: not scored"
        notes.append(said if is_another(run, prepared.cohort) else f"{said}; {OWN_NAME}")
    alike = same_ids(run, prepared) if seen is None else same_ids(run, prepared) & ~seen
    if alike.any():
        people = len(np.unique(prepared.subjects[alike]))
        notes.append(
            f"{people} of {len(np.unique(prepared.subjects))} subjects have ids of people that the "
            "run learned from, and records that differ: if they are the same people, saved anew, "
            "their numbers are too good; score others"
        )
    return splits, tuple(notes)
