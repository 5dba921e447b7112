"""Figures of results: retrieval bars, forest plot of tasks, forest plot of gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.evaluation.metrics import SPECS
from medmcl.evaluation.pictures import (
    MARKERS,
    Picture,
    canvas,
    cells,
    colour,
    encode,
    shorten,
    style,
)
from medmcl.evaluation.results import Result, difference_rows, flipped, headline_rows

METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "r2": "R²",
    "pearson": "Pearson r",
    "mae": "mean absolute error",
    "c_index": "C-index",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}


def metric_name(metric: str) -> str:
    """A metric as people write it."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def fraction_name(fraction: float) -> str:
    """A label fraction as people write it."""
    return f"{100 * fraction:g} % labels"


def retrieval_bars(results: Sequence[Result]) -> Picture | None:
    """Draw recall@k both ways, with chance as a line on each bar."""
    recalls = [row for row in results if row.metric.startswith("recall@") and row.value is not None]
    methods = list(dict.fromkeys(row.method for row in recalls if row.method != "chance"))
    ways = list(dict.fromkeys(row.target for row in recalls if row.method != "chance"))
    if not methods:
        return None
    ks = list(dict.fromkeys(row.metric for row in recalls))
    width = 0.8 / len(methods)
    with style():
        columns = min(4, len(ways))
        lines = -(-len(ways) // columns)
        figure, grid = canvas(7.4, 2.5 * lines, rows=lines, columns=columns, sharey=True)
        for axes in grid.flat[len(ways) :]:
            axes.axis("off")
        for axes, way in zip(grid.flat, ways, strict=False):
            for place, method in enumerate(methods):
                rows = [r for r in recalls if r.target == way and r.method == method]
                _bars(axes, rows, ks, place * width - 0.4 + width / 2, width, colour(place))
            for row in (r for r in recalls if r.target == way and r.method == "chance"):
                spot = ks.index(row.metric)
                axes.plot([spot - 0.45, spot + 0.45], [row.value] * 2, color="black", lw=1.4)
            axes.set_title(shorten(way, 34))
            axes.set_xticks(range(len(ks)), ks)
            axes.grid(axis="y")
        grid.flat[0].set_ylabel("share of queries")
        grid.flat[0].set_ylim(0, 1.02)
        if len(methods) > 1:
            grid.flat[0].legend([shorten(method) for method in methods])
        return Picture(
            title="Retrieval",
            aid="Share of held-out queries whose partner (or an equal item) is among the first k; "
            "whiskers are 95 % intervals over subjects, the black line is chance.",
            src=encode(figure),
            alt="Bars of recall at k",
            header=("direction", "metric", "method", "value (95 % interval)", "queries"),
            rows=cells(
                [
                    (row.target, metric_name(row.metric), row.method, row.shown, f"{row.n:,}")
                    for row in results
                ]
            ),
        )


def _bars(
    axes: Any, rows: Sequence[Result], ks: Sequence[str], shift: float, width: float, look: str
) -> None:
    for row in rows:
        place = ks.index(row.metric) + shift
        axes.bar(place, row.value, width=width * 0.9, color=look)
        if row.low is not None and row.high is not None:
            axes.plot([place, place], [row.low, row.high], color="#333333", linewidth=1.2)


def task_forest(results: Sequence[Result]) -> Picture | None:
    """Draw each task's main metric for every method and label fraction, with intervals."""
    panels = {
        task: headline_rows(results, task) for task in dict.fromkeys(row.task for row in results)
    }
    panels = {t: rows for t, rows in panels.items() if any(r.value is not None for r in rows)}
    if not panels:
        return None
    methods = list(dict.fromkeys(row.method for row in results if not row.versus))
    with style():
        figure, grid = _panels(panels, methods)
        for axes, (task, rows) in zip(grid.flat, panels.items(), strict=False):
            mean = "mean " if rows[0].target == "macro" else ""
            better = "higher" if rows[0].direction == "higher" else "lower"
            axes.set_title(shorten(task, 40))
            axes.set_xlabel(f"{mean}{metric_name(rows[0].metric)} ({better} is better)")
            spec = SPECS.get(rows[0].metric)
            if spec is not None and spec.chance is not None:
                axes.axvline(spec.chance, color="#777777", linestyle="--", linewidth=0.9)
        return Picture(
            title="What can be predicted",
            aid="Dot = value on subjects it was not fitted on (held-out, or out of fold where the "
            "protocol says so), line = 95 % bootstrap interval over subjects; "
            "dashed = a prediction that knows nothing. Overlapping lines do not mean 'no "
            "difference': the paired gains below answer that.",
            src=encode(figure),
            alt="Forest plot of task results",
            header=(
                "task", "metric", "method", "protocol", "labels", "value (95 % interval)",
                "n", "events", "spread over seeds", "note",
            ),
            rows=cells([_cells(row) for rows in panels.values() for row in rows]),
        )  # fmt: skip


def _panels(panels: Mapping[str, Sequence[Result]], methods: Sequence[str]) -> tuple[Any, Any]:
    """One forest a task; where all have the same lines, names stand at the left only."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    layouts = [_layout(rows, methods) for rows in panels.values()]
    same = len({tuple(label for label, _ in layout) for layout in layouts}) == 1
    tallest = max(len(layout) for layout in layouts)
    figure, grid = canvas(7.4, lines * (0.2 * tallest + 0.85), rows=lines, columns=columns)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for number, (axes, layout) in enumerate(zip(grid.flat, layouts, strict=False)):
        for place, (_, row) in enumerate(layout):
            if row is not None:
                position = methods.index(row.versus or row.method)
                _whisker(axes, row, place, colour(position), MARKERS[position % len(MARKERS)])
        named = not same or number % columns == 0
        axes.set_yticks(range(len(layout)), [label if named else "" for label, _ in layout])
        for label, (_, row) in zip(axes.get_yticklabels(), layout, strict=True):
            label.set_fontweight("normal" if row is not None else "bold")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(layout) - 0.4, -0.6)
        axes.grid(axis="x")
    return figure, grid


def _layout(rows: Sequence[Result], methods: Sequence[str]) -> list[tuple[str, Result | None]]:
    """Lines of a forest: a heading for each label fraction (most first), then its methods."""
    fractions = sorted({row.label_fraction for row in rows}, reverse=True)
    mixed = len({row.protocol for row in rows}) > 1
    lines: list[tuple[str, Result | None]] = []
    for fraction in fractions:
        if len(fractions) > 1:
            lines.append((fraction_name(fraction), None))
        group = [row for row in rows if row.label_fraction == fraction]
        group.sort(key=lambda row: methods.index(row.versus or row.method))
        lines += [(_label(row, mixed), row) for row in group]
    return lines


def _label(row: Result, mixed: bool) -> str:
    """Name of a line; with its protocol where a figure mixes several."""
    name = shorten(f"over {row.versus}" if row.versus else row.method, 28)
    return f"{name}, {row.protocol.replace('_', ' ')}" if mixed and not row.versus else name


def _cells(row: Result) -> tuple[object, ...]:
    return (
        row.task,
        metric_name(row.metric),
        row.method,
        row.protocol,
        fraction_name(row.label_fraction),
        row.shown,
        f"{row.n:,}",
        "-" if row.events is None else f"{row.events:,}",
        "-" if row.seed_spread is None else f"{row.seed_spread:.3f} ({row.seeds})",
        row.note,
    )


def _whisker(axes: Any, row: Result, place: float, look: str, mark: str) -> None:
    if row.value is None:
        axes.text(0.02, place, "not estimable", transform=axes.get_yaxis_transform(), fontsize=8)
        return
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=look, linewidth=2)
    axes.plot([row.value], [place], marker=mark, color=look, markersize=6, linestyle="")


def gain_forest(results: Sequence[Result], highlight: str) -> Picture | None:
    """Draw paired differences between the highlighted method and each other one.

    Args:
        results: All rows.
        highlight: The method the report is about; differences are turned to read "it minus other".
    """
    rows: list[Result] = []
    for task in dict.fromkeys(row.task for row in results):
        for row in difference_rows(results, task):
            turned = flipped(row) if row.versus == highlight else row
            if turned.value is not None and turned.method == highlight:
                rows.append(turned)
    if not rows:
        return None
    methods = list(dict.fromkeys(row.method for row in results if not row.versus))
    tasks = dict.fromkeys(row.task for row in rows)
    panels = {task: [row for row in rows if row.task == task] for task in tasks}
    with style():
        figure, grid = _panels(panels, methods)
        for axes, (task, own) in zip(grid.flat, panels.items(), strict=False):
            better = "right" if own[0].direction == "higher" else "left"
            axes.axvline(0, color="black", linewidth=0.9)
            axes.set_title(shorten(task, 40))
            axes.set_xlabel(f"difference in {metric_name(own[0].metric)} ({better} is better)")
        return Picture(
            title=f"Gain of {shorten(highlight)} over each other method",
            aid="Paired over the same subjects: a line that does not cross 0 is a "
            "difference that the sample of subjects does not explain.",
            src=encode(figure),
            alt="Forest plot of paired differences",
            header=(
                "task", "metric", "difference", "labels", "value (95 % interval)",
                "n", "spread over seeds", "note",
            ),
            rows=cells([_gain_cells(row) for row in rows]),
        )  # fmt: skip


def _gain_cells(row: Result) -> tuple[object, ...]:
    return (
        row.task,
        metric_name(row.metric),
        f"{row.method} minus {row.versus}",
        fraction_name(row.label_fraction),
        row.shown,
        f"{row.n:,}",
        "-" if row.seed_spread is None else f"{row.seed_spread:.3f} ({row.seeds})",
        row.note,
    )
