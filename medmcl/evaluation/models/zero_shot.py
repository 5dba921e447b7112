"""Zero-shot prediction: which of some sentences does an embedding lie closest to?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from medmcl.evaluation.metrics.geometry import unit


def ensemble(prompts: np.ndarray) -> np.ndarray:
    """Give the direction of a class from its prompts: the normalised mean of normalised prompts.

    Args:
        prompts: Embeddings of the prompts of one class, (P, D), at least one.

    Returns:
        Unit vector (D,).

    Raises:
        ValueError: If there is no prompt or their mean is zero.
    Source:
        Radford et al. 2021, arXiv 2103.00020, §3.1.4 (ensembled embeddings). Differs: none.
    """
    prompts = np.asarray(prompts, dtype=np.float64)
    if prompts.ndim != 2 or len(prompts) == 0:
        raise ValueError(f"prompts must have shape (P, D) with P > 0, got {prompts.shape}")
    mean = unit(prompts).mean(axis=0)
    if np.linalg.norm(mean) < 1e-12:
        raise ValueError("the prompts of a class cancel out")
    return np.asarray(unit(mean[None])[0])


def zero_shot_classes(
    pooled: np.ndarray, prompts: Sequence[np.ndarray], *, logit_scale: float
) -> np.ndarray:
    """Give probabilities of exclusive classes, (N, C).

    Args:
        pooled: Embeddings of the samples, (N, D).
        prompts: One array (P, D) a class.
        logit_scale: 1 / temperature of the model.
    Source:
        Radford et al. 2021, arXiv 2103.00020, §3.1. Differs: none.
    """
    directions = np.stack([ensemble(group) for group in prompts])
    return np.asarray(softmax(logit_scale * unit(pooled) @ directions.T, axis=1))


def zero_shot_labels(
    pooled: np.ndarray,
    positive: Sequence[np.ndarray],
    negative: Sequence[np.ndarray],
    *,
    logit_scale: float,
) -> np.ndarray:
    """Give the probability of each label, (N, C): its positive against its negative prompts.

    Args:
        pooled: Embeddings of the samples, (N, D).
        positive: One array (P, D) a label: what is said when it is there.
        negative: One array (P, D) a label: what is said when it is not.
        logit_scale: 1 / temperature of the model.
    Source:
        Tiu et al. 2022, Nat Biomed Eng 6:1399-1406 (CheXzero: softmax over a positive and a
        negative prompt). Differs: several prompts a side, ensembled.
    """
    if len(positive) != len(negative):
        raise ValueError(f"{len(positive)} labels with positive, {len(negative)} with negative")
    for_it = np.stack([ensemble(group) for group in positive])
    against = np.stack([ensemble(group) for group in negative])
    gap = logit_scale * unit(pooled) @ (for_it - against).T
    return np.asarray(0.5 * (1 + np.tanh(gap / 2)))
