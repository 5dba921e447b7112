"""The tables and the figure of `dissect_study`, from its runs; and what those are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import drawn, grid

Run = dict[str, Any]
NOISE = (0.0, 0.4)
ATTRIBUTES = ("shape", "colour", "texture")
EPOCHS = 25
SELECTORS: dict[str, dict[str, Any]] = {
    "differential warmup": {"kind": "differential", "mode": "warmup", "warmup_epochs": 5},
    "differential momentum": {"kind": "differential", "mode": "momentum"},
    "random": {"kind": "random"},
    "small_loss": {"kind": "small_loss"},
    "big_loss": {"kind": "big_loss"},
    "clip_score": {"kind": "clip_score"},
}
LATE = "differential warmup, late"
SELECTORS[LATE] = {"kind": "differential", "mode": "warmup", "warmup_epochs": 12}
"""Not a rival but a question: does the history come too early? Ratio 0.5 of noisy pairs only."""
EQUAL_TIME = {0.2: 15.5, 0.3: 18.25, 0.5: 21.5}
"""Epochs of full training in the time that a selector at a ratio takes for `EPOCHS`, by a pilot."""
DRAWS = 2000
OUTCOMES = {
    "zero-shot": tuple(f"zero-shot {task}" for task in ATTRIBUTES),
    "R@1": ("image to text", "text to image"),
    "probe": tuple(f"probe {task}" for task in ATTRIBUTES),
}
SHOWN = {**{k: OUTCOMES[k] for k in ("zero-shot", "R@1")}, "image to text": ("image to text",),
         "text to image": ("text to image",), "probe": OUTCOMES["probe"]}  # fmt: skip
SHOWN_EPOCHS = (1, 3, 5, 6, 8, 10, 13, 15, 20, 25)


def per_subject(runs: list[Run], parts: tuple[str, ...]) -> np.ndarray:
    """Share that each seed got right of each held-out subject, (seeds, subjects)."""
    return np.array(
        [np.mean([list(map(int, run["right"][p])) for p in parts], axis=0) for run in runs]
    )


def told(values: np.ndarray, sign: str = "") -> str:
    """Mean with a 95 % interval that draws subjects, and each seed; points. (seeds, subjects)."""
    mean = values.mean(0)
    draws = mean[drawn((len(mean),), DRAWS)[0]].mean(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    seeds = ", ".join(f"{100 * one:{sign}.0f}" for one in values.mean(1))
    return f"{100 * mean.mean():{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f}) [{seeds}]"


def gained(runs: list[Run], base: list[Run], parts: tuple[str, ...]) -> np.ndarray:
    """What each seed got right more than the same seed of ``base``, (seeds, subjects)."""
    other = {run["seed"]: run for run in base}
    return per_subject(runs, parts) - per_subject([other[run["seed"]] for run in runs], parts)


def seconds(runs: list[Run]) -> float:
    """Processor seconds of the train stage, mean over seeds."""
    return float(np.mean([run["cpu"]["total"] for run in runs]))


class Done:
    """The runs that were made, by what was asked."""

    def __init__(self, rows: list[Run]) -> None:
        self.runs = [row for row in rows if "round" not in row]
        self.rounds = [row for row in rows if "round" in row]

    def arm(self, noise: float, arm: str, ratio: float, epochs: float = EPOCHS) -> list[Run]:
        """All seeds of an arm."""
        key = (noise, arm, ratio, epochs)
        found = [r for r in self.runs if (r["noise"], r["arm"], r["ratio"], r["epochs"]) == key]
        return sorted(found, key=lambda run: run["seed"])

    def arms(self, noise: float) -> dict[tuple[str, float], list[Run]]:
        """Arms with a selector and their seeds."""
        names = [(name, ratio) for name in SELECTORS for ratio in EQUAL_TIME]
        return {key: runs for key in names if (runs := self.arm(noise, *key))}


def equal_epochs(done: Done, noise: float) -> str:
    """What each arm reached, and what it took."""
    whole = done.arm(noise, "full", 1.0)
    shorter = {("full", e): done.arm(noise, "full", 1.0, e) for e in sorted(EQUAL_TIME.values())}
    rows = [("full", f"{EPOCHS} epochs", whole)]
    rows += [("full", f"{epochs:g} epochs", runs) for (_, epochs), runs in shorter.items()]
    rows += [(name, f"{ratio:g}", runs) for (name, ratio), runs in done.arms(noise).items()]
    lines = []
    for name, size, runs in rows:
        scoring = sum(r["cpu"]["scoring"] for r in runs) / sum(r["cpu"]["total"] for r in runs)
        cells = [name, size, *(told(per_subject(runs, parts)) for parts in SHOWN.values())]
        cells += [f"{seconds(runs):.1f}", f"{100 * seconds(runs) / seconds(whole):.0f}"]
        lines.append([*cells, f"{100 * scoring:.0f}" if scoring else ""])
    head = (
        "arm", "ratio", *(f"{name}, %" for name in SHOWN), "CPU s", "of full, %",
        "scoring and choosing, % of the CPU s",
    )  # fmt: skip
    return grid(head, lines)


def gains(done: Done, noise: float) -> str:
    """Each arm less full training: at equal epochs, and at equal time."""
    whole, lines = done.arm(noise, "full", 1.0), []
    for (name, ratio), runs in done.arms(noise).items():
        cut = done.arm(noise, "full", 1.0, EQUAL_TIME[ratio])
        for told_as, base in (("epochs", whole), ("time", cut)):
            lines.append([
                name, f"{ratio:g}", told_as, f"{seconds(runs):.1f}, {seconds(base):.1f}",
                *(told(gained(runs, base, parts), "+") for parts in OUTCOMES.values()),
            ])  # fmt: skip
    head = ("arm", "ratio", "equal", "CPU s of both", *(f"{name}, points" for name in OUTCOMES))
    return grid(head, lines)


def precision(done: Done) -> str:
    """Share of right pairs among those kept, epoch by epoch."""
    runs = done.arms(0.4)
    lines = []
    for (name, ratio), seeds in runs.items():
        kept = np.array([run["precision"]["kept"] for run in seeds])
        shares = [f"{100 * kept[:, epoch - 1].mean():.0f}" for epoch in SHOWN_EPOCHS]
        lines.append([name, f"{ratio:g}", *shares, f"{100 * kept.mean():.1f}"])
    offered = np.array([r["precision"]["offered"] for seeds in runs.values() for r in seeds])
    shares = [f"{100 * offered[:, epoch - 1].mean():.0f}" for epoch in SHOWN_EPOCHS]
    lines.append(["all pairs offered", "1", *shares, f"{100 * offered.mean():.1f}"])
    return grid(("arm", "ratio", *(f"epoch {e}" for e in SHOWN_EPOCHS), "all epochs"), lines)


def costs(done: Done) -> str:
    """Processor time in turns: each arm beside full training of the same round."""
    by: dict[tuple[str, float], list[float]] = {}
    full = {row["round"]: row["cpu"]["total"] for row in done.rounds if row["arm"] == "full"}
    for row in done.rounds:
        share = row["cpu"]["total"] / full[row["round"]]
        by.setdefault((row["arm"], row["ratio"]), []).append(share)
    lines = [
        [name, f"{ratio:g}", f"{np.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})",
         f"{1 / 3 + ratio:.2f}" if name != "full" else "1"]
        for (name, ratio), shares in by.items()
    ]  # fmt: skip
    return grid(("arm", "ratio", "time, of full", "1/3 + ratio"), lines)


def draw(rows: list[Run], path: Path) -> None:
    """Outcome against processor seconds; points of an arm are its ratios, of full its epochs."""
    from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, style

    done = Done(rows)
    with style():
        figure, grid = canvas(PAGE * 1.2, 5.6, rows=len(NOISE), columns=len(OUTCOMES), sharex=True)
        for row, noise in enumerate(NOISE):
            lines = {"full": [done.arm(noise, "full", 1.0, e)
                              for e in (*sorted(EQUAL_TIME.values()), EPOCHS)]}  # fmt: skip
            for (name, _), runs in done.arms(noise).items():
                if name != LATE:
                    lines.setdefault(name, []).append(runs)
            for column, (outcome, parts) in enumerate(OUTCOMES.items()):
                axes = grid[row, column]
                for number, (name, points) in enumerate(lines.items()):
                    colour = "#000000" if name == "full" else COLOURS[number - 1]
                    axes.plot(
                        [seconds(runs) for runs in points],
                        [100 * per_subject(runs, parts).mean() for runs in points],
                        label=name, color=colour, marker=MARKERS[number], markersize=4.5,
                        linewidth=2.0 if name == "full" else 1.0,
                    )  # fmt: skip
                if row == 0:
                    axes.set_title(f"{outcome}, %", fontsize=9)
                else:
                    axes.set_xlabel("CPU seconds of the train stage")
                axes.set_ylim(bottom=0)
            grid[row, 0].set_ylabel(f"{100 * noise:g} % noisy pairs")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def parts(rows: list[Run]) -> dict[str, str]:
    done = Done(rows)
    minutes = sum(run["cpu"]["total"] for run in done.runs) / 60
    found = {"runs": f"{len(done.runs)}, {minutes:.0f} processor minutes of training"}
    for noise in NOISE:
        found[f"reached {100 * noise:g}"] = equal_epochs(done, noise)
        found[f"gains {100 * noise:g}"] = gains(done, noise)
    return {**found, "precision": precision(done), "turns": costs(done)}
