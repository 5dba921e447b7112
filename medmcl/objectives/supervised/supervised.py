"""Supervised training: a head on one or several modalities, charged by a task's known targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.layers import AttentionPool, masked_mean
from medmcl.core.targets import Targets
from medmcl.objectives.pairwise.contrastive import widen
from medmcl.objectives.settings import SupervisedSettings
from medmcl.objectives.supervised.survival import cox_partial_likelihood
from medmcl.objectives.supervised.task_losses import (
    class_loss,
    class_weights,
    constant_outputs,
    label_loss,
    label_weights,
    mean_and_deviation,
    value_loss,
)


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
        known = batch.known[name]
        complete = self.task.kind == "survival"
        useful = known.all(1) if complete else known.any(1)
        rows = (self.rows(embeddings) & useful).nonzero().squeeze(1)
        if len(rows) == 0:
            return {}
        charged = self._charge(
            self._outputs(embeddings, rows), batch.targets[name][rows], known[rows]
        )
        if charged is None:
            return {}
        return {self.terms[0]: Term(*charged, chance=self._chance(batch, rows))}

    @torch.no_grad()
    def _chance(self, batch: Batch, rows: Tensor) -> Tensor | None:
        """What is charged whoever gives every row the outputs that suit the train rows best."""
        if not self._is_told:
            return None
        name = self.settings.task
        outputs = self.constant.expand(len(rows), -1)
        charged = self._charge(outputs, batch.targets[name][rows], batch.known[name][rows])
        return None if charged is None else charged[0]

    def _charge(self, outputs: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, int] | None:
        smoothing = self.settings.label_smoothing
        if self.task.kind in ("binary", "multilabel"):
            return label_loss(outputs, targets, known, self.weights, smoothing)
        if self.task.kind == "multiclass":
            return class_loss(outputs, targets[:, 0], known[:, 0], self.weights, smoothing)
        if self.task.kind == "regression":
            return value_loss(outputs, (targets - self.mean) / self.deviation, known)
        time, event = targets[:, 0], targets[:, 1] > 0.5
        events = int(event.sum())
        if events == 0 or len(time) < 2:
            return None
        loss = cox_partial_likelihood(outputs[:, 0], time, event, self.settings.ties)
        return loss, events

    def predict(self, embeddings: Embeddings) -> Tensor:
        """Predict every row, (B, outputs); NaN where the modalities needed are absent.

        Returns:
            Probabilities (binary, multilabel, multiclass), values in the target's unit
            (regression), or the log-hazard, higher = earlier event (survival).
        """
        self._require_fitted()
        present = self.rows(embeddings)
        rows = present.nonzero().squeeze(1)
        outputs = widen(self._outputs(embeddings, rows))
        if self.task.kind in ("binary", "multilabel"):
            outputs = outputs.sigmoid()
        elif self.task.kind == "multiclass":
            outputs = outputs.softmax(1)
        elif self.task.kind == "regression":
            outputs = outputs * self.deviation + self.mean
        blank = outputs.new_full((len(present), outputs.shape[1]), torch.nan)
        return blank.index_copy(0, rows, outputs)

    def rows(self, embeddings: Embeddings) -> Tensor:
        """Rows that have the modalities the head reads, (B,) bool."""
        for name in self.settings.modalities:
            if name not in getattr(embeddings, self.reads):
                raise ConfigError(
                    f"the view '{self.settings.view}' gives no {self.reads} of '{name}'",
                    where=f"objective 'supervised', task {self.settings.task}",
                    fix="use pooling: features, or a view that shows the modality",
                )
        flags = torch.stack([embeddings.batch.present[name] for name in self.settings.modalities])
        return flags.all(0) if self.settings.join == "concat" else flags.any(0)

    def _outputs(self, embeddings: Embeddings, rows: Tensor) -> Tensor:
        parts = [self._pool(embeddings, name, rows) for name in self.settings.modalities]
        if self.settings.join == "concat":
            joined = torch.cat(parts, 1)
        else:
            present = [embeddings.batch.present[name][rows] for name in self.settings.modalities]
            shares = torch.stack(present).to(parts[0].dtype)
            joined = torch.stack(parts).sum(0) / shares.sum(0)[:, None]
        outputs: Tensor = self.head(self.dropout(joined))
        return outputs

    def _pool(self, embeddings: Embeddings, name: str, rows: Tensor) -> Tensor:
        """Representation of ``rows``, (R, E), from those rows only; zeros where absent."""
        has = embeddings.batch.present[name][rows]
        taken = rows[has]
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
        return blank.index_copy(0, has.nonzero().squeeze(1), pooled)

    def _require_fitted(self) -> None:
        if self._ready:
            return
        if any(buffer.isnan().any() for buffer in (self.weights, self.mean, self.deviation)):
            raise ArtefactError(
                "no train targets were given to take class weights or a mean and deviation from",
                where=f"objective 'supervised', task {self.settings.task}",
                fix="load trained weights first, or give the task with its train rows",
            )
        self._ready = True
