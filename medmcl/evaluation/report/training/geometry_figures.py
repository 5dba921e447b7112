"""The shape of the embedding space over training: read from the lines it wrote, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
    stages = list(dict.fromkeys(str(row.get("stage", "")) for row in geometry))[:MOST_STAGES]
    if not stages:
        return None
    every, geometry = geometry, [row for row in geometry if str(row.get("stage", "")) in stages]
    last = dict.fromkeys(stages, 0.0)
    for row in geometry:
        name = str(row.get("stage", ""))
        last[name] = max(last[name], float(row.get("step", 0)))
    offset = dict(zip(stages, np.cumsum([0.0, *last.values()]), strict=False))
    names = list(dict.fromkeys(str(row.get("modality", "")) for row in geometry))
    drawn = [one for one in GEOMETRY if any(_finite(row.get(one[0])) is not None for row in every)]
    if not drawn:
        return None
    with drawing(PAGE, 2.8, columns=len(drawn)) as (figure, (panels,)):
        for axes, (key, title, hint) in zip(panels, drawn, strict=True):
            for position, name in enumerate(names):
                for stage in stages:
                    points = _series(geometry, key, stage, name)
                    if points:
                        x, y = zip(*points, strict=True)
                        x = np.array(x) + offset[stage]
                        label = shorten(name, 18) if stage == _first(geometry, key, name) else None
                        axes.plot(
                            x,
                            y,
                            color=colour(position),
                            linestyle=DASHES[position % len(DASHES)],
                            marker=mark(position) if len(x) < 12 else "",
                            markersize=3,
                            label=label,
                        )
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
            title="Shape of the embedding space",
            aid="Collapse shows as an effective rank that falls towards 1 and a uniformity near 0."
            + (f" Of more than {_NAMED} lines none is named: see the numbers." if crowded else "")
            + (" Dotted lines part the stages: " + ", ".join(stages) + "." if stages[1:] else ""),
            lead="Shape of the space over training",
            said=_last(every, drawn),
            **written(every, "stage", "step", "modality",
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


def _series(
    rows: Sequence[Mapping[str, Any]], key: str, stage: str, name: str
) -> list[tuple[float, float]]:
    return [
        (float(row.get("step", 0)), float(row[key]))
        for row in rows
        if str(row.get("stage", "")) == stage
        and str(row.get("modality", "")) == name
        and _finite(row.get(key)) is not None
    ]


def _first(rows: Sequence[Mapping[str, Any]], key: str, name: str) -> str:
    """The stage in which a line appears first: it alone goes into the legend."""
    return next(
        str(row.get("stage", ""))
        for row in rows
        if str(row.get("modality", "")) == name and _finite(row.get(key)) is not None
    )


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
