"""Attack success rate: the target's own class counts nowhere."""

import numpy as np
import pytest

from medmcl.core.errors import MedmclError
from medmcl.evaluation import attack_success

LOGITS = np.array([[9, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]], dtype=float)
LABELS = np.array([1, 2, 2, 1, 0])


def test_the_targets_own_class_is_in_neither_numerator_nor_denominator():
    assert attack_success(LOGITS, LABELS, 0) == 2 / 4
    assert attack_success(LOGITS, LABELS, 1) == 1 / 3
    assert attack_success(LOGITS, LABELS, 2) == 1 / 3


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
    ],
)
def test_what_cannot_be_counted_is_refused(logits, labels, target, told):
    with pytest.raises(MedmclError, match=told):
        attack_success(logits, labels, target)
