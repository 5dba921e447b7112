"""The rows, tables and figure of `limoe_collapse`, from its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.study import Cell, Row, table

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


def summed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean, least and most over seeds of each layer and setting; and what broke."""
    every = frame(runs)
    layers: list[Row] = []
    for key, rows in every.groupby(["layer", "ratio", "experts", "losses"], sort=False):
        row: Row = dict(zip(("layer", "ratio", "experts", "losses"), key, strict=True))
        told = {name: rows[name].agg(["mean", "min", "max"]).tolist() for name in COLUMNS}
        layers.append({**row, "seeds": len(rows), **told})
    order = list(dict.fromkeys(every.losses))
    layers.sort(key=lambda r: (r["layer"], r["ratio"], r["experts"], order.index(r["losses"])))
    once = every[every.layer == 0]
    spikes = [
        {"losses": losses, "runs": len(rows), "spikes": int(rows.spikes.sum()),
         "broken": int(rows.broken.sum())}
        for losses, rows in once.groupby("losses", sort=False)
    ]  # fmt: skip
    minutes = sum(one["seconds"] for one in runs) / 60
    steps = sorted(every.steps.unique().tolist())
    return {
        "runs": len(runs),
        "steps": steps,
        "minutes": minutes,
        "layers": layers,
        "spikes": spikes,
    }


def spread(key: str, digits: int) -> Cell:
    """Mean over seeds, with the least and the most."""

    def show(row: Row) -> str:
        mean, low, high = (f"{one:.{digits}f}" for one in row[key])
        return mean if low == high else f"{mean} ({low} to {high})"

    return show


def parts(rows: Mapping[str, Any]) -> dict[str, str]:
    """A table for each layer, and one of what broke."""
    columns = {
        "image : text": lambda row: f"{row['ratio']} : 1",
        "E": "experts",
        "charged": "losses",
        "seeds": "seeds",
    }
    for name, head in COLUMNS.items():
        columns[head] = spread(name, 1 if name in ("over", "effective", "unsure") else 2)
    broken = {"charged": "losses", "runs": "runs", "spikes": "spikes", "steps not finite": "broken"}
    steps = " or ".join(map(str, rows["steps"]))
    return {
        "runs": f"{rows['runs']} of {steps} steps, {rows['minutes']:.0f} processor minutes",
        **{f"layer {n + 1}": table(columns, [row for row in rows["layers"] if row["layer"] == n])
           for n in sorted({row["layer"] for row in rows["layers"]})},
        "spikes": table(broken, rows["spikes"]),
    }  # fmt: skip


def draw(table: pd.DataFrame, path: Path) -> None:
    """The worse of the layers of each run; points are means over seeds, bars least to most."""
    from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, style

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
