"""Shape of the embedding space, read from the lines that training wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def geometry_of(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Collect geometry from lines with keys such as ``uniformity/ecg`` or ``alignment/a~b``."""
    found: dict[tuple[str, Any, str], dict[str, Any]] = {}
    for stage, lines in curves.items():
        for line in lines:
            for key, value in line.items():
                measure, slash, name = key.partition("/")
                if slash and measure in ("effective_rank", "uniformity", "alignment"):
                    place = (stage, line.get("step", 0), name)
                    row = found.setdefault(
                        place, {"stage": stage, "step": place[1], "modality": name}
                    )
                    row[measure] = value
    return list(found.values())
