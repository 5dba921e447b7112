"""Whether an ECG would be a plain sinus rhythm if it had been sampled at some rate.

A wrong rate stretches every interval alike; disease does not. A ventricular tachycardia that is
read at half its rate beats as a heart at rest does, but its complexes then last a quarter of a
second. So a rate is doubted only where the other one makes all intervals those of a sinus rhythm:
wide complexes, fibrillation, flutter and tachycardias are not judged.
"""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import find_beats
from medmcl.modalities.ecg.complexes import BEAT_HZ
from medmcl.modalities.ecg.pulse import pulse_of
from medmcl.modalities.ecg.waves import find_waves

LOOK_SECONDS = 10.0
"""So much of a record is looked at, at the rate in question."""
BEATS = (40.0, 130.0)
"""Beats a minute. Of the records of folds 1 to 8 of PTB-XL that are coded NORM 99 % keep all these
limits; the others are irregular, fast or have a long PR interval."""
UNEVEN = 0.25
"""Standard deviation of intervals, in intervals."""
ALIKE = 0.7
"""Share of beats that look like the median one."""
QRS_MS, PR_MS, QTC_MS = (45.0, 120.0), (85.0, 300.0), (300.0, 490.0)
"""Durations of the median beat; QTc by Fridericia."""
MISSED = 0.75
"""Share of the beats that the repeating steepness tells which must be found as beats: at a rate
several times too high every second or third lies within the dead time of the one before (PTB-XL,
317 records: 0.91 or more at the right rate, at most 0.42 where a rate five times too high was
called plain). More may be found: steepness of an uneven rhythm repeats after several beats."""
DEVICES_HZ = (
    *(100.0, 120.0, 125.0, 128.0, 180.0, 200.0, 240.0, 250.0, 256.0, 300.0, 360.0, 400.0),
    *(480.0, 500.0, 512.0, 600.0, 977.0, 1000.0, 1024.0, 2000.0, 2048.0),
)
"""Rates at which devices record, or archives keep, ECGs; nothing else is ever proposed."""


def device_rate(rate_hz: float) -> float | None:
    """Give the one of `DEVICES_HZ` that is a rate, within 0.1 %; None if no device has it."""
    nearest = min(DEVICES_HZ, key=lambda device: abs(device - rate_hz))
    return nearest if abs(nearest - rate_hz) <= 0.001 * nearest else None


def sinus_beats(span: np.ndarray, rate_hz: float) -> float | None:
    """Give the beats a minute of a plain sinus rhythm; None if it is none at this rate.

    Args:
        span: Leads in mV, finite, (L, S).
        rate_hz: Samples a second, as supposed.
    """
    rows = span[:, : int(LOOK_SECONDS * rate_hz)].astype(np.float64)
    if len(rows) == 0 or rows.shape[1] < 2 * rate_hz:
        return None
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows = steps.high_pass(steps.resample(rows, rate_hz, BEAT_HZ), BEAT_HZ, 0.5)
    beats = find_beats(rows)
    if beats.median is None or beats.alike.mean() < ALIKE:
        return None
    interval = float(np.median(beats.intervals))
    waves = find_waves(beats.median, beats.noise, interval)
    if waves is None or waves.p_onset is None or waves.t_end is None:
        return None
    if 60 / interval < MISSED * pulse_of(rows, BEAT_HZ)[0]:
        return None
    ms = 1000 / BEAT_HZ
    measured = (
        (60 / interval, BEATS),
        (float(beats.intervals.std()) / interval, (0.0, UNEVEN)),
        (ms * (waves.offset - waves.onset), QRS_MS),
        (ms * (waves.onset - waves.p_onset), PR_MS),
        (ms * (waves.t_end - waves.onset) / float(np.cbrt(interval)), QTC_MS),
    )
    plain = all(low <= value <= high for value, (low, high) in measured)
    return 60 / interval if plain else None
