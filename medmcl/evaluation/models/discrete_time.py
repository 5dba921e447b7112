"""A discrete-time hazards model: one logit of hazard an interval, shifted by the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.models.cox import minimise
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.models.scaling import Rotation

INTERCEPT_RIDGE = 1e-3
"""Penalty that keeps an interval finite in which all or none of those at risk have the event."""


@dataclass(frozen=True)
class Intervals:
    """Hazards that are constant within intervals; the first one starts at 0.

    Attributes:
        cuts: Ends of the intervals (start excluded, end included), ascending. (K,)
        intercepts: Logit of the hazard of each interval at log odds of zero. (K,)
    """

    cuts: np.ndarray
    intercepts: np.ndarray

    def survival(self, log_odds: np.ndarray, times: np.ndarray) -> np.ndarray:
        """P(T > time) of subjects with log odds (N,), (N, T).

        Its logarithm is straight within an interval, and flat after the last.
        """
        steps = np.logaddexp(0.0, log_odds[:, None] + self.intercepts)  # -log(1 - hazard)
        ends = np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)
        edges = np.concatenate([[0.0], self.cuts])
        when = np.clip(np.asarray(times, dtype=np.float64), 0.0, edges[-1])
        after = np.minimum(np.searchsorted(self.cuts, when, side="left") + 1, len(self.cuts))
        before = np.maximum(after - 1, 0)
        width = edges[after] - edges[before]
        share = np.where(width > 0, (when - edges[before]) / np.where(width > 0, width, 1.0), 1.0)
        hazard = ends[:, before] + share * (ends[:, after] - ends[:, before])
        return np.asarray(np.exp(-hazard))


def discrete_time_loss(
    model: LinearModel, features: np.ndarray, event: np.ndarray, time: np.ndarray
) -> float:
    """Negative log likelihood of the intervals passed through, without the penalty."""
    passed, last = _passed(np.asarray(event, dtype=bool), np.asarray(time), model.times)
    log_odds = features @ model.weights[:, 0]
    return _loss(log_odds[:, None] + model.curve, passed, last)


def interval_ends(event: np.ndarray, time: np.ndarray, intervals: int) -> np.ndarray:
    """Choose ends of intervals at quantiles of event times, (K,); each interval has an event."""
    seen = np.asarray(time, dtype=np.float64)[np.asarray(event, dtype=bool)]
    if not len(seen):
        return np.zeros(0)
    shares = np.arange(1, intervals + 1) / intervals
    return np.unique(np.quantile(seen, shares, method="inverted_cdf"))


def discrete_time_model(
    features: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    *,
    ridge: float,
    intervals: int = 20,
    start: np.ndarray | None = None,
    max_steps: int = 50,
) -> tuple[LinearModel, tuple[str, ...]]:
    """Fit ``logit P(event in interval j | not before) = intercept_j + features @ weights``.

    Intervals end at quantiles of the event times. A row passes through every interval up to that of
    its event; a censored row through those it saw the end of. Within an interval the hazard is
    constant. The likelihood uses (N, intervals) numbers, never a row for each person and period.
    Without events survival is one.

    Args:
        features: Standardised, (N, E).
        event: True = the event was seen. (N,)
        time: Follow-up >= 0, (N,).
        ridge: Penalty ``ridge / 2 * |weights|²`` against the summed log likelihood.
        intervals: Intervals at most.
        start: Weights to begin with; default zeros.
        max_steps: Newton steps at most.

    Returns:
        The model, and what a reader must know of the fit.

    Raises:
        ConfigError: For fewer than one interval or a negative ridge.
    Source:
        Brown 1975, Biometrics 31:863-872; Gensheimer & Narasimhan 2019, PeerJ 7:e6257;
        interpolation of Kvamme & Borgan 2021, Lifetime Data Anal 27:710-736 (constant hazard).
        Differs: a penalty of 0.001 on the intercepts, so that none is infinite.
    """
    if intervals < 1 or ridge < 0:
        raise ConfigError(
            "a discrete-time model needs an interval and a ridge that is not negative",
            got=f"intervals {intervals}, ridge {ridge}",
        )
    event, cuts = np.asarray(event, dtype=bool), interval_ends(event, time, intervals)
    x = np.asarray(features, dtype=np.float64)
    if not len(cuts):
        return _model(np.zeros(x.shape[1]), cuts, cuts), ("no event in training, constant risk",)
    rotation = Rotation.of(x) if ridge > 0 else Rotation(x)
    x = rotation.rows
    weights = np.zeros(x.shape[1]) if start is None else rotation.inside(start)
    passed, last = _passed(event, np.asarray(time, dtype=np.float64), cuts)
    seen = np.bincount(last[last >= 0], minlength=len(cuts))
    first = np.log((seen + 0.5) / (passed.sum(axis=0) - seen + 0.5))
    problem = _Problem(x, passed, last, first, ridge)
    begin, tolerance = np.concatenate([weights, first]), 1e-9 * max(1, int((last >= 0).sum()))
    solution, converged = minimise(problem, begin, max_steps, tolerance, definite=ridge > 0)
    model = _model(rotation.back(solution[: x.shape[1]]), cuts, solution[x.shape[1] :])
    return model, () if converged else ("discrete-time fit did not converge",)


def _model(weights: np.ndarray, cuts: np.ndarray, intercepts: np.ndarray) -> LinearModel:
    return LinearModel(link="discrete_time", weights=weights[:, None], offset=np.zeros(1),
                       times=cuts, curve=intercepts)  # fmt: skip


def _passed(event: np.ndarray, time: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals each row passed through, (N, K) bool, and that of its event, (N,), -1 = none."""
    interval = np.searchsorted(cuts, time, side="left")
    inside = event & (interval < len(cuts))
    counts = np.where(inside, interval + 1, np.searchsorted(cuts, time, side="right"))
    return np.arange(len(cuts)) < counts[:, None], np.where(inside, interval, -1)


def _loss(logits: np.ndarray, passed: np.ndarray, last: np.ndarray) -> float:
    rows = np.flatnonzero(last >= 0)
    return float(np.logaddexp(0.0, logits)[passed].sum() - logits[rows, last[rows]].sum())


@dataclass(frozen=True)
class _Problem:
    """The penalised likelihood, of weights and intercepts in one array (E + K,)."""

    x: np.ndarray
    passed: np.ndarray
    last: np.ndarray
    first: np.ndarray
    ridge: float

    def logits(self, solution: np.ndarray) -> np.ndarray:
        width = self.x.shape[1]
        return (self.x @ solution[:width])[:, None] + solution[width:]

    def penalty(self) -> tuple[np.ndarray, np.ndarray]:
        """Strength and centre of the penalty of each number."""
        width = self.x.shape[1]
        strength = np.full(width + len(self.first), INTERCEPT_RIDGE)
        strength[:width] = self.ridge
        return strength, np.concatenate([np.zeros(width), self.first])

    def loss(self, solution: np.ndarray) -> float:
        strength, centre = self.penalty()
        return _loss(self.logits(solution), self.passed, self.last) + 0.5 * float(
            strength @ (solution - centre) ** 2
        )

    def derivatives(self, solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hazard = np.exp(-np.logaddexp(0.0, -self.logits(solution))) * self.passed
        slope = hazard * (1 - hazard)
        rows = np.flatnonzero(self.last >= 0)
        hazard[rows, self.last[rows]] -= 1.0
        gradient = np.concatenate([self.x.T @ hazard.sum(axis=1), hazard.sum(axis=0)])
        cross = self.x.T @ slope
        features = self.x.T @ (slope.sum(axis=1)[:, None] * self.x)
        hessian = np.block([[features, cross], [cross.T, np.diag(slope.sum(axis=0))]])
        strength, centre = self.penalty()
        return gradient + strength * (solution - centre), hessian + np.diag(strength)
