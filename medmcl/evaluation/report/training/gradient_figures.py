"""Figure of the gradient norm over training, with its spikes and the steps that were skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.figures import MOST_STAGES
from medmcl.evaluation.report.pictures import (
    COLOURS,
    Picture,
    head,
    legend_below,
    number,
    small_multiples,
)

Rows = Sequence[Mapping[str, Any]]


def gradient_norms(curves: Mapping[str, Rows]) -> Picture | None:
    """Draw the gradient norm of each training stage: the largest since the point before."""
    stages = {stage: _told(rows) for stage, rows in curves.items()}
    stages = {stage: rows for stage, rows in stages.items() if rows}
    if not stages:
        return None
    panels = min(len(stages), MOST_STAGES)
    table = [
        (stage, number(float(np.median([row["gradient_norm"] for row in rows]))),
         number(max(row["largest_gradient_norm"] for row in rows)),
         rows[-1]["gradient_spikes"], rows[-1]["skipped_steps"])
        for stage, rows in stages.items()
    ]  # fmt: skip
    with small_multiples(panels, 2.2) as (figure, grid):
        for axes, (stage, rows) in zip(grid, stages.items(), strict=False):
            _panel(axes, stage, rows)
        grid[0].set_ylabel("gradient norm")
        legend_below(figure)
        return Picture.of(
            figure,
            caption(
                __file__, "gradients", panels=panels, stages=len(stages), more=len(stages) > panels
            ),
            said=[f"{row[0]}: median {row[1]}, largest {row[2]}, {row[3]} spikes" for row in table],
            header=("stage", "median", "largest", "spikes", "skipped steps"),
            rows=table,
        )


def _told(rows: Rows) -> list[Mapping[str, Any]]:
    """Lines that say the norm of a step and the largest since the line before."""
    names = ("gradient_norm", "largest_gradient_norm")
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def _panel(axes: Any, stage: str, rows: Rows) -> None:
    from matplotlib.ticker import NullFormatter

    steps = [row["step"] for row in rows]
    dot = "o" if len(steps) == 1 else ""  # a line of one point is not seen
    axes.plot(steps, [row["largest_gradient_norm"] for row in rows], color=COLOURS[1],
              linewidth=1.0, linestyle=":", marker=dot, markersize=3.5,
              label="largest since the point before")  # fmt: skip
    axes.plot(steps, [row["gradient_norm"] for row in rows], color=COLOURS[0], linewidth=1.2,
              marker=dot, markersize=3.5, label="of single steps")  # fmt: skip
    before, marked = 0, []
    for row in rows:
        if row["gradient_spikes"] > before:
            marked.append((row["step"], row["largest_gradient_norm"]))
        before = row["gradient_spikes"]
    if marked:
        axes.scatter(*zip(*marked, strict=True), marker="^", s=22, color=COLOURS[6], zorder=3,
                     label="spikes")  # fmt: skip
    if all(row["gradient_norm"] > 0 for row in rows):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # powers would be drawn as formulas
        axes.yaxis.set_minor_formatter(NullFormatter())
    said = f"{rows[-1]['gradient_spikes']} spikes, {rows[-1]['skipped_steps']} steps skipped"
    head(axes, stage, said, most=30)
    axes.set_xlabel("step")
    axes.grid(axis="y")
