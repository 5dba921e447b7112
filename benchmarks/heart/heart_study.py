"""What ECG-CMR pretraining gives an ECG on simulated hearts, with controls that could disprove it.

    python -m benchmarks.heart.heart_study --work WORK [--seeds 0 1 2 3 4] [--subjects 6000]
        [--arms ...] [--quick] [--report-only]

Every arm is one simulated cohort and, for each training seed, one run that holds all methods:

- ``coupled``: coupling 1, the ECG and the CMR of a subject come from one heart;
- ``uncoupled``: coupling 0, the ECG comes from somebody else's heart. Phenotypes and outcomes
  belong to the heart of the CMR, so nothing can be learned: any gain would be a leak;
- ``shuffled``: coupling 1, but the CMRs of train and tuning subjects are dealt out at random. The
  ECG still tells of the outcomes; only the pairing is wrong: a gain would not come from the CMR.

All methods are the stages of ``ecg_cmr_toy`` and its twins, on the same rows, with the same first
weights, the same labelled tenth of the train subjects (one draw a seed) and the same rule to choose
a checkpoint or a penalty (loss on the whole tuning split). Finished runs and predictions are kept
under WORK and are not made again: the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.heart.mask_mass import mass_inside
from benchmarks.study import Study, grid
from medmcl.core.atomic import write_atomically
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation import label_subset, linear_probe
from medmcl.evaluation.aspects.maps.aspect import MapSpec
from medmcl.evaluation.aspects.maps.localisation import cosine_map, map_parts
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.sampled import Sampled
from medmcl.simulation.kinds import simulate
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.run.run import Run

OURS, ALONE, MDM = "MDM + contrastive", "contrastive alone", "MDM alone"
SCRATCH, COVARIATES, UNTRAINED = "from scratch", "age, sex, BMI", "untrained"
STAGES = {OURS: "mmcl", ALONE: "mmcl_alone", MDM: "mdm", UNTRAINED: "untrained"}
METRICS = {"lvef": "r2", "lv_mass": "r2", "heart_failure": "c_index"}
SAID = {"lvef": "LV EF, R2", "lv_mass": "LV mass, R2", "heart_failure": "heart failure, C-index"}
FEW = 0.1
PROBE, FINETUNE = "linear probe", "fine-tuned"
SCRATCH_EPOCHS = 60
"""Three times those of its toy recipe: in 20 some random weights had not left their plateau."""
STEPS, EPOCHS, PATIENCE = 400, 15, 4
"""Contrastive steps and fine-tuning epochs of the study; the toy recipe has fewer since."""
COHORT_SEED = 2026
SHUFFLES = 10


@dataclass(frozen=True)
class Arm:
    """One cohort and the methods that are trained on it."""

    about: str
    coupling: float
    methods: tuple[str, ...]
    is_shuffled: bool = False


ARMS = {
    "coupled": Arm("coupling 1", 1.0, (OURS, MDM, ALONE, SCRATCH)),
    "uncoupled": Arm("coupling 0", 0.0, (OURS, MDM)),
    "shuffled": Arm("coupling 1, training pairs shuffled", 1.0, (OURS, MDM), is_shuffled=True),
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True, help="cohorts, runs, predictions")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help="to train")
    parser.add_argument("--subjects", type=int, default=6000)
    parser.add_argument("--arms", nargs="+", default=["coupled", "uncoupled"], choices=list(ARMS))
    parser.add_argument("--report-only", action="store_true", help="train nothing")


def run(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train what is missing; the figures of everything that is finished, after each run."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if given.quick:
        given.seeds, given.subjects = given.seeds[:2], 600
    runs = Runs(given)
    if given.report_only:
        yield runs.report()
        return
    for seed in given.seeds:
        for name in given.arms:
            runs.predictions(name, seed)
            yield runs.report()


class Runs:
    """Runs, predictions and figures of all arms."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.work.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("MEDMCL_CACHE", str(self.out / "prepared"))

    def cohort(self, name: str) -> Cohort:
        """Simulate the cohort of an arm, or open it."""
        folder = self.out / "cohorts" / name
        if not folder.exists():
            aside = folder.with_name(f".{name}.part")
            shutil.rmtree(aside, ignore_errors=True)
            settings = {
                "subjects": self.options.subjects,
                "seed": COHORT_SEED,
                "coupling": ARMS[name].coupling,
                "form": "shards",
            }
            simulate("heart", aside, settings)
            if ARMS[name].is_shuffled:
                _shuffle_pairs(aside / "participants.tsv")
            aside.rename(folder)
        return open_cohort(folder)

    def recipe(self, arm: Arm) -> dict[str, Any]:
        """Put the stages of the toy recipe and its twins that an arm needs into one recipe."""
        whole = read_recipe("ecg_cmr_toy")
        stages = {spec.name: spec.model_dump(mode="json") for spec in whole.stages}
        twins = {OURS: "ecg_cmr_toy", ALONE: "ecg_cmr_no_mdm_toy", MDM: "ecg_mdm_toy"}
        stages["mmcl"]["steps"] = STEPS
        chosen = [stages["mdm"], stages["mmcl"]]
        if ALONE in arm.methods:
            chosen.append({**stages["mmcl"], "name": "mmcl_alone", "start_from": {}})
        for method in arm.methods:
            twin = read_recipe(twins.get(method, "ecg_scratch_toy"))
            spec = next(s for s in twin.stages if s.name.startswith("finetune"))
            tree = copy.deepcopy(spec.model_dump(mode="json"))
            tree["name"] = _finetuned(method, "{task}")
            tree["for_each"] = {"task": list(METRICS)}
            tree["label_fraction"] = FEW
            tree["start_from"] = {} if method == SCRATCH else {"ecg": STAGES[method]}
            tree["epochs"] = SCRATCH_EPOCHS if method == SCRATCH else EPOCHS
            if tree["patience"] is not None:
                tree["patience"] = PATIENCE
            chosen.append(tree)
        if self.options.quick:
            for tree in chosen:
                tree.update({"steps": 6, "epochs": None})
        tree = whole.model_dump(mode="json", by_alias=True)
        return {**tree, "name": "heart_study", "stages": chosen}

    def run(self, name: str, seed: int) -> Run:
        """Train everything of an arm with one seed, or go on with it."""
        recipe = self.out / f"recipe-{name}.yaml"
        write_atomically(recipe, yaml.safe_dump(self.recipe(ARMS[name]), sort_keys=False))
        folder = self.out / "runs" / f"{name}-{seed}"
        run = medmcl.pretrain(
            self.cohort(name),
            recipe=recipe,
            out=folder,
            seed=seed,
            device="cpu",
            resume=(folder / "config.yaml").exists(),
        )
        return run if run is not None else Run(folder)

    def predictions(self, name: str, seed: int) -> dict[str, np.ndarray]:
        """Held-out predictions of every method of an arm with one seed, made once."""
        path = self._path(name, seed)
        if not path.with_suffix(".json").exists():
            print(f"== {name}, seed {seed}", flush=True)
            run = self.run(name, seed)
            made = Scorer(run, self.cohort(name), ARMS[name], seed).arrays()
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}")
            np.savez_compressed(aside, allow_pickle=False, **made)
            aside.replace(path)
            facts = _facts(run)
            write_atomically(path.with_suffix(".json"), json.dumps(facts, indent=1))
        with np.load(path) as arrays:
            return dict(arrays)

    def _path(self, name: str, seed: int) -> Path:
        return self.out / "predictions" / f"{name}-{seed}.npz"

    def figures(self, name: str) -> dict[str, Any] | None:
        """Score the finished seeds of an arm; None if there is none."""
        found = (self.out / "predictions").glob(f"{name}-*.json")
        seeds = sorted(int(path.stem.rsplit("-", 1)[1]) for path in found)
        if not seeds:
            return None
        cohort = self.cohort(name)
        held = np.flatnonzero(cohort.samples["split"].to_numpy(object) == "held_out")
        shown = (*ARMS[name].methods, UNTRAINED, COVARIATES)
        arrays = [
            {
                k: v
                for k, v in self.predictions(name, seed).items()
                if k[:4] == "map/" or k.split("/")[1] in shown
            }
            for seed in seeds
        ]
        sampler = Resampling(np.arange(len(held)), seed=0)
        rows = []
        for task, metric in METRICS.items():
            rows += _task_rows(task, metric, cohort.targets(task).take(held), arrays, sampler)
        losses = [json.loads(self._path(name, s).with_suffix(".json").read_text()) for s in seeds]
        return {
            "about": ARMS[name].about,
            "seeds": seeds,
            "held_out": len(held),
            "results": rows,
            "maps": _map_rows(arrays, sampler),
            "training": losses,
        }

    def report(self) -> dict[str, Any]:
        """What is finished."""
        arms = {name: found for name in ARMS if (found := self.figures(name)) is not None}
        return {
            "schema": "medmcl/heart-study@1",
            "quick": self.options.quick,
            "subjects": self.options.subjects,
            "cohort_seed": COHORT_SEED,
            "label_fraction": FEW,
            "machine": _machine(),
            "arms": arms,
        }


@dataclass
class Scorer:
    """Scores one finished run on the held-out subjects."""

    run: Run
    cohort: Cohort
    arm: Arm
    seed: int

    @cached_property
    def prepared(self) -> Prepared:
        """The cohort as the run prepared it, all splits open."""
        return self.run.prepare(self.cohort, ("ecg", "cmr"))

    def arrays(self) -> dict[str, np.ndarray]:
        """Predictions by protocol, method, label fraction and task; and the mass of the maps."""
        import torch

        from medmcl.stages.run.features import predict

        found: dict[str, np.ndarray] = {}
        held = self.prepared.rows("held_out")
        for method, features in self._features().items():
            for task in METRICS:
                for fraction in (FEW, 1.0):
                    guess = self._probe(features, self.prepared.tasks(task), fraction)
                    found[_key(PROBE, method, fraction, task)] = guess
        for method in self.arm.methods:
            for task in METRICS:
                stage = _finetuned(method, task)
                targets = self.prepared.tasks(task)
                guess = predict(self.run, stage, self.prepared, targets, torch.device("cpu"))[held]
                found[_key(FINETUNE, method, FEW, task)] = guess
        return found | self._maps(held)

    def _features(self) -> dict[str, np.ndarray]:
        import torch

        from medmcl.stages.run.features import sample_vectors

        found = {
            method: sample_vectors(
                self.run, self.prepared, stage, "ecg", "features", torch.device("cpu")
            )
            for method, stage in STAGES.items()
            if method in (*self.arm.methods, UNTRAINED)
        }
        return {**found, COVARIATES: _covariates(self.cohort)}

    def _probe(self, features: np.ndarray, targets: Targets, fraction: float) -> np.ndarray:
        """Fit on the rows that fine-tuning had, and predict the held-out ones."""
        rows = label_subset(
            targets, self.prepared.subjects, self.prepared.rows("train"), fraction, seed=self.seed
        )
        fitted = linear_probe(features, targets, rows, self.prepared.rows("tuning"))
        return fitted.predict(features[self.prepared.rows("held_out")])

    def _maps(self, held: np.ndarray) -> dict[str, np.ndarray]:
        """Mass of each held-out map inside the heart, with the own and with others' ECGs."""
        import torch

        from medmcl.stages.evaluate.scene import RunScene

        spec = MapSpec(stage="mmcl", query="ecg", image="cmr")
        stage = EvaluateSpec(stage="evaluate")
        scene = RunScene(
            spec=stage,
            run=self.run,
            prepared=self.prepared,
            device=torch.device("cpu"),
            seed=0,
            notes=[],
        )
        tokens, pooled, _, grid = map_parts(spec, scene, held)
        table = _participants(self.cohort)
        stored = np.load(Path(self.cohort.path).parent / "shards" / "heart_mask.npy", mmap_mode="r")
        masks = np.asarray(stored[table["cmr_row"].to_numpy()[held]])
        found = {"map/area": masks.mean(axis=(1, 2))}
        for share in ("softmax", "positive"):
            own, _ = mass_inside(cosine_map(tokens, pooled, grid), masks, share=share)
            others = [
                mass_inside(cosine_map(tokens, np.roll(pooled, by, 0), grid), masks, share=share)[0]
                for by in range(1, SHUFFLES + 1)
            ]
            found[f"map/{share}/own"] = own
            found[f"map/{share}/shuffled"] = np.mean(others, axis=0)
        return found


def _finetuned(method: str, task: str) -> str:
    return f"finetune-{method.replace(' ', '_').replace('_+_', '_')}-{task}"


def _key(protocol: str, method: str, fraction: float, task: str) -> str:
    return f"{protocol}/{method}/{fraction:g}/{task}"


def _participants(cohort: Cohort) -> pd.DataFrame:
    """Rows of the participants table in the order of the samples."""
    table = pd.read_csv(Path(cohort.path).parent / "participants.tsv", sep="\t", na_values="n/a")
    return table.set_index("subject_id").loc[list(cohort.samples["subject"])]


def _covariates(cohort: Cohort) -> np.ndarray:
    """Age, sex and BMI with flags of what is missing, (N, 5)."""
    table = _participants(cohort)
    numbers = table[["age", "bmi"]]
    filled = numbers.fillna(numbers.mean())
    flags = numbers.isna().astype(float)
    sex = (table["sex"] == "M").astype(float)
    return np.column_stack([filled, flags, sex])


def _shuffle_pairs(path: Path) -> None:
    """Deal out the CMRs of the train subjects, and of the tuning subjects, at random."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    columns = ["cmr_row", *(c for c in table.columns if c.startswith(("cine_", "shard_")))]
    generator = np.random.default_rng(COHORT_SEED)
    for split in ("train", "tuning"):
        rows = np.flatnonzero(table["split"] == split)
        dealt = table.loc[generator.permutation(rows), columns].to_numpy()
        table.loc[rows, columns] = dealt
    table.to_csv(path, sep="\t", index=False)


def _facts(run: Run) -> list[dict[str, Any]]:
    """What each train stage came to."""
    return [done for stage in run.stages if (done := run.facts(stage)) is not None]


@dataclass(frozen=True)
class Drawn:
    """A metric over seeds, and its draws for each seed on its own, (S, W)."""

    whole: Sampled
    each: np.ndarray

    @classmethod
    def of(
        cls,
        sampler: Resampling,
        metric: str | Callable[..., float],
        outcomes: Sequence[np.ndarray],
        predictions: Sequence[np.ndarray],
    ) -> Drawn:
        """Evaluate predictions, one array a seed."""
        each = [sampler.sample(metric, outcomes, [guess]).draws for guess in predictions]
        return cls(sampler.sample(metric, outcomes, predictions), np.stack(each))

    def minus(self, other: Drawn) -> Drawn:
        """Give the difference, paired by subject and by seed."""
        return Drawn(self.whole.minus(other.whole), self.each - other.each)

    def numbers(self) -> dict[str, Any]:
        """Value, interval over subjects, interval over subjects and seeds, spread of seeds."""
        interval = self.whole.interval()
        seeds, draws = self.each.shape
        chosen = np.random.default_rng(0).integers(0, seeds, size=(seeds, draws))
        both = np.take_along_axis(self.each, chosen, axis=0).mean(axis=0)
        low, high = np.quantile(both, [0.025, 0.975])
        return {
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "low_with_seeds": float(low),
            "high_with_seeds": float(high),
            "seed_spread": interval.seed_spread,
            "by_seed": [round(float(point), 5) for point in self.whole.points],
            "n": interval.n,
            "note": interval.note,
        }


def _task_rows(
    task: str,
    metric: str,
    targets: Targets,
    arrays: list[dict[str, np.ndarray]],
    sampler: Resampling,
) -> list[dict[str, Any]]:
    """Values of every method, and what ours gains over each other, paired by subject and seed."""
    if metric == "c_index":
        time, event = (targets.values[:, targets.columns.index(c)] for c in ("time", "event"))
        outcomes: tuple[np.ndarray, ...] = (event, time)
    else:
        outcomes = (targets.values[:, 0],)
    sampled = {
        key: Drawn.of(sampler, metric, outcomes, [found[key][:, 0] for found in arrays])
        for key in arrays[0]
        if key.endswith(f"/{task}")
    }
    rows = []
    for key, theirs in sampled.items():
        protocol, method, fraction, _ = key.split("/")
        about = {"task": task, "metric": metric, "protocol": protocol, "fraction": float(fraction)}
        rows.append({**about, "method": method, **theirs.numbers()})
        if method != OURS:
            gain = sampled[f"{protocol}/{OURS}/{fraction}/{task}"].minus(theirs)
            rows.append({**about, "method": OURS, "versus": method, **gain.numbers()})
        if (protocol, method) == (FINETUNE, SCRATCH):  # it has no frozen form
            about["protocol"], said = PROBE, f"{SCRATCH} ({FINETUNE})"
            gain = sampled[f"{PROBE}/{OURS}/{fraction}/{task}"].minus(theirs)
            rows.append({**about, "method": OURS, "versus": said, **gain.numbers()})
    return rows


def _map_rows(arrays: list[dict[str, np.ndarray]], sampler: Resampling) -> list[dict[str, Any]]:
    """Mean mass inside the heart: own ECG, other subjects' ECGs, and the paired difference."""
    rows = []
    for share in ("softmax", "positive"):
        own, other = (
            Drawn.of(sampler, _mean, [], [found[f"map/{share}/{which}"] for found in arrays])
            for which in ("own", "shuffled")
        )
        parts = {"own ECG": own, "others' ECGs": other, "difference": own.minus(other)}
        rows += [{"share": share, "what": what, **part.numbers()} for what, part in parts.items()]
    area = float(np.mean([found["map/area"].mean() for found in arrays]))
    return [*rows, {"share": "", "what": "area of the heart", "value": area}]


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _machine() -> dict[str, Any]:

    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    packages = ("medmcl", "torch", "numpy", "scikit-learn")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def parts(report: dict[str, Any]) -> dict[str, str]:
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    found = {
        "cohort": f"{report['subjects']} subjects, cohort seed {report['cohort_seed']}. {machine}."
    }
    shares = {"probe 10": (PROBE, FEW), "fine-tuned 10": (FINETUNE, FEW), "probe 100": (PROBE, 1.0)}
    for name, arm in report["arms"].items():
        seeds = len(arm["seeds"])
        found[f"{name}, people"] = f"{arm['held_out']} held-out subjects, {seeds} training seeds."
        for what, asked in shares.items():
            rows = [r for r in arm["results"] if (r["protocol"], r["fraction"]) == asked]
            gains = [r for r in rows if "versus" in r and r["versus"] != UNTRAINED]
            found[f"{name}, {what}"] = _table([r for r in rows if "versus" not in r], "method")
            found[f"{name}, {what}, gains"] = _table(gains, "versus", f"gain of {OURS} over")
        maps = [
            [f"{r['what']}{', ' * bool(r['share'])}{r['share']}", _cell(r)] for r in arm["maps"]
        ]
        found[f"{name}, maps"] = grid(["map", "mass"], maps)
        found[f"{name}, losses"] = "\n".join(_loss_lines(arm["training"]))
    return found


def _table(rows: list[dict[str, Any]], by: str, title: str = "method") -> str:
    lines = []
    for name in dict.fromkeys(row[by] for row in rows):
        cells = {row["task"]: _cell(row) for row in rows if row[by] == name}
        lines.append([name, *(cells[task] for task in SAID)])
    return grid([title, *SAID.values()], lines)


def _cell(row: dict[str, Any]) -> str:
    is_difference = "versus" in row or row.get("what") == "difference"
    sign = "+" if is_difference else ""
    if row["value"] is None:
        return "not estimable"
    if row.get("low") is None:
        return f"{row['value']:{sign}.3f}"
    text = f"{row['value']:{sign}.3f} ({row['low']:{sign}.3f} to {row['high']:{sign}.3f})"
    if row["seed_spread"] is None:
        return text
    if is_difference:
        low, high = row["low_with_seeds"], row["high_with_seeds"]
        text += f" [{low:{sign}.3f} to {high:{sign}.3f}]"
    return f"{text} ± {row['seed_spread']:.3f}"


def _loss_lines(training: list[list[dict[str, Any]]]) -> list[str]:
    parts = []
    for stage in ("mdm", "mmcl", "mmcl_alone"):
        facts = [f for seed in training for f in seed if f["stage"] == stage]
        if facts:
            losses = ", ".join(f"{f['best_tuning_loss']:.3f}" for f in facts)
            chance = f" (chance {np.log(facts[0]['batch_size']):.3f})" if stage != "mdm" else ""
            parts.append(f"- `{stage}`: {losses}{chance}")
    return parts


STUDY = Study(__file__, parts=parts, run=run, options=options, page="heart", quick=True)

if __name__ == "__main__":
    STUDY.main()
