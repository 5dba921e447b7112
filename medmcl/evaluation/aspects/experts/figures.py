"""Figures of routers: who takes what share of each modality, and how that came about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.experts.lines import (
    expert_rows,
    information_share,
    share_rows,
    undecided,
)
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import rounded, written
from medmcl.evaluation.report.pictures import (
    DASHES,
    INK,
    PAGE,
    TALLEST,
    Picture,
    colour,
    drawing,
    shorten,
)
from medmcl.evaluation.report.section import Section

MOST_STAGES = 4  # with figures of their own
MOST_NUMBERED = 16  # experts whose share is written into its cell
FEWEST_POINTS = 2  # of a curve
LEAST_NATS = 0.1  # the scale of information ends here or above, so that next to nothing looks it
PANELS = (
    ("processed", "tokens processed", "share that an expert took; higher is better"),
    ("used", "experts in use", "first choice of 1 % of the tokens or more"),
    ("effective", "effective experts", "of the mean gates; 1: all on one expert"),
    ("mutual_information", "information of expert and token", "nats; higher: surer, more diverse"),
)
Rows = Sequence[Mapping[str, Any]]


def sections(data: Evaluation) -> Iterator[Section]:
    """Who takes what, at the end and over training."""
    shares = share_pictures(share_rows(data.curves, data.kept_steps))
    curves = routing_curves(expert_rows(data.curves))
    yield Section.of("experts", "Experts", *shares, *curves, part="Training")


def files(data: Evaluation) -> dict[str, Sequence[Mapping[str, Any]]]:
    """What figures are drawn from."""
    return {
        "experts": expert_rows(data.curves),
        "expert_shares": share_rows(data.curves, data.kept_steps),
    }


def share_pictures(rows: Rows) -> list[Picture]:
    """Draw the share of each modality's tokens that chooses each expert, block by block."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))[:MOST_STAGES]
    return [_shares(stage, [row for row in rows if row["stage"] == stage]) for stage in stages]


def _shares(stage: str, rows: Rows) -> Picture:
    lines: dict[tuple[int, str], dict[int, float]] = {}
    about = {}
    for row in sorted(rows, key=lambda row: row["block"]):
        lines.setdefault((row["block"], row["modality"]), {})[row["expert"]] = row["share"]
        about[row["block"], row["modality"]] = row
    experts = 1 + max(row["expert"] for row in rows)
    told = {place: information_share(row, experts) for place, row in about.items()}
    table = np.array([[own.get(e, np.nan) for e in range(experts)] for own in lines.values()])
    first = rows[0]
    where = "the tuning split" if first["split"] == "tuning" else "training, over its last steps"
    said = [
        f"block {block}, {name}: most on expert {max(own, key=lambda e: own[e])}, "
        f"{max(own.values()):.0%}"
        + (f", information {_percent(told[block, name])}" if told[block, name] is not None else "")
        for (block, name), own in lines.items()
    ]
    numbered = experts <= MOST_NUMBERED
    height = min(0.7 + 0.3 * len(lines), TALLEST)
    height = height if numbered else min(height + 0.6, TALLEST)  # for the scale below
    with drawing(PAGE, height) as (figure, ((axes,),)):
        drawn = axes.imshow(table, cmap="Blues", vmin=0, vmax=max(table.max(), 1e-9), aspect="auto")
        if numbered:
            _write_shares(axes, table)
        else:
            figure.colorbar(
                drawn, ax=axes, label="share of tokens", pad=0.02, aspect=12, location="bottom"
            )
        blocks = [block for block, _ in lines]
        for place in range(1, len(blocks)):
            if blocks[place] != blocks[place - 1]:
                axes.axhline(place - 0.5, color="white", linewidth=4)
        axes.set_yticks(range(len(lines)), [f"block {b} · {shorten(m, 18)}" for b, m in lines])
        axes.set_xticks(range(0, experts, 1 if experts <= 32 else 8))
        axes.set_xlabel("expert")
        _write_information(axes, list(told.values()))
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        return Picture.of(
            figure,
            caption(
                __file__, "shares", stage=stage, experts=experts, where=where, step=first["step"],
                even=1 / experts, ceiling=None if None in told.values() else math.log(experts),
                undecided=undecided(list(about.values()), experts),
            ),
            said=said,
            **written(rows, "block", "modality", "expert",
                      ("share", lambda row: f"{row.share:.2%}"),
                      ("information of the row",
                       lambda row: _percent(told[row.block, row.modality])), "split", "step"),
        )  # fmt: skip


def _percent(share: float | None) -> str:
    """A share with one digit below 10 %, so that little is not nothing."""
    return "-" if share is None else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _write_information(axes: Any, told: Sequence[float | None]) -> None:
    """At the right of each row, how much the gates tell of the token."""
    if all(share is None for share in told):
        return
    axes.text(1.015, 1.0, "information", transform=axes.transAxes, fontsize=8, va="bottom")
    for place, share in enumerate(told):
        axes.text(1.015, place, _percent(share), transform=axes.get_yaxis_transform(),
                  va="center", fontsize=8.5)  # fmt: skip


def _write_shares(axes: Any, table: np.ndarray) -> None:
    dark = 0.55 * table.max()
    for (line, expert), share in np.ndenumerate(table):
        if np.isfinite(share):
            axes.text(expert, line, f"{100 * share:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if share > dark else INK)  # fmt: skip


def routing_curves(rows: Rows) -> list[Picture]:
    """Draw tokens processed, effective experts, information and experts in use over training."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))[:MOST_STAGES]
    found = [_curves(stage, [row for row in rows if row["stage"] == stage]) for stage in stages]
    return [picture for picture in found if picture is not None]


def _curves(stage: str, rows: Rows) -> Picture | None:
    every = [{**row, "processed": 1 - row["dropped"]} for row in rows]
    by = {split: [row for row in every if row["split"] == split] for split in ("train", "tuning")}
    quiet = by["tuning"] or by["train"]
    shown = {key: by["train"] or quiet if key == "processed" else quiet for key, _, _ in PANELS}
    if max(len({row["step"] for row in own}) for own in shown.values()) < FEWEST_POINTS:
        return None
    names = list(dict.fromkeys(row["modality"] for row in every))
    blocks = sorted({row["block"] for row in every})
    with drawing(PAGE, 4.6, 2, 2, sharex=True) as (figure, grid):
        for axes, (key, title, hint) in zip(grid.flat, PANELS, strict=True):
            split = "training" if shown[key][0]["split"] == "train" else "tuning split"
            for place, name in enumerate(names):
                own = [row for row in shown[key] if row["modality"] == name]
                _lines(axes, own, key, blocks, place, name)
            axes.set_title(f"{title}, {split}\n", fontsize=9.5)
            axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=8, color="#555555")
            axes.grid(axis="y")
            if key in ("used", "effective"):
                axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
            elif key == "mutual_information":
                axes.set_ylim(0, max(LEAST_NATS, 1.08 * axes.get_ylim()[1]))
        grid[0, 0].set_ylim(top=1.02)
        for axes in grid[1]:
            axes.set_xlabel("step")
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=8.5
        )
        return Picture.of(
            figure,
            caption(__file__, "routing", stage=stage, several=len(blocks) > 1),
            said=_ends(shown, names),
            **written(every, "step", "split", "modality", "block",
                      ("processed", rounded("processed")), ("experts in use", "used"),
                      ("effective experts", rounded("effective", 2)),
                      ("mutual information", rounded("mutual_information")), "tokens"),
        )  # fmt: skip


def _lines(axes: Any, rows: Rows, key: str, blocks: Sequence[int], place: int, name: str) -> None:
    """A line a block, thin where there are several, and their mean."""
    steps = sorted({row["step"] for row in rows})
    by = {(row["step"], row["block"]): row[key] for row in rows}
    table = np.array([[by.get((step, block), np.nan) for step in steps] for block in blocks])
    look = {"color": colour(place), "linestyle": DASHES[place % len(DASHES)]}
    if len(blocks) > 1:
        for line in table:
            axes.plot(steps, line, linewidth=0.7, alpha=0.45, **look)
    axes.plot(
        steps, table.mean(axis=0), label=shorten(name, 20), marker="o" if len(steps) < 12 else "",
        markersize=3, **look,
    )  # fmt: skip


def _ends(shown: Mapping[str, Rows], names: Sequence[str]) -> list[str]:
    """The last numbers of each modality, mean over blocks, in words."""
    said = []
    for name in names:
        last = {}
        for key, rows in shown.items():
            own = [row for row in rows if row["modality"] == name]
            last[key] = [row[key] for row in own if row["step"] == own[-1]["step"]]
        means = {key: float(np.mean(values)) for key, values in last.items() if values}
        if len(means) == len(shown):
            said.append(
                f"{name}: {means['processed']:.1%} processed, {means['used']:.1f} experts in use, "
                f"{means['effective']:.1f} effective, "
                f"information {means['mutual_information']:.2f}"
            )
    return said
