"""Metrics of decisions, at an operating point of the ROC curve."""

from __future__ import annotations

from functools import partial
from typing import Any

from medmcl.evaluation.metrics import weighted_binary as kernels
from medmcl.evaluation.metrics.metric import ONE_CLASS, Estimate, Metric


def _share(name: str, value: float, *, ends: bool = True) -> None:
    if not (0 <= value <= 1 if ends else 0 < value <= 1):
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def sensitivity_at_specificity_metric(specificity: float = 0.9) -> Metric:
    """Give the `Metric` of `sensitivity_at_specificity` for the bootstrap."""
    _share("specificity", specificity)
    kernel = partial(kernels.sensitivity_at_specificity, specificity=specificity)
    return Metric("sensitivity_at_specificity", "higher", kernel, ONE_CLASS, None, True)


def tpr_at_top_metric(fraction: float = 0.05) -> Metric:
    """Give the `Metric` of `tpr_at_top` for the bootstrap; its chance value is the fraction."""
    _share("fraction", fraction, ends=False)
    kernel = partial(kernels.tpr_at_top, fraction=fraction)
    return Metric("tpr_at_top", "higher", kernel, "no positive outcome", fraction, True)


def sensitivity_at_specificity(
    targets: Any, scores: Any, weights: Any = None, *, specificity: float = 0.9
) -> Estimate:
    """Give the sensitivity at a fixed specificity; higher is better, 1 - specificity is chance.

    The highest sensitivity among thresholds (score >= threshold is positive) whose specificity is
    at least the given one. No interpolation: rows with tied scores fall on one side together. The
    threshold is found on the scored rows, and again in every bootstrap draw. Needs both classes.

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
