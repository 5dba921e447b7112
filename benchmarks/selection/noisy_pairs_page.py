"""The tables of ``noisy_pairs_WORLD.json``, as ``noisy_pairs.md`` has them.

    python -m benchmarks.selection.noisy_pairs_page WORLD --work FOLDER --out OUT

FOLDER holds the predictions and keep files that ``noisy_pairs.py`` left there. Intervals (95 %)
draw held-out subjects, of the mean over seeds; a gain is a paired difference to training on all
pairs. In brackets: each seed, or their standard deviation where it says sd. The AUROC of
cross-fitted teachers is that within what one teacher scored, the mean of two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.selection.noisy_pairs import ARMS, SEEDS, SHARES, WORLDS, World
from medmcl.core.rng import derive_seed
from medmcl.evaluation import evaluate_embeddings
from medmcl.evaluation.protocol.results import Result

DRAWS = 2000
TEACHERS = ("in sample", "cross-fitted", "clean")


def spread(values: list[float], digits: int = 2) -> str:
    """Mean, and each seed."""
    each = ", ".join(f"{one:.{digits}f}" for one in values)
    return f"{np.mean(values):.{digits}f} [{each}]"


def within(world: World, work: Path, share: float, seed: int, scorer: str) -> float:
    """AUROC of a score at finding noise among the pairs of one teacher, the mean of both."""
    from medmcl.selection.keep import Keep

    keep = Keep.load(work / "keep" / f"{round(100 * share)}-{seed}" / f"{scorer}.parquet")
    cohort = world.cohort(work, share)
    wrong = world.noise(cohort, work, share).reindex(keep.ids).to_numpy(bool)
    subject = cohort.samples.set_index(cohort.samples["sample"].astype(str))["subject"]
    half = np.array([derive_seed(seed, "fold", str(one)) % 2 for one in subject.loc[keep.ids]])
    return float(np.mean([roc_auc_score(wrong[half == k], -keep.scores[scorer][half == k])
                          for k in (0, 1)]))  # fmt: skip


def all_areas(
    world: World, work: Path, rows: list[dict[str, Any]]
) -> dict[tuple[str, str, float], list[float]]:
    """AUROC by teacher, scorer and share, one a seed; that of one teacher is in the rows."""
    found: dict[tuple[str, str, float], list[float]] = {}
    for row in rows:
        teacher = row.get("teacher")
        if teacher in ("in sample", "cross-fitted"):
            key = (teacher, row["scorer"], row["share"])
            value = row["auroc"]
            if teacher == "cross-fitted":
                value = within(world, work, row["share"], row["seed"], row["scorer"])
            found.setdefault(key, []).append(value)
    return found


def detection(
    rows: list[dict[str, Any]], areas: Mapping[tuple[str, str, float], list[float]]
) -> list[str]:
    """How well noise is found."""
    lines = ["| pairs swapped | noise | teacher | score | AUROC | precision | recall |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for share in sorted(SHARES):
        for teacher in TEACHERS:
            for scorer in ("clip_score", "neg_clip_loss"):
                asked = {"share": share, "teacher": teacher, "scorer": scorer}
                found = [row for row in rows if asked.items() <= row.items()]
                if found:
                    area = spread(areas[teacher, scorer, share]) if teacher != "clean" else ""
                    cells = (area, *(spread([row[key] for row in found])
                                     for key in ("precision", "recall")))  # fmt: skip
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


def with_interval(values: np.ndarray, subjects: np.ndarray) -> str:
    """Mean over samples in percent, with an interval that draws their subjects."""
    rng = np.random.default_rng(0)
    codes = np.unique(subjects, return_inverse=True)[1]
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    drawn = rng.integers(len(sums), size=(DRAWS, len(sums)))
    draws = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    return f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"


class Outcomes:
    """What every arm of one share reached, over the seeds that are complete."""

    def __init__(
        self, world: World, work: Path, rows: list[dict[str, Any]], share: float, seeds: list[int]
    ) -> None:
        self.world, self.work, self.share, self.seeds = world, work, share, seeds
        self.rows = [row for row in rows if row.get("share") == share and "arm" in row]
        self.cohort = world.cohort(work, 0.0)
        own = self.cohort.samples
        rows_ = self.cohort.split("held_out")
        both = own[[world.image, world.text]].notna().all(axis=1).to_numpy()[rows_]
        self.held_out = rows_[both]
        self.subjects = own["subject"].to_numpy(object)[self.held_out].astype(str)

    def recalls(self, way: str) -> dict[str, np.ndarray]:
        """Arm to hits of each held-out sample, (seeds, samples)."""
        found = {}
        for arm in ARMS:
            own = {row["seed"]: row["right"][way] for row in self.rows if row["arm"] == arm}
            found[arm] = np.array([own[seed] for seed in self.seeds], float)
        return found

    def predicted(self, arm: str, key: str) -> list[np.ndarray]:
        """Predictions of each seed."""
        folder = self.work / "predictions"
        name = round(100 * self.share)
        return [np.load(folder / f"{name}-{seed}-{arm}.npz")[key] for seed in self.seeds]

    def of_tasks(self, kind: str, versus: str) -> dict[str, tuple[str, str]]:
        """Arm to its value, and its gain over another, of ``zero-shot`` or ``probe``."""
        if len(self.world.tasks) > 1:
            return self.told(self._right(kind), versus)
        task = self.world.tasks[0]
        given = {arm: self.predicted(arm, f"{kind} {task}") for arm in ARMS}
        samples = self.cohort.samples
        results = evaluate_embeddings(
            {}, self.cohort.targets(task), samples["split"].to_numpy(object),
            samples["subject"].to_numpy(object), predictions=given, baseline=versus,
            predictions_protocol=kind, bootstrap_draws=DRAWS,
        )  # fmt: skip
        rows = [row for row in results if row.metric == "auroc" and row.target == "macro"]
        own = {row.method: _shown(row) for row in rows if not row.versus}
        gain = {row.method: _shown(row, seeds=False) for row in rows if row.versus}
        return {arm: (own[arm], gain.get(arm, "")) for arm in ARMS}

    def _right(self, kind: str) -> dict[str, np.ndarray]:
        values = {}
        for arm in ARMS:
            hits = []
            for task in self.world.tasks:
                truth = self.cohort.targets(task).values[self.held_out, 0].astype(int)
                seeds = self.predicted(arm, f"{kind} {task}")
                hits.append([one[self.held_out].argmax(1) == truth for one in seeds])
            values[arm] = np.mean(hits, axis=0)  # (seeds, samples)
        return values

    def told(self, values: Mapping[str, np.ndarray], versus: str) -> dict[str, tuple[str, str]]:
        """Arm to value and gain, from (seeds, samples)."""
        base = values[versus].mean(0)
        shown = {}
        for arm, each in values.items():
            seeds = ", ".join(f"{100 * one:.0f}" for one in each.mean(1))
            mean = each.mean(0)
            gain = "" if arm == versus else with_interval(mean - base, self.subjects)
            shown[arm] = (f"{with_interval(mean, self.subjects)} [{seeds}]", gain)
        return shown

    def all(self, versus: str) -> dict[str, dict[str, tuple[str, str]]]:
        """Outcome to arm to value and gain."""
        ways = ("image to text", "text to image")
        return {
            "zero-shot": self.of_tasks("zero-shot", versus),
            "probe": self.of_tasks("probe", versus),
            **{f"R@{self.world.hits} {way}": self.told(self.recalls(way), versus) for way in ways},
        }


def _shown(row: Result, *, seeds: bool = True) -> str:
    each = f" [sd {100 * row.seed_spread:.1f}]" if seeds and row.seed_spread is not None else ""
    return f"{100 * row.value:.1f} ({100 * row.low:.1f} to {100 * row.high:.1f}){each}"  # type: ignore[operator]  # estimable


def training(told: Outcomes) -> list[str]:
    """What training on each part gives."""
    found = told.all("all")
    lines = [f"| trained on | pairs | {' | '.join(f'{name} | gain' for name in found)} | CPU s |",
             "|---" * (3 + 2 * len(found)) + "|"]  # fmt: skip
    for arm in ARMS:
        own = [row for row in told.rows if row["arm"] == arm]
        cells = [cell for one in found.values() for cell in one[arm]]
        seconds = np.mean([row["training"] for row in own])
        lines.append(f"| {arm} | {own[0]['pairs']} | {' | '.join(cells)} | {seconds:.0f} |")
    lines += ["", f"| negCLIPLoss less | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for other in ("random", "clip_score"):
        gains = [one["neg_clip_loss"][1] for one in told.all(other).values()]
        lines.append(f"| {other} | {' | '.join(gains)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/selection"))
    given = parser.parse_args()
    world, work = WORLDS[given.world], given.work / given.world
    rows = json.loads((given.out / f"noisy_pairs_{world.name}.json").read_text("utf-8"))
    areas = all_areas(world, work, rows)
    print("\n".join(["### Finding noise", "", *detection(rows, areas), "",
                     "### What NormSim keeps", "", *relevance(rows)]))  # fmt: skip
    for share in sorted(SHARES):
        made = [row["seed"] for row in rows if row.get("share") == share and "arm" in row]
        seeds = [seed for seed in SEEDS if made.count(seed) == len(ARMS)]
        if seeds:
            print(f"\n### Training, {100 * share:.0f} % swapped, {len(seeds)} seeds\n")
            print("\n".join(training(Outcomes(world, work, rows, share, seeds))))


if __name__ == "__main__":
    main()
