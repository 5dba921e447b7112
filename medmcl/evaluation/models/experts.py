"""A product of experts: one linear probe a modality, what they say added up, the prior once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax

from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cox import cox_loss
from medmcl.evaluation.models.cox_model import baseline_hazard
from medmcl.evaluation.models.linear_model import LinearModel, Link
from medmcl.evaluation.models.probe import linear_probe

SUREST = 30.0
"""Log odds beyond which no expert goes: a class it never saw is not proof against the others."""
STEADY = 1.0
"""Weight of the prior belief that a slope is 1, in rows: few tuning rows move it little."""


def product_of_experts(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    widths: tuple[int, ...],
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Fit a linear probe a modality on the rows that have it, and add up what they say.

    Classes and labels: ``prior + sum over those present (score - own prior)`` on the scale of log
    odds, each expert's own prior being the class shares of its train rows: the posterior if the
    modalities are independent given the class. They never quite are, and the sum is too sure:
    ``intercept + slope * sum``, fitted on ``tuning``, takes that back (a slope alone for classes).
    Survival: log hazards, each less its mean over its train rows, added; a slope by Cox's partial
    likelihood on ``tuning``; one baseline hazard. Numbers: Gaussian experts, weighted by their
    precision on ``tuning``; such a product is not linear and is not kept for other cohorts.

    Args:
        features: Blocks side by side, zeros where absent, then a flag a modality; (N, sum + M).
        targets: The task, over the same N rows.
        train: Rows to fit on (indices).
        tuning: Rows to choose penalties and to calibrate on (indices); without any, the slope is 1.
        widths: Columns of each block.
        refit_on: Rows to fit the chosen penalties on; default ``train``.

    Raises:
        LeakageError: As `linear_probe`.
    """
    targets.refuse_leak("the calibration of a product of experts", tuning)
    final = np.asarray(train if refit_on is None else refit_on, dtype=np.int64)
    job = _Job(np.asarray(features, dtype=np.float64), targets, widths)
    first = job.experts(train, tuning, train)
    last = first if refit_on is None else job.experts(train, tuning, final)
    notes = tuple(dict.fromkeys(note for one in last for note in one.notes))
    chosen = tuple(value for one in last for value in one.chosen)
    if targets.kind == "regression":
        found = _gaussian(job, first, last, np.asarray(train), np.asarray(tuning), final)
        return Fitted(predict=found, chosen=chosen, notes=notes)
    slope, intercept = _calibration(job, job.joined(first, train), tuning)
    model = job.joined(last, final)
    model = replace(model, weights=model.weights * slope, offset=model.offset * slope + intercept)
    if targets.kind == "survival":
        # The same log hazards with a baseline of the rows fitted on
        rows = final[job.targets.complete[final] & job.flags[final].any(axis=1)]
        event, time = job.targets.event[rows], job.targets.time[rows]
        baseline = baseline_hazard(model.scores(job.x[rows])[:, 0], event, time)
        model = replace(model, times=baseline.times, curve=baseline.log_cumulative)
    return Fitted.of(model, chosen, notes)


_LINKS: dict[str, Link] = {
    "binary": "logistic",
    "multilabel": "logistic",
    "multiclass": "softmax",
    "regression": "value",
    "survival": "cox",
}


@dataclass(frozen=True)
class _Job:
    """The table and how its columns are parted."""

    x: np.ndarray
    targets: Targets
    widths: tuple[int, ...]

    @property
    def flags(self) -> np.ndarray:
        """(N, M) bool."""
        return np.asarray(self.x[:, -len(self.widths) :] > 0)

    def block(self, k: int) -> slice:
        """Columns of a modality."""
        first = sum(self.widths[:k])
        return slice(first, first + self.widths[k])

    def experts(self, train: np.ndarray, tuning: np.ndarray, final: np.ndarray) -> list[Fitted]:
        """A probe a modality, on the rows that have it."""
        found = []
        for k in range(len(self.widths)):
            has = self.flags[:, k]
            parts = [np.asarray(r, dtype=np.int64) for r in (train, tuning, final)]
            parts = [rows[has[rows]] for rows in parts]
            if not len(parts[0]) or not len(parts[2]):
                found.append(self._silent(k))
                continue
            found.append(
                linear_probe(
                    self.x[:, self.block(k)], self.targets, parts[0], parts[1], refit_on=parts[2]
                )
            )
        return found

    def _silent(self, k: int) -> Fitted:
        """An expert that no training row has taught anything: it says nothing."""
        link, weights = (
            _LINKS[self.targets.kind],
            np.zeros((self.widths[k], self.targets.num_outputs)),
        )
        nothing = LinearModel(link=link, weights=weights, offset=weights.sum(axis=0))
        return Fitted.of(nothing, notes=("a modality that no training row has says nothing",))

    def joined(self, experts: list[Fitted], rows: np.ndarray) -> LinearModel:
        """All experts as one model of the table: what each adds, by its flag."""
        models = [one.linear for one in experts if one.linear is not None]
        prior = self.prior(rows)
        weights = np.zeros((self.x.shape[1], len(prior)))
        for k, model in enumerate(models):
            own = np.asarray(rows)[self.flags[np.asarray(rows), k]]
            weights[self.block(k)] = model.weights
            offset = np.clip(model.offset, -SUREST, SUREST)
            if model.has_curves:  # log hazards count from the mean of the rows fitted on
                mean = model.scores(self.x[own, self.block(k)]).mean(axis=0) if len(own) else 0.0
                weights[self.x.shape[1] - len(models) + k] = model.offset - mean
            elif len(own):
                weights[self.x.shape[1] - len(models) + k] = offset - self.prior(own)
        return LinearModel(link=models[0].link, weights=weights, offset=prior)

    def prior(self, rows: np.ndarray) -> np.ndarray:
        """Log odds (or log shares) of the outcome among rows, (C,); zero for survival."""
        targets, rows = self.targets, np.asarray(rows, dtype=np.int64)
        if targets.kind == "survival":
            return np.zeros(1)
        values, known = targets.values[rows], targets.known[rows]
        if targets.kind == "multiclass":
            count = len(targets.classes)
            labels = values[known[:, 0], 0].astype(int)
            shares = np.bincount(labels, minlength=count) / max(1, len(labels))
            if not len(labels):
                shares = np.full(count, 1 / count)
            with np.errstate(divide="ignore"):
                return np.asarray(np.maximum(np.log(shares), -SUREST))
        if targets.kind == "regression":
            counts = known.sum(axis=0)
            return np.asarray(values.sum(axis=0) / np.maximum(1, counts))
        some = known.sum(axis=0)
        share = np.where(some > 0, ((values > 0) & known).sum(axis=0) / np.maximum(1, some), 0.5)
        with np.errstate(divide="ignore"):
            return np.asarray(np.clip(np.log(share) - np.log1p(-share), -SUREST, SUREST))


def _calibration(
    job: _Job, model: LinearModel, tuning: np.ndarray
) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Slope and intercept of each column, fitted on tuning rows that have something."""
    targets, rows = job.targets, np.asarray(tuning, dtype=np.int64)
    rows = rows[job.flags[rows].any(axis=1)]
    scores = model.scores(job.x[rows])
    if targets.kind == "survival":
        rows_known = targets.complete[rows]
        event, time = targets.event[rows[rows_known]], targets.time[rows[rows_known]]
        if not event.any():
            return 1.0, 0.0
        eta = scores[rows_known]
        return _minimise(lambda x: cox_loss(x, eta, event, time), 1)[0], 0.0
    if targets.kind == "multiclass":
        known = targets.known[rows, 0]
        labels = targets.values[rows[known], 0].astype(int)
        if not len(labels):
            return 1.0, 0.0
        return _minimise(_class_loss(scores[known], labels), 1)[0], 0.0
    slopes, intercepts = np.ones(scores.shape[1]), np.zeros(scores.shape[1])
    for column in range(scores.shape[1]):
        known = targets.known[rows, column]
        labels = targets.values[rows[known], column] > 0
        if labels.any() and not labels.all():
            loss = _label_loss(scores[known, column], labels)
            slopes[column], intercepts[column] = _minimise(loss, 2)
    return slopes, intercepts


Loss = Callable[[np.ndarray], float]


def _minimise(loss: Loss, size: int) -> np.ndarray:
    """Slope (and intercept) of the lowest loss; the slope is never below zero."""
    from scipy.optimize import minimize

    start = np.array([1.0, 0.0])[:size]
    bounds = [(0.0, None), (None, None)][:size]

    def penalised(x: np.ndarray) -> float:
        return loss(x) + 0.5 * STEADY * float(((x - start) ** 2).sum())

    return np.asarray(minimize(penalised, start, method="L-BFGS-B", bounds=bounds).x)


def _label_loss(scores: np.ndarray, labels: np.ndarray) -> Loss:
    sign = np.where(labels, 1.0, -1.0)
    return lambda x: float(np.logaddexp(0.0, -sign * (x[0] * scores + x[1])).sum())


def _class_loss(scores: np.ndarray, labels: np.ndarray) -> Loss:
    rows = np.arange(len(labels))
    return lambda x: -float(log_softmax(x[0] * scores, axis=1)[rows, labels].sum())


@dataclass(frozen=True)
class _Gaussian:
    """Numbers: posterior mean of a Gaussian prior and Gaussian experts.

    Attributes:
        widths: Columns of each modality's block.
        models: Expert of each modality.
        priors: Mean of the outcome among the rows of each expert. (M, C)
        gains: Precision that each expert adds to the prior, zero or more. (M, C)
        prior: Mean of the outcome. (C,)
        precision: Of the prior. (C,)
    """

    widths: tuple[int, ...]
    models: tuple[LinearModel, ...]
    priors: np.ndarray
    gains: np.ndarray
    prior: np.ndarray
    precision: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Posterior mean, (N, C)."""
        job = _Job(np.asarray(features, dtype=np.float64), _NO_TARGETS, self.widths)
        total = np.broadcast_to(self.precision * self.prior, (len(features), len(self.prior)))
        weight = np.broadcast_to(self.precision, total.shape)
        for k, model in enumerate(self.models):
            flag = job.flags[:, k : k + 1]
            said = model.scores(job.x[:, job.block(k)])
            # the expert's posterior is (its precision) * said; less its prior leaves what it saw
            whole = (self.gains[k] + self.precision) * said - self.precision * self.priors[k]
            total = total + flag * np.where(self.gains[k] > 0, whole, 0.0)
            weight = weight + flag * self.gains[k]
        return np.asarray(total / weight)


_NO_TARGETS = Targets(
    name="", kind="regression", columns=("",), values=np.zeros((0, 1)), known=np.zeros((0, 1), bool)
)


def _gaussian(
    job: _Job,
    first: list[Fitted],
    last: list[Fitted],
    train: np.ndarray,
    tuning: np.ndarray,
    final: np.ndarray,
) -> _Gaussian:
    """Weigh experts by their errors on tuning (on train, where there is no tuning)."""
    targets = job.targets
    judged = tuning if len(tuning) else train
    spread = _variance(targets, final, job.prior(final)[None])
    gains = []
    for k, expert in enumerate(first):
        rows = judged[job.flags[judged, k]]
        said = expert.predict(job.x[rows, job.block(k)])
        error = _variance(targets, rows, said, few=spread)
        gains.append(np.maximum(0.0, 1 / np.maximum(error, 1e-12 * spread) - 1 / spread))
    priors = [job.prior(final[job.flags[final, k]]) for k in range(len(job.widths))]
    return _Gaussian(
        widths=job.widths,
        models=tuple(one.linear for one in last if one.linear is not None),
        priors=np.stack(priors),
        gains=np.stack(gains),
        prior=job.prior(final),
        precision=1 / spread,
    )


def _variance(
    targets: Targets, rows: np.ndarray, said: np.ndarray, few: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared error of each column where it is known; ``few`` for fewer than two rows."""
    known = targets.known[rows]
    count = known.sum(axis=0)
    error = (np.where(known, targets.values[rows] - said, 0.0) ** 2).sum(axis=0)
    found = error / np.maximum(1, count)
    otherwise = np.ones(targets.values.shape[1]) if few is None else few
    return np.asarray(np.where((count > 1) & (found > 0), found, otherwise))
