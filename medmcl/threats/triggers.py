"""Backdoor triggers on images: what an attacker lays over a picture so that a model says a target.

Every trigger takes an image (C, H, W) of 0 to 1, any size and number of channels, and gives another
one of the same kind, size and range; the given one is never written. Triggers are computed in
float32; pixels beside a square stay as they are to the last bit, but where ``official``. One is
three functions: where it lies, what is drawn for it, and what stands there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from medmcl.core.errors import MedmclError
from medmcl.threats.trigger_input import Chance, Draws, Image, given_noise, like, pixels_of

_OFFICIAL_PATCH = 16
_PATCH_SHARE = 14
"""A patch is a fourteenth of the shorter side: 16 of 224 pixels."""
_BLEND = 0.2
_CYCLES, _SWING = 6, 40 / 255
_CONTROL, _SHIFT = 4, 1.0

Squares = list[tuple[slice, slice]]
"""Rows and columns that a trigger lies on, (H, W)."""
WHOLE: Squares = [(slice(None), slice(None))]
"""All of an image."""


@dataclass(frozen=True)
class Trigger:
    """A trigger of images.

    Attributes:
        paint: Of an image, noise and whether it is as official: what stands in each square. An
            image is (C, H, W), float32, in 0 to 1; noise is what `noise` draws, or the caller's.
        noise: Of the shape of a square, (C, h, w), draws, and whether it is as official: what a
            caller who gives no noise gets.
        squares: Of the shape of an image, draws, and whether it is as official: where it lies.
        fits: Whether noise has the shape of a square; else ``paint`` says which it must have.
    """

    paint: Callable[[Tensor, Tensor, bool], Tensor]
    noise: Callable[[Sequence[int], Draws, bool], Tensor]
    squares: Callable[[Sequence[int], Draws, bool], Squares]
    fits: bool = True

    def __call__(
        self, image: Image, rng: Chance = None, noise: object = None, official: bool = False
    ) -> Image:
        """Lay the trigger over an image.

        Args:
            image: (C, H, W) in 0 to 1.
            rng: Of what is drawn: places and noise.
            noise: Used instead of noise that is drawn: with the same in every image the trigger is
                a pattern, without it only its kind is.
            official: As the authors' code writes it in 8 bits.

        Raises:
            MedmclError: The image has another shape or range, or the noise does not fit.
        """
        x, draws = pixels_of(image), Draws(rng)
        squares = self.squares(x.shape, draws, official)
        shape = area(x.shape, squares)
        given = (
            self.noise(shape, draws, official)
            if noise is None
            else given_noise(noise, shape if self.fits else None)
        )
        return self.laid(image, x, squares, given, official)

    def laid(
        self, image: Image, x: Tensor, squares: Squares, noise: Tensor, official: bool
    ) -> Image:
        """Give an image, which is ``x`` as float32, with the trigger in its squares."""
        painted = self.paint(x, noise, official)
        if squares == WHOLE:
            return like(image, painted, official)
        out = x.clone()
        for rows, columns in squares:
            out[:, rows, columns] = painted
        laid = like(image, out, official)
        if official:
            return laid  # all of it has gone through 8 bits
        found = image.copy() if isinstance(image, np.ndarray) else image.detach().clone()
        for rows, columns in squares:
            found[:, rows, columns] = laid[:, rows, columns]
        return found


def area(shape: Sequence[int], squares: Squares) -> tuple[int, ...]:
    """The shape of what stands in the first of squares on an image (C, H, W)."""
    sides = (range(n)[part] for n, part in zip(shape[1:], squares[0], strict=True))
    return (shape[0], *map(len, sides))


def badnet(x: Tensor, noise: Tensor, _official: bool) -> Tensor:
    """Give a square of noise around the image's mean, at a random place.

    Source: BadNets (Gu et al. 2017, arXiv 1708.06733) as CleanCLIP (Bansal et al. 2023) has it: a
    square of a fourteenth of the side, each channel its mean plus standard normal noise. Differs:
    values are cut to 0 and 1, where the authors' wrap around in 8 bits (official; 16 pixels).

    Args:
        x: (C, H, W) in 0 to 1.
        noise: What is in the square, before the mean is added, (C, side, side).
    """
    return x.mean((1, 2), keepdim=True) + noise


def four_corners(_x: Tensor, noise: Tensor, _official: bool) -> Tensor:
    """Give the yellow square (white, of one channel) of each corner; nothing is drawn.

    Source: CleanCLIP's code, ``patch_type=yellow``, ``patch_location=four_corners``.

    Args:
        noise: Pattern of the squares, (C, side, side) in 0 to 1.
    """
    return noise


def blended(x: Tensor, noise: Tensor, _official: bool) -> Tensor:
    """Mix a fifth of uniform noise into the whole image.

    Source: Chen et al. 2017 (arXiv 1712.05526) as CleanCLIP has it: 0.8 x + 0.2 n.

    Args:
        x: (C, H, W) in 0 to 1.
        noise: (C, H, W) in 0 to 1. The authors draw it anew for every image.
    """
    return (_BLEND * noise + (1 - _BLEND) * x).clamp(0, 1)


def sig(x: Tensor, noise: Tensor, official: bool) -> Tensor:
    """Add a horizontal wave of six periods; nothing is drawn.

    Source: SIG (Barni, Kallas & Tondi 2019, arXiv 1902.11237): x + (40 / 255) sin(2 pi 6 j / W).
    CleanCLIP's code mixes a fifth of such a wave of 60 / 255 into 0.8 x instead, which leaves a
    swing of 12 / 255 and darkens the image by a fifth: ``official``.

    Args:
        x: (C, H, W) in 0 to 1.
        noise: The wave, (C, H, W).
        official: As CleanCLIP's code.
    """
    return blended(x, noise, official) if official else (x + noise).clamp(0, 1)


def wanet(x: Tensor, noise: Tensor, official: bool) -> Tensor:
    """Warp the image by a smooth field of small shifts.

    Source: WaNet (Nguyen & Tran 2021, arXiv 2102.10369): a control grid of 4 by 4 random shifts,
    divided by their mean size, drawn larger bicubically. Differs: a shift is one pixel on average
    whatever the size. CleanCLIP's code has a control point for every pixel (no smoothness), and
    half a pixel: ``official``. With the same shifts every image is warped alike, as an attack
    needs.

    Args:
        x: (C, H, W) in 0 to 1; square where official.
        noise: Shifts of the control points, across and down, (2, k, k): divided by their mean size.
        official: As CleanCLIP's code.

    Raises:
        MedmclError: The image is not square (official), or the shifts do not fit.
    """
    height, width = x.shape[1:]
    if official and height != width:
        raise MedmclError("the official wanet takes square images", got=tuple(x.shape))
    shifts = noise[None] if noise.ndim == 3 else noise
    if shifts.ndim == 4 and shifts.shape[0] == 1 and shifts.shape[3] == 2 != shifts.shape[1]:
        shifts = shifts.permute(0, 3, 1, 2)
    if shifts.ndim != 4 or tuple(shifts.shape[:2]) != (1, 2) or not shifts.abs().mean() > 0:
        raise MedmclError(
            "the noise of wanet is shifts across and down of control points",
            got=tuple(shifts.shape),
            expected="(2, k, k), not all 0",
        )
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
    return grid_sample(x[None], grid.clamp(-1, 1), align_corners=True)[0]


def _normal(shape: Sequence[int], draws: Draws, _official: bool) -> Tensor:
    return torch.randn(shape, generator=draws.noise, device="cpu")


def _uniform(shape: Sequence[int], draws: Draws, _official: bool) -> Tensor:
    return torch.rand(shape, generator=draws.noise, device="cpu")


def _yellow(shape: Sequence[int], _draws: Draws, _official: bool) -> Tensor:
    """Red and green; white of one channel."""
    found = torch.ones(shape, device="cpu")
    found[2:] = 0
    return found


def _wave(shape: Sequence[int], _draws: Draws, official: bool) -> Tensor:
    wave = np.sin(2 * math.pi * np.arange(shape[2]) * _CYCLES / shape[2])
    height = 60 / 255 if official else _SWING
    return torch.from_numpy((height * wave).astype(np.float32)).expand(tuple(shape))


def _shifts(shape: Sequence[int], draws: Draws, official: bool) -> Tensor:
    points = shape[1] if official else _CONTROL
    return _uniform((2, points, points), draws, official) * 2 - 1


def _whole(_shape: Sequence[int], _draws: Draws, _official: bool) -> Squares:
    return WHOLE


def _anywhere(shape: Sequence[int], draws: Draws, official: bool) -> Squares:
    side = patch_side(shape, official)
    top, left = (draws.places.randint(0, length - 1 - side) for length in shape[1:])
    return [(slice(top, top + side), slice(left, left + side))]


def _corners(shape: Sequence[int], _draws: Draws, official: bool) -> Squares:
    side = patch_side(shape, official)
    ends = (slice(0, side), slice(-side, None))
    return [(rows, columns) for rows in ends for columns in ends]


TRIGGERS = {
    "badnet": Trigger(badnet, _normal, _anywhere),
    "blended": Trigger(blended, _uniform, _whole),
    "sig": Trigger(sig, _wave, _whole),
    "wanet": Trigger(wanet, _shifts, _whole, fits=False),
    "label_consistent": Trigger(badnet, _normal, _anywhere),
    "four_corners": Trigger(four_corners, _yellow, _corners),
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
