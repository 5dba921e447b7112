"""What a trigger of images takes: pixels, a seed, noise; and gives: an image of the same kind."""

from __future__ import annotations

import random
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
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
    if not isinstance(image, Tensor | np.ndarray):
        raise MedmclError(
            "an image for a trigger is a tensor or an array",
            got=type(image).__name__,
            expected="(C, H, W), floating point, of 0 to 1",
            fix="np.array(image, dtype=np.float32)",
        )
    if image.ndim != 3 or not image.shape[0] or min(image.shape[1:]) < 2:
        raise MedmclError(
            "an image for a trigger has channels, height and width, of 2 pixels at least",
            got=tuple(image.shape),
            expected="(C, H, W)",
        )
    if not (image.is_floating_point() if isinstance(image, Tensor) else image.dtype.kind == "f"):
        raise MedmclError(
            "an image for a trigger is of 0 to 1",
            got=str(image.dtype),
            expected="floating point",
            fix="divide 8-bit pixels by 255",
        )
    if isinstance(image, Tensor):
        wide = image.detach()
    else:  # a copy in a precision and byte order that torch takes
        wide = torch.from_numpy(image.astype(np.float64))
    low, high = float(wide.min()), float(wide.max())
    if not (low >= 0 and high <= 1):
        raise MedmclError(
            "an image for a trigger is of 0 to 1", got=f"{low:g} to {high:g}", expected="0 to 1"
        )
    return wide.to(device="cpu", dtype=torch.float32)


def given_noise(noise: object, shape: tuple[int, ...]) -> Tensor | None:
    """Noise as float32, or a refusal; None where none is given."""
    if noise is None:
        return None
    found = _numbers(noise)
    if tuple(found.shape) != shape:
        raise MedmclError("the noise does not fit", got=tuple(found.shape), expected=str(shape))
    return found


def _numbers(noise: object) -> Tensor:
    try:
        if isinstance(noise, Tensor):
            found = noise.detach().to(device="cpu", dtype=torch.float32)
        else:
            found = torch.from_numpy(np.array(noise, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError) as error:
        raise MedmclError(
            "the noise of a trigger is numbers",
            where="noise",
            got=f"{type(noise).__name__}: {error}",
            expected="a tensor or an array",
        ) from error
    if bad := int((~torch.isfinite(found)).sum()):
        raise MedmclError(
            "the noise of a trigger is not finite",
            where="noise",
            got=f"{bad:,} of {found.numel():,} values",
        )
    return found


def given_shifts(noise: object) -> Tensor | None:
    """Shifts of control points, (1, 2, k, k)."""
    if noise is None:
        return None
    found = _numbers(noise)
    found = found[None] if found.ndim == 3 else found
    if found.ndim == 4 and found.shape[0] == 1 and found.shape[3] == 2 != found.shape[1]:
        found = found.permute(0, 3, 1, 2)
    if found.ndim != 4 or tuple(found.shape[:2]) != (1, 2) or not found.abs().mean() > 0:
        raise MedmclError(
            "the noise of wanet is shifts across and down of control points",
            got=tuple(found.shape),
            expected="(2, k, k), not all 0",
        )
    return found


def like(image: Image, found: Tensor, official: bool) -> Image:
    """The result as the given image was: kind, device and precision; official: through 8 bits."""
    if official:
        found = torch.remainder(torch.trunc(found * 255), 256) / 255
    found = found.clamp(0, 1)
    if isinstance(image, np.ndarray):
        return found.numpy().astype(image.dtype)
    return found.to(device=image.device, dtype=image.dtype)
