"""The evaluate stage: the only one that opens ``held_out``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.config import check, lookup
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.core.targets import Targets
from medmcl.data.cohort import Cohort, open_cohort
from medmcl.data.loading import Prepared, cache_folder, prepare
from medmcl.data.views import View
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import pick_device
from medmcl.evaluation.evaluate import evaluate_embeddings
from medmcl.evaluation.localisation import cosine_map
from medmcl.evaluation.results import Result
from medmcl.evaluation.retrieval import retrieval
from medmcl.evaluation.zero_shot import zero_shot_classes, zero_shot_labels
from medmcl.stages.recipe import (
    EvaluateSpec,
    MapSpec,
    ProbeSpec,
    RetrievalSpec,
    TrainSpec,
    ZeroShotSpec,
    fill,
)
from medmcl.stages.run import Run, embed_records, only_cohort_overrides

if TYPE_CHECKING:
    import torch

EVALUATE_ROWS = 256


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
        overrides: Cohort overrides, as ``--set``.
        seed: Seed of label subsets and bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
    from medmcl.stages.report import write_evaluation_report

    opened_run = run if isinstance(run, Run) else Run(run)
    opened = (
        cohort
        if isinstance(cohort, Cohort)
        else open_cohort(cohort, only_cohort_overrides(overrides or {}))
    )
    spec = _spec_of(opened_run, tasks, label_fractions)
    refuse_faulty(opened, opened.spec.tasks if spec.tasks == "all" else spec.tasks)
    folder = Path(out) if out else opened_run.path / f"evaluation-{opened.name}"
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
    prepared = run.prepare(cohort, modalities)
    evaluation = Evaluation(folder=run.path, prepared=prepared)
    seed = run.seed if seed is None else seed
    chosen = list(cohort.spec.tasks) if spec.tasks == "all" else list(spec.tasks)
    spec = _what_the_cohort_has(spec, cohort, evaluation.notes)
    if spec.probe is not None and chosen:
        features, present = _features(spec, run, prepared, device, others or {})
        if spec.covariates is not None:
            features["covariates"], present["covariates"] = _covariates(
                run, cohort, spec.covariates
            )
        _keep_cloud(evaluation, spec.probe, features, present)
        for task in chosen:
            if stop is not None:
                stop.heed(spec.name)
            record.say(f"{spec.name}: {task}")
            evaluation.results += _score_task(
                spec, run, prepared, task, features, present, device, seed, evaluation.notes
            )
    if spec.retrieval is not None:
        evaluation.results += _retrieval(spec.retrieval, run, prepared, device, spec, seed)
    if spec.zero_shot is not None:
        evaluation.results += _zero_shot(
            spec.zero_shot, run, prepared, device, spec, chosen, seed, evaluation.notes
        )
    if spec.maps is not None:
        _maps(spec.maps, run, prepared, device, evaluation)
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


def sample_vectors(
    run: Run,
    prepared: Prepared,
    stage: str,
    modality: str,
    space: str,
    device: torch.device,
) -> np.ndarray:
    """Embed a modality of every sample, (N, E); zeros where it is absent."""
    index = prepared.index(modality)
    records = np.unique(index[index >= 0])
    vectors = embed_records(run.towers(stage, device), prepared, modality, records, space, device)
    full = np.zeros((len(index), vectors.shape[1]), dtype=np.float64)
    full[index >= 0] = vectors[np.searchsorted(records, index[index >= 0])]
    return full


def _covariates(run: Run, cohort: Cohort, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """A table as plain features: standardised numbers, one column a level, presence flags."""
    if modality not in cohort.spec.modalities:
        raise ConfigError(
            f"the covariates '{modality}' are not a modality of the cohort",
            expected=", ".join(cohort.spec.modalities),
        )
    prepared = prepare(cohort, {modality: {}}, cache=cache_folder(run.path.parent), splits="all")
    index = prepared.index(modality)
    stored = np.asarray(prepared.inputs(modality))[np.maximum(index, 0)].astype(np.float64)
    values, flags = stored[:, 0], stored[:, 1]
    columns = [flags]
    for column, levels in enumerate(prepared.adapters[modality].input_shape.cardinalities):
        if levels == 0:
            columns.append((values[:, column] * flags[:, column])[:, None])
        else:
            hot = values[:, column].astype(int)[:, None] == np.arange(levels)
            columns.append(hot * flags[:, column][:, None])
    has = prepared.present[modality]
    return np.concatenate(columns, axis=1) * has[:, None], has


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


def predict(
    run: Run, stage: str, prepared: Prepared, targets: Targets, device: torch.device
) -> np.ndarray:
    """Predictions of a fine-tuned stage on the held-out samples, (N, C); zeros elsewhere.

    Raises:
        ArtefactError: If the task of the run and of the cohort differ in columns or classes.
    """
    import torch

    spec = run.stage(stage)
    known = run.tasks[str(spec.task)]
    if (known.columns, known.classes, known.kind) != (
        targets.columns,
        targets.classes,
        targets.kind,
    ):
        raise ArtefactError(
            f"the task '{targets.name}' is not the one the run was trained for",
            got=f"{targets.kind} {targets.columns} {targets.classes}",
            expected=f"{known.kind} {known.columns} {known.classes}",
        )
    learner = run.learner(stage, device)
    (objective,) = learner.objectives.values()
    view = _plain_view(spec, prepared)
    rows = prepared.rows("held_out")
    rows = rows[np.logical_and.reduce([prepared.present[name][rows] for name in spec.towers])]
    answer = np.zeros((len(targets.values), targets.num_outputs))
    with torch.no_grad():
        for chosen in _chunks(rows):
            batch = prepared.batch(chosen, modalities=spec.towers).to(device)
            embeddings = learner.model(view(batch))
            answer[chosen] = objective.predict(embeddings).float().cpu().numpy()  # type: ignore[operator]  # Supervised
    return answer


def _plain_view(spec: TrainSpec, prepared: Prepared) -> Callable[[Any], Any]:
    import torch

    from medmcl.data.views import ViewSettings

    adapters = {name: prepared.adapters[name] for name in spec.towers}
    view = View(ViewSettings(), adapters, {})

    def show(batch: Any) -> Any:
        return view(batch, torch.Generator(device=batch.ids.device), disturb=False)

    return show


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[i : i + EVALUATE_ROWS] for i in range(0, len(rows), EVALUATE_ROWS)]


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


def _zero_shot(
    spec: ZeroShotSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    stage: EvaluateSpec,
    tasks: Sequence[str],
    seed: int,
    notes: list[str],
) -> list[Result]:
    """Score tasks that the cohort has prompts for, by the prompts' embeddings.

    A label is set against its own negative prompts (``not LABEL``), or, where the cohort has none,
    against the prompts of the other labels.
    """
    pooled = sample_vectors(run, prepared, spec.stage, spec.modality, "pooled", device)
    scale = _logit_scale(run, spec.stage, device)
    rows: list[Result] = []
    prompts = prepared.cohort.spec.prompts
    for task in tasks:
        if task not in prompts:
            notes.append(f"zero-shot: the cohort has no prompts for {task}")
            continue
        targets = prepared.tasks(task)
        names = targets.classes if targets.kind == "multiclass" else targets.columns

        def embed(label: str, of: str = task) -> np.ndarray:
            texts = list(lookup(f"prompts of task {of}", label, prompts[of]))
            return embed_texts(run, prepared, spec.stage, spec.text, texts, device)

        positive = [embed(str(name)) for name in names]
        if targets.kind == "multiclass":
            scores = zero_shot_classes(pooled, positive, logit_scale=scale)
        else:
            negative = [
                embed(f"not {name}")
                if f"not {name}" in prompts[task]
                else np.concatenate([p for n, p in enumerate(positive) if n != number])
                for number, name in enumerate(names)
            ]
            scores = zero_shot_labels(pooled, positive, negative, logit_scale=scale)
        rows += evaluate_embeddings(
            {},
            targets,
            prepared.splits,
            prepared.subjects,
            predictions={"zero-shot": scores},
            present={"zero-shot": prepared.present[spec.modality]},
            predictions_protocol="zero_shot",
            cross_validate=False,
            seed=seed,
            bootstrap_draws=stage.bootstrap_draws,
        )
    return rows


def embed_texts(
    run: Run, prepared: Prepared, stage: str, modality: str, texts: list[str], device: torch.device
) -> np.ndarray:
    """Embed texts with the text tower of a stage, (P, D)."""
    import torch

    from medmcl.core.batch import Batch

    adapter: Any = prepared.adapters[modality]
    ids = torch.as_tensor(adapter.encode(texts), device=device)
    batch = Batch(
        ids=torch.arange(len(texts), device=device),
        inputs={modality: adapter.plain(ids)},
        present={modality: torch.ones(len(texts), dtype=torch.bool, device=device)},
    )
    with torch.no_grad():
        pooled = run.towers(stage, device)(batch).pooled[modality]
    return np.asarray(pooled.float().cpu().numpy())


def _logit_scale(run: Run, stage: str, device: torch.device) -> float:
    for objective in run.learner(stage, device).objectives.values():
        scale = getattr(objective, "scale", None)
        if scale is not None:
            return float(scale().detach())
    return 1.0


def _maps(
    spec: MapSpec, run: Run, prepared: Prepared, device: torch.device, evaluation: Evaluation
) -> None:
    """Cosine maps of a few held-out samples: where the query's embedding looks in the image."""
    rows = prepared.rows("held_out")
    rows = rows[prepared.present[spec.query][rows] & prepared.present[spec.image][rows]]
    images, maps = cosine_maps(run, prepared, spec, rows[: spec.shown], device)
    evaluation.images, evaluation.heat = images, maps


def cosine_maps(
    run: Run, prepared: Prepared, spec: MapSpec, rows: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W) as the encoder saw them, last frame, and their cosine maps (N, h, w)."""
    tokens, pooled, images, grid = map_parts(run, prepared, spec, rows, device)
    return images, cosine_map(tokens, pooled, grid)


def map_parts(
    run: Run, prepared: Prepared, spec: MapSpec, rows: np.ndarray, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Projected image tokens (N, T, D), query embeddings (N, D), images (N, H, W), token grid."""
    import torch

    train = run.stage(spec.stage)
    towers = run.towers(spec.stage, device)
    view = _plain_view(train, prepared)
    tokens, pooled, images = [], [], []
    with torch.no_grad():
        for chosen in _chunks(rows):
            batch = view(prepared.batch(chosen, modalities=train.towers).to(device))
            seen = towers(batch)
            if spec.image not in seen.tokens:
                raise ConfigError(f"the encoder of '{spec.image}' gives no tokens to map")
            tokens.append(towers.project_tokens(spec.image, seen.tokens[spec.image]).cpu().numpy())
            pooled.append(seen.pooled[spec.query].float().cpu().numpy())
            images.append(batch.inputs[spec.image][:, -1].float().cpu().numpy())
    grid = towers.tower(spec.image).facts.grid
    if grid is None or len(grid) != 2:
        raise ConfigError(f"the tokens of '{spec.image}' do not lie in a plane", got=grid)
    flat = (grid[0], grid[1])
    return np.concatenate(tokens), np.concatenate(pooled), np.concatenate(images), flat
