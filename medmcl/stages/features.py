"""What a run's frozen stages say of a cohort's samples: embeddings, predictions, covariates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.targets import Targets
from medmcl.data.cohort import Cohort
from medmcl.data.loading import Prepared, cache_folder, prepare
from medmcl.data.views import View, ViewSettings
from medmcl.stages.recipe import TrainSpec
from medmcl.stages.run import Run, embed_records

if TYPE_CHECKING:
    import torch

EVALUATE_ROWS = 256
"""Samples of one forward pass."""


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
    view = plain_view(spec, prepared)
    rows = prepared.rows("held_out")
    rows = rows[np.logical_and.reduce([prepared.present[name][rows] for name in spec.towers])]
    answer = np.zeros((len(targets.values), targets.num_outputs))
    with torch.no_grad():
        for chosen in chunks(rows):
            batch = prepared.batch(chosen, modalities=spec.towers).to(device)
            embeddings = learner.model(view(batch))
            answer[chosen] = objective.predict(embeddings).float().cpu().numpy()  # type: ignore[operator]  # Supervised
    return answer


def covariate_columns(run: Run, cohort: Cohort, modality: str) -> tuple[np.ndarray, np.ndarray]:
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


def plain_view(spec: TrainSpec, prepared: Prepared) -> Callable[[Any], Any]:
    """Give what turns a batch of a stage's towers into encoder inputs, without augmentation."""
    import torch

    adapters = {name: prepared.adapters[name] for name in spec.towers}
    view = View(ViewSettings(), adapters, {})

    def show(batch: Any) -> Any:
        return view(batch, torch.Generator(device=batch.ids.device), disturb=False)

    return show


def chunks(rows: np.ndarray) -> list[np.ndarray]:
    """Split sample numbers into those of one forward pass each."""
    return [rows[i : i + EVALUATE_ROWS] for i in range(0, len(rows), EVALUATE_ROWS)]
