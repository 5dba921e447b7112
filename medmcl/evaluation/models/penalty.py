"""The strength of a probe's penalty, chosen by cross-validation by subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.models.cox import cox_loss
from medmcl.evaluation.models.cross_validation import subject_folds
from medmcl.evaluation.models.probe import LOGISTIC_STRENGTHS, RIDGE_STRENGTHS
from medmcl.evaluation.models.survival_models import COX_STRENGTHS, Walk


def cross_validated_strength(
    walk: Callable[[np.ndarray, Targets, np.ndarray], Walk],
    features: np.ndarray,
    targets: Targets,
    subjects: np.ndarray,
    *,
    folds: int = 5,
    seed: int = 0,
    strengths: Sequence[float] | None = None,
) -> tuple[float, tuple[str, ...]]:
    """Choose the strength with the lowest loss over folds that hold other subjects.

    The loss is that of the probe: log loss, squared error, or negative log partial likelihood
    within each fold. The walk from strong to weak stops when the loss has risen twice; in each fold
    rows are standardised once, and fits go on from one another.

    Args:
        walk: What fits a probe to rows (indices) under one strength after another.
        features: (N, E).
        targets: A task with one output, all N rows known.
        subjects: Subject of each row. (N,)
        folds: Folds, at most the number of subjects.
        seed: Seed of the folds.
        strengths: Candidates, strong to weak; default those of the linear probe.

    Returns:
        The strength, and a note if there was nothing to choose it on.
    """
    grid = tuple(strengths or _grid(targets))
    strata = _strata(targets)
    generator = numpy_generator(seed, "inner_folds", targets.name)
    fold = subject_folds(np.asarray(subjects), strata, folds, generator)
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    if len(parts) < 2 or (targets.kind == "survival" and strata.sum() < 2):
        return grid[len(grid) // 2], ("too few subjects or events to choose the penalty on",)
    folds_of = [(walk(features, targets, train), test) for train, test in parts]
    losses: list[float] = []
    for strength in grid:
        losses.append(
            sum(
                prediction_loss(targets.take(test), at(strength)(features[test]))
                for at, test in folds_of
            )
        )
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    return grid[int(np.argmin(losses))], ()


def prediction_loss(targets: Targets, predicted: np.ndarray) -> float:
    """Summed loss of a probe's predictions (N, C); lower is better."""
    values = targets.values
    if targets.kind == "survival":
        time, event = (values[:, targets.columns.index(c)] for c in ("time", "event"))
        return cox_loss(np.ones(1), predicted, event > 0, time)
    if targets.kind == "regression":
        return float(((predicted - values) ** 2).sum())
    if targets.kind == "multiclass":
        chance = predicted[np.arange(len(values)), values[:, 0].astype(int)]
    else:
        chance = np.where(values > 0, predicted, 1 - predicted)
    return -float(np.log(np.maximum(chance, 1e-15)).sum())


def _grid(targets: Targets) -> tuple[float, ...]:
    if targets.kind == "regression":
        return RIDGE_STRENGTHS
    return COX_STRENGTHS if targets.kind == "survival" else LOGISTIC_STRENGTHS


def _strata(targets: Targets) -> np.ndarray:
    """Class to spread over folds; none for regression."""
    if targets.kind == "regression":
        return np.zeros(len(targets.values))
    column = targets.columns.index("event") if targets.kind == "survival" else 0
    return np.asarray(targets.values[:, column])
