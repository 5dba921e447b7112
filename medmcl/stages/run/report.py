"""From what a run recorded to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.core.findings import Finding
from medmcl.core.targets import Targets
from medmcl.data.check import lost_by_outcome
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.record import read_metrics
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.protocol.results import APART
from medmcl.evaluation.report.page import ReportData, write_report
from medmcl.stages.evaluate.evaluate import Evaluation
from medmcl.stages.run.outside import NOT_DECLARED
from medmcl.stages.run.own_cohort import COHORT_FILE
from medmcl.stages.run.run import Run
from medmcl.stages.run.store import Store
from medmcl.stages.run.study import cost_sentence, is_another, stage_sentence, study_of
from medmcl.stages.run.subjects_table import describe_subjects
from medmcl.stages.train.wrecked import REMEDY


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
    merged = _merge(run, prepared, evaluations)
    data = _data(run, cohort, merged, curves, [stage_sentence(fact) for fact in facts])
    learned = [Finding(**one) for fact in facts for one in fact.get("findings", ())]
    kept = {fact["stage"]: _kept_step(fact) for fact in facts if "best_step" in fact}
    data = replace(
        data, findings=[*data.findings, *learned], kept_steps=kept, selections=selections
    )
    write_report(run.path / "report.html", data)


def _kept_step(fact: Mapping[str, Any]) -> int:
    """The step whose weights a stage keeps."""
    is_best = fact["keep"] == "best" and fact["best_tuning_loss"] is not None
    return int(fact["best_step"] if is_best else fact["steps"])


def write_evaluation_report(run: Run, cohort: Cohort, evaluation: Evaluation) -> None:
    """Write the report of ``medmcl evaluate``."""
    data = _data(run, cohort, evaluation, {}, [])
    write_report(evaluation.folder / "report.html", data)


def _merge(run: Run, prepared: Prepared, evaluations: Sequence[Evaluation]) -> Evaluation:
    if not evaluations:
        return Evaluation(folder=run.path, prepared=prepared)
    last = evaluations[-1]
    for earlier in evaluations[:-1]:
        last.results[:0] = earlier.results
        last.notes[:0] = earlier.notes
        last.gaps[:0] = earlier.gaps
        last.coefficients[:0] = earlier.coefficients
        last.experts[:0] = earlier.experts
        last.confounders[:0] = earlier.confounders
        last.evidence = earlier.evidence.joined(last.evidence)
        last.seconds += earlier.seconds
    return last


def _data(
    run: Run,
    cohort: Cohort,
    evaluation: Evaluation,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    lines: Sequence[str],
) -> ReportData:
    prepared = evaluation.prepared
    provenance = run.tree("provenance")
    provenance.pop(COHORT_FILE, None)  # a report leaves the machine
    tasks = _scored(cohort, evaluation)
    found = prepared.losses()
    study = study_of(run, cohort, tasks, evaluation.seconds)
    cost = cost_sentence(study.seconds)
    scored = {"scored cohort": cohort.name, "scored cohort fingerprint": cohort.fingerprint}
    return ReportData(
        title=f"{run.recipe.name} on {cohort.name}",
        subtitle=run.recipe.about,
        provenance={
            **provenance,
            "source": run.recipe.source or "not stated",
            **(scored if is_another(run, cohort) else {}),
        },
        study=replace(study, gaps=tuple(dict.fromkeys(evaluation.gaps))),
        flow=_flow(evaluation),
        table_one=describe_subjects(prepared, tasks),
        missingness=_presence(prepared),
        findings=[
            *cohort.findings,
            *prepared.excluded,
            *prepared.warnings,
            *lost_by_outcome.uneven(found),
        ],
        curves=curves,
        embedding_map=_cloud(evaluation, cohort),
        results=evaluation.results,
        evidence=evaluation.evidence,
        images=evaluation.images,
        heat=evaluation.heat,
        experts=evaluation.experts,
        confounders=evaluation.confounders,
        coefficients=evaluation.coefficients,
        compared=_compared(evaluation),
        level=evaluation.level,
        resampling=evaluation.resampling,
        left_out=_left_out(run),
        wrecked=run.wrecked,
        strange=evaluation.strange,
        remedy=REMEDY,
        notes=[
            *lines,
            *([cost] if cost else []),
            *dict.fromkeys([*prepared.masked_leads(), *evaluation.notes]),
        ],
    )


def _flow(evaluation: Evaluation) -> list[tuple[str, int, int]]:
    """From the tables to who is scored; a split that is drawn and not heeded is no step."""
    prepared = evaluation.prepared
    steps = prepared.flow()
    if NOT_DECLARED not in evaluation.notes:
        return steps
    kept = prepared.subjects[prepared.kept]
    return [*steps[: -len(SPLITS)], ("no split declared", len(np.unique(kept)), len(kept))]


def _scored(cohort: Cohort, evaluation: Evaluation) -> list[str]:
    """Tasks that have results, in the order of the cohort; every usable one if none has."""
    scored = {row.task for row in evaluation.results if row.kind not in APART}
    usable = cohort.usable_tasks
    return [task for task in usable if task in scored] or usable


def _compared(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """What is known of the runs set beside: their folder, recipe, seed and hashes."""
    told = ("recipe", "cohort", "config_hash", "seed")
    found = {}
    for name, path in evaluation.compared.items():
        facts = Store(path).tree("provenance")
        found[name] = {"folder": str(path), **{key: facts.get(key) for key in told}}
    return found


def _left_out(run: Run) -> tuple[str, ...]:
    """Stages that were not trained, each with the reason."""
    reasons = {n: run.left_out(n) for n in run.stages if n not in run.wrecked}
    return tuple(f"{name} ({reason})" for name, reason in reasons.items() if reason)


def _presence(prepared: Prepared) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(prepared.present))


def _cloud(evaluation: Evaluation, cohort: Cohort) -> dict[str, Any]:
    if evaluation.cloud is None or evaluation.cloud_rows is None:
        return {}
    rows = evaluation.cloud_rows
    colours = {}
    for task in cohort.usable_tasks[:6]:
        targets = evaluation.prepared.tasks(task).take(rows)
        colours[_coloured(targets)] = _colour(targets)
    return {
        "points": evaluation.cloud,
        "modality": evaluation.cloud_modality,
        "colours": colours,
    }


def _coloured(targets: Targets) -> str:
    """The task, with the one of its columns that gives the colour."""
    several = len(targets.columns) > 1 and targets.kind != "survival"
    return f"{targets.name}: {targets.columns[0]}" if several else targets.name


def _colour(targets: Targets) -> np.ndarray:
    """One value a sample: class or label names, a number, or event and no event."""
    if targets.kind == "multiclass":
        names = np.array([*targets.classes, "unknown"], dtype=object)
        return names[
            np.where(targets.known[:, 0], targets.values[:, 0], len(names) - 1).astype(int)
        ]
    if targets.kind == "regression":
        return np.where(targets.known[:, 0], targets.values[:, 0], np.nan)
    column = 1 if targets.kind == "survival" else 0
    flags = np.where(targets.values[:, column] > 0, "yes", "no").astype(object)
    return np.where(targets.known[:, column], flags, "unknown")
