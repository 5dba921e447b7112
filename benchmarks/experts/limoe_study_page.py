"""The table of ``limoe_study.json``, as ``limoe_study.md`` has it.

python -m benchmarks.experts.limoe_study_page limoe_study.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

DRAWS = 2000
SHOWN = {
    "zero-shot": ("shape", "colour", "texture"),
    "image to text": ("image to text",),
    "text to image": ("text to image",),
}


def per_subject(runs: list[dict[str, Any]], outcome: str) -> np.ndarray:
    """Share that each seed got right of each held-out subject, (seeds, subjects)."""
    return np.array([np.mean([run["right"][p] for p in SHOWN[outcome]], axis=0) for run in runs])


def with_interval(values: np.ndarray) -> str:
    """Mean over subjects with a 95 % interval that draws subjects, in percent."""
    rng = np.random.default_rng(0)
    draws = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    return f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"


def line(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]] | None) -> str:
    """One row of the table: values, the paired difference to ``base``, seeds, cost."""
    sound = [run for run in runs if "right" in run]
    cells = [name]
    for outcome in SHOWN:
        values = per_subject(sound, outcome)
        spread = ", ".join(f"{100 * one:.0f}" for one in values.mean(1))
        cells.append(f"{with_interval(values.mean(0))} [{spread}]")
    if base is None:
        cells.append("")
    else:
        cells.append(
            "; ".join(
                with_interval(per_subject(sound, o).mean(0) - per_subject(base, o).mean(0))
                for o in ("zero-shot", "image to text")
            )
        )
    failed = len(runs) - len(sound)
    spikes = sum(run["spikes"] for run in sound)
    skipped = sum(run["skipped"] for run in sound)
    cells.append(f"{failed}, {spikes}, {skipped}")
    cells.append(f"{np.mean([run['seconds'] for run in runs]):.0f}")
    cells.append(f"{sound[0]['weights'] / 1e6:.2f}")
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "model",
    *(f"{name}, %" for name in ("zero-shot", "R@1 image to text", "R@1 text to image")),
    "zero-shot and R@1 image to text less those of the first row, points",
    "failed, spikes, skipped",
    "CPU s",
    "weights, M",
)


def main() -> None:
    done = json.loads(Path(sys.argv[1]).read_text("utf-8"))

    def made(model: str, size: str, changed: str = "nothing") -> list[dict[str, Any]]:
        key = (model, size, changed)
        return [run for run in done if (run["model"], run["size"], run["changed"]) == key]

    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for size in ("tiny", "small"):
        dense = made("dense", size)
        for model in ("dense", "limoe", "two towers"):
            runs = made(model, size)
            if runs:
                base = None if model == "dense" else dense[: len(runs)]
                print(line(f"{size}: {model}, {len(runs)} seeds", runs, base))
    whole = made("limoe", "tiny")
    for changed in dict.fromkeys(run["changed"] for run in done if run["changed"] != "nothing"):
        runs = made("limoe", "tiny", changed)
        print(line(f"tiny: limoe, {changed}, {len(runs)} seeds", runs, whole[: len(runs)]))


if __name__ == "__main__":
    main()
