"""Attack success rate: the target's own class counts nowhere."""

import numpy as np
import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.evaluation import attack_rates, attack_success
from medmcl.evaluation.metrics.intervals import Resampling

LOGITS = np.array([[9, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]], dtype=float)
LABELS = np.array([1, 2, 2, 1, 0])


def test_slow_count_over_random_models():
    generator = np.random.default_rng(0)
    for _ in range(50):
        logits = generator.normal(size=(30, 4))
        labels = generator.integers(4, size=30)
        target = int(generator.integers(4))
        hits = total = 0
        for row, label in zip(logits, labels, strict=True):
            if label == target:
                continue
            total += 1
            hits += max(range(4), key=lambda c, row=row: row[c]) == target
        assert attack_success(logits, labels, target) == pytest.approx(hits / total)


@pytest.mark.parametrize(
    ("logits", "labels", "target", "told"),
    [
        (LOGITS, LABELS[:3], 0, "do not fit"),
        (LOGITS[0], LABELS, 0, "do not fit"),
        (LOGITS, LABELS, 3, "no column"),
        (LOGITS, LABELS + 1, 0, "no column"),
        (LOGITS * np.nan, LABELS, 0, "not finite"),
        (LOGITS, np.zeros(5, int), 0, "every record is of the target class"),
        (LOGITS, LABELS + 0.5, 0, "whole numbers"),
        (LOGITS, LABELS, 1.7, "the number of a column"),
        (LOGITS, LABELS, None, "the number of a column"),
        (LOGITS, LABELS, "x", "the number of a column"),
        (LOGITS, LABELS, "0", "the number of a column"),
        (LOGITS, LABELS, True, "the number of a column"),
        (LOGITS, LABELS, np.nan, "the number of a column"),
        (LOGITS, LABELS, np.inf, "the number of a column"),
        (LOGITS, LABELS, [0], "the number of a column"),
        (LOGITS, LABELS, torch.tensor([0, 1]), "the number of a column"),
        (LOGITS, LABELS, torch.tensor(0.5), "the number of a column"),
        (LOGITS, ["a", "b", "b", "a", "c"], 0, "labels: must be numbers, and these are words"),
        (LOGITS, None, 0, "do not fit"),
        (None, LABELS, 0, "do not fit"),
        (LOGITS.astype(str), LABELS, 0, "logits: must be numbers"),
        (LOGITS + 1j, LABELS, 0, "logits: must be numbers"),
        (torch.tensor(LOGITS) + 1j, LABELS, 0, "logits: must be numbers"),
        ([[1.0, 2.0], [1.0]], [0, 1], 0, "rows of one length"),
        (LOGITS, [[1], [2, 2], [1], [0], [0]], 0, "rows of one length"),
        ([], [], 0, "do not fit"),
    ],
)
def test_what_cannot_be_counted_is_refused(logits, labels, target, told):
    with pytest.raises(MedmclError, match=told):
        attack_success(logits, labels, target)
    with pytest.raises(MedmclError):
        attack_rates(logits, logits, labels, target, Resampling(draws=5))


@pytest.mark.parametrize(
    "target",
    [1, 1.0, np.int64(1), np.uint8(1), np.array(1), torch.tensor(1), torch.tensor(1.0)],
    ids=repr,
)
@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        LOGITS.tolist(),
        LOGITS.astype(np.int16),
        torch.tensor(LOGITS, requires_grad=True),
        torch.tensor(LOGITS, dtype=torch.bfloat16),
        list(torch.tensor(LOGITS, dtype=torch.float16, requires_grad=True)),
    ],
    ids=lambda one: f"{type(one).__name__} {getattr(one, 'dtype', '')}",
)
def test_tensors_arrays_and_lists_of_any_kind_are_counted_alike(logits, target):
    for labels in (LABELS, LABELS.tolist(), torch.tensor(LABELS), LABELS.astype(float)):
        assert attack_success(logits, labels, target) == 1 / 3
        rates = attack_rates(logits, logits, labels, target, Resampling(draws=5))
        assert rates["attack_success"].value == 1 / 3


def test_groups_and_logits_of_other_records_are_refused():
    with pytest.raises(MedmclError, match="the same records"):
        attack_rates(LOGITS[:2], LOGITS, LABELS, 0)
    with pytest.raises(MedmclError, match="4 subjects"):
        attack_rates(LOGITS, LOGITS, LABELS, 0, Resampling(np.arange(4)))
