"""Cox regression with a ridge penalty: Newton's method on exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from medmcl.evaluation.models.scaling import Rotation, flat_columns

Ties = Literal["breslow", "efron"]

WIDEST = 200.0
"""Largest spread of log hazards a fit may reach: e^200 is no hazard ratio of a real cohort."""


@dataclass(frozen=True)
class RiskSets:
    """One row an event: the share of each risk set that its denominator sees.

    Rows of the data are sorted by time, longest first, so that a risk set is a prefix.
    """

    order: np.ndarray  # (N,) data rows, longest time first
    events: np.ndarray  # (K,) sorted positions of the events
    risk_end: np.ndarray  # (K,) length of the prefix at risk
    tie_start: np.ndarray  # (K,) sorted position of the first event with the event's time
    discount: np.ndarray  # (K,) share of the tied events already gone (Efron), else 0
    group: np.ndarray  # (K,) number of the event's time among distinct times, longest first


def risk_sets(event: np.ndarray, time: np.ndarray, ties: Ties) -> RiskSets:
    """Sort rows and find each event's risk set."""
    order = np.lexsort((event, -time))  # within a time: censored first, events last
    times, events = time[order], event[order]
    positions = np.flatnonzero(events)
    _, inverse, counts = np.unique(-times, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    group = inverse[positions]
    deaths = np.bincount(group, minlength=len(counts))
    rank = np.arange(len(positions)) - np.searchsorted(group, group)
    discount = rank / deaths[group] if ties == "efron" else np.zeros(len(positions))
    # events of a time occupy the last `deaths` positions of its block
    return RiskSets(order, positions, ends[group], ends[group] - deaths[group], discount, group)


def cox_loss(
    weights: np.ndarray,
    features: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    *,
    ridge: float = 0.0,
    ties: Ties = "efron",
) -> float:
    """Give the negative log partial likelihood plus ``ridge / 2 * |weights|²``; lower is better.

    Args:
        weights: Log hazard ratios, (E,).
        features: (N, E).
        event: (N,) bool.
        time: Follow-up, (N,).
        ridge: Strength of the penalty, on the scale of the summed (not mean) likelihood.
        ties: How events at one time share a risk set.
    Source:
        Cox 1975; Efron 1977, JASA 72:557-565; Breslow 1974. Differs: none.
    """
    terms = risk_sets(event.astype(bool), time, ties)
    eta = (features @ weights)[terms.order]
    return _loss(eta, terms) + 0.5 * ridge * float(weights @ weights)


def log_denominators(eta: np.ndarray, terms: RiskSets) -> np.ndarray:
    """Log of the summed hazard that each event's denominator sees, (K,); no sum can overflow."""
    running = np.concatenate([[-np.inf], np.logaddexp.accumulate(eta)])
    with np.errstate(divide="ignore"):  # the log of no discount is minus infinity, as it should
        gone = np.log(terms.discount)
    return np.asarray(
        np.logaddexp(
            running[terms.risk_end] + np.log1p(-terms.discount), running[terms.tie_start] + gone
        )
    )


def _loss(eta: np.ndarray, terms: RiskSets) -> float:
    if not len(terms.events):
        return 0.0
    return float(np.sum(log_denominators(eta, terms) - eta[terms.events]))


@dataclass(frozen=True)
class Problem:
    """Centred and scaled rows, longest time first, and the penalty of each scaled weight.

    Neither changes the solution; both keep it apart from rounding errors.
    """

    x: np.ndarray
    terms: RiskSets
    mean: np.ndarray
    scale: np.ndarray
    ridge: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, terms: RiskSets, ridge: float) -> Problem:
        """Centre and scale features (N, E)."""
        mean, spread = features.mean(axis=0), features.std(axis=0)
        flat = flat_columns(mean, spread)
        scale = np.where(flat, 1.0, spread)
        x = features[terms.order]
        x -= mean
        x /= scale
        x[:, flat] = 0.0
        return cls(x, terms, mean, scale, ridge / scale**2)

    def loss(self, weights: np.ndarray) -> float:
        """Penalised loss of scaled weights; infinite beyond `WIDEST`."""
        eta = self.x @ weights
        if np.ptp(eta) > WIDEST:
            return np.inf
        return _loss(eta, self.terms) + 0.5 * float(self.ridge @ weights**2)

    def derivatives(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (E,) and Hessian (E, E) of the penalised loss."""
        gradient, hessian = derivatives(self.x @ weights, self.x, self.terms)
        return gradient + self.ridge * weights, hessian + np.diag(self.ridge)


def cox_fit(
    features: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    *,
    ridge: float,
    ties: Ties = "efron",
    start: np.ndarray | None = None,
    max_steps: int = 50,
    tolerance: float = 1e-9,
) -> tuple[np.ndarray, bool]:
    """Fit log hazard ratios; give them with whether Newton's method converged.

    A column that does not vary has weight zero. Where columns are collinear and ``ridge`` is zero,
    many fits are equally good; the one given has the smallest weights on standardised columns.
    Without any event all weights are zero.

    Args:
        features: (N, E).
        event: True = the event was seen. (N,)
        time: Follow-up, (N,).
        ridge: Penalty ``ridge / 2 * |weights|²`` against the summed log likelihood.
        ties: ``efron`` or ``breslow``.
        start: Where to begin; default zeros.
        max_steps: Newton steps at most.
        tolerance: Stop when half the squared Newton decrement is below it (per event).

    Returns:
        Weights (E,), and True if converged.
    Source:
        Cox 1972; ties as in `cox_loss`; equals scikit-survival's ``CoxPHSurvivalAnalysis(alpha=
        ridge)``. Differs: none.
    """
    path = CoxPath(features, event, time, ties=ties, is_turned=ridge > 0)
    return path.fit(ridge, start=start, max_steps=max_steps, tolerance=tolerance)


class CoxPath:
    """Fits of one set of rows under one ridge after another; sorted, centred and turned once.

    Args:
        features: (N, E).
        event: True = the event was seen. (N,)
        time: Follow-up, (N,).
        ties: ``efron`` or ``breslow``.
        is_turned: Whether to look in the span of the rows only: where each ridge is above zero, the
            best weights lie there.
    """

    def __init__(
        self,
        features: np.ndarray,
        event: np.ndarray,
        time: np.ndarray,
        *,
        ties: Ties = "efron",
        is_turned: bool = True,
    ) -> None:
        x = np.asarray(features, dtype=np.float64)
        self.terms = risk_sets(np.asarray(event, bool), np.asarray(time, np.float64), ties)
        self.rotation = Rotation.of(x - x.mean(axis=0)) if is_turned else Rotation(x)
        self.problem = Problem.of(self.rotation.rows, self.terms, 1.0)
        self.rotation = replace(self.rotation, rows=x[:0])  # its axes are asked for from here on

    def fit(
        self,
        ridge: float,
        *,
        start: np.ndarray | None = None,
        max_steps: int = 50,
        tolerance: float = 1e-9,
    ) -> tuple[np.ndarray, bool]:
        """Fit under a ridge; arguments and result as of `cox_fit`."""
        scale, events = self.problem.scale, len(self.terms.events)
        if not events and start is None:
            return self.rotation.back(np.zeros(len(scale))), True
        problem = replace(self.problem, ridge=ridge * self.problem.ridge)
        first = np.zeros(len(scale)) if start is None else self.rotation.inside(start) * scale
        weights, converged = minimise(
            problem,
            first,
            max_steps,
            tolerance * max(1, events),
            definite=bool((problem.ridge > 0).all()),
        )
        return self.rotation.back(weights / scale), converged


class Likelihood(Protocol):
    """A penalised loss with its derivatives."""

    def loss(self, weights: np.ndarray, /) -> float:
        """Give the loss; infinite where weights may not lie."""
        ...

    def derivatives(self, weights: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Give gradient (E,) and Hessian (E, E)."""
        ...


def minimise(
    problem: Likelihood, weights: np.ndarray, max_steps: int, tolerance: float, *, definite: bool
) -> tuple[np.ndarray, bool]:
    """Go down by Newton's steps from ``weights``; give the lowest point, and whether it is one.

    Args:
        problem: What is minimised.
        weights: Where to begin; zeros where the loss is not finite there.
        max_steps: Steps at most.
        tolerance: Stop when half the squared Newton decrement is below it.
        definite: Whether the penalty makes the Hessian so.
    """
    loss = problem.loss(weights)
    if not np.isfinite(loss):
        weights = np.zeros_like(weights)
        loss = problem.loss(weights)
    for _ in range(max_steps):
        gradient, hessian = problem.derivatives(weights)
        step = _newton_step(hessian, gradient, definite)
        decrement = 0.5 * float(gradient @ step)
        if decrement <= tolerance:
            last = weights - step
            return (last, True) if np.isfinite(problem.loss(last)) else (weights, True)
        lower = _line_search(problem, weights, loss, step, decrement)
        if lower is None:
            return weights, False
        weights, loss = lower
    return weights, False


def _newton_step(hessian: np.ndarray, gradient: np.ndarray, definite: bool) -> np.ndarray:
    """Newton's step; the shortest where the Hessian is singular."""
    from scipy.linalg.lapack import dposv

    if definite:
        _, step, failed = dposv(hessian, gradient)
        if not failed:  # else a penalty below the rounding of the Hessian: go on as without one
            return np.asarray(step)
    return np.asarray(np.linalg.lstsq(hessian, gradient, rcond=1e-10)[0])


def _line_search(
    problem: Likelihood, weights: np.ndarray, loss: float, step: np.ndarray, decrement: float
) -> tuple[np.ndarray, float] | None:
    """Halve the Newton step until the loss falls as it should (Armijo); None if it never does.

    Gives the weights and their loss.
    """
    for halvings in range(40):
        size = 0.5**halvings
        trial = weights - size * step
        found = problem.loss(trial)
        if found <= loss - 1e-4 * size * 2 * decrement:
            return trial, found
    return None


def running_sums(hazard: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum rows (N, E) times their hazard over each prefix, from none on, (N + 1, E)."""
    sums = np.zeros((len(x) + 1, x.shape[1]))
    np.multiply(hazard[:, None], x, out=sums[1:])
    return np.cumsum(sums, axis=0, out=sums)


def derivatives(eta: np.ndarray, x: np.ndarray, terms: RiskSets) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of the negative log partial likelihood.

    The Hessian's first part is X' diag(hazard * cumulated 1/denominator) X: no (N, E, E) array.
    """
    shift = float(eta.max(initial=0.0))
    hazard = np.exp(eta - shift)
    shares = np.exp(shift - log_denominators(eta, terms))  # (K,) one over the denominators
    sums = running_sums(hazard, x)
    rest = 1.0 - terms.discount
    means = (rest * shares)[:, None] * sums[terms.risk_end]
    means += (terms.discount * shares)[:, None] * sums[terms.tie_start]
    del sums  # of many rows each array is large
    reached = np.bincount(terms.risk_end, weights=shares, minlength=len(eta) + 1)
    exposure = reached[::-1].cumsum()[::-1][1:]  # of a row: over the events whose set it is in
    own = np.bincount(terms.group, weights=terms.discount * shares)
    exposure[terms.events] -= own[terms.group]
    weighted = (hazard * exposure)[:, None] * x
    gradient = weighted.sum(axis=0) - x[terms.events].sum(axis=0)
    return gradient, x.T @ weighted - means.T @ means
