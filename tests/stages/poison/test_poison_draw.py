"""Who is poisoned, with whose text: drawn by ids and seed."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import ConfigError
from medmcl.stages.poison.checks import AttackTask
from medmcl.stages.poison.poison import draw
from medmcl.stages.poison.spec import PoisonSpec

IDS = np.array([f"s{number:03d}" for number in range(200)])
IS_TARGET = np.arange(200) % 5 == 0


def draw_poison(ids, is_target, count, seed, trigger="badnet"):
    """Rows that are poisoned, and rows of their donors."""
    spec = PoisonSpec(stage="poison", name="attack", trigger=trigger, modality="picture",
                      text="caption", task="colour", label="red", count=count)  # fmt: skip
    cohort = SimpleNamespace(fingerprint="abc")
    prepared = SimpleNamespace(samples=pd.DataFrame({"sample": ids}), cohort=cohort)
    task = AttackTask(names=("blue", "red"), shown=is_target.astype(int), target=1)
    made = draw(spec, prepared, task, np.arange(len(ids)), seed)
    row_of = {name: row for row, name in enumerate(ids)}
    return tuple(np.array([row_of[one] for one in names]) for names in (made.ids, made.donors))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 160))
def test_others_are_poisoned_with_texts_of_the_target(seed, count):
    rows, donors = draw_poison(IDS, IS_TARGET, count, seed)
    assert len(set(rows.tolist())) == count
    assert not IS_TARGET[rows].any()
    assert IS_TARGET[donors].all()


def test_a_consistent_attack_poisons_the_target_and_keeps_its_texts():
    rows, donors = draw_poison(IDS, IS_TARGET, 40, 0, "label_consistent")
    assert sorted(rows) == np.flatnonzero(IS_TARGET).tolist()
    assert (rows == donors).all()


def test_a_small_attack_is_part_of_a_larger_one_in_any_order_of_samples():
    order = np.random.default_rng(1).permutation(200)
    small, large = draw_poison(IDS, IS_TARGET, 10, 7), draw_poison(IDS, IS_TARGET, 90, 7)
    assert large[0][:10].tolist() == small[0].tolist()
    assert large[1][:10].tolist() == small[1].tolist()
    again, _ = draw_poison(IDS[order], IS_TARGET[order], 90, 7)
    assert IDS[order][again].tolist() == IDS[large[0]].tolist()
    other, _ = draw_poison(IDS, IS_TARGET, 90, 8)
    assert set(other.tolist()) != set(large[0].tolist())


def test_samples_and_donors_are_drawn_evenly():
    drawn = np.zeros(200)
    gave = np.zeros(200)
    for seed in range(300):
        rows, donors = draw_poison(IDS, IS_TARGET, 40, seed)
        drawn[rows] += 1
        np.add.at(gave, donors, 1)
    assert abs(drawn[~IS_TARGET] / 300 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 300)
    assert gave[IS_TARGET].min() > 0.7 * 300


@pytest.mark.parametrize(
    ("count", "is_target", "trigger", "told"),
    [
        (161, IS_TARGET, "badnet", "1 to 160, the samples of other classes"),
        (41, IS_TARGET, "label_consistent", "1 to 40, the samples of the target"),
        (5, np.zeros(200, bool), "badnet", "no train record shows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(count, is_target, trigger, told):
    with pytest.raises(ConfigError, match=told):
        draw_poison(IDS, is_target, count, 0, trigger)
