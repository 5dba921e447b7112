"""Predictions of a kept model are those of a row, whatever rows stand beside it."""

import numpy as np
import pytest

from medmcl.evaluation.models.linear_model import LinearModel


@pytest.mark.parametrize("link", ["logistic", "softmax", "value"])
@pytest.mark.parametrize(("width", "outputs"), [(1, 1), (7, 3), (64, 2), (129, 5), (2049, 1)])
def test_a_row_has_the_same_bits_whoever_stands_beside_it(link, width, outputs):
    rng = np.random.default_rng(width)
    weights = rng.normal(size=(width, outputs))
    model = LinearModel(link=link, weights=weights, offset=rng.normal(size=outputs))
    x = rng.normal(size=(83, width))
    whole, order = model.predict(x), rng.permutation(83)
    assert (model.predict(x[order]) == whole[order]).all()
    assert (model.predict(np.asfortranarray(x)) == whole).all()
    for size in (1, 2, 5, 32):
        parts = [model.predict(x[first : first + size]) for first in range(0, 83, size)]
        assert (np.concatenate(parts) == whole).all()
    np.testing.assert_allclose(model.scores(x), x @ weights + model.offset, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("link", ["cox", "discrete_time"])
def test_a_curve_has_the_same_bits_alone_and_at_other_times(link):
    rng = np.random.default_rng(3)
    times = np.sort(rng.random(40))
    curve = np.sort(rng.normal(size=40)) if link == "cox" else rng.normal(size=40) - 3
    model = LinearModel(link=link, weights=rng.normal(size=(65, 1)) / 8, offset=np.zeros(1),
                        times=times, curve=curve)  # fmt: skip
    x, at = rng.normal(size=(37, 65)), np.linspace(0, 1.2, 29)
    whole = model.survival(x, at)
    alone = np.concatenate([model.survival(x[k : k + 1], at) for k in range(37)])
    assert (alone == whole).all()
    assert (model.survival(x, at[11:12]) == whole[:, 11:12]).all()
