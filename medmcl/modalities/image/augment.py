"""Augmentation of images and volumes: batched torch operations, one draw a row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.rng import RowGenerator
from medmcl.modalities.image.settings import ImageAugment
from medmcl.modalities.jitter import per_row, recolour


def disturb(
    x: Tensor, options: ImageAugment, generator: RowGenerator, *, unit: bool = True
) -> Tensor:
    """Disturb rows (B, C, [Z,] Y, X); each row its own draw, its channels alike.

    Args:
        x: Prepared images.
        options: What to do.
        generator: On the device of ``x``.
        unit: Whether values lie in [0, 1] and are to stay there (before noise).

    Returns:
        Rows of the same shape; what comes from outside is 0. Rows that ``probability`` leaves
        alone come out bit for bit.
    """
    draws = generator.uniform(len(x), 16)
    y = torch.where(per_row(draws[:, 0] < options.flip, x), x.flip(-1), x)
    y = torch.where(per_row(draws[:, 1] < options.flip_rows, x), y.flip(-2), y)
    if options.moves:
        y = _move(y, options, draws[:, 2:10])
    y = recolour(y, options.brightness, options.contrast, draws[:, 10:12], clip=unit)
    if options.cutout > 0:
        y = y * ~_holes(y, options.cutout, draws[:, 12:15])
    if options.noise > 0:
        y = y + options.noise * generator.normal(*x.shape, dtype=x.dtype)
    return torch.where(per_row(draws[:, 15] < options.probability, x), y, x)


def _move(x: Tensor, options: ImageAugment, draws: Tensor) -> Tensor:
    """Turn, zoom and cut with draws (B, 8): three angles, zoom, area, three places."""
    axes = x.ndim - 2
    radians = torch.deg2rad(options.rotation_deg * (2 * draws[:, :3] - 1))
    zoom = _between(options.zoom, draws[:, 3])
    side = _between(options.crop, draws[:, 4]) ** (1 / axes)
    centre = (2 * draws[:, 5 : 5 + axes] - 1) * (1 - side[:, None])
    turn = rotations(radians[:, 0]) if axes == 2 else rotations_3d(radians)
    return resample(x, turn / zoom[:, None, None], side, centre)


def resample(x: Tensor, matrix: Tensor, side: Tensor, centre: Tensor) -> Tensor:
    """Take each row's window, through a linear map about the middle, in one interpolation.

    What comes out at a place p (in pixels from the middle, p = 0) was at matrix (side p + c).

    Args:
        x: Rows (B, C, [Z,] Y, X).
        matrix: (B, n, n) on pixels, axes in the order x, y[, z].
        side: Side of the window as a share of the image (B,).
        centre: Middle of the window (B, n) in the order x, y[, z]; the image is [-1, 1].

    Returns:
        Rows of the same shape; linear between pixels, 0 from outside.
    """
    lengths = torch.tensor(list(reversed(x.shape[2:])), device=x.device, dtype=matrix.dtype)
    scaled = matrix * lengths[None, None] / lengths[None, :, None]  # [-1, 1] in and out
    theta = torch.cat([scaled * side[:, None, None], scaled @ centre[..., None]], 2).to(x.dtype)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def rotations(radians: Tensor) -> Tensor:
    """Matrices of angles (B,) in the plane, (B, 2, 2); a place turns from +x towards +y."""
    cosine, sine = radians.cos(), radians.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def rotations_3d(radians: Tensor) -> Tensor:
    """Matrices that turn about x, then y, then z by angles (B, 3), (B, 3, 3)."""
    whole = torch.eye(3, device=radians.device, dtype=radians.dtype).expand(len(radians), 3, 3)
    for axis, (first, second) in enumerate(((1, 2), (2, 0), (0, 1))):
        one = torch.eye(3, device=radians.device, dtype=radians.dtype).repeat(len(radians), 1, 1)
        plane = rotations(radians[:, axis])
        for i, row in enumerate((first, second)):
            for j, column in enumerate((first, second)):
                one[:, row, column] = plane[:, i, j]
        whole = one @ whole
    return whole


def _holes(x: Tensor, share: float, draws: Tensor) -> Tensor:
    """One box a row of a share of the area (volume), at a random place, (B, 1, [Z,] Y, X) bool."""
    axes = x.ndim - 2
    inside = torch.ones(len(x), *[1] * (axes + 1), dtype=torch.bool, device=x.device)
    for axis in range(axes):
        length = x.shape[2 + axis]
        side = max(1, round(length * share ** (1 / axes)))
        start = (draws[:, axis] * (length - side + 1)).floor()[:, None]
        at = torch.arange(length, device=x.device)[None]
        flags = (at >= start) & (at < start + side)
        inside = inside & flags.reshape(
            len(x), 1, *[length if n == axis else 1 for n in range(axes)]
        )
    return inside


def _between(limits: tuple[float, float], draws: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * draws
