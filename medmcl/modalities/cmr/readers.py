"""Cardiac MR records: a volume with its named frames, from one file or one file a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.volumes import Stack


@dataclass(frozen=True, kw_only=True)
class CMRVolume:
    """One cardiac MR record as read.

    Attributes:
        voxels: Intensities, (T, Z, Y, X) float32.
        spacing_mm: Distance of neighbours along (z, y, x); NaN where nobody says.
        header_spacing_mm: The same as the file says it, before the cohort overrides it.
        orientation: Direction in which z, y, x grow (``SAR``: superior, anterior, right);
            ``?`` where the file does not say.
        diagonal: True if an in-plane axis lies so near a diagonal of the body axes that a small
            turn of the plane would change its name.
        frames: Named time frames, for example ``{"ed": 0, "es": 12}``.
        where: File (and row) it was read from, for messages.
    """

    voxels: np.ndarray
    spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    header_spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    orientation: str = "???"
    diagonal: bool = False
    frames: Mapping[str, int]
    where: str


def join(stacks: Mapping[str, Stack], where: str) -> Stack:
    """Frames in files of their own, stacked on t."""
    if not stacks:
        fix = "give the modality path: one template, or one for each frame"
        raise RecordError("no file is named", where=where or None, fix=fix)
    first = next(iter(stacks.values()))
    shapes = {name: stack.voxels.shape for name, stack in stacks.items()}
    alike = all(
        np.allclose(stack.spacing_mm, first.spacing_mm, rtol=0.01, equal_nan=True)
        and stack.orientation == first.orientation
        for stack in stacks.values()
    )
    if len(set(shapes.values())) > 1 or first.voxels.shape[0] != 1 or not alike:
        raise RecordError(
            "files named by frame must hold one frame each, of one shape, spacing and orientation",
            where=where,
            got=", ".join(
                f"{name} {stack.voxels.shape} {stack.spacing_mm} {stack.orientation}"
                for name, stack in stacks.items()
            ),
            fix="correct the paths",
        )
    return Stack(
        voxels=np.concatenate([stack.voxels for stack in stacks.values()]),
        spacing_mm=first.spacing_mm,
        orientation=first.orientation,
        diagonal=first.diagonal,
    )
