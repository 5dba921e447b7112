"""Records as a person looks at them: read once more, before any preparation for an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.reading import read_record
from medmcl.evaluation.aspects.selection.evidence import (
    Content,
    RecordView,
    ShownCells,
    ShownImage,
    ShownSignal,
)
from medmcl.stages.evaluate.expert_pieces import SHOWN_LEADS

SHOWN_SECONDS = 5.0
"""Of a signal, from its start: ten seconds are too narrow beside another pair."""
MOST_CODES = 12
_PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}


def side_of(
    prepared: Prepared, modality: str, row: int, change: Callable[[Any], Any] | None = None
) -> RecordView:
    """Give one modality's record of a sample as a person looks at it.

    Texts are whole, images in the values of their file, signals in mV. A record that is absent or
    cannot be read any more gives a text that says so.

    Args:
        prepared: The cohort.
        modality: One of its modalities.
        row: Number of the sample; its split must be open (see `Prepared.rows`).
        change: From the record as read to the one that is shown; none if not given.
    """
    number = int(prepared.index(modality)[row])
    if number < 0:
        return RecordView(name=modality, content="(absent)")
    adapter = prepared.adapters[modality]
    raw, findings = read_record(adapter, prepared.cohort.records[modality]["place"].iloc[number])
    if raw is None:
        said = "; ".join(finding.what for finding in findings)
        return RecordView(name=modality, content=f"(cannot be read any more: {said})")
    raw = raw if change is None else change(raw)
    look = _LOOKS.get(adapter.kind)
    content = f"(records of the kind {adapter.kind} are not drawn)" if look is None else (
        look(adapter, raw)
    )  # fmt: skip
    return RecordView(name=modality, content=content)


def prepared_image(pixels: np.ndarray, note: str) -> ShownImage:
    """Give an image as it is prepared, (C, H, W) of 0 to 1, to look at."""
    return ShownImage(pixels=_colours(pixels), note=note, window=(0.0, 1.0))


def _image(adapter: Any, raw: Any) -> ShownImage:
    """The whole of a flat image; of a volume the slice that the recipe takes, else the middle."""
    if raw.pixels.ndim == 3:
        return ShownImage(pixels=_colours(raw.pixels), aspect=_aspect(*raw.spacing_mm[1:]))
    settings = adapter.settings
    plane, at = (settings.plane, settings.slice_at) if settings.is_flat else ("axial", 0.5)
    axis = _PLANES[plane]
    count = raw.pixels.shape[1 + axis]
    taken = min(int(count * at), count - 1)
    pixels = np.take(raw.pixels, taken, axis=1 + axis)[:, ::-1]  # upright, as `take_slice`
    rows, columns = (mm for place, mm in enumerate(raw.spacing_mm) if place != axis)
    note = f"{plane} slice {taken + 1} of {count}"
    return ShownImage(pixels=_colours(pixels), aspect=_aspect(rows, columns), note=note)


def _colours(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W), or (H, W, 3)."""
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)


def _aspect(row_mm: float, column_mm: float) -> float:
    """Height of a pixel over its width; 1 where nobody says."""
    known = math.isfinite(row_mm) and math.isfinite(column_mm) and min(row_mm, column_mm) > 0
    return row_mm / column_mm if known else 1.0


def _cmr(adapter: Any, raw: Any) -> ShownImage:
    """The slice that the recipe takes, at end-diastole (`ed`, else the first frame).

    Rows lie as the reader gives them, as in the report's cosine maps: the orientation of cardiac
    files is often made up (ACDC's is the identity), and turning by it shows hearts upside down.
    """
    frames, slices = raw.voxels.shape[:2]
    frame = raw.frames.get("ed", 0)
    at = min(int(slices * adapter.settings.slice_at), slices - 1)
    note = f"slice {at + 1} of {slices}, frame {frame + 1} of {frames}"
    return ShownImage(pixels=raw.voxels[frame, at], aspect=_aspect(*raw.spacing_mm[1:]), note=note)


def _ecg(_adapter: Any, raw: Any) -> ShownSignal:
    """Leads II, V1 and V5, or the first three, from the start of the record."""
    named = [lead for lead in SHOWN_LEADS if lead in raw.leads]
    leads = tuple(named if len(named) == len(SHOWN_LEADS) else raw.leads[: len(SHOWN_LEADS)])
    samples = max(2, round(SHOWN_SECONDS * raw.rate_hz))
    whole = raw.seconds <= SHOWN_SECONDS
    return ShownSignal(
        values_mv=raw.signal_mv[[raw.leads.index(lead) for lead in leads], :samples],
        leads=leads,
        rate_hz=raw.rate_hz,
        note="" if whole else f"first {SHOWN_SECONDS:g} of {raw.seconds:.3g} s",
    )


def _text(_adapter: Any, raw: Any) -> str:
    return str(raw) or "(an empty text)"


def _table(adapter: Any, raw: Any) -> ShownCells:
    """Every column with its unit; cells without a value are counted."""
    cells = []
    for name, value in raw.items():
        if value is not None:
            unit = adapter.columns[name].unit
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            cells.append((name, f"{shown} {unit}".rstrip()))
    missing = len(raw) - len(cells)
    return ShownCells(
        cells=tuple(cells), note=f"{counted(missing, 'cell')} missing" if missing else ""
    )


def _codes(_adapter: Any, raw: Any) -> ShownCells:
    """The latest codes with their days before the reference, the latest first."""
    latest = list(zip(raw.codes, raw.days.tolist(), strict=True))[::-1][:MOST_CODES]
    cells = tuple((code, "undated" if day < 0 else f"{day} days before") for code, day in latest)
    return ShownCells(cells=cells, note=f"the latest {len(cells)} of {len(raw.codes)} codes")


def _graph(adapter: Any, raw: Any) -> ShownImage:
    """The matrix of weights, regions in the order of the atlas."""
    weights, _ = adapter.weights(raw)
    return ShownImage(pixels=weights, note=f"weights of {len(weights)} by {len(weights)} regions")


_LOOKS: dict[str, Callable[[Any, Any], Content]] = {
    "image": _image,
    "cmr": _cmr,
    "ecg": _ecg,
    "text": _text,
    "tabular": _table,
    "codes": _codes,
    "graph": _graph,
}
