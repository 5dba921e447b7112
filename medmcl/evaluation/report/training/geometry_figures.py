"""The shape of the embedding space over training: read from the lines it wrote, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import written
from medmcl.evaluation.report.figures import MOST_STAGES
from medmcl.evaluation.report.pictures import (
    DASHES,
    PAGE,
    Picture,
    colour,
    drawing,
    head,
    legend_below,
    mark,
    number,
    shorten,
)

_NAMED = 8
"""Lines that the legend has room for."""
GEOMETRY = (
    ("effective_rank", "effective rank", "higher: more dimensions in use"),
    ("uniformity", "uniformity", "lower: more evenly spread"),
    ("alignment", "alignment", "lower: partners closer"),
)


def geometry_curves(geometry: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Draw effective rank, uniformity and alignment over training, stage after stage."""
    stages = list(dict.fromkeys(row["stage"] for row in geometry))[:MOST_STAGES]
    if not stages:
        return None
    keys = [key for key, *_ in GEOMETRY]
    frame = pd.DataFrame(geometry, columns=["stage", "step", "modality", *keys])
    frame[keys] = frame[keys].astype(float).replace([np.inf, -np.inf], np.nan)
    drawn = [one for one in GEOMETRY if frame[one[0]].notna().any()]
    if not drawn:
        return None
    shown = frame[frame["stage"].isin(stages)]
    last = shown.groupby("stage", sort=False)["step"].max()
    offset = dict(zip(stages, np.cumsum([0.0, *last]), strict=False))
    names = list(shown["modality"].unique())
    with drawing(PAGE, 2.8, columns=len(drawn)) as (figure, (panels,)):
        for axes, (key, title, hint) in zip(panels, drawn, strict=True):
            known = shown[shown[key].notna()]
            for position, name in enumerate(names):
                label: str | None = shorten(name, 18)  # a line is named where it begins
                for stage, rows in known[known["modality"] == name].groupby("stage", sort=False):
                    axes.plot(
                        rows["step"] + offset[stage],
                        rows[key],
                        color=colour(position),
                        linestyle=DASHES[position % len(DASHES)],
                        marker=mark(position) if len(rows) < 12 else "",
                        markersize=3,
                        label=label,
                    )
                    label = None
            for stage in stages[1:]:
                axes.axvline(offset[stage], color="#AAAAAA", linewidth=0.8, linestyle=":")
            axes.ticklabel_format(axis="y", useOffset=False)  # it would lie on the title
            head(axes, title, hint)
            axes.set_xlabel("step")
            axes.grid(axis="y")
        crowded = len(names) > _NAMED
        if not crowded:
            legend_below(figure)
        return Picture.of(
            figure,
            caption(__file__, "geometry", crowded=_NAMED if crowded else 0,
                      parted=", ".join(stages) if stages[1:] else ""),
            said=_last(geometry, drawn),
            **written(geometry, "stage", "step", "modality",
                      *((title, lambda row, key=key: _written(getattr(row, key)))
                        for key, title, _ in drawn)),
        )  # fmt: skip


def _written(value: Any) -> str:
    return number(_finite(value))


def _last(rows: Sequence[Mapping[str, Any]], drawn: Sequence[tuple[str, str, str]]) -> list[str]:
    """The last numbers of each stage and modality, in words."""
    last = {(row.get("stage", ""), row.get("modality", "")): row for row in rows}
    return [
        f"{stage} {name}: "
        + ", ".join(f"{title} {_written(row.get(key))}" for key, title, _ in drawn)
        for (stage, name), row in last.items()
    ]


def _finite(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


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
