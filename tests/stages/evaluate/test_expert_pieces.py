"""Patches of images and stretches of signals are cut where their tokens lie."""

from __future__ import annotations

import numpy as np
import pytest

from medmcl.core.batch import InputShape
from medmcl.evaluation.aspects.experts.content import can_cut, cut

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def test_a_patch_lies_in_the_middle_of_its_neighbours():
    image = np.arange(8 * 12, dtype=np.float64).reshape(1, 8, 12)
    shape = InputShape(kind="image", shape=image.shape, names=("grey",))
    low, high = np.quantile(image, [0.01, 0.99])
    scaled = np.clip((image[0] - low) / (high - low), 0, 1)
    for token in range(6):
        row, column = divmod(token, 3)
        piece, names = cut(image, shape, (2, 3), token)
        assert piece.shape == (12, 12)
        assert names == ()
        for r in range(12):
            for c in range(12):
                y, x = (row - 1) * 4 + r, (column - 1) * 4 + c
                if 0 <= y < 8 and 0 <= x < 12:
                    assert piece[r, c] == scaled[y, x]
                else:
                    assert np.isnan(piece[r, c])


def test_colours_stay_and_of_frames_the_last_is_shown():
    rng = np.random.default_rng(0)
    x = rng.random((3, 8, 8))
    colour = InputShape(kind="image", shape=x.shape, names=("red", "green", "blue"))
    frames = InputShape(kind="cmr", shape=x.shape, names=("0", "1", "2"))
    assert cut(x, colour, (2, 2), 0)[0].shape == (12, 12, 3)
    piece = cut(x, frames, (2, 2), 0)[0]
    low, high = np.quantile(x[-1], [0.01, 0.99])
    np.testing.assert_allclose(piece[4:, 4:], np.clip((x[-1] - low) / (high - low), 0, 1))


@pytest.mark.parametrize(("grid", "token", "leads"), [
    ((1, 5), 3, ("II", "V1", "V5")),
    ((12, 5), 5 * 7 + 3, ("V2",)),
    ((4, 5), 5 * 2 + 3, ("V1", "V2", "V3")),
])  # fmt: skip
def test_a_stretch_has_the_leads_and_samples_of_its_token(grid, token, leads):
    x = np.arange(12)[:, None] * 1000.0 + np.arange(50)
    shape = InputShape(kind="ecg", shape=x.shape, names=LEADS)
    piece, names = cut(x, shape, grid, token)
    assert names == leads
    for own, lead in zip(piece, leads, strict=True):
        np.testing.assert_array_equal(own, x[LEADS.index(lead), 20:50])
    first, _ = cut(x, shape, grid, 0)
    assert np.isnan(first[:, :10]).all()
    assert np.isfinite(first[:, 10:]).all()


def test_what_does_not_lie_in_a_plane_is_not_cut():
    volume = InputShape(kind="image", shape=(1, 4, 8, 8))
    assert not can_cut(volume, (2, 2, 2))
    assert not can_cut(InputShape(kind="text", shape=(9,), vocabulary=4), (9,))
    assert not can_cut(InputShape(kind="image", shape=(1, 8, 8)), None)
    assert not can_cut(InputShape(kind="image", shape=(1, 9, 8)), (2, 2))
    assert can_cut(InputShape(kind="image", shape=(1, 8, 8)), (2, 4))
    assert can_cut(InputShape(kind="ecg", shape=(12, 50)), (1, 5))
