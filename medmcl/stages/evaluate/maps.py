"""Cosine maps: where in the image the embedding of another modality looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.maps.localisation import cosine_map
from medmcl.stages.evaluate.spec import MapSpec
from medmcl.stages.run.features import chunks, plain_view
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import torch


def held_out_maps(
    spec: MapSpec, run: Run, prepared: Prepared, device: torch.device, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Images and cosine maps of the first few of some samples that have both; None of none."""
    rows = rows[prepared.present[spec.query][rows] & prepared.present[spec.image][rows]]
    return cosine_maps(run, prepared, spec, rows[: spec.shown], device) if len(rows) else None


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
    view = plain_view(train, prepared)
    tokens, pooled, images = [], [], []
    with torch.no_grad():
        for chosen in chunks(rows):
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
