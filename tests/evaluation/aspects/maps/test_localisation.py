from __future__ import annotations

import numpy as np
import pytest

from benchmarks.heart.mask_mass import mass_inside
from medmcl.evaluation import cosine_map

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
