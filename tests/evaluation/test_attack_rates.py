"""The rates of an attack, by hand, and their intervals over subjects."""

import numpy as np
import pytest

from medmcl.evaluation.aspects.attack.figures import attack_lines, attack_pictures
from medmcl.evaluation.aspects.attack.rates import RATES, attack_rates, compare_attacks
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME


def logits(said, classes=3):
    return np.eye(classes)[np.asarray(said)]


def test_rates_are_those_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 2, 2])
    clean = logits([0, 1, 1, 0, 2, 2])
    triggered = logits([0, 0, 0, 1, 0, 2])
    found = attack_rates(clean, triggered, labels, 0, Resampling(draws=50))
    assert list(found) == list(RATES)
    assert found["clean_accuracy"].value == pytest.approx(4 / 6)
    assert found["attack_success"].value == pytest.approx(2 / 4)
    assert found["false_success"].value == pytest.approx(1 / 4)
    assert found["poisoned_accuracy"].value == pytest.approx(4 / 6)
    assert found["trigger_effect"].value == pytest.approx(2 / 4 - 1 / 4)


def test_intervals_draw_subjects_and_widen_where_records_go_together():
    generator = np.random.default_rng(0)
    labels = generator.integers(1, 3, 400)
    hit = np.repeat(generator.random(40) < 0.5, 10)
    triggered = logits(np.where(hit, 0, labels))
    clean = logits(labels)
    alone = attack_rates(clean, triggered, labels, 0)["attack_success"]
    people = Resampling(np.repeat(np.arange(40), 10))
    together = attack_rates(clean, triggered, labels, 0, people)
    wide = together["attack_success"]
    assert alone.value == pytest.approx(wide.value) == pytest.approx(hit.mean())
    assert alone.low < alone.value < alone.high
    assert (wide.high - wide.low) > 2 * (alone.high - alone.low)


def test_the_effect_of_a_trigger_is_paired_and_may_be_below_zero():
    generator = np.random.default_rng(2)
    labels = generator.integers(1, 3, 300)
    told = np.where(generator.random(300) < 0.5, 0, labels)  # half are told so anyway
    found = attack_rates(logits(told), logits(told), labels, 0)
    assert found["attack_success"].value == pytest.approx((told == 0).mean())
    effect = found["trigger_effect"]
    assert effect.low == effect.value == effect.high == 0
    shifted = np.where(generator.random(300) < 0.2, labels, told)
    fewer = attack_rates(logits(told), logits(shifted), labels, 0)["trigger_effect"]
    expected = ((shifted == 0).astype(float) - (told == 0)).mean()
    assert fewer.value == pytest.approx(expected)
    assert fewer.low < expected < fewer.high < 0
    drawn = attack_rates(logits(told), logits(shifted), labels, 0)
    wide = drawn["attack_success"].high - drawn["attack_success"].low
    assert fewer.high - fewer.low < 0.8 * wide  # not as two rates side by side


def test_in_short_says_that_an_attack_did_not_take():
    labels = np.random.default_rng(4).integers(0, 3, 300)
    lured = np.where(np.arange(300) % 10 < 8, 0, labels)
    right = logits(labels)
    for triggered, took in ((logits(lured), True), (right, False)):
        told = {"victim": (right, triggered), "cured": (right, right)}
        rows = compare_attacks(told, labels, 0, task="attack", label="colour = red")
        lines = attack_lines(rows)
        assert ["did not take" in line for line in lines] == [not took, False]
        assert ["The attack took" in line for line in lines] == [took, False]
    by = {
        "zero_shot": {"victim": (right, right)},
        "linear_probe": {"victim": (right, logits(lured))},
    }
    rows = [row for way, told in by.items()
            for row in compare_attacks(told, labels, 0, task="attack", protocol=way)]  # fmt: skip
    (line,) = attack_lines(rows)
    assert "The attack took (trigger_effect linear-probe 0.8" in line
    assert "not zero-shot 0.000)" in line
    assert line.count("attack success") == 2


def test_the_legend_of_models_lies_beside_the_panels(legends_beside):
    labels = np.random.default_rng(5).integers(0, 3, 90)
    told = {f"model number {k} of six": (logits(labels), logits(0 * labels)) for k in range(6)}
    rows = [
        row
        for way in ("zero_shot", "linear_probe")
        for row in compare_attacks(
            told, labels, 0, task="attack", protocol=way, resampling=Resampling(draws=20)
        )
    ]
    (picture,) = attack_pictures(rows)
    assert len(picture.rows) == 12
    assert legends_beside() == 1


def test_a_rate_of_nothing_keeps_an_interval_with_a_width():
    labels = np.repeat([0, 1, 2], 20)
    found = attack_rates(logits(labels), logits(labels), labels, 0)["attack_success"]
    assert found.value == 0 == found.low
    assert 0.05 < found.high < 0.12  # Wilson of 0 of 40
    assert "Wilson" in found.note


def test_a_difference_is_of_the_same_draws_and_says_for_whom_it_is_better():
    labels = np.random.default_rng(1).integers(0, 3, 300)
    others = np.flatnonzero(labels != 0)
    said = {}
    for name, share in (("victim", 0.9), ("cured", 0.3)):
        lured = labels.copy()
        lured[others[: round(share * len(others))]] = 0
        said[name] = (logits(labels), logits(lured))
    rows = compare_attacks(said, labels, 0, task="attack", label="colour = red")
    (gap,) = [row for row in rows if row.versus and row.metric == "attack_success"]
    assert (gap.method, gap.versus, gap.direction) == ("cured", "victim", "lower")
    lower = (round(0.3 * len(others)) - round(0.9 * len(others))) / len(others)
    assert gap.value == pytest.approx(lower)
    assert gap.low < lower < gap.high < 0
    alone = {row.metric: row for row in rows if row.method == "cured" and not row.versus}
    assert gap.high - gap.low < 2 * (alone["attack_success"].high - alone["attack_success"].low)
    (same,) = [row for row in rows if row.versus and row.metric == "clean_accuracy"]
    assert same.value == 0
    assert (same.low, ALL_THE_SAME in same.note) == (None, True)
    assert {row.kind for row in rows} == {"attack"}


def test_whole_sites_are_drawn_where_they_are_given():
    generator = np.random.default_rng(3)
    labels = generator.integers(1, 3, 400)
    site = np.repeat(np.arange(8), 50)
    hit = site % 2 == 0
    told = {"m": (logits(labels), logits(np.where(hit, 0, labels)))}
    rows = {}
    for name, sites in (("subjects", None), ("sites", site)):
        found = compare_attacks(told, labels, 0, resampling=Resampling(clusters=sites))
        rows[name] = next(row for row in found if row.metric == "attack_success")
    assert rows["sites"].resampling == "site"
    assert rows["sites"].high - rows["sites"].low > 3 * (
        rows["subjects"].high - rows["subjects"].low
    )
