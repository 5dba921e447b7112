"""Figure of retrieval: recall among the first k, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, counted, written
from medmcl.evaluation.report.pictures import (
    HATCHES,
    Picture,
    colour,
    legend_below,
    shorten,
    small_multiples,
)
from medmcl.evaluation.report.section import Said, Section

MOST_DIRECTIONS = 4  # that have a sentence of their own


def sections(data: Evaluation) -> Iterator[Section]:
    """Recall both ways."""
    yield Section.of("retrieval", "Retrieval", retrieval_bars(data.rows_of("retrieval")),
                     part="Also")  # fmt: skip


def sentences(data: Evaluation) -> list[Said]:
    """How often a record finds its own partner."""
    return [Said("Also", line) for line in retrieval_lines(data.rows_of("retrieval"))]


def retrieval_lines(found: Sequence[Result]) -> list[str]:
    """A line a direction; of many directions the best, the worst and the middle."""
    recalls = [row for row in found if row.metric == "recall@10" and row.value is not None]
    chance = {row.target: row.value for row in recalls if row.method == "chance"}
    ours = [row for row in recalls if row.method != "chance"]
    lines = []
    if len(ours) > MOST_DIRECTIONS:
        ranked = sorted(ours, key=lambda row: -(row.value or 0.0))
        middle = median(row.value or 0.0 for row in ranked)
        lines = [f"Retrieval in {len(ours)} directions: median recall@10 is {middle:.3f}; best and "
                 "worst:"]  # fmt: skip
        ours = [ranked[0], ranked[-1]]
    for row in ours:
        by_chance = "" if row.target not in chance else f" (chance {chance[row.target]:.3f})"
        lines.append(f"Retrieval {row.target}: {row.metric} is {row.told_whole}{by_chance}.")
    return lines


def retrieval_bars(results: Sequence[Result]) -> Picture | None:
    """Draw recall@k both ways, with chance as a line on each bar."""
    recalls = [row for row in results if row.metric.startswith("recall@") and row.value is not None]
    methods = list(dict.fromkeys(row.method for row in recalls if row.method != "chance"))
    ways = list(dict.fromkeys(row.target for row in recalls if row.method != "chance"))
    if not methods:
        return None
    ks = list(dict.fromkeys(row.metric for row in recalls))
    width = 0.8 / len(methods)
    with small_multiples(len(ways), 2.5, 4, sharey=True) as (figure, grid):
        for axes, way in zip(grid, ways, strict=False):
            for place, method in enumerate(methods):
                rows = [r for r in recalls if r.target == way and r.method == method]
                _bars(axes, rows, ks, place * width - 0.4 + width / 2, width, place)
            for row in (r for r in recalls if r.target == way and r.method == "chance"):
                spot = ks.index(row.metric)
                axes.plot([spot - 0.45, spot + 0.45], [row.value] * 2, color="black", lw=1.4)
            axes.set_title(shorten(way, 34))
            axes.set_xticks(range(len(ks)), [one.removeprefix("recall") for one in ks])
            axes.grid(axis="y")
        grid[0].set_ylabel("recall")
        ends = [end for row in recalls for end in (row.value, row.high) if end is not None]
        grid[0].set_ylim(0, min(1.02, 1.15 * max(ends)) or 1.02)
        if len(methods) > 1:
            legend_below(figure)
        return Picture.of(
            figure,
            caption(__file__, "recall"),
            said=[f"{row.target}, {row.method}: {row.metric} {row.shown}" for row in recalls],
            **written(results, ("direction", "target"), "metric", "method", VALUE,
                      ("queries", counted("n"))),
        )  # fmt: skip


def _bars(
    axes: Any, rows: Sequence[Result], ks: Sequence[str], shift: float, width: float, method: int
) -> None:
    for number, row in enumerate(rows):
        place = ks.index(row.metric) + shift
        axes.bar(place, row.value, width=width * 0.9, color=colour(method), edgecolor="white",
                 linewidth=0, hatch=HATCHES[method % len(HATCHES)],
                 label="" if number else shorten(row.method))  # fmt: skip
        if row.low is not None and row.high is not None:
            axes.plot([place, place], [row.low, row.high], color="#333333", linewidth=1.2)
