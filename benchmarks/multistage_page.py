"""Print the tables of multistage.md from what multistage.py measured.

python benchmarks/multistage_page.py --out benchmarks
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ARMS = ("base", "stage_1", "stage_2", "joined", "distilled", "ensemble", "placebo", "last",
        "ceiling", "untrained")  # fmt: skip
AGAINST = ("base", "ensemble", "placebo", "last")
CLUSTERINGS = ("groups", "random", "last_groups")
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
        for setting in dict.fromkeys(one["setting"] for one in every):
            runs = [one for one in every if one["setting"] == setting]
            own = [r for one in runs for r in one["rows"]]
            factors = list(dict.fromkeys(r["factor"] for r in own if "accuracy" in r))
            pairs = list(dict.fromkeys(r["pairs"] for r in own if "pairs" in r))
            seeds = ", ".join(str(one["seed"]) for one in runs)
            cpu = sum(one["cpu_seconds"] for one in runs) / len(runs)
            share = [
                max(s for n, s in one["wall_seconds"].items() if n.startswith(CLUSTERINGS))
                / one["wall_seconds"]["stage_1"]
                for one in runs
            ]
            print(f"\n## {world}, {setting}\n\nSeeds {seeds}; {cpu:.0f} CPU seconds a seed; the "
                  f"slowest clustering {100 * min(share):.1f} to {100 * max(share):.1f} % of the "
                  "time of a stage.\n")  # fmt: skip
            print("\n".join(table(runs, "factor", factors)), "\n")
            print("\n".join(differences(runs, "factor", factors)), "\n")
            if pairs:
                print("Both of a pair right:\n")
                print("\n".join(table(runs, "pairs", pairs)), "\n")
                print("\n".join(differences(runs, "pairs", pairs)), "\n")
            print("\n".join(clusters(runs, factors)))


if __name__ == "__main__":
    main()
