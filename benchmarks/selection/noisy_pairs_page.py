"""What `noisy_pairs` found, summed up, and its tables.

FOLDER holds the predictions and keep files that ``noisy_pairs.py`` left there. Intervals (95 %)
draw held-out subjects, of the mean over seeds; a gain is a paired difference to training on all
pairs. In brackets: each seed, or their standard deviation where it says sd. The AUROC of
cross-fitted teachers is that within what one teacher scored, the mean of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.study import Row, grid
from medmcl.core.rng import derive_seed
from medmcl.evaluation import evaluate_embeddings
from medmcl.evaluation.protocol.results import Result

if TYPE_CHECKING:
    from benchmarks.selection.noisy_pairs import World

SEEDS = (0, 1, 2)
SHARES = (0.4, 0.2, 0.1)
ARMS = ("all", "random", "clip_score", "neg_clip_loss", "truth")
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


def found_within(world: World, work: Path) -> list[Row]:
    """AUROC of cross-fitted teachers within what one of them scored, by share and scorer."""
    rows = []
    for share in sorted(SHARES):
        for scorer in ("clip_score", "neg_clip_loss"):
            seeds = [within(world, work, share, seed, scorer) for seed in SEEDS]
            mean = float(np.mean(seeds))
            rows.append({"share": share, "scorer": scorer, "mean": mean, "seeds": seeds})
    return rows


def detection(runs: list[Row], areas: list[Row]) -> str:
    """How well noise is found."""
    crossed = {(row["share"], row["scorer"]): row for row in areas}
    lines = []
    for share in sorted(SHARES):
        for teacher in TEACHERS:
            for scorer in ("clip_score", "neg_clip_loss"):
                asked = {"share": share, "teacher": teacher, "scorer": scorer}
                found = [row for row in runs if asked.items() <= row.items()]
                if not found:
                    continue
                area = ""  # of clean teachers it was not kept
                if teacher == "in sample":
                    area = spread([row["auroc"] for row in found])
                elif teacher == "cross-fitted":
                    one = crossed[share, scorer]
                    area = f"{one['mean']:.2f} [{', '.join(f'{x:.2f}' for x in one['seeds'])}]"
                cells = [spread([row[key] for row in found]) for key in ("precision", "recall")]
                base = f"{100 * found[0]['base rate']:.1f} %"
                lines.append([f"{100 * share:.0f} %", base, teacher, scorer, area, *cells])
    head = ["pairs swapped", "noise", "teacher", "score", "AUROC", "precision", "recall"]
    return grid(head, lines)


def relevance(runs: list[Row]) -> str:
    """What NormSim keeps."""
    lines = []
    for share in sorted(SHARES):
        for p in ("2.0", "2", "inf"):
            asked = {"share": share, "norm_sim": True, "p": p}
            found = [row for row in runs if asked.items() <= row.items()]
            if found:
                kept, base = spread([r["kept"] for r in found]), f"{found[0]['base rate']:.2f}"
                lines.append([f"{100 * share:.0f} %", p, kept, base])
    return grid(["pairs swapped", "p", "kept rows with the target's label", "all rows"], lines)


def with_interval(values: np.ndarray, subjects: np.ndarray) -> Row:
    """Mean over samples in percent, with an interval that draws their subjects."""
    rng = np.random.default_rng(0)
    codes = np.unique(subjects, return_inverse=True)[1]
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    drawn = rng.integers(len(sums), size=(DRAWS, len(sums)))
    draws = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    return {"value": 100 * float(values.mean()), "low": float(low), "high": float(high)}


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

    def of_tasks(self, kind: str, versus: str) -> dict[str, Row]:
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
        found = {row.method: _points(row) for row in rows if not row.versus}
        for row in rows:
            if row.versus:
                found[row.method]["gain"] = _points(row)
            elif row.seed_spread is not None:
                found[row.method]["sd"] = 100 * row.seed_spread
        return {arm: found[arm] for arm in ARMS}

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

    def told(self, values: Mapping[str, np.ndarray], versus: str) -> dict[str, Row]:
        """Arm to value and gain, from (seeds, samples)."""
        base = values[versus].mean(0)
        found = {}
        for arm, each in values.items():
            mean = each.mean(0)
            found[arm] = with_interval(mean, self.subjects)
            found[arm]["seeds"] = (100 * each.mean(1)).tolist()
            if arm != versus:
                found[arm]["gain"] = with_interval(mean - base, self.subjects)
        return found

    def all(self, versus: str) -> dict[str, dict[str, Row]]:
        """Outcome to arm to value and gain."""
        ways = ("image to text", "text to image")
        return {
            "zero-shot": self.of_tasks("zero-shot", versus),
            "probe": self.of_tasks("probe", versus),
            **{f"R@{self.world.hits} {way}": self.told(self.recalls(way), versus) for way in ways},
        }


def _points(row: Result) -> Row:
    return {"value": 100 * row.value, "low": 100 * row.low, "high": 100 * row.high}  # type: ignore[operator]  # estimable


def summed(world: World, work: Path, runs: list[Row]) -> dict[str, Any]:
    """What needs predictions and keep files: AUROC within, and what training on each part gives."""
    training = {}
    for share in sorted(SHARES):
        made = [row["seed"] for row in runs if row.get("share") == share and "arm" in row]
        seeds = [seed for seed in SEEDS if made.count(seed) == len(ARMS)]
        if not seeds:
            continue
        told = Outcomes(world, work, runs, share, seeds)
        found, arms = told.all("all"), []
        for arm in ARMS:
            own = [row for row in told.rows if row["arm"] == arm]
            seconds = float(np.mean([row["training"] for row in own]))
            outcomes = {name: one[arm] for name, one in found.items()}
            arms.append(
                {"arm": arm, "pairs": own[0]["pairs"], "seconds": seconds, "outcomes": outcomes}
            )
        less = [
            {"arm": other, "outcomes": {name: one["neg_clip_loss"]["gain"]
                                        for name, one in told.all(other).items()}}
            for other in ("random", "clip_score")
        ]  # fmt: skip
        training[f"{share:g}"] = {"seeds": len(seeds), "arms": arms, "less": less}
    return {"within": found_within(world, work), "training": training}


def _span(row: Row | None) -> str:
    if row is None:
        return ""
    each = ""
    if "sd" in row:
        each = f" [sd {row['sd']:.1f}]"
    elif "seeds" in row:
        each = f" [{', '.join(f'{one:.0f}' for one in row['seeds'])}]"
    return f"{row['value']:.1f} ({row['low']:.1f} to {row['high']:.1f}){each}"


def parts(rows: dict[str, Any]) -> dict[str, str]:
    found = {}
    for world, one in rows.items():
        found[f"{world} noise"] = detection(one["runs"], one["within"])
        found[f"{world} relevance"] = relevance(one["runs"])
        for share, told in one["training"].items():
            names, lines = list(told["arms"][0]["outcomes"]), []
            for arm in told["arms"]:
                cells = [_span(x) for o in arm["outcomes"].values() for x in (o, o.get("gain"))]
                lines.append([arm["arm"], str(arm["pairs"]), *cells, f"{arm['seconds']:.0f}"])
            head = ["trained on", "pairs", *(x for name in names for x in (name, "gain")), "CPU s"]
            less = [[row["arm"], *map(_span, row["outcomes"].values())] for row in told["less"]]
            percent = round(100 * float(share))
            found[f"{world} training {percent}"] = grid(head, lines)
            found[f"{world} less {percent}"] = grid(["negCLIPLoss less", *names], less)
    return found
