"""A cardiac MR volume as read, and what can be wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.core.findings import Finding, record_finding
from medmcl.modalities.volumes import Stack, zyx


@dataclass(frozen=True, kw_only=True)
class CMRVolume(Stack):
    """One cardiac MR record as read: what its file holds, or its files stacked on t.

    Attributes:
        header_spacing_mm: ``spacing_mm`` as the file says it, before the cohort overrides it.
        frames: Named time frames, for example ``{"ed": 0, "es": 12}``.
        where: File (and row) it was read from, for messages.
        labels: What somebody drew, (T, Z, Y, X) of whole numbers; a grid is cut about it.
    """

    header_spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    frames: Mapping[str, int]
    where: str
    labels: np.ndarray | None = None


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
    return replace(first, voxels=np.concatenate([stack.voxels for stack in stacks.values()]))


FEW_SLICES = 7  # the ECG-CMR paper's preprocessing refuses short-axis stacks of 7 slices or less
MAX_SPACING_MM = 30.0
MANY_SLICES = 20  # ACDC's stacks have 6 to 18; a cycle has 20 to 50 frames
MAX_STACK_MM = 200.0  # a heart from base to apex is half as long
FEW_PIXELS = 24
MAX_ASPECT = 3.0


fault = partial(record_finding, "cmr")
"""Give a finding of this modality."""


def check_voxels(raw: CMRVolume, where: str) -> list[Finding]:
    """Find NaN, constant volumes and empty slices."""
    bad = int((~np.isfinite(raw.voxels)).sum())
    if bad:
        what = f"{bad} of {raw.voxels.size} voxels are NaN or infinite"
        return [fault("nan", where, what, "export the image again")]
    if raw.voxels.max() == raw.voxels.min():
        what = f"every voxel is {raw.voxels.flat[0]:g}"
        return [fault("constant", where, what, "export the image again")]
    empty = np.flatnonzero(np.ptp(raw.voxels, axis=(2, 3)).max(axis=0) == 0)
    if len(empty):
        what = f"slices {empty.tolist()} are constant at every time"
        fix = "padding? cut the empty slices, or the middle slice may miss the heart"
        return [fault("empty_slice", where, what, fix, "warning")]
    return []


def check_geometry(
    raw: CMRVolume, where: str, declared: tuple[float, float, float] | None
) -> list[Finding]:
    """Find implausible spacing, exchanged axes, short stacks and unstable orientation.

    ``declared`` is the cohort's spacing along (x, y, z), if it says one.
    """
    depth = raw.voxels.shape[1]
    findings = []
    known = [mm for mm in raw.spacing_mm if not math.isnan(mm)]
    if any(not 0 < mm <= MAX_SPACING_MM for mm in known):
        what = f"spacing along z, y, x of {raw.spacing_mm} mm cannot be"
        fix = "declare it in cohort.yaml: modalities.NAME.spacing_mm: [x, y, z]"
        findings.append(fault("spacing", where, what, fix))
    elif declared is not None and not _agree(raw.header_spacing_mm, zyx(declared)):
        what = f"the header says {raw.header_spacing_mm} mm along z, y, x, the cohort {declared}"
        fix = "the cohort's is used (x, y, z); correct it, or take modalities.NAME.spacing_mm out"
        findings.append(fault("spacing", where, what, fix, "warning"))
    findings += check_axes(raw, where)
    if 1 < depth <= FEW_SLICES:
        what = f"{depth} slices; the ECG-CMR paper needs more than {FEW_SLICES} in short axis"
        findings.append(fault("few_slices", where, what, "exclude it if short-axis", "warning"))
    if raw.diagonal:
        what = "an in-plane axis lies midway between two body axes; its turn may differ from others"
        fix = "if all files come from one protocol, set modalities.NAME.orient: stored"
        findings.append(fault("oblique", where, what, fix, "warning"))
    return findings


def check_turn(raw: CMRVolume, where: str, *, of_dicom: bool) -> list[Finding]:
    """Tell of a volume that lies otherwise than files lay that were embedded as they are stored."""
    fix = "say modalities.NAME.orient: stored, and use files of one kind for all people"
    if raw.stored != raw.orientation:
        what = f"turned by its header from {raw.stored} to {raw.orientation} (along z, y, x)"
    elif of_dicom:
        what = f"DICOM, stored as {raw.stored} (along z, y, x): most NIfTI files lie otherwise"
        fix = "compare with people whose NIfTI files you have; use files of one kind for all people"
    else:
        return []
    what += "; the authors of this preparation keep the order of NIfTI files"
    return [fault("turned", where, what, fix, "warning")]


def check_marked(raw: CMRVolume, label: int, where: str) -> list[Finding]:
    """Tell of labels of 0 and 1, which may mark anything, where ``label`` is asked for."""
    labels = raw.labels
    if labels is None or label == 1 or labels.dtype == bool:
        return []
    if set(np.unique(labels).tolist()) != {0, 1}:
        return []
    what = f"labels are 0 and 1, and no {label}: what is marked is taken for the left ventricle"
    fix = "if it is another structure (ACDC's 1 is the right one), leave the labels out; if it is "
    fix += "the left one, say so: grid: {label: 1} of a recipe, label=1 for an array"
    return [fault("marked", where, what, fix, "warning")]


def check_axes(raw: CMRVolume, where: str) -> list[Finding]:
    """Find lengths and spacings that no axis of its name has: a warning, once a volume."""
    frames, depth, rows, columns = raw.voxels.shape
    z_mm, *plane_mm = raw.spacing_mm
    what = ""
    if frames > 200 or depth > 200 or _is_time(raw):
        what = f"{frames} frames of {depth} slices: axes t and z look exchanged"
    elif depth > 1 and z_mm < 0.5 * max(plane_mm):
        what = f"slices {z_mm:g} mm apart with pixels of {max(plane_mm):g} mm"
    elif min(rows, columns) < FEW_PIXELS or max(rows, columns) > MAX_ASPECT * min(rows, columns):
        what = f"a plane of {rows} by {columns} pixels: one of them looks like slices or frames"
    if not what:
        return []
    fix = (
        "say which axis is which, in the file's order: modalities.NAME.axes: xyzt (z runs through "
        "the slices)"
    )
    return [fault("axes", where, what, fix, "warning")]


def _is_time(raw: CMRVolume) -> bool:
    """Whether what is called slices is rather a cardiac cycle."""
    frames, depth = raw.voxels.shape[:2]
    if frames == 1 or len(raw.frames) >= frames:  # every frame has a name: a file of its own
        return False
    if depth > max(frames, 40):
        return True
    many = depth > MANY_SLICES or depth * raw.spacing_mm[0] > MAX_STACK_MM
    return many and frames <= MANY_SLICES


def _agree(header: tuple[float, ...], declared: tuple[float, ...]) -> bool:
    return all(
        math.isnan(a) or abs(a - b) <= 0.05 * b for a, b in zip(header, declared, strict=True)
    )
