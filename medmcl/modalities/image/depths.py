"""Whether ``intensity: range`` suits the bits that images really use."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.core.findings import Finding, cohort_warning
from medmcl.modalities.image.checks import Look
from medmcl.modalities.image.settings import ImageSettings

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
