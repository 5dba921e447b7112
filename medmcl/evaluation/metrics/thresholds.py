"""Metrics of decisions: at an operating point of the ROC curve, or at a threshold chosen before."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from medmcl.evaluation.metrics import weighted_binary as kernels
from medmcl.evaluation.metrics.metric import ONE_CLASS, Estimate, Metric

AtThreshold = Literal["sensitivity", "specificity", "ppv", "npv", "f1"]

_MISSING: dict[str, str] = {
    "sensitivity": "no positive outcome",
    "specificity": "no negative outcome",
    "ppv": "nobody is above the threshold",
    "npv": "nobody is below the threshold",
    "f1": "no positive outcome",
}


def _share(name: str, value: float, *, ends: bool = True) -> None:
    if not (0 <= value <= 1 if ends else 0 < value <= 1):
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def sensitivity_at_specificity_metric(specificity: float = 0.9) -> Metric:
    """Give the `Metric` of `sensitivity_at_specificity` for the bootstrap."""
    _share("specificity", specificity)
    kernel = partial(kernels.sensitivity_at_specificity, specificity=specificity)
    return Metric("sensitivity_at_specificity", "higher", kernel, ONE_CLASS, None, True)


def specificity_at_sensitivity_metric(sensitivity: float = 0.9) -> Metric:
    """Give the `Metric` of `specificity_at_sensitivity` for the bootstrap."""
    _share("sensitivity", sensitivity)
    kernel = partial(kernels.specificity_at_sensitivity, sensitivity=sensitivity)
    return Metric("specificity_at_sensitivity", "higher", kernel, ONE_CLASS, None, True)


def tpr_at_top_metric(fraction: float = 0.05) -> Metric:
    """Give the `Metric` of `tpr_at_top` for the bootstrap; its chance value is the fraction."""
    _share("fraction", fraction, ends=False)
    kernel = partial(kernels.tpr_at_top, fraction=fraction)
    return Metric("tpr_at_top", "higher", kernel, "no positive outcome", fraction, True)


def threshold_metric(name: AtThreshold, threshold: float) -> Metric:
    """Give a metric of decisions at a threshold, for the bootstrap; scores at it are positive.

    Args:
        name: ``sensitivity``, ``specificity``, ``ppv``, ``npv`` or ``f1``.
        threshold: On the scale of the scores, chosen on other rows (tuning).

    Raises:
        ValueError: For another name.
    """
    if name not in _MISSING:
        raise ValueError(f"threshold_metric: {name!r} is none of {', '.join(_MISSING)}")

    def draws(targets: Any, scores: Any, weights: Any) -> Any:
        return kernels.at_threshold(name, targets, scores, weights, threshold)

    return Metric(name, "higher", draws, _MISSING[name], None, True)


def sensitivity_at_specificity(
    targets: Any, scores: Any, weights: Any = None, *, specificity: float = 0.9
) -> Estimate:
    """Give the sensitivity at a fixed specificity; higher is better, 1 - specificity is chance.

    The highest sensitivity among thresholds (score >= threshold is positive) whose specificity is
    at least the given one. No interpolation: rows with tied scores fall on one side together. The
    threshold is found on the scored rows, and again in every bootstrap draw; for a threshold that
    was chosen elsewhere use `sensitivity`. Needs both classes.

    Args:
        targets: Outcome, above zero = positive. (N,)
        scores: Higher = more likely positive. (N,)
        weights: How often each row counts; default once. (N,)
        specificity: The specificity to keep.
    Source:
        Pepe 2003, The Statistical Evaluation of Medical Tests, §4.3 (ROC(t)). Differs: a step
        function, without interpolation.
    """
    return sensitivity_at_specificity_metric(specificity)(targets, scores, weights=weights)


def specificity_at_sensitivity(
    targets: Any, scores: Any, weights: Any = None, *, sensitivity: float = 0.9
) -> Estimate:
    """Give the specificity at a fixed sensitivity; higher is better, 1 - sensitivity is chance.

    The highest specificity among thresholds whose sensitivity is at least the given one; ties and
    thresholds as in `sensitivity_at_specificity`. Needs both classes.

    Source:
        Pepe 2003, §4.3 (ROC curve read at a fixed sensitivity). Differs: as above.
    """
    return specificity_at_sensitivity_metric(sensitivity)(targets, scores, weights=weights)


def tpr_at_top(
    targets: Any, scores: Any, weights: Any = None, *, fraction: float = 0.05
) -> Estimate:
    """Give the share of positives among the highest scores; higher is better, chance = fraction.

    ``fraction`` of the rows are taken, not rounded: where the border falls inside a group of tied
    scores (or inside one row), that group counts in part, which is the mean over random orders of
    the tied. Needs a positive.

    Args:
        targets: Outcome, above zero = positive. (N,)
        scores: Higher = more likely positive. (N,)
        weights: How often each row counts; default once. (N,)
        fraction: Share of the rows that can be followed up.
    Source:
        Proportion of cases followed, Pfeiffer & Gail 2011, Biometrics 67:1057-1065. Differs: none.
    """
    return tpr_at_top_metric(fraction)(targets, scores, weights=weights)


def sensitivity(targets: Any, scores: Any, threshold: float, weights: Any = None) -> Estimate:
    """Give the share of positives with a score of at least the threshold; higher is better.

    Source:
        True positive rate. Differs: none.
    """
    return threshold_metric("sensitivity", threshold)(targets, scores, weights=weights)


def specificity(targets: Any, scores: Any, threshold: float, weights: Any = None) -> Estimate:
    """Give the share of negatives with a score below the threshold; higher is better.

    Source:
        True negative rate. Differs: none.
    """
    return threshold_metric("specificity", threshold)(targets, scores, weights=weights)


def ppv(targets: Any, scores: Any, threshold: float, weights: Any = None) -> Estimate:
    """Give the share of positives among scores of at least the threshold; higher is better.

    It depends on the prevalence among the scored rows. Not estimable if nobody is above.

    Source:
        Positive predictive value (precision). Differs: no rows above is not zero.
    """
    return threshold_metric("ppv", threshold)(targets, scores, weights=weights)


def npv(targets: Any, scores: Any, threshold: float, weights: Any = None) -> Estimate:
    """Give the share of negatives among scores below the threshold; higher is better.

    Source:
        Negative predictive value. Differs: no rows below is not zero.
    """
    return threshold_metric("npv", threshold)(targets, scores, weights=weights)


def f1(targets: Any, scores: Any, threshold: float, weights: Any = None) -> Estimate:
    """Give the harmonic mean of sensitivity and positive predictive value; higher is better.

    Zero if nobody is above the threshold; not estimable without a positive.

    Source:
        van Rijsbergen 1979, as scikit-learn's ``f1_score``. Differs: no positive is not zero.
    """
    return threshold_metric("f1", threshold)(targets, scores, weights=weights)
