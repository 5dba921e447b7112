import numpy as np
import pytest

from medmcl.core.errors import CohortError
from medmcl.data.loading.samplers import UniformSampler


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
