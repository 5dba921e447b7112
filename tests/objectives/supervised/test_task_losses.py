from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made_targets import targets_of

from medmcl.core.errors import ConfigError
from medmcl.objectives.supervised import (
    class_loss,
    class_weights,
    label_loss,
    label_weights,
    mean_and_deviation,
    value_loss,
)


def tensor(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, device="cpu")


LOGITS = tensor([[0.3, -1.0], [2.0, 0.5], [-0.7, 1.5]])
LABELS = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
KNOWN = tensor([[1, 1], [1, 0], [0, 1]], torch.bool)


def test_label_loss_is_the_formula_as_loops_over_known_labels():
    weights, s = tensor([[1.0, 2.0], [0.5, 3.0]]), 0.2
    total, count = 0.0, 0
    for i in range(3):
        for c in range(2):
            if KNOWN[i, c]:
                p = 1 / (1 + math.exp(-LOGITS[i, c]))
                y = LABELS[i, c].item() * (1 - s) + s / 2
                w = weights[c, int(LABELS[i, c])].item()
                total -= w * (y * math.log(p) + (1 - y) * math.log(1 - p))
                count += 1
    loss, counted = label_loss(LOGITS, LABELS, KNOWN, weights, s)
    assert (loss.item(), counted) == (pytest.approx(total / count), count)


def test_class_loss_is_the_formula_as_loops_over_known_rows():
    logits, classes = tensor([[0.1, 1.0, -1.0], [2.0, 0.0, 0.5], [0.0, 0.3, 0.2]]), [2, 0, 1]
    known, weights, s = tensor([1, 0, 1], torch.bool), tensor([1.0, 2.0, 0.5]), 0.1
    total = 0.0
    for i in (0, 2):
        norm = math.log(sum(math.exp(v) for v in logits[i]))
        for k in range(3):
            y = (1 - s) * (classes[i] == k) + s / 3
            total -= weights[k].item() * y * (logits[i, k].item() - norm)
    loss, counted = class_loss(logits, tensor(classes), known, weights, s)
    assert (loss.item(), counted) == (pytest.approx(total / 2), 2)


def test_missing_values_do_not_dilute_the_squared_error():
    prediction = tensor([[1.0, 5.0], [3.0, 0.0]])
    targets, known = tensor([[0.0, math.nan], [1.0, 0.0]]), tensor([[1, 0], [1, 0]], torch.bool)
    loss, counted = value_loss(prediction, targets, known)
    assert (loss.item(), counted) == (pytest.approx((1 + 4) / 2), 2)


@pytest.mark.parametrize("kind", ["labels", "classes", "values"])
def test_gradients_are_those_of_finite_differences(kind):
    x = LOGITS.clone().requires_grad_()
    ones = torch.ones(2, 2, dtype=torch.float64, device="cpu")
    losses = {
        "labels": lambda z: label_loss(z, LABELS, KNOWN, ones, 0.1)[0],
        "classes": lambda z: class_loss(z, LABELS[:, 0], KNOWN[:, 0], ones[0], 0.1)[0],
        "values": lambda z: value_loss(z, LABELS, KNOWN)[0],
    }
    assert torch.autograd.gradcheck(losses[kind], x)


def test_balanced_weights_give_classes_equal_shares_of_the_known_rows():
    task = targets_of(
        "multilabel", [[1, 0], [0, 0], [0, 1], [0, 1]], [[1, 1], [1, 1], [1, 1], [1, 0]]
    )
    np.testing.assert_allclose(label_weights(task), [[4 / 6, 4 / 2], [3 / 4, 3 / 2]])
    task = targets_of("multiclass", [[0], [1], [1], [1]], classes=("x", "y"))
    np.testing.assert_allclose(class_weights(task), [4 / 2, 4 / 6])


def test_a_class_that_train_does_not_have_cannot_be_balanced():
    with pytest.raises(ConfigError, match="missing: 1"):
        label_weights(targets_of("binary", [[0], [0]]))
    with pytest.raises(ConfigError, match="missing: z"):
        class_weights(targets_of("multiclass", [[0], [1]], classes=("x", "y", "z")))


def test_standardisation_sees_known_values_only():
    task = targets_of("regression", [[1, 50], [3, 60], [0, 70]], [[1, 1], [1, 1], [0, 1]])
    mean, deviation = mean_and_deviation(task)
    np.testing.assert_allclose(mean, [2, 60])
    np.testing.assert_allclose(deviation, [1, math.sqrt(200 / 3)])
    with pytest.raises(ConfigError, match="two different"):
        mean_and_deviation(targets_of("regression", [[1], [1]]))
