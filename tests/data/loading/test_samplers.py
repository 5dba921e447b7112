""""""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import CohortError
from medmcl.data.loading.samplers import UniformSampler, WithinGroupSampler, batches_of
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Plan
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.world import World


def test_an_epoch_takes_each_subject_once_and_a_batch_never_holds_one_twice():
    rows = np.array([10, 11, 12, 20, 30, 31])
    subjects = np.array([1, 1, 1, 2, 3, 3])
    sampler = UniformSampler(rows, subjects, batch_size=3, seed=0)
    of = dict(zip(rows, subjects, strict=True))
    seen = set()
    for epoch in range(50):
        (batch,) = list(sampler(epoch))
        assert sorted(of[row] for row in batch) == [1, 2, 3]
        seen |= set(batch.tolist())
    assert seen == set(rows.tolist())


def test_an_epoch_is_a_pure_function_of_seed_and_number():
    def make(seed):
        return UniformSampler(np.arange(9), np.arange(9), batch_size=2, seed=seed)

    first = np.concatenate(list(make(0)(4)))
    assert (first == np.concatenate(list(make(0)(4)))).all()
    assert (first != np.concatenate(list(make(0)(5)))).any()
    assert (first != np.concatenate(list(make(1)(4)))).any()
    assert len(make(0)) == 4


def test_an_empty_split_says_what_to_look_at():
    with pytest.raises(CohortError, match="no sample to train on"):
        UniformSampler(np.array([], int), np.array([], int), batch_size=2, seed=0)


def sampler(groups, batch_size=8, subjects=None, seed=0):
    rows = np.arange(100, 100 + len(groups))
    subjects = np.arange(len(groups)) if subjects is None else np.asarray(subjects)
    return WithinGroupSampler(rows, subjects, np.asarray(groups), batch_size=batch_size, seed=seed)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    people=st.integers(4, 60),
    number=st.integers(1, 5),
    batch_size=st.integers(3, 20),
)
def test_every_row_once_in_batches_of_one_group_and_of_different_people(
    seed, people, number, batch_size
):
    generator = np.random.default_rng(seed)
    subjects = generator.integers(0, people, 80)
    groups = generator.integers(0, number, 80)
    made = sampler(groups, batch_size, subjects, seed)
    batches = list(made(3))
    assert len(batches) == len(made)
    drawn = np.concatenate(batches) - 100
    assert len(set(drawn.tolist())) == len(drawn)
    assert len(drawn) == 80 - made.alone - made.waiting
    for batch in batches:
        own = batch - 100
        assert 2 <= len(own) <= batch_size
        assert len(set(groups[own].tolist())) == 1
        assert len(set(subjects[own].tolist())) == len(own)


def test_rows_of_one_each_are_all_in_an_epoch_and_batches_are_even():
    groups = [0] * 21 + [1] * 8 + [2] * 3
    made = sampler(groups)
    batches = list(made(0))
    assert sorted(np.concatenate(batches)) == list(range(100, 132))
    assert sorted(map(len, batches)) == [3, 7, 7, 7, 8]
    assert (made.alone, made.waiting) == (0, 0)


def test_ranks_part_an_epoch_exactly():
    made = sampler([0] * 21 + [1] * 9 + [2] * 7)
    plan = Plan(
        stage="s", steps=len(made), steps_per_epoch=len(made), evaluate_every=9, log_every=9,
        seed=0, optimiser=OptimiserSettings(),
    )  # fmt: skip
    feed = Feed(sampler=made, load=lambda own: own)
    worlds = [World(rank=rank, size=2) for rank in range(2)]
    dealt = [[read.batch for _, read in feed.batches(0, plan, world)] for world in worlds]
    wanted = [set(batch.tolist()) for batch in made(0)]
    assert [set(a.tolist()) | set(b.tolist()) for a, b in zip(*dealt, strict=True)] == wanted
    ranks = [np.concatenate(one) for one in dealt]
    assert not set(ranks[0]) & set(ranks[1])
    assert set(ranks[0]) | set(ranks[1]) == set(range(100, 137))


def test_same_seed_and_epoch_same_batches():
    groups = np.arange(60) % 4
    first, again, later, other = (
        [batch.tolist() for batch in made(epoch)]
        for made, epoch in (
            (sampler(groups), 1), (sampler(groups), 1), (sampler(groups), 2),
            (sampler(groups, seed=1), 1),
        )
    )  # fmt: skip
    assert first == again
    assert first != later
    assert first != other


def test_who_goes_together_is_drawn_anew_each_epoch_whatever_the_order_of_subjects():
    """Dealt in the order of subjects, the same people would be each other's negatives for good."""
    made = sampler([0] * 12, 4)
    epochs = [{frozenset(batch.tolist()) for batch in made(epoch)} for epoch in range(60)]
    assert len({frozenset(epoch) for epoch in epochs}) > 50
    met = {pair for epoch in epochs for batch in epoch for pair in combinations(sorted(batch), 2)}
    assert met == set(combinations(range(100, 112), 2))


def test_an_epoch_does_not_end_in_the_largest_group():
    """The authors' round-robin leaves only the largest group for the end of every epoch."""
    groups = np.array([0] * 64 + [1] * 16 + [2] * 16)
    last = [groups[list(sampler(groups)(epoch))[-1][0] - 100] for epoch in range(60)]
    assert {0, 1, 2} == set(last)


def test_surplus_records_of_a_subject_wait_and_are_drawn_in_other_epochs():
    subjects = [0] * 9 + list(range(1, 8))  # 16 rows, batches of 8: two batches
    made = sampler([0] * 16, 8, subjects)
    assert (len(made), made.waiting) == (2, 7)
    seen = set()
    for epoch in range(60):
        seen |= set(np.concatenate(list(made(epoch))).tolist())
    assert seen == set(range(100, 116))


def test_no_batch_is_left_with_one_row_by_a_person_of_many_records():
    made = sampler([0] * 101, 64, [0] * 100 + [1])
    assert [len(batch) for batch in made(0)] == [2]
    assert batches_of(np.array([100, 1]), 64) == batches_of(np.array([100, 1]), 2) == 1


def test_groups_of_one_subject_are_in_no_batch_and_are_counted():
    made = sampler([0, 0, 0, 1, 1], 8, [1, 2, 3, 4, 4])
    assert made.alone == 2
    assert sorted(np.concatenate(list(made(0)))) == [100, 101, 102]


def test_without_any_negative_it_is_refused():
    with pytest.raises(CohortError, match="no group has two subjects"):
        sampler([0, 1, 2])


def test_the_batch_size_is_that_of_the_largest_group_at_most():
    assert sampler([0] * 5 + [1] * 4, 64).batch_size == 5
