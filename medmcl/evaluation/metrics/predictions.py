"""Metrics of predictions: pure functions that say their direction, their ties and their limits.

A metric that does not exist for the data in hand (one class only, no event) gives a
`NotEstimable` with the reason, never NaN and never an exception. Vectorised forms for the
bootstrap are in `weighted`; both are the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.core.config import lookup
from medmcl.evaluation.metrics import weighted
from medmcl.evaluation.metrics.calibration_metrics import (
    CALIBRATION_INTERCEPT,
    CALIBRATION_SLOPE,
    ICI,
)
from medmcl.evaluation.metrics.metric import (
    CONSTANT,
    ONE_CLASS,
    Estimate,
    Metric,
    NotEstimable,
    classes_of,
    probabilities_of,
)
from medmcl.evaluation.metrics.survival import kernels
from medmcl.evaluation.metrics.survival.metric import SurvivalMetric
from medmcl.evaluation.metrics.thresholds import (
    sensitivity_at_specificity_metric,
    tpr_at_top_metric,
)

_AUROC = Metric("auroc", "higher", weighted.auroc, ONE_CLASS, 0.5, True)
_AUPRC = Metric("auprc", "higher", weighted.auprc, "no positive outcome", None, True)
_BRIER = Metric("brier", "lower", weighted.brier, "no rows", None, True, probabilities_of)
_R2 = Metric("r2", "higher", weighted.r2, CONSTANT, 0.0)
_PEARSON = Metric("pearson", "higher", weighted.pearson, "outcome or prediction does not vary", 0.0)
_MAE = Metric("mae", "lower", weighted.mae, "no rows")
_C_INDEX = SurvivalMetric(
    "c_index", "higher", kernels.c_index, "no event precedes another's follow-up", 0.5, True
)
_ACCURACY = Metric("accuracy", "higher", weighted.accuracy, "no rows", prepare=classes_of)
_BALANCED = Metric(
    "balanced_accuracy", "higher", weighted.balanced_accuracy, ONE_CLASS, prepare=classes_of
)


def auroc(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the area under the ROC curve; higher is better, 0.5 is chance.

    The probability that a random positive has a higher prediction than a random negative; a tie
    counts one half. Needs both classes.

    Args:
        targets: Outcome, above zero = positive. (N,)
        predictions: Any score, higher = more likely positive. (N,)
        weights: How often each row counts; default once. (N,)
    Source:
        Hanley & McNeil 1982, Radiology 143:29-36 (Mann-Whitney form). Differs: none.
    """
    return _AUROC(targets, predictions, weights=weights)


def auprc(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the average precision; higher is better, chance is the share of positives.

    Precision summed over the steps of recall, without interpolation; tied predictions enter
    together as one threshold. Needs a positive.

    Source:
        Average precision as in scikit-learn's ``average_precision_score``. Differs: none.
    """
    return _AUPRC(targets, predictions, weights=weights)


def brier(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the Brier score of probabilities, in [0, 1]; lower is better.

    Raises:
        ValueError: If a prediction is not a probability.
    Source:
        Brier 1950, Monthly Weather Review 78:1-3, one outcome. Differs: none.
    """
    return _BRIER(targets, predictions, weights=weights)


def r2(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the coefficient of determination; higher is better, 1 is perfect, negative is possible.

    The reference is the mean of the scored rows themselves, so 0 is what that mean would reach.
    Needs an outcome that varies.

    Source:
        As scikit-learn's ``r2_score``. Differs: a constant outcome is not estimable.
    """
    return _R2(targets, predictions, weights=weights)


def pearson(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the linear correlation, in [-1, 1]; higher is better, blind to scale and offset.

    Needs an outcome and a prediction that vary.

    Source:
        Pearson's product-moment correlation. Differs: a constant side is not estimable.
    """
    return _PEARSON(targets, predictions, weights=weights)


def mae(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the mean absolute error in the unit of the outcome; lower is better.

    Source:
        Mean of absolute differences. Differs: none.
    """
    return _MAE(targets, predictions, weights=weights)


def c_index(event: Any, time: Any, risk: Any, weights: Any = None) -> Estimate:
    """Give Harrell's concordance index; higher is better, 0.5 is chance.

    A pair is comparable if the one with the shorter time had the event; at equal times, if one had
    the event and the other was censored (the censored one is taken to live longer). Two events at
    the same time are not compared. A comparable pair is concordant if the earlier event has the
    higher risk; risks within 1e-8 of each other count one half.

    Args:
        event: True or 1 = the event was seen, False or 0 = censored. (N,)
        time: Follow-up in any unit, not negative. (N,)
        risk: Predicted risk, higher = earlier event expected. (N,)
        weights: How often each row counts; default once. (N,)

    Raises:
        ConfigError: For events that are missing or other codes, and for malformed arrays.
    Source:
        Harrell et al. 1996, Stat Med 15:361-387. Equals scikit-survival's
        ``concordance_index_censored``. Differs: none.
    """
    return _C_INDEX(event, time, risk, weights=weights)


def accuracy(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the share of rows classified rightly; higher is better.

    Args:
        targets: Class number. (N,)
        predictions: Class number (N,), or one score a class (N, C): the first highest wins.
        weights: How often each row counts; default once. (N,)
    Source:
        As scikit-learn's ``accuracy_score``. Differs: none.
    """
    return _ACCURACY(targets, predictions, weights=weights)


def balanced_accuracy(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the mean recall over the true classes; higher is better, 1 / classes is chance.

    Classes that never occur in ``targets`` are left out of the mean. Needs two classes.

    Source:
        As scikit-learn's ``balanced_accuracy_score``. Differs: one class is not estimable.
    """
    return _BALANCED(targets, predictions, weights=weights)


def macro(
    name: str, values: Any, known: Any, predictions: Any, names: Sequence[str] = ()
) -> tuple[Estimate, str]:
    """Average a metric over the columns of a multi-label or multi-output task.

    Each column is scored on the rows where it is known. Columns for which the metric does not exist
    are left out of the mean and named in the note.

    Args:
        name: Metric by name.
        values: Outcomes, (N, C).
        known: Which outcomes exist, (N, C) bool.
        predictions: (N, C).
        names: Names of the columns, for the note.

    Returns:
        The mean (direction of the metric) and a note, empty if every column counted.
    Source:
        Unweighted macro average. Differs: columns that are not estimable are left out and named.
    """
    metric = lookup("metric", name, SPECS)
    values, known, predictions = np.asarray(values), np.asarray(known), np.asarray(predictions)
    labels = names or [str(column) for column in range(values.shape[1])]
    found: list[float] = []
    lost: list[str] = []
    for column, label in enumerate(labels):
        rows = known[:, column]
        value = metric(values[rows, column], predictions[rows, column])
        if isinstance(value, NotEstimable):
            lost.append(label)
        else:
            found.append(value)
    if not found:
        return NotEstimable(f"{name} exists for none of {len(labels)} columns"), ""
    note = f"mean over {len(found)} of {len(labels)}; not estimable: {', '.join(lost)}"
    return float(np.mean(found)), note if lost else ""


SPECS: dict[str, Metric] = {
    spec.name: spec
    for spec in (
        _AUROC, _AUPRC, _BRIER, _R2, _PEARSON, _MAE, _C_INDEX, _ACCURACY, _BALANCED,
        sensitivity_at_specificity_metric(),
        tpr_at_top_metric(), CALIBRATION_INTERCEPT, CALIBRATION_SLOPE, ICI,
    )
}  # fmt: skip
"""By name; those with an operating point have its default (.9 and .05)."""

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auroc", "auprc", "brier"),
    "multilabel": ("auroc", "auprc", "brier"),
    "multiclass": ("auroc", "accuracy", "balanced_accuracy", "brier"),
    "regression": ("r2", "pearson", "mae"),
    "survival": ("c_index",),
}
