"""The tables of ``noisy_pairs_WORLD.json``, as ``noisy_pairs.md`` has them.

    python benchmarks/noisy_pairs_page.py WORLD --work FOLDER --out OUT

FOLDER holds the predictions that ``noisy_pairs.py`` left there. Intervals (95 %) are over held-out
subjects, of the mean over seeds; a gain is a paired difference to training on all pairs. In
brackets: each seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from noisy_pairs import ARMS, SEEDS, SHARES, WORLDS, World

from medmcl.evaluation import evaluate_embeddings
from medmcl.evaluation.results import Result

DRAWS = 2000
TEACHERS = ("in sample", "cross-fitted", "clean")


def spread(values: list[float], digits: int = 2) -> str:
    """Mean, and each seed."""
    each = ", ".join(f"{one:.{digits}f}" for one in values)
    return f"{np.mean(values):.{digits}f} [{each}]"


def detection(rows: list[dict[str, Any]]) -> list[str]:
    """How well noise is found."""
    lines = ["| pairs swapped | noise | teacher | score | AUROC | precision | recall |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for share in sorted(SHARES):
        for teacher in TEACHERS:
            for scorer in ("clip_score", "neg_clip_loss"):
                asked = {"share": share, "teacher": teacher, "scorer": scorer}
                found = [row for row in rows if asked.items() <= row.items()]
                if found:
                    cells = (spread([row[key] for row in found])
                             for key in ("auroc", "precision", "recall"))  # fmt: skip
                    base = f"{100 * found[0]['base rate']:.1f} %"
                    lines.append(f"| {100 * share:.0f} % | {base} | {teacher} | {scorer} | "
                                 f"{' | '.join(cells)} |")  # fmt: skip
    return lines


def relevance(rows: list[dict[str, Any]]) -> list[str]:
    """What NormSim keeps."""
    lines = ["| pairs swapped | p | kept rows with the target's label | all rows |",
             "|---|---|---|---|"]  # fmt: skip
    for share in sorted(SHARES):
        for p in ("2.0", "2", "inf"):
            asked = {"share": share, "norm_sim": True, "p": p}
            found = [row for row in rows if asked.items() <= row.items()]
            if found:
                lines.append(f"| {100 * share:.0f} % | {p} | {spread([r['kept'] for r in found])} "
                             f"| {found[0]['base rate']:.2f} |")  # fmt: skip
    return lines


def with_interval(values: np.ndarray) -> str:
    """Mean over subjects in percent, with an interval that draws subjects."""
    rng = np.random.default_rng(0)
    draws = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    return f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"


def recalls(rows: list[dict[str, Any]], share: float, arm: str, way: str) -> np.ndarray:
    """Hits of each held-out subject, (seeds, subjects)."""
    found = [row for row in rows if {"share": share, "arm": arm}.items() <= row.items()]
    return np.array([row["right"][way] for row in sorted(found, key=lambda row: row["seed"])])


def predicted(work: Path, share: float, arm: str, key: str) -> list[np.ndarray]:
    """Predictions of each seed that is there."""
    files = [work / "predictions" / f"{round(100 * share)}-{seed}-{arm}.npz" for seed in SEEDS]
    return [np.load(file)[key] for file in files if file.is_file()]


class Outcomes:
    """Zero-shot and probe of every arm of one share."""

    def __init__(self, world: World, work: Path, share: float) -> None:
        self.world, self.work, self.share = world, work, share
        self.cohort = world.cohort(work, 0.0)

    def of_tasks(self, kind: str) -> dict[str, tuple[str, str]]:
        """Arm to its value and its gain, of ``zero-shot`` or ``probe``."""
        if len(self.world.tasks) > 1:
            return self._right(kind)
        task = self.world.tasks[0]
        given = {arm: predicted(self.work, self.share, arm, f"{kind} {task}") for arm in ARMS}
        samples = self.cohort.samples
        results = evaluate_embeddings(
            {}, self.cohort.targets(task), samples["split"].to_numpy(object),
            samples["subject"].to_numpy(object), predictions=given, baseline="all",
            predictions_protocol=kind, bootstrap_draws=DRAWS,
        )  # fmt: skip
        rows = [row for row in results if row.metric == "auroc" and row.target == "macro"]
        own = {row.method: _shown(row) for row in rows if not row.versus}
        gain = {row.method: _shown(row, seeds=False) for row in rows if row.versus}
        return {arm: (own[arm], gain.get(arm, "")) for arm in ARMS}

    def _right(self, kind: str) -> dict[str, tuple[str, str]]:
        held_out = self.cohort.split("held_out")
        values = {}
        for arm in ARMS:
            hits = []
            for task in self.world.tasks:
                truth = self.cohort.targets(task).values[held_out, 0].astype(int)
                seeds = predicted(self.work, self.share, arm, f"{kind} {task}")
                hits.append([one[held_out].argmax(1) == truth for one in seeds])
            values[arm] = np.mean(hits, axis=0)  # (seeds, subjects)
        return _told(values)


def _told(values: dict[str, np.ndarray]) -> dict[str, tuple[str, str]]:
    """Arm to value and gain, from (seeds, subjects)."""
    base = values["all"].mean(0)
    shown = {}
    for arm, each in values.items():
        seeds = ", ".join(f"{100 * one:.0f}" for one in each.mean(1))
        gain = "" if arm == "all" else with_interval(each.mean(0) - base)
        shown[arm] = (f"{with_interval(each.mean(0))} [{seeds}]", gain)
    return shown


def _shown(row: Result, *, seeds: bool = True) -> str:
    each = f" [{100 * row.seed_spread:.1f}]" if seeds and row.seed_spread is not None else ""
    return f"{100 * row.value:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f}){each}"  # type: ignore[operator]


def training(world: World, work: Path, rows: list[dict[str, Any]], share: float) -> list[str]:
    """What training on each part gives."""
    told = Outcomes(world, work, share)
    found = {
        "zero-shot": told.of_tasks("zero-shot"),
        "probe": told.of_tasks("probe"),
        f"R@{world.hits} image to text": _told(
            {arm: recalls(rows, share, arm, "image to text") for arm in ARMS}
        ),
        f"R@{world.hits} text to image": _told(
            {arm: recalls(rows, share, arm, "text to image") for arm in ARMS}
        ),
    }
    lines = [f"| trained on | pairs | {' | '.join(f'{name} | gain' for name in found)} | CPU s |",
             "|---" * (3 + 2 * len(found)) + "|"]  # fmt: skip
    for arm in ARMS:
        own = [row for row in rows if {"share": share, "arm": arm}.items() <= row.items()]
        cells = [cell for one in found.values() for cell in one[arm]]
        seconds = np.mean([row["training"] for row in own])
        lines.append(f"| {arm} | {own[0]['pairs']} | {' | '.join(cells)} | {seconds:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    world, work = WORLDS[given.world], given.work / given.world
    rows = json.loads((given.out / f"noisy_pairs_{world.name}.json").read_text("utf-8"))
    print("\n".join(["### Finding noise", "", *detection(rows), "",
                     "### What NormSim keeps", "", *relevance(rows)]))  # fmt: skip
    for share in sorted(SHARES):
        made = [row["seed"] for row in rows if row.get("share") == share and "arm" in row]
        complete = [seed for seed in SEEDS if made.count(seed) == len(ARMS)]
        if complete:
            kept = [row for row in rows if "arm" not in row or row["seed"] in complete]
            print(f"\n### Training, {100 * share:.0f} % swapped, {len(complete)} seeds\n")
            print("\n".join(training(world, work, kept, share)))


if __name__ == "__main__":
    main()
