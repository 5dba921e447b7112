"""Sketches of ECGs, and how far two of them are apart: see `medmcl.modalities.sketches`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import PRECORDIAL, TWELVE
from medmcl.modalities.sketches import between, centred, unit

_LEADS = (*TWELVE[:2], *PRECORDIAL)
"""The leads that do not follow from others."""
_MIXTURES = np.array([[1, 1, 1, -1, 1, -1, 1, 1], [1, -1, 1, 1, -1, 1, 1, -1]], dtype=np.float32)
"""Two signed sums of them, so that no lead is left out and none is read alone, (2, 8)."""
_STRETCHES = 32
_FINE_SECONDS = 0.04
_CUT = 3.0


def ecg_sketch(record: ECGRecord) -> np.ndarray | None:
    """Give 64 numbers for an ECG; None if it is too short or does not move.

    Two signed sums of I, II and V1 to V6 (of all leads by name, if one is missing), each averaged
    over 32 equal stretches of the record. (64,) float32.
    """
    rows = _independent(record, record.leads)
    if rows.shape[1] < 2 * _STRETCHES:
        return None
    mixtures = _MIXTURES if len(rows) == len(_LEADS) else _signs(len(rows))
    means = _means(mixtures @ rows, _STRETCHES)
    return unit(means)


def ecg_distance(one: ECGRecord, other: ECGRecord) -> float:
    """Say how far two ECGs are from being one recording: 0 = equal but for gain, 1.41 = unrelated.

    What is compared is the detail: second differences of 40 ms averages, cut at three median sizes
    so that what lies between the beats counts as they do, centred and of length 1, lead by lead.
    Hearts that beat alike (simulated ones may) still differ there. The distance is the median over
    leads, so one bad lead does not hide a copy.
    """
    shared = [lead for lead in one.leads if lead in other.leads]
    count = round(one.seconds / _FINE_SECONDS)
    if not shared or count < _STRETCHES or abs(one.seconds - other.seconds) > _FINE_SECONDS:
        return float("inf")
    a, b = (_detail(_means(_independent(raw, shared), count)) for raw in (one, other))
    moves = a.any(axis=1) & b.any(axis=1)
    if not moves.any():
        return float("inf")
    return float(np.median(np.linalg.norm(a[moves] - b[moves], axis=1)))


def _detail(means: np.ndarray) -> np.ndarray:
    """Second differences in median sizes, cut at 3, centred, of length 1; zeros if all alike."""
    bends = np.diff(means, n=2, axis=1)
    usual = np.median(np.abs(bends), axis=1, keepdims=True)
    cut = centred((bends / np.where(usual > 0, usual, np.inf)).clip(-_CUT, _CUT))
    size = np.linalg.norm(cut, axis=1, keepdims=True)
    detail: np.ndarray = cut / np.where(size > 0, size, 1.0)
    return detail


def _independent(record: ECGRecord, among: Sequence[str]) -> np.ndarray:
    """Rows of I, II, V1 to V6 if all are there, otherwise of all leads by name; finite, (L, S)."""
    whole = all(lead in among for lead in _LEADS)
    chosen = _LEADS if whole else sorted(among)
    rows = record.signal_mv[[record.leads.index(lead) for lead in chosen]]
    return rows if np.isfinite(rows).all() else np.nan_to_num(rows, posinf=0.0, neginf=0.0)


def _signs(count: int) -> np.ndarray:
    """Two rows of signs for any number of leads, (2, L)."""
    number = np.arange(count)
    return np.where([number % 3 < 2, number % 4 < 2], 1, -1).astype(np.float32)


def _means(rows: np.ndarray, count: int) -> np.ndarray:
    """Average over equal stretches of time, whatever the rate. (L, S) to (L, count) float64."""
    area = np.zeros((len(rows), rows.shape[1] + 1))  # the last sample lasts to the end
    steps = np.concatenate([(rows[:, 1:] + rows[:, :-1]) / 2, rows[:, -1:]], axis=1)
    np.cumsum(steps, axis=1, dtype=np.float64, out=area[:, 1:])
    edges = np.linspace(0, rows.shape[1], count + 1)
    return np.diff(between(area, edges, 1), axis=1) * (count / rows.shape[1])
