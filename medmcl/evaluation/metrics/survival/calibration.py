"""Calibration of survival predictions at a horizon, with censored follow-up."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.calibration_curve import (
    Calibration,
    CalibrationGroup,
    curve_grid,
    curve_with_band,
    distances,
    group_of,
    joined_groups,
    rank_groups,
)
from medmcl.evaluation.metrics.decision_curve import incidence_at
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import NotEstimable, probabilities_of
from medmcl.evaluation.metrics.sampled import Sampled, people_among
from medmcl.evaluation.metrics.survival.kaplan_meier import outcome_of
from medmcl.evaluation.metrics.weighted_binary import HARDLY_VARY, LEAST_SPREAD
from medmcl.evaluation.models.cox import cox_fit

CLIP = 1e-6
FEW = Resampling(draws=200)
"""Who is drawn where nobody says so: each draw is dear."""
KNOTS = (0.1, 0.5, 0.9)  # quantiles; Austin et al. 2020, Harrell 2015 table 2.3
HEAD = ("slope", "observed_expected", "ici", "e50", "e90", "emax")
"""Numbers that stand before the curve."""
HIGHEST = 1e3  # of a cumulative hazard, so that its exponential is finite
NOT_FOLLOWED = "not followed to the horizon, are judged together with their neighbours"
"""Of how many groups of predicted risk a note says so."""


def survival_calibration(
    event: Any,
    time: Any,
    survival_at_t: Any,
    horizon: float,
    resampling: Resampling = FEW,
    *,
    bins: int = 10,
    fewest: int = 1,
) -> Calibration | NotEstimable:
    """Give slope, ICI and curves of predicted survival at a horizon.

    The observed risk at a predicted risk p is that of a Cox model on log(-log(1 - p)) with
    restricted cubic splines (3 knots), at the horizon; all follow-up is used. As for
    `calibration`, ``ici`` is corrected for noise, the others are as published.

    Args:
        event: True or 1 = the event was seen, False or 0 = censored. (N,)
        time: Follow-up, not negative. (N,)
        survival_at_t: Predicted probability of no event by the horizon. (N,)
        horizon: In the unit of time.
        resampling: Who is drawn for intervals; each draw fits two Cox models.
        bins: Groups of the grouped curve; one that is not followed to the horizon is joined with
            its neighbour, and the note says so.
        fewest: See `calibration`.

    Returns:
        `Calibration`, or `NotEstimable` for no rows, no event by the horizon, nobody
        followed to it, or fewer than three distinct predictions.

    Raises:
        ValueError: If a prediction is not a probability, for unequal lengths or negative times.
    Source:
        Austin, Harrell & van Klaveren 2020, Stat Med 39:2714-2742; slope: Crowson et al. 2016, Stat
        Methods Med Res 25:1692-1706. Differs: Breslow ties (so that a repeated row weighs twice),
        risks are moved into [1e-6, 1 - 1e-6], the correction of the ICI.
    """
    happened, times = outcome_of(event, time)
    risk = 1 - probabilities_of(survival_at_t)
    if times.shape != risk.shape:
        raise ConfigError(
            "survival_calibration: event, time and survival must be (N,), got "
            f"{times.shape}, {times.shape}, {risk.shape}"
        )
    if not np.isfinite(risk).all():
        raise ConfigError("survival_calibration: survival must be finite")
    reason = not_at_horizon(happened, times, _log_hazard(risk), horizon)
    if reason:
        return NotEstimable(reason)
    sampler = resampling.over(happened)
    at = curve_grid(risk, sampler.codes)
    whole = _numbers(happened, times, risk, horizon, at)
    if whole is None:
        return NotEstimable("the Cox model of the curve did not converge")

    def of(weights: np.ndarray) -> np.ndarray:
        rows = np.repeat(np.arange(len(times)), weights.astype(int))
        found = _numbers(happened[rows], times[rows], risk[rows], horizon, at)
        return np.full(len(whole), np.nan) if found is None else found

    drawn = np.stack([of(weights) for block in sampler.blocks() for weights in block.T])
    return at_horizon(happened, times, risk, horizon, at, whole, drawn, sampler, bins, fewest)


def at_horizon(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    horizon: float,
    at: np.ndarray,
    whole: np.ndarray,
    drawn: np.ndarray,
    sampler: Resampling,
    bins: int,
    fewest: int,
    *,
    unfitted: str = "",
    note: str = "",
) -> Calibration:
    """Put the numbers of a sample and of its draws together, with their intervals.

    Args:
        event: 0 censored, 1 the event, 2 and above competing events; or bool. (N,)
        time: Follow-up, (N,).
        risk: Predicted risk by the horizon, (N,).
        horizon: In the unit of time.
        at: Places of the curve, (K,).
        whole: `HEAD`, then the curve, of the sample; (6 + K,).
        drawn: The same of each draw, NaN where they do not exist, (W, 6 + K).
        sampler: Who was drawn.
        bins: Groups of the grouped curve.
        fewest: See `calibration`.
        unfitted: Why a slope may be NaN.
        note: What a reader must know.
    """
    events = people_among(sampler.codes, (event == 1) & (time <= horizon))
    base: dict[str, Any] = {"n": len(time), "events": events, "subjects": sampler.num_subjects}
    base["clusters"] = sampler.num_clusters()
    flat = hardly_vary(risk)
    if flat:
        whole[0] = np.nan
    remarks = {
        "slope": flat or (unfitted if np.isnan(whole[0]) else ""), "observed_expected": "",
        "ici": flat,
    }  # fmt: skip
    intervals: dict[str, Any] = {
        name: Sampled(
            points=whole[k : k + 1], draws=drawn[:, k], inflated=name == "ici", note=said, **base
        ).interval(sampler.level)
        for k, (name, said) in enumerate(remarks.items())
    }
    groups, joined = horizon_groups(event, time, risk, horizon, bins, fewest, sampler)
    return Calibration(
        horizon=float(horizon),
        **intervals,
        ici_uncorrected=float(whole[2]),
        e50=float(whole[3]),
        e90=float(whole[4]),
        emax=float(whole[5]),
        curve=curve_with_band(at, whole[len(HEAD) :], drawn[:, len(HEAD) :], sampler),
        groups=groups,
        n=len(time),
        events=events,
        subjects=sampler.num_subjects,
        note="; ".join(text for text in (note, joined) if text),
    )


def not_at_horizon(
    event: np.ndarray, time: np.ndarray, predicted: np.ndarray, horizon: float
) -> str:
    """Say why predictions (N,) cannot be judged at a horizon; empty if they can."""
    if len(time) == 0:
        return "no rows"
    if not ((event == 1) & (time <= horizon)).any():
        return "no event by the horizon"
    if np.isnan(incidence_at(event, time, np.ones((len(time), 1)), horizon)[0]):
        return "nobody is followed to the horizon"
    if len(np.unique(predicted)) < 3:
        return "fewer than three distinct predictions"
    return ""


def hardly_vary(risk: np.ndarray) -> str:
    """Say so of risks whose log cumulative hazards spread less than `LEAST_SPREAD`, else nothing.

    A slope on them would be noise: it is not estimable.
    """
    return HARDLY_VARY if _log_hazard(risk).std() < LEAST_SPREAD else ""


def _log_hazard(risk: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(-np.log1p(-np.clip(risk, CLIP, 1 - CLIP))))


def _numbers(
    event: np.ndarray, time: np.ndarray, risk: np.ndarray, horizon: float, at: np.ndarray
) -> np.ndarray | None:
    """`HEAD`, then the curve at ``at``, of one sample; None if they do not exist."""
    incidence = float(incidence_at(event, time, np.ones((len(time), 1)), horizon)[0])
    x = _log_hazard(risk)
    if np.isnan(incidence) or not (event & (time <= horizon)).any() or x.std() < 1e-9:
        return None
    start = np.ones(1)  # the slope of a model that is right
    slope, fine = cox_fit(
        x[:, None] - x.mean(), event, time, ridge=0.0, ties="breslow", start=start
    )
    design = _Spline(x)
    fitted = design(x)
    start = np.append(slope, np.zeros(fitted.shape[1] - 1))  # a line
    weights, converged = cox_fit(fitted, event, time, ridge=0.0, ties="breslow", start=start)
    if not (fine and converged):
        return None
    # Breslow's baseline at the horizon
    order = np.argsort(time, kind="stable")
    exposure = np.exp((fitted @ weights)[order])[::-1].cumsum()[::-1]
    first = np.searchsorted(time[order], time[order], side="left")
    counted = event[order] & (time[order] <= horizon)
    hazard = float((1 / exposure[first[counted]]).sum())

    def observed(risks: np.ndarray) -> np.ndarray:
        eta = design(_log_hazard(risks)) @ weights
        return -np.expm1(-np.minimum(hazard * np.exp(np.minimum(eta, 50.0)), HIGHEST))

    gaps = distances(observed(risk), risk)
    return np.concatenate([[float(slope[0]), incidence / risk.mean()], gaps, observed(at)])


class _Spline:
    """Restricted cubic spline with three knots (linear where knots coincide), centred."""

    def __init__(self, x: np.ndarray) -> None:
        self.knots = np.quantile(x, KNOTS)
        self.centre = np.zeros(1)
        self.curved = bool(np.diff(self.knots).min() > 1e-9 * max(1.0, float(np.ptp(x))))
        self.centre = self(x).mean(axis=0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Give the basis, (N, 2) or (N, 1)."""
        if not self.curved:
            return x[:, None] - self.centre
        a, b, c = self.knots
        cubes = [np.maximum(x - knot, 0) ** 3 for knot in (a, b, c)]
        bend = cubes[0] - cubes[1] * (c - a) / (c - b) + cubes[2] * (b - a) / (c - b)
        return np.column_stack([x, bend / (c - a) ** 2]) - self.centre


def horizon_groups(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    horizon: float,
    bins: int,
    fewest: int,
    sampler: Resampling,
) -> tuple[tuple[CalibrationGroup, ...], str]:
    """Observed risk of each group with bootstrap ends; and how many were joined, and why.

    By Kaplan-Meier, or Aalen-Johansen where events hold competing ones (2 and above). Of a group
    that is not followed to the horizon either would be a lower bound: it is joined with its
    neighbour.
    """

    def observed(rows: np.ndarray) -> dict[str, float]:
        weights = chain([np.ones((len(rows), 1))], (block[rows] for block in sampler.blocks()))
        value, *draws = np.concatenate(
            [incidence_at(event[rows], time[rows], one, horizon) for one in weights]
        )
        usable = np.array(draws)[~np.isnan(draws)]
        if np.isnan(value) or len(usable) < len(draws) / 2:
            return {}
        low, high = np.quantile(usable, sampler.tails).tolist()
        return {"observed": float(value), "low": low, "high": high}

    def measure(rows: np.ndarray) -> CalibrationGroup | None:
        found = observed(rows)
        return group_of(rows, risk, by_then, sampler, **found) if found else None

    by_then, parts = (event == 1) & (time <= horizon), rank_groups(risk, bins)
    lacking = sum(not observed(rows) for rows in parts)
    said = f"{lacking} of {len(parts)} groups by predicted risk, {NOT_FOLLOWED}" if lacking else ""
    return joined_groups(parts, measure, fewest), said
