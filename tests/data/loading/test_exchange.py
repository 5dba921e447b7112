"""Permutations in which nobody gets what is like their own."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from medmcl.core.rng import numpy_generator
from medmcl.data.loading.noisy_pairs import exchange


def drawn(*kinds, seed=0):
    given = exchange(np.stack(kinds), numpy_generator(seed, "test"))
    assert sorted(given) == list(range(len(kinds[0])))  # nothing is lost, nothing stands twice
    return given


def fewest_left(kind):
    """Rows that keep their own in the best of all permutations, by trying them all."""
    rows = range(len(kind))
    alike = [
        [kind[row] == kind[other] for row, other in zip(rows, order, strict=True) if row != other]
        for order in permutations(rows)
    ]
    return min(len(kind) - len(one) for one in alike if not any(one))


@pytest.mark.parametrize("seed", range(40))
def test_as_few_keep_their_own_as_can_be(seed):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, rng.integers(1, 5), rng.integers(1, 8))
    given = drawn(kind, seed=seed)
    stays = given == np.arange(len(kind))
    assert (kind[given] != kind)[~stays].all()
    assert stays.sum() == fewest_left(kind)


def test_two_kinds_are_both_kept_apart():
    rng = np.random.default_rng(0)
    record, label = rng.integers(0, 300, 500), rng.integers(0, 3, 500)
    given = drawn(record, label)
    assert (record[given] != record).all()
    assert (label[given] != label).all()


def test_the_largest_kind_keeps_what_it_has_too_many_of():
    label = np.repeat([0, 1, 2], [3000, 600, 400])
    given = drawn(np.arange(4000), label)
    stays = given == np.arange(4000)
    assert stays.sum() == 3000 - 1000
    assert set(label[stays]) == {0}


def test_partners_are_drawn_evenly():
    counts = np.zeros((4, 4))
    for seed in range(3000):
        counts[np.arange(4), drawn(np.arange(4), seed=seed)] += 1
    assert not counts.diagonal().any()
    shares = counts[~np.eye(4, dtype=bool)] / 3000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


def test_alone_or_all_alike_means_as_it_was():
    assert drawn([7]).tolist() == [0]
    assert drawn([]).tolist() == []
    assert drawn([5, 5, 5]).tolist() == [0, 1, 2]
