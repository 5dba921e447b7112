"""Faults of one ECG as read, each with its mend. Thresholds were set on 2,534 records of PTB-XL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg_leads import LIMB, PRECORDIAL, canonical, sources
from medmcl.modalities.ecg_limb import LimbFit, explain, residual_of
from medmcl.modalities.ecg_readers import ECGRecord, unit_factor

AMPLITUDE_MV = (0.02, 20.0)
"""Peak-to-peak range, median over leads, outside which a unit is wrong (PTB-XL: 0.4 to 4.4)."""
LIMB_TOLERANCE = 0.15
"""Share of the limb leads that may contradict their identities (PTB-XL: at most 0.12)."""
ORDER_GAIN = 0.7
"""Precordial leads are in doubt if an exchange shortens the way from V1 to V6 to this share."""
REPEATS = 0.2
"""Autocorrelation from which steepness counts as repeating (PTB-XL: 0.19 and more; noise: 0.14)."""
CLIPPED_RUN_SECONDS = 0.04
CLIPPED_SHARE = 0.01
CHECKED_SECONDS = 30.0
"""Identities, order and heart rate are judged by the beginning of a long record."""


def fault(
    code: str, where: str, what: str, mend: str, level: Literal["error", "warning"] = "error"
) -> Finding:
    """Make a finding of the kind ``ecg.<code>``."""
    return Finding(code=f"ecg.{code}", where=where, what=what, mend=mend, level=level)


def used_leads(record: ECGRecord, wanted: Sequence[str]) -> tuple[str, ...]:
    """Leads of the record that the wanted ones are read or derived from, in its own order."""
    needed = {name for lead in wanted for name in sources(lead, record.leads)}
    return tuple(lead for lead in record.leads if lead in needed)


def rows_of(record: ECGRecord, leads: Sequence[str]) -> np.ndarray:
    """Rows of some leads, (len(leads), S)."""
    return record.signal_mv[[record.leads.index(lead) for lead in leads]]


def check_leads(record: ECGRecord, wanted: Sequence[str], where: str) -> Iterator[Finding]:
    """Leads that are asked for, absent, and cannot be derived."""
    missing = [lead for lead in wanted if not sources(lead, record.leads)]
    if missing:
        have = ", ".join(record.leads)
        what = f"lead {', '.join(missing)} is missing and cannot be derived; the file has {have}"
        mend = (
            "name the leads in cohort.yaml (leads: {NAME IN THE FILE: II}), "
            "ask for fewer (inputs.ecg.leads), or set missing_leads: zero"
        )
        yield fault("missing_leads", where, what, mend)


def check_values(record: ECGRecord, used: Sequence[str], where: str) -> Iterator[Finding]:
    """NaN, constant leads, a constant signal, clipped leads."""
    rows = rows_of(record, used)
    bad = ~np.isfinite(rows)
    if bad.any():
        leads = [f"{lead} ({int(n)})" for lead, n in zip(used, bad.sum(1), strict=True) if n]
        what = f"NaN or infinite samples in {', '.join(leads)} of {rows.shape[1]}"
        mend = "mend the file, exclude the record, or set missing_samples: interpolate"
        yield fault("nan", where, what, mend)
    flat = [lead for lead, row in zip(used, rows, strict=True) if is_flat(row)]
    if flat:
        every = len(flat) == len(used)
        what = "the signal is constant" if every else f"lead {', '.join(flat)} is constant"
        mend = "exclude the record: an electrode was off, or the export failed"
        yield fault("flat", where, what, mend)
    clipped = [
        lead
        for lead, row in zip(used, rows, strict=True)
        if lead not in flat and is_clipped(row, record.rate_hz)
    ]
    if clipped:
        what = f"lead {', '.join(clipped)} stays at its highest or lowest value: it is clipped"
        mend = "look at the record; the amplifier or the export saturated"
        yield fault("clipped", where, what, mend, "warning")


def is_flat(row: np.ndarray) -> bool:
    """Whether all finite samples are alike."""
    good = row[np.isfinite(row)]
    return bool(len(good) == 0 or good.min() == good.max())


def is_clipped(row: np.ndarray, rate_hz: float) -> bool:
    """Whether 1 % of samples lie at an extreme, some of them 40 ms on end."""
    good = row[np.isfinite(row)]
    run = max(3, round(CLIPPED_RUN_SECONDS * rate_hz))
    for extreme in (good.min(), good.max()):
        at = good == extreme
        if at.mean() >= CLIPPED_SHARE and len(at) >= run:
            longest = np.convolve(at, np.ones(run), mode="valid").max()
            if longest >= run:
                return True
    return False


def check_units(
    record: ECGRecord, used: Sequence[str], declared: str | None, where: str
) -> Iterator[Finding]:
    """A declared unit that is not the header's, or an amplitude that no heart makes."""
    stated = unit_factor(record.header_units)
    if declared and stated is not None and stated != unit_factor(declared):
        what = f"cohort.yaml says {declared}, the file says {record.header_units}"
        mend = f"set units: {record.header_units}, or leave units out: the file is believed"
        yield fault("wrong_units", where, what, mend)
    amplitude = typical_amplitude(record, used)
    low, high = AMPLITUDE_MV
    if amplitude is None or low <= amplitude <= high:
        return
    likely = _likely_unit(record.units, amplitude)
    what = f"leads swing by {amplitude:.3g} mV, which is not plausible for values in {record.units}"
    mend = f"the values are likely in {likely}: set units: {likely}, or correct the file's header"
    yield fault("wrong_units", where, what, mend)


def typical_amplitude(record: ECGRecord, used: Sequence[str]) -> float | None:
    """Peak to peak in mV (99.9th to 0.1th percentile), median over leads that move."""
    swings = []
    for row in rows_of(record, used):
        good = row[np.isfinite(row)]
        if not is_flat(row):
            low, high = np.percentile(good.astype(np.float64), [0.1, 99.9])
            swings.append(high - low)
    return float(np.median(swings)) if swings else None


def _likely_unit(units: str, amplitude: float) -> str:
    """Unit that would bring the swing nearest to 1.2 mV."""
    factor = unit_factor(units) or 1.0
    candidates = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
    distance = {
        unit: abs(np.log(max(amplitude, 1e-30) / factor * to_mv / 1.2))
        for unit, to_mv in candidates.items()
    }
    return min(distance, key=lambda unit: distance[unit])


def check_rate(
    record: ECGRecord, used: Sequence[str], declared: float | None, where: str
) -> Iterator[Finding]:
    """A declared rate that is not the header's, or beats that no heart makes."""
    stated = record.header_rate_hz
    if stated is not None:
        if declared is not None and abs(declared - stated) > 1e-3 * stated:
            what = f"cohort.yaml says {declared:g} Hz, the file says {stated:g} Hz"
            mend = f"set rate_hz: {stated:g}, or leave rate_hz out: the file is believed"
            yield fault("wrong_rate", where, what, mend)
        return
    span = _beginning(record, used)
    if len(span) == 0:
        return
    beats, width = beat_and_width(span, record.rate_hz)
    fast = beats > 240 and width < 0.035
    if fast or (beats < 25 and width > 0.18):
        what = (
            f"at {record.rate_hz:g} Hz the heart beats {beats:.0f} times a minute "
            f"with complexes of {width * 1000:.0f} ms, which no heart does"
        )
        direction = "lower" if fast else "higher"
        seconds = record.signal_mv.shape[1] / 10
        mend = f"the rate is {direction}: set rate_hz ({seconds:g} if the record lasts 10 s)"
        yield fault("wrong_rate", where, what, mend)


def beat_and_width(signal: np.ndarray, rate_hz: float) -> tuple[float, float]:
    """Estimate beats a minute, and seconds that a complex lasts, from how steepness repeats.

    Args:
        signal: (L, S), finite.
        rate_hz: Rate that is believed.

    Returns:
        Beats a minute (NaN if nothing repeats) and the time after which the autocorrelation of the
        steepness has vanished.
    """
    from scipy.signal import find_peaks

    slope = np.diff(signal.astype(np.float64), axis=-1)
    slope /= slope.std(axis=-1, keepdims=True) + 1e-12
    steep = np.sqrt((slope**2).sum(axis=0))
    steep = np.minimum(steep, np.quantile(steep, 0.995))
    steep -= steep.mean()
    length = len(steep)
    spectrum = np.fft.rfft(steep, 2 * length)
    repeat = np.fft.irfft(spectrum * spectrum.conj())[:length]
    repeat /= (1 - np.arange(length) / length) * max(repeat[0], 1e-12)
    width = max(1, int(np.argmax(repeat < 0.05)))
    window = np.ones(width // 2 * 2 + 1) / (width // 2 * 2 + 1)
    smooth = np.convolve(repeat, window, mode="same")[width : length * 2 // 3]
    peaks, _ = find_peaks(smooth, prominence=0.1)
    if len(peaks) == 0 or smooth[peaks].max() < REPEATS:
        return float("nan"), width / rate_hz
    high = peaks[smooth[peaks] > 0.6 * smooth[peaks].max()]
    return 60 * rate_hz / float(high[0] + width), width / rate_hz


def check_length(record: ECGRecord, seconds: float, padded: bool, where: str) -> Iterator[Finding]:
    """A record shorter than what is asked for."""
    if round(record.seconds * 1000) >= round(seconds * 1000):
        return
    what = f"lasts {record.seconds:.2f} s, {seconds:g} s are asked for"
    mend = "ask for fewer seconds (inputs.ecg.seconds), or set pad: zero or repeat"
    yield fault("too_short", where, what, mend, "warning" if padded else "error")


def check_limb(record: ECGRecord, where: str) -> Iterator[Finding]:
    """Limb leads whose names or signs are mixed up, by the identities they must obey."""
    leads = tuple(lead for lead in LIMB if lead in record.leads)
    span = _beginning(record, [lead for lead in record.leads if lead in LIMB + PRECORDIAL])
    names = [lead for lead in record.leads if lead in LIMB + PRECORDIAL]
    if len(leads) < 3 or len(span) == 0 or any(is_flat(row) for row in span):
        return
    gram = span @ span.T
    rows = [names.index(lead) for lead in leads]
    limb = gram[np.ix_(rows, rows)]
    residual = residual_of(leads, limb)
    if residual <= LIMB_TOLERANCE:
        return
    goal = min(LIMB_TOLERANCE, residual / 2)
    fit = explain(leads, limb, goal)
    if not fit.explanations:
        fit = _with_precordial(leads, names, gram, goal) or fit
    share = f"{residual:.0%} of the limb leads contradicts I + III = II and its like"
    if fit.explanations:
        what = (
            f"{' (or: '.join(fit.explanations[:3])}{')' * (len(fit.explanations[:3]) - 1)}; {share}"
        )
        mend = f"correct the lead names; {fit.repaired:.1%} would then remain"
        yield fault("swapped_leads", where, what, mend)
    else:
        mend = "check names and order of leads; leads recorded one after another do this too"
        yield fault("inconsistent_leads", where, share, mend, "warning")


def _with_precordial(
    leads: tuple[str, ...], names: list[str], gram: np.ndarray, goal: float
) -> LimbFit | None:
    """Look for one limb lead that was exchanged with a precordial one."""
    rows = [names.index(lead) for lead in leads]
    found = []
    for place, lead in enumerate(leads):
        for other in (name for name in PRECORDIAL if name in names):
            tried = [*rows[:place], names.index(other), *rows[place + 1 :]]
            left = residual_of(leads, gram[np.ix_(tried, tried)])
            found.append((left, f"{lead} and {other} are swapped"))
    if not found or min(found)[0] > goal:
        return None
    return LimbFit(residual_of(leads, gram[np.ix_(rows, rows)]), min(found)[0], (min(found)[1],))


def check_precordial(record: ECGRecord, used: Sequence[str], where: str) -> Iterator[Finding]:
    """Chest leads that would follow one another better in another order: a doubt, no proof."""
    if any(lead not in used or lead not in record.leads for lead in PRECORDIAL):
        return
    span = _beginning(record, PRECORDIAL)
    if len(span) == 0 or any(is_flat(row) for row in span):
        return
    gram = span @ span.T
    square = np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram
    distance = np.sqrt(square.clip(min=0))
    usual = list(range(len(PRECORDIAL)))
    ways = {}
    for i, j in combinations(usual, 2):
        order = usual.copy()
        order[i], order[j] = j, i
        ways[PRECORDIAL[i], PRECORDIAL[j]] = float(distance[order[:-1], order[1:]].sum())
    best = min(ways, key=lambda pair: ways[pair])
    if ways[best] < ORDER_GAIN * float(distance[usual[:-1], usual[1:]].sum()):
        what = f"the chest leads change more smoothly if {best[0]} and {best[1]} are exchanged"
        mend = "look at the R waves from V1 to V6; correct the names if they are mixed up"
        yield fault("precordial_order", where, what, mend, "warning")


def check_promise(record: ECGRecord, promised: Sequence[str], where: str) -> Iterator[Finding]:
    """Leads that cohort.yaml lists for the files and this file has not."""
    names = [canonical(name)[0] for name in promised]
    absent = [name for name in names if not sources(name, record.leads)]
    if absent:
        what = f"cohort.yaml promises lead {', '.join(absent)}; the file has {record.leads}"
        yield fault("missing_leads", where, what, "correct leads in cohort.yaml")


def _beginning(record: ECGRecord, leads: Sequence[str]) -> np.ndarray:
    """Finite samples of the first half minute, medians removed. (L, S) float64, S may be 0."""
    length = int(CHECKED_SECONDS * record.rate_hz)
    span = rows_of(record, leads)[:, :length].astype(np.float64)
    span = span[:, np.isfinite(span).all(axis=0)]
    if span.shape[1] < 3 or not len(leads):
        return np.zeros((0, 0))
    return span - np.median(span, axis=1, keepdims=True)
