"""Draw 12-lead ECGs of many rhythms, with the times of their beats: for studies and tests.

Complexes are made of bumps in time that each point somewhere in space, as in the simulated hearts,
but of other forms (flat-topped, lopsided) and sizes; what each rhythm is, is said by `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmcl.simulation.heart.ecg import DOWER, twelve_leads

LATE = 3.0
"""Seconds that are drawn before and after what is kept."""


@dataclass(frozen=True)
class Rhythm:
    """A drawn ECG.

    Attributes:
        signal: I, II, III, aVR, aVL, aVF, V1 to V6 in mV, (12, S) float64.
        beats: Seconds of the middle of each QRS, (K,).
        rate_hz: True sampling rate.
    """

    signal: np.ndarray
    beats: np.ndarray
    rate_hz: float


Bump = tuple[float, float, np.ndarray]
"""Centre after the beat and width in s, and vector in mV, (3,)."""


def draw(
    kind: str, generator: np.random.Generator, rate_hz: float = 500.0, seconds: float = 10.0
) -> Rhythm:
    """Draw an ECG of one of `KINDS`."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    end = seconds + LATE
    times, wide, dipole = KINDS[kind](generator, end, at)
    form = generator.uniform(1.6, 2.6)  # 2: Gaussian; more: flat on top
    shapes = _Shapes(generator)
    for number, time in enumerate(times):
        rr = times[number + 1] - time if number + 1 < len(times) else time - times[number - 1]
        before = time - times[number - 1] if number else rr
        for centre, width, vector in shapes.bumps(kind, bool(wide[number]), rr, before):
            near = np.abs(at - time - centre) < 5 * width
            lag = np.abs(at[near] - time - centre) / width
            dipole[:, near] += vector[:, None] * np.exp(-(lag**form) / 2)
    gains = np.exp(0.1 * generator.normal(size=8))[:, None]
    leads = gains * (DOWER @ dipole)
    leads += generator.choice([0.002, 0.005, 0.01]) * generator.normal(size=leads.shape)
    slow = 0.02 * generator.normal(size=(8, 1)) * np.sin(1.5 * at + generator.uniform(0, 6))
    inside = (times >= 0) & (times < seconds)
    return Rhythm(twelve_leads((leads + slow)[None])[0], times[inside], rate_hz)


class _Shapes:
    """The waves of one heart."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.size = generator.uniform(0.7, 1.4)
        self.narrow = generator.uniform(0.85, 1.2)
        self.broad = generator.uniform(0.14, 0.2)  # seconds that a wide QRS lasts
        self.pr, self.qt = generator.uniform(0.13, 0.19), generator.uniform(0.9, 1.1)
        turn, stretch = np.linalg.qr(np.eye(3) + 0.25 * generator.normal(size=(3, 3)))
        self.turn = turn * np.sign(np.diag(stretch))
        away = generator.normal(size=3)
        self.ectopic = away / np.linalg.norm(away)
        self.retrograde = generator.random() < 0.5

    def bumps(self, kind: str, wide: bool, rr: float, before: float) -> list[Bump]:
        """Waves of a beat; ``rr`` and ``before`` are the intervals after and before it."""
        qt = 0.39 * np.sqrt(min(rr, before, 1.2)) * self.qt
        if wide:
            return self._wide(qt)
        narrow = self.narrow
        waves: list[Bump] = [
            (-0.026 * narrow, 0.009 * narrow, np.array([-0.18, -0.05, -0.3])),
            (0.0, 0.0115 * narrow, np.array([1.1, 0.8, 0.35])),
            (0.03 * narrow, 0.011 * narrow, np.array([-0.2, -0.25, 0.45])),
            (qt - 0.13, 0.038 * np.sqrt(min(rr, 1.0)), np.array([0.3, 0.22, -0.16])),
        ]
        if kind == "bundle branch block":
            waves[2:3] = [
                (0.05, 0.02, np.array([0.75, 0.35, 0.7])),
                (0.08, 0.014, np.array([0.35, 0.1, 0.5])),
            ]
            waves[-1] = (qt - 0.07, 0.05, np.array([-0.4, -0.2, -0.3]))
        if kind not in ("atrial fibrillation", "flutter 2:1"):
            p = np.array([0.09, 0.12, 0.0])
            if kind == "supraventricular tachycardia":
                waves.append((0.09, 0.015, -p if self.retrograde else 0 * p))
            else:
                waves.append((-min(self.pr, 0.45 * before), 0.022, p))
        return [(c, w, self.size * (self.turn @ vector)) for c, w, vector in waves]

    def _wide(self, qt: float) -> list[Bump]:
        broad, way = self.broad, self.size * self.ectopic
        side = np.cross(way, [0.3, 0.5, 0.8])
        return [
            (-0.15 * broad, 0.17 * broad, 1.3 * way + 0.5 * side),
            (0.2 * broad, 0.15 * broad, 0.8 * way - 0.6 * side),
            (max(qt - 0.05, 0.9 * broad), 0.055 * np.sqrt(qt / 0.39), -0.5 * way + 0.1 * side),
        ]


Beats = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Times (K,), which are wide (K,) bool, and what the atria add to the dipole, (3, S)."""


def _regular(low: float, high: float, spread: float, wide: bool) -> Callable[..., Beats]:
    def beats(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
        rr = 60 / generator.uniform(low, high)
        steps = rr * np.exp(np.clip(spread * generator.normal(size=int(end / rr * 2) + 20), -1, 1))
        times = -LATE * generator.uniform(0.5, 1) + np.cumsum(steps)
        times = times[times < end]
        return times, np.full(len(times), wide), np.zeros((3, len(at)))

    return beats


def _ventricular(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
    """120 to 250 a minute, wide, regular; P waves go their own way."""
    times, wide, dipole = _regular(120, 250, 0.01, True)(generator, end, at)
    return times, wide, dipole + _trains(generator, at, generator.uniform(60, 100), 0.08)


def _trains(
    generator: np.random.Generator, at: np.ndarray, beats: float, size: float
) -> np.ndarray:
    every = 60 / beats
    phase = (at + generator.uniform(0, every)) % every - every / 2
    return size * np.array([[0.6], [0.8], [0.0]]) * np.exp(-((phase / 0.022) ** 2) / 2)


def _fibrillation(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
    """60 to 160 a minute, irregular; fibrillatory waves of 4 to 9 Hz, no P."""
    times, wide, dipole = _regular(60, 160, 0.22, False)(generator, end, at)
    times = times[np.diff(times, prepend=-LATE) > 0.3]
    hertz = generator.uniform(4.5, 8)
    drift = np.cumsum(generator.normal(size=len(at))) * 0.4 / np.sqrt(len(at))
    wave = np.sin(2 * np.pi * hertz * at + 6 * drift) + 0.3 * np.sin(4 * np.pi * hertz * at)
    way = np.array([[0.3], [0.7], [-0.6]])
    return times, wide[: len(times)], dipole + generator.uniform(0.03, 0.1) * way * wave


def _flutter(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
    """Atria 260 to 330 a minute in saw teeth, every second one conducted."""
    atria = 60 / generator.uniform(260, 330)
    start = generator.uniform(-LATE, -LATE / 2)
    times = np.arange(start, end, 2 * atria)
    phase = ((at - start) / atria + 0.3) % 1
    saw = np.where(phase < 0.7, 0.5 - phase / 0.7, (phase - 0.7) / 0.3 - 0.5)
    way = np.array([[0.1], [0.9], [-0.3]])
    return times, np.zeros(len(times), bool), generator.uniform(0.1, 0.25) * way * saw


def _torsades(generator: np.random.Generator, _end: float, at: np.ndarray) -> Beats:
    """200 to 250 a minute; the axis turns about the baseline within 5 to 10 beats."""
    beats = generator.uniform(200, 250) / 60
    turns = 2 * np.pi * beats * at + 0.3 * np.sin(2 * np.pi * 0.3 * at)
    twist = 2 * np.pi * at * beats / generator.uniform(10, 20) + generator.uniform(0, 6)
    one, other = np.linalg.qr(generator.normal(size=(3, 2)))[0].T[:, :, None]
    size = generator.uniform(0.8, 1.5)
    dipole = size * np.sin(turns) * (one * np.cos(twist) + 0.4 * other * np.sin(twist))
    return np.zeros(0), np.zeros(0, bool), dipole


def _paced(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
    """60 to 90 a minute, wide, each beat after a spike."""
    times, wide, dipole = _regular(60, 90, 0.003, True)(generator, end, at)
    size = generator.uniform(0.3, 2.0) * np.linalg.qr(generator.normal(size=(3, 1)))[0]
    since = at[:, None] - (times - 0.09)
    return times, wide, dipole + size * ((since >= 0) & (since < 0.002)).any(axis=1)


def _bigeminy(generator: np.random.Generator, end: float, at: np.ndarray) -> Beats:
    """Every second beat comes early and is wide."""
    times, wide, dipole = _regular(60, 90, 0.02, False)(generator, end, at)
    wide[1::2] = True
    early = generator.uniform(0.3, 0.42) * np.median(np.diff(times))
    return times - early * wide, wide, dipole


KINDS: dict[str, Callable[[np.random.Generator, float, np.ndarray], Beats]] = {
    "sinus rhythm": _regular(55, 100, 0.03, False),
    "sinus tachycardia": _regular(100, 150, 0.02, False),
    "bradycardia": _regular(30, 42, 0.02, False),
    "bundle branch block": _regular(55, 100, 0.03, False),
    "paced": _paced,
    "bigeminy": _bigeminy,
    "atrial fibrillation": _fibrillation,
    "flutter 2:1": _flutter,
    "supraventricular tachycardia": _regular(180, 220, 0.01, False),
    "ventricular tachycardia": _ventricular,
    "torsades": _torsades,
}
"""Name to what draws its beats. Torsades have no complexes, so no times of beats."""
