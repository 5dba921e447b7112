"""ECG~report pretraining on PTB-XL, then five superclasses from the ECG alone, against baselines.

    python -m benchmarks.heart.ptbxl_study --work WORK [--data-root PTBXL] [--seeds 3] [--quick]
        [--split tuning|held_out] [--only DRAW ...]

Every prediction is kept under WORK/predictions and is not made again: the command goes on where it
stopped. ``--split tuning`` scores fold 9 only, for choosing settings.

All networks are one encoder (the ECG tower of ``ecg_text_toy``), one trainer (`Trainer.predict`),
one augmentation, one rule to choose the checkpoint (lowest loss on fold 9, which every method
sees in full, also at 1 % labels). They differ in where the weights start, in the labels, and in
`PLANS`. Draw k of the labels goes with pretraining seed ``k % seeds``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import yaml

import medmcl
from benchmarks.study import Row, Study, grid, interval
from medmcl.core.atomic import write_atomically
from medmcl.core.batch import Batch
from medmcl.core.config import Config
from medmcl.core.rng import RowGenerator
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import UniformSampler
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.evaluation import evaluate_embeddings, label_subset, linear_probe
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.run import Run
from medmcl.stages.train.spec import ObjectiveSpec, TrainSpec

if TYPE_CHECKING:
    import torch

if TYPE_CHECKING:
    from medmcl.engine.loop import Learner

TASK = "superclass"
FRACTIONS = (0.01, 0.1, 1.0)
DRAWS = 10
PRECISION = "bf16"
RECIPE = "ecg_text_toy"
CONTRAST = "contrast"

SPECTRUM, SCRATCH, PSEUDO = "spectrum + logistic", "ResNet from scratch", "ResNet on report labels"
PROBE, TUNED, STUDENT = "frozen probe", "fine-tuned", "fine-tuned on report labels"
TEACHER = "TF-IDF on the report itself"
BASELINES = (SCRATCH, PSEUDO, SPECTRUM)


class TrainingPlan(Config):
    """How one network is trained on labels; chosen on fold 9."""

    epochs: int
    """Over the rows that have a label, or a pseudo-label."""
    lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    batch_size: int = 64
    checks: int = 6
    """Looks at fold 9 on the way; the best of them is kept."""


GENTLE: dict[str, Any] = {"lr": 3e-4, "layer_decay": 0.7}
PLANS = {
    SCRATCH: {0.01: TrainingPlan(epochs=100), 0.1: TrainingPlan(epochs=40)},
    PSEUDO: {0.01: TrainingPlan(epochs=8), 0.1: TrainingPlan(epochs=8)},
    TUNED: {0.01: TrainingPlan(epochs=40, **GENTLE), 0.1: TrainingPlan(epochs=20, **GENTLE)},
    STUDENT: {0.01: TrainingPlan(epochs=7), 0.1: TrainingPlan(epochs=7)},
}
FULL_PLAN = TrainingPlan(epochs=10)
"""At 100 % labels the same for all."""


def options(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("MEDMCL_DATA")
    found = Path(root) / "ptbxl" if root else None
    parser.add_argument("--data-root", type=Path, default=found, required=not found)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", choices=("tuning", "held_out"), default="held_out")
    parser.add_argument(
        "--only", type=int, nargs="+", help="make these draws and score nothing: for two processes"
    )


def run(given: argparse.Namespace) -> dict[str, list[Row]] | None:
    """Make what is missing, then score; ``--quick``: 1 seed, 2 draws, few epochs."""
    import torch

    torch.set_num_threads(1)
    made = Made(given.work, given.data_root, 1 if given.quick else given.seeds)
    made.quick = given.quick
    began = time.process_time()
    for draw in given.only or range(DRAWS):
        for fraction in FRACTIONS:
            for method in METHODS if draw < made.draws(fraction) else ():
                made.prediction(method, fraction, draw)
    if given.only:
        return None
    results = made.score(given.split)
    made.note("cpu_seconds_of_this_call", round(time.process_time() - began))
    rows = [asdict(result) for result in results]
    return {**(STUDY.kept(given.out) or {}), given.split: rows}


@dataclass
class Made:
    """Everything that is made once and read often."""

    out: Path
    data_root: Path
    seeds: int
    quick: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def draws(self, fraction: float) -> int:
        """Draws of the labels below 100 %; pretraining seeds at 100 %."""
        return self.seeds if fraction == 1 else 2 if self.quick else DRAWS

    def note(self, name: str, value: Any) -> None:
        """Keep a fact beside the results."""
        path = self.out / "notes.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        known[name] = value
        write_atomically(path, json.dumps(known, indent=1))

    def seed(self, draw: int) -> int:
        """Pretraining seed that goes with a draw."""
        return draw % self.seeds

    @cached_property
    def runs(self) -> dict[int, Run]:
        """Pretrain each seed, or take the run that is there."""
        return {seed: self._pretrained(seed) for seed in range(self.seeds)}

    def _pretrained(self, seed: int) -> Run:
        folder = self.out / f"pretrain-seed{seed}"
        if (folder / "checkpoint" / CONTRAST / "done.json").exists():
            return medmcl.load(folder)
        recipe = self.out / "pretraining.yaml"
        drop = ["finetune-{task}-{label_fraction}", "results"]
        tree: dict[str, Any] = {"extends": RECIPE, "about": "pretraining alone", "drop": drop}
        if self.quick:
            tree["set"] = {f"stages.{CONTRAST}.epochs": 3}
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(recipe, yaml.safe_dump(tree))
        began = time.process_time()
        run = medmcl.pretrain(
            "ptbxl",
            recipe=recipe,
            out=folder,
            overrides={"data_root": str(self.data_root)},
            seed=seed,
            device="cpu",
            precision=PRECISION,
            resume=folder.exists(),
        )
        self.note(f"cpu_seconds_pretrain_seed{seed}", round(time.process_time() - began))
        assert run is not None  # one process
        return run

    @cached_property
    def prepared(self) -> Prepared:
        """The cohort as the first run prepared it, all folds open."""
        cohort = open_cohort("ptbxl", {"data_root": str(self.data_root)})
        return self.runs[0].prepare(cohort, ("ecg", "report"))

    @cached_property
    def targets(self) -> Targets:
        """The superclasses."""
        return self.prepared.tasks(TASK)

    @cached_property
    def reports(self) -> np.ndarray:
        """Text of each sample's report; empty where there is none."""
        import pandas as pd

        table = pd.read_csv(self.data_root / "ptbxl_database.csv", dtype={"ecg_id": str})
        texts = table.set_index("ecg_id")["report"].fillna("")
        records = self.prepared.samples["report"]
        return np.array([str(texts.get(record, "")) for record in records], dtype=object)

    def rows(self, split: str) -> np.ndarray:
        """Samples of a split that have an ECG."""
        return self.prepared.rows(split, needs=("ecg",))

    def labelled(self, fraction: float, draw: int) -> np.ndarray:
        """Train samples that keep their labels; every class keeps at least two positives."""
        return label_subset(
            self.targets, self.prepared.subjects, self.rows("train"), fraction, draw=draw
        )

    def vectors(self, seed: int, modality: str) -> np.ndarray:
        """Frozen features of every sample, (N, E)."""
        import torch

        from medmcl.stages.run.features import sample_vectors

        path = self.out / "features" / f"{modality}-seed{seed}.npy"
        if not path.exists():
            found = sample_vectors(
                self.runs[seed], self.prepared, CONTRAST, modality, "features", torch.device("cpu")
            )
            _save(path, found)
        return np.load(path)

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Log power of each lead in 40 bands up to 40 Hz, (N, 480)."""
        index = np.maximum(self.prepared.index("ecg"), 0)
        signal = np.asarray(self.prepared.inputs("ecg"))[index]
        length = signal.shape[-1]
        power = np.abs(np.fft.rfft(signal * np.hanning(length), axis=-1)) ** 2
        bands = np.log(power[..., : 400 // 10 * 10] + 1e-6)
        return bands.reshape(*bands.shape[:2], 40, 10).mean(-1).reshape(len(signal), -1)

    def prediction(self, method: str, fraction: float, draw: int) -> np.ndarray:
        """Probabilities of every sample of folds 9 and 10, (N, 5); zeros elsewhere."""
        path = self.out / "predictions" / f"{method} {fraction} {draw}.npy".replace(" ", "-")
        if not path.exists():
            began = time.process_time()
            found = METHODS[method](self, fraction, draw)
            seconds = time.process_time() - began
            rows = np.concatenate([self.rows("tuning"), self.rows("held_out")])
            kept = np.zeros((len(self.targets.values), found.shape[1]))
            kept[rows] = found[rows]
            _save(path, kept)
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {path.stem}: {seconds:.0f} s\n")
        return np.load(path)

    def probe(self, features: np.ndarray, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Logistic regression on some rows, each class's penalty chosen on fold 9."""
        return linear_probe(features, self.targets, rows, self.rows("tuning")).predict

    def scores_of_run(self, seed: int) -> list[Result]:
        """Zero-shot by the cohort's prompts, and retrieval both ways, of one seed on fold 10."""
        import torch

        from medmcl.stages.evaluate.stage import run_evaluate

        spec = EvaluateSpec.model_validate(
            {
                "stage": "evaluate",
                "tasks": (TASK,),
                "retrieval": {"stage": CONTRAST, "pairs": [("ecg", "report")]},
                "zero_shot": {"stage": CONTRAST, "modality": "ecg", "text": "report"},
            }
        )
        record = Record(self.out / "evaluate.jsonl", active=False)
        return run_evaluate(
            spec, self.runs[seed], self.prepared.cohort, torch.device("cpu"), record
        ).results

    def score(self, split: str) -> list[Result]:
        """Every method with intervals, and its paired differences to each baseline."""
        given: dict[str | tuple[str, float], Any] = {
            (method, fraction): [
                self.prediction(method, fraction, draw) for draw in range(self.draws(fraction))
            ]
            for fraction in FRACTIONS
            for method in METHODS
        }
        rows: list[Result] = []
        for baseline in BASELINES:
            found = evaluate_embeddings(
                {},
                self.targets,
                self.prepared.splits,
                self.prepared.subjects,
                predictions=given,
                predictions_protocol="as named",
                baseline=baseline,
                scored_split=split,
            )
            rows += [row for row in found if row.versus or baseline == BASELINES[0]]
        if split == "held_out":
            for seed in self.runs:
                rows += [
                    replace(row, note=f"seed {seed}" + ("; " + row.note if row.note else ""))
                    for row in self.scores_of_run(seed)
                ]
        return rows


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name("." + path.name)
    np.save(aside, array)
    aside.replace(path)


def parts(found: dict[str, list[Row]]) -> dict[str, str]:
    """Tables of fold 10."""
    rows = found.get("held_out", [])
    area = [r for r in rows if r["metric"] == "auroc"]
    named = [r for r in area if r["protocol"] == "as named" and r["task"] == TASK]
    macro = [r for r in named if r["target"] == "macro"]
    told = {"macro": _by_fraction([r for r in macro if not r.get("versus")])}
    for name, baseline in zip(("scratch", "report labels", "spectrum"), BASELINES, strict=True):
        told[f"less {name}"] = _by_fraction([r for r in macro if r.get("versus") == baseline])
    full = [r for r in named if r["label_fraction"] == 1.0 and not r.get("versus")]
    told["classes"] = _by_target([r for r in full if r["target"] != "macro"])
    told["zero-shot"] = _zero_shot([r for r in area if r["protocol"] == "zero_shot"])
    told["retrieval"] = _retrieval([r for r in rows if r["protocol"] == "retrieval"])
    return told


def _cell(row: Row) -> str:
    return interval(sign="+" if row.get("versus") else "")(row)


def _by_fraction(rows: list[Row]) -> str:
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = {row["label_fraction"]: _cell(row) for row in rows if row["method"] == method}
        lines.append([method, *(cells.get(fraction, "") for fraction in FRACTIONS)])
    return grid(["method", *(f"{fraction:.0%} labels" for fraction in FRACTIONS)], lines)


def _by_target(rows: list[Row]) -> str:
    names = list(dict.fromkeys(row["target"] for row in rows))
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = {row["target"]: _cell(row) for row in rows if row["method"] == method}
        lines.append([method, *(cells[name] for name in names)])
    return grid(["method", *names], lines)


def _seed(row: Row) -> str:
    return str(row["note"].split(";")[0].removeprefix("seed "))


def _zero_shot(rows: list[Row]) -> str:
    names = list(dict.fromkeys(row["target"] for row in rows))
    lines = []
    for seed in dict.fromkeys(map(_seed, rows)):
        own = {row["target"]: row for row in rows if _seed(row) == seed}
        values = [f"{own[name]['value']:.3f}" for name in names[1:]]
        lines.append([seed, _cell(own[names[0]]), *values])
    return grid(["seed", *names], lines)


def _retrieval(rows: list[Row]) -> str:
    """Recall and rank both ways by seed, and by chance."""
    lines = []
    ways = list(dict.fromkeys(row["target"] for row in rows))

    def line(name: str, some: list[Row]) -> list[str]:
        found = {(row["target"], row["metric"]): row["value"] for row in some}
        cells = [name]
        for way in ways:
            recalls = [found[way, f"recall@{k}"] for k in (1, 5, 10)]
            cells.append(" / ".join(f"{one:.3f}".removeprefix("0") for one in recalls))
            rank = found.get((way, "median_rank"))
            cells.append("" if rank is None else f"{rank:g}")
        return cells

    chance = [row for row in rows if row["method"] == "chance"]
    if chance:
        lines.append(line("chance", chance))
    for seed in dict.fromkeys(map(_seed, rows)):
        own = [row for row in rows if _seed(row) == seed and row["method"] != "chance"]
        lines.append(line(seed, own))
    heads = [f"{way}: recall@1 / 5 / 10" for way in ("ECG to report", "report to ECG")]
    return grid(["seed", heads[0], "median rank", heads[1], "median rank"], lines)


@dataclass(frozen=True)
class Trainer:
    """Trains an ECG tower and a linear head on labels or pseudo-labels.

    Attributes:
        made: Whose data.
        method: Key of `PLANS`.
        fraction: Label fraction, for the epochs.
        draw: Draw, for the seeds.
        start: Weights of an ECG tower to start from; None for random ones.
    """

    made: Made
    method: str
    fraction: float
    draw: int
    start: Mapping[str, torch.Tensor] | None = None

    def predict(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Train on ``labels`` (N, 5) in [0, 1] of some train rows; predict folds 9 and 10."""
        from medmcl.encoders.towers import Towers
        from medmcl.stages.train.models import build_learner
        from medmcl.stages.train.parts import build_views

        made, plan = self.made, PLANS[self.method].get(self.fraction, FULL_PLAN)
        run = made.runs[made.seed(self.draw)]
        spec = TrainSpec(  # type: ignore[call-arg]  # mypy does not see pydantic's defaults
            stage="train",
            name=f"{self.method}-{self.fraction}-{self.draw}",
            towers=("ecg",),
            objectives={
                "supervised": ObjectiveSpec(
                    kind="supervised",
                    settings={"task": TASK, "modalities": ["ecg"], "view": "finetune"},
                )
            },
            task=TASK,
            optimiser=OptimiserSettings(
                lr=plan.lr,
                layer_decay=plan.layer_decay,
                weight_decay=plan.weight_decay,
                clip_norm=1.0,
            ),
            epochs=plan.epochs,
        )
        shapes = {"ecg": run.shapes["ecg"]}
        tasks = {TASK: made.targets.take(rows)}
        learner = build_learner(run.recipe, spec, shapes, tasks, self.draw)
        if self.start is not None:
            cast(Towers, learner.model).tower("ecg").load_state_dict(self.start)
        adapters = {"ecg": made.prepared.adapters["ecg"]}
        views = build_views(run.recipe, spec, learner, adapters, shapes)
        kept = self._train(learner, views, spec, plan, rows, labels)
        learner.load_state_dict(kept)
        return _predict(made, learner, views["finetune"])

    def _train(
        self,
        learner: Learner,
        views: Mapping[str, Any],
        spec: TrainSpec,
        plan: TrainingPlan,
        rows: np.ndarray,
        labels: np.ndarray,
    ) -> dict[str, torch.Tensor]:
        """Fit, and give the weights that did best on fold 9."""
        import torch

        from medmcl.engine.checkpoint import Checkpoints
        from medmcl.engine.feed import Feed
        from medmcl.engine.loop import Plan, fit
        from medmcl.engine.world import World

        made = self.made
        sampler = UniformSampler(
            rows, made.prepared.subjects[rows], batch_size=plan.batch_size, seed=self.draw
        )
        steps = max(1, round((spec.epochs or 1) * len(sampler) * (0.2 if made.quick else 1)))
        folder = made.out / "training" / f"{spec.name}-{os.getpid()}".replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        checkpoints = Checkpoints(folder)
        with StopRequest() as stop:
            fit(
                learner,
                Feed(
                    sampler=sampler,
                    load=lambda chosen: _batch(made.prepared, chosen, labels),
                    tuning=(made.rows("tuning"),),
                ),
                views,
                Plan(
                    stage=spec.name,
                    steps=steps,
                    steps_per_epoch=len(sampler),
                    evaluate_every=max(1, steps // plan.checks),
                    log_every=steps,
                    seed=self.draw,
                    optimiser=spec.optimiser,
                    precision=PRECISION,
                ),
                record=Record(folder / "metrics.jsonl", active=False),
                checkpoints=checkpoints,
                world=World(rank=0, size=1, device=torch.device("cpu")),
                depths=_depths(learner),
                stop=stop,
            )
        kept = checkpoints.weights("best")
        shutil.rmtree(folder, ignore_errors=True)
        return kept


def _depths(learner: Learner) -> dict[str, tuple[int, int]]:
    from medmcl.encoders.encoded import layer_depth, num_layers
    from medmcl.encoders.towers import Towers

    encoder = cast(Towers, learner.model).tower("ecg").encoder
    last = num_layers(encoder)
    return {
        f"model.towers.ecg.encoder.{name}": (layer, last)
        for name, layer in layer_depth(encoder).items()
    }


def _batch(prepared: Prepared, rows: np.ndarray, labels: np.ndarray) -> Batch:
    """A batch with the labels of the method: true on fold 9, true or pseudo on train."""
    import torch

    batch = prepared.batch(rows, modalities=("ecg",))
    values = torch.from_numpy(labels[rows].astype(np.float32))
    known = torch.ones_like(values, dtype=torch.bool)
    return replace(batch, targets={TASK: values}, known={TASK: known})


def _predict(made: Made, learner: Learner, view: Any) -> np.ndarray:
    import torch

    from medmcl.objectives import Supervised

    learner.eval()
    rows = np.concatenate([made.rows("tuning"), made.rows("held_out")])
    answer = np.zeros_like(made.targets.values)
    generator = RowGenerator(torch.Generator(device=torch.device("cpu")))
    objective = cast(Supervised, learner.objectives["supervised"])
    for chosen in np.array_split(rows, 4):
        batch = made.prepared.batch(chosen, modalities=("ecg",))
        with torch.no_grad():
            seen = learner.model(view(batch, generator, disturb=False))
            answer[chosen] = objective.predict(seen).double().numpy()
    return answer


def spectrum(made: Made, fraction: float, draw: int) -> np.ndarray:
    """Logistic regression on the log spectrum."""
    return made.probe(made.spectrum, made.labelled(fraction, draw))(made.spectrum)


def from_scratch(made: Made, fraction: float, draw: int) -> np.ndarray:
    """The same encoder from random weights, on the labels alone."""
    rows = made.labelled(fraction, draw)
    return Trainer(made, SCRATCH, fraction, draw).predict(rows, made.targets.values)


def tfidf(made: Made, fraction: float, draw: int) -> np.ndarray:
    """Read the label off the report: character n-grams and logistic regression. An upper mark."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = made.labelled(fraction, draw)
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    vectoriser.fit(made.reports[rows])
    x = vectoriser.transform(made.reports)
    columns = []
    for column in range(made.targets.values.shape[1]):
        model = LogisticRegression(C=1.0, max_iter=500)
        model.fit(x[rows], made.targets.values[rows, column] > 0)
        columns.append(model.predict_proba(x)[:, 1])
    return np.column_stack(columns)


def read_from_reports(
    made: Made, readings: list[np.ndarray], fraction: float, draw: int
) -> np.ndarray:
    """True labels where known, else the readings of the reports, (N, 5) in [0, 1].

    Several readings are averaged as log odds. At 100 % every label is known; there the readings
    replace them all.
    """
    odds = [np.log(p / (1 - p)) for p in (np.clip(p, 1e-6, 1 - 1e-6) for p in readings)]
    labels = np.asarray(1 / (1 + np.exp(-np.mean(odds, axis=0))))
    known = made.rows("tuning")
    if fraction < 1:
        known = np.concatenate([known, made.labelled(fraction, draw)])
    labels[known] = made.targets.values[known]
    return labels


def on_report_labels(made: Made, fraction: float, draw: int) -> np.ndarray:
    """The same encoder from random weights, on labels that TF-IDF reads in the train reports."""
    labels = read_from_reports(made, [tfidf(made, fraction, draw)], fraction, draw)
    return Trainer(made, PSEUDO, fraction, draw).predict(made.rows("train"), labels)


def frozen_probe(made: Made, fraction: float, draw: int) -> np.ndarray:
    """Logistic regression on the frozen pretrained encoder."""
    x = made.vectors(made.seed(draw), "ecg")
    return made.probe(x, made.labelled(fraction, draw))(x)


def fine_tuned(made: Made, fraction: float, draw: int) -> np.ndarray:
    """The pretrained encoder, trained on the labels; below 100 % averaged with the frozen probe."""
    rows = made.labelled(fraction, draw)
    trainer = Trainer(made, TUNED, fraction, draw, _weights(made, draw))
    found = trainer.predict(rows, made.targets.values)
    return found if fraction == 1 else (found + frozen_probe(made, fraction, draw)) / 2


def student(made: Made, fraction: float, draw: int) -> np.ndarray:
    """The pretrained encoder, on labels that TF-IDF and the pretrained report tower read."""
    tower = made.vectors(made.seed(draw), "report")
    readings = [
        tfidf(made, fraction, draw),
        made.probe(tower, made.labelled(fraction, draw))(tower),
    ]
    labels = read_from_reports(made, readings, fraction, draw)
    trainer = Trainer(made, STUDENT, fraction, draw, _weights(made, draw))
    return trainer.predict(made.rows("train"), labels)


def _weights(made: Made, draw: int) -> Mapping[str, torch.Tensor]:
    import torch

    towers = made.runs[made.seed(draw)].towers(CONTRAST, torch.device("cpu"))
    return dict(towers.tower("ecg").state_dict())


METHODS: dict[str, Callable[[Made, float, int], np.ndarray]] = {
    TUNED: fine_tuned,
    STUDENT: student,
    PROBE: frozen_probe,
    SCRATCH: from_scratch,
    PSEUDO: on_report_labels,
    SPECTRUM: spectrum,
    TEACHER: tfidf,
}

STUDY = Study(__file__, parts=parts, run=run, options=options, page="ptbxl", seeds=3, quick=True)

if __name__ == "__main__":
    STUDY.main()
