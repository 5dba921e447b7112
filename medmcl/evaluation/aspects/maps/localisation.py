"""Where in an image does another modality's embedding look?"""

from __future__ import annotations

import numpy as np

from medmcl.evaluation.metrics.geometry import unit


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
