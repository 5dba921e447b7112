"""What embeddings tell, drawn: confounders and tasks of the same models on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medmcl.evaluation.aspects.confounders.measure import ToldLine
from medmcl.evaluation.report.pictures import (
    PAGE,
    TALLEST,
    Picture,
    colour,
    drawing,
    mark,
    model_keys,
    number,
    shorten,
    whisker,
)
from medmcl.evaluation.report.words import metric_name

MOST_TASKS = 8  # lines of tasks on one scale; every task is in the table
APART = 0.17  # inches between the dots of two models
HEADED = 0.75  # inches of a panel beside its lines
CHANCE = "#777777"
ELSE, TASKS = "confounders", "tasks"


def told_dots(lines: Sequence[ToldLine], models: Sequence[str]) -> Picture | None:
    """Draw the first metric of every confounder, a panel a metric, the tasks below on its scale.

    Tasks whose metric no confounder has (survival) stand in the table only.

    Args:
        lines: Of confounders, then of tasks.
        models: In the order of colours.
    """
    drawn = [line for line in lines if line.is_first and _has_value(line)]
    metrics = list(dict.fromkeys(line.metric for line in drawn if not line.is_task))
    panels = {metric: _panel_lines(drawn, metric) for metric in metrics}
    if not panels:
        return None
    tall = [_height(layout, len(models)) for layout in panels.values()]
    whole = min(sum(tall) + 0.3, TALLEST)
    shown = [line for layout in panels.values() for line in layout if isinstance(line, ToldLine)]
    with drawing(PAGE, whole, len(panels), height_ratios=tall) as (figure, grid):
        for axes, (metric, layout) in zip(grid[:, 0], panels.items(), strict=True):
            _panel(axes, metric, layout, models)
        model_keys(figure, grid[0, 0], models, linewidth=2, markersize=6)
        return Picture.of(
            figure,
            title="Confounders and tasks, from the same embeddings",
            aid="Dot = value on subjects it was not fitted on, line = 95 % bootstrap interval over "
            "subjects; dashed = a prediction that knows nothing; the AUROC of several classes is "
            "the mean of each against the rest. Of a confounder, nearer to the dashed line means "
            "that the embedding tells less of it; left of the line, it tells nothing. Of a task, "
            "further right is better." + _rest(drawn, panels),
            lead="Dot plot of what the embeddings tell",
            said=[_said(line) for line in shown],
            header=("predicted", "role", "metric", "knows nothing", "model",
                    "value (95 % interval)", "n"),
            rows=[row for line in shown for row in _rows(line)],
        )  # fmt: skip


def _has_value(line: ToldLine) -> bool:
    return any(row.value is not None for row in line.values.values())


def _panel_lines(drawn: Sequence[ToldLine], metric: str) -> list[ToldLine | str]:
    """Lines on one scale, under a heading each for confounders and tasks."""
    own = [line for line in drawn if line.metric == metric]
    tasks = [line for line in own if line.is_task][:MOST_TASKS]
    asked = [line for line in own if not line.is_task]
    return [ELSE, *asked, TASKS, *tasks] if tasks else [ELSE, *asked]


def _rest(drawn: Sequence[ToldLine], panels: dict[str, list[ToldLine | str]]) -> str:
    count = sum(isinstance(line, ToldLine) for layout in panels.values() for line in layout)
    more = len(drawn) - count
    return f" Tasks that are in the table only: {more}." if more else ""


def _steps(layout: Sequence[ToldLine | str], models: int) -> list[float]:
    """Middle of each line, from the top, in inches."""
    middles, used = [], 0.0
    for line in layout:
        wide = APART * 1.2 if isinstance(line, str) else APART * (models + 0.7)
        middles.append(used + wide / 2)
        used += wide
    return [*middles, used]


def _height(layout: Sequence[ToldLine | str], models: int) -> float:
    return _steps(layout, models)[-1] + HEADED


def _panel(axes: Any, metric: str, layout: Sequence[ToldLine | str], models: Sequence[str]) -> None:
    *middles, total = _steps(layout, len(models))
    for middle, line in zip(middles, layout, strict=True):
        if isinstance(line, str):
            continue
        for k, name in enumerate(models):
            row = line.values.get(name)
            if row is not None:
                shift = (k - (len(models) - 1) / 2) * APART
                whisker(axes, row, middle + shift, colour(k), mark(k))
    names = [line if isinstance(line, str) else shorten(line.what, 34) for line in layout]
    axes.set_yticks(middles, names)
    for label, line in zip(axes.get_yticklabels(), layout, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(total, 0)
    chance = next(line.chance for line in layout if isinstance(line, ToldLine))
    if chance is not None:
        axes.axvline(chance, color=CHANCE, linestyle="--", linewidth=0.9)
    axes.set_xlabel(metric_name(metric))
    axes.grid(axis="x")


def _said(line: ToldLine) -> str:
    return f"{line.what}, {line.named}: " + ", ".join(
        f"{name} {row.shown}" for name, row in line.values.items()
    )


def _rows(line: ToldLine) -> list[tuple[object, ...]]:
    role = "task" if line.is_task else "confounder"
    return [
        (line.what, role, line.named, number(line.chance), name, row.shown, f"{row.n:,}")
        for name, row in line.values.items()
    ]
