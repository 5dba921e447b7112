"""Images as timm, open_clip and CLIP prepare them to be seen by a pretrained network."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medmcl.modalities.image.settings import Interpolation, Three

PILLOW = {"linear": "BILINEAR", "cubic": "BICUBIC", "nearest": "NEAREST"}


def fit_as_timm(
    x: Tensor, size: int, crop_pct: float, mode: Interpolation, *, eight_bits: bool
) -> Tensor:
    """Resize the shorter side to ``size / crop_pct``, and cut the middle out; by Pillow, as timm.

    Args:
        x: (C, 1, Y, X) in [0, 1].
        size: Side of the square that comes out.
        crop_pct: Share of the resized shorter side that is kept; timm's name.
        mode: How values between pixels are found.
        eight_bits: Whether the file has 8 bits; then multiples of 1/255 come out.

    Returns:
        (C, 1, size, size).

    Source:
        timm's evaluation transform with ``crop_mode: center``. Differs: none for 8 bits; others
        are not rounded.
    """
    from PIL import Image

    rows, columns = x.shape[2:]
    short = math.floor(size / crop_pct)
    if rows <= columns:
        wanted = short, int(short * columns / rows)
    else:
        wanted = int(short * rows / columns), short
    top, left = (round((length - size) / 2) for length in wanted)
    planes = (x[:, 0] * 255).round().to(torch.uint8) if eight_bits else x[:, 0]
    resized = [
        np.asarray(Image.fromarray(plane).resize(wanted[::-1], getattr(Image, PILLOW[mode])))
        for plane in planes.numpy()
    ]
    cut = np.stack(resized)[:, None, top : top + size, left : left + size].astype(np.float32)
    return torch.from_numpy(cut / np.float32(255) if eight_bits else cut)


def normalised(x: Tensor, mean: Three, std: Three) -> Tensor:
    """Give (x - mean) / std for rows (B, 3, Y, X)."""
    shift = torch.tensor(mean, dtype=x.dtype, device=x.device)[:, None, None]
    scale = torch.tensor(std, dtype=x.dtype, device=x.device)[:, None, None]
    return (x - shift) / scale
