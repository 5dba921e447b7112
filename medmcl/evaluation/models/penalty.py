"""The strength of a probe's penalty, chosen by cross-validation by subject.

A few tuning cases choose a penalty by chance, and may choose one that makes everybody alike.
Cross-validation over train and tuning does not, but it is only for features that nothing has
learned from those people: an encoder knows its train people too well, and the penalty comes out too
weak (``benchmarks/evaluation/penalty_choice.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cox import cox_loss
from medmcl.evaluation.models.cross_validation import strata_of, subject_folds
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.probe import linear_probe, linear_walk, stack
from medmcl.evaluation.models.scaling import Scaler, Scaling
from medmcl.evaluation.models.strength import (
    ENOUGH,
    STRENGTHS,
    alike_notes,
    chosen_strength,
    deciding_cases,
)
from medmcl.evaluation.models.survival_models import Walk

CROSSED = "penalty chosen by cross-validation over train and tuning: tuning has too few cases"


@one_blas_thread()
def plain_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    refit_on: np.ndarray | None = None,
    scaling: Scaling = Scaler.of,
) -> Fitted:
    """Fit the linear probe to features that nothing has learned from these people.

    Where fewer than `ENOUGH` cases of ``tuning`` would decide (events; rows outside the commonest
    class; rows of a number), and ``train`` is no smaller than ``tuning``, the penalty is chosen by
    5-fold cross-validation over both, by the subjects that the targets know (sites, where folds are
    of sites; else each row is its own); otherwise, and in all other respects, it is `linear_probe`.
    The fit itself is on ``train``.

    Args:
        features: (N, E), such as covariates; not those of an encoder.
        targets: The task, over the same N rows.
        train: Rows to fit on (indices).
        tuning: Rows that choose the strength on their own, if they are enough (indices).
        refit_on: Rows to fit the chosen strength on; default ``train``.
        scaling: How columns are scaled before the penalty, learned on the rows fitted on.

    Raises:
        LeakageError: As `linear_probe`.
    """
    parts = [targets]
    if targets.kind in ("binary", "multilabel", "regression"):
        parts = [targets.column(number) for number in range(len(targets.columns))]
    is_small = len(train) < len(tuning)  # a share of the labels: the folds would be larger than it
    if is_small or all(_deciding(one, tuning) >= ENOUGH for one in parts):
        return linear_probe(features, targets, train, tuning, refit_on=refit_on, scaling=scaling)
    if len(parts) > 1:
        return stack(
            [
                plain_probe(features, one, train, tuning, refit_on=refit_on, scaling=scaling)
                for one in parts
            ]
        )
    targets.refuse_leak("the choice of a probe's penalty", train, tuning)
    both = np.union1d(train, tuning).astype(np.int64)
    both = both[targets.complete[both]]
    x, grid, sides = np.asarray(features, dtype=np.float64), STRENGTHS[targets.kind], targets.sides
    units = None if sides is None else sides.subjects if sides.units is None else sides.units
    best, notes = cross_validated_strength(
        partial(linear_walk, scaling=scaling),
        x[both],
        targets.take(both),
        both if units is None else units[both],
    )
    fitted = linear_probe(
        x, targets, train, both[:0], strengths=[best], refit_on=refit_on, scaling=scaling
    )
    if not fitted.chosen:  # constant: there was nothing to choose
        return fitted
    name = targets.columns[0] if targets.kind == "multilabel" else ""
    said = (*(notes or (CROSSED,)), *alike_notes(best, grid, name))
    return replace(fitted, notes=(*said, *fitted.notes))


def _deciding(targets: Targets, rows: np.ndarray) -> int:
    rows = np.asarray(rows, dtype=np.int64)
    outcome = targets.event if targets.kind == "survival" else targets.values[:, 0]
    return deciding_cases(targets.kind, outcome[rows[targets.complete[rows]]])


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
    grid = tuple(strengths or STRENGTHS[targets.kind])
    strata = strata_of(targets)
    generator = numpy_generator(seed, "inner_folds", targets.name)
    fold = subject_folds(np.asarray(subjects), strata, folds, generator)
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    if len(parts) < 2 or (targets.kind == "survival" and strata.sum() < 2):
        return grid[len(grid) // 2], ("too few subjects or events to choose the penalty on",)
    folds_of = [(walk(features, targets, train), test) for train, test in parts]

    def lost(strength: float) -> float:
        return sum(
            prediction_loss(targets.take(test), at(strength)(features[test]))
            for at, test in folds_of
        )

    return grid[chosen_strength(grid, lost)], ()


def prediction_loss(targets: Targets, predicted: np.ndarray) -> float:
    """Summed loss of a probe's predictions (N, C); lower is better."""
    values = targets.values
    if targets.kind == "survival":
        return cox_loss(np.ones(1), predicted, targets.event, targets.time)
    if targets.kind == "regression":
        return float(((predicted - values) ** 2).sum())
    if targets.kind == "multiclass":
        chance = predicted[np.arange(len(values)), values[:, 0].astype(int)]
    else:
        chance = np.where(values > 0, predicted, 1 - predicted)
    return -float(np.log(np.maximum(chance, 1e-15)).sum())
