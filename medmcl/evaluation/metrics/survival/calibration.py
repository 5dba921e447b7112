"""Calibration of survival predictions at a horizon, with censored follow-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.brief import brief
from medmcl.evaluation.metrics.calibration_curve import (
    CalibrationCurve,
    CalibrationGroup,
    curve_grid,
    rank_groups,
)
from medmcl.evaluation.metrics.decision_curve import incidence_at
from medmcl.evaluation.metrics.intervals import Interval, Resampler, Sampled
from medmcl.evaluation.metrics.metric import NotEstimable, check_level, probabilities_of
from medmcl.evaluation.metrics.sampled import too_few
from medmcl.evaluation.metrics.survival.kaplan_meier import outcome_of
from medmcl.evaluation.metrics.weighted_binary import HARDLY_VARY, LEAST_SPREAD
from medmcl.evaluation.models.cox import cox_fit

CLIP = 1e-6
KNOTS = (0.1, 0.5, 0.9)  # quantiles; Austin et al. 2020, Harrell 2015 table 2.3
HIGHEST = 1e3  # of a cumulative hazard, so that its exponential is finite


@dataclass(frozen=True, kw_only=True)
class SurvivalCalibration:
    """Calibration at a horizon; None where a number does not exist.

    Attributes:
        horizon: In the unit of time.
        slope: Cox coefficient of the log cumulative hazard that was predicted; 1 is best. Under
            competing risks see `competing_calibration`.
        observed_expected: Observed risk at the horizon (Kaplan-Meier; Aalen-Johansen under
            competing risks) over the mean predicted one; 1 is best.
        ici: Mean distance of the smooth curve from the diagonal, corrected for noise; 0 is best.
        ici_uncorrected: As published, biased upwards.
        e50: Median distance, uncorrected.
        e90: 90th percentile of the distance, uncorrected.
        emax: Largest distance, uncorrected.
        curve: Risk by the horizon, observed over predicted.
        groups: Tenths of the rows by predicted risk, observed in the same way.
        n: Rows.
        events: Events by the horizon.
        note: What a reader must know.
    """

    horizon: float
    slope: Interval
    observed_expected: Interval
    ici: Interval
    ici_uncorrected: float
    e50: float
    e90: float
    emax: float
    curve: CalibrationCurve
    groups: tuple[CalibrationGroup, ...]
    n: int
    events: int
    note: str = ""

    def __repr__(self) -> str:
        return brief(
            self,
            horizon=self.horizon,
            slope=self.slope,
            observed_expected=self.observed_expected,
            ici=self.ici,
            n=self.n,
            events=self.events,
            note=self.note,
        )


def survival_calibration(
    event: Any,
    time: Any,
    survival_at_t: Any,
    horizon: float,
    groups: Any = None,
    *,
    bins: int = 10,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    strata: Any = None,
    clusters: Any = None,
) -> SurvivalCalibration | NotEstimable:
    """Give slope, ICI and curves of predicted survival at a horizon.

    The observed risk at a predicted risk p is that of a Cox model on log(-log(1 - p)) with
    restricted cubic splines (3 knots), at the horizon; all follow-up is used. As for
    `calibration`, ``ici`` is corrected for noise, the others are as published.

    Args:
        event: True or 1 = the event was seen, False or 0 = censored. (N,)
        time: Follow-up, not negative. (N,)
        survival_at_t: Predicted probability of no event by the horizon. (N,)
        horizon: In the unit of time.
        groups: Subject of each row, for intervals.
        bins: Groups of the grouped curve.
        draws: Bootstrap draws; each fits two Cox models.
        seed: Seed of the draws.
        level: Coverage aimed at.
        strata: Class of each row whose number of subjects every draw keeps. (N,)
        clusters: Cluster of each row, as its site, drawn whole, see `Resampler`. (N,)

    Returns:
        `SurvivalCalibration`, or `NotEstimable` for no rows, no event by the horizon, nobody
        followed to it, or fewer than three distinct predictions.

    Raises:
        ValueError: If a prediction is not a probability, for unequal lengths or negative times.
    Source:
        Austin, Harrell & van Klaveren 2020, Stat Med 39:2714-2742; slope: Crowson et al. 2016, Stat
        Methods Med Res 25:1692-1706. Differs: Breslow ties (so that a repeated row weighs twice),
        risks are moved into [1e-6, 1 - 1e-6], the correction of the ICI.
    """
    check_level(level)
    happened, times = outcome_of(event, time)
    risk = 1 - probabilities_of(survival_at_t)
    _check(times, risk)
    reason = _reason(happened, times, risk, horizon)
    if reason:
        return NotEstimable(reason)
    codes = np.arange(len(times)) if groups is None else groups
    sampler = Resampler(codes, draws=draws, seed=seed, strata=strata, clusters=clusters)
    sampler.check_rows(targets=[times])
    at = curve_grid(risk)
    whole = _numbers(happened, times, risk, horizon, at)
    if whole is None:
        return NotEstimable("the Cox model of the curve did not converge")
    drawn = np.full((draws, 3 + len(at)), np.nan)
    column = 0
    for block in sampler.blocks():
        for weights in block.T:
            rows = np.repeat(np.arange(len(times)), weights.astype(int))
            found = _numbers(happened[rows], times[rows], risk[rows], horizon, at)
            if found is not None:
                drawn[column] = found[: 3 + len(at)]
            column += 1
    events = int((happened & (times <= horizon)).sum())
    base: dict[str, Any] = {"n": len(times), "events": events, "subjects": sampler.num_subjects}
    base["clusters"] = sampler.num_clusters()
    flat = hardly_vary(risk)
    if flat:
        whole[0] = np.nan
    slope, ratio, ici = (
        Sampled(
            points=whole[k : k + 1],
            draws=drawn[:, k],
            inflated=name == "ici",
            note="" if name == "observed_expected" else flat,
            **base,
        ).interval(level)
        for k, name in enumerate(("slope", "observed_expected", "ici"))
    )
    usable = drawn[~np.isnan(drawn).any(axis=1), 3:]
    tails = [(1 - level) / 2, (1 + level) / 2]
    enough = len(usable) > 1 and not too_few(sampler.num_subjects, sampler.num_clusters())
    ends = np.quantile(usable, tails, axis=0) if enough else np.empty((2, 0))
    observed = whole[3 : 3 + len(at)]
    return SurvivalCalibration(
        horizon=float(horizon),
        slope=slope,
        observed_expected=ratio,
        ici=ici,
        ici_uncorrected=float(whole[2]),
        e50=float(whole[-3]),
        e90=float(whole[-2]),
        emax=float(whole[-1]),
        curve=CalibrationCurve(
            predicted=tuple(at.tolist()),
            observed=tuple(observed.tolist()),
            low=tuple(ends[0].tolist()),
            high=tuple(ends[1].tolist()),
        ),
        groups=horizon_groups(happened, times, risk, horizon, bins, sampler, level),
        n=len(times),
        events=events,
    )


def _check(time: np.ndarray, risk: np.ndarray) -> None:
    if time.shape != risk.shape:
        raise ConfigError(
            "survival_calibration: event, time and survival must be (N,), got "
            f"{time.shape}, {time.shape}, {risk.shape}"
        )
    if not np.isfinite(risk).all():
        raise ConfigError("survival_calibration: survival must be finite")


def _reason(event: np.ndarray, time: np.ndarray, risk: np.ndarray, horizon: float) -> str:
    if len(time) == 0:
        return "no rows"
    if not (event & (time <= horizon)).any():
        return "no event by the horizon"
    if np.isnan(incidence_at(event, time, np.ones((len(time), 1)), horizon)[0]):
        return "nobody is followed to the horizon"
    if len(np.unique(_log_hazard(risk))) < 3:
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
    """Slope, O/E, ICI, curve at ``at``, E50, E90, Emax of one sample; None if they do not exist."""
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
    hazard = _cumulative_hazard(fitted @ weights, event, time, horizon)

    def observed(risks: np.ndarray) -> np.ndarray:
        eta = design(_log_hazard(risks)) @ weights
        return -np.expm1(-np.minimum(hazard * np.exp(np.minimum(eta, 50.0)), HIGHEST))

    gap = np.abs(observed(risk) - risk)
    tail = (*np.quantile(gap, [0.5, 0.9]), gap.max())
    head = (float(slope[0]), incidence / risk.mean(), gap.mean())
    return np.concatenate([head, observed(at), tail])


def _cumulative_hazard(
    eta: np.ndarray, event: np.ndarray, time: np.ndarray, horizon: float
) -> float:
    """Breslow's baseline at the horizon."""
    order = np.argsort(time, kind="stable")
    exposure = np.exp(eta[order])[::-1].cumsum()[::-1]
    first = np.searchsorted(time[order], time[order], side="left")
    counted = event[order] & (time[order] <= horizon)
    return float((1 / exposure[first[counted]]).sum())


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
    sampler: Resampler,
    level: float,
) -> tuple[CalibrationGroup, ...]:
    """Observed risk of each group with bootstrap ends; groups not followed are left out.

    By Kaplan-Meier, or Aalen-Johansen where events hold competing ones (2 and above).
    """
    found = []
    for rows in rank_groups(risk, bins):
        one = np.ones((len(rows), 1))
        value = float(incidence_at(event[rows], time[rows], one, horizon)[0])
        draws = np.concatenate(
            [
                incidence_at(event[rows], time[rows], block[rows], horizon)
                for block in sampler.blocks()
            ]
        )
        usable = draws[~np.isnan(draws)]
        if np.isnan(value) or len(usable) < len(draws) / 2:
            continue
        low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
        found.append(
            CalibrationGroup(
                n=len(rows),
                events=value * len(rows),
                predicted=float(risk[rows].mean()),
                observed=value,
                low=float(low),
                high=float(high),
            )
        )
    return tuple(found)
