"""A fitted Cox model: log hazard ratios, baseline hazard, and remarks on the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.models.cox import WIDEST, Problem, Ties, cox_fit, log_denominators, risk_sets
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.models.scaling import flat_columns

SEPARATED = 1e-6
"""Curvature left, as a share of that at zero, below which the likelihood has no maximum."""


@dataclass(frozen=True)
class Baseline:
    """A cumulative hazard that steps up at event times: zero before the first, flat after the last.

    Attributes:
        times: Distinct event times, ascending. (K,)
        log_cumulative: Log of the cumulative hazard from each time on. (K,)
    """

    times: np.ndarray
    log_cumulative: np.ndarray

    def log_at(self, times: np.ndarray) -> np.ndarray:
        """Log cumulative hazard at each time; minus infinity before the first event. (T,)."""
        padded = np.concatenate([[-np.inf], self.log_cumulative])
        return padded[np.searchsorted(self.times, np.asarray(times, dtype=np.float64), "right")]

    def survival(self, log_hazard: np.ndarray, times: np.ndarray) -> np.ndarray:
        """P(T > time) of subjects with log hazards (N,), a step function of time, (N, T)."""
        hazard = np.asarray(log_hazard[:, None] + self.log_at(times)[None])
        np.minimum(hazard, 700.0, out=hazard)  # of many rows each copy is large
        np.exp(hazard, out=hazard)
        np.negative(hazard, out=hazard)
        return np.exp(hazard, out=hazard)


def baseline_hazard(
    eta: np.ndarray, event: np.ndarray, time: np.ndarray, *, ties: Ties = "breslow"
) -> Baseline:
    """Estimate the cumulative hazard of a subject with log hazard zero.

    Args:
        eta: Log hazard of each training row. (N,)
        event: (N,) bool.
        time: Follow-up, (N,).
        ties: ``breslow``: each of d events at a time adds 1 / (hazard at risk); ``efron``: the
            tied events leave the risk set one after the other.
    Source:
        Breslow 1972 (discussion of Cox 1972); Efron 1977. Differs: none.
    """
    event, time = np.asarray(event, dtype=bool), np.asarray(time, dtype=np.float64)
    terms = risk_sets(event, time, ties)
    if not len(terms.events):
        return Baseline(np.zeros(0), np.zeros(0))
    log_shares = -log_denominators(np.asarray(eta, dtype=np.float64)[terms.order], terms)
    at, summed = time[terms.order][terms.events][::-1], log_shares[::-1]  # now earliest first
    times, last = np.unique(at[::-1], return_index=True)
    cumulated = np.logaddexp.accumulate(summed)
    return Baseline(times, cumulated[len(at) - 1 - last])


def cox_model(
    features: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    *,
    ridge: float = 0.0,
    ties: Ties = "efron",
    start: np.ndarray | None = None,
) -> tuple[LinearModel, tuple[str, ...]]:
    """Fit a Cox model with its baseline hazard, Breslow's (as scikit-survival, under either ties).

    What `cox_fit` says of constant and collinear columns holds; here each case is noted. If the
    likelihood has no maximum (``ridge`` zero, and a combination of columns orders the events
    perfectly), the weights are those where it stopped rising, with a note: the order of risks is
    usable, their size is not. Without events the risk is constant and survival is one.

    Args:
        features: (N, E), finite.
        event: True = the event was seen. (N,)
        time: Follow-up >= 0, (N,).
        ridge: Penalty as in `cox_fit`.
        ties: Likelihood of tied events.
        start: Where to begin; default zeros.

    Returns:
        The model, and what a reader must know of the fit.

    Raises:
        ConfigError: For arrays that are not finite or do not agree, or a negative time or ridge.
    Source:
        Cox 1972; Breslow 1972. Differs: none.
    """
    x, time = np.asarray(features, dtype=np.float64), np.asarray(time, dtype=np.float64)
    event = np.asarray(event)
    if x.ndim != 2 or len(x) == 0 or event.shape != (len(x),) or time.shape != (len(x),):
        raise ConfigError(
            "features, event and time do not agree",
            got=f"{x.shape}, {event.shape}, {time.shape}",
            expected="(N, E), (N,), (N,), N at least 1",
        )
    if not (np.isfinite(x).all() and np.isfinite(time).all() and (time >= 0).all()):
        raise ConfigError(
            "features and times must be finite, and times not negative",
            fix="leave out or impute rows that are not known",
        )
    event = event.astype(bool)
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ConfigError("a ridge must be zero or more", where="ridge", got=ridge)
    weights, converged = cox_fit(x, event, time, ridge=ridge, ties=ties, start=start)
    mean = x.mean(axis=0)
    baseline = baseline_hazard((x - mean) @ weights, event, time)  # of the training mean
    model = LinearModel(
        link="cox",
        weights=weights[:, None],
        offset=np.zeros(1),
        times=baseline.times,
        curve=baseline.log_cumulative - float(mean @ weights),
    )
    return model, tuple(_notes(x, event, time, ridge, ties, weights, converged))


def _notes(
    x: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    ridge: float,
    ties: Ties,
    weights: np.ndarray,
    converged: bool,
) -> list[str]:
    if not event.any():
        return ["no event in training, constant risk"]
    flat = flat_columns(x.mean(axis=0), x.std(axis=0))
    notes = [f"columns that do not vary in training: {int(flat.sum())}"] if flat.any() else []
    endless = bool(np.ptp(x @ weights) > 0.9 * WIDEST)
    if ridge == 0 and not flat.all():
        problem = Problem.of(x[:, ~flat], risk_sets(event, time, ties), 0.0)
        several, none = _shape_of_likelihood(problem, weights[~flat] * problem.scale)
        endless = endless or none
        if several:
            notes.append(
                f"{several} columns too many for one solution (collinear, or constant among those "
                "at risk): the smallest standardised weights are given"
            )
    if endless:
        notes.append(
            "the likelihood has no maximum within reach (a combination of columns orders the "
            "events perfectly): weights are where it stopped rising; use a larger ridge"
        )
    return notes if converged or endless else [*notes, "Cox fit did not converge"]


def _shape_of_likelihood(problem: Problem, weights: np.ndarray) -> tuple[int, bool]:
    """Directions without curvature anywhere, and whether one lost its curvature on the way."""
    _, first = problem.derivatives(np.zeros_like(weights))
    values, vectors = np.linalg.eigh(first)
    seen = values > 1e-10 * max(values[-1], 1e-300)
    if not seen.any():
        return len(seen), False
    whiten = vectors[:, seen] / np.sqrt(values[seen])
    left = np.linalg.eigvalsh(whiten.T @ problem.derivatives(weights)[1] @ whiten)
    return int((~seen).sum()), bool(left[0] < SEPARATED)
