"""Score what ``mcl_ptbxl.py`` trained.

    python -m benchmarks.multistage.mcl_ptbxl_scores --work FOLDER --split tuning|held_out

Choices are made on ``tuning`` (fold 9, printed); fold 10 is ``held_out``. The linear probe is fitted
on all train records, its penalty chosen on fold 9. Predictions are kept in FOLDER and not made again.
Intervals (95 %) draw subjects of the mean over seeds; differences are paired by subject and seed;
``sd`` is the standard deviation over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.multistage.mcl_ptbxl import CHOSEN, SEEDS, TRIED, ptbxl
from benchmarks.study import Cell, Row, Study, grid, table
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import prepare
from medmcl.evaluation import evaluate_embeddings, linear_probe
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.protocol.sample_subgroups import sample_numbers, sample_subgroups

DRAWS = 1000
FEWEST = 5
"""Positives and negatives that a device must have for an AUROC of its own."""
K = f"k{CHOSEN}_"
ARMS = {
    "one stage": ("main", "base"),
    "ensemble of three": ("main", "ensemble"),
    "MCL joined": ("main", f"{K}joined"),
    "MCL distilled": ("main", f"{K}distilled"),
    "stage 1 alone": ("main", f"{K}stage_1"),
    "stage 2 alone": ("main", f"{K}stage_2"),
    "other encoder alone": ("main", "other_1"),
    "placebo joined": ("main", "placebo_joined"),
}
"""Name in the tables to what was run and the stage."""
ALONE = ("stage 1 alone", "stage 2 alone", "other encoder alone")
"""Scored on the superclasses only."""
PAIRS = (
    ("MCL joined", "one stage"),
    ("MCL joined", "ensemble of three"),
    ("MCL joined", "placebo joined"),
    ("MCL distilled", "MCL joined"),
    ("MCL distilled", "one stage"),
    ("ensemble of three", "one stage"),
)
PLAIN = "plain"
DEVICE_ARMS = {
    PLAIN: ("main", "base"),
    "other start": ("main", "other_1"),
    "one device a batch": ("device", "one_device"),
    "spectrum": ("spectrum", "log_spectrum"),
}
UNKNOWN = "unknown"
TASKS = ("superclass", "scp")
ASKED = {"device": "auroc", "site": "auroc", "sex": "auroc", "age": "r2",
         "superclass": "auroc", "scp": "auroc"}  # fmt: skip


class Data:
    """The cohort, its tasks, and who has what."""

    def __init__(self) -> None:
        cohort = ptbxl()
        self.split = cohort.samples["split"].to_numpy(object).astype(str)
        self.subjects = cohort.samples["subject"].to_numpy(object).astype(str)
        self.has_ecg = cohort.samples["ecg"].notna().to_numpy()
        groups = sample_subgroups(cohort, {})
        self.device = np.asarray(groups["device"]).astype(str)
        of = cohort.subjects.reindex(cohort.samples["subject"])
        site = of["site"].to_numpy(float)
        site = np.array([f"{one:g}" if np.isfinite(one) else UNKNOWN for one in site])
        names, sizes = np.unique(site, return_counts=True)
        small = [n for n, size in zip(names, sizes, strict=True) if size < 100]
        site[np.isin(site, small) & (site != UNKNOWN)] = "others"
        self.site = site
        sides = cohort.targets("superclass").sides
        age = sample_numbers(cohort)["age"]
        self.tasks = {name: cohort.targets(name) for name in ("superclass", "scp")}
        self.asked = {
            "device": _classes("device", self.device, sides),
            "site": _classes("site", self.site, sides),
            "sex": _classes("sex", np.asarray(groups["sex"]).astype(str), sides),
            "age": Targets(name="age", kind="regression", columns=("age",), unit="years",
                           values=np.nan_to_num(age)[:, None],
                           known=np.isfinite(age)[:, None], sides=sides),
        }  # fmt: skip

    def targets(self, name: str) -> Targets:
        """A task, or a confounder as one."""
        return self.tasks.get(name) or self.asked[name]

    def rows(self, split: str, targets: Targets) -> np.ndarray:
        """Rows of a split with an ECG and a label."""
        return np.flatnonzero((self.split == split) & self.has_ecg & targets.known.any(axis=1))


def _classes(name: str, labels: np.ndarray, sides: Any) -> Targets:
    known = labels != UNKNOWN
    names, codes = np.unique(np.where(known, labels, labels[known][0]), return_inverse=True)
    return Targets(name=name, kind="multiclass", columns=(name,), classes=tuple(map(str, names)),
                   values=np.where(known, codes, 0).astype(float)[:, None], known=known[:, None],
                   sides=sides)  # fmt: skip


def log_spectrum(cache: Path) -> np.ndarray:
    """Log power of each lead in 40 bands up to 50 Hz of ten seconds: not learned. (N, E)."""
    keys = {"rate_hz": 100, "seconds": 10, "crop_seconds": 10, "baseline": "highpass",
            "clip_sigma": None, "normalise": "none"}  # fmt: skip
    prepared = prepare(ptbxl(), {"ecg": keys}, cache=cache, splits="all")
    index = prepared.index("ecg")
    signals = np.asarray(prepared.inputs("ecg"), float)
    power = np.abs(np.fft.rfft(signals, axis=-1))[..., 1:] ** 2
    bands = np.stack([part.mean(-1) for part in np.array_split(power, 40, axis=-1)], axis=-1)
    own = np.log(bands + 1e-6).reshape(len(signals), -1)
    return np.where((index >= 0)[:, None], own[index], 0.0)


class Scores:
    """Embeddings and predictions in a folder."""

    def __init__(self, work: Path) -> None:
        self.work, self.data = work, Data()
        self.made: dict[str, list[str]] = {}
        (work / "predictions").mkdir(exist_ok=True)

    def seeds(self, block: str, what: str, stage: str) -> list[int]:
        """Seeds that have the embeddings of a stage."""
        return [seed for seed in SEEDS if stage in self._stages(f"{block}-{what}-{seed}")]

    def _stages(self, name: str) -> list[str]:
        path = self.work / "vectors" / f"{name}.npz"
        if name not in self.made:
            self.made[name] = list(np.load(path)) if path.is_file() else []
        return self.made[name]

    def vectors(self, block: str, what: str, seed: int, stage: str) -> np.ndarray:
        """ECG features of an encoder, (N, E)."""
        return np.asarray(
            np.load(self.work / "vectors" / f"{block}-{what}-{seed}.npz")[stage], float
        )

    def predicted(
        self, block: str, what: str, seed: int, stage: str, task: str, *, elsewhere: bool = False
    ) -> np.ndarray:
        """Probe predictions of every sample, (N, C); ``elsewhere``: by a probe without its device.

        Predictions of train rows by a probe that saw them are set to zero.
        """
        name = f"{block}-{what}-{seed}-{stage}-{task}{'-elsewhere' if elsewhere else ''}.npy"
        path = self.work / "predictions" / name
        if not path.is_file():
            x = self.vectors(block, what, seed, stage)
            targets = self.data.targets(task)
            train, tuning = (self.data.rows(split, targets) for split in ("train", "tuning"))
            found = np.zeros((len(x), targets.num_outputs))
            if elsewhere:
                device, subjects = self.data.device, self.data.subjects
                for one in np.unique(device):
                    own = device == one
                    out = own | np.isin(subjects, subjects[own])
                    fitted = linear_probe(x, targets, train[~out[train]], tuning[~out[tuning]])
                    found[own] = fitted.predict(x[own])
            else:
                found = np.array(linear_probe(x, targets, train, tuning).predict(x))
                found[train] = 0
            np.save(path, found)
        return np.load(path)

    def results(
        self, block: str, arms: Mapping[str, tuple[str, str]], task: str, split: str,
        pairs: Sequence[tuple[str, str]] = (), *, elsewhere: bool = False,
    ) -> list[Result]:  # fmt: skip
        """Every arm with its seeds, and paired differences over the seeds that both have."""
        seeds = {arm: self.seeds(block, *where) for arm, where in arms.items()}
        rows = []
        for names in [(arm,) for arm in arms] + list(pairs):
            common = [s for s in SEEDS if all(s in seeds[name] for name in names)]
            if not common:
                continue
            given = {
                name: [self.predicted(block, arms[name][0], seed, arms[name][1], task,
                                      elsewhere=elsewhere) for seed in common]
                for name in names
            }  # fmt: skip
            found = evaluate_embeddings(
                {}, self.data.targets(task), self.data.split, self.data.subjects,
                predictions=given, predictions_protocol="linear_probe", baseline=names[-1],
                scored_split=split, bootstrap_draws=DRAWS,
                present=dict.fromkeys(names, self.data.has_ecg), further_metrics=False,
            )  # fmt: skip
            rows += [row for row in found if bool(row.versus) == (len(names) == 2)]
        return rows

    def gaps(self, block: str, arm: tuple[str, str], versus: tuple[str, str], task: str,
             split: str) -> list[float]:  # fmt: skip
        """Difference of the headline of each seed."""
        found = []
        for seed in sorted({*self.seeds(block, *arm)} & {*self.seeds(block, *versus)}):
            values = [
                _macro(self.data, self.predicted(block, what, seed, stage, task), task, split)
                for what, stage in (arm, versus)
            ]
            found.append(values[0] - values[1])
        return found

    def within_devices(
        self, block: str, arms: Mapping[str, tuple[str, str]], task: str
    ) -> list[Row]:
        """AUROC within each held-out device, all its records in every fold, mean over classes.

        The mean over devices counts records. Intervals draw subjects.
        """
        data, targets = self.data, self.data.targets(task)
        scored = np.flatnonzero(data.has_ecg & targets.known.all(axis=1))
        names, codes = np.unique(data.subjects[scored], return_inverse=True)
        generator = np.random.default_rng(0)
        weights = np.stack([np.ones(len(names)), *(
            np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
            for _ in range(DRAWS)
        )])[:, codes]  # fmt: skip
        drawn: dict[str, np.ndarray] = {}
        for arm, (what, stage) in arms.items():
            seeds = self.seeds(block, what, stage)
            if not seeds:
                continue
            each = []
            for seed in seeds:
                found = self.predicted(block, what, seed, stage, task, elsewhere=True)[scored]
                each.append(_by_device(found, targets.values[scored], data.device[scored], weights))
            drawn[arm] = np.stack(each)  # (seeds, 1 + draws, devices + mean)
        shown = [*np.unique(data.device[scored]), "mean"]
        rows = []
        for k, device in enumerate(shown):
            row: Row = {"device": device}
            for arm, values in drawn.items():
                row[arm] = _interval(values.mean(0)[:, k])
                if arm != PLAIN:
                    count = min(len(values), len(drawn[PLAIN]))
                    gap = values[:count].mean(0)[:, k] - drawn[PLAIN][:count].mean(0)[:, k]
                    row[f"{arm} less plain"] = _interval(gap)
            rows.append(row)
        return rows


def _by_device(
    found: np.ndarray, truth: np.ndarray, device: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Mean AUROC over classes of each device and of all, a row of weights. (D, devices + 1)."""
    columns, sizes = [], []
    for one in np.unique(device):
        own = np.flatnonzero(device == one)
        areas = []
        for c in range(truth.shape[1]):
            y = truth[own, c] > 0
            if min(y.sum(), (~y).sum()) >= FEWEST:
                areas.append(_areas(found[own, c], y, weights[:, own]))
        columns.append(np.mean(areas, axis=0))
        sizes.append(len(own))
    by_device = np.stack(columns, axis=1)
    return np.column_stack([by_device, by_device @ (np.array(sizes) / sum(sizes))])


def _areas(scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC with a weight a record, for each row of weights, (D,); scores have no ties."""
    order = np.argsort(scores)
    y, weights = y[order], weights[:, order]
    positive, negative = weights * y, weights * ~y
    below = np.cumsum(negative, axis=1)
    return np.asarray((positive * below).sum(1) / (positive.sum(1) * negative.sum(1)))


def _macro(data: Data, found: np.ndarray, task: str, split: str) -> float:
    targets = data.targets(task)
    rows = data.rows(split, targets)
    one = np.ones((1, len(rows)))
    columns = range(targets.values.shape[1])
    y = targets.values[rows] > 0
    areas = [_areas(found[rows, c], y[:, c], one)[0] for c in columns if 0 < y[:, c].mean() < 1]
    return float(np.mean(areas))


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return [float(values[0]), float(low), float(high)]


def _headline(rows: Sequence[Result], metric: str) -> list[Result]:
    columns = {row.target for row in rows}
    return [r for r in rows if r.metric == metric and (r.target == "macro" or len(columns) == 1)]


def span(value: float, low: float, high: float, sign: str = "") -> str:
    """A value with its interval."""
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def by_column(columns: Mapping[str, Mapping[str, str]], head: str) -> str:
    """A table from column to row to cell."""
    rows = list(dict.fromkeys(name for one in columns.values() for name in one))
    lines = [[name, *(one.get(name, "") for one in columns.values())] for name in rows]
    return grid([head, *columns], lines)


def shown(rows: Sequence[Row]) -> dict[str, str]:
    """Method, or method less another, to its cell."""
    found = {}
    for row in rows:
        name = f"{row['method']} less {row['versus']}" if row["versus"] else row["method"]
        cell = span(row["value"], row["low"], row["high"], "+" if row["versus"] else "")
        spread = row["seed_spread"]
        found[name] = cell if spread is None else f"{cell} [sd {spread:.3f}]"
    return found


def parts(rows: Mapping[str, list[Row]]) -> dict[str, str]:
    def of(note: str, task: str, versus: bool | None = None) -> list[Row]:
        found = [
            r for r in rows["results"] if r["note"].startswith(f"{note};") and r["task"] == task
        ]
        return [r for r in found if versus is None or bool(r["versus"]) == versus]

    seeds = {(one["block"], one["task"], one["method"], one["versus"]): one["seeds"]
             for one in rows["gaps"]}  # fmt: skip
    found = {}
    for block in ("ecg", "report"):
        found[f"{block} arms"] = by_column(
            {t: shown(of(block, t, False)) for t in TASKS}, "encoder"
        )
        gains: dict[str, dict[str, str]] = {}
        for task in TASKS:
            gains[task] = {}
            for r in of(block, task, True):
                each = seeds[block, task, r["method"], r["versus"]]
                told = ", ".join(f"{one:+.3f}" for one in each)
                cell = span(r["value"], r["low"], r["high"], "+")
                gains[task][f"{r['method']} less {r['versus']}"] = f"{cell} [{told}]"
        found[f"{block} gains"] = by_column(gains, "difference")
    columns = {
        f"{name}, {metric}": shown(of("device study", name)) for name, metric in ASKED.items()
    }
    without = "superclass by a probe without the device, auroc"
    columns[without] = shown(of("probe without the device", "superclass"))
    found["device"] = by_column(columns, "features")

    def within(arm: str) -> Cell:
        return lambda row: span(*row[arm], "+" if " less " in arm else "")

    arms = {arm: within(arm) for arm in rows["within"][0] if arm != "device"}
    found["within"] = table({"held-out device, all folds": "device", **arms}, rows["within"])
    return found


def multistage(scores: Scores, block: str, split: str) -> dict[str, list[Row]]:
    """Results of MCL of one block, and the gap of each seed."""
    kept, gaps = [], []
    for task in TASKS:
        arms = {arm: ARMS[arm] for arm in ARMS if task == "superclass" or arm not in ALONE}
        rows = _headline(scores.results(block, arms, task, split, PAIRS), "auroc")
        kept += [asdict(replace(row, note=f"{block}; {row.note}")) for row in rows]
        for row in (one for one in rows if one.versus):
            each = scores.gaps(block, ARMS[row.method], ARMS[row.versus], task, split)
            about = {"block": block, "task": task, "method": row.method, "versus": row.versus}
            gaps.append({**about, "seeds": each})
    return {"results": kept, "gaps": gaps}


def of_clusters(scores: Scores) -> str:
    """Table of the numbers of clusters that were tried, seed 0, fold 9."""
    columns: dict[str, dict[str, str]] = {}
    for task in TASKS:
        own = columns.setdefault(task, {})
        for k in TRIED:
            for what in ("joined", "distilled", "stage_1", "stage_2"):
                found = scores.predicted("ecg", "main", 0, f"k{k}_{what}", task)
                own[f"K = {k}, {what}"] = f"{_macro(scores.data, found, task, 'tuning'):.3f}"
    return by_column(columns, "K, seed 0, fold 9")


def devices(scores: Scores, split: str) -> dict[str, list[Row]]:
    """Results of negatives of one device."""
    path = scores.work / "vectors" / "ecg-spectrum-0.npz"
    if not path.is_file():
        np.savez(path, log_spectrum=log_spectrum(scores.work / "cache"))
    pairs = [(arm, PLAIN) for arm in ("other start", "one device a batch")]
    kept: list[Result] = []
    for name, metric in ASKED.items():
        rows = _headline(scores.results("ecg", DEVICE_ARMS, name, split, pairs), metric)
        kept += [replace(row, note=f"device study; {row.note}") for row in rows]
    rows = scores.results("ecg", DEVICE_ARMS, "superclass", split, pairs, elsewhere=True)
    rows = _headline(rows, "auroc")
    kept += [replace(row, note=f"probe without the device; {row.note}") for row in rows]
    found: dict[str, list[Row]] = {"results": [asdict(row) for row in kept]}
    if split == "held_out":
        found["within"] = scores.within_devices("ecg", DEVICE_ARMS, "superclass")
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", choices=("tuning", "held_out"), default="tuning")


def run(given: argparse.Namespace) -> dict[str, list[Row]] | None:
    """Score what is there; that of fold 10 is kept."""
    scores = Scores(given.work)
    if given.split == "tuning":
        print(of_clusters(scores))
    blocks = [block for block in ("ecg", "report") if scores.seeds(block, "main", "base")]
    found = [multistage(scores, block, given.split) for block in blocks]
    if scores.seeds("ecg", "device", "one_device"):
        found.append(devices(scores, given.split))
    kept: dict[str, list[Row]] = {"results": [], "gaps": [], "within": []}
    for one in found:
        for key, rows in one.items():
            kept[key] += rows
    if given.split == "held_out":
        return kept
    for row in kept["results"]:
        print(row["note"], row["task"], shown([row]))
    return None


STUDY = Study(__file__, parts=parts, run=run, options=options, page="mcl_ptbxl")

if __name__ == "__main__":
    STUDY.main()
