"""Print the tables of ``poison.md`` from what the studies of poison wrote.

    python benchmarks/poison_page.py --out benchmarks

Each cell: mean over seeds (95 % interval over held-out people, of the mean over seeds; least to
most over seeds). Differences are paired by person and seed. Writes ``poison.svg`` to OUT.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.evaluation.metrics.proportions import wilson

DRAWS = 2000
IMPLANTED = 0.2
"""Attack success above which there is something to cure."""
Row = Mapping[str, Any]
Said = tuple[np.ndarray, np.ndarray, np.ndarray, int]
Hits = tuple[np.ndarray, np.ndarray]
"""Whether a rate holds of each record that is asked, a line a seed, (seeds, N); whose they are."""
RATES: dict[str, Callable[[Said], tuple[np.ndarray, np.ndarray]]] = {
    "clean accuracy": lambda s: (s[0] == s[2], np.ones(len(s[2]), dtype=bool)),
    "attack success": lambda s: (s[1] == s[3], s[2] != s[3]),
    "without trigger": lambda s: (s[0] == s[3], s[2] != s[3]),
    "poisoned accuracy": lambda s: (s[1] == s[2], np.ones(len(s[2]), dtype=bool)),
}
"""Rate to whether it holds of each record, and of whom it is asked: of what is told clean, told
triggered, true, and the target."""


def said(row: Row, model: str, protocol: str) -> Said | None:
    """Give what a model says of each record; None if it was not asked so."""
    asked = row["asked"][model]
    if protocol not in asked:
        return None
    clean, triggered = (np.frombuffer(bytes.fromhex(one), dtype="u1") for one in asked[protocol])
    truth = np.frombuffer(bytes.fromhex(asked["truth"]), dtype="u1")
    return clean, triggered, truth, asked["target"]


def hits(rows: Sequence[Row], model: str, protocol: str, rate: str) -> Hits | None:
    """Give whether the rate holds of each record that is asked; None if it was not asked so."""
    found, people = [], np.zeros(0)
    for row in rows:
        told = said(row, model, protocol)
        if told is None:
            return None
        holds, of = RATES[rate](told)
        found.append(holds[of].astype(np.float64))
        given = row["asked"][model].get("people")
        known = np.arange(len(of)) if given is None else np.frombuffer(bytes.fromhex(given), "<u2")
        people = known[of]
    return (np.stack(found), people) if found else None


def less(one: Hits | None, other: Hits | None) -> Hits | None:
    """Give the difference, record by record."""
    return None if one is None or other is None else (one[0] - other[0], one[1])


def cell(given: Hits | None, sign: str = "") -> str:
    """Write mean, interval over people and range over seeds, in percent."""
    if given is None:
        return ""
    values, people = given
    mean = values.mean(axis=0)
    codes = np.unique(people, return_inverse=True)[1]
    sums, sizes = np.bincount(codes, mean), np.bincount(codes)
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(sums), size=(DRAWS, len(sums)))
    low, high = 100 * np.percentile(sums[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    if low == high and not sign:  # all alike: Wilson
        low, high = (100 * edge for edge in wilson(float(mean.mean()), len(sums), 0.95))
    seeds = 100 * values.mean(axis=1)
    spread = f"; {seeds.min():{sign}.1f} to {seeds.max():{sign}.1f}" if len(values) > 1 else ""
    return f"{100 * mean.mean():{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f}{spread})"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def by_job(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each job, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["job"], []).append(row)
    return found


def sweep(rows: Sequence[Row]) -> str:
    """How many poisons implant."""
    rates = ("clean accuracy", "attack success", "without trigger")
    lines = []
    for job, own in by_job(rows).items():
        probe = hits(own, "victim", "linear_probe", "attack success")
        lines.append([job, str(len(own)), *(cell(hits(own, "victim", "zero_shot", rate))
                                           for rate in rates), cell(probe)])  # fmt: skip
    return table(["poisons", "seeds", *(f"{rate}, prompts" for rate in rates),
                  "attack success, probe"], lines)  # fmt: skip


def cures(rows: Sequence[Row]) -> str:
    """What cures do, by prompts and by heads."""
    lines = []
    for job, own in by_job(rows).items():
        for model in own[0]["asked"]:
            head = "own head" if said(own[0], model, "own head") is not None else "linear_probe"
            asked = [("zero_shot", rate) for rate in RATES]
            asked += [(head, rate) for rate in ("clean accuracy", "attack success")]
            cells = [cell(hits(own, model, way, rate)) for way, rate in asked]
            lines.append([job, model, str(len(own)), *cells, head.replace("_", " ")])
    names = [f"{rate}, prompts" for rate in RATES]
    head_names = ["clean accuracy, head", "attack success, head", "head"]
    return table(["trigger", "model", "seeds", *names, *head_names], lines)


def gaps(rows: Sequence[Row]) -> str:
    """Cured less victim, paired; and the share of the attack success that is gone."""
    lines = []
    for job, own in by_job(rows).items():
        for model in [name for name in own[0]["asked"] if name != "victim"]:
            both = {rate: [hits(own, m, "zero_shot", rate) for m in (model, "victim")]
                    for rate in ("clean accuracy", "attack success")}  # fmt: skip
            one, other = both["attack success"]
            gone = ""
            if one is not None and other is not None and other[0].mean() > IMPLANTED:
                gone = f"{100 * (1 - one[0].mean() / other[0].mean()):.0f} %"
            lines.append([job, model, *(cell(less(*pair), "+") for pair in both.values()), gone])
    return table(["trigger", "cured by", "clean accuracy", "attack success", "of it gone"], lines)


def detectors(rows: Sequence[Row]) -> str:
    """How well detectors find the poisoned rows."""
    lines = []
    for job, own in by_job([row for row in rows if "auroc" in row]).items():
        values = {name: [row["auroc"][name] for row in own] for name in own[0]["auroc"]}
        lines.append([job, *(f"{np.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})"
                             for v in values.values())])  # fmt: skip
    names = next((list(row["auroc"]) for row in rows if "auroc" in row), [])
    return table(["trigger", *names], lines)


def cost(rows: Sequence[Row]) -> str:
    """CPU time of each cure as a share of that of its victim's training."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, seconds in row["cpu_s"].items():
            if name != "victim":
                found.setdefault(name, []).append(seconds / row["cpu_s"]["victim"])
    return table(["cure", "of the victim's training, median (least to most)"],
                 [[name, f"{np.median(v):.2f} ({min(v):.2f} to {max(v):.2f})"]
                  for name, v in found.items()])  # fmt: skip


def draw(sweeps: Sequence[Row], curves: Sequence[Row], path: Path) -> None:
    """Draw attack success against the number of poisons, and the trade-off of cures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for trigger, colour in (("badnet", "#0072B2"), ("blended", "#D55E00")):
        points = [(int(job.split()[1]), own) for job, own in by_job(sweeps).items()
                  if job.startswith(trigger) and "of" not in job]  # fmt: skip
        for rate, line in (("attack success", "-"), ("clean accuracy", "--")):
            values = [hits(own, "victim", "zero_shot", rate) for _, own in points]
            known = [one for one in values if one is not None]
            means = [100 * one[0].mean() for one in known]
            left.plot([count for count, _ in points], means, line, color=colour, marker="o",
                      markersize=3, label=f"{trigger}, {rate}")  # fmt: skip
        for job, own in by_job(curves).items():
            if not job.startswith(trigger):
                continue
            models = list(own[0]["asked"])
            both = ("clean accuracy", "attack success")
            pairs = [[hits(own, m, "zero_shot", rate) for rate in both] for m in models]
            x, y = ([100 * one[k][0].mean() for one in pairs if one[k] is not None] for k in (0, 1))  # type: ignore[index]  # none is missing
            right.plot(x, y, color=colour, marker="o", markersize=3, label=trigger)
            for name, a, b in zip(models, x, y, strict=True):
                right.annotate(name.removeprefix("cleanclip "), (a, b), fontsize=7,
                               xytext=(4, 3) if trigger == "badnet" else (-24, -8),
                               textcoords="offset points")  # fmt: skip
    left.set_xscale("log")
    left.set_xlabel("poisoned pairs of 2,100")
    left.set_ylabel("%")
    right.set_xlabel("clean accuracy, %")
    right.set_ylabel("attack success, %")
    right.set_title("cure at other rates", fontsize=9)
    left.set_title("victims", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path)


def main() -> None:
    """Print every table that there are rows for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    read = {name: given.out / f"poison_{name}.json" for name in ("shapes", "ptbxl")}
    shapes, ptbxl = (json.loads(p.read_text()) if p.exists() else [] for p in read.values())
    block = {name: [row for row in shapes if row["block"] == name]
             for name in ("sweep", "cures", "tradeoff")}  # fmt: skip
    most = [row for row in ptbxl if len(row["asked"]) > 1]
    parts = {
        "Shapes: how many poisons implant": sweep(block["sweep"]),
        "Shapes: cures": cures(block["cures"]) + "\nCured less victim, by prompts:\n\n"
        + gaps(block["cures"]),
        "Shapes: the cure at other rates": cures(block["tradeoff"]),
        "Shapes: detectors, AUROC against the manifest": detectors(block["cures"]),
        "Shapes: what cures cost": cost(block["cures"]),
        "PTB-XL: how many poisons implant": sweep(ptbxl),
        "PTB-XL: cures": cures(most) + "\nCured less victim, by prompts:\n\n" + gaps(most),
        "PTB-XL: detectors, AUROC against the manifest": detectors(most),
        "PTB-XL: what cures cost": cost(most),
    }  # fmt: skip
    for title, text in parts.items():
        print(f"## {title}\n\n{text}")
    if block["sweep"]:
        draw(block["sweep"], block["tradeoff"], given.out / "poison.svg")


if __name__ == "__main__":
    main()
