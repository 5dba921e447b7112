"""Figures of cohort and losses. Each gives a `Picture`, or None if there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.suppression import few
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.patterns import Presence, presence
from medmcl.evaluation.report.pictures import (
    COLOURS,
    FAINT,
    INK,
    PAGE,
    TALLEST,
    Picture,
    drawing,
    legend_below,
    number,
    shorten,
    small_multiples,
)

MOST_STAGES = 12  # with a panel of their own
MOST_MODALITIES = 22  # with a line in the figure of patterns
MOST_PATTERNS = 16  # with a column in it


def cohort_flow(flow: Sequence[tuple[str, int, int]]) -> Picture | None:
    """Draw how many subjects and samples are left after each step."""
    if not flow:
        return None
    height = min(0.42 * len(flow), TALLEST - 0.7) + 0.7
    with drawing(PAGE, height) as (figure, ((axes,),)):
        most = max(1, max(subjects for _, subjects, _ in flow))
        heights = np.arange(len(flow))
        drawn = [0 if few(n).startswith("<") else n for _, n, _ in flow]
        axes.barh(heights, drawn, color=COLOURS[0], height=0.62)
        for place, (_, subjects, samples) in enumerate(flow):
            inside = drawn[place] > 0.55 * most
            axes.text(
                drawn[place] + (-0.01 if inside else 0.01) * most,
                place,
                f"{few(subjects)} subjects · {few(samples)} samples",
                va="center",
                ha="right" if inside else "left",
                color="white" if inside else INK,
                fontsize=8.5,
            )
        axes.set_yticks(heights, [shorten(step, 44) for step, _, _ in flow])
        axes.invert_yaxis()
        axes.set_xlim(0, most * 1.02)
        axes.set_xlabel("subjects")
        axes.tick_params(axis="y", length=0)
        return Picture.of(
            figure,
            caption(__file__, "flow"),
            said=[f"{step}: {few(a)}" for step, a, _ in flow],
            header=("step", "subjects", "samples"),
            rows=[(step, few(a), few(b)) for step, a, b in flow],
        )


def missingness_patterns(missingness: pd.DataFrame) -> Picture | None:
    """Draw which modalities are present together, as columns of dots under bars of counts.

    None where nobody lacks any: there is nothing to see.
    """
    found = presence(missingness)
    if found is None or all(all(one.present.values()) for one in found.patterns):
        return None
    names, shown = found.names[:MOST_MODALITIES], found.patterns[:MOST_PATTERNS]
    ratios = {"height_ratios": [1.5, 0.3 * len(names) + 0.1], "width_ratios": [2.6, 1]}
    with drawing(PAGE, 1.9 + 0.27 * len(names), 2, 2, gridspec_kw=ratios) as (figure, axes):
        (bars, corner), (dots, shares) = axes
        corner.axis("off")
        places = np.arange(len(shown))
        bars.bar(places, [one.height for one in shown], color=COLOURS[0], width=0.6)
        for place, one in enumerate(shown):
            bars.text(place, one.height, one.shown, ha="center", va="bottom", fontsize=8)
        bars.set(ylabel="samples", xticks=[], xlim=(-0.6, max(len(shown), 4) - 0.4))
        bars.margins(y=0.15)
        bars.set_ylim(bottom=0)
        for row, name in enumerate(names):
            has = np.array([one.present[name] for one in shown], dtype=bool)
            dots.scatter(places[has], np.full(has.sum(), row), s=60, color=COLOURS[0])
            dots.scatter(
                places[~has], np.full((~has).sum(), row), s=60, facecolor="white", edgecolor=FAINT
            )
        dots.set(xticks=[], xlim=bars.get_xlim(), ylim=(len(names) - 0.4, -0.6))
        dots.set_yticks(np.arange(len(names)), [shorten(name, 20) for name in names])
        for axis in (dots, shares):
            axis.tick_params(length=0)
            for side in axis.spines.values():
                side.set_visible(False)
        _share_bars(shares, found, names)
        shares.set_ylim(dots.get_ylim())
        hidden = len(found.patterns) - len(shown)
        unnamed = len(found.names) - len(names)
        return Picture.of(
            figure,
            caption(__file__, "patterns", hidden=hidden, unnamed=unnamed),
            said=[f"{one.name}: {one.shown} samples" for one in shown],
            header=(*found.names, "samples"),
            rows=[
                (*("present" if one.present[n] else "absent" for n in found.names), one.shown)
                for one in found.patterns
            ],
        )


def _share_bars(axes: Any, found: Presence, names: Sequence[str]) -> None:
    axes.barh(range(len(names)), [1.0] * len(names), color="#F0F0F0", height=0.5)
    axes.barh(range(len(names)), [found.part[n] for n in names], color=COLOURS[0], height=0.5)
    for row, name in enumerate(names):
        axes.text(1.03, row, found.shares[name], va="center", fontsize=8.5)
    axes.set(yticks=[], xticks=[], xlim=(0, 1.35))
    axes.set_title("present in", fontsize=9)


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture | None:
    """Draw the loss of each training stage on train and on tuning."""
    stages = {stage: _points(rows) for stage, rows in curves.items()}
    stages = {stage: points for stage, points in stages.items() if any(points.values())}
    if not stages:
        return None
    panels = min(len(stages), MOST_STAGES)
    rows: list[tuple[object, ...]] = []
    with small_multiples(panels, 2.4) as (figure, grid):
        for place, (stage, points) in enumerate(stages.items()):
            rows += _loss_rows(stage, points)
            if place < panels:
                _loss_panel(grid[place], stage, points)
        grid[0].set_ylabel("loss")
        legend_below(figure)
        return Picture.of(
            figure,
            caption(__file__, "loss", panels=panels, stages=len(stages), more=len(stages) > panels),
            said=[f"{row[0]}, {row[1]}: from {row[3]} to {row[4]}, best {row[5]}" for row in rows],
            header=("stage", "split", "points", "first", "last", "best", "at step"),
            rows=rows,
        )


def _loss_panel(axes: Any, stage: str, points: Mapping[str, list[tuple[float, float]]]) -> None:
    looks = (("train", "", COLOURS[0], "-"), ("tuning", "o", COLOURS[1], "--"))
    for kind, dot, look, dash in looks:
        if not points[kind]:
            continue
        steps, losses = np.array(points[kind]).T
        smooth = losses
        if kind == "train" and len(losses) > 60:
            axes.plot(steps, losses, color=look, alpha=0.25, linewidth=0.8)
            smooth = pd.Series(losses).rolling(15, min_periods=1, center=True).mean().to_numpy()
        dot = "o" if len(losses) == 1 else dot  # a line of one point is not seen
        axes.plot(steps, smooth, color=look, linestyle=dash, marker=dot, markersize=3.5,
                  label=kind)  # fmt: skip
    axes.set_title(shorten(stage, 30))
    axes.set_xlabel("step")
    axes.grid(axis="y")


def _loss_rows(
    stage: str, points: Mapping[str, list[tuple[float, float]]]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for kind in ("train", "tuning"):
        values = [loss for _, loss in points[kind]]
        if values:
            best = int(np.argmin(values))
            ends = (number(values[0]), number(values[-1]), number(values[best]))
            rows.append((stage, kind, len(values), *ends, int(points[kind][best][0])))
    return rows


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Finite (step, loss) points of train and tuning lines."""
    found: dict[str, list[tuple[float, float]]] = {"train": [], "tuning": []}
    for row in rows:
        loss, kind = row.get("loss"), str(row.get("split", "train"))
        if loss is not None and np.isfinite(loss) and kind in found:
            found[kind].append((float(row.get("step", 0)), float(loss)))
    return found
