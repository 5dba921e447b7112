"""Frozen ECG encoders of medmcl's own on PTB-XL: what was tried, and chosen on fold 9.

    python -m benchmarks.ecg.ptbxl_own --work WORK [--data-root PTBXL] [--only TRIAL ...]
    python -m benchmarks.ecg.ptbxl_own --work WORK --vectors CHOICE=FILE.parquet

The first trains on folds 1 to 8 and scores superdiagnostic on fold 9; runs lie in WORK and are not
made again. The second writes the vectors of one choice, of every record, for ``medmcl benchmark
ptbxl --embeddings``. Nobody of fold 10 is scored here.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import medmcl
from benchmarks.study import Row, Study, grid, interval
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation import evaluate_embeddings
from medmcl.stages.benchmark.contenders import Contender, Field
from medmcl.stages.benchmark.suite import Suite, read_suite
from medmcl.stages.run.embedding import PROVENANCE
from medmcl.stages.run.run import Run

TASK = "superdiagnostic"
WORDS, MORE_WORDS, PERSON = "words", "words300", "wordsage"
AGES = (40, 50, 60, 70, 80)
SIMPLE = "simple features"
STRONG: dict[str, Any] = {"noise": 0.025, "rescale": 0.2, "rescale_may_flip": False,
                          "lead_dropout": 0.2, "time_mask": 0.2}  # fmt: skip
"""The augmentation of ``ecg_text``."""
BOILERPLATE = {"unbestätigter", "bericht", "edit", "this", "with", "trace", "only", "requested",
               "unbest"}  # fmt: skip
"""Words of reports that tell of the machine or of grammar."""
DATASET = {"seen": {"ptbxl": "folds 1 to 9"}, "clean": ["ptbxl:fold 10"]}


def contrast(**changes: Any) -> Row:
    """The contrastive stage of ``ecg_text_toy`` alone, changed."""
    drop = ["finetune-{task}-{label_fraction}", "results"]
    return {"extends": "ecg_text_toy", "about": "contrast alone", "drop": drop, "set": changes}


def words(
    epochs: int = 24,
    *,
    task: str = WORDS,
    encoder: Mapping[str, Any] | None = None,
    augment: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    optimiser: Mapping[str, Any] | None = None,
    **stage: Any,
) -> Row:
    """The ResNet of ``ecg_text_toy``, taught which words stand in the report of an ECG."""
    read = {"rate_hz": 100, "seconds": 10, "crop_seconds": 10, "baseline": "highpass",
            "clip_sigma": None, "normalise": "none", **(inputs or {})}  # fmt: skip
    net = {"name": "resnet1d", "widths": [32, 64, 96, 128], "norm": "batch", **(encoder or {})}
    rates = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.05, "warmup": 0.1, "clip_norm": 1.0}
    told = {"task": task, "modalities": ["ecg"], "view": "augmented"}
    train = {"stage": "train", "name": "words", "towers": ["ecg"], "task": task,
             "objectives": {"supervised": told}, "batch_size": 64, "epochs": epochs,
             "optimiser": {**rates, **(optimiser or {})}, **stage}  # fmt: skip
    return {
        "schema": "medmcl/recipe@1",
        "name": "report_words",
        "about": "words of the report from the ECG",
        "inputs": {"ecg": read},
        "towers": {"ecg": {"encoder": net}},
        "views": {"augmented": {"augment": {"ecg": {**STRONG, **(augment or {})}}}},
        "stages": [train],
    }


def scratch(augment: Mapping[str, Any] | None = None, **changes: Any) -> Row:
    """The plain ResNet on the labels themselves, as the suite's YAML had it, changed."""
    plain = {"baseline": "none", "normalise": "record"}
    given: Row = {
        "epochs": 30,
        "task": TASK,
        "name": TASK,
        "optimiser": {"clip_norm": None},
        **changes,
    }
    found = words(**{**given, "inputs": {**plain, **given.pop("inputs", {})}})
    found["views"]["augmented"]["augment"]["ecg"] = dict(augment or {"noise": 0})
    return found


def report_words(data_root: Path, most: int = 100, letters: int = 4, reports: int = 20) -> Row:
    """A task: which of the commonest words of the train reports stand in a report.

    Words of so many letters or more, in so many reports or more; at most ``most``.
    """
    import pandas as pd

    table = pd.read_csv(data_root / "ptbxl_database.csv")
    texts = table[table["strat_fold"] <= 8]["report"].fillna("").str.lower()
    a_word = re.compile(rf"[a-zäöüåß]{{{letters},}}")
    counts = Counter(word for text in texts for word in {*a_word.findall(text)})
    common = [word for word, n in counts.most_common() if reports <= n <= len(texts) - 20]
    found = [word for word in common if word not in BOILERPLATE][:most]
    columns = {word: f"contains(lower(report), '{word}')" for word in found}
    return {"kind": "multilabel", "of": "ecg", "columns": columns}


@dataclass(frozen=True)
class Trial:
    """A training, and what is scored of it: the frozen encoder, or the network whole."""

    recipe: Row
    about: str
    seeds: int = 1
    whole: bool = False
    share: float = 1.0
    """Of the train labels that the probe reads."""


MILD = {"normalise": "none", "baseline": "highpass"}
TRIALS: dict[str, Trial] = {
    "contrast": Trial(contrast(), "`ecg_text_toy`: InfoNCE with the report, 12 epochs"),
    "contrast-24": Trial(
        contrast(**{"stages.contrast.epochs": 24}), "the same, 24 epochs", seeds=3
    ),
    "words": Trial(words(12), "words of the report as targets, 12 epochs"),
    "words-mm": Trial(words(12, encoder={"pool": "mean_max"}), "the same, mean and maximum pooled"),
    "words-24": Trial(words(), "24 epochs", seeds=3),
    "words-mm-40": Trial(words(40, encoder={"pool": "mean_max"}), "40, mean and maximum pooled"),
    "words-24-drop": Trial(words(encoder={"dropout": 0.2}), "24, dropout 0.2"),
    "words-24-age": Trial(words(task=PERSON), "24, sex and five ages as targets, too"),
    "words-24-strong": Trial(
        words(augment={"lead_dropout": 0.3, "time_mask": 0.3, "noise": 0.05}),
        "24, stronger augmentation",
    ),
    "words-24-ema": Trial(words(ema=0.99), "24, running mean of the weights (0.99)"),
    "words300-24": Trial(words(task=MORE_WORDS), "24, 300 words"),
    "joint-24": Trial(
        contrast(
            **{
                "stages.contrast.task": WORDS,
                "stages.contrast.epochs": 24,
                "stages.contrast.objectives.words": {
                    "kind": "supervised", "loss_weight": 10.0, "task": WORDS,
                    "modalities": ["ecg"], "view": "augmented",
                },
            }
        ),
        "words (weight 10) and InfoNCE together, 24 epochs",
    ),
    "words-24-quarter": Trial(words(label_fraction=0.25), "24, on a quarter of the train people",
                              share=0.25),
    "words-24-half": Trial(words(label_fraction=0.5), "24, on half of them", share=0.5),
    "scratch": Trial(scratch(), "the suite's plain ResNet as it was", whole=True),
    "scratch-mv-hp": Trial(scratch(inputs=MILD), "the same, mV, high-pass", whole=True),
    "scratch-mv-hp-aug": Trial(
        scratch(STRONG, inputs=MILD), "the same, augmented, too", whole=True
    ),
}  # fmt: skip
"""Name to training."""
CHOICES: dict[str, tuple[str, ...]] = {
    "simple features": (SIMPLE,),
    "one seed and simple features": ("words-24#0", SIMPLE),
    "three seeds": ("words-24",),
    "three seeds and simple features": ("words-24", SIMPLE),
}
"""Name to the trials whose vectors, of every seed, stand side by side; or simple features."""


@dataclass
class Made:
    """What lies in the working folder, and what is told of it."""

    work: Path
    data_root: Path

    @cached_property
    def suite(self) -> Suite:
        """That of PTB-XL."""
        return read_suite("ptbxl")[1]

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """The cohort with more tasks: words of reports."""
        common = report_words(self.data_root)
        person = {"female": "sex == 1", **{f"over {age}": f"age > {age}" for age in AGES}}
        tasks = {
            WORDS: common,
            MORE_WORDS: report_words(self.data_root, most=300, letters=3, reports=6),
            PERSON: {**common, "columns": {**common["columns"], **person}},
        }
        told = {f"cohort.tasks.{name}": task for name, task in tasks.items()}
        return {"data_root": str(self.data_root), **told}

    @cached_property
    def cohort(self) -> Cohort:
        """That of the suite."""
        return self.suite.open(None, self.overrides)

    @cached_property
    def plain(self) -> tuple[Contender, Prepared]:
        """Simple features, and the cohort."""
        folder = self.work / "vectors"
        place = Field(cohort=self.cohort, modality="ecg", folder=folder,
                      records=self.cohort.fingerprint)  # fmt: skip
        simple, prepared = place.simple()
        assert simple is not None  # ECGs have some
        return simple, prepared

    def run(self, name: str, seed: int) -> tuple[Run, float]:
        """Train, or take what is there; with the CPU seconds it took."""
        folder = self.work / f"{name}-s{seed}"
        took = folder / "took.txt"
        if not took.exists():
            recipe = self.work / f"{name}.yaml"
            recipe.parent.mkdir(parents=True, exist_ok=True)
            recipe.write_text(yaml.safe_dump(TRIALS[name].recipe, allow_unicode=True), "utf-8")
            began = time.process_time()
            medmcl.pretrain(self.cohort, recipe=recipe, out=folder, seed=seed, device="cpu",
                            precision="bf16", resume=folder.exists())  # fmt: skip
            took.write_text(str(time.process_time() - began), "utf-8")
        return medmcl.load(folder), float(took.read_text("utf-8"))

    def vectors(self, name: str, seed: int) -> np.ndarray:
        """Frozen features of every sample, (N, E); zeros where it has no record."""
        file = self.work / f"{name}-s{seed}.npy"
        if not file.exists():
            found = self.run(name, seed)[0].embedding(self.cohort, modality="ecg", device="cpu")
            index = found.prepared.index("ecg")
            of_record = np.zeros((found.total, found.width), dtype=np.float32)
            of_record[found.records] = found.vectors(found.records)
            np.save(file, np.where(index[:, None] >= 0, of_record[index], 0))
        return np.load(file).astype(np.float64)

    def predictions(self, name: str, seed: int) -> np.ndarray:
        """What a whole network says of fold 9, (N, C); zeros elsewhere."""
        import torch

        from medmcl.stages.run.features import predict

        file = self.work / f"{name}-s{seed}.pred.npy"
        if not file.exists():
            run = self.run(name, seed)[0]
            prepared = run.prepare(self.cohort, ("ecg",))
            found = predict(run, TASK, prepared, prepared.tasks(TASK), torch.device("cpu"),
                            prepared.rows("tuning"))  # fmt: skip
            np.save(file, found)
        return np.load(file)

    def together(self, choice: str) -> np.ndarray:
        """Vectors of a choice side by side, (N, E)."""
        parts: list[np.ndarray] = []
        for name in CHOICES[choice]:
            if name == SIMPLE:
                parts.append(self.plain[0].vectors[0])
            else:
                trial, _, seed = name.partition("#")
                seeds = [int(seed)] if seed else range(TRIALS[trial].seeds)
                parts += [self.vectors(trial, one) for one in seeds]
        return np.concatenate(parts, axis=1)

    def score(self, name: str, share: float = 1.0, **given: Any) -> Row:
        """Macro AUROC of fold 9, and that of each class."""
        simple, prepared = self.plain
        rows = evaluate_embeddings(
            given.get("features", {}), prepared.tasks(TASK), prepared.splits, prepared.subjects,
            scored_split="tuning", present={name: simple.present}, fractions=(share,), draws=3,
            predictions=given.get("predictions"), bootstrap_draws=1000, further_metrics=False,
        )  # fmt: skip
        area = [row for row in rows if row.metric == "auroc"]
        macro = next(row for row in area if row.target == "macro")
        return {
            "value": macro.value, "low": macro.low, "high": macro.high,
            "classes": {row.target: row.value for row in area if row.target != "macro"},
        }  # fmt: skip

    def write(self, choice: str, file: Path) -> None:
        """Write the vectors of a choice as a table, a row a record."""
        import pandas as pd

        has = self.plain[0].present
        values = self.together(choice)[has]
        records = self.plain[1].samples["ecg"].to_numpy()[has]
        frame = pd.DataFrame(values, columns=[f"e{n}" for n in range(values.shape[1])])
        frame.insert(0, "quality", "ok")
        people = self.cohort.records["ecg"]["subject"].loc[records].astype(str)
        frame.index = pd.MultiIndex.from_arrays([people, records], names=["subject", "record"])
        frame.attrs[PROVENANCE] = {"made_by": DATASET, "modality": "ecg"}
        frame.to_parquet(file)


def options(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("MEDMCL_DATA")
    found = Path(root) / "ptbxl" if root else None
    parser.add_argument("--data-root", type=Path, default=found, required=not found)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", help="these trials, and no choice")
    parser.add_argument("--vectors", help="CHOICE=FILE.parquet: write the vectors, score nothing")


def run(given: argparse.Namespace) -> Iterator[list[Row]] | None:
    """Train what is missing and score fold 9; or write the vectors of a choice."""
    made = Made(given.work, given.data_root)
    if given.vectors:
        choice, _, file = given.vectors.partition("=")
        made.write(choice, Path(file))
        return None
    return _rows(made, given.only)


def _rows(made: Made, only: Sequence[str] | None) -> Iterator[list[Row]]:
    rows: list[Row] = []
    for name, trial in TRIALS.items():
        if only and name not in only:
            continue
        for seed in range(trial.seeds):
            if trial.whole:
                found = made.score(name, predictions={name: made.predictions(name, seed)})
            else:
                found = made.score(name, trial.share, features={name: made.vectors(name, seed)})
            seconds = round(made.run(name, seed)[1])
            rows.append({"name": name, "about": trial.about, "seed": seed, "cpu_s": seconds,
                         "whole": trial.whole, "share": trial.share, **found})  # fmt: skip
            yield rows
    for choice, parts in CHOICES.items() if not only else ():
        found = made.score(choice, features={choice: made.together(choice)})
        rows.append({"name": choice, "about": " + ".join(parts), **found})
        yield rows


def parts(rows: list[Row]) -> dict[str, str]:
    names = list(rows[0]["classes"])
    told = interval()
    trials, choices = [], []
    for row in rows:
        classes = [f"{row['classes'][name]:.3f}" for name in names]
        if "seed" in row:
            trials.append([row["name"], row["about"], str(row["seed"]), str(row["cpu_s"]),
                           told(row), *classes])  # fmt: skip
        else:
            choices.append([row["name"], told(row), *classes])
    head = ["trial", "what", "seed", "CPU s", "fold 9", *names]
    return {"own trials": grid(head, trials), "own choices": grid(["", "fold 9", *names], choices)}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ptbxl_suite")

if __name__ == "__main__":
    STUDY.main()
