from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation import cosine_map, localise, mass_inside
from medmcl.evaluation.metrics.intervals import Resampling

RNG = np.random.default_rng(0)


def test_a_cosine_map_equals_slow_loops():
    tokens, pooled = RNG.normal(size=(2, 6, 4)), RNG.normal(size=(2, 4))
    found = cosine_map(tokens, pooled, (2, 3))
    for b in range(2):
        for t in range(6):
            x, y = tokens[b, t], pooled[b]
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            assert found[b, t // 3, t % 3] == pytest.approx(cosine)
    with pytest.raises(ValueError, match="grid"):
        cosine_map(tokens, pooled, (2, 2))


@pytest.mark.parametrize("size", [4, 8, 6, 11])
def test_a_flat_map_has_the_mass_of_the_mask_area(size):
    mask = RNG.random((3, size, size)) < 0.4
    mask[:, 0, 0] = True
    for share in ("positive", "softmax"):
        found, defined = mass_inside(np.full((3, 4, 4), 0.3), mask, share=share)
        assert defined.all()
        assert found == pytest.approx(mask.mean(axis=(1, 2)))


def test_mass_wholly_inside_or_outside():
    maps, mask = np.zeros((2, 4, 4)), np.zeros((2, 8, 8), bool)
    mask[:, 2:4, 2:4] = True
    maps[0, 1, 1], maps[1, 3, 3] = 0.7, 0.7
    assert mass_inside(maps, mask)[0].tolist() == pytest.approx([1, 0])


def test_empty_masks_and_maps_without_mass_are_undefined():
    maps, mask = np.full((2, 4, 4), 0.5), np.ones((2, 4, 4), bool)
    maps[0], mask[1] = -1.0, False
    assert mass_inside(maps, mask)[1].tolist() == [False, False]


def make(size=60, coupled=True):
    """Own embeddings point at the own heart cell, which moves from subject to subject."""
    keys = RNG.normal(size=(size, 8))
    tokens = 0.3 * RNG.normal(size=(size, 16, 8))
    masks = np.zeros((size, 16), bool)
    cells = RNG.integers(0, 16, size)
    masks[np.arange(size), cells] = True
    tokens[np.arange(size), cells] += keys
    pooled = keys if coupled else RNG.normal(size=(size, 8))
    return tokens, pooled, masks.reshape(size, 4, 4)


def test_own_embeddings_find_what_shuffled_ones_do_not():
    found = localise(*make(), (4, 4), shuffles=3, resampling=Resampling(draws=200))
    assert found.difference.low > 0.1
    assert found.own.value > found.shuffled.value
    assert found.area == pytest.approx(1 / 16)


def test_without_coupling_the_difference_covers_zero():
    found = localise(*make(coupled=False), (4, 4), shuffles=3, resampling=Resampling(draws=200))
    assert found.difference.low < 0 < found.difference.high


def test_maps_without_a_mask_are_counted_and_one_subject_has_no_partner():
    tokens, pooled, masks = make(30)
    masks[:5] = False
    assert (
        localise(
            tokens, pooled, masks, (4, 4), shuffles=2, resampling=Resampling(draws=20)
        ).left_out
        == 5
    )
    alone = localise(tokens, pooled, masks, (4, 4), resampling=Resampling(np.zeros(30), draws=20))
    assert alone.left_out == 30
    assert alone.difference.value is None
