"""An ECG in which no heart beats: noise, mains hum, an open input; asystole and fibrillation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import BEAT_HZ, find_beats, rests_between
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.values import fault

LEAST_SECONDS = 3.0
"""Shorter records hold too few beats to miss them."""
FASTEST = 350.0
"""Beats a minute beyond any ventricle's: what repeats faster is a wave (PTB-XL: at most 182)."""
ONE_SHAPE = 0.5
"""Share of the complexes found that look alike, from which they are beats (PTB-XL, where
nothing repeats: 0.66 and more; noise: 0)."""
NO_BEATS = "ecg.no_beats"
"""Code of the finding."""


def check_beats(look: Look, used: Sequence[str], where: str) -> Iterator[Finding]:
    """Warn of a record without heart beats; never an error, for asystole and fibrillation exist.

    Beats are found where steepness repeats as a heart does, or where complexes that stand out from
    what is between them are of one shape. White noise has neither; of a sine no part stands out,
    or it repeats faster than a heart.
    """
    if look.levels.flat[look.places(used)].all():  # which has its own finding
        return
    span = look.beginning(used)
    if span.shape[1] < LEAST_SECONDS * look.record.rate_hz:
        return
    if _has_beats(look, used, span):
        return
    what = "no heart beats are found: noise, mains hum, or a heart that stands still or fibrillates"
    fix = "look at the record: were the electrodes on, and is it an ECG?"
    yield fault(NO_BEATS.removeprefix("ecg."), where, what, fix, "warning")


def _has_beats(look: Look, used: Sequence[str], span: np.ndarray) -> bool:
    pulse = look.pulse(used)[0]
    if not np.isnan(pulse):
        return pulse <= FASTEST
    hertz = look.record.rate_hz
    if not rests_between(span, hertz):
        return False
    rows = steps.high_pass(steps.resample(span, hertz, BEAT_HZ), BEAT_HZ, 0.5)
    beats = find_beats(rows)
    return len(beats.peaks) > 1 and bool(beats.alike.mean() >= ONE_SHAPE)
