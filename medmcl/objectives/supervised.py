"""Supervised training: a head on one or several modalities, charged by a task's known targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.layers import AttentionPool, masked_mean, widen
from medmcl.core.targets import Targets
from medmcl.objectives.settings import SupervisedSettings


def cox_partial_likelihood(
    log_hazard: Tensor,
    time: Tensor | np.ndarray,
    event: Tensor | np.ndarray,
    ties: Literal["efron", "breslow"] = "efron",
) -> Tensor:
    """Give the negative log partial likelihood, a mean over events.

    The risk set of an event holds every row whose time is not earlier; a row censored at the very
    time of an event still counts as at risk.

    Args:
        log_hazard: (B,), higher = earlier event expected.
        time: Time to event or to censoring, (B,), any unit.
        event: Whether the event was seen, (B,), bool or 0 and 1.
        ties: How events at one time share their risk set.

    Returns:
        Scalar, nats an event; lower is better.

    Raises:
        MedmclError: If shapes differ, a time is not finite, or there is no event.

    Source:
        Cox 1975, Biometrika 62(2):269; Breslow 1974, Biometrics 30(1):89; Efron 1977,
        JASA 72(359):557. Differs: mean over events in place of the sum.
    """
    if not log_hazard.shape == time.shape == event.shape or log_hazard.ndim != 1:
        raise MedmclError(
            "log_hazard, time and event must have one shape (B,)",
            got=f"{tuple(log_hazard.shape)}, {tuple(time.shape)}, {tuple(event.shape)}",
        )
    times, happened = host.read(time), host.read(event).astype(bool)
    if not happened.any():
        raise MedmclError("Cox's likelihood needs at least one event", got=f"{len(time)} censored")
    if not np.isfinite(times).all():
        raise MedmclError("a survival time is not finite")
    device = log_hazard.device
    latest = np.argsort(-times, kind="stable")
    ends = np.append(np.diff(times[latest]) != 0, True)  # of rows of one time
    order, group = (
        torch.from_numpy(x).to(device, non_blocking=True) for x in (latest, np.cumsum(ends) - ends)
    )
    hazard = widen(log_hazard)[order]
    at_risk = torch.logcumsumexp(hazard, 0)[host.numbers(ends, device)][group]
    if ties == "efron":
        dead = torch.from_numpy(happened[latest]).to(device, hazard.dtype, non_blocking=True)
        at_risk = at_risk + _efron(hazard - at_risk, dead, group, int(ends.sum()))
    return (at_risk - hazard)[host.numbers(happened[latest], device)].mean()


def _efron(share: Tensor, dead: Tensor, group: Tensor, groups: int) -> Tensor:
    """Log of the part of its risk set that the n-th of several tied events still faces.

    ``share`` is the log-hazard minus that of the whole risk set, (B,), latest time first; ``dead``
    is 1 for an event and 0 for a row that was censored.
    """
    deaths = share.new_zeros(groups).index_add(0, group, dead)
    earlier = (torch.cumsum(deaths, 0) - deaths)[group]
    place = torch.cumsum(dead, 0) - dead - earlier
    tied = share.new_zeros(groups).index_add(0, group, share.exp() * dead)[group]
    return torch.log1p(-place * dead / deaths[group].clamp(min=1) * tied)


def label_loss(
    logits: Tensor, labels: Tensor, known: Tensor | np.ndarray, weights: Tensor, smoothing: float
) -> tuple[Tensor, int]:
    """Give the binary cross-entropy over known labels, and their number.

    Args:
        logits: (B, C).
        labels: 0 or 1, (B, C).
        known: (B, C) bool; what is not known has no influence.
        weights: Weight of a 0 and of a 1 in each column, (C, 2).
        smoothing: s turns labels into ``(1 - s) y + s / 2``.

    Returns:
        Scalar in nats, lower is better, and the number of known labels.

    Source:
        Cross-entropy; smoothing: Szegedy et al. 2016, section 7, arXiv 1512.00567. Differs: the
        weighted sum is divided by the number of labels, not by the sum of weights, so that it is a
        mean over labels however they are spread over ranks.
    """
    places, columns = host.numbers(known, logits.device), known.shape[1]
    logits, truth = widen(logits).reshape(-1)[places], labels.reshape(-1)[places]
    weight = weights[places % columns, truth.long()].to(logits.dtype)
    soft = truth.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, soft, weight), len(truth)


def class_loss(
    logits: Tensor, classes: Tensor, known: Tensor | np.ndarray, weights: Tensor, smoothing: float
) -> tuple[Tensor, int]:
    """Give the cross-entropy over rows of known class, and their number.

    Args:
        logits: (B, K).
        classes: Number of the class, (B,).
        known: (B,) bool.
        weights: Weight of each class, (K,).
        smoothing: Share of the target that is spread evenly over the classes.

    Returns:
        Scalar in nats, lower is better, and the number of rows.

    Source:
        As `label_loss`. Differs: divided by the number of rows, not by the sum of weights.
    """
    rows = host.numbers(known, logits.device)
    logits, truth = widen(logits)[rows], classes[rows].long()
    each = functional.cross_entropy(
        logits, truth, weights.to(logits.dtype), reduction="none", label_smoothing=smoothing
    )
    return each.mean(), len(truth)


def value_loss(
    standardised: Tensor, targets: Tensor, known: Tensor | np.ndarray
) -> tuple[Tensor, int]:
    """Give the mean squared error over known values, and their number.

    Args:
        standardised: Predictions in standard deviations from the mean, (B, C).
        targets: Standardised targets, (B, C).
        known: (B, C) bool.

    Returns:
        Scalar, lower is better (1 for predicting the mean), and the number of known values.

    Source:
        Squared error as in Turgut et al. 2025. Differs: a missing value is left out of the mean;
        the authors' code counts it as an error of zero.
    """
    places = host.numbers(known, standardised.device)
    prediction = widen(standardised).reshape(-1)[places]
    truth = targets.reshape(-1)[places].to(prediction.dtype)
    return functional.mse_loss(prediction, truth), len(truth)


def label_weights(task: Targets) -> np.ndarray:
    """Balanced weights of 0 and 1, (C, 2): both carry half of a column's known rows.

    Raises:
        ConfigError: If a column's known rows are all of one class.
    """
    weights = np.ones((len(task.columns), 2))
    for column, name in enumerate(task.columns):
        values = task.values[task.known[:, column], column]
        counts = np.array([(values < 0.5).sum(), (values >= 0.5).sum()])
        weights[column] = _balanced(counts, f"{task.name}.{name}", ("0", "1"))
    return weights


def class_weights(task: Targets) -> np.ndarray:
    """Balanced weights of each class, (K,): every class carries the same share of known rows."""
    values = task.values[task.known[:, 0], 0].astype(int)
    counts = np.bincount(values, minlength=len(task.classes))
    return _balanced(counts, task.name, task.classes)


def mean_and_deviation(task: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the known values of each column, each (C,).

    Raises:
        ConfigError: If a column has fewer than two known values, or they are all equal.
    """
    means, deviations = [], []
    for column, name in enumerate(task.columns):
        values = task.values[task.known[:, column], column]
        deviation = values.std() if len(values) else 0.0
        if not deviation > 0:
            raise ConfigError(
                "a regression target needs at least two different known values in train",
                where=f"task {task.name}, column {name}",
                got=f"{len(values)} known",
            )
        means.append(values.mean())
        deviations.append(deviation)
    return np.array(means), np.array(deviations)


def constant_outputs(task: Targets, weights: np.ndarray, smoothing: float) -> np.ndarray:
    """Give the outputs, the same for every row, that a task's loss charges least for, (outputs,).

    One row of each class is added, so that a class that no train row has is unlikely, not
    impossible.

    Args:
        task: With its train rows.
        weights: Of classes (K,) or of 0 and 1 in each column (C, 2), as the loss takes them.
        smoothing: Of labels, as the loss takes it.

    Returns:
        Logits; of a regression the standardised mean, of survival one log-hazard: zeros.
    """
    if task.kind == "multiclass":
        counts = np.bincount(task.values[task.known[:, 0], 0].astype(int), minlength=len(weights))
        shares = (counts + 1) * weights
        shares = (1 - smoothing) * shares / shares.sum() + smoothing / len(shares)
        return np.asarray(np.log(shares))
    if task.kind not in ("binary", "multilabel"):
        return np.zeros(task.num_outputs)
    ones = ((task.values >= 0.5) & task.known).sum(axis=0) + 1
    zeros = task.known.sum(axis=0) + 2 - ones
    share = ones * weights[:, 1] / (ones * weights[:, 1] + zeros * weights[:, 0])
    share = (1 - smoothing) * share + smoothing / 2
    return np.asarray(np.log(share / (1 - share)))


def _balanced(counts: np.ndarray, where: str, names: tuple[str, ...]) -> np.ndarray:
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise ConfigError(
            f"balanced weights need every class in train; missing: {', '.join(empty)}",
            where=where,
            fix="set class_weights: none, or take the class out of the task",
        )
    return np.asarray(counts.sum() / (len(counts) * counts))


def _placed(rows: np.ndarray, device: torch.device) -> Tensor:
    """Numbers of rows, where they are taken from."""
    return torch.from_numpy(rows).to(device, non_blocking=True)


class Supervised(nn.Module):
    """A pooled representation, dropout and one linear layer.

    Binary, multilabel and multiclass tasks pay cross-entropy; regression pays the squared error of
    standardised targets; survival pays Cox's partial likelihood over the global batch. What is not
    known has no influence, and a task without known targets in the batch is left out.

    Source:
        Fine-tuning of Turgut et al. 2025, arXiv 2308.05764. Differs: classes are balanced by
        weights on request, not by dropping rows; missing targets do not dilute the loss.
    """

    Settings = SupervisedSettings

    def __init__(self, settings: SupervisedSettings, shape: ModelShape) -> None:
        super().__init__()
        self.settings = settings
        self.task: Targets = lookup("task", settings.task, shape.tasks)
        for name in settings.modalities:
            lookup("modality", name, shape.inputs)
        self.views: tuple[str, ...] = (settings.view,)
        self.terms: tuple[str, ...] = (f"supervised/{settings.task}",)
        survival = self.task.kind == "survival"
        self.across_ranks: Literal["gather", "rows"] = "gather" if survival else "rows"
        read = "features" if settings.pooling == "features" else "tokens"
        self.reads: str = read
        self.gathers: tuple[str, ...] = (read,) if survival else ()
        widths = [shape.widths[name] for name in settings.modalities]
        if settings.pooling == "attention":
            self.pools = nn.ModuleDict(
                {
                    name: AttentionPool(width, settings.heads)
                    for name, width in zip(settings.modalities, widths, strict=True)
                }
            )
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(self._joined_width(widths), self.task.num_outputs)
        self._learn_from(self.task)

    def _joined_width(self, widths: list[int]) -> int:
        if self.settings.join == "concat":
            return sum(widths)
        if len(set(widths)) > 1:
            raise ConfigError(
                "join: mean needs modalities of one width",
                got=dict(zip(self.settings.modalities, widths, strict=True)),
                fix="use join: concat",
            )
        return widths[0]

    def _learn_from(self, task: Targets) -> None:
        """Keep class weights and standardisation; they travel with the weights of the run."""
        empty = len(task.values) == 0
        outputs = task.num_outputs
        shape = {"multiclass": (outputs,), "binary": (outputs, 2), "multilabel": (outputs, 2)}
        weights = np.ones(shape.get(task.kind, (0,)))
        if self.settings.class_weights == "balanced" and task.kind in shape:
            unknown = np.full_like(weights, np.nan)
            balance = class_weights if task.kind == "multiclass" else label_weights
            weights = unknown if empty else balance(task)
        mean, deviation = np.zeros(outputs), np.ones(outputs)
        if task.kind == "regression":
            unknown = np.full(outputs, np.nan)
            mean, deviation = (unknown, unknown) if empty else mean_and_deviation(task)
        for name, values in (("weights", weights), ("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32, device="cpu"))
        self.weights: Tensor
        self._is_told = not empty
        constant = np.zeros(outputs)
        if not empty:
            constant = constant_outputs(task, weights, self.settings.label_smoothing)
        kept = torch.tensor(constant, dtype=torch.float32, device="cpu")
        self.register_buffer("constant", kept, persistent=False)
        self.constant: Tensor
        self.mean: Tensor
        self.deviation: Tensor
        self._ready = False

    def forward(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]:
        """Give one term, or none if the batch has no row with the input and a known target."""
        self._require_fitted()
        embeddings = seen[self.settings.view]
        name = self.settings.task
        if name not in batch.known:
            raise ConfigError(f"batches hold no targets of task '{name}'",
                              expected=", ".join(batch.known) or "targets")  # fmt: skip
        known = batch.values(batch.known[name])
        complete = self.task.kind == "survival"
        useful = known.all(1) if complete else known.any(1)
        rows = np.flatnonzero(self.rows(embeddings) & useful)
        if len(rows) == 0:
            return {}
        charged = self._charge(self._outputs(embeddings, rows), *self._truth(batch, rows))
        if charged is None:
            return {}
        return {self.terms[0]: Term(*charged, chance=self._chance(batch, rows))}

    @torch.no_grad()
    def _chance(self, batch: Batch, rows: np.ndarray) -> Tensor | None:
        """What is charged whoever gives every row the outputs that suit the train rows best."""
        if not self._is_told:
            return None
        outputs = self.constant.expand(len(rows), -1)
        charged = self._charge(outputs, *self._truth(batch, rows))
        return None if charged is None else charged[0]

    def _truth(self, batch: Batch, rows: np.ndarray) -> tuple[Tensor | np.ndarray, np.ndarray]:
        """Targets of some rows, of survival where the host has them, and which are known."""
        targets = batch.targets[self.settings.task]
        known = batch.values(batch.known[self.settings.task])[rows]
        if self.task.kind == "survival":
            return batch.values(targets)[rows], known
        return targets[_placed(rows, targets.device)], known

    def _charge(
        self, outputs: Tensor, targets: Tensor | np.ndarray, known: Tensor | np.ndarray
    ) -> tuple[Tensor, int] | None:
        smoothing = self.settings.label_smoothing
        if self.task.kind == "survival":
            time, event = host.read(targets)[:, 0], host.read(targets)[:, 1] > 0.5
            if not event.any() or len(time) < 2:
                return None
            loss = cox_partial_likelihood(outputs[:, 0], time, event, self.settings.ties)
            return loss, int(event.sum())
        assert isinstance(targets, Tensor)  # `_truth`
        if self.task.kind in ("binary", "multilabel"):
            return label_loss(outputs, targets, known, self.weights, smoothing)
        if self.task.kind == "multiclass":
            return class_loss(outputs, targets[:, 0], known[:, 0], self.weights, smoothing)
        return value_loss(outputs, (targets - self.mean) / self.deviation, known)

    def predict(self, embeddings: Embeddings) -> Tensor:
        """Predict every row, (B, outputs); NaN where the modalities needed are absent.

        Returns:
            Probabilities (binary, multilabel, multiclass), values in the target's unit
            (regression), or the log-hazard, higher = earlier event (survival).
        """
        self._require_fitted()
        present = self.rows(embeddings)
        rows = np.flatnonzero(present)
        outputs = widen(self._outputs(embeddings, rows))
        if self.task.kind in ("binary", "multilabel"):
            outputs = outputs.sigmoid()
        elif self.task.kind == "multiclass":
            outputs = outputs.softmax(1)
        elif self.task.kind == "regression":
            outputs = outputs * self.deviation + self.mean
        blank = outputs.new_full((len(present), outputs.shape[1]), torch.nan)
        return blank.index_copy(0, _placed(rows, blank.device), outputs)

    def rows(self, embeddings: Embeddings) -> np.ndarray:
        """Rows that have the modalities the head reads, (B,) bool."""
        for name in self.settings.modalities:
            if name not in getattr(embeddings, self.reads):
                raise ConfigError(
                    f"the view '{self.settings.view}' gives no {self.reads} of '{name}'",
                    where=f"objective 'supervised', task {self.settings.task}",
                    fix="use pooling: features, or a view that shows the modality",
                )
        batch = embeddings.batch
        present = {name: batch.values(batch.present[name]) for name in self.settings.modalities}
        return self.readable(present)

    def readable(self, present: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows that have what the head reads, (B,) bool, by who has each modality, (B,) bool."""
        joined = np.logical_and if self.settings.join == "concat" else np.logical_or
        found: np.ndarray = joined.reduce([present[name] for name in self.settings.modalities])
        return found

    def _outputs(self, embeddings: Embeddings, rows: np.ndarray) -> Tensor:
        parts = [self._pool(embeddings, name, rows) for name in self.settings.modalities]
        if self.settings.join == "concat":
            joined = torch.cat(parts, 1)
        else:
            here, present = _placed(rows, parts[0].device), embeddings.batch.present
            shares = torch.stack([present[name][here] for name in self.settings.modalities]).to(
                parts[0].dtype
            )
            joined = torch.stack(parts).sum(0) / shares.sum(0)[:, None]
        outputs: Tensor = self.head(self.dropout(joined))
        return outputs

    def _pool(self, embeddings: Embeddings, name: str, rows: np.ndarray) -> Tensor:
        """Representation of ``rows``, (R, E), from those rows only; zeros where absent."""
        batch = embeddings.batch
        has = batch.values(batch.present[name])[rows]
        taken = _placed(rows[has], batch.ids.device)
        padding = embeddings.padding.get(name)
        padding = None if padding is None else padding[taken]
        source = getattr(embeddings, self.reads)[name][taken]
        if self.settings.pooling == "attention":
            pooled = self.pools[name](source, padding)
        elif self.settings.pooling == "mean":
            pooled = masked_mean(source, padding)
        else:
            pooled = source
        blank = pooled.new_zeros((len(rows), pooled.shape[1]))
        return blank.index_copy(0, host.numbers(has, blank.device), pooled)

    def _require_fitted(self) -> None:
        if self._ready:
            return
        kept = (self.weights, self.mean, self.deviation)
        if any(np.isnan(host.read(buffer)).any() for buffer in kept):
            raise ArtefactError(
                "no train targets were given to take class weights or a mean and deviation from",
                where=f"objective 'supervised', task {self.settings.task}",
                fix="load trained weights first, or give the task with its train rows",
            )
        self._ready = True
