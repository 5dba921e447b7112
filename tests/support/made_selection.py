"""A selection of pairs whose numbers are made."""

from __future__ import annotations

import numpy as np

from medmcl.core.shown import ShownCells, ShownImage, ShownSignal
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.report.cards import Card, RecordView


def shown_pair(name="7", text="sinus rhythm", *, kept=True, signal=False):
    """A pair of an image (or an ECG) and a text, with a row of a table."""
    rng = np.random.default_rng(0)
    record = (
        ShownSignal(values_mv=rng.normal(size=(3, 500)) / 3, leads=("II", "V1", "V5"), rate_hz=100)
        if signal
        else ShownImage(pixels=rng.normal(size=(40, 60)), aspect=2.0, note=text)
    )
    sides = (
        RecordView(name=text, content=text),
        RecordView(name="clinic", content=ShownCells(cells=((text, text),))),
        RecordView(name="record", content=record),
    )
    state, look = ("kept", "kept") if kept else ("not kept", "out")
    return Card(id=name, state=state, look=look, numbers={"clip": 0.25, text: -1.5}, sides=sides)


def selection(n=100, text="select", **changes):
    """The highest 40 % by the first score; group ``a`` has its lowest rows."""
    scores = np.arange(n, dtype=np.float64)
    kept = scores >= 0.6 * n
    low = np.arange(n) < n // 2
    about = {
        "name": text,
        "kept": kept,
        "rule": text,
        "scores": {"clip": scores, "other": np.random.default_rng(1).normal(size=n)},
        "subgroups": {"sex": {"a": low, "b": ~low}},
        "pairs": {"best": (shown_pair(text=text),), "worst": (shown_pair(text=text, kept=False),)},
        "sheet_by": "clip",
    }
    return SelectionEvidence(**{**about, **changes})
