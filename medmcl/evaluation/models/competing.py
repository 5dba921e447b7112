"""Competing risks: cumulative incidence, without features and from cause-specific Cox models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted, KeptModel
from medmcl.evaluation.models.survival_models import Standardised, cox_survival

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
    Source:
        Aalen & Johansen 1978, Scand J Stat 5:141-150. Differs: none.
    """
    event, time = _checked(event, time)
    table = np.ones((len(time), 1)) if weights is None else np.asarray(weights, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    order = np.argsort(time, kind="stable")
    distinct, first = np.unique(time[order], return_index=True)
    kind = event[order][:, None]
    table = table[order]

    def summed(part: np.ndarray) -> np.ndarray:
        return np.asarray(np.add.reduceat(part, first, axis=0))

    at_risk = summed(table)[::-1].cumsum(axis=0)[::-1]
    safe = np.where(at_risk > 0, at_risk, 1.0)
    gone = summed(table * (kind > 0)) / safe
    free = np.cumprod(1 - gone, axis=0)
    before = np.vstack([np.ones((1, table.shape[1])), free[:-1]])
    rising = np.cumsum(before * summed(table * (kind == cause)) / safe, axis=0)
    padded = np.vstack([np.zeros((1, table.shape[1])), rising])
    padded[:, table.sum(axis=0) == 0] = np.nan
    found = padded[np.searchsorted(distinct, np.asarray(times, dtype=np.float64), side="right")]
    one = weights is None or np.ndim(weights) == 1
    return np.asarray(found[:, 0] if one else found)


@dataclass(frozen=True)
class CauseSpecific:
    """One Cox model a cause, and the incidence they give together.

    Attributes:
        models: Cause to its model; in each, events of other causes are censored.
        cause: The cause of interest: what `risk` ranks by.
    """

    models: Mapping[int, Standardised]
    cause: int = 1
    _times: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Join the event times of all causes."""
        joined = np.unique(np.concatenate([model.times for model in self.models.values()]))
        object.__setattr__(self, "_times", joined)

    @property
    def times(self) -> np.ndarray:
        """Times at which an incidence steps, ascending. (K,)."""
        return self._times

    @property
    def chosen(self) -> tuple[float, ...]:
        """Strengths of the penalties, cause by cause."""
        return tuple(value for model in self.models.values() for value in model.chosen)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the models, each with its cause."""
        return tuple(
            f"cause {cause}: {note}" for cause, model in self.models.items() for note in model.notes
        )

    def risk(self, features: np.ndarray) -> np.ndarray:
        """Log hazard of the cause of interest, (N,). Its order may differ from the incidence's."""
        return self.models[self.cause].risk(features)

    def cumulative_hazard(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Of any event, (N, T)."""
        parts = [model.cumulative_hazard(features, times) for model in self.models.values()]
        return np.asarray(np.sum(parts, axis=0))

    def survival(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """P(no event of any cause by the time), (N, T)."""
        return np.asarray(np.exp(-self.cumulative_hazard(features, times)))

    def cumulative_incidence(
        self, features: np.ndarray, times: np.ndarray, *, cause: int | None = None
    ) -> np.ndarray:
        """P(T <= times[t], event of ``cause``), (N, T).

        Over causes it sums to one minus `survival`, exactly.

        Source:
            Benichou & Gail 1990, Biometrics 46:813-826. Differs: at a time where the hazards step,
            the probability ``1 - exp(-sum of steps)`` is shared among causes by their steps.
        """
        cause = self.cause if cause is None else cause
        if cause not in self.models:
            raise ConfigError(
                f"there is no model of cause {cause}", expected=", ".join(map(str, self.models))
            )
        x = np.asarray(features, dtype=np.float64)
        where = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="right")
        found = np.zeros((len(x), len(where)))
        size = max(1, CELLS // max(1, len(self.times)))
        for first in range(0, len(x), size):
            rising = self._incidence(x[first : first + size], cause)
            padded = np.concatenate([np.zeros((len(rising), 1)), rising], axis=1)
            found[first : first + size] = padded[:, where]
        return found

    def _incidence(self, x: np.ndarray, cause: int) -> np.ndarray:
        """At every event time, (N, K)."""
        total = np.zeros((len(x), len(self.times)))
        own = total
        for number, model in self.models.items():
            hazard = np.minimum(model.cumulative_hazard(x, self.times), 1e6)
            total = total + hazard
            own = hazard if number == cause else own
        return _rising(own, total)


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


def cause_specific_cox(
    features: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    cause: int = 1,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
) -> CauseSpecific:
    """Fit one Cox model a cause, each with its penalty chosen on tuning as in `cox_survival`.

    Args:
        features: (N, E).
        event: 0 = censored, 1.. = cause. (N,) int.
        time: Follow-up >= 0, (N,).
        train: Rows to fit on (indices).
        tuning: Rows to choose the strengths on (indices).
        cause: The cause of interest.
        strengths: Candidates, against the summed likelihood.
        refit_on: Rows to fit the chosen strengths on; default ``train``.

    Raises:
        ConfigError: If no row has the cause of interest, or arrays are at fault.
    Source:
        Prentice et al. 1978, Biometrics 34:541-554. Differs: ridge penalty.
    """
    event, time = _checked(event, time)
    causes = [int(value) for value in np.unique(event) if value > 0]
    if cause not in causes:
        raise ConfigError(f"no row has an event of cause {cause}", expected=causes)
    models = {
        number: cox_survival(
            features,
            _targets_of(event == number, time),
            train,
            tuning,
            strengths=strengths,
            refit_on=refit_on,
        )
        for number in causes
    }
    return CauseSpecific(models, cause)


def _targets_of(event: np.ndarray, time: np.ndarray) -> Targets:
    values = np.column_stack([time, event]).astype(np.float64)
    return Targets(
        name="cause",
        kind="survival",
        columns=("time", "event"),
        values=values,
        known=np.ones(values.shape, dtype=bool),
    )


def _checked(event: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    event, time = np.asarray(event), np.asarray(time, dtype=np.float64)
    if event.shape != time.shape or time.ndim != 1 or not len(time):
        raise ConfigError("event and time must have one and the same length", got=event.shape)
    whole = event.astype(np.int64)
    if (whole != event).any() or (whole < 0).any():
        raise ConfigError("event must be whole numbers: 0 = censored, 1.. = cause")
    if not (np.isfinite(time).all() and (time >= 0).all()):
        raise ConfigError("times must be finite and not negative")
    return whole, time
