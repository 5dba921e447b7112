"""Where in an image does another modality's embedding look?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.geometry import unit

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.maps.aspect import MapSpec
    from medmcl.evaluation.aspects.scene import Scene


def cosine_map(tokens: np.ndarray, pooled: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Give the cosine of every image location with another modality's embedding, (B, H, W).

    Args:
        tokens: Image locations, projected into the shared space, row by row. (B, H * W, D)
        pooled: Embedding of the other modality. (B, D)
        grid: (H, W).
    Source:
        Turgut et al. 2025, MedIA 101:103451 (code: cosine of each projected location with the
        global ECG embedding). Differs: no upsampling here.
    """
    height, width = grid
    if tokens.shape[:2] != (len(pooled), height * width) or tokens.shape[2] != pooled.shape[1]:
        raise ValueError(f"tokens {tokens.shape} do not fit pooled {pooled.shape}, grid {grid}")
    cosine = np.einsum("btd,bd->bt", unit(tokens), unit(pooled))
    return np.asarray(cosine.reshape(len(pooled), height, width))


def map_parts(
    spec: MapSpec, scene: Scene, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Projected image tokens (N, T, D), query embeddings (N, D), images (N, H, W), token grid.

    Images are as the encoder saw them, the last frame.
    """
    import torch

    towers = scene.towers(spec.stage)
    tokens, pooled, images = [], [], []
    with torch.no_grad():
        for _, batch in scene.batches(spec.stage, rows):
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
