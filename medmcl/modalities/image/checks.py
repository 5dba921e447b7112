"""What can be wrong with an image as read, and with an image among others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from medmcl.core.findings import Finding, cohort_warning, record_finding
from medmcl.modalities.image.files import ImageRecord
from medmcl.modalities.image.settings import ImageSettings

NEARLY = 0.99
"""Share of pixels within 1 % of the darkest (or brightest) value that leaves an image empty."""
SATURATED = 0.2
"""Share of pixels at the largest value."""
FEW_PIXELS = 16
FEWEST = 5
"""Fewer images say nothing about a cohort."""
MOST = 0.8
"""Share of a cohort that must agree, before the others are odd."""
TWICE = 2.0
_OBLONG, _ALIKE = 1.15, 1.03


fault = partial(record_finding, "image")
"""Give a finding of this modality."""


def check_pixels(raw: ImageRecord, where: str) -> list[Finding]:
    """Find NaN, constant, nearly empty, saturated and tiny images."""
    pixels = raw.pixels
    bad = 0 if pixels.dtype.kind in "ub" else int((~np.isfinite(pixels)).sum())
    if bad:
        what = f"{bad} of {pixels.size} pixels are NaN or infinite"
        return [fault("nan", where, what, "export the image again")]
    low, high = float(pixels.min()), float(pixels.max())
    if low == high:
        what = f"every pixel is {low:g}"
        return [fault("constant", where, what, "export the image again")]
    findings = []
    step = 0.01 * (high - low)
    alike = max(float((pixels <= low + step).mean()), float((pixels >= high - step).mean()))
    full = float((pixels >= (high if np.isnan(raw.full_scale) else raw.full_scale)).mean())
    if alike > NEARLY:
        what = f"{alike:.1%} of the pixels have nearly the same value"
        fix = "look at it: is it a blank, or is one pixel far too bright?"
        findings.append(fault("empty", where, what, fix, "warning"))
    elif full > SATURATED:
        what = f"{full:.0%} of the pixels have the largest value, {high:g}"
        fix = "saturated? export it again with a wider window"
        findings.append(fault("saturated", where, what, fix, "warning"))
    if min(pixels.shape[-2:]) < FEW_PIXELS:
        what = f"{pixels.shape[-2]} by {pixels.shape[-1]} pixels"
        fix = "is this the image, or its thumbnail? are the axes named right?"
        findings.append(fault("small", where, what, fix, "warning"))
    return findings


def check_file(raw: ImageRecord, where: str, *, turned: bool) -> list[Finding]:
    """Find what reading had to leave out, and volumes that do not say how they lie."""
    findings = []
    if turned and not raw.placed:
        what = "the header does not say how the volume lies in the body (no sform, no qform)"
        fix = "take it from its source again; or, if all files are stored alike, "
        fix += "modalities.NAME.orient: stored"
        findings.append(fault("no_affine", where, what, fix))
    if "alpha" in raw.notes:
        what, fix = "an alpha channel, opaque everywhere, was dropped", "nothing"
        findings.append(fault("alpha", where, what, fix, "warning"))
    if "depth" in raw.notes:
        what = "colours of 16 bits are read with 8"
        fix = "nothing, if that is enough; grey images keep their 16 bits"
        findings.append(fault("depth", where, what, fix, "warning"))
    return findings


class Look(NamedTuple):
    """What is compared between images."""

    channels: int
    shape: tuple[int, int]
    where: str
    full_scale: float
    largest: float

    @classmethod
    def at(cls, raw: ImageRecord) -> Look:
        """Take it from an image."""
        rows, columns = raw.pixels.shape[-2:]
        largest = float(raw.pixels.max())
        return cls(raw.channels, (rows, columns), raw.where, raw.full_scale, largest)


@dataclass(frozen=True)
class Usual:
    """What most images of a cohort are like.

    Attributes:
        channels: 1 or 3.
        shape: Median rows and columns.
    """

    channels: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, looks: Sequence[Look]) -> Usual:
        """Look at some images, at least one."""
        channels = Counter(look.channels for look in looks).most_common(1)[0][0]
        rows, columns = np.median([look.shape for look in looks], axis=0)
        return cls(channels, (int(rows), int(columns)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"channels": self.channels, "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Usual:
        """Take back what `as_dict` gave."""
        return cls(int(state["channels"]), tuple(state["shape"]))


def compare(seen: Sequence[Look], usual: Usual | None) -> list[Finding]:
    """Find images unlike the others: of another size, lying on their side, with other channels.

    Args:
        seen: Looks at the images.
        usual: What the images of the train split were like; None: what most of these are like.
            Without it something is said only where at least 5 images are looked at and 80 % agree.
    """
    if not seen or (usual is None and len(seen) < FEWEST):
        return []
    most = len(seen) if usual is not None else (1 - MOST) * len(seen)
    usual = usual or Usual.of(seen)
    odd: dict[str, list[str]] = {"channels": [], "sideways": [], "size": []}
    for look in seen:
        size = f"{look.where}: {look.shape[0]} by {look.shape[1]}"
        if look.channels != usual.channels:
            odd["channels"].append(look.where)
        # Whether the proportions are those of the others with rows and columns exchanged
        mine, others = look.shape[0] / look.shape[1], usual.shape[0] / usual.shape[1]
        turned = min(mine, 1 / others) > _OBLONG or min(1 / mine, others) > _OBLONG
        ratio = mine * others
        if turned and max(ratio, 1 / ratio) < _ALIKE:
            odd["sideways"].append(size)
        elif any(max(a / b, b / a) > TWICE for a, b in zip(look.shape, usual.shape, strict=True)):
            odd["size"].append(size)
    rows, columns = usual.shape
    said = {
        "channels": ("are grey" if usual.channels == 3 else "are in colour", "the others are not"),
        "sideways": ("lie on their side", f"the others have about {rows} by {columns} pixels"),
        "size": (
            "are less than half or more than twice as large",
            f"as the others, about {rows} by {columns} pixels",
        ),
    }
    return [
        cohort_warning(
            f"image.{code}",
            "all images",
            f"{len(found)} of {len(seen)} images {said[code][0]}, "
            f"{said[code][1]}; the first is {found[0]}",
            "look at them: are they of another kind, or exported in another way?",
        )
        for code, found in odd.items()
        if 0 < len(found) <= most
    ]


_EIGHT, _SIXTEEN = 255, 65535
FEW_OF_16 = 0.25
"""Below this share of what 16 bits hold, at most 14 bits are used."""


def check_depths(seen: Sequence[Look], settings: ImageSettings) -> list[Finding]:
    """Find images that ``intensity: range`` makes nearly black, or unlike one another.

    Radiographs of 12 bits are often stored in files of 16: over the whole scale of the file their
    brightest pixel becomes 0.06.

    Args:
        seen: Looks at the images of a cohort.
        settings: How the recipe prepares them.
    """
    if settings.intensity != "range":
        return []
    findings = [] if settings.range is not None else _dim(seen)
    eight = [look for look in seen if look.full_scale == _EIGHT]
    sixteen = [look for look in seen if look.full_scale == _SIXTEEN]
    if eight and sixteen:
        limits = settings.range
        over = "each over the scale of its file" if limits is None else f"all over {list(limits)}"
        what = (
            f"{len(eight)} of {len(seen)} images have 8 bits and {len(sixteen)} have 16; range "
            f"makes them 0 to 1 {over}; the first are {eight[0].where} and {sixteen[0].where}"
        )
        fix = "--set inputs.NAME.intensity=percentile, or export all alike"
        findings.append(_warning("mixed_depth", what, fix))
    return findings


def _dim(seen: Sequence[Look]) -> list[Finding]:
    dim = [
        look for look in seen if look.full_scale == _SIXTEEN and look.largest < FEW_OF_16 * _SIXTEEN
    ]
    if not dim:
        return []
    largest = max(look.largest for look in dim)
    bits = max(8, int(largest).bit_length())
    what = (
        f"{len(dim)} of {len(seen)} images use at most {largest / _SIXTEEN:.1%} of 16 bits: "
        f"probably {bits} bits, nearly black over 16; the first is {dim[0].where}"
    )
    fix = f"--set 'inputs.NAME.range=[0, {2**bits - 1}]', or --set inputs.NAME.intensity=percentile"
    return [_warning("dim", what, fix)]


def _warning(code: str, what: str, fix: str) -> Finding:
    return cohort_warning(f"image.{code}", "all images", what, fix)
