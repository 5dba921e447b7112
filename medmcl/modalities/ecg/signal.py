"""Signal steps of the ECG: resampling, baseline, clipping, normalisation. Functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np

PAPER_RATE_HZ = 500
"""The rate that the paper's lambda of the baseline belongs to."""


def resample(signal: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Change the sampling rate with a polyphase filter (zero phase, anti-aliased).

    Args:
        signal: (L, S).
        from_hz: Rate of ``signal``.
        to_hz: Rate of the answer, which has ceil(S * to_hz / from_hz) samples.
    """
    from scipy.signal import resample_poly

    ratio = (Fraction(to_hz) / Fraction(from_hz)).limit_denominator(10_000)
    if ratio == 1 or signal.shape[-1] == 0:
        return signal
    length = signal.shape[-1]
    ends = np.linspace(0, 1, length) if length > 1 else np.zeros(1)
    line = signal[:, :1] * (1 - ends) + signal[:, -1:] * ends
    flat = signal - line
    taps = _taps(ratio.numerator, ratio.denominator).astype(flat.dtype)
    moved = resample_poly(flat, ratio.numerator, ratio.denominator, axis=-1, window=taps)
    position = np.arange(moved.shape[-1]) * float(1 / ratio) / max(length - 1, 1)
    return np.asarray(moved + signal[:, :1] * (1 - position) + signal[:, -1:] * position)


@cache
def _taps(up: int, down: int) -> np.ndarray:
    """The filter that `resample_poly` designs anew in every call."""
    from scipy.signal import firwin

    most = max(up, down)
    return np.asarray(firwin(20 * most + 1, 1 / most, window=("kaiser", 5.0)))


def als_lambda_at(lam: float, rate_hz: float) -> float:
    """Give the lambda that bends a baseline in the same seconds at another rate.

    Second differences shrink with the square of the step and are charged squared, summed over
    ``rate_hz`` samples a second like the misfit: lambda grows with the fourth power of the rate.
    """
    return float(lam * (rate_hz / PAPER_RATE_HZ) ** 4)


def als_baseline(
    signal: np.ndarray, lam: float = 1e7, p: float = 0.3, reweightings: int = 5
) -> np.ndarray:
    """Give the baseline of each lead by asymmetric least squares.

    Minimises sum w (y - z)^2 + lam * sum (second difference of z)^2, where samples above the
    baseline weigh p and the others 1 - p. All leads are solved as one banded system whose blocks
    do not touch: linear in the number of samples.

    Args:
        signal: (L, S) with S >= 3.
        lam: Stiffness in units of samples^4; see `als_lambda_at`.
        p: Weight of samples above the baseline, in (0, 1).
        reweightings: Solutions taken, the first with equal weights.

    Returns:
        Baselines, (L, S) float64.

    Source:
        Eilers & Boelens 2005; values of Turgut et al. 2025 (code). Differs: a sample that lies on
        the baseline weighs 1 - p, not 0, so that a flat lead has a solution.
    """
    from scipy.linalg.lapack import dpbsv

    leads, samples = signal.shape
    y = signal.astype(np.float64).ravel()
    bands = np.tile(_penalty_bands(samples), leads) * lam
    weights = np.ones_like(y)
    for _ in range(reweightings):
        system = bands.copy()
        system[2] += weights
        _, solved, failed = dpbsv(system, (weights * y)[:, None], overwrite_ab=1, overwrite_b=1)
        if failed:
            raise ArithmeticError("the baseline of an ECG has no solution; is the signal finite?")
        baseline = solved[:, 0]
        weights = np.where(y > baseline, p, 1 - p)
    return np.asarray(baseline.reshape(leads, samples))


def _penalty_bands(samples: int) -> np.ndarray:
    """Upper bands of D'D, D the second differences: rows are offsets 2, 1 and 0. (3, S)."""
    bands = np.zeros((3, samples))
    second = (1.0, -2.0, 1.0)
    for i in range(3):
        for j in range(i, 3):
            bands[2 - (j - i), j : j + samples - 2] += second[i] * second[j]
    return bands


def high_pass(signal: np.ndarray, rate_hz: float, cutoff_hz: float) -> np.ndarray:
    """Remove what is slower than ``cutoff_hz``: Butterworth of order 2, run both ways. (L, S)."""
    pad = min(int(rate_hz / cutoff_hz), signal.shape[-1] - 1)
    return both_ways(signal, *sections(rate_hz, cutoff_hz, "highpass"), pad=pad)


def both_ways(signal: np.ndarray, sections: np.ndarray, state: np.ndarray, pad: int) -> np.ndarray:
    """Filter forth and back over odd ends of ``pad`` samples: zero phase. (L, S).

    Args:
        signal: (L, S).
        sections: Second-order sections, (K, 6).
        state: Theirs while the input stays 1, (K, 1, 2).
        pad: Samples beyond each end, fewer than S.
    """
    from scipy.signal import sosfilt

    before = 2 * signal[:, :1] - signal[:, pad:0:-1]  # odd about the ends, as in sosfiltfilt,
    after = 2 * signal[:, -1:] - signal[:, -2 : -2 - pad : -1]  # which designs anew in every call
    answer = np.concatenate([before, signal, after], axis=-1)
    for _ in range(2):
        answer, _ = sosfilt(sections, answer, axis=-1, zi=state * answer[:, :1])
        answer = answer[:, ::-1]
    return np.asarray(answer[:, pad : answer.shape[-1] - pad])


@cache
def sections(
    rate_hz: float, hertz: float | tuple[float, float], kind: Literal["highpass", "bandpass"]
) -> tuple[np.ndarray, np.ndarray]:
    """Sections of a Butterworth filter of order 2, (K, 6), and their state at rest, (K, 1, 2).

    At rest the input stays 1.
    """
    from scipy.signal import butter, sosfilt_zi

    found = np.asarray(butter(2, hertz, btype=kind, fs=rate_hz, output="sos"))
    return found, np.asarray(sosfilt_zi(found))[:, None]


def clip_to_sigma(signal: np.ndarray, sigmas: float) -> np.ndarray:
    """Clip to +- ``sigmas`` standard deviations of the whole record, around zero. (L, S)."""
    bound = sigmas * signal.std()
    return signal.clip(-bound, bound)


def normalise(
    signal: np.ndarray, groups: Sequence[Sequence[int]], epsilon: float = 1e-12
) -> np.ndarray:
    """Give each group of leads mean 0 and variance 1, taken over its leads and samples together.

    Args:
        signal: (L, S).
        groups: Rows of each group; rows in none stay as they are.
        epsilon: Added to the variance, which divides by the number of values.

    Source:
        Turgut et al. 2025 (code): groups are limb, augmented and precordial leads.
    """
    answer = signal.copy()
    for rows in map(list, groups):
        if rows:
            part = signal[rows]
            answer[rows] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    return answer


def fill_gaps(signal: np.ndarray) -> np.ndarray:
    """Draw straight lines over samples that are not finite; ends are held. (L, S)."""
    answer = signal.copy()
    places = np.arange(signal.shape[-1])
    for row in answer:
        good = np.isfinite(row)
        if good.any() and not good.all():
            row[~good] = np.interp(places[~good], places[good], row[good])
    return answer
