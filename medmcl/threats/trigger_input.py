"""What a trigger of images takes: pixels, a seed, noise; and gives: an image of the same kind."""

from __future__ import annotations

import random
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError, damage
from medmcl.core.rng import derive_seed

Image = TypeVar("Image", Tensor, np.ndarray)
Chance = int | random.Random | np.random.Generator | torch.Generator | None
"""A seed (any whole number, NumPy's too), or a generator; None = seed 0."""
_SEEDS = range(-(2**63), 2**64)
"""Seeds that torch takes."""


class Draws:
    """Numbers of one trigger: places as Python's ``random`` gives them, noise as torch does."""

    places: random.Random
    seed: int | None

    def __init__(self, rng: Chance) -> None:
        if isinstance(rng, torch.Generator):
            rng = int(torch.randint(2**31, (), generator=rng, device=rng.device))
        elif isinstance(rng, np.random.Generator):
            rng = int(rng.integers(2**31))
        if isinstance(rng, random.Random):
            self.places, self.seed = rng, None
            return
        if rng is not None and (isinstance(rng, bool) or not isinstance(rng, Integral)):
            raise MedmclError(
                "what a trigger draws needs a seed or a generator",
                where="rng",
                got=repr(rng),
                expected="a whole number, random.Random, numpy.random.Generator, torch.Generator, "
                "or None for seed 0",
                fix="rng=0",
            )
        self.seed = 0 if rng is None else int(rng)
        self.places = random.Random(self.seed)

    @property
    def noise(self) -> torch.Generator:
        """Of a seed that generator itself; of a ``Random`` one with a seed drawn from it."""
        seed = self.places.getrandbits(31) if self.seed is None else self.seed
        if seed not in _SEEDS:
            seed = derive_seed(seed, "noise of a trigger")
        return torch.Generator(device="cpu").manual_seed(seed)


def pixels_of(image: object) -> Tensor:
    """The image as float32, or a refusal."""
    got: object = type(image).__name__
    if isinstance(image, Tensor | np.ndarray):
        got = f"{got} of {image.dtype}, {tuple(image.shape)}"
        is_image = image.ndim == 3 and image.shape[0] > 0 and min(image.shape[1:]) >= 2
        if isinstance(image, Tensor):
            x, is_float = image.detach(), image.is_floating_point()
        elif is_float := image.dtype.kind == "f":  # a precision and byte order that torch takes
            x = torch.from_numpy(image.astype(np.float64))
        if is_image and is_float:
            low, high = float(x.min()), float(x.max())
            if low >= 0 and high <= 1:
                return x.to(device="cpu", dtype=torch.float32)
            got = f"{low:g} to {high:g}"
    raise MedmclError(
        "an image for a trigger is of 0 to 1, with channels, height and width",
        got=got,
        expected="a tensor or an array (C, H, W) of floating point, 0 to 1, of 2 pixels or more "
        "each way",
        fix="divide 8-bit pixels by 255",
    )


def given_noise(noise: object, shape: tuple[int, ...] | None) -> Tensor:
    """Noise as float32, of a shape if one is given, or a refusal."""
    with damage("noise", "the noise of a trigger is numbers", error=MedmclError, fix=None):
        given = (
            noise if isinstance(noise, Tensor) else torch.from_numpy(np.array(noise, np.float32))
        )
        found = given.detach().to(device="cpu", dtype=torch.float32)
    if bad := int((~torch.isfinite(found)).sum()):
        raise MedmclError(
            "the noise of a trigger is not finite",
            where="noise",
            got=f"{bad:,} of {found.numel():,} values",
        )
    if shape not in (None, found.shape):
        raise MedmclError("the noise does not fit", got=tuple(found.shape), expected=str(shape))
    return found


def like(image: Image, found: Tensor, official: bool) -> Image:
    """The result as the given image was: kind, device and precision; official: through 8 bits."""
    if official:
        found = torch.remainder(torch.trunc(found * 255), 256) / 255
    found = found.clamp(0, 1)
    if isinstance(image, np.ndarray):
        return found.numpy().astype(image.dtype)
    return found.to(device=image.device, dtype=image.dtype)
