"""What a reader measures on an ECG: intervals, axis, amplitudes, and the power of each band."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import Beats, Waves, find_beats, find_waves
from medmcl.modalities.ecg.complexes import BEAT_HZ
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import sources, take_lead

BANDS_HZ = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0)
"""Edges of the bands whose power is measured."""
RHYTHM = ("rate", "rr_sd_ms", "rmssd_ms", "alike")
WAVES = ("pr_ms", "qrs_ms", "qt_ms", "qtc_ms", "axis_cos", "axis_sin", "t_axis_cos", "t_axis_sin")
AMPLITUDES = ("p_mv", "q_mv", "r_mv", "s_mv", "st_mv", "t_mv")
_WELCH_SECONDS = 2.0
_AFTER_J = round(0.06 * BEAT_HZ)  # where ST is read


def ecg_features(record: ECGRecord, leads: Sequence[str], seconds: float) -> dict[str, float]:
    """Measure an ECG; the same names for every record, NaN where it cannot be told.

    ``rate`` 1/min of the median interval; ``rr_sd_ms`` and ``rmssd_ms`` of intervals; ``alike`` the
    share of beats that look like the median one; intervals in ms (``qtc_ms`` by Fridericia);
    ``axis_*`` and ``t_axis_*`` direction of QRS and T in the frontal plane; for each lead P, Q, R,
    S, ST (60 ms after J) and T in mV against the level before the QRS, Q and S as sizes; ``hz_*``
    decimal logarithm of the power in mV^2; ``sokolow_mv`` and ``cornell_mv`` sums of voltages.

    Args:
        record: As read; NaN samples are bridged.
        leads: Which leads; absent ones that cannot be derived give NaN.
        seconds: How much of the record.
    """
    there = [lead for lead in leads if sources(lead, record.leads)]
    length = min(record.signal_mv.shape[1], int(np.ceil(seconds * record.rate_hz)))
    rows = np.array([take_lead(lead, record.leads, record.signal_mv)[:length] for lead in there])
    rows = steps.fill_gaps(rows.astype(np.float64).reshape(len(there), length))
    good = np.isfinite(rows).all(axis=1) & (rows.std(axis=1) > 0)
    there = [lead for lead, fine in zip(there, good, strict=True) if fine]
    values = dict.fromkeys(feature_names(leads), float("nan"))
    if there and rows.shape[1] >= record.rate_hz:
        values |= _powers(rows[good], there, record.rate_hz)
        values |= _measures(rows[good], there, record.rate_hz)
    return values


def feature_names(leads: Sequence[str]) -> tuple[str, ...]:
    """Names of what `ecg_features` measures, in order."""
    bands = [_band_name(low, high) for low, high in pairwise(BANDS_HZ)]
    each = [f"{lead}_{what}" for what in (*AMPLITUDES, *bands) for lead in leads]
    return (*RHYTHM, *WAVES, "sokolow_mv", "cornell_mv", *each)


def _band_name(low: float, high: float) -> str:
    return f"hz_{low:g}_{high:g}"


def _powers(rows: np.ndarray, leads: Sequence[str], rate_hz: float) -> dict[str, float]:
    """Log power of each lead in each band that the rate can hold."""
    hertz, power = _spectrum(rows, min(rows.shape[1], round(_WELCH_SECONDS * rate_hz)), rate_hz)
    step = hertz[1] - hertz[0]
    values = {}
    for low, high in pairwise(BANDS_HZ):
        inside = (hertz >= low - step / 4) & (hertz < high - step / 4)
        if high > rate_hz / 2 or not inside.any():
            continue
        logs = np.log10(power[:, inside].sum(axis=1) * step + 1e-9)
        for lead, log in zip(leads, logs, strict=True):
            values[f"{lead}_{_band_name(low, high)}"] = float(log)
    return values


def _spectrum(rows: np.ndarray, span: int, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the rates (F,) and the power density (L, F) of half-overlapping Hann windows.

    Source:
        Welch 1967, IEEE Trans Audio Electroacoust 15:70; what `scipy.signal.welch` gives, in a
        quarter of its time for arrays as small as ours.
    """
    parts = np.lib.stride_tricks.sliding_window_view(rows, span, axis=1)[:, :: span - span // 2]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(span) / span)
    level = parts.mean(axis=2, keepdims=True)
    power = (np.abs(np.fft.rfft((parts - level) * window, axis=2)) ** 2).mean(axis=1)
    power *= 2 / (rate_hz * (window**2).sum())
    power[:, 0] /= 2
    if span % 2 == 0:
        power[:, -1] /= 2
    return np.fft.rfftfreq(span, 1 / rate_hz), power


def _measures(rows: np.ndarray, leads: Sequence[str], rate_hz: float) -> dict[str, float]:
    level = rows.mean(axis=1, keepdims=True)
    rows = steps.high_pass(steps.resample(rows - level, rate_hz, BEAT_HZ), BEAT_HZ, 0.5)
    beats = find_beats(rows)
    values = _rhythm(beats)
    interval = float(np.median(beats.intervals)) if len(beats.intervals) else 0.0
    median = beats.median
    waves = None if median is None else find_waves(median, beats.noise, interval)
    if median is None or waves is None:
        return values
    flat = median - waves.level[:, None]
    values |= _intervals(waves, interval) | _directions(flat, waves, leads)
    for what, each in _amplitudes(flat, waves).items():
        values |= {f"{lead}_{what}": float(mv) for lead, mv in zip(leads, each, strict=True)}
    return values | _voltages(values)


def _rhythm(beats: Beats) -> dict[str, float]:
    intervals = 1000 * beats.intervals
    if len(intervals) < 1:
        return {}
    values = {"rate": 60_000 / float(np.median(intervals)), "alike": float(beats.alike.mean())}
    if len(intervals) >= 3:
        values["rr_sd_ms"] = float(intervals.std(ddof=1))
        values["rmssd_ms"] = float(np.sqrt((np.diff(intervals) ** 2).mean()))
    return values


def _intervals(waves: Waves, interval: float) -> dict[str, float]:
    """P to QRS, QRS, QT in ms; QTc = QT / RR^(1/3) (Fridericia 1920)."""
    ms = 1000 / BEAT_HZ
    values = {"qrs_ms": ms * (waves.offset - waves.onset)}
    if waves.p_onset is not None:
        values["pr_ms"] = ms * (waves.onset - waves.p_onset)
    if waves.t_end is not None:
        values["qt_ms"] = ms * (waves.t_end - waves.onset)
        values["qtc_ms"] = values["qt_ms"] / float(np.cbrt(interval))
    return values


def _amplitudes(flat: np.ndarray, waves: Waves) -> dict[str, np.ndarray]:
    """Amplitudes of each lead, (L,) each; of P and T at the peak that all leads share."""
    qrs = flat[:, waves.onset : waves.offset + 1]
    top = qrs.argmax(axis=1)
    places = np.arange(qrs.shape[1])
    early = places <= top[:, None]
    at = min(waves.offset + _AFTER_J, flat.shape[1] - 1)
    values = {
        "r_mv": np.maximum(qrs.max(axis=1), 0),
        "q_mv": np.maximum(-np.where(early, qrs, 0).min(axis=1), 0),
        "s_mv": np.maximum(-np.where(early, 0, qrs).min(axis=1), 0),
        "st_mv": flat[:, at - 5 : at + 6].mean(axis=1),
    }
    for name, peak in (("p_mv", waves.p_peak), ("t_mv", waves.t_peak)):
        if peak is not None:
            values[name] = flat[:, max(0, peak - 5) : peak + 6].mean(axis=1)
    return values


def _directions(flat: np.ndarray, waves: Waves, leads: Sequence[str]) -> dict[str, float]:
    """Cosine and sine of the axis of QRS and T: areas in I and aVF, 0 degrees = left."""
    if not {"I", "aVF"} <= set(leads):
        return {}
    pair = flat[[leads.index("I"), leads.index("aVF")]]
    parts = {"axis": pair[:, waves.onset : waves.offset + 1].sum(axis=1)}
    if waves.t_end is not None:
        parts["t_axis"] = pair[:, waves.offset + _AFTER_J : waves.t_end].sum(axis=1)
    values: dict[str, float] = {}
    for name, (x, y) in parts.items():
        y = y * 2 / np.sqrt(3)  # aVF is the smaller by this factor
        size = float(np.hypot(x, y))
        if size > 0:
            values |= {f"{name}_cos": float(x) / size, f"{name}_sin": float(y) / size}
    return values


def _voltages(values: dict[str, float]) -> dict[str, float]:
    """Sokolow-Lyon (S V1 + larger R of V5, V6) and Cornell (R aVL + S V3) where leads allow."""
    size = defaultdict(lambda: float("nan"), values)
    deep = max(size["V1_s_mv"], size["V1_q_mv"])
    return {
        "sokolow_mv": deep + max(size["V5_r_mv"], size["V6_r_mv"]),
        "cornell_mv": size["aVL_r_mv"] + max(size["V3_s_mv"], size["V3_q_mv"]),
    }
