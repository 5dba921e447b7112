"""Faults of one ECG as read, each with its fix. Thresholds were set on 2,534 records of PTB-XL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from medmcl.core.findings import LEAVE_OUT, Finding, record_finding
from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import BEAT_HZ, find_beats, rests_between
from medmcl.modalities.ecg.checks import chest as ecg_chest
from medmcl.modalities.ecg.checks import electrodes as ecg_electrodes
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.limb import LimbFit, exchanged, explain, residual_of, residuals_of
from medmcl.modalities.ecg.checks.shapes import Shapes
from medmcl.modalities.ecg.files.readers import ECGRecord, moving, unit_factor
from medmcl.modalities.ecg.leads import LIMB, PRECORDIAL, canonical, sources
from medmcl.modalities.ordered import median

AMPLITUDE_MV = (0.02, 20.0)
"""Peak-to-peak range, median over leads, outside which a unit is wrong (PTB-XL: 0.4 to 4.4)."""
LIMB_TOLERANCE = 0.15
"""Share of the limb leads that may contradict their identities (PTB-XL: at most 0.12)."""
LIMB_DOUBT = 0.04
"""From this share on, one exchange that halves it is the mistake (PTB-XL as named: never; with a
chest lead the best exchange leaves 1.5 times as much)."""
CHEST_ERROR, CHEST_DOUBT = 10.0, 5.0
"""Log-odds of another naming of the chest leads that are an error, and a warning."""
LIMB_ERROR, LIMB_UNSURE = 10.0, 6.0
"""Log-odds of exchanged limb electrodes that are an error, and a warning."""
ONE_WAVE = 0.98
"""Share of `Shapes.common` from which names say nothing: one wave form in any size, as simulators
draw it (PTB-XL: 0.3 % of records lie above; simulated hearts: none)."""
PADDED_SECONDS = 0.1
"""No amplifier gives so long nothing but zeros in every lead."""
CLIPPED_RUN_SECONDS = 0.04
CLIPPED_SHARE = 0.01
CLIPPED_AWAY = 0.25
"""A rail is this share of the lead's range away from the middle of what is not on it."""
CLIPPED_STEPS = 10
"""The same in steps between neighbouring values: a quiet lead in coarse steps is not clipped."""


fault = partial(record_finding, "ecg")
"""Make a finding of the kind ``ecg.<code>``."""


def judged(fix: str, code: str) -> str:
    """Give the fix of an error that goes by looks: the record may be fixed, accepted, left out.

    The record is not named, so that equal faults are told together.
    """
    accept = f"accept: {{RECORD: [{code}]}} in cohort.yaml"
    return f"{fix}; if the record is right, say {accept}{LEAVE_OUT}"


def used_leads(record: ECGRecord, wanted: Sequence[str]) -> tuple[str, ...]:
    """Leads of the record that the wanted ones are read or derived from, in its own order."""
    needed = {name for lead in wanted for name in sources(lead, record.leads)}
    return tuple(lead for lead in record.leads if lead in needed)


def check_leads(record: ECGRecord, wanted: Sequence[str], where: str) -> Iterator[Finding]:
    """Leads that are asked for, absent, and cannot be derived."""
    missing = [lead for lead in wanted if not sources(lead, record.leads)]
    if missing:
        have = ", ".join(record.leads)
        what = f"lead {', '.join(missing)} is missing and cannot be derived; the file has {have}"
        fix = (
            "name the leads in cohort.yaml (leads: {NAME IN THE FILE: II}), "
            "ask for fewer (inputs.ecg.leads), or set missing_leads: zero"
        )
        yield fault("missing_leads", where, what, fix)


def check_values(look: Look, unless: str) -> Iterator[Finding]:
    """NaN, constant leads (``unless`` says how to go on without), a constant signal, clipped."""
    used, where = look.used, look.where
    places = look.places(used)
    none = np.asarray(~look.finite[places].any(axis=1))  # such leads are told as constant ones are
    if none.all():
        fix = "export it again, or take it out of the cohort"
        yield fault("nan", where, "no sample of the signal is a number", fix)
        return
    bad = ~look.finite[places] & ~none[:, np.newaxis]
    if bad.any():
        leads = [f"{lead} ({int(n)})" for lead, n in zip(used, bad.sum(1), strict=True) if n]
        what = f"NaN or infinite samples in {', '.join(leads)} of {bad.shape[1]}"
        fix = "repair the file; or, in the recipe, inputs.NAME.missing_samples: interpolate"
        yield fault("nan", where, what, fix)
    still = look.levels.flat
    flat = [lead for lead, place in zip(used, places, strict=True) if still[place]]
    if flat:
        every = len(flat) == len(used)
        how = "constant or NaN" if none.any() else "constant"
        what = f"the signal is {how}" if every else f"lead {', '.join(flat)} is {how}"
        fix = "export it again; if it stays so, an electrode was off"
        if not every:
            fix += f"; {unless}"
        yield fault("flat", where, what, fix)
    clipped = clipped_leads(look)
    if clipped:
        what = f"lead {', '.join(clipped)} stays at its highest or lowest value: it is clipped"
        fix = "look at the record; the amplifier or the export saturated"
        yield fault("clipped", where, what, fix, "warning")


def check_padding(look: Look) -> Iterator[Finding]:
    """Zeros in every lead at an end of the record, which filled it up to a length."""
    there = moving(look.record.signal_mv)
    before, after = there.start, look.finite.shape[1] - there.stop
    if there.stop and max(before, after) >= PADDED_SECONDS * look.record.rate_hz:
        seconds = (there.stop - there.start) / look.record.rate_hz
        what = (
            f"every lead is zero in the first {before} and last {after} samples: the record lasts "
            f"{seconds:.3g} s and was filled up"
        )
        fix = "cut them off: trim: zeros in cohort.yaml, numpy for an array in memory"
        yield fault("padded", look.where, what, fix, "warning")


def clipped_leads(look: Look) -> list[str]:
    """Leads that are cut off, of those used."""
    suspect = _often_extreme(look) & ~look.levels.flat
    return [
        lead
        for lead, place in zip(look.used, look.places(look.used), strict=True)
        if suspect[place] and is_clipped(look.record.signal_mv[place], look.record.rate_hz)
    ]


def _often_extreme(look: Look) -> np.ndarray:
    """Whether 1 % of a lead's finite samples lie at one of its extremes, (L,) bool."""
    rows, levels = look.record.signal_mv, look.levels
    enough = CLIPPED_SHARE * look.finite.sum(axis=1) - 0.5
    counts = [
        np.count_nonzero(rows == extreme[:, None], axis=1) for extreme in (levels.low, levels.high)
    ]
    return np.asarray(np.maximum(*counts) >= enough)


def is_clipped(row: np.ndarray, rate_hz: float) -> bool:
    """Whether a lead is cut off: it stays at an extreme that is far from the rest of its samples.

    1 % of the samples must lie at the extreme, some of them 40 ms on end. The median of the others
    must lie a quarter of the range and ten quantisation steps away: the baseline of a quiet lead
    also rests at its lowest value, but the rest of the lead is near.
    """
    good = row[np.isfinite(row)]
    run = max(3, round(CLIPPED_RUN_SECONDS * rate_hz))
    low, high = good.min(), good.max()
    for extreme in (low, high):
        at = good == extreme
        if at.mean() < CLIPPED_SHARE or _longest(at) < run or at.all():
            continue
        values = np.unique(good).astype(np.float64)
        away = abs(float(np.median(good[~at])) - float(extreme))
        far = away >= CLIPPED_AWAY * (float(high) - float(low))
        if far and away >= CLIPPED_STEPS * float(np.diff(values).min()):
            return True
    return False


def _longest(at: np.ndarray) -> int:
    """Most samples on end that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], at, [False]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def check_units(look: Look, declared: str | None) -> Iterator[Finding]:
    """A declared unit that is not the header's, or an amplitude that no heart makes."""
    record = look.record
    stated = unit_factor(record.header_units)
    contradicted = bool(declared) and stated is not None and stated != unit_factor(declared)
    promise = f"cohort.yaml says {declared}, the file says {record.header_units}"
    amplitude = typical_amplitude(look)
    if contradicted and (amplitude is None or AMPLITUDE_MV[0] <= amplitude <= AMPLITUDE_MV[1]):
        fix = f"set units: {record.header_units}, or leave units out: the file is believed"
        yield fault("wrong_units", look.where, promise, fix)
    if amplitude is None:
        return
    if not AMPLITUDE_MV[0] <= amplitude <= AMPLITUDE_MV[1]:
        likely = _likely_unit(record.units, amplitude)
        what = f"leads swing by {amplitude:.3g} mV: not plausible for values in {record.units}"
        fix = (
            f"the values are likely in {likely}: set units: {likely}, or correct the file's header"
        )
        if contradicted:  # one fault, one fix
            what = f"{promise}; but {what}"
            fix = f"the values are likely in {likely}: correct the file's header"
        yield fault("wrong_units", look.where, what, fix)


def typical_amplitude(look: Look) -> float | None:
    """Peak to peak in mV (99.9th to 0.1th percentile), median over leads that move."""
    places = look.places(look.used)
    swings = look.levels.swing[places][~look.levels.flat[places]]
    return float(median(np.sort(swings))) if len(swings) else None


def _likely_unit(units: str, amplitude: float) -> str:
    """Unit that would bring the swing nearest to 1.2 mV."""
    factor = unit_factor(units) or 1.0
    candidates = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
    distance = {
        unit: abs(np.log(max(amplitude, 1e-30) / factor * to_mv / 1.2))
        for unit, to_mv in candidates.items()
    }
    return min(distance, key=lambda unit: distance[unit])


def check_length(record: ECGRecord, seconds: float, padded: bool, where: str) -> Iterator[Finding]:
    """A record shorter than what is asked for."""
    if round(record.seconds * 1000) >= round(seconds * 1000):
        return
    what = f"lasts {record.seconds:.2f} s, {seconds:g} s are asked for"
    fix = "ask for fewer seconds (inputs.ecg.seconds), or set pad: zero or repeat"
    if padded:
        fix = "it is filled up; ask for fewer seconds, or leave it out, if that is not meant"
    yield fault("too_short", where, what, fix, "warning" if padded else "error")


def check_limb(look: Look) -> Iterator[Finding]:
    """Limb leads whose names or signs are mixed up, by the identities they must obey.

    Found in PTB-XL: II/aVF and III/aVF 99.9 % (844 records), each other exchange of two 100 % (150
    or more records); no false alarm in 2,534 records.
    """
    record = look.record
    leads = tuple(lead for lead in LIMB if lead in record.leads)
    names = [lead for lead in record.leads if lead in LIMB + PRECORDIAL]
    if len(leads) < 3:
        return
    span = look.beginning(names)
    if len(span) == 0 or (span.min(axis=1) == span.max(axis=1)).any():  # one does not move
        return
    rows = [names.index(lead) for lead in leads]
    limb = span[rows] @ span[rows].T
    residual = residual_of(leads, limb)
    if residual <= LIMB_DOUBT:
        return
    goal = min(LIMB_TOLERANCE, residual / 2)
    fit = None
    if residual <= LIMB_TOLERANCE and exchanged(leads, limb) > goal:
        fit = _with_precordial(leads, names, span @ span.T, goal)
        if fit is None:
            return
    fit = fit or explain(leads, limb, goal)
    if not fit.explanations:
        fit = _with_precordial(leads, names, span @ span.T, goal) or fit
    share = f"{residual:.0%} of the limb leads contradicts I + III = II and its like"
    if fit.explanations:
        what = (
            f"{' (or: '.join(fit.explanations[:3])}{')' * (len(fit.explanations[:3]) - 1)}; {share}"
        )
        fix = f"correct the lead names; {fit.repaired:.1%} would then remain"
        yield fault("swapped_leads", look.where, what, judged(fix, "swapped_leads"))
    else:
        fix = "check names and order of leads; leads recorded one after another do this too"
        yield fault("inconsistent_leads", look.where, share, fix, "warning")


def _with_precordial(
    leads: tuple[str, ...], names: list[str], gram: np.ndarray, goal: float
) -> LimbFit | None:
    """Look for one limb lead that was exchanged with a precordial one."""
    rows = np.array([names.index(lead) for lead in leads])
    chest = [lead for lead in PRECORDIAL if lead in names]
    if not chest:
        return None
    pairs = [(place, other) for place in range(len(leads)) for other in chest]
    tried = np.tile(rows, (len(pairs), 1))
    for order, (place, other) in zip(tried, pairs, strict=True):
        order[place] = names.index(other)
    left = residuals_of(leads, gram[tried[:, :, None], tried[:, None, :]])
    best = int(left.argmin())
    if left[best] > goal:
        return None
    place, other = pairs[best]
    words = f"{leads[place]} and {other} are swapped"
    return LimbFit(residual_of(leads, gram[np.ix_(rows, rows)]), float(left[best]), (words,))


def check_looks(look: Look, among: int = 1) -> Iterator[Finding]:
    """Leads that look like those of other hearts only under other names, or if fixed.

    Limb electrodes that are exchanged (all limb leads agree with one another then), and two chest
    leads; of the two kinds the likelier is told. ``among`` is as
    `medmcl.core.contracts.WeighsOdds` says. Rates of detection and of false alarms:
    ``docs/data_formats.md``. `together` finds the rest where a whole cohort has the same
    mistake.
    """
    limb, chest = _limb_odds(look), chest_odds(look)
    limb_most = -np.inf if limb is None else limb.max()
    chest = None if chest is None else chest[: ecg_chest.EXCHANGES + 1]
    if limb is not None and limb_most > LIMB_UNSURE and (chest is None or limb_most > chest.max()):
        yield _by_looks(
            "limb_electrodes",
            "limb",
            ecg_electrodes.WORDS[int(limb.argmax())],
            float(limb_most),
            LIMB_ERROR + np.log(among),
            "look at I, II and aVR (which points down); correct limb leads that are exchanged",
            look.where,
        )
    elif chest is not None and chest.max() > CHEST_DOUBT:
        yield _by_looks(
            "precordial_order",
            "chest",
            ecg_chest.namings()[1][int(chest.argmax())],
            float(chest.max()),
            CHEST_ERROR + np.log(among),
            "look at the R waves from V1 to V6; correct the names if they are mixed up",
            look.where,
        )


def _by_looks(
    doubt: str, leads: str, words: str, odds: float, bar: float, fix: str, where: str
) -> Finding:
    """Make an error of log-odds above the bar, and a warning of the kind ``doubt`` of others."""
    said = f"{words}, by the looks of the {leads} leads (log-odds {odds:.1f})"
    if odds > bar:
        return fault("swapped_leads", where, said, judged(fix, "swapped_leads"))
    return fault(doubt, where, f"perhaps {said}", fix, "warning")


def _limb_odds(look: Look) -> np.ndarray | None:
    """Log-odds of exchanged limb electrodes; None where the chest is not used or does not move."""
    shapes = _shapes(look)
    if shapes is None:
        return None
    odds = ecg_electrodes.log_odds(shapes)
    if sum(lead in LIMB for lead in look.record.leads) > 2:
        return odds[: ecg_electrodes.ELECTRODES]  # no lead alone is reversed: the others agree
    return odds


def chest_odds(look: Look) -> np.ndarray | None:
    """Log-odds of other namings; None without I, II and V1 to V6, or where one does not move."""
    shapes = _shapes(look)
    return None if shapes is None else ecg_chest.log_odds(shapes)


def _shapes(look: Look) -> Shapes | None:
    """Shapes of I, II, V1 to V6, where all of the chest is used and leads differ in shape."""
    if any(lead not in look.used for lead in PRECORDIAL) or look.shapes is None:
        return None
    return look.shapes if look.shapes.common < ONE_WAVE else None


def check_promise(record: ECGRecord, promised: Sequence[str], where: str) -> Iterator[Finding]:
    """Leads that cohort.yaml lists for the files and this file has not."""
    names = [canonical(name)[0] for name in promised]
    absent = [name for name in names if not sources(name, record.leads)]
    if absent:
        what = f"cohort.yaml promises lead {', '.join(absent)}; the file has {record.leads}"
        yield fault("missing_leads", where, what, "correct leads in cohort.yaml")


AMPLITUDE_DOUBT = (0.25, 6.0)
"""Peak-to-peak range in mV outside which a gain may be wrong (PTB-XL: 0.4 to 4.4)."""
LEAD_AMPLITUDE = (0.02, 40.0)
"""Swing of a lead in medians of all, outside which its unit is another (PTB-XL: 0.1 to 14)."""
IN_STEP = 0.3
"""Correlation of the steepness of a lead with that of the others from which it shows the heart."""


def check_gain(look: Look) -> Iterator[Finding]:
    """An amplitude that is possible and rare; a unit that is wrong is found by `check_units`."""
    amplitude = typical_amplitude(look)
    if amplitude is None or not _within(amplitude, AMPLITUDE_MV):
        return
    if not _within(amplitude, AMPLITUDE_DOUBT):
        what = f"leads swing by {amplitude:.3g} mV, which few hearts make"
        fix = "see whether the gain (units a step) in the file's header is right"
        yield fault("wrong_units", look.where, what, fix, "warning")


def check_lead_units(look: Look) -> Iterator[Finding]:
    """Leads that swing so much more or less than the others that their unit or gain is another."""
    places = [place for place in look.places(look.used) if not look.levels.flat[place]]
    if len(places) < 3:
        return
    swings = look.levels.swing[places]
    usual = float(median(np.sort(swings)))
    odd = [n for n, swing in enumerate(swings) if not _within(swing / usual, LEAD_AMPLITUDE)]
    for number in odd if len(odd) < len(places) / 2 else ():
        name = look.record.leads[places[number]]
        what = f"lead {name} swings by {swings[number]:.3g} mV, the others by {usual:.3g}"
        if _in_step(look, name, [look.record.leads[place] for place in places]):
            fix = f"{name} is likely in another unit: correct its gain in the file's header"
            yield fault("wrong_units", look.where, what, judged(fix, "wrong_units"))
        else:
            fix = f"look at {name}: an electrode was off, or its gain in the header is wrong"
            yield fault("wrong_units", look.where, what, fix, "warning")


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _in_step(look: Look, lead: str, leads: Sequence[str]) -> bool:
    """Whether a lead is steep when the others are."""
    span = look.beginning([lead, *(other for other in leads if other != lead)])
    if span.shape[1] < 3:
        return False
    steep = np.abs(np.diff(span, axis=1))
    steep /= steep.std(axis=1, keepdims=True) + 1e-30
    return bool(np.corrcoef(steep[0], steep[1:].mean(axis=0))[0, 1] > IN_STEP)


LEAST_SECONDS = 3.0
"""Shorter records hold too few beats to miss them."""
FASTEST = 350.0
"""Beats a minute beyond any ventricle's: what repeats faster is a wave (PTB-XL: at most 182)."""
ONE_SHAPE = 0.5
"""Share of the complexes found that look alike, from which they are beats (PTB-XL, where
nothing repeats: 0.66 and more; noise: 0)."""
NO_BEATS = "ecg.no_beats"
"""Code of the finding."""


def check_beats(look: Look) -> Iterator[Finding]:
    """Warn of a record without heart beats; never an error, for asystole and fibrillation exist.

    Beats are found where steepness repeats as a heart does, or where complexes that stand out from
    what is between them are of one shape. White noise has neither; of a sine no part stands out,
    or it repeats faster than a heart.
    """
    if look.levels.flat[look.places(look.used)].all():  # which has its own finding
        return
    span = look.beginning(look.used)
    if span.shape[1] < LEAST_SECONDS * look.record.rate_hz:
        return
    if _has_beats(look, span):
        return
    what = "no heart beats are found: noise, mains hum, or a heart that stands still or fibrillates"
    fix = "look at the record: were the electrodes on, and is it an ECG?"
    yield fault(NO_BEATS.removeprefix("ecg."), look.where, what, fix, "warning")


def _has_beats(look: Look, span: np.ndarray) -> bool:
    pulse = look.pulse(look.used)[0]
    if not np.isnan(pulse):
        return pulse <= FASTEST
    hertz = look.record.rate_hz
    if not rests_between(span, hertz):
        return False
    rows = steps.high_pass(steps.resample(span, hertz, BEAT_HZ), BEAT_HZ, 0.5)
    beats = find_beats(rows)
    return len(beats.peaks) > 1 and bool(beats.alike.mean() >= ONE_SHAPE)
