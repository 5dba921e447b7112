"""What scoring people whom an encoder has seen is worth: pairs that name the outcome, by heart.

    python -m benchmarks.evaluation.memorised_pairs [--seeds 5] [--steps 200]

A cohort whose inputs are noise, paired with reports, and with a table, that name outcome and sex;
a step is an epoch. The same embeddings are scored by the rule that medmcl had below 500 people
until November 2026 (5 x 5 folds of probes over everybody, the encoder trained once), on held-out
people, in folds of those whom no stage has seen, and with every stage trained anew in each fold.
Whatever is above .5 is memory.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.study import Row, Study, table
from medmcl.data.cohort.cohort import Cohort
from medmcl.engine.record import Record
from medmcl.evaluation import evaluate_task
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.run import Run

PEOPLE = 300
WIDTH = 16
LABS, VITALS, ANSWER, REPORT = "labs", "vitals", "answer", "report"
"""Noise, other noise, and what names the outcome: a table and a free text."""
QUICK_RESULTS = {"stage": "evaluate", "name": "results", "bootstrap_draws": 100, "baselines": [],
                 "probe": {"modality": LABS, "models": {"contrastive": "contrast"}}}  # fmt: skip
"""A stage that evaluates contrastive pairs, with little drawn."""


def write_told(folder: Path, seed: int, *, leaky_columns: bool = True, split=None) -> Path:
    """Noise tables, outcome and sex independent of them, a table and a report that name both.

    Whoever is paired with whom, inputs tell nothing of the outcome: pairs are as if permuted.

    Args:
        folder: Folder to write.
        seed: Of everything random.
        leaky_columns: Whether cohort.yaml says so.
        split: Keys of the split; default drawn: 15 % tuning, 30 % held out.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    ids = [f"p{number:03d}" for number in range(PEOPLE)]
    people = pd.DataFrame({"pid": ids, "ill": rng.integers(0, 2, PEOPLE)})
    people["sex"] = np.where(rng.random(PEOPLE) < 0.5, "f", "m")
    people["fold"] = np.array(["train", "train", "tuning", "held_out"])[np.arange(PEOPLE) % 4]
    words = np.where(people["ill"] == 1, "ill ", "well ") + people["sex"]
    whose = rng.integers(0, 12, PEOPLE).astype(str)  # pairs can be learned by heart
    people["report"] = words + " ward" + pd.Series(whose)
    people.to_csv(folder / "people.csv", index=False)
    for name in (LABS, VITALS):
        table = pd.DataFrame(rng.normal(size=(PEOPLE, WIDTH)).round(4))
        table.columns = [f"{name}_{k}" for k in range(WIDTH)]
        table.insert(0, "pid", ids)
        table.to_csv(folder / f"{name}.csv", index=False)
    answer = pd.DataFrame({"pid": ids, "a_ill": 3.0 * people["ill"]})
    answer["a_sex"] = 3.0 * (people["sex"] == "f")
    for k in range(2):  # whom it is of
        answer[f"a_{k}"] = rng.normal(size=PEOPLE).round(4)
    answer.to_csv(folder / "answer.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "pid",
                     "split": split or {"random": {"seed": seed, "tuning": 0.15, "held_out": 0.3}}},
        "modalities": {
            LABS: {"reader": "table", "table": "labs.csv", "columns": f"{LABS}_*"},
            VITALS: {"reader": "table", "table": "vitals.csv", "columns": f"{VITALS}_*"},
            ANSWER: {"reader": "table", "table": "answer.csv", "columns": "a_*"},
            REPORT: {"reader": "text", "column": "report"},
        },
        "subgroups": {"sex": {"column": "sex"}},
        "tasks": {"ill": {"kind": "binary", "column": "ill"}},
    }  # fmt: skip
    if leaky_columns:
        tree["tasks"]["ill"]["leaky_columns"] = ["a_ill"]
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def memorising(steps: int, *evaluations: dict, binds: bool = True) -> dict:
    """A recipe whose stages learn pairs by heart, kept at their last step, in every way we have.

    A batch holds everybody: a step is an epoch. ``binds``: with all stages; else contrastive alone.
    """
    tower = {"encoder": {"name": "tabular_mlp", "cell_width": 4, "hidden": 64, "depth": 1,
                         "width": 32}, "head": {"layers": 1, "out": 16}}  # fmt: skip
    text = {"encoder": {"name": "text_transformer", "width": 16, "depth": 1, "heads": 1},
            "head": {"layers": 1, "out": 16}}  # fmt: skip
    common = {
        "batch_size": 256, "steps": steps, "keep": "last", "evaluate_every": 1000,
        "optimiser": {"name": "adamw", "lr": 5.0e-3, "weight_decay": 0.0, "warmup": 0},
    }  # fmt: skip
    aligned = {"cross_modal": {"view": "plain", "pairs": [[LABS, REPORT]], "scale": {"init": 5.0}}}
    contrast = {"stage": "train", "name": "contrast", "towers": [LABS, REPORT],
                "objectives": aligned, **common}  # fmt: skip
    others = [
        {"stage": "cluster", "name": "groups", "of": "contrast", "modality": REPORT,
         "clusters": 2, "smallest": 8, "adds": 0.0},
        {"stage": "train", "name": "within", "towers": [LABS, REPORT], "groups": "groups",
         "restart": 1, "objectives": aligned, **common, "steps": (steps + 3) // 4},
        {"stage": "join", "name": "joined", "of": ["contrast", "within"]},
        {"stage": "train", "name": "bind", "towers": [LABS, VITALS, ANSWER], "rows": "any",
         "objectives": {"cross_modal": {"view": "plain",
             "pairs": {"learn": "tree", "score": "mi", "warm_up": 0.5, "every": 50,
                       "floor": 0.0, "probe_share": 0.2, "probe_rows": 30},
             "scale": {"init": 5.0}}}, **common},
    ]  # fmt: skip
    towers = {LABS: tower, REPORT: text, VITALS: tower, ANSWER: tower}
    inputs = {LABS: {}, REPORT: {"max_tokens": 4, "vocabulary": 100}, VITALS: {}, ANSWER: {}}
    read = list(towers) if binds else [LABS, REPORT]
    return {
        "schema": "medmcl/recipe@1",
        "name": "memorising",
        "inputs": {name: inputs[name] for name in read},
        "towers": {name: towers[name] for name in read},
        "stages": [contrast, *(others if binds else []), *evaluations],
    }


def write_recipe(path: Path, tree: dict) -> Path:
    """Write a recipe."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


MODELS = {"contrastive": "contrast", "multistage": "joined", "AutoBIND": "bind"}
RULES = {
    "everybody, encoder trained once (withdrawn)": None,
    "held_out (default)": {},
    "folds: 5 x 5, refit: probe": {"folds": "5 x 5"},
    "folds: 3 x 1, refit: all": {"folds": "3 x 1", "refit": "all"},
}


def parts(rows: list[Row]) -> dict[str, str]:
    def people(row: Row) -> str:
        ends = (str(row["least"]), str(row["most"]))
        return " to ".join(dict.fromkeys(ends))

    def auroc(row: Row) -> str:
        return f"{row['mean']:.3f} ({', '.join(f'{one:.2f}' for one in row['auroc'])})"

    columns = {
        "scored": "rule",
        "people": people,
        "model": "model",
        "AUROC, mean (each seed)": auroc,
        "intervals that cover .5": lambda row: f"{row['cover']} of {len(row['auroc'])}",
    }
    return {"scored": table(columns, rows)}


def run(given: argparse.Namespace) -> list[Row]:
    """Train, and score in four ways; a row a rule and model."""
    import torch

    torch.set_num_threads(1)
    every = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as work:
            every += scored(Path(work), seed, given.steps)
    return [
        {
            "rule": rule,
            "model": model,
            "least": int(part["n"].min()),
            "most": int(part["n"].max()),
            "mean": float(part["auroc"].mean()),
            "auroc": part["auroc"].tolist(),
            "cover": int(part["covers"].sum()),
        }
        for (rule, model), part in pd.DataFrame(every).groupby(["rule", "model"], sort=False)
    ]


def scored(work: Path, seed: int, steps: int) -> list[dict]:
    """The AUROC of every model by every rule, one seed."""
    import torch

    from medmcl.stages.evaluate.stage import run_evaluate

    recipe = write_recipe(work / "recipe.yaml", memorising(steps, QUICK_RESULTS))
    folder = write_told(work / "cohort", seed)
    run = medmcl.pretrain(folder, recipe=recipe, out=work / "run", seed=seed, device="cpu")
    cohort, cpu = medmcl.open_cohort(folder), torch.device("cpu")
    record = Record(work / "metrics.jsonl", active=True)
    rows = []
    for rule, keys in RULES.items():
        spec = EvaluateSpec(stage="evaluate", probe={"modality": LABS, "models": MODELS},
                            baselines=(), bootstrap_draws=1000, **(keys or {}))  # fmt: skip
        if keys is None:
            found = by_the_withdrawn_rule(spec, run, cohort, "ill")
        else:
            found = run_evaluate(spec, run, cohort, cpu, record).results
        rows += [
            {"rule": rule, "model": row.method, "seed": seed, "auroc": row.value, "n": row.n,
             "covers": row.low <= 0.5 <= row.high}
            for row in found if row.metric == "auroc" and not row.versus
        ]  # fmt: skip
    return rows


def by_the_withdrawn_rule(spec: EvaluateSpec, run: Run, cohort: Cohort, task: str) -> list[Result]:
    """Score everybody in 5 x 5 folds of probes, of an encoder that was trained once on most of them."""
    import torch

    from medmcl.stages.evaluate.methods import gather
    from medmcl.stages.evaluate.scene import RunScene

    prepared = run.prepare(cohort, (spec.probe.modality,))
    targets = prepared.tasks(task)
    cpu = torch.device("cpu")
    sources = gather(RunScene(spec=spec, run=run, prepared=prepared, device=cpu, seed=0, notes=[]))
    everybody = np.ones(len(prepared.splits), dtype=bool)  # the untruth of the old rule
    return evaluate_task(
        sources.methods(targets, "linear_probe"), targets, prepared.splits, prepared.subjects,
        cross_validation=CrossValidation(folds=5, repeats=5, refit="probe", unseen=everybody),
    ).results  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=200)


STUDY = Study(__file__, parts=parts, run=run, options=options, seeds=5)

if __name__ == "__main__":
    STUDY.main()
