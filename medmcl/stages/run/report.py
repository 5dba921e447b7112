"""From what a run recorded to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding
from medmcl.core.suppression import placeless
from medmcl.data.check import lost_by_outcome
from medmcl.data.check.check import check_people
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.prepare import Prepared
from medmcl.data.tables.mapped import let_go
from medmcl.encoders.published.overlap import MARK
from medmcl.engine.record import read_metrics
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.protocol.evaluation import Evaluation, Found
from medmcl.evaluation.protocol.evidence import LEARNED_FROM
from medmcl.evaluation.report.page import write_report
from medmcl.evaluation.report.patterns import counted_patterns
from medmcl.evaluation.report.small_counts import table_shown
from medmcl.evaluation.report.table_one import TableOne
from medmcl.stages.run.own_cohort import COHORT_FILE
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import EVERYBODY, NOT_DECLARED, seen_people
from medmcl.stages.run.study import (
    changed_since,
    cost_sentence,
    is_another,
    stage_sentence,
    study_of,
)
from medmcl.stages.run.subjects_table import (
    SCORED,
    beside_training,
    describe_subjects,
    folds_parts,
    keep_training,
)
from medmcl.stages.train.wrecked import REMEDY

ALL_PEOPLE = "none: all people are scored, and nothing is fitted on them"


def write_run_report(
    run: Run,
    cohort: Cohort,
    prepared: Prepared,
    facts: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
    selections: Sequence[SelectionEvidence] = (),
) -> None:
    """Write ``report.html``, ``report.json`` and ``results.csv`` of a run."""
    curves: dict[str, list[dict[str, Any]]] = {fact["stage"]: [] for fact in facts}
    for row in read_metrics(run.path / "metrics.jsonl"):
        curves.setdefault(row["stage"], []).append(row)
    found = _merge(run, prepared, evaluations)
    if selections:
        found.add(Found(shown={"selection": [*selections]}))
    data = described(run, cohort, found, [stage_sentence(fact) for fact in facts])
    shown = data.table_one
    if shown is None or "train" not in shown.splits:  # of folds
        shown = describe_subjects(prepared, _scored(cohort, found), rule=found.rounding)
    keep_training(run, table_shown(shown, data))
    data.curves = curves
    data.findings = [
        *data.findings,
        *(Finding(**one) for fact in facts for one in fact.get("findings", ())),
    ]
    data.kept_steps = {fact["stage"]: _kept_step(fact) for fact in facts if "best_step" in fact}
    write_report(run.path / "report.html", data)


def _kept_step(fact: Mapping[str, Any]) -> int:
    """The step whose weights a stage keeps."""
    is_best = fact["keep"] == "best" and fact["best_tuning_loss"] is not None
    return int(fact["best_step"] if is_best else fact["steps"])


def write_evaluation_report(run: Run, cohort: Cohort, evaluation: Evaluation) -> None:
    """Write the report of ``medmcl evaluate``."""
    write_report(evaluation.folder / "report.html", described(run, cohort, evaluation))


def _merge(run: Run, prepared: Prepared, evaluations: Sequence[Evaluation]) -> Evaluation:
    """Give all evaluate stages of a run as one; whom it is about, the last one says."""
    if not evaluations:
        return Evaluation(folder=run.path, prepared=prepared)
    whole = replace(evaluations[-1], **{one.name: type(getattr(evaluations[-1], one.name))()
                                        for one in fields(Found)})  # fmt: skip
    whole.gaps, whole.seconds = [], 0.0
    for one in evaluations:
        whole.add(one)
        whole.gaps += one.gaps
        whole.seconds += one.seconds
    return whole


def described(run: Run, cohort: Cohort, found: Evaluation, lines: Sequence[str] = ()) -> Evaluation:
    """Give an evaluation with what its report says of run and cohort beside what was found.

    Args:
        run: The run.
        cohort: The cohort that was scored.
        found: What was found.
        lines: What its stages did, in sentences.
    """
    let_go()  # what scoring held
    prepared = found.prepared
    provenance = placeless(run.tree("provenance"))  # a report leaves the machine
    provenance.pop(COHORT_FILE, None)
    tasks = _scored(cohort, found)
    study = study_of(run, cohort, tasks, found.seconds)
    cost = cost_sentence(study.seconds)
    scored = {"scored cohort": cohort.name, "scored cohort fingerprint": cohort.fingerprint}
    scores_all = _scores_all(found)
    notes = dict.fromkeys([*prepared.masked_leads(), *found.notes, *_published(run)])
    return replace(
        found,
        title=f"{run.recipe.name} on {cohort.name}",
        subtitle="; ".join(
            [run.recipe.about, *(note for note in found.notes if note.startswith(MARK))]
        ),
        provenance={
            **provenance,
            "source": run.recipe.source or "not stated",
            **(scored if is_another(run, cohort) or changed_since(run, cohort) else {}),
        },
        study=replace(
            study,
            gaps=tuple(dict.fromkeys(found.gaps)),
            split_rule=ALL_PEOPLE if scores_all else study.split_rule,
        ),
        flow=_flow(run, found),
        table_one=_table_one(run, cohort, found, tasks),
        missingness=counted_patterns(pd.DataFrame(dict(prepared.present))),
        findings=[
            *cohort.findings,
            *check_people(_as_scored(cohort, found), [*prepared.present], tasks, fits=found.fits),
            *prepared.excluded,
            *prepared.warnings,
            *lost_by_outcome.uneven(prepared.losses()),
        ],
        left_out=_skipped_stages(run),
        wrecked=run.wrecked,
        remedy=REMEDY,
        notes=[*lines, *([cost] if cost else []), *notes],
    )


def _scores_all(found: Evaluation) -> bool:
    """Whether no split of the cohort was heeded."""
    return bool({NOT_DECLARED, EVERYBODY} & {*found.notes})


def _table_one(run: Run, cohort: Cohort, found: Evaluation, tasks: Sequence[str]) -> TableOne:
    """Table 1 by what was done: with the training people of a run that is applied elsewhere."""
    prepared = found.prepared
    if found.fits or not is_another(run, cohort):
        settings = [done.setting for _, done in found.people if done.setting is not None]
        return describe_subjects(prepared, tasks, folds_parts(prepared, settings), found.rounding)
    parts = np.where(_to_score(run, found), SCORED, "").astype(object)
    here = describe_subjects(prepared, tasks, parts, found.rounding)
    return beside_training(run, here, found.rounding)


def _as_scored(cohort: Cohort, found: Evaluation) -> Cohort:
    """The cohort with everybody in held_out, where no split of it was heeded."""
    if not _scores_all(found):
        return cohort
    subjects, samples = (
        table.assign(split="held_out") for table in (cohort.subjects, cohort.samples)
    )
    return replace(cohort, subjects=subjects, samples=samples)


def _published(run: Run) -> list[str]:
    """Say whose published weights the towers of a run started from, and on what terms."""
    return [
        f"{modality} of stage {stage} started from {said['model']} ({said['source']}; "
        f"{said['licence']}{'' if said['commercial'] else '; NO COMMERCIAL USE'})"
        for stage in run.stages
        for modality, said in run.facts(stage).get("published", {}).items()
    ]


def _flow(run: Run, evaluation: Evaluation) -> list[tuple[str, int, int]]:
    """From the tables to who is scored; a split that is drawn and not heeded is no step."""
    prepared = evaluation.prepared
    steps, last = prepared.flow(), "held_out"
    if _scores_all(evaluation):
        kept = prepared.subjects[prepared.kept]
        last = "no split declared" if NOT_DECLARED in evaluation.notes else "no held-out split"
        steps = [*steps[: -len(SPLITS)], (last, len(np.unique(kept)), len(kept))]
    if any(LEARNED_FROM in note for note in evaluation.notes):
        rows = prepared.kept & _to_score(run, evaluation)
        people = len(np.unique(prepared.subjects[rows]))
        steps.append((f"{last}, not seen by the run", people, int(rows.sum())))
    return steps


def _to_score(run: Run, found: Evaluation) -> np.ndarray:
    """Samples of people to be scored where nothing is fitted: none that the run has seen, (N,)."""
    held = (found.prepared.splits == "held_out") | _scores_all(found)
    seen = seen_people(run, found.prepared) if found.seen is None else found.seen
    return held if seen is None else held & ~seen


def _scored(cohort: Cohort, evaluation: Evaluation) -> list[str]:
    """Tasks that have results, in the order of the cohort; every usable one if none has."""
    scored = {row.task for row in evaluation.results if row.is_of_task}
    usable = cohort.usable_tasks
    return [task for task in usable if task in scored] or usable


def _skipped_stages(run: Run) -> tuple[str, ...]:
    """Stages that were not trained, each with the reason."""
    reasons = {n: run.skipped(n) for n in run.stages if n not in run.wrecked}
    return tuple(f"{name} ({reason})" for name, reason in reasons.items() if reason)
