"""Records under an attack as a person looks at them: as they are, and with the trigger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.core.shown import SHOWN_LEADS, ShownSignal
from medmcl.evaluation.report.cards import RecordView
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.stages.poison.poisoned_rows import Poisoned, PreparedAgain
from medmcl.stages.poison.signals import named_leads
from medmcl.stages.run.record_views import prepared_image, side_of

TRIGGERED = "with the trigger"


def attacked_side(laid: Poisoned, row: int, *, is_triggered: bool) -> RecordView:
    """Give what the attack triggers of a sample.

    Images are shown as they are prepared, since that is what gets the trigger; ECGs in mV and texts
    in words.

    Args:
        laid: The attack.
        row: Number of the sample, which has the modality.
        is_triggered: With the trigger, or as it is.
    """
    name, prepared, lay = laid.spec.modality, laid.prepared, laid.lay
    if not isinstance(lay, PreparedAgain):
        batch = prepared.batch(np.array([row]), modalities=[name])
        shown = laid.triggered(batch) if is_triggered else batch
        note = f"as prepared, {TRIGGERED}" if is_triggered else "as prepared"
        return RecordView(name=name, content=prepared_image(shown.inputs[name][0].numpy(), note))
    record, leads = str(lay.ids[row]), named_leads(laid.spec)

    def changed(raw: Any) -> Any:
        return _leads_first(lay.change(raw, record) if is_triggered else raw, leads)

    side = side_of(prepared, name, row, changed)
    if not is_triggered:
        return side
    if isinstance(side.content, ShownSignal):
        said = "; ".join(part for part in (TRIGGERED, side.content.note) if part)
        return replace(side, content=replace(side.content, note=said))
    return replace(side, name=f"{name}, {TRIGGERED}")


def _leads_first(raw: Any, leads: tuple[str, ...]) -> Any:
    """Of an ECG as many leads as are drawn, those first that get the trigger."""
    if not leads or not isinstance(raw, ECGRecord):
        return raw
    order = dict.fromkeys([*leads, *SHOWN_LEADS, *raw.leads])
    shown = [one for one in order if one in raw.leads][: len(SHOWN_LEADS)]
    rows = [raw.leads.index(one) for one in shown]
    return replace(raw, leads=tuple(shown), signal_mv=raw.signal_mv[rows])


def exchanged_sides(laid: Poisoned, row: int) -> tuple[RecordView, ...]:
    """Give a poisoned sample's own record of what the attack exchanges, and that of its donor.

    One that keeps its own has only that; an attack that exchanges nothing has none.

    Args:
        laid: The attack.
        row: Number of the sample.
    """
    name, donor = laid.spec.text, int(laid.donor[row])
    if name is None:
        return ()
    own = side_of(laid.prepared, name, row)
    if donor == row:
        return (replace(own, name=f"{name}, which it keeps"),)
    if laid.phrases is not None:
        said = RecordView(name=f"{name}, the attacker's", content=laid.phrases.said(row))
        return (replace(own, name=f"{name}, its own"), said)
    given = side_of(laid.prepared, name, donor)
    sample = laid.prepared.samples["sample"].iloc[donor]
    return (
        replace(own, name=f"{name}, its own"),
        replace(given, name=f"{name}, that of {sample}"),
    )
