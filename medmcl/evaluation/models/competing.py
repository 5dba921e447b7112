"""Competing risks: cumulative incidence, without features and from a model of each event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.survival.kaplan_meier import aalen_johansen_at, codes_of
from medmcl.evaluation.models.contract import Fitted, KeptModel

CELLS = 4_000_000
"""Numbers (rows times event times) held at once."""
NO_RIVAL = "no competing event in training"
"""Note of a predictor whose own curves are absolute."""


def cumulative_incidence(
    event: np.ndarray,
    time: np.ndarray,
    times: np.ndarray,
    *,
    cause: int = 1,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Estimate P(T <= times[t], event of ``cause``) while other causes compete (Aalen-Johansen).

    With a single cause it is one minus Kaplan-Meier. Those censored at a time are at risk of the
    events at that time. After the last time seen it stays flat.

    Args:
        event: 0 = censored, 1.. = cause. (N,) int.
        time: Follow-up >= 0, (N,).
        times: Where to give it, (T,).
        cause: The cause of interest.
        weights: Times each row stands, (N,) or (N, W); default once.

    Returns:
        (T,), or (T, W) for weights (N, W). NaN for a column whose weights are all zero.

    Raises:
        ConfigError: As `codes_of`.
    Source:
        Aalen & Johansen 1978, Scand J Stat 5:141-150. Differs: none.
    """
    codes, followed = codes_of(event, time)
    one = weights is None or np.ndim(weights) == 1
    table = np.ones(len(followed)) if weights is None else np.asarray(weights, dtype=np.float64)
    table = table[:, None] if one else table
    wanted = np.asarray(times, dtype=np.float64)
    found = aalen_johansen_at(codes, followed, table, wanted, causes=(cause,), extend=True)[0]
    return found[:, 0] if one else found


@dataclass(frozen=True)
class AbsoluteRisk:
    """A probe of the event and, in the same way, of the competing one: curves are absolute.

    The survival of what it fits is one minus the cumulative incidence of the event; its log hazard
    and its model are those of the event alone, competing events censored.

    Attributes:
        fit: A probe: ``(features, targets, train, tuning, refit_on=...) -> Fitted``.
    """

    fit: Callable[..., Fitted]

    def __call__(
        self,
        features: np.ndarray,
        targets: Targets,
        train: np.ndarray,
        tuning: np.ndarray,
        *,
        refit_on: np.ndarray | None = None,
    ) -> Fitted:
        """Fit both."""
        own = self.fit(features, targets, train, tuning, refit_on=refit_on)
        rows = np.asarray(train if refit_on is None else refit_on, dtype=np.int64)
        if targets.competing is None or not targets.competing[rows].any():
            return replace(own, notes=(*own.notes, NO_RIVAL))
        other = self.fit(features, targets.of_competing(), train, tuning, refit_on=refit_on)
        said = (f"of the competing event: {n}" for n in other.notes if n not in own.notes)
        notes = (*own.notes, *said)
        if own.survival is None or other.survival is None:
            return replace(own, survival=None, times=None, notes=notes)
        return replace(own, survival=EventFree(own, other), notes=notes)


@dataclass(frozen=True)
class EventFree:
    """P(not the event by a time), while the other competes.

    At a time where the hazards step, the probability ``1 - exp(-sum of steps)`` is shared by both
    events as their steps are.

    Source:
        Benichou & Gail 1990, Biometrics 46:813-826. Differs: none.

    Attributes:
        own: Predictor of the event, the competing one censored.
        other: Predictor of the competing event, this one censored.
    """

    own: Fitted
    other: Fitted

    def __call__(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Of features (N, E), at times (T,): (N, T)."""
        x, wanted = np.asarray(features), np.asarray(times, dtype=np.float64)
        steps = [part.times for part in (self.own, self.other) if part.times is not None]
        grid = np.unique(np.concatenate([*steps, wanted]))
        where = np.searchsorted(grid, wanted)
        found = np.zeros((len(x), len(wanted)))
        size = max(1, CELLS // len(grid))
        for first in range(0, len(x), size):
            part = x[first : first + size]
            own, other = (_hazard(one, part, grid) for one in (self.own, self.other))
            found[first : first + size] = 1 - _rising(own, own + other)[:, where]
        return found


def event_free(
    model: KeptModel, rival: KeptModel | None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Give P(not the event by a time) of kept models; ``rival``: of the competing event, if any."""
    if rival is None:
        return model.survival
    return EventFree(Fitted.of(model), Fitted.of(rival))


def _hazard(fitted: Fitted, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    assert fitted.survival is not None  # checked where both were fitted
    with np.errstate(divide="ignore"):
        return np.minimum(-np.log(fitted.survival(x, grid)), 1e6)


def _rising(own: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Incidence at each time from cumulative hazards, of the cause and of all, (N, K)."""
    steps, own_steps = np.diff(total, axis=1, prepend=0.0), np.diff(own, axis=1, prepend=0.0)
    share = own_steps / np.where(steps > 0, steps, 1.0)
    return np.asarray(np.cumsum(np.exp(steps - total) * -np.expm1(-steps) * share, axis=1))
