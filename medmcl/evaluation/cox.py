"""Cox regression with a ridge penalty: Newton's method on exact derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Ties = Literal["breslow", "efron"]


@dataclass(frozen=True)
class _Terms:
    """One row an event: the share of each risk set that its denominator sees.

    Rows of the data are sorted by time, longest first, so that a risk set is a prefix.
    """

    order: np.ndarray  # (N,) data rows, longest time first
    events: np.ndarray  # (K,) sorted positions of the events
    risk_end: np.ndarray  # (K,) length of the prefix at risk
    tie_start: np.ndarray  # (K,) sorted position of the first row with the event's time
    discount: np.ndarray  # (K,) share of the tied events already gone (Efron), else 0


def _terms(event: np.ndarray, time: np.ndarray, ties: Ties) -> _Terms:
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
    return _Terms(order, positions, ends[group], ends[group] - deaths[group], discount)


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
    terms = _terms(event.astype(bool), time, ties)
    eta = (features @ weights)[terms.order]
    return _likelihood(eta, terms)[0] + 0.5 * ridge * float(weights @ weights)


def _likelihood(eta: np.ndarray, terms: _Terms) -> tuple[float, np.ndarray, np.ndarray, float]:
    shift = float(eta.max(initial=0.0))
    hazard = np.exp(eta - shift)
    running = np.concatenate([[0.0], np.cumsum(hazard)])
    tied = running[terms.risk_end] - running[terms.tie_start]
    below = running[terms.risk_end] - terms.discount * tied
    loss = float(np.sum(np.log(below) + shift - eta[terms.events]))
    return loss, hazard, below, shift


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

    Args:
        features: Standardised, (N, E).
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
    features = np.asarray(features, dtype=np.float64)
    terms = _terms(np.asarray(event, dtype=bool), np.asarray(time, dtype=np.float64), ties)
    x = features[terms.order]
    weights = np.zeros(x.shape[1]) if start is None else start.copy()
    penalty = ridge * np.eye(x.shape[1])
    for _ in range(max_steps):
        loss, gradient, hessian = _derivatives(x @ weights, x, terms)
        loss += 0.5 * ridge * float(weights @ weights)
        gradient += ridge * weights
        step = np.linalg.lstsq(hessian + penalty, gradient, rcond=None)[0]
        decrement = 0.5 * float(gradient @ step)
        if decrement <= tolerance * max(1, len(terms.events)):
            return weights - step, True
        weights = _line_search(weights, step, loss, decrement, x, terms, ridge)
    return weights, False


def _derivatives(
    eta: np.ndarray, x: np.ndarray, terms: _Terms
) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, gradient and Hessian of the negative log partial likelihood.

    The Hessian's first part is X' diag(hazard * cumulated 1/denominator) X: no (N, E, E) array.
    """
    loss, hazard, below, _ = _likelihood(eta, terms)
    sums = np.vstack([np.zeros(x.shape[1]), np.cumsum(hazard[:, None] * x, axis=0)])
    tied = sums[terms.risk_end] - sums[terms.tie_start]
    means = (sums[terms.risk_end] - terms.discount[:, None] * tied) / below[:, None]
    share = np.zeros(len(eta) + 1)  # cumulated from the far end: rows at risk in each event's set
    np.add.at(share, terms.risk_end, 1.0 / below)
    exposure = share[::-1].cumsum()[::-1][1:]
    tie_share = np.zeros(len(eta) + 1)
    np.add.at(tie_share, terms.tie_start, terms.discount / below)
    np.add.at(tie_share, terms.risk_end, -terms.discount / below)
    exposure = exposure - tie_share.cumsum()[:-1]
    weighted = (hazard * exposure)[:, None] * x
    gradient = weighted.sum(axis=0) - x[terms.events].sum(axis=0)
    return loss, gradient, x.T @ weighted - means.T @ means


def _line_search(
    weights: np.ndarray,
    step: np.ndarray,
    loss: float,
    decrement: float,
    x: np.ndarray,
    terms: _Terms,
    ridge: float,
) -> np.ndarray:
    """Halve the Newton step until the loss falls as it should (Armijo)."""
    size = 1.0
    for _ in range(40):
        trial = weights - size * step
        value = _likelihood(x @ trial, terms)[0] + 0.5 * ridge * float(trial @ trial)
        if value <= loss - 1e-4 * size * 2 * decrement:
            return trial
        size /= 2
    return weights
