"""Figures of routers: who takes what share of each modality, and how that came about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.experts.lines import (
    expert_rows,
    information_share,
    kept_rows,
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
    shares = [share_picture(rows) for rows in _by_stage(kept_rows(data.curves, data.kept_steps))]
    curves = [routing_curves(rows) for rows in _by_stage(expert_rows(data.curves))]
    yield Section.of("experts", "Experts", *shares, *curves, part="Training")


def files(data: Evaluation) -> dict[str, Rows]:
    """What figures are drawn from."""
    kept = kept_rows(data.curves, data.kept_steps)
    return {"experts": expert_rows(data.curves), "expert_shares": share_rows(kept)}


def _by_stage(rows: Rows) -> list[Rows]:
    stages = list(dict.fromkeys(row["stage"] for row in rows))[:MOST_STAGES]
    return [[row for row in rows if row["stage"] == stage] for stage in stages]


def share_picture(rows: Rows) -> Picture:
    """Draw the share of each modality's tokens that chooses each expert, block by block.

    Args:
        rows: `kept_rows` of a stage.
    """
    first, lines = rows[0], sorted(rows, key=lambda row: row["block"])
    experts = max(len(row["share"]) for row in rows)
    told = [information_share(row, experts) for row in lines]
    table = np.array([[*row["share"], *[np.nan] * (experts - len(row["share"]))] for row in lines])
    where = "the tuning split" if first["split"] == "tuning" else "training, over its last steps"
    said = [
        f"block {row['block']}, {row['modality']}: most on expert {np.argmax(row['share'])}, "
        f"{max(row['share']):.0%}" + (f", information {_percent(one)}" if one is not None else "")
        for row, one in zip(lines, told, strict=True)
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
        for place, (above, row) in enumerate(pairwise(lines)):
            if row["block"] != above["block"]:
                axes.axhline(place + 0.5, color="white", linewidth=4)
        names = [f"block {row['block']} · {shorten(row['modality'], 18)}" for row in lines]
        axes.set_yticks(range(len(lines)), names)
        axes.set_xticks(range(0, experts, 1 if experts <= 32 else 8))
        axes.set_xlabel("expert")
        _write_information(axes, told)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return Picture.of(
            figure,
            caption(
                __file__, "shares", stage=first["stage"], experts=experts, where=where,
                step=first["step"], even=1 / experts,
                ceiling=None if None in told else math.log(experts),
                undecided=undecided(lines, experts),
            ),
            said=said,
            **written(share_rows(rows), "block", "modality", "expert",
                      ("share", lambda row: f"{row.share:.2%}"),
                      ("information of the row",
                       lambda row: _percent(information_share(vars(row), experts))),
                      "split", "step"),
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


def routing_curves(rows: Rows) -> Picture | None:
    """Draw tokens processed, effective experts, information and experts in use over training.

    Args:
        rows: `expert_rows` of a stage.
    """
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
            caption(__file__, "routing", stage=every[0]["stage"], several=len(blocks) > 1),
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
        own = {key: [r for r in rows if r["modality"] == name] for key, rows in shown.items()}
        if all(own.values()):
            last = {
                key: np.mean([row[key] for row in rows if row["step"] == rows[-1]["step"]])
                for key, rows in own.items()
            }
            said.append(
                f"{name}: {last['processed']:.1%} processed, {last['used']:.1f} experts in use, "
                f"{last['effective']:.1f} effective, information {last['mutual_information']:.2f}"
            )
    return said
