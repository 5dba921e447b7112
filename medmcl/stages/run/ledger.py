"""What a run fitted on which split, and whether people it learned from are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.core.config import faults_of
from medmcl.core.errors import CohortError
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.modalities import ADAPTERS
from medmcl.selection.keep import Keep
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import seen_people
from medmcl.stages.select.spec import SelectSpec


def run_ledger(run: Run, stages: Sequence[str]) -> tuple[FittedOn, ...]:
    """Give the ledger lines of adapters, training and the choice of checkpoints.

    Args:
        run: The run.
        stages: Stages whose weights are used; those they start from are added.
    """
    cohort = str(run.config.get("cohort"))
    wrong = f"; {run.config['noisy_pairs']}" if "noisy_pairs" in run.config else ""
    lines = [
        FittedOn(
            what=f"what {name} ({entry['kind']}) learns: {_learned(entry)}",
            splits=("train",),
            note=f"of {cohort}",
        )
        for name, entry in run.preprocessing.items()
        if entry["state"]
    ]
    for stage in with_parents(run, stages):
        lines += run.spec(stage).fitted(cohort, run.facts(stage), wrong)
    return (*lines, *_given(run, cohort))


def _learned(entry: Mapping[str, Any]) -> str:
    """What an adapter learned: of a package outside its state says it."""
    outside = entry["kind"] in ADAPTERS.outside
    return ", ".join(entry["state"]) if outside else "standardisation, vocabulary"


def _given(run: Run, cohort: str) -> list[FittedOn]:
    """The lines of the keep file that a run was given."""
    keep = run.given_keep
    if keep is None:
        return []
    specs = specs_of(keep)
    what = "rows that --keep keeps"
    if not specs:
        return [FittedOn(what=what, splits=("train",), note=f"of {cohort}; {keep.rule}")]
    return [line for spec in specs for line in spec.fitted_as(what, cohort)]


def specs_of(keep: Keep) -> list[SelectSpec]:
    """The selections behind a keep file, those of its parents too; none if it was made by hand."""
    return list(_specs(keep.provenance))


def _specs(provenance: Mapping[str, Any] | None) -> list[SelectSpec]:
    if not provenance:
        return []
    spec = provenance.get("spec")
    own = [] if spec is None or faults_of(SelectSpec, spec) else [SelectSpec.model_validate(spec)]
    return own + [one for parent in provenance.get("parents", ()) for one in _specs(parent)]


def with_parents(run: Run, stages: Sequence[str]) -> list[str]:
    """Name stages and all that they go on from, at first hand or through others."""
    found: dict[str, None] = {}
    todo = [stage for stage in stages if stage != "untrained"]
    while todo:
        stage = todo.pop(0)
        if stage not in found:
            found[stage] = None
            todo += run.spec(stage).sources()
    return list(found)


def whom_they_saw(
    others: Mapping[str, tuple[Run, Prepared]], splits: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Say whom runs that are set beside have seen, and refuse those that saw held-out people.

    Args:
        others: Name in the table to the run and the cohort as it prepares it.
        splits: Split of each sample. (N,)

    Returns:
        Samples of people that one of them was fitted or chosen on, (N,) bool, and remarks.

    Raises:
        CohortError: Held-out people here were train or tuning people there.
    """
    every, notes = np.zeros(len(splits), dtype=bool), []
    for name, (run, prepared) in others.items():
        seen = seen_people(run, prepared)
        is_own = run.config.get("cohort_fingerprint") == prepared.cohort.fingerprint
        if seen is None:
            notes.append(
                f"{name} was trained on another cohort or split, and did not keep whom it learned "
                "from: whether it learned from people who are scored here is unknown"
            )
            continue
        rows = np.flatnonzero(seen & (splits == "held_out"))
        if len(rows):
            first = ", ".join(prepared.samples["sample"].iloc[rows[:3]].astype(str))
            raise CohortError(
                f"the run '{name}' learned from people who are held out here",
                where=f"--compare {run.path}",
                got=f"{len(rows)} samples: {first}{', …' if len(rows) > 3 else ''}",
                expected="runs trained on the same split, or on other people",
                fix="train it on this cohort's split",
            )
        every |= seen
        if not is_own:
            notes.append(
                f"{name} was trained on another cohort or split; nobody whom it is known to have "
                "learned from is held out here"
            )
    return every, notes
