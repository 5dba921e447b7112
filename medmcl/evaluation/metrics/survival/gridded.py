"""A survival or incidence curve at a few even times, without the times of single subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.metrics.survival.incidence_curve import IncidenceCurve
from medmcl.evaluation.metrics.survival.kaplan_meier import SurvivalCurve

CURVE_POINTS = 41  # of a curve in a file

Observed = SurvivalCurve | IncidenceCurve


@dataclass(frozen=True, kw_only=True)
class Gridded:
    """A curve at a few even times, without the times of single subjects.

    Attributes:
        times: Even grid, (G,).
        values: P(T > t), or the incidence by t where events compete; NaN where too few are
            followed: their steps say little, and of whom.
        low: Lower end of the interval.
        high: Upper end.
        at_risk: Subjects followed to each time or longer.
    """

    times: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray


def gridded(curve: Observed, times: np.ndarray) -> Gridded:
    """Read a curve at some times, (G,)."""
    own, at_first = np.array(curve.times), float(isinstance(curve, SurvivalCurve))
    steps = np.searchsorted(own, times, side="right") - 1
    later = np.searchsorted(own, times, side="left")
    at_risk = np.append(np.array(curve.at_risk), 0.0)[np.minimum(later, len(own))]
    known = at_risk >= FEWEST_SUBJECTS

    def read(values: Sequence[float]) -> np.ndarray:
        found = np.where(steps < 0, at_first, np.array(values)[np.maximum(steps, 0)])
        return np.where(known, found, np.nan)

    main = curve.survival if isinstance(curve, SurvivalCurve) else curve.incidence
    return Gridded(times=times, values=read(main), low=read(curve.low),
                   high=read(curve.high), at_risk=at_risk)  # fmt: skip
