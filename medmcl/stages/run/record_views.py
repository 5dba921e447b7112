"""Records as a person looks at them: read once more, before any preparation for an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from medmcl.core.contracts import Shows
from medmcl.core.shown import ShownImage, colours_last
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.reading import read_record
from medmcl.evaluation.report.cards import RecordView


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
    content = (
        adapter.show(raw)
        if isinstance(adapter, Shows)
        else f"(records of the kind {adapter.kind} are not drawn)"
    )
    return RecordView(name=modality, content=content)


def prepared_image(pixels: np.ndarray, note: str) -> ShownImage:
    """Give an image as it is prepared, (C, H, W) of 0 to 1, to look at."""
    return ShownImage(pixels=colours_last(pixels), note=note, window=(0.0, 1.0))
