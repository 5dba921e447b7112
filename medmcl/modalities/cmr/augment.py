"""Augmentation of cardiac MR: batched torch operations, one draw a row, on the batch's device."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.rng import RowGenerator
from medmcl.modalities.cmr.settings import CMRAugment, FractionCrop
from medmcl.modalities.jitter import per_row, recolour
from medmcl.modalities.resampling import fit_length, resize


def crop(
    x: Tensor, how: Literal["none", "center"] | FractionCrop, plane: tuple[int, int]
) -> Tensor:
    """Bring (frames, Z, Y, X) to ``plane`` pixels, by cutting and padding or by resizing.

    Args:
        x: Volumes.
        how: ``center``: cut or zero-pad, keeping the size of a pixel. ``none``: zero-pad to a
            square, then resize. A window: square, cut the window, then resize.
        plane: Pixels along (y, x).
    """
    if how == "center":
        return fit_length(fit_length(x, 2, plane[0]), 3, plane[1])
    side = max(x.shape[2:])
    if isinstance(how, FractionCrop):
        side = how.canvas or side
    x = fit_length(fit_length(x, 2, side), 3, side)
    if isinstance(how, FractionCrop):
        window = max(1, int(how.size * side))
        x = x.narrow(2, min(int(how.top * side), side - window), window)
        x = x.narrow(3, min(int(how.left * side), side - window), window)
    return resize(x, plane)


def disturb(x: Tensor, options: CMRAugment, generator: RowGenerator) -> Tensor:
    """Disturb rows (B, frames, [Z,] Y, X) in [0, 1]; each row its own draw, its frames alike.

    Rows left alone by ``probability`` come out bit for bit.
    """
    draws = generator.uniform(len(x), 11)
    y = _move(x, options, draws)
    if options.gibbs > 0:
        y = _gibbs(y, draws[:, 10] * options.gibbs)
    y = recolour(y, options.brightness, options.contrast, draws[:, 7:9])
    if options.noise > 0:
        y = y + options.noise * generator.normal(*x.shape, dtype=x.dtype)
    return torch.where(per_row(draws[:, 9] < options.probability, x), y, x)


def _move(x: Tensor, options: CMRAugment, draws: Tensor) -> Tensor:
    x = torch.where(per_row(draws[:, 0] < options.flip, x), x.flip(-1), x)
    degrees = options.rotation_deg * (2 * draws[:, 1] - 1)
    degrees = torch.where(draws[:, 2] < options.rotation, degrees, torch.zeros_like(degrees))
    if options.scale == (1.0, 1.0) and options.rotation_deg == 0 and options.ratio == (1.0, 1.0):
        return x
    height, width = x.shape[-2:]
    window = _windows(options, draws[:, 3:7], height, width)
    return resample(x, torch.deg2rad(degrees), window)


def _windows(options: CMRAugment, draws: Tensor, height: int, width: int) -> Tensor:
    """Random crops as (centre x, centre y, half-width, half-height) in [-1, 1], (B, 4).

    Area and shape are drawn as in Inception crops; a side that would leave the image is cut
    to the image, where torchvision draws again.
    """
    area = options.scale[0] + (options.scale[1] - options.scale[0]) * draws[:, 0]
    low, high = math.log(options.ratio[0]), math.log(options.ratio[1])
    shape = torch.exp(low + (high - low) * draws[:, 1])
    half_width = (area * shape * height / width).sqrt().clamp(max=1.0)
    half_height = (area / shape * width / height).sqrt().clamp(max=1.0)
    centre_x = (2 * draws[:, 2] - 1) * (1 - half_width)
    centre_y = (2 * draws[:, 3] - 1) * (1 - half_height)
    return torch.stack([centre_x, centre_y, half_width, half_height], dim=1)


def resample(x: Tensor, radians: Tensor, window: Tensor) -> Tensor:
    """Turn each row about its centre, then cut its window and stretch it to the full plane.

    Args:
        x: Rows (B, ..., Y, X).
        radians: Angle of each row (B,); positive turns the picture from +x towards +y.
        window: (B, 4): centre x, centre y, half-width, half-height; the plane is [-1, 1].

    Returns:
        Rows of the same shape; what comes from outside is 0.
    """
    height, width = x.shape[-2:]
    cosine, sine = radians.cos(), radians.sin()
    centre_x, centre_y, half_width, half_height = window.unbind(1)
    # out -> window -> (in pixels) turn back -> in; rows of a 2 x 3 matrix
    tall, wide = height / width, width / height
    first = [
        cosine * half_width,
        sine * tall * half_height,
        cosine * centre_x + sine * tall * centre_y,
    ]
    second = [
        -sine * wide * half_width,
        cosine * half_height,
        -sine * wide * centre_x + cosine * centre_y,
    ]
    theta = torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1).to(x.dtype)
    planes = x.reshape(len(x), -1, height, width)
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    moved = functional.grid_sample(
        planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return moved.reshape(x.shape)


def _gibbs(x: Tensor, shares: Tensor) -> Tensor:
    from monai.transforms import GibbsNoise

    rows = [
        torch.as_tensor(GibbsNoise(alpha=float(share))(row), device=x.device)
        for row, share in zip(x, shares, strict=True)
    ]
    return torch.stack(rows).as_subclass(torch.Tensor).to(x.dtype)
