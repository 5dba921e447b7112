"""Calibration of probabilities: recalibration, ICI, and the curves of the plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medmcl.evaluation.metrics import weighted_binary as kernels
from medmcl.evaluation.metrics.calibration_metrics import (
    CALIBRATION_INTERCEPT,
    CALIBRATION_SLOPE,
    DISTINCT,
    ICI,
)
from medmcl.evaluation.metrics.intervals import PLAIN, Resampling
from medmcl.evaluation.metrics.loess import loess, loess_rows
from medmcl.evaluation.metrics.metric import Metric, NotEstimable, probabilities_of, tuples
from medmcl.evaluation.metrics.sampled import Interval, people_among, too_few
from medmcl.evaluation.metrics.shares import effective_size, wilson

OUTERMOST = 5  # the person from either end whose prediction a curve ends at
GAP = 0.02  # share of the range of predictions without any across which no curve is believed
GRID = 101  # points of the smooth curve, at equal steps of rank and range
BAND_DRAWS = 200  # draws that the curve's band is made of, at most
NOISE_POINTS = 200  # places at which the noise of the curve is computed, at most
NOISE_ENTRIES = 4_000_000  # entries of the smoother's matrix held at once, at most


@dataclass(frozen=True, kw_only=True)
class CalibrationGroup:
    """A group of rows with neighbouring predictions.

    Attributes:
        n: Rows.
        subjects: Subjects of these rows.
        events: Those of them with a positive row; with the event by the horizon.
        predicted: Mean predicted probability.
        observed: Share of positives; at a horizon the observed risk of the group.
        low: Lower end of its interval.
        high: Upper end.
    """

    n: int
    subjects: int
    events: int
    predicted: float
    observed: float
    low: float
    high: float

    def has_few(self, fewest: int) -> bool:
        """Whether fewer people are in it, have the event (0 apart), or are without (likewise)."""
        parts = (self.events, self.subjects - self.events)
        return self.subjects < fewest or any(0 < count < fewest for count in parts)


@dataclass(frozen=True, kw_only=True, repr=False)
class CalibrationCurve:
    """The smooth curve: observed over predicted, with a pointwise bootstrap band.

    Attributes:
        predicted: Ascending, (M,).
        observed: Smoothed, (M,), in [0, 1].
        low: Lower end, (M,); empty without draws.
        high: Upper end, (M,); empty without draws.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of one set of probabilities, or of risks by a horizon.

    None where a number does not exist.

    Attributes:
        horizon: Of risks by a horizon, in the unit of time; None of probabilities.
        intercept: Calibration in the large; 0 is best, above 0 = risks are too low. Of
            probabilities.
        slope: Calibration slope; 1 is best, below 1 = risks are too extreme. At a horizon the Cox
            coefficient of the log cumulative hazard that was predicted; under competing risks see
            `competing_calibration`.
        joint_intercept: Intercept fitted together with the slope. Of probabilities.
        observed_expected: Positives over the sum of probabilities; at a horizon the observed risk
            (Kaplan-Meier; Aalen-Johansen under competing risks) over the mean predicted one; 1 is
            best.
        ici: Mean distance of the smooth curve from the diagonal, corrected for noise; 0 is best.
        ici_uncorrected: As published, biased upwards.
        ici_if_perfect: What the uncorrected index would be on average, were every probability
            right. Of probabilities.
        e50: Median distance, uncorrected.
        e90: 90th percentile of the distance, uncorrected.
        emax: Largest distance, uncorrected.
        curve: The smooth curve, observed over predicted, or None.
        groups: Tenths of the rows by prediction; fewer where predictions are tied, or groups were
            joined with their neighbours.
        n: Rows.
        events: People with a positive row; with the event by the horizon.
        subjects: Subjects.
        note: What a reader must know.
    """

    horizon: float | None = None
    intercept: Interval | None = None
    slope: Interval
    joint_intercept: float | None = None
    observed_expected: Interval
    ici: Interval
    ici_uncorrected: float | None
    ici_if_perfect: float | None = None
    e50: float | None
    e90: float | None
    emax: float | None
    curve: CalibrationCurve | None = field(repr=False)
    groups: tuple[CalibrationGroup, ...] = field(repr=False)
    n: int
    events: int
    subjects: int
    note: str = ""


def _observed_expected(y: np.ndarray, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    below = p @ weights
    return np.divide((y > 0) @ weights, below, out=np.full_like(below, np.nan), where=below > 0)


OBSERVED_EXPECTED = Metric(
    "observed_expected",
    "target",
    _observed_expected,
    "all probabilities are zero",
    None,
    True,
    probabilities_of,
    ideal=1.0,
)


def calibration(
    targets: Any,
    probability: Any,
    resampling: Resampling = PLAIN,
    *,
    bins: int = 10,
    fewest: int = 1,
    known: Mapping[str, Interval] | None = None,
) -> Calibration | NotEstimable:
    """Give intercept, slope, ICI and the curves of a calibration plot.

    The curve is R's ``loess`` of the outcome on the probability (span .75, degree 2). The ICI and
    its kin are distances, so that noise can only add to them: ``ici`` is corrected from bootstrap
    draws (`Sampled.corrected`; still biased where noise and distance are of one size),
    ``ici_uncorrected``, ``e50``, ``e90`` and ``emax`` are as published, and ``ici_if_perfect``
    says how large the uncorrected index is for perfect probabilities. Intercept and slope move
    probabilities into [1e-6, 1 - 1e-6] first; the note counts those that were 0 or 1.

    Args:
        targets: Outcome, above zero = positive. (N,)
        probability: Predicted probability. (N,)
        resampling: Who is drawn for intervals; the curve's band takes the first 200 draws.
        bins: Groups of the grouped curve.
        fewest: People with the outcome, or without, below which (0 apart) a group is joined with
            its neighbour.
        known: Metric (``calibration_intercept``, ``calibration_slope``, ``ici``) to an interval
            that a table shows already: taken as it is, so that a number has one interval.

    Returns:
        `Calibration`; a part that does not exist (slope of separated classes, an ICI of one class,
        a curve over fewer than three distinct probabilities) has no value and a reason.
        `NotEstimable` without rows.

    Raises:
        ValueError: If a prediction is not a probability, for unequal lengths, missing subjects and
            settings out of range.
    Source:
        Van Calster et al. 2019, BMC Med 17:230; Austin & Steyerberg 2019, Stat Med 38:4051-4065.
        Differs: the correction of the ICI.
    """
    if len(np.asarray(targets)) == 0:
        return NotEstimable("no rows")
    y, p = ICI.check((targets, probability))
    y = (y > 0).astype(float)
    sampler = resampling.over(y)
    shown = known or {}
    intercept, slope, ratio, ici = (
        shown.get(metric.name) or sampler.sample(metric, (y,), [p]).interval(sampler.level)
        for metric in (CALIBRATION_INTERCEPT, CALIBRATION_SLOPE, OBSERVED_EXPECTED, ICI)
    )
    joint = float(kernels.logistic_recalibration(y, p, np.ones((len(y), 1)))[0][0])
    ends = int(((p == 0) | (p == 1)).sum())
    distances = _distances(y, p, None if resampling.subjects is None else sampler.codes)
    return Calibration(
        intercept=intercept,
        slope=slope,
        joint_intercept=None if np.isnan(joint) else joint,
        observed_expected=ratio,
        ici=ici,
        curve=_smooth(y, p, sampler),
        groups=_grouped(y, p, sampler, bins, fewest),
        n=len(y),
        events=people_among(sampler.codes, y > 0),
        subjects=sampler.num_subjects,
        note=f"{ends} probabilities are exactly 0 or 1" if ends else "",
        **distances,
    )


def _distances(y: np.ndarray, p: np.ndarray, codes: np.ndarray | None) -> dict[str, Any]:
    """The uncorrected indices, and the ICI that noise alone would give."""
    names = ("ici_uncorrected", "e50", "e90", "emax", "ici_if_perfect")
    if len(np.unique(p)) < DISTINCT or y.min() == y.max():
        return dict.fromkeys(names)
    found = (*distances(loess(p, y)(p), p), _noise(y, p, codes))
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def distances(observed: np.ndarray, predicted: np.ndarray) -> tuple[float, ...]:
    """Mean, median, 90th percentile and largest distance of a curve from the diagonal."""
    gap = np.abs(observed - predicted)
    return (gap.mean(), *np.quantile(gap, [0.5, 0.9]), gap.max())


def _noise(y: np.ndarray, p: np.ndarray, codes: np.ndarray | None) -> float:
    """Mean absolute noise of the curve under perfect calibration (normal approximation).

    Independent rows have the variance p (1 - p); for clustered rows the sums of residuals inside
    subjects stand in.
    """
    places = max(10, min(NOISE_POINTS, NOISE_ENTRIES // len(p)))
    at = np.sort(p)
    if len(p) > places:
        at = np.quantile(p, (np.arange(places) + 0.5) / places)
    rows = loess_rows(p, at)
    if codes is None:
        variance = (rows**2) @ (p * (1 - p))
    else:
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(int(codes.max()) + 1))
        sums = np.add.reduceat((rows * (y - p))[:, order], starts, axis=1)
        variance = (sums**2).sum(axis=1)
    return float(np.sqrt(2 / np.pi) * np.sqrt(variance).mean())


def _smooth(y: np.ndarray, p: np.ndarray, sampler: Resampling) -> CalibrationCurve | None:
    if len(np.unique(p)) < DISTINCT:
        return None
    at = curve_grid(p, sampler.codes)
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    drawn: list[np.ndarray] = []
    for block in sampler.blocks():
        for column in block[order].T[: max(0, BAND_DRAWS - len(drawn))]:
            rows = np.repeat(np.arange(len(p)), column.astype(int))
            x = p[rows]
            if 1 + np.count_nonzero(x[1:] != x[:-1]) >= DISTINCT:  # ascending
                drawn.append(loess(x, y[rows])(at))
        if len(drawn) >= BAND_DRAWS:
            break
    return curve_with_band(at, loess(p, y)(at), np.reshape(drawn, (len(drawn), len(at))), sampler)


def curve_with_band(
    at: np.ndarray, observed: np.ndarray, drawn: np.ndarray, sampler: Resampling
) -> CalibrationCurve | None:
    """Give a curve (T,) with the band of its draws (W, T); none where those are too few."""
    if len(at) < 2:
        return None
    usable = drawn[~np.isnan(drawn).any(axis=1)]
    enough = len(usable) > 1 and not too_few(sampler.num_subjects, sampler.num_clusters())
    low, high = np.quantile(usable, sampler.tails, axis=0) if enough else np.empty((2, 0))
    lines = {"observed": observed, "low": low, "high": high}
    inside = {name: np.clip(line, 0, 1) for name, line in lines.items()}  # loess may leave it
    return CalibrationCurve(**tuples(predicted=at, **inside))


def curve_grid(p: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Places to draw a curve at: half at equal steps, half at equal ranks; none far from any p.

    They lie between the 5th smallest and the 5th largest prediction: what a curve does beyond is
    told by hardly anybody.

    Args:
        p: Predicted probabilities, (N,).
        codes: The person of each, (N,).

    Source:
        The ends are those of R's ``rms::calibrate``. Differs: people are counted, not rows.
    """
    even = np.linspace(p.min(), p.max(), GRID // 2 + 1)
    order = np.sort(p)
    after = np.searchsorted(order, even).clip(1, max(len(order) - 1, 1))
    near = np.minimum(np.abs(order[after - 1] - even), np.abs(order[after % len(order)] - even))
    even = even[near <= GAP * np.ptp(p)]
    at = np.unique(np.concatenate([even, np.quantile(p, np.linspace(0, 1, GRID // 2 + 1))]))
    ascending = np.argsort(p, kind="stable")
    low, high = (_outermost(p[way], codes[way]) for way in (ascending, ascending[::-1]))
    return at[(at >= low) & (at <= high)]


def _outermost(p: np.ndarray, codes: np.ndarray) -> float:
    """The first prediction of the fifth person in an order; NaN where there are fewer."""
    firsts = np.sort(np.unique(codes, return_index=True)[1])
    return float(p[firsts[OUTERMOST - 1]]) if len(firsts) >= OUTERMOST else np.nan


def rank_groups(p: np.ndarray, bins: int) -> list[np.ndarray]:
    """Rows of each group by prediction; tied predictions stay together."""
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins))
    code = np.searchsorted(edges, p, side="left")
    return [np.flatnonzero(code == value) for value in np.unique(code)]


def group_of(
    rows: np.ndarray,
    predicted: np.ndarray,
    has_event: np.ndarray,
    sampler: Resampling,
    **observed: float,
) -> CalibrationGroup:
    """Count a group of rows, beside what was observed of it: ``observed`` and its ends."""
    codes = sampler.codes[rows]
    return CalibrationGroup(
        n=len(rows),
        subjects=len(np.unique(codes)),
        events=people_among(codes, has_event[rows]),
        predicted=float(predicted[rows].mean()),
        **observed,
    )


def joined_groups(
    parts: Sequence[np.ndarray],
    measure: Callable[[np.ndarray], CalibrationGroup | None],
    fewest: int,
) -> tuple[CalibrationGroup, ...]:
    """Measure groups, each joined with its neighbour until it can be shown.

    Args:
        parts: Rows of each group, lowest predictions first.
        measure: Gives the group of some rows; None where nothing is known of it.
        fewest: See `CalibrationGroup.has_few`.
    """
    done: list[tuple[np.ndarray, CalibrationGroup | None]] = []

    def add(*joined: np.ndarray) -> None:
        rows = np.concatenate(joined)
        group = measure(rows)
        done.append((rows, None if group is None or group.has_few(fewest) else group))

    for rows in parts:
        add(*([done.pop()[0]] if done and done[-1][1] is None else []), rows)
    while len(done) > 1 and done[-1][1] is None:
        (before, _), (last, _) = done[-2:]
        del done[-2:]
        add(before, last)
    return tuple(group for _, group in done if group is not None)


def _grouped(
    y: np.ndarray, p: np.ndarray, sampler: Resampling, bins: int, fewest: int
) -> tuple[CalibrationGroup, ...]:
    def measure(rows: np.ndarray) -> CalibrationGroup:
        share = float(y[rows].mean())
        low, high = wilson(share, effective_size(y[rows], sampler.units[rows]), sampler.level)
        return group_of(rows, p, y > 0, sampler, observed=share, low=low, high=high)

    return joined_groups(rank_groups(p, bins), measure, fewest)
