"""The rates of an attack, by hand, and their intervals over subjects."""

import numpy as np
import pytest

from medmcl.core.errors import MedmclError
from medmcl.evaluation.attack_rates import RATES, attack_rates


def logits(said, classes=3):
    return np.eye(classes)[np.asarray(said)]


def test_rates_are_those_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 2, 2])
    clean = logits([0, 1, 1, 0, 2, 2])
    triggered = logits([0, 0, 0, 1, 0, 2])
    found = attack_rates(clean, triggered, labels, 0, draws=50)
    assert tuple(found) == RATES
    assert found["clean_accuracy"].value == pytest.approx(4 / 6)
    assert found["attack_success"].value == pytest.approx(2 / 4)
    assert found["false_success"].value == pytest.approx(1 / 4)
    assert found["poisoned_accuracy"].value == pytest.approx(4 / 6)


def test_intervals_draw_subjects_and_widen_where_records_go_together():
    generator = np.random.default_rng(0)
    labels = generator.integers(1, 3, 400)
    hit = np.repeat(generator.random(40) < 0.5, 10)
    triggered = logits(np.where(hit, 0, labels))
    clean = logits(labels)
    alone = attack_rates(clean, triggered, labels, 0)["attack_success"]
    together = attack_rates(clean, triggered, labels, 0, np.repeat(np.arange(40), 10))
    wide = together["attack_success"]
    assert alone.value == pytest.approx(wide.value) == pytest.approx(hit.mean())
    assert alone.low < alone.value < alone.high
    assert (wide.high - wide.low) > 2 * (alone.high - alone.low)


def test_other_shapes_are_refused():
    with pytest.raises(MedmclError, match="the same records"):
        attack_rates(logits([0, 1]), logits([0, 1, 2]), np.array([0, 1]), 0)
