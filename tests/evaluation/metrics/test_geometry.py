from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation import alignment, effective_rank, uniformity

RNG = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.ones((10, 4))) == pytest.approx(1)
    assert effective_rank(np.zeros((10, 4))) == 0
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(
        np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    )


def test_uniformity_and_alignment_equal_slow_loops():
    a, b = unit(RNG.normal(size=(12, 5))), unit(RNG.normal(size=(12, 5)))
    pairs = [np.exp(-2 * ((a[i] - a[j]) ** 2).sum()) for i in range(12) for j in range(i)]
    assert uniformity(a) == pytest.approx(np.log(np.mean(pairs)))
    assert alignment(a, b) == pytest.approx(np.mean([((x - y) ** 2).sum() for x, y in zip(a, b)]))  # noqa: B905  # both have 12 rows
    assert alignment(a, a) == 0


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="two rows"):
        uniformity(np.ones((1, 3)))
    with pytest.raises(ValueError, match="partners"):
        alignment(np.ones((2, 3)), np.ones((3, 3)))


def test_many_rows_are_thinned():
    x = unit(RNG.normal(size=(2100, 3)))
    assert uniformity(x) == pytest.approx(uniformity(x[:2000]), abs=0.1)
    drawn = uniformity(x, generator=np.random.default_rng(0))
    assert drawn == pytest.approx(uniformity(x), abs=0.1)
