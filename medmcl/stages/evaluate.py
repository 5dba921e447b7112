"""The evaluate stage: the only one that opens ``held_out``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.config import check
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort import Cohort, open_cohort
from medmcl.data.loading import Prepared
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import pick_device
from medmcl.evaluation.evaluate import evaluate_embeddings
from medmcl.evaluation.results import Result
from medmcl.evaluation.retrieval import retrieval
from medmcl.stages.features import covariate_columns, predict, sample_vectors
from medmcl.stages.maps import held_out_maps
from medmcl.stages.outputs import claim_report_folder
from medmcl.stages.recipe import (
    EvaluateSpec,
    ProbeSpec,
    RetrievalSpec,
    fill,
)
from medmcl.stages.run import Run, only_cohort_overrides
from medmcl.stages.zero_shot import zero_shot_results

if TYPE_CHECKING:
    import torch


@dataclass
class Evaluation:
    """What an evaluate stage found.

    Attributes:
        folder: Where its report lies.
        results: Task results, retrieval and zero-shot rows.
        cloud: Held-out embeddings of the first probe method, (N, E), for the map.
        cloud_rows: Their sample numbers.
        images: Image inputs shown with maps, (N, H, W).
        heat: Cosine maps over them, (N, H, W).
        prepared: The cohort as it was scored.
    """

    folder: Path
    prepared: Prepared
    results: list[Result] = field(default_factory=list)
    cloud: np.ndarray | None = None
    cloud_rows: np.ndarray | None = None
    cloud_modality: str = ""
    images: np.ndarray | None = None
    heat: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def evaluate(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    *,
    tasks: Sequence[str] | None = None,
    label_fractions: Sequence[float] | None = None,
    compare: Sequence[str | Path] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Evaluation:
    """Score a run on the held-out split of a cohort, its own or another.

    Args:
        run: Run or its folder.
        cohort: Cohort, folder or name.
        tasks: Tasks to score; all of the cohort if not given.
        label_fractions: Shares of the train labels; those of the recipe if not given.
        compare: Other runs to set beside, under the names of their folders.
        out: Folder of the report; ``RUN/evaluation-<cohort>`` if not given.
        overwrite: Write over a report that the folder holds.
        overrides: Cohort overrides, as ``--set``.
        seed: Seed of label subsets and bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ArtefactError: The folder holds a report already, or is a run.
    """
    from medmcl.stages.report import write_evaluation_report

    opened_run = run if isinstance(run, Run) else Run(run)
    opened = (
        cohort
        if isinstance(cohort, Cohort)
        else open_cohort(cohort, only_cohort_overrides(overrides or {}))
    )
    folder = Path(out) if out else opened_run.path / f"evaluation-{opened.name}"
    claim_report_folder(folder, overwrite=overwrite)
    spec = _spec_of(opened_run, tasks, label_fractions)
    refuse_faulty(opened, opened.spec.tasks if spec.tasks == "all" else spec.tasks)
    record = Record(folder / "metrics.jsonl", active=True)
    others = {Path(path).name: Run(path) for path in compare}
    evaluation = run_evaluate(
        spec, opened_run, opened, pick_device(device), record, others=others, seed=seed
    )
    evaluation.folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation_report(opened_run, opened, evaluation)
    return evaluation


def _spec_of(
    run: Run, tasks: Sequence[str] | None, fractions: Sequence[float] | None
) -> EvaluateSpec:
    """The run's own evaluate stage, or a plain probe of its first modality."""
    given = [stage for stage in run.recipe.stages if isinstance(stage, EvaluateSpec)]
    if given:
        spec = given[-1]
    else:
        modality = next(iter(run.recipe.inputs))
        models = {run.recipe.name: run.default_stage(modality), "untrained": "untrained"}
        spec = EvaluateSpec(
            stage="evaluate", probe=ProbeSpec(modality=modality, models=models), draws=3
        )
    changes: dict[str, Any] = {}
    if tasks is not None:
        changes["tasks"] = tuple(tasks)
    if fractions is not None:
        changes["label_fractions"] = tuple(fractions)
    return check(
        EvaluateSpec, {**spec.model_dump(), **changes}, where="evaluate", error=ConfigError
    )


def refuse_faulty(cohort: Cohort, tasks: Iterable[str]) -> None:
    """Refuse outcomes that are at fault, all in one error.

    Raises:
        CohortError: Names every fault, and how to leave the outcomes out.
    """
    faulty = [
        task
        for task in tasks
        if task not in cohort.spec.tasks
        or any(finding.level == "error" for finding in cohort.task_findings(task))
    ]
    for task in faulty:
        if task not in cohort.spec.tasks:
            cohort.targets(task)  # refuses, with the nearest name
    if not faulty:
        return
    faults = [f for task in faulty for f in cohort.task_findings(task) if f.level == "error"]
    leave = " ".join(f"--set cohort.tasks.{task}=null" for task in faulty)
    raise CohortError(
        "outcomes that are used here have faults:\n" + "\n".join(f"  - {f}" for f in faults),
        where=f"cohort {cohort.name}",
        mend=f"mend them, or leave them out: {leave}",
    )


def run_evaluate(
    spec: EvaluateSpec,
    run: Run,
    cohort: Cohort,
    device: torch.device,
    record: Record,
    *,
    others: Mapping[str, Run] | None = None,
    seed: int | None = None,
    stop: StopRequest | None = None,
) -> Evaluation:
    """Run one evaluate stage; see `EvaluateSpec` for what it may hold.

    What needs a modality that the cohort does not have is left out, with a note.
    """
    modalities = tuple(name for name in run.recipe.inputs if name in cohort.spec.modalities)

    def heed(_: object = None) -> None:
        if stop is not None:
            stop.heed(spec.name)

    prepared = run.prepare(cohort, modalities, progress=heed)
    evaluation = Evaluation(folder=run.path, prepared=prepared)
    seed = run.seed if seed is None else seed
    chosen = list(cohort.spec.tasks) if spec.tasks == "all" else list(spec.tasks)
    spec = _what_the_cohort_has(spec, cohort, evaluation.notes)

    def now(part: str) -> None:
        heed()
        record.say(f"{spec.name}: {part}")

    if spec.probe is not None and chosen:
        now("embeddings")
        features, present = _features(spec, run, prepared, device, others or {})
        if spec.covariates is not None:
            features["covariates"], present["covariates"] = covariate_columns(
                run, cohort, spec.covariates
            )
        _keep_cloud(evaluation, spec.probe, features, present)
        for task in chosen:
            now(task)
            evaluation.results += _score_task(
                spec, run, prepared, task, features, present, device, seed, evaluation.notes
            )
    if spec.retrieval is not None:
        now("retrieval")
        evaluation.results += _retrieval(spec.retrieval, run, prepared, device, spec, seed)
    if spec.zero_shot is not None:
        now("zero-shot")
        evaluation.results += zero_shot_results(
            spec.zero_shot, run, prepared, device, spec, chosen, seed, evaluation.notes
        )
    if spec.maps is not None:
        now("maps")
        evaluation.images, evaluation.heat = held_out_maps(spec.maps, run, prepared, device)
    return evaluation


def _what_the_cohort_has(spec: EvaluateSpec, cohort: Cohort, notes: list[str]) -> EvaluateSpec:
    """Leave out parts that read modalities which the cohort does not have, each with a note."""
    have = cohort.spec.modalities
    parts: dict[str, tuple[str, ...]] = {}
    if spec.probe is not None:
        parts["probe"] = (spec.probe.modality,)
    if spec.covariates is not None:
        parts["covariates"] = (spec.covariates,)
    if spec.zero_shot is not None:
        parts["zero_shot"] = (spec.zero_shot.modality, spec.zero_shot.text)
    if spec.maps is not None:
        parts["maps"] = (spec.maps.query, spec.maps.image)
    changes: dict[str, Any] = {}
    if spec.retrieval is not None:
        pairs = tuple(p for p in spec.retrieval.pairs if all(name in have for name in p))
        changes["retrieval"] = spec.retrieval.model_copy(update={"pairs": pairs}) if pairs else None
        if len(pairs) < len(spec.retrieval.pairs):
            notes.append(f"retrieval left out: the cohort has only {', '.join(have)}")
    for part, needed in parts.items():
        missing = [name for name in needed if name not in have]
        if missing:
            changes[part] = None
            notes.append(f"{part} left out: the cohort has no {', '.join(missing)}")
    if changes.get("probe", spec.probe) is None and spec.probe is not None:
        raise ConfigError(
            f"the cohort has no '{spec.probe.modality}', the modality whose embeddings are scored",
            expected=", ".join(have),
        )
    return spec.model_copy(update=changes)


def _features(
    spec: EvaluateSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    others: Mapping[str, Run],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Frozen embeddings of every method, by sample, and where they exist."""
    probe = spec.probe
    if probe is None:
        return {}, {}
    features: dict[str, np.ndarray] = {}
    for label, stage in probe.models.items():
        features[label] = sample_vectors(run, prepared, stage, probe.modality, probe.space, device)
    for name, other in others.items():
        again = other.prepare(prepared.cohort, (probe.modality,))
        stage = other.default_stage(probe.modality)
        features[name] = sample_vectors(other, again, stage, probe.modality, probe.space, device)
    has = prepared.present[probe.modality]
    return features, dict.fromkeys(features, has)


def _keep_cloud(
    evaluation: Evaluation,
    probe: ProbeSpec,
    features: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
) -> None:
    label = next(iter(probe.models))
    rows = evaluation.prepared.rows("held_out")
    rows = rows[present[label][rows]]
    evaluation.cloud, evaluation.cloud_rows = features[label][rows], rows
    evaluation.cloud_modality = probe.modality


def _score_task(
    spec: EvaluateSpec,
    run: Run,
    prepared: Prepared,
    task: str,
    features: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    device: torch.device,
    seed: int,
    notes: list[str],
) -> list[Result]:
    targets = prepared.tasks(task)
    predictions: dict[str | tuple[str, float], np.ndarray] = {}
    for label, pattern in spec.finetuned.items():
        for fraction in spec.label_fractions:
            stage = fill(pattern, {"task": task, "label_fraction": fraction})
            if stage in run.stages:
                predictions[label, fraction] = predict(run, stage, prepared, targets, device)
        if not any(key[0] == label for key in predictions):
            notes.append(f"{task}: the run has no '{label}' stage for it")
    labelled = targets.known.any(axis=1) & (prepared.splits == "train")
    if len(np.unique(prepared.subjects[labelled])) < 2:
        notes.append(
            f"{task}: the cohort has no labelled train subjects, so no probe can be fitted on it; "
            "only fine-tuned stages were scored"
        )
        features, present = {}, {}
        if not predictions:
            return []
    return evaluate_embeddings(
        features,
        targets,
        prepared.splits,
        prepared.subjects,
        protocol=spec.probe.protocol if spec.probe else "linear_probe",
        fractions=spec.label_fractions,
        draws=spec.draws,
        seed=seed,
        bootstrap_draws=spec.bootstrap_draws,
        present=present,
        predictions=predictions,
    )


def _retrieval(
    spec: RetrievalSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    stage: EvaluateSpec,
    seed: int,
) -> list[Result]:
    rows: list[Result] = []
    for a, b in spec.pairs:
        both = prepared.rows("held_out")
        both = both[prepared.present[a][both] & prepared.present[b][both]]
        vectors = [
            sample_vectors(run, prepared, spec.stage, name, "pooled", device)[both]
            for name in (a, b)
        ]
        rows += retrieval(
            *vectors,
            names=(a, b),
            identity=(prepared.identity(a)[both], prepared.identity(b)[both]),
            groups=prepared.subjects[both],
            ks=spec.ks,
            draws=stage.bootstrap_draws,
            seed=seed,
            method=spec.stage,
        )
    return rows
