"""Losses of supervised tasks, each a mean over the target values that are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.objectives.pairwise.contrastive import widen


def label_loss(
    logits: Tensor, labels: Tensor, known: Tensor, weights: Tensor, smoothing: float
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
    logits, truth = widen(logits)[known], labels[known]
    column = torch.arange(known.shape[1], device=known.device).expand_as(known)[known]
    weight = weights[column, truth.long()].to(logits.dtype)
    soft = truth.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, soft, weight), len(truth)


def class_loss(
    logits: Tensor, classes: Tensor, known: Tensor, weights: Tensor, smoothing: float
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
    logits, truth = widen(logits)[known], classes[known].long()
    each = functional.cross_entropy(
        logits, truth, weights.to(logits.dtype), reduction="none", label_smoothing=smoothing
    )
    return each.mean(), len(truth)


def value_loss(standardised: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, int]:
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
    prediction = widen(standardised)[known]
    truth = targets[known].to(prediction.dtype)
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
