"""Survival metrics as the bootstrap needs them: kernels with their time grid and censoring rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from medmcl.evaluation.metrics.metric import Direction, Metric, as_float
from medmcl.evaluation.metrics.survival import kernels
from medmcl.evaluation.metrics.survival.censoring import Outcome, grid_of, limit, reached, remark
from medmcl.evaluation.metrics.survival.kaplan_meier import codes_of, outcome_of

ROUNDING = 1e-9  # probabilities may leave [0, 1] by this much and are moved back
NO_PAIR = "no event that the censoring curve can weigh precedes another's follow-up"
NO_CASE = "no event by the time, or nobody followed beyond it"
NO_EVENT = "no event by the last of the times"


@dataclass(frozen=True)
class SurvivalMetric(Metric):
    """A metric of (event, time, predictions); predictions are (N,) or one column a time (N, T).

    Attributes:
        times: Time grid, empty where the metric has none.
        censoring: Outcome of the rows that give the censoring curve; None = the scored rows.
        tau: Truncation of the C-index.
        has_causes: Whether events are codes: 0 = censored, 1 = the event, 2.. = competing ones.
    """

    times: tuple[float, ...] = ()
    censoring: Outcome | None = field(default=None, compare=False, repr=False)
    tau: float | None = None
    has_causes: bool = False

    def check(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Give event (bool), time and predictions; refuse what is malformed."""
        event, time, predictions = arrays
        happened, followed = (codes_of if self.has_causes else outcome_of)(event, time)
        predicted = self.prepare(predictions)
        allowed = {(len(followed),), (len(followed), len(self.times))}
        if predicted.shape not in allowed if self.times else predicted.shape != followed.shape:
            shape = f"(N,) or (N, {len(self.times)})" if self.times else "(N,)"
            raise ValueError(f"{self.name}: predictions must be {shape}, got {predicted.shape}")
        if not np.isfinite(predicted).all():
            raise ValueError(f"{self.name}: predictions must be finite numbers")
        return happened, followed, predicted

    def reason(self, arrays: Sequence[np.ndarray]) -> str:
        """Say what checked arrays lack, as `why`."""
        return self.why(arrays[0] > 0, arrays[1])

    def why(self, event: np.ndarray, time: np.ndarray) -> str:
        """Say why the metric does not exist for an outcome."""
        if len(time) == 0:
            return "no rows"
        if self.times:
            grid = np.array(self.times)
            kept = reached(grid, event, time, self.censoring)
            if not kept.any():
                return limit(time, grid[0], self.censoring)
            if len(grid) > 1 and kept.sum() == 1 and self.name == "integrated_brier":
                return f"one time within follow-up: {limit(time, grid[1], self.censoring)}"
        return "no events" if not event.any() else self.missing

    def remark_of(self, arrays: Sequence[np.ndarray]) -> str:
        """Say which times were left out for checked arrays, as `remark`."""
        return self.remark(arrays[0] > 0, arrays[1]) if len(arrays[1]) else ""

    def remark(self, event: Any, time: Any) -> str:
        """Say which times of the grid were left out and why; empty if none."""
        if not self.times:
            return ""
        happened, followed = outcome_of(event, time)
        grid = np.array(self.times)
        kept = reached(grid, happened, followed, self.censoring)
        return remark(grid, kept, followed, self.censoring)


def survival_probabilities(predictions: Any) -> np.ndarray:
    """Refuse survival that is no probability; rounding errors are moved into [0, 1]."""
    array = as_float(predictions)
    if ((array < -ROUNDING) | (array > 1 + ROUNDING)).any():
        raise ValueError("survival must be probabilities between 0 and 1")
    return np.clip(array, 0.0, 1.0)


def c_index_ipcw_metric(
    *, censoring: tuple[Any, Any] | None = None, tau: float | None = None
) -> SurvivalMetric:
    """Give `c_index_ipcw` as the bootstrap needs it: (event, time, risk)."""
    source = _source(censoring)
    if tau is not None and not tau > 0:
        raise ValueError(f"tau: must be above zero, got {tau}")
    draws = partial(kernels.c_index_ipcw, censoring=source, tau=tau)
    return SurvivalMetric(
        "c_index_ipcw", "higher", draws, NO_PAIR, 0.5, True, censoring=source, tau=tau
    )


def auc_metric(
    times: Any, *, censoring: tuple[Any, Any] | None = None, name: str = "time_dependent_auc"
) -> SurvivalMetric:
    """Give the AUC at one time, or its mean over several: (event, time, risk)."""
    return _over_time(
        name, "higher", kernels.mean_dynamic_auc, NO_CASE, 0.5, as_float, times, censoring
    )


def brier_metric(
    at: float, *, censoring: tuple[Any, Any] | None = None, name: str = "brier_at"
) -> SurvivalMetric:
    """Give the Brier score at one time for the bootstrap: (event, time, survival at it (N,))."""

    def draws(*arrays: np.ndarray, **settings: Any) -> np.ndarray:
        return np.asarray(kernels.brier_over_times(*arrays, **settings)[0])

    if np.ndim(at) != 0:
        raise ValueError("brier_metric: give one time; integrated_brier_metric takes several")
    return _over_time(name, "lower", draws, NO_EVENT, None, survival_probabilities, at, censoring)


def integrated_brier_metric(
    times: Any, *, censoring: tuple[Any, Any] | None = None
) -> SurvivalMetric:
    """Give `integrated_brier` for the bootstrap: (event, time, survival (N, T))."""
    if len(grid_of(times)) < 2:
        raise ValueError("integrated_brier: needs at least two times")
    return _over_time(
        "integrated_brier",
        "lower",
        kernels.integrated_brier,
        NO_EVENT,
        None,
        survival_probabilities,
        times,
        censoring,
    )


def _over_time(
    name: str,
    direction: Direction,
    kernel: Callable[..., np.ndarray],
    missing: str,
    chance: float | None,
    prepare: Callable[[Any], np.ndarray],
    times: Any,
    censoring: tuple[Any, Any] | None,
) -> SurvivalMetric:
    grid, source = grid_of(times), _source(censoring)
    draws = partial(kernel, times=grid, censoring=source)
    return SurvivalMetric(
        name, direction, draws, missing, chance, True, prepare,
        times=tuple(grid.tolist()), censoring=source,
    )  # fmt: skip


def _source(censoring: tuple[Any, Any] | None) -> Outcome | None:
    return None if censoring is None else outcome_of(*censoring)
