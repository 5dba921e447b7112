"""Decision curves: what a model is worth to those who would treat above a risk threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics import weighted_binary as kernels
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import (
    Metric,
    NotEstimable,
    numbers,
    probabilities_of,
)
from medmcl.evaluation.metrics.sampled import people_among, too_few
from medmcl.evaluation.metrics.survival.kaplan_meier import aalen_johansen_at, codes_of

THRESHOLDS = tuple(round(0.01 * k, 2) for k in range(1, 100))
Values = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class DecisionCurve:
    """Net benefit over thresholds; None where a number does not exist.

    Attributes:
        thresholds: Risk thresholds pt, (T,).
        model: Net benefit of treating those with a risk of at least pt; higher is better.
        treat_all: Net benefit of treating everyone.
        treat_none: Zeros.
        standardised: Net benefit over prevalence: 1 is a perfect model.
        avoided: Interventions avoided per 100 subjects, net of those missed, against treating all.
        treated: Share of the subjects the model treats.
        low: Lower end of the model's interval; all None without draws.
        high: Upper end.
        prevalence: Share with the event (by the horizon).
        n: Rows.
        events: People with a positive row (with the event by the horizon, where there is one).
        subjects: Subjects; each row is one where they were not given.
        note: What a reader must know.
    """

    thresholds: tuple[float, ...] = field(repr=False)
    model: Values = field(repr=False)
    treat_all: Values = field(repr=False)
    treat_none: Values = field(repr=False)
    standardised: Values = field(repr=False)
    avoided: Values = field(repr=False)
    treated: Values = field(repr=False)
    low: Values = field(repr=False)
    high: Values = field(repr=False)
    prevalence: float
    n: int
    events: int
    subjects: int
    note: str = ""


def net_benefit_metric(threshold: float, prevalence: float | None = None) -> Metric:
    """Give the net benefit at one threshold as a `Metric`, for the bootstrap.

    Raises:
        ValueError: If the threshold or prevalence does not lie between 0 and 1.
    """
    _checked([threshold], prevalence)
    kernel = partial(kernels.net_benefit, threshold=threshold, prevalence=prevalence)
    missing = "no rows" if prevalence is None else "one class, while the prevalence is given"
    name = f"net_benefit_at_{threshold:g}"
    return Metric(name, "higher", kernel, missing, 0.0, True, probabilities_of)


def net_benefit(
    targets: Any,
    probability: Any,
    thresholds: float | Sequence[float] = THRESHOLDS,
    resampling: Resampling | None = None,
    *,
    prevalence: float | None = None,
) -> DecisionCurve | NotEstimable:
    """Give the decision curve of a binary outcome; higher net benefit is better.

    Net benefit = true positives / n - false positives / n * pt / (1 - pt), where a row is positive
    if its probability is at least pt. Zero is treating nobody.

    Args:
        targets: Outcome, above zero = positive. (N,)
        probability: Predicted probability. (N,)
        thresholds: Risk thresholds, each inside (0, 1); or one.
        resampling: Who is drawn for the model's interval (pointwise); None: there is no interval.
        prevalence: Prevalence in the population where the sample was taken by outcome
            (case-control); default that of the sample.

    Raises:
        ValueError: For probabilities, thresholds or a prevalence outside their range.
    Source:
        Vickers & Elkin 2006, Med Decis Making 26:565-574; case-control: Pfeiffer & Gail 2020,
        Biom J 62:764-776; standardised: Kerr et al. 2016, J Clin Oncol 34:2534-2540.
        Differs: none.
    """
    grid = _checked(thresholds, prevalence)
    spec = net_benefit_metric(grid[0], prevalence)
    if len(np.asarray(targets)) == 0:
        return NotEstimable("no rows")
    y, p = spec.check((targets, probability))
    positives = int((y > 0).sum())
    if prevalence is not None and positives in (0, len(y)):
        return NotEstimable(spec.missing)
    share = positives / len(y) if prevalence is None else prevalence

    def at(threshold: float, weights: np.ndarray) -> np.ndarray:
        return kernels.net_benefit(y, p, weights, threshold, prevalence)

    treated = [_share_treated(y > 0, p >= pt, prevalence) for pt in grid]
    sampler = None if resampling is None else resampling.over(y)
    people = _people(sampler, y > 0)
    return _curve(grid, at, share, treated, _band(grid, at, sampler), people=people)


def net_benefit_survival(
    event: Any,
    time: Any,
    probability_at_t: Any,
    horizon: float,
    thresholds: float | Sequence[float] = THRESHOLDS,
    resampling: Resampling | None = None,
) -> DecisionCurve | NotEstimable:
    """Give the decision curve of an event by a horizon, with censoring; higher is better.

    The share with the event among those treated (risk of at least pt) is one minus Kaplan-Meier
    inside that group, or Aalen-Johansen where competing events are coded.

    Args:
        event: 0 censored, 1 the event, 2 and above competing events; or bool. (N,)
        time: Follow-up, not negative. (N,)
        probability_at_t: Predicted probability of the event by the horizon. (N,)
        horizon: In the unit of time.
        thresholds: Risk thresholds, each inside (0, 1); or one.
        resampling: As in `net_benefit`.

    Returns:
        The curve; None at thresholds whose group is not followed to the horizon. `NotEstimable` if
        nobody is.

    Raises:
        ValueError: For probabilities or thresholds outside their range, negative times.
    Source:
        Vickers et al. 2008, BMC Med Inform Decis Mak 8:53 (Kaplan-Meier and competing risks).
        Differs: none.
    """
    grid = _checked(thresholds, None)
    if len(np.asarray(time)) == 0:
        return NotEstimable("no rows")
    spec = net_benefit_metric(grid[0])
    kinds, times = codes_of(event, time)
    *_, p = spec.check((kinds, times, probability_at_t))
    overall = float(incidence_at(kinds, times, np.ones((len(p), 1)), horizon)[0])
    if np.isnan(overall):
        return NotEstimable("nobody is followed to the horizon")

    def at(threshold: float, weights: np.ndarray) -> np.ndarray:
        inside = p >= threshold
        own = weights[inside]
        size = own.sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-300)
        risk = incidence_at(kinds[inside], times[inside], own, horizon)
        odds = threshold / (1 - threshold)
        return np.where(size > 0, size * (risk - (1 - risk) * odds), 0.0)

    treated = [float((p >= pt).mean()) for pt in grid]
    sampler = None if resampling is None else resampling.over(kinds)
    people = _people(sampler, (kinds == 1) & (times <= horizon))
    return _curve(grid, at, overall, treated, _band(grid, at, sampler), people=people)


def incidence_at(
    event: np.ndarray, time: np.ndarray, weights: np.ndarray, horizon: float
) -> np.ndarray:
    """Give the risk of event 1 by the horizon in every draw, (W,); NaN if not followed to it."""
    return aalen_johansen_at(event, time, weights, np.array([float(horizon)]))[0, 0]


def _checked(thresholds: float | Sequence[float], prevalence: float | None) -> tuple[float, ...]:
    grid = tuple(np.atleast_1d(numbers(thresholds, "thresholds")).reshape(-1).tolist())
    if not grid or not all(0 < pt < 1 for pt in grid):
        raise ConfigError("net benefit: thresholds must lie inside (0, 1)", got=thresholds)
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(f"net benefit: prevalence must lie inside (0, 1), got {prevalence}")
    return grid


def _share_treated(positive: np.ndarray, called: np.ndarray, prevalence: float | None) -> float:
    if prevalence is None:
        return float(called.mean())
    return float(prevalence * called[positive].mean() + (1 - prevalence) * called[~positive].mean())


def _curve(
    grid: tuple[float, ...],
    at: Callable[[float, np.ndarray], np.ndarray],
    prevalence: float,
    treated: Sequence[float],
    band: tuple[np.ndarray, str],
    *,
    people: Mapping[str, int],
) -> DecisionCurve:
    pt = np.array(grid)
    odds = pt / (1 - pt)
    model = np.array([at(threshold, np.ones((people["n"], 1)))[0] for threshold in grid])
    treat_all = prevalence - (1 - prevalence) * odds
    (low, high), alone = band
    lost = int(np.isnan(model).sum())
    notes = [f"not followed to the horizon at {lost} of {len(grid)} thresholds"] if lost else []
    notes += [alone] if alone else []
    scaled = model / prevalence if prevalence > 0 else np.full(len(grid), np.nan)
    return DecisionCurve(
        thresholds=grid,
        model=_values(model),
        treat_all=_values(treat_all),
        treat_none=(0.0,) * len(grid),
        standardised=_values(scaled),
        avoided=_values(100 * (model - treat_all) / odds),
        treated=_values(np.array(treated)),
        low=_values(low),
        high=_values(high),
        prevalence=prevalence,
        note="; ".join(notes),
        **people,
    )


def _people(sampler: Resampling | None, has: np.ndarray) -> dict[str, int]:
    """Count rows, subjects, and those with the event in a row, (N,)."""
    own = np.arange(len(has)) if sampler is None else sampler.codes
    return {"n": len(has), "subjects": len(np.unique(own)), "events": people_among(own, has)}


def _band(
    grid: tuple[float, ...],
    at: Callable[[float, np.ndarray], np.ndarray],
    sampler: Resampling | None,
) -> tuple[np.ndarray, str]:
    """Pointwise percentiles of the model's net benefit, (2, T), or NaN and the reason."""
    ends = np.full((2, len(grid)), np.nan)
    if sampler is None:
        return ends, ""
    lacking = too_few(sampler.num_subjects, sampler.num_clusters())
    if lacking:
        return ends, lacking
    parts = [np.stack([at(pt, block) for pt in grid]) for block in sampler.blocks()]
    found = np.concatenate(parts, axis=1)
    for column, row in enumerate(found):
        usable = row[~np.isnan(row)]
        if len(usable) >= sampler.draws / 2:
            ends[:, column] = np.quantile(usable, sampler.tails)
    return ends, ""


def _values(array: np.ndarray) -> Values:
    return tuple(None if np.isnan(value) else float(value) for value in array)
