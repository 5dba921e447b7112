"""Many targets at once: a line each for the method of the report and its hardest rival."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.protocol.results import Result, people
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, written
from medmcl.evaluation.report.forest import Forest, Line, plant
from medmcl.evaluation.report.pictures import (
    COLOURS,
    PAGE,
    SMALL,
    Picture,
    drawing,
    encode,
    shorten,
)
from medmcl.evaluation.report.words import metric_name

Rivals = dict[tuple[str, str, str], Result]
MANY = 6  # targets from which on this figure is worth its place
MOST_TARGETS = 90  # of one metric; all are in the table
LINE = 0.16  # inches a target


def targets_overview(results: Sequence[Result], highlight: str) -> Picture | None:
    """Draw the first metric of every target, best first, a column of dots a metric."""
    rows = [row for row in _first_metric(results) if row.method == highlight]
    kinds = {metric: [r for r in rows if r.metric == metric] for metric in _metrics(rows)}
    kinds = {metric: own for metric, own in kinds.items() if len(own) > MANY}
    if not kinds:
        return None
    rivals = _rivals(results, highlight)
    images = [_image(metric, _ordered(own), rivals) for metric, own in kinds.items()]
    more = sum(max(0, len(own) - MOST_TARGETS) for own in kinds.values())
    rows = [row for own in kinds.values() for row in _ordered(own)]
    return Picture.of(
        images,
        caption(__file__, "targets", name=shorten(highlight), more=more),
        said=[f"{_name(row)}: {row.shown}" for row in rows],
        **written(rows, "task", "target", "metric", "labels", VALUE, "n", "events",
                  ("best other method", lambda row: _of(rivals, row, "method")),
                  ("its value", lambda row: _of(rivals, row, "shown"))),
    )  # fmt: skip


def _of(rivals: Rivals, row: Result, name: str) -> object:
    return getattr(rivals.get(_key(row)), name, "-")


def _image(metric: str, ordered: Sequence[Result], rivals: Rivals) -> str:
    """Targets of one metric in two columns, the best ones at the left."""
    ordered = ordered[:MOST_TARGETS]
    half = -(-len(ordered) // 2)
    span = _span([*ordered, *(rivals[k] for k in map(_key, ordered) if k in rivals)])
    better = "higher" if ordered[0].direction == "higher" else "lower"
    with drawing(PAGE, LINE * half + 0.85, columns=2) as (figure, axes):
        for place, part in zip(axes.flat, (ordered[:half], ordered[half:]), strict=True):
            lines = [Line(label=_name(row), marks=[(row, 0)]) for row in part]
            spare = [Line(label="")] * (half - len(part))
            label = f"{metric_name(metric)} ({better} is better)"
            plant(place, Forest(lines=[*lines, *spare], xlabel=label, span=span, size=3.8))
            for line, row in enumerate(part):
                if rival := rivals.get(_key(row)):
                    place.plot([rival.value], [line], marker="x", color=COLOURS[1],
                               markersize=4.5, zorder=1.9)  # fmt: skip
            place.tick_params(axis="y", labelsize=SMALL)
            place.grid()
        return encode(figure)


def _key(row: Result) -> tuple[str, str, str]:
    return (row.task, row.target, row.metric)


def _first_metric(results: Sequence[Result]) -> list[Result]:
    """The first metric of each task at the largest label fraction, without means over targets."""
    first: dict[str, str] = {}
    most: dict[str, float] = {}
    for row in results:
        first.setdefault(row.task, row.metric)
        most[row.task] = max(most.get(row.task, 0.0), row.label_fraction)
    return [
        row
        for row in results
        if not row.versus
        and row.target != "macro"
        and (row.metric, row.label_fraction) == (first[row.task], most[row.task])
    ]


def _metrics(rows: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(row.metric for row in rows))


def _ordered(rows: Sequence[Result]) -> list[Result]:
    sign = -1 if rows[0].direction == "higher" else 1
    return sorted(rows, key=lambda r: (r.value is None, sign * (r.value or 0.0)))


def _rivals(results: Sequence[Result], highlight: str) -> Rivals:
    """The best other method of each target, on the same people."""
    found: Rivals = {}
    first = _first_metric(results)
    ours = {_key(row): people(row) for row in first if row.method == highlight}
    for row in first:
        if row.method == highlight or row.value is None or people(row) != ours.get(_key(row)):
            continue
        best = found.get(_key(row))
        sign = 1 if row.direction == "higher" else -1
        if best is None or sign * row.value > sign * (best.value or 0.0):
            found[_key(row)] = row
    return found


def _span(rows: Sequence[Result]) -> tuple[float, float]:
    """Range of the axis: of the values, with intervals as far as they are not much wider."""
    values = [row.value for row in rows if row.value is not None]
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    room = max(high - low, 0.05)
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    low = max(low - room, min([low, *ends]))
    high = min(high + room, max([high, *ends]))
    edge = 0.03 * (high - low)
    return low - edge, high + edge


def _name(row: Result) -> str:
    return shorten(row.task if row.target in ("", row.task) else f"{row.target} ({row.task})", 27)
