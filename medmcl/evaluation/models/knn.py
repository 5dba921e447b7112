"""Nearest neighbours among frozen embeddings: a probe that fits nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted, Model
from medmcl.evaluation.models.survival_neighbours import survival_neighbours

NEIGHBOURS = (5, 10, 20, 50, 100, 200)


def knn(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Predict the mean outcome of the nearest train rows by cosine; k chosen on ``tuning``.

    Only neighbours whose outcome is known count, column by column. Embeddings are compared as they
    are, without standardisation. Of a survival task the prediction is the Kaplan-Meier curve of the
    neighbours, the risk its mean fall until the last event of the train rows, and k has the lowest
    integrated Brier score on ``tuning``.

    Args:
        features: (N, E).
        targets: The task.
        train: Rows to look among (indices).
        tuning: Rows to choose k on, by squared error (indices).
        strengths: Candidate numbers of neighbours.
        refit_on: Rows to look among once k is chosen; default ``train``.

    Raises:
        LeakageError: A row given is of `held_out`, where the targets know it.
    Source:
        Wu et al. 2018, arXiv 1805.01978 (kNN on embeddings). Differs: neighbours count equally.
    """
    targets.refuse_leak("the rows that kNN looks among", train, refit_on)
    targets.refuse_leak("the choice of the number of neighbours", tuning)
    if targets.kind == "survival":
        final = train if refit_on is None else refit_on
        counts = [int(k) for k in strengths or NEIGHBOURS]
        return survival_neighbours(features, targets, train, tuning, final, counts)
    outcomes, known = one_hot(targets)
    x = np.asarray(features, dtype=np.float64)
    sizes = [int(k) for k in strengths or NEIGHBOURS]
    memory = np.asarray(train)
    losses = []
    for k in sizes:
        guess = _neighbour_mean(x[tuning], x[memory], outcomes[memory], known[memory], k)
        losses.append(float((((guess - outcomes[tuning]) ** 2) * known[tuning]).sum()))
    best = sizes[int(np.argmin(losses))] if len(tuning) else sizes[1 % len(sizes)]
    memory = memory if refit_on is None else np.asarray(refit_on)

    def predict(rows: np.ndarray) -> np.ndarray:
        return _neighbour_mean(rows, x[memory], outcomes[memory], known[memory], best)

    return Fitted(predict=predict, chosen=(float(best),))


def one_hot(targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes with one column a class for multiclass tasks, as they are otherwise."""
    if targets.kind != "multiclass":
        return targets.values, targets.known
    classes = np.arange(len(targets.classes))
    known = np.broadcast_to(targets.known, (len(targets.known), len(classes)))
    return (targets.values == classes).astype(np.float64) * known, known


def _neighbour_mean(
    queries: np.ndarray, memory: np.ndarray, outcomes: np.ndarray, known: np.ndarray, k: int
) -> np.ndarray:
    """Mean outcome of the k nearest rows with a known outcome, (N, C), in blocks of queries."""
    unit = memory / np.maximum(np.linalg.norm(memory, axis=1, keepdims=True), 1e-12)
    found = np.zeros((len(queries), outcomes.shape[1]))
    step = max(1, 8_000_000 // max(1, len(memory)))
    for column in range(outcomes.shape[1]):
        rows = np.flatnonzero(known[:, column])
        size = min(k, len(rows))
        if size == 0:
            continue
        for first in range(0, len(queries), step):
            near = -(np.asarray(queries[first : first + step], dtype=np.float64) @ unit[rows].T)
            nearest = np.argpartition(near, size - 1, axis=1)[:, :size]
            found[first : first + step, column] = outcomes[rows[nearest], column].mean(axis=1)
    return found


KNN = Model(fit=knn)
