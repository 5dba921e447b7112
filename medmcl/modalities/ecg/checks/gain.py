"""Gains that few hearts explain, and single leads in a unit of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.values import AMPLITUDE_MV, fault, judged, typical_amplitude
from medmcl.modalities.ordered import median

AMPLITUDE_DOUBT = (0.25, 6.0)
"""Peak-to-peak range in mV outside which a gain may be wrong (PTB-XL: 0.4 to 4.4)."""
LEAD_AMPLITUDE = (0.02, 40.0)
"""Swing of a lead in medians of all, outside which its unit is another (PTB-XL: 0.1 to 14)."""
IN_STEP = 0.3
"""Correlation of the steepness of a lead with that of the others from which it shows the heart."""


def check_gain(look: Look, used: Sequence[str], where: str) -> Iterator[Finding]:
    """An amplitude that is possible and rare; a unit that is wrong is found by `check_units`."""
    amplitude = typical_amplitude(look, used)
    if amplitude is None or not _within(amplitude, AMPLITUDE_MV):
        return
    if not _within(amplitude, AMPLITUDE_DOUBT):
        what = f"leads swing by {amplitude:.3g} mV, which few hearts make"
        fix = "see whether the gain (units a step) in the file's header is right"
        yield fault("wrong_units", where, what, fix, "warning")


def check_lead_units(look: Look, used: Sequence[str], where: str) -> Iterator[Finding]:
    """Leads that swing so much more or less than the others that their unit or gain is another."""
    places = [place for place in look.places(used) if not look.levels.flat[place]]
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
            yield fault("wrong_units", where, what, judged(fix, "wrong_units"))
        else:
            fix = f"look at {name}: an electrode was off, or its gain in the header is wrong"
            yield fault("wrong_units", where, what, fix, "warning")


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
