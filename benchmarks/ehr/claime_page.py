"""The rows, tables and figure of `claime_study`, from its lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.study import Row, grid

SHOWN = ("CLAIME", "CLAIME shrunk", "Concate", "CL", "within only")
TABLED = (*SHOWN[:2], "CLAIME weighted", *SHOWN[2:], "all zeros")
USUAL = {1: 0.2, 2: 0.8}
NAMES = {1: "c", 2: "rho"}
PAIRS = (("CLAIME", "Concate"), ("CLAIME", "CL"), ("CLAIME shrunk", "Concate"))


def frame(done: Mapping[str, Any]) -> pd.DataFrame:
    """One row a cohort size and method: case, noise, d, repetition, n, method, err, sine."""
    keys = ("case", "noise", "d", "repetition")
    made = [
        {**dict(zip(keys, one["key"], strict=True)), **row}
        for one in done.values()
        for row in one["rows"]
    ]
    return pd.DataFrame(made)


def panels(table: pd.DataFrame) -> dict[tuple[int, str], tuple[pd.DataFrame, str]]:
    """(case, experiment) to its rows and the column along the axis."""
    found = {}
    for case, usual in USUAL.items():
        mine = table[table.case == case]
        ours, full = mine[mine.noise == usual], mine[mine.n == mine.n.max()]
        found[case, "E1: d = 1000"] = (ours[ours.d == 1000], "n")
        found[case, "E2: n = 100,000"] = (ours[ours.n == ours.n.max()], "d")
        for d in (1000, 200):
            found[case, f"E3: n = 100,000, d = {d}"] = (full[full.d == d], "noise")
    return found


def draw(table: pd.DataFrame, path: Path) -> None:
    """Err of every method in every experiment; the dotted line is all zeros."""
    from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, style

    with style():
        figure, grid = canvas(PAGE * 1.5, 5.4, rows=2, columns=4, sharey=True)
        for axes, ((case, title), (rows, along)) in zip(
            grid.flat, panels(table).items(), strict=True
        ):
            for method, colour, mark in zip(SHOWN, COLOURS, MARKERS, strict=False):
                mine = rows[rows.method == method].groupby(along).err.agg(["mean", "std"])
                axes.errorbar(
                    mine.index,
                    mine["mean"],
                    yerr=mine["std"].fillna(0),
                    color=colour,
                    marker=mark,
                    markersize=4,
                    label=method,
                )
            zeros = rows[rows.method == "all zeros"].groupby(along).err.mean()
            axes.plot(zeros.index, zeros, color="#222222", linestyle=":", label="all zeros")
            axes.set_yscale("log")
            axes.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
            axes.set_title(f"Case {case}. {title}", fontsize=9)
            axes.set_xlabel({"n": "patients n", "d": "words d", "noise": NAMES[case]}[along])
        for axes in grid[:, 0]:
            axes.set_ylabel("Err")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def crossings(rows: pd.DataFrame, along: str, ours: str, peer: str) -> str:
    """Where two mean curves cross, linearly between the points; or who is ahead throughout."""
    means = rows.pivot_table(index=along, columns="method", values="err", aggfunc="mean")
    gap = (means[ours] - means[peer]).dropna()
    signs = np.sign(gap.to_numpy())
    places = []
    for i in np.flatnonzero(signs[1:] != signs[:-1]):
        x, y = gap.index[i : i + 2].to_numpy(dtype=float), gap.to_numpy()[i : i + 2]
        places.append(x[0] - y[0] * (x[1] - x[0]) / (y[1] - y[0]))
    if not places:
        return "ahead throughout" if signs[0] < 0 else "behind throughout"
    side = "ahead" if signs[0] < 0 else "behind"
    return f"{side} below, crossing at " + ", ".join(
        (f"{p:,.0f}" if p > 10 else f"{p:.2f}") for p in places
    )


def summed(done: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation at every point, and where the curves cross."""
    table, points, crossed = frame(done), [], []
    for (case, title), (rows, along) in panels(table).items():
        about = {"case": case, "experiment": title, "along": along}
        for value, group in rows.groupby(along):
            by = group.groupby("method")
            err, spread, sine = by.err.mean(), by.err.std().fillna(0), by.sine.mean()
            row = {**about, "at": float(value), "repetitions": group.repetition.nunique()}
            row["err"] = {m: [float(err[m]), float(spread[m])] for m in TABLED}
            row["sine"] = {m: float(sine[m]) for m in ("CLAIME", "Concate")}
            points.append(row)
        found = [crossings(rows, along, *pair) for pair in PAIRS]
        crossed.append({**about, "crossings": found})
    repetitions = table.groupby(["case", "noise", "d"]).repetition.nunique()
    return {
        "cohorts": len(done),
        "repetitions": sorted({int(repetitions.min()), int(repetitions.max())}),
        "minutes": sum(one["seconds"] for one in done.values()) / 60,
        "points": points,
        "crossings": crossed,
    }


def parts(rows: Mapping[str, Any]) -> dict[str, str]:
    """Tables of all experiments, then who is ahead where."""

    def name(row: Row) -> str:
        return NAMES[row["case"]] if row["along"] == "noise" else row["along"]

    span = " to ".join(map(str, rows["repetitions"]))
    found = {
        "drawn": f"{rows['cohorts']} cohorts of 100,000 patients, {span} repetitions a setting, "
        f"{rows['minutes']:.0f} processor minutes of one core"
    }
    lines: dict[str, list[list[str]]] = {}
    heads: dict[str, list[str]] = {}
    for row in rows["points"]:
        title = f"Case {row['case']}, {row['experiment']}"
        heads[title] = [name(row), "repetitions", *TABLED, "sine: CLAIME", "Concate"]
        at = f"{row['at']:,.0f}" if row["along"] in "nd" else f"{row['at']:g}"
        cells = [f"{mean:.2f} ({sd:.2f})" for mean, sd in (row["err"][m] for m in TABLED)]
        sines = [f"{one:.2f}" for one in row["sine"].values()]
        lines.setdefault(title, []).append([at, str(row["repetitions"]), *cells, *sines])
    found |= {title: grid(heads[title], one) for title, one in lines.items()}
    head = ["", "along", *(f"{ours} v {peer}" for ours, peer in PAIRS)]
    crossed = [[f"case {row['case']}, {row['experiment']}", name(row), *row["crossings"]]
               for row in rows["crossings"]]  # fmt: skip
    return {**found, "crossings": grid(head, crossed)}
