"""Scaling of columns and of blocks of columns."""

import numpy as np
import pytest

from medmcl.evaluation.models.scaling import BlockScaling, Scaler, one_scale


def test_blocks_have_the_same_summed_variance_and_the_widest_keeps_variance_one():
    x = np.random.default_rng(0).standard_normal((50, 10)) * np.arange(1, 11) + 3
    scaled = BlockScaling((2, 8))(x)(x)
    assert np.allclose(scaled.mean(axis=0), 0)
    assert scaled[:, :2].var(axis=0).sum() == pytest.approx(8)
    assert np.allclose(scaled[:, 2:].var(axis=0), 1)
    assert np.allclose(BlockScaling((10,))(x)(x), Scaler.of(x)(x))


def test_one_scale_keeps_the_ratios_of_variances():
    x = np.random.default_rng(0).standard_normal((50, 4)) * np.array([1, 2, 0.1, 0])
    scaled = one_scale(x)(x)
    assert scaled.var(axis=0).mean() == pytest.approx(1)
    assert scaled[:, 1].std() / scaled[:, 0].std() == pytest.approx(x[:, 1].std() / x[:, 0].std())
    assert np.isfinite(one_scale(np.ones((3, 2)))(np.ones((3, 2)))).all()
