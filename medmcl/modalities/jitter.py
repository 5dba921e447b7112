"""Brightness and contrast of images, drawn for each row of a batch."""

from __future__ import annotations

from torch import Tensor


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """Shape one value a row (B,) so that it meets rows (B, ...)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def recolour(
    x: Tensor, brightness: float, contrast: float, draws: Tensor, *, clip: bool = True
) -> Tensor:
    """Scale each row, then draw it towards its mean or away from it.

    Args:
        x: Rows (B, ...).
        brightness: The factor is 1 +- this.
        contrast: Likewise.
        draws: In [0, 1], one for brightness and one for contrast, (B, 2).
        clip: Keep values in [0, 1] after either step.
    """
    if brightness > 0:
        x = _clipped(x * per_row(1 + brightness * (2 * draws[:, 0] - 1), x), clip)
    if contrast > 0:
        factor = per_row(1 + contrast * (2 * draws[:, 1] - 1), x)
        mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        x = _clipped(factor * x + (1 - factor) * mean, clip)
    return x


def _clipped(x: Tensor, clip: bool) -> Tensor:
    return x.clamp(0, 1) if clip else x
