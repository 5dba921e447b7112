"""Leads without a signal: which of a record are dead, and the record without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg.checks.values import fault, is_clipped
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import LIMB, sources

LOST_SHARE = 0.5
"""Share of samples without a signal from which a lead is dead."""
STILL_SECONDS = 1.0
"""Samples that stay at one value so long hold no signal; between the waves of a heart a recording
rests for less, or moves by a quantisation step."""


@dataclass(frozen=True, kw_only=True)
class Alive:
    """A record without its dead leads.

    Attributes:
        record: As read, less the rows of dead leads; as it was if there are too many.
        dead: Lead to what is wrong with it.
        masked: Leads that are asked for and cannot be had any more.
    """

    record: ECGRecord
    dead: Mapping[str, str] = field(default_factory=dict)
    masked: tuple[str, ...] = ()


def without_dead(record: ECGRecord, wanted: Sequence[str], seconds: float, most: int) -> Alive:
    """Take dead leads out of a record, so that limb leads are derived from those that live.

    Args:
        record: As read.
        wanted: Leads that are asked for.
        seconds: How much of the record is used; only that is judged.
        most: If more of the wanted leads than this would be lost, or all, none is taken out.
    """
    length = int(np.ceil(seconds * record.rate_hz))
    limb = any(lead in LIMB for lead in wanted)
    dead = {
        lead: fault_of
        for lead, row in zip(record.leads, record.signal_mv, strict=True)
        if (lead in wanted or (limb and lead in LIMB))
        and (fault_of := why_dead(row[:length], record.rate_hz))
    }
    if not dead:
        return Alive(record=record)
    rows = [number for number, lead in enumerate(record.leads) if lead not in dead]
    left = tuple(record.leads[number] for number in rows)
    had = [lead for lead in wanted if sources(lead, record.leads)]
    masked = tuple(lead for lead in had if not sources(lead, left))
    if len(masked) > most or len(masked) == len(had):
        return Alive(record=record)
    alive = replace(record, signal_mv=record.signal_mv[rows], leads=left)
    return Alive(record=alive, dead=dead, masked=masked)


def why_dead(row: np.ndarray, rate_hz: float) -> str:
    """Say in a word why a lead (S,) is dead; empty if it lives.

    A sample holds no signal if it is not finite, if it stays at one value for a second, or if it
    is at the rail of a clipped lead. A lead of which half of the samples hold none is dead, and so
    is one whose finite samples are all alike.
    """
    finite = np.isfinite(row)
    if 2 * np.count_nonzero(finite) <= len(row):
        return "NaN"
    low, high = row[finite].min(), row[finite].max()
    if low == high:
        return "constant"
    lost = ~finite | _still(row, max(3, round(STILL_SECONDS * rate_hz)))
    if lost.mean() >= LOST_SHARE:
        return "constant"
    if is_clipped(row, rate_hz) and (lost | (row == low) | (row == high)).mean() >= LOST_SHARE:
        return "clipped"
    return ""


def _still(row: np.ndarray, run: int) -> np.ndarray:
    """Samples among at least ``run`` on end that are alike, (S,) bool."""
    changes = np.flatnonzero(row[1:] != row[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], changes, [len(row)])))
    return np.repeat(lengths >= run, lengths)


def check_dead(alive: Alive, wanted: Sequence[str], where: str) -> Iterator[Finding]:
    """Each lead that is masked, and each dead one that others give."""
    fix = "nothing, if the other leads are enough and right; else inputs.NAME.dead_leads: refuse"
    for lead in alive.masked:
        what = f"lead {lead} masked ({alive.dead.get(lead, 'not derivable')})"
        yield fault("masked_lead", where, what, fix, "warning")
    for lead, cause in alive.dead.items():
        names = sources(lead, alive.record.leads)
        if lead in wanted and names:
            what = f"lead {lead} derived from {' and '.join(names)} ({cause})"
            yield fault("derived_lead", where, what, fix, "warning")
