"""An evaluation in which nobody can be scored is no evaluation: it says why, and ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation

ASKS_OTHERWISE = "asks for another"
"""Begins the note on a task of which the run's own has another kind, columns, classes or unit."""
NO_TRAIN = "the cohort has no labelled train subjects, so no probe can be fitted on it"
"""Begins the note on a task that probes were to be fitted to."""


def refuse_nobody(
    evaluation: Evaluation, run: Run, spec: EvaluateSpec, tasks: Iterable[str]
) -> None:
    """Refuse an evaluation that has not a single number; note tasks that have none.

    Raises:
        CohortError: Says of each task how many held-out people have its outcome and its inputs, or
            what it asks otherwise than the run's own, and all that was noted: why parts of the
            stage were left out.
    """
    told = [row for row in evaluation.results if row.value is not None and row.method != "chance"]
    tasks = list(tasks)
    without = [task for task in tasks if task not in {row.task for row in told}]
    other, untrained = (
        {task for task in without for note in evaluation.notes if note.startswith(f"{task}: {why}")}
        for why in (ASKS_OTHERWISE, NO_TRAIN)
    )
    reasons = [
        _reason(evaluation.prepared, run, spec, task)
        for task in without
        if task not in other | untrained
    ]
    found = any(evaluation.shown.values())
    if told or found:
        evaluation.notes += reasons
        return
    prepared = evaluation.prepared
    excluded = [prepared.exclusions()] if prepared.excluded else []
    lines = list(dict.fromkeys([*reasons, *evaluation.notes, *excluded]))
    scored = "held-out people who have an outcome and its inputs"
    raise CohortError(
        "nobody can be scored" if tasks else "there is nothing to score, and no task",
        where=f"cohort {prepared.cohort.name}",
        got="\n            ".join(lines) or None,
        expected=scored if tasks else f"tasks and {scored}, or what else the evaluate stage reads",
        fix=f"give {', '.join(sorted(other))} in cohort.yaml as the run has it (of another unit: "
        "`time: 30.4375 * MONTHS`, `unit: days`); --probe refit would fit on these people instead"
        if other and not reasons
        else "give train people with an outcome (`split:` of subjects, the columns under tasks:); "
        "of a run that kept its probes, leave --probe refit out: they are applied"
        if untrained and not reasons
        else "see `split:` of subjects, the columns under tasks:, and `medmcl check`; a prediction "
        "without an outcome is `medmcl predict`",
    )


def _reason(prepared: Prepared, run: Run, spec: EvaluateSpec, task: str) -> str:
    """How many people are held out, and how many of them have what scoring takes."""
    held = prepared.splits == "held_out"
    where = "held-out people"
    if not held.any():
        return f"{task}: nobody can be scored: no one is held out"
    known = np.asarray(prepared.tasks(task).known.any(axis=1))
    plain = () if spec.covariates is None or spec.embeddings else (spec.covariates,)
    names = plain if spec.probe is None else spec.probe.read(run.recipe.inputs)
    has = np.zeros(len(held), dtype=bool) if names else np.ones(len(held), dtype=bool)
    for name in names:
        has |= prepared.present.get(name, np.zeros(len(held), dtype=bool))

    def people(rows: np.ndarray) -> int:
        return len(np.unique(prepared.subjects[rows]))

    total = counted(people(held), "held-out person", where)
    inputs = " or ".join(names) or "its inputs"
    return (
        f"{task}: nobody can be scored: of {total} {people(held & known)} have a known outcome, "
        f"{people(held & has)} have {inputs}, {people(held & known & has)} have both"
    )
