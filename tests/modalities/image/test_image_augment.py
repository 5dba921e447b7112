"""Disturbing images: each step against an oracle, and nothing that was not asked for."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from row_draws import row_generator as generator
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from medmcl.modalities.image.augment import (
    ImageAugment,
    disturb,
    resample,
    rotations_3d,
)

STILL = {
    "rotation_deg": 0, "zoom": (1, 1), "crop": (1, 1), "brightness": 0, "contrast": 0,
}  # fmt: skip
FLAT, VOLUME = (4, 2, 20, 14), (3, 1, 10, 14, 12)


def rows(shape, seed=0):
    return generator(seed).uniform(*shape)


@pytest.mark.parametrize("shape", [FLAT, VOLUME])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(shape):
    options = ImageAugment(noise=0.1, cutout=0.1, flip=0.5)
    x = rows(shape)
    one, two, three = (disturb(x, options, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert one.shape == x.shape
    assert torch.isfinite(one).all()


@pytest.mark.parametrize("shape", [FLAT, VOLUME])
def test_what_is_not_asked_for_does_not_happen(shape):
    x = rows(shape)
    assert torch.equal(disturb(x, ImageAugment(**STILL), generator()), x)
    assert torch.equal(disturb(x, ImageAugment(probability=0, noise=1), generator()), x)


def test_left_and_right_are_never_exchanged_by_default():
    x = torch.zeros(200, 1, 32, 32, device="cpu")
    x[..., 8:24, 2:8] = 1  # a mark at the left
    y = disturb(x, ImageAugment(), generator())
    left, right = y[..., :16].sum((1, 2, 3)), y[..., 16:].sum((1, 2, 3))
    assert (left > right).all()


def test_mirroring_is_exact_and_falls_on_its_share_of_rows():
    x = rows((400, 1, 4, 6))
    y = disturb(x, ImageAugment(**STILL, flip=0.3), generator())
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert (mirrored | (y == x).flatten(1).all(1)).all()
    assert 0.2 < mirrored.float().mean() < 0.4
    torch.testing.assert_close(
        disturb(x, ImageAugment(**STILL, flip_rows=1), generator()), x.flip(-2)
    )


@pytest.mark.parametrize("shape", [FLAT, VOLUME])
def test_a_window_through_a_linear_map_is_what_scipy_makes_of_it(shape):
    x = rows(shape)
    axes = len(shape) - 2
    rng = np.random.default_rng(0)
    matrix = np.eye(axes) + 0.2 * rng.normal(size=(len(x), axes, axes))
    side, centre = rng.uniform(0.5, 1, len(x)), rng.uniform(-0.4, 0.4, (len(x), axes))
    ours = resample(x, *(torch.tensor(v, dtype=torch.float32) for v in (matrix, side, centre)))
    lengths = np.array(shape[2:])
    middle = (lengths - 1) / 2
    for n in range(len(x)):
        turned = matrix[n][::-1, ::-1]  # from x, y, z to the order of axes
        moved = centre[n][::-1] * lengths / 2
        offset = middle + turned @ (moved - side[n] * middle)
        for channel in range(shape[1]):
            slow = affine_transform(
                x[n, channel].numpy(), turned * side[n], offset, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(ours[n, channel].numpy(), slow, atol=2e-5)


def test_turns_in_space_are_those_of_scipy():
    angles = rows((5, 3)) * 6 - 3
    ours = rotations_3d(angles).numpy()
    theirs = Rotation.from_euler("xyz", angles.numpy()).as_matrix()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("shape", "axes"), [((50, 2, 20, 30), 2), ((20, 1, 20, 20, 20), 3)])
def test_a_hole_has_its_share_and_its_place(shape, axes):
    y = disturb(torch.ones(shape, device="cpu"), ImageAugment(**STILL, cutout=0.25), generator())
    sides = [round(n * 0.25 ** (1 / axes)) for n in shape[2:]]
    assert ((y == 0).flatten(1).sum(1) == shape[1] * math.prod(sides)).all()
    assert (y.flatten(1) == 0).any(0).float().mean() > 0.6  # everywhere, over many rows
    assert torch.equal((y == 0).all(1), (y == 0).any(1))  # one hole for all channels


def test_brightness_contrast_and_noise_have_their_sizes():
    x = rows((300, 1, 8, 8)) * 0.4 + 0.3
    bright = disturb(x, ImageAugment(**{**STILL, "brightness": 0.2}), generator())
    factors = (bright / x).flatten(1)
    assert (factors.amax(1) - factors.amin(1)).max() < 1e-5
    assert 0.8 <= factors.min() < 0.82 < 1.18 < factors.max() <= 1.2
    flatter = disturb(x, ImageAugment(**{**STILL, "contrast": 0.5}), generator())
    torch.testing.assert_close(flatter.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=2e-3, rtol=0)
    noisy = disturb(x, ImageAugment(**STILL, noise=0.05), generator())
    assert (noisy - x).std().item() == pytest.approx(0.05, rel=0.05)


def test_values_without_limits_are_not_cut():
    x = 3 * generator().normal(8, 1, 8, 8)
    free = disturb(x, ImageAugment(**{**STILL, "brightness": 0.1}), generator(), unit=False)
    assert free.min() < -3
    assert disturb(x, ImageAugment(**{**STILL, "brightness": 0.1}), generator()).min() >= 0


@pytest.mark.parametrize(
    "wrong", [{"crop": [0.5, 1.2]}, {"zoom": [1.2, 0.9]}, {"cutout": 1}, {"crop": [0, 1]}]
)
def test_options_without_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        ImageAugment(**wrong)
