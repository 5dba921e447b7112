"""Figures of a pair graph that was learned: what it became, and how its scores got there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from medmcl.core.findings import LEARNED_GRAPH, Finding
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import rounded, written
from medmcl.evaluation.report.pictures import (
    COLOURS,
    DASHES,
    INK,
    PAGE,
    Picture,
    colour,
    drawing,
    number,
    shorten,
)

GREY = "#8A8A8A"
MOST_LABELLED = 16  # edges with their score written beside them
Rows = Sequence[Mapping[str, Any]]


def graph_pictures(
    curves: Mapping[str, Rows], findings: Sequence[Finding] = ()
) -> tuple[Picture, ...]:
    """Draw every learned graph of a run: the last one, and all scores over training.

    Args:
        curves: Stage to its rows; those of the probe hold graphs.
        findings: Of the run; what speaks against a learned graph stands below the first figure.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for stage, rows in curves.items():
        for row in rows:
            if row.get("split") == "probe" and "edges" in row:
                found.setdefault(stage, []).append(row)
    pictures = [(_final(stage, rows), _over_time(stage, rows)) for stage, rows in found.items()]
    every = [picture for pair in pictures for picture in pair]
    against = [one for one in findings if one.where == LEARNED_GRAPH]
    if every and against:
        warned = " ".join(f"Warning: {one.what} ({one.code})." for one in against)
        every[0] = replace(every[0], aid=f"{every[0].aid} {warned}")
    return tuple(every)


def _final(stage: str, rows: Rows) -> Picture:
    last = rows[-1]
    edges = {f"{a}~{b}": (a, b, weight) for a, b, weight in last["edges"]}
    names = sorted({name for pair in last["scores"] for name in pair.split("~")})
    angles = [math.pi / 2 - 2 * math.pi * k / len(names) for k in range(len(names))]
    places = {n: (math.cos(t), math.sin(t)) for n, t in zip(names, angles, strict=True)}
    most = max([abs(last["scores"][key] or 0.0) for key in edges], default=0.0) or 1.0
    table = [
        (
            key.replace("~", " ~ "),
            "yes" if key in edges else "no",
            number(score),
            number(last["fresh"][key]),
            number(last["null_sds"][key], 1),
            str((rows[0].get("rows") or {}).get(key, "-")),
            f"{_share(rows, key):.0%}",
        )
        for key, score in sorted(last["scores"].items(), key=lambda one: -(one[1] or -math.inf))
    ]
    with drawing(PAGE * 0.72, 4.3) as (figure, ((axes,),)):
        for key, (a, b, _) in edges.items():
            score = last["scores"][key]
            (x0, y0), (x1, y1) = places[a], places[b]
            width = 1 + 2.5 * max(0.0, score or 0.0) / most
            axes.plot([x0, x1], [y0, y1], color=COLOURS[0], linewidth=width, zorder=1)
            if len(edges) <= MOST_LABELLED:
                axes.text(
                    x0 + 0.5 * (x1 - x0), y0 + 0.5 * (y1 - y0), number(score, 2), fontsize=8.5,
                    ha="center", va="center", zorder=2,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
                )  # fmt: skip
        for name, (x, y) in places.items():
            alone = name in last["isolated"]
            axes.scatter(
                [x], [y], s=170, zorder=3, linewidth=1.5,
                facecolor="white" if alone else COLOURS[0], edgecolor=GREY if alone else COLOURS[0],
            )  # fmt: skip
            side = "left" if x > 0.1 else "right" if x < -0.1 else "center"
            axes.text(
                x * 1.16, y * 1.16, shorten(name, 20), ha=side, va="center", zorder=4,
                color=GREY if alone else INK,
            )  # fmt: skip
        axes.set(xlim=(-2.0, 2.0), ylim=(-1.35, 1.35), xticks=[], yticks=[], aspect="equal")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return Picture.of(
            figure,
            caption(__file__, "graph", stage=stage, modalities=len(names),
                      no_edge=last["phase"] == "no edge", warm_up=last["phase"] == "warm-up"),
            said=[f"{key.replace('~', ' and ')}: {number(last['scores'][key], 2)}"
                  for key in edges],
            header=("pair", "edge", "score", "last measured", "margin, SD of null", "probe rows",
                    "observations as an edge"),
            rows=table,
        )  # fmt: skip


def _share(rows: Rows, key: str) -> float:
    return sum(any(f"{a}~{b}" == key for a, b, _ in row["edges"]) for row in rows) / len(rows)


def _over_time(stage: str, rows: Rows) -> Picture:
    used = [f"{a}~{b}" for a, b, _ in rows[-1]["edges"]]
    whole = len(used) == len(rows[-1]["scores"])
    steps = [row["step"] for row in rows]
    start = next((row["step"] for row in rows if row["phase"] != "warm-up"), None)
    ratios = {"height_ratios": [3, 1]}
    with drawing(PAGE, 4.4, 2, sharex=True, gridspec_kw=ratios) as (figure, ((top,), (bottom,))):
        grey = [key for key in rows[-1]["scores"] if whole or key not in used]
        for place, key in enumerate(grey):
            label = "_" if place else "other pairs"  # the first stands for all of them
            top.plot(steps, _series(rows, key), color=GREY, linewidth=1.0, zorder=1.5, label=label)
        for place, key in enumerate([] if whole else used):
            dashes = DASHES[place % len(DASHES)]
            top.plot(steps, _series(rows, key), color=colour(place), linestyle=dashes, zorder=2,
                     label=shorten(key.replace("~", " ~ "), 24))  # fmt: skip
        for axes in (top, bottom):
            if start is not None and start > 0:
                axes.axvline(start, color=GREY, linewidth=0.9, linestyle=":")
        if start is not None and start > 0:
            top.text(start, 1.02, "first graph", transform=top.get_xaxis_transform(), fontsize=8,
                     ha="center", color=GREY)  # fmt: skip
        top.set_ylabel("score (running mean)")
        top.grid(axis="y")
        if not whole and len(used) <= MOST_LABELLED:
            figure.legend(*top.get_legend_handles_labels(), loc="outside right upper", fontsize=8.5)
        changes = [row["changed"] for row in rows]
        width = 0.7 * min([b - a for a, b in pairwise(steps)], default=1.0)
        bottom.bar(steps, changes, width=width, color=COLOURS[1])
        bottom.set(xlabel="step", ylabel="edges changed", ylim=(0, max(1, *changes) * 1.1))
        return Picture.of(
            figure,
            caption(__file__, "pair_scores", stage=stage, pairs=len(rows[-1]["scores"]),
                      graphs=len(rows)),
            said=[f"step {one['step']}: {one['changed']} changed" for one in rows
                  if one["changed"]],
            **written(rows, "step", "phase", ("edges changed", "changed"),
                      ("shared with the one before (Jaccard)", rounded("jaccard", 2)),
                      ("edges", lambda row: ", ".join(f"{a} ~ {b}" for a, b, _ in row.edges))),
        )  # fmt: skip


def _series(rows: Rows, key: str) -> list[float]:
    return [math.nan if row["scores"][key] is None else row["scores"][key] for row in rows]
