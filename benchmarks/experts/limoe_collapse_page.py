"""The page and the figure of `limoe_collapse`, from its lines."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, style

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COLUMNS = {
    "text": "text processed",
    "image": "images processed",
    "over": "experts with 1 % of text",
    "top": "text on its first expert",
    "effective": "effective experts of text",
    "unsure": "of one text token",
    "recall": "R@1",
}
PANELS = {
    "text": "Share of text tokens processed",
    "over_share": "Share of experts with 1 % of text",
    "recall": "R@1, image to text",
}
FACTORS = ["ratio", "experts", "losses"]


def frame(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run and layer with experts."""
    made = []
    for one in runs:
        text, image = one["text"], one["image"]
        for layer, processed in enumerate(text["processed"]):
            made.append({
                **one["cell"],
                "layer": layer,
                "text": processed,
                "image": image["processed"][layer],
                "over": text["experts_over_1_percent"][layer],
                "over_share": text["experts_over_1_percent"][layer] / one["cell"]["experts"],
                "top": text["top_expert"][layer],
                "effective": text["effective"][layer],
                "unsure": text["unsure"][layer],
                "recall": one["recall"],
                "spikes": one["spikes"],
                "broken": one["broken_steps"],
                "seconds": one["seconds"],
            })  # fmt: skip
    return pd.DataFrame(made)


def spread(values: pd.Series, digits: int) -> str:
    """Mean over seeds, with the least and the most."""
    mean, low, high = values.mean(), values.min(), values.max()
    if f"{low:.{digits}f}" == f"{high:.{digits}f}":
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def lines_of(table: pd.DataFrame) -> list[str]:
    """A table for each layer, and one of what broke."""
    order = list(dict.fromkeys(table.losses))
    lines = []
    for layer, mine in table.groupby("layer"):
        lines += [
            f"### Layer {layer + 1} of {table.layer.nunique()} with experts",
            "",
            "| image : text | E | charged | seeds | " + " | ".join(COLUMNS.values()) + " |",
            "|---|---|---|---|" + "---|" * len(COLUMNS),
        ]
        for (ratio, experts), cell in mine.groupby(["ratio", "experts"]):
            for losses in order:
                rows = cell[cell.losses == losses]
                if rows.empty:
                    continue
                told = [
                    spread(rows[name], 1 if name in ("over", "effective", "unsure") else 2)
                    for name in COLUMNS
                ]
                cells = [f"{ratio} : 1", str(experts), losses, str(len(rows)), *told]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    once = table[table.layer == 0]
    broken = once.groupby("losses", sort=False)[["spikes", "broken"]].sum()
    lines += [
        "### Spikes",
        "",
        "| charged | runs | spikes | steps not finite |",
        "|---|---|---|---|",
    ]
    for losses, row in broken.iterrows():
        count = (once.losses == losses).sum()
        lines.append(f"| {losses} | {count} | {row.spikes} | {row.broken} |")
    return [*lines, ""]


def draw(table: pd.DataFrame, path: Path) -> None:
    """The worse of the layers of each run; points are means over seeds, bars least to most."""
    worst = table.groupby([*FACTORS, "seed"], sort=False)[list(PANELS)].min().reset_index()
    ratios, order = sorted(worst.ratio.unique()), list(dict.fromkeys(worst.losses))
    experts = sorted(worst.experts.unique())
    with style():
        figure, grid = canvas(
            PAGE * 1.2, 2.2 * len(ratios) + 0.6, rows=len(ratios), columns=len(PANELS), sharex=True
        )
        for row, ratio in enumerate(ratios):
            for column, (name, title) in enumerate(PANELS.items()):
                axes = grid[row, column]
                for number, losses in enumerate(order):
                    mine = worst[(worst.ratio == ratio) & (worst.losses == losses)]
                    told = mine.groupby("experts")[name].agg(["mean", "min", "max"])
                    places = [experts.index(e) + 0.1 * (number - 2) for e in told.index]
                    bars = [told["mean"] - told["min"], told["max"] - told["mean"]]
                    axes.errorbar(
                        places, told["mean"], yerr=bars, label=losses, markersize=4,
                        color=COLOURS[number], marker=MARKERS[number],
                    )  # fmt: skip
                axes.set_ylim(0, 1.05)
                axes.set_xticks(range(len(experts)), [str(e) for e in experts])
                if row == 0:
                    axes.set_title(title, fontsize=9)
            grid[row, 0].set_ylabel(f"image : text = {ratio} : 1")
        for axes in grid[-1]:
            axes.set_xlabel("experts E")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def write_page(runs: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Renew ``limoe_collapse.svg``, and the figures of the page between their marks."""
    table = frame(runs)
    if table.empty:
        return
    draw(table, out / "limoe_collapse.svg")
    seconds, steps = sum(one["seconds"] for one in runs), sorted(table.steps.unique())
    head = (
        f"{len(runs)} runs of {' or '.join(str(s) for s in steps)} steps, "
        f"{seconds / 60:.0f} processor minutes ({platform.machine()}; torch {version('torch')}, "
        "one thread a run). Mean over seeds (least to most); all but R@1 over the last 50 steps."
    )
    page = out / "limoe_collapse.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join([BEGIN, "", head, "", *lines_of(table), END])
    page.write_text(before + text + after, encoding="utf-8")
