"""Tasks scored without labels: by the embeddings of the cohort's prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.config import lookup
from medmcl.data.loading import Prepared
from medmcl.evaluation.evaluate import evaluate_embeddings
from medmcl.evaluation.models.zero_shot import zero_shot_classes, zero_shot_labels
from medmcl.evaluation.results import Result
from medmcl.stages.features import sample_vectors
from medmcl.stages.recipe import EvaluateSpec, ZeroShotSpec
from medmcl.stages.run import Run

if TYPE_CHECKING:
    import torch


def zero_shot_results(
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
            level=stage.level,
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
