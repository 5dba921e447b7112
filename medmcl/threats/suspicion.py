"""Every detector over a table of embeddings, whole or in batches that are drawn by seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.threats.detectors import DETECTORS


def suspicion(
    embeddings: np.ndarray,
    k: int = 16,
    batch: int | None = None,
    seed: int = 0,
    check_interrupt: Callable[[], object] = lambda: None,
) -> dict[str, np.ndarray]:
    """Score rows by every one of `DETECTORS`, with corrected neighbours.

    Args:
        embeddings: (N, E), N >= k + 2.
        k: Neighbours.
        batch: Rows of a batch within which neighbours are looked for; all N if not given, or if it
            is N or more. N is parted evenly, so that batches have so many rows or a few more.
        seed: Of the batches.
        check_interrupt: Called before each batch; what it raises ends the work.

    Returns:
        Name to (N,) float64, higher = more suspect.

    Raises:
        ConfigError: Fewer rows, or rows of a batch, than k + 2.
        MedmclError: Embeddings that are not finite.
    """
    count = len(embeddings)
    refuse_few(count, k, batch)
    found = {name: np.empty(count) for name in DETECTORS}
    for rows in batches_of(count, batch, seed):
        check_interrupt()
        for name, detector in DETECTORS.items():
            found[name][rows] = detector(embeddings[rows], k).cpu().numpy()
    return found


def refuse_few(count: int, k: int, batch: int | None = None) -> None:
    """Refuse what has too few rows for ``k`` neighbours.

    Raises:
        ConfigError: Fewer rows, or rows of a batch, than k + 2; or k below 1.
    """
    if k < 1:
        raise ConfigError(
            "a row has one neighbour or more", where="k", got=k, fix="a larger k; 16 is usual"
        )
    if count < k + 2:
        raise ConfigError(
            "there are too few rows to look for neighbours among",
            got=f"{count:,} rows, k = {k}",
            expected=f"{k + 2:,} rows or more for k = {k}: each needs k neighbours and one more",
            fix=f"a smaller k (at most {count - 2})" if count > 2 else "more records",
        )
    if batch is not None and batch < k + 2:
        raise ConfigError(
            "a batch has too few rows to look for neighbours among",
            where="batch",
            got=f"{batch:,} rows, k = {k}",
            expected=f"{k + 2:,} rows or more",
            fix="a larger batch, or a smaller k",
        )


def batches_of(count: int, batch: int | None, seed: int) -> list[np.ndarray]:
    """Part ``count`` rows into drawn batches of at least ``batch`` rows; one of all without."""
    if batch is None or batch >= count:
        return [np.arange(count)]
    order = numpy_generator(seed, "batches of detectors").permutation(count)
    return [np.sort(part) for part in np.array_split(order, count // batch)]
