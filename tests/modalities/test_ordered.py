"""Medians of a few arrays are those of numpy, to the last bit."""

import numpy as np
import pytest

from medmcl.modalities.ordered import middle


@pytest.mark.parametrize("count", [*range(1, 20), 33, 64, 71])
def test_the_middle_of_arrays_is_their_median(count):
    arrays = np.random.default_rng(count).normal(size=(count, 4, 60)).round(1)  # with ties
    kept = arrays.copy()
    assert np.array_equal(middle(arrays), np.median(arrays, axis=0))
    assert np.array_equal(arrays, kept)
