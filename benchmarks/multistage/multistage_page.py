"""Print the tables of multistage.md from what multistage.py measured.

python -m benchmarks.multistage.multistage_page --out benchmarks/multistage/multistage
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ARMS = ("base", "stage_1", "stage_2", "joined", "distilled", "ensemble", "placebo", "last",
        "oracle", "ceiling", "untrained")  # fmt: skip
SHORT = ("base", "joined", "ensemble", "placebo", "oracle", "ceiling", "untrained")
IN_FULL = "main"
"""Setting whose tables are printed whole; of others the hardest factor."""
AGAINST = ("base", "ensemble", "placebo", "last")
TRAINED_WITHIN = {"groups_1": "stage_1", "groups_2": "stage_2", "random_1": "placebo_1",
                  "random_2": "placebo_2", "last_groups": "last_2"}  # fmt: skip
DRAWS = 2000
Row = dict[str, Any]


def rights(runs: Sequence[Row], key: str, what: str, arm: str) -> list[np.ndarray]:
    """Give for each seed who (or which pair) an arm has right, (N,) bool."""
    found = []
    for one in runs:
        rows = [r for r in one["rows"] if r.get(key) == what and r.get("arm") == arm]
        found += [
            np.unpackbits(np.frombuffer(bytes.fromhex(r["right"]), np.uint8))[: r["n"]]
            for r in rows
        ]
    return [row.astype(float) for row in found]


def interval(values: Sequence[np.ndarray]) -> str:
    """Mean over seeds, its interval over held-out subjects, and the seeds: least to most.

    The world changes with the seed, so subjects of each are drawn apart.
    """
    if not values:
        return ""
    generator = np.random.default_rng(0)
    drawn = np.mean(
        [
            [row[generator.integers(0, len(row), len(row))].mean() for _ in range(DRAWS)]
            for row in values
        ],
        axis=0,
    )
    seeds = [100 * row.mean() for row in values]
    low, high = 100 * np.quantile(drawn, [0.025, 0.975])
    spread = f"; {min(seeds):.1f} to {max(seeds):.1f}" if len(seeds) > 1 else ""
    return f"{np.mean(seeds):.1f} ({low:.1f} to {high:.1f}{spread})"


def table(runs: Sequence[Row], key: str, names: Sequence[str]) -> list[str]:
    """One row an arm, one column a factor or kind of pairs."""
    lines = ["| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for arm in ARMS:
        cells = [interval(rights(runs, key, name, arm)) for name in names]
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def differences(runs: Sequence[Row], key: str, names: Sequence[str]) -> list[str]:
    """What MCL has more than each control, paired by subject."""
    lines = ["| joined less | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for arm in (*AGAINST, "distilled"):
        cells = []
        for name in names:
            own, other = (rights(runs, key, name, one) for one in ("joined", arm))
            paired = [a - b for a, b in zip(own, other, strict=True)] if other else []
            cells.append(interval(paired) if other else "")
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return lines


def clusters(runs: Sequence[Row], factors: Sequence[str]) -> list[str]:
    """Mutual information of the clusters of each stage with each factor, least to most."""
    names = list(dict.fromkeys(r["clusters"] for one in runs for r in one["rows"] if "nmi" in r))
    lines = ["| clusters | " + " | ".join(factors) + " |", "|---" * (len(factors) + 1) + "|"]
    for name in names:
        cells = []
        for factor in factors:
            found = [r["nmi"] for one in runs for r in one["rows"]
                     if r.get("clusters") == name and r["factor"] == factor]  # fmt: skip
            cells.append(f"{min(found):.2f} to {max(found):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def mean(values: Sequence[np.ndarray]) -> str:
    """Mean over seeds and, of several, least to most."""
    seeds = [100 * row.mean() for row in values]
    spread = f" ({min(seeds):.1f} to {max(seeds):.1f})" if len(seeds) > 1 else ""
    return f"{np.mean(seeds):.1f}{spread}" if seeds else ""


def summary(every: Sequence[Row], key: str, what: str) -> list[str]:
    """One row a setting: arms and what MCL has more than three of them, of one factor or pairs."""
    settings = list(dict.fromkeys(one["setting"] for one in every))
    told = {setting: [one for one in every if one["setting"] == setting] for setting in settings}
    shown = [arm for arm in SHORT if any(rights(runs, key, what, arm) for runs in told.values())]
    less = [arm for arm in ("base", "ensemble", "placebo") if arm in shown]
    heads = ["setting", "seeds", *shown, *(f"joined less {arm}" for arm in less)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for setting, runs in told.items():
        if not (own := rights(runs, key, what, "joined")):
            continue
        cells = [mean(rights(runs, key, what, arm)) for arm in shown]
        for arm in less:
            other = rights(runs, key, what, arm)
            paired = [a - b for a, b in zip(own, other, strict=True)] if other else []
            cells.append(interval(paired))
        lines.append(f"| {setting} | {len(runs)} | " + " | ".join(cells) + " |")
    return lines


def in_full(world: str, setting: str, runs: Sequence[Row]) -> list[str]:
    """Every table of one setting."""
    own = [r for one in runs for r in one["rows"]]
    factors = list(dict.fromkeys(r["factor"] for r in own if "accuracy" in r))
    pairs = list(dict.fromkeys(r["pairs"] for r in own if "pairs" in r))
    seeds = ", ".join(str(one["seed"]) for one in runs)
    cpu = [one["cpu_seconds"] for one in runs]
    lines = [f"## {world}, {setting}", "", f"Seeds {seeds}; {min(cpu):.0f} to {max(cpu):.0f} CPU "
             f"seconds a seed; {of_clustering(runs)}.", ""]  # fmt: skip
    lines += [*table(runs, "factor", factors), "", *differences(runs, "factor", factors), ""]
    if pairs:
        lines += ["Both of a pair right:", "", *table(runs, "pairs", pairs), ""]
        lines += [*differences(runs, "pairs", pairs), ""]
    return [*lines, "Mutual information of clusters and factors, normalised, on train rows:", "",
            *clusters(runs, factors), ""]  # fmt: skip


def of_clustering(runs: Sequence[Row]) -> str:
    """What a clustering takes of the wall time of the stage within its groups."""
    share = [
        one["wall_seconds"][name] / one["wall_seconds"][stage]
        for one in runs
        for name, stage in TRAINED_WITHIN.items()
        if stage in one["wall_seconds"]
    ]
    return (
        f"a clustering takes {100 * min(share):.1f} to {100 * max(share):.1f} % (median "
        f"{100 * float(np.median(share)):.1f} %) of the time of the stage within its groups"
    )


def main() -> None:
    """Print every table that there are rows for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for world in ("vectors", "captions", "digits", "pictures"):
        file = args.out / f"multistage_{world}.json"
        if not file.exists():
            continue
        every = json.loads(file.read_text())
        every.sort(key=lambda one: one["setting"] != IN_FULL)
        full = [one for one in every if one["setting"] == IN_FULL]
        if full:
            print("\n".join(in_full(world, IN_FULL, full)))
        own = [r for one in every for r in one["rows"]]
        factor = list(dict.fromkeys(r["factor"] for r in own if "accuracy" in r))[-1]
        print(f"## {world}, every setting: {factor}\n\nOf each arm the mean over seeds and least "
              f"to most; {of_clustering(every)}.\n")  # fmt: skip
        print("\n".join(summary(every, "factor", factor)), "\n")
        for kind in dict.fromkeys(r["pairs"] for r in own if "pairs" in r):
            print(f"Both of a pair right, pairs that differ in {kind} only:\n")
            print("\n".join(summary(every, "pairs", kind)), "\n")


if __name__ == "__main__":
    main()
