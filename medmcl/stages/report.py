"""From what a run recorded to its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.core.targets import Targets
from medmcl.data.cohort import Cohort
from medmcl.data.loading import Prepared
from medmcl.engine.record import read_metrics
from medmcl.evaluation.report import ReportData, write_report
from medmcl.evaluation.results import save_results
from medmcl.stages.evaluate import Evaluation
from medmcl.stages.run import Run


def write_run_report(
    run: Run,
    cohort: Cohort,
    prepared: Prepared,
    facts: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Evaluation],
) -> None:
    """Write ``report.html``, ``report.json`` and ``results.csv`` of a run."""
    curves: dict[str, list[dict[str, Any]]] = {fact["stage"]: [] for fact in facts}
    for row in read_metrics(run.path / "metrics.jsonl"):
        curves.setdefault(row["stage"], []).append(row)
    merged = _merge(run, prepared, evaluations)
    data = _data(run, cohort, merged, curves, [_fact_line(fact) for fact in facts])
    write_report(run.path / "report.html", data)
    save_results(run.path / "results.csv", merged.results)


def write_evaluation_report(run: Run, cohort: Cohort, evaluation: Evaluation) -> None:
    """Write the report of ``medmcl evaluate``."""
    data = _data(run, cohort, evaluation, {}, [])
    write_report(evaluation.folder / "report.html", data)
    save_results(evaluation.folder / "results.csv", evaluation.results)


def _merge(run: Run, prepared: Prepared, evaluations: Sequence[Evaluation]) -> Evaluation:
    if not evaluations:
        return Evaluation(folder=run.path, prepared=prepared)
    last = evaluations[-1]
    for earlier in evaluations[:-1]:
        last.results[:0] = earlier.results
        last.notes[:0] = earlier.notes
    return last


def _fact_line(fact: Mapping[str, Any]) -> str:
    """Say in a sentence what a stage trained on."""
    spare = fact.get("tuning_left_out", 0)
    left = f" ({spare} of the tuning split left out of its batches)"
    best = f", best at step {fact['best_step']}{left if spare else ''}"
    if fact["best_tuning_loss"] is None:
        best = ", no tuning loss to choose by: the last step is kept"
    skipped = f", {fact['skipped_steps']} steps skipped" if fact["skipped_steps"] else ""
    return (
        f"Stage {fact['stage']}: {fact['rows']} samples of {fact['subjects']} subjects, "
        f"{fact['steps']} steps of {fact['batch_size']}{best}{skipped}; "
        f"{fact['parameters'] / 1e6:.2f} M parameters; {fact['seconds']:.0f} s."
    )


def _data(
    run: Run,
    cohort: Cohort,
    evaluation: Evaluation,
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    lines: Sequence[str],
) -> ReportData:
    prepared = evaluation.prepared
    provenance = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    return ReportData(
        title=f"{run.recipe.name} on {cohort.name}",
        subtitle=run.recipe.about,
        provenance={**provenance, "source": run.recipe.source or "not stated"},
        flow=prepared.flow(),
        missingness=_presence(prepared),
        findings=[*cohort.findings, *prepared.excluded, *prepared.warnings],
        curves=curves,
        embedding_map=_cloud(evaluation, cohort),
        results=evaluation.results,
        images=evaluation.images,
        heat=evaluation.heat,
        notes=[*lines, *dict.fromkeys(evaluation.notes)],
    )


def _presence(prepared: Prepared) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(prepared.present))


def _cloud(evaluation: Evaluation, cohort: Cohort) -> dict[str, Any]:
    if evaluation.cloud is None or evaluation.cloud_rows is None:
        return {}
    rows = evaluation.cloud_rows
    colours = {}
    for task in cohort.usable_tasks[:6]:
        colours[task] = _colour(evaluation.prepared.tasks(task).take(rows))
    return {
        "points": evaluation.cloud,
        "modality": evaluation.cloud_modality,
        "colours": colours,
    }


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
