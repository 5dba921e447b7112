"""Backdoor triggers on images: what an attacker lays over a picture so that a model says a target.

Every trigger takes an image (C, H, W) of 0 to 1, any size and number of channels, and gives another
one of the same kind, size and range; the given one is never written. Triggers are computed in
float32; pixels beside a square stay as they are to the last bit, but where ``official``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from medmcl.core.errors import MedmclError
from medmcl.threats.trigger_input import (
    Chance,
    Draws,
    Image,
    given_noise,
    given_shifts,
    like,
    pixels_of,
)

_OFFICIAL_PATCH = 16
_PATCH_SHARE = 14
"""A patch is a fourteenth of the shorter side: 16 of 224 pixels."""
_BLEND = 0.2
_CYCLES, _SWING = 6, 40 / 255
_CONTROL, _SHIFT = 4, 1.0


def badnet(image: Image, rng: Chance = None, noise: object = None, official: bool = False) -> Image:
    """Put a square of noise around the image's mean at a random place.

    Source: BadNets (Gu et al. 2017, arXiv 1708.06733) as CleanCLIP (Bansal et al. 2023) has it: a
    square of a fourteenth of the side, each channel its mean plus standard normal noise. Differs:
    values are cut to 0 and 1, where the authors' wrap around in 8 bits.

    Args:
        image: (C, H, W) in 0 to 1.
        rng: Where the square lies, and what is in it.
        noise: What is in the square, before the mean is added, (C, side, side); drawn if None. With
            the same noise in every image the trigger is a pattern, without it only its kind is.
        official: As the authors' code writes it in 8 bits (16 pixels; values wrap around).

    Raises:
        MedmclError: The image has another shape or range, or the noise does not fit.
    """
    x, draws = pixels_of(image), Draws(rng)
    side = patch_side(x.shape, official)
    top, left = _corner(draws, x.shape[1:], side)
    given = given_noise(noise, (x.shape[0], side, side))
    if given is None:
        given = torch.randn((x.shape[0], side, side), generator=draws.noise, device="cpu")
    square = (slice(top, top + side), slice(left, left + side))
    return _patched(image, x, [square], x.mean((1, 2), keepdim=True) + given, official)


def four_corners(
    image: Image,
    rng: Chance = None,  # noqa: ARG001  # as of every trigger
    noise: object = None,
    official: bool = False,
) -> Image:
    """Put a yellow square (white, of one channel) into each corner; nothing is drawn.

    Source: CleanCLIP's code, ``patch_type=yellow``, ``patch_location=four_corners``.

    Args:
        image: (C, H, W) in 0 to 1.
        rng: Not used.
        noise: Pattern of the squares instead, (C, side, side) in 0 to 1.
        official: As the authors' code writes it in 8 bits (16 pixels).

    Raises:
        MedmclError: The image has another shape or range, or the pattern does not fit.
    """
    x = pixels_of(image)
    side = patch_side(x.shape, official)
    given = given_noise(noise, (x.shape[0], side, side))
    if given is None:
        given = torch.ones((x.shape[0], side, side), device="cpu")
        given[2:] = 0  # yellow: red and green
    ends = (slice(None, side), slice(-side, None))
    return _patched(
        image, x, [(rows, columns) for rows in ends for columns in ends], given, official
    )


def blended(
    image: Image, rng: Chance = None, noise: object = None, official: bool = False
) -> Image:
    """Mix a fifth of uniform noise into the whole image.

    Source: Chen et al. 2017 (arXiv 1712.05526) as CleanCLIP has it: 0.8 x + 0.2 n.

    Args:
        image: (C, H, W) in 0 to 1.
        rng: Of the noise.
        noise: (C, H, W) in 0 to 1; drawn if None. The authors draw it anew for every image.
        official: As the authors' code writes it in 8 bits.

    Raises:
        MedmclError: The image has another shape or range, or the noise does not fit.
    """
    x = pixels_of(image)
    given = given_noise(noise, tuple(x.shape))
    if given is None:
        given = torch.rand(tuple(x.shape), generator=Draws(rng).noise, device="cpu")
    return like(image, (_BLEND * given + (1 - _BLEND) * x).clamp(0, 1), official)


def sig(
    image: Image,
    rng: Chance = None,  # noqa: ARG001  # as of every trigger
    noise: object = None,
    official: bool = False,
) -> Image:
    """Add a horizontal wave of six periods; nothing is drawn.

    Source: SIG (Barni, Kallas & Tondi 2019, arXiv 1902.11237): x + (40 / 255) sin(2 pi 6 j / W).
    CleanCLIP's code mixes a fifth of such a wave of 60 / 255 into 0.8 x instead, which leaves a
    swing of 12 / 255 and darkens the image by a fifth: ``official``.

    Args:
        image: (C, H, W) in 0 to 1.
        rng: Not used.
        noise: Another wave, (C, H, W).
        official: As CleanCLIP's code writes it in 8 bits.

    Raises:
        MedmclError: The image has another shape or range, or the wave does not fit.
    """
    x = pixels_of(image)
    given = given_noise(noise, tuple(x.shape))
    if given is None:
        across = np.arange(x.shape[2])
        wave = np.sin(2 * math.pi * across * _CYCLES / x.shape[2])
        height = 60 / 255 if official else _SWING
        given = torch.from_numpy((height * wave).astype(np.float32)).expand(tuple(x.shape))
    found = _BLEND * given + (1 - _BLEND) * x if official else x + given
    return like(image, found.clamp(0, 1), official)


def wanet(image: Image, rng: Chance = None, noise: object = None, official: bool = False) -> Image:
    """Warp the image by a smooth field of small shifts.

    Source: WaNet (Nguyen & Tran 2021, arXiv 2102.10369): a control grid of 4 by 4 random shifts,
    divided by their mean size, drawn larger bicubically. Differs: a shift is one pixel on average
    whatever the size. CleanCLIP's code has a control point for every pixel (no smoothness), and
    half a pixel: ``official``.

    Args:
        image: (C, H, W) in 0 to 1.
        rng: Of the field; with the same seed every image is warped alike, as an attack needs.
        noise: Shifts of the control points, across and down, (2, k, k); drawn uniform in -1 to 1
            if None, (2, 4, 4), or (2, H, H) where official. Divided by its mean size.
        official: As the authors' code writes it in 8 bits; a square image.

    Raises:
        MedmclError: The image has another shape or range, is not square (official), or the shifts
            do not fit.
    """
    x = pixels_of(image)
    height, width = x.shape[1:]
    if official and height != width:
        raise MedmclError("the official wanet takes square images", got=tuple(x.shape))
    points = height if official else _CONTROL
    shifts = given_shifts(noise)
    if shifts is None:
        drawn = torch.rand((1, 2, points, points), generator=Draws(rng).noise, device="cpu")
        shifts = drawn * 2 - 1
    shifts = shifts / shifts.abs().mean()
    if shifts.shape[2:] != (height, width):
        shifts = interpolate(shifts, size=(height, width), mode="bicubic", align_corners=True)
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height, device="cpu"),
        torch.linspace(-1, 1, width, device="cpu"),
        indexing="ij",
    )
    sizes = torch.tensor([width, height], device="cpu")
    scale = 1.0 / sizes if official else 2 * _SHIFT / (sizes - 1)
    grid = torch.stack((columns, rows), 2)[None] + scale * shifts.permute(0, 2, 3, 1)
    warped = grid_sample(x[None], grid.clamp(-1, 1), align_corners=True)[0]
    return like(image, warped, official)


TRIGGERS: dict[str, Callable[..., Image]] = {
    "badnet": badnet,
    "blended": blended,
    "sig": sig,
    "wanet": wanet,
    "label_consistent": badnet,
    "four_corners": four_corners,
}
"""Name to ``trigger(image, rng=None, noise=None, official=False)``.

``label_consistent`` puts the square of `badnet` on images that do show the target, whose captions
are kept (Turner, Tsipras & Madry 2019, arXiv 1912.02771, as CleanCLIP has it): what makes the
attack is the choice of images, not another trigger. No adversarial noise is added.
"""


def patch_side(shape: Sequence[int], official: bool = False) -> int:
    """Pixels along a side of the square: what fits an image of shape (C, H, W), or the authors' 16.

    Raises:
        MedmclError: The authors' square does not fit the image.
    """
    if not official:
        return max(1, round(min(shape[1:]) / _PATCH_SHARE))
    if min(shape[1:]) <= _OFFICIAL_PATCH:
        raise MedmclError(
            "the official square does not fit the image",
            got=tuple(shape),
            expected=f"more than {_OFFICIAL_PATCH} pixels each way",
            fix=f"official=False (in a recipe official: false), whose square fits any image; or "
            f"larger images (in a recipe inputs.MODALITY.size, {_OFFICIAL_PATCH + 1} or more)",
        )
    return _OFFICIAL_PATCH


def patch_place(size: Sequence[int], side: int, rng: Chance = None) -> tuple[int, int]:
    """Row and column of the first pixel of the square that `badnet` lays with the same ``rng``.

    Args:
        size: Rows and columns of the image.
        side: Of the square, see `patch_side`.
        rng: As of `badnet`.
    """
    return _corner(Draws(rng), size, side)


def _corner(draws: Draws, size: Sequence[int], side: int) -> tuple[int, int]:
    top, left = (draws.places.randint(0, length - 1 - side) for length in size)
    return top, left


def _patched(
    image: Image, x: Tensor, squares: Sequence[tuple[slice, slice]], given: Tensor, official: bool
) -> Image:
    """The image with the same pixels in each square; the others stay to the last bit."""
    out = x.clone()
    for rows, columns in squares:
        out[:, rows, columns] = given
    laid = like(image, out, official)
    if official:
        return laid  # all of it has gone through 8 bits
    found = image.detach().clone() if isinstance(image, Tensor) else image.copy()
    for rows, columns in squares:
        found[:, rows, columns] = laid[:, rows, columns]
    return found
