"""Order statistics of the leads of one ECG: sorted once, read by every check that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medmcl.modalities.ecg.beats import pulse_of
from medmcl.modalities.ecg.checks.shapes import LEADS, Shapes, measure_shapes
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ordered import median, quantile

CHECKED_SECONDS = 30.0
"""Identities, order and heart rate are judged by the beginning of a long record."""
TAILS = (0.1 / 100, 99.9 / 100)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Extremes, middle and tails of leads over their finite samples; NaN where there is none.

    Attributes:
        low: Smallest sample, (L,).
        high: Largest sample, (L,).
        median: (L,) float64.
        swing: From the 0.1th to the 99.9th percentile, (L,) float64.
    """

    low: np.ndarray
    high: np.ndarray
    median: np.ndarray
    swing: np.ndarray

    @cached_property
    def flat(self) -> np.ndarray:
        """Whether all finite samples of a lead are alike, (L,) bool."""
        return ~(self.low < self.high)


def levels_of(rows: np.ndarray) -> Levels:
    """Measure leads, (L, S); samples that are not finite are left out, lead by lead."""
    finite = np.isfinite(rows)
    if finite.all() and rows.size:
        return _measure(rows)
    parts = [
        _measure(row[None, good] if good.any() else np.full((1, 1), np.nan))
        for row, good in zip(rows, finite, strict=True)
    ]
    names = ("low", "high", "median", "swing")
    return Levels(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def _measure(rows: np.ndarray) -> Levels:
    ordered = np.sort(rows, axis=1)
    ends = ordered.astype(np.float64)
    return Levels(
        low=ordered[:, 0],
        high=ordered[:, -1],
        median=median(ordered),
        swing=quantile(ends, TAILS[1]) - quantile(ends, TAILS[0]),
    )


class Look:
    """One record and what its checks have in common, each computed once.

    Args:
        record: The record.
        used: Its leads that are judged; all if not given.
        where: What findings call the record.
    """

    def __init__(
        self, record: ECGRecord, used: tuple[str, ...] | None = None, where: str = ""
    ) -> None:
        self.record, self.where = record, where
        self.used = record.leads if used is None else used
        self._pulses: dict[tuple[str, ...], tuple[float, float]] = {}

    def rows(self, leads: Sequence[str]) -> np.ndarray:
        """Rows of some leads, (len(leads), S)."""
        return self.record.signal_mv[self.places(leads)]

    def places(self, leads: Sequence[str]) -> list[int]:
        """Row numbers of some leads."""
        return [self.record.leads.index(lead) for lead in leads]

    @cached_property
    def finite(self) -> np.ndarray:
        """Which samples are finite, (L, S)."""
        return np.isfinite(self.record.signal_mv)

    @cached_property
    def levels(self) -> Levels:
        """Levels of every row of the record."""
        return levels_of(self.record.signal_mv)

    @cached_property
    def _sound_beginning(self) -> np.ndarray | None:
        """`beginning` of every row, where no sample at all has to be left out."""
        length = int(CHECKED_SECONDS * self.record.rate_hz)
        span = self.record.signal_mv[:, :length]
        if span.shape[1] < 3 or not self.finite[:, :length].all():
            return None
        whole = span.shape[1] == self.record.signal_mv.shape[1]
        middle = self.levels.median if whole else median(np.sort(span, axis=1))
        return span.astype(np.float64) - middle[:, None]

    @cached_property
    def shapes(self) -> Shapes | None:
        """Shapes of I, II, V1 to V6; None without them, or where one is still or no heart beats."""
        if any(lead not in self.record.leads for lead in LEADS):
            return None
        sound = self._sound_beginning is not None
        if np.isnan(self.pulse(self.record.leads if sound else LEADS)[0]):
            return None
        span = self.beginning(LEADS)
        if len(span) == 0 or (span.min(axis=1) == span.max(axis=1)).any():
            return None
        return measure_shapes(span, self.record.rate_hz)

    def pulse(self, leads: Sequence[str]) -> tuple[float, float]:
        """Beats a minute in the beginning of some leads, NaN where no heart beats; and width in s.

        See `medmcl.modalities.ecg.beats.beat_and_width`.
        """
        key = tuple(leads)
        if key not in self._pulses:
            self._pulses[key] = pulse_of(self.beginning(leads), self.record.rate_hz)
        return self._pulses[key]

    def beginning(self, leads: Sequence[str]) -> np.ndarray:
        """Samples of the first half minute that are finite in all these leads, medians removed.

        Returns:
            (len(leads), S) float64, not to be written to; (0, 0) if fewer than three samples are
            left.
        """
        if not len(leads):
            return np.zeros((0, 0))
        if self._sound_beginning is not None:
            every = tuple(leads) == self.record.leads
            return self._sound_beginning if every else self._sound_beginning[self.places(leads)]
        length = int(CHECKED_SECONDS * self.record.rate_hz)
        span = self.rows(leads)[:, :length].astype(np.float64)
        span = span[:, np.isfinite(span).all(axis=0)]
        if span.shape[1] < 3:
            return np.zeros((0, 0))
        return np.asarray(span - np.median(span, axis=1, keepdims=True))
