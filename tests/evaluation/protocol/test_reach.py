"""The flag of inputs that lie outside of what a run was trained on."""

import numpy as np
import pytest
from scipy.stats import binomtest

from medmcl.evaluation.protocol.reach import ColumnReach, EmbeddingReach, limit_of, read_reach


def draw(rng, count, width, *, heavy=False):
    mixing = np.random.default_rng(7).normal(size=(width, width)) / np.sqrt(width)
    core = rng.standard_t(4, (count, width)) if heavy else rng.normal(size=(count, width))
    return core @ mixing + 3.0


def plausible(flags, rate):
    """Whether a count of flags agrees with a rate, at one in ten thousand."""
    return binomtest(int(flags.sum()), len(flags), rate).pvalue > 1e-4


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("train", "tuning", "width"), [(600, 150, 20), (150, 20, 48), (80, 9, 64)])
def test_people_like_those_in_training_are_flagged_at_the_stated_rate(train, tuning, width, heavy):
    """Mean over draws of the training set: the rate is promised over both."""
    flags, rates = [], set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = draw(rng, train + tuning, width, heavy=heavy)
        rows = np.arange(len(x))
        reach = EmbeddingReach.learn(x, rows[:train], rows[train:], rows)
        flags.append(reach.distance(draw(rng, 500, width, heavy=heavy)) > 1)
        rates.add(reach.rate)
    (rate,) = rates
    people = tuning if tuning >= 99 else train + tuning
    assert rate == pytest.approx(max(1, (people + 1) // 100) / (people + 1))
    share = np.mean(flags)
    spread = np.std([one.mean() for one in flags]) / np.sqrt(len(flags))
    assert abs(share - rate) < 4 * spread + 0.004


def test_inputs_of_another_kind_are_flagged():
    rng = np.random.default_rng(0)
    x = draw(rng, 700, 16)
    rows = np.arange(700)
    reach = EmbeddingReach.learn(x, rows[:500], rows[500:], rows)
    assert reach.whose == "tuning"
    assert (reach.distance(x[:50] + 6) > 1).all()
    assert (reach.distance(x[:50] * 4 - 9) > 1).mean() > 0.9
    noise = rng.normal(size=(50, 16)) + 3.0  # as large, but without what goes together
    assert (reach.distance(noise) > 1).mean() > 0.3


def test_a_few_axes_and_the_rest_tell_an_embedding_that_is_wider_than_the_people_are_many():
    rng = np.random.default_rng(1)
    x = draw(rng, 60, 256)
    rows = np.arange(60)
    reach = EmbeddingReach.learn(x, rows[:50], rows[50:], rows)
    assert reach.axes.shape == (256, 5)
    assert reach.rate == pytest.approx(1 / 61)
    assert (reach.distance(x + 4) > 1).all()
    flat = np.ones((60, 8))
    assert not (EmbeddingReach.learn(flat, rows, rows[:0], rows).distance(flat) > 1).any()
    assert EmbeddingReach.learn(x, rows[:1], rows[:0], rows) is None


def test_records_of_one_person_count_once():
    rng = np.random.default_rng(2)
    x = draw(rng, 300, 6)
    rows, subjects = np.arange(300), np.arange(300) // 3
    once = EmbeddingReach.learn(x[::3], rows[:80], rows[80:100], rows)
    assert EmbeddingReach.learn(x, rows[:240], rows[240:], subjects).limit == once.limit


def test_columns_outside_the_train_range_are_flagged_and_missing_ones_are_not():
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.uniform(40, 79, 2000), rng.normal(27, 4, 2000), np.full(2000, 3.0)])
    rows = np.arange(2000)
    reach = ColumnReach.learn(x, ["age", "bmi", "one"], rows, rows)
    assert reach.slack < 0.02
    odd = np.array([[95, 27, 3], [20, 27, 3], [60, 27, 9], [np.nan, np.nan, 3], [60, 27, 3]])
    said = reach.outside(odd)
    some = reach.of(["one", "age"])
    assert (some.outside(odd[:, [2, 0]]) == said[:, [2, 0]]).all()
    assert said.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_the_ends_that_are_kept_are_nobodys_own():
    rng = np.random.default_rng(6)
    x = np.column_stack([rng.normal(5, 1, 300), rng.integers(31, 90, 300), np.full(300, 3.7)])
    rows = np.arange(300)
    reach = ColumnReach.learn(x, ["lab", "age", "one"], rows, rows)
    own = x[:, 0]
    assert not {reach.low[0], reach.high[0]} & {*own}
    assert (reach.low <= x.min(axis=0)).all()
    assert (reach.high >= x.max(axis=0)).all()
    assert (reach.high - reach.low)[:2] == pytest.approx(np.ptp(x[:, :2], axis=0), rel=0.11)
    assert reach.low[2] == reach.high[2] == 3.7
    assert len(f"{reach.high[0]:.10g}") <= 4


@pytest.mark.parametrize(("people", "columns"), [(300, 4), (300, 60), (60, 200)])
def test_many_columns_flag_no_more_people_than_stated(people, columns):
    flags, rates = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = np.arange(people)
        reach = ColumnReach.learn(rng.normal(size=(people, columns)), range(columns), rows, rows)
        flags.append(reach.outside(rng.normal(size=(400, columns))).any(axis=1))
        rates.append(reach.rate)
    spread = np.std([one.mean() for one in flags]) / np.sqrt(len(flags))
    assert abs(np.mean(flags) - np.mean(rates)) < 4 * spread + 0.004


def test_a_limit_is_exceeded_at_its_rate():
    rng = np.random.default_rng(4)
    beyond = [rng.normal() > limit_of(rng.normal(size=199), 0.05)[0] for _ in range(4000)]
    assert plausible(np.array(beyond), 0.05)
    assert limit_of(np.arange(10.0), 0.01) == (9.0, pytest.approx(1 / 11))


def test_what_is_kept_is_read_back_and_holds_no_row():
    rng = np.random.default_rng(5)
    x = draw(rng, 400, 12)
    rows = np.arange(400)
    reach = EmbeddingReach.learn(x, rows[:300], rows[300:], rows)
    again = read_reach(reach.about(), reach.arrays())
    assert (again.distance(x) == reach.distance(x)).all()
    assert sum(a.size for a in reach.arrays().values()) <= 12 * (1 + 12 + 1)
    columns = ColumnReach.learn(x, list("abcdefghijkl"), rows, rows)
    assert (
        read_reach(columns.about(), columns.arrays()).outside(x * 9) == columns.outside(x * 9)
    ).all()
