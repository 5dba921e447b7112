"""What scoring people whom an encoder has seen is worth: ECGs of other people beside the reports.

    python -m benchmarks.evaluation.memorised_ecgs PTBXL [--people 480] [--epochs 80]

PTBXL is a folder with PTB-XL at 100 Hz. One record each of some people; within train, tuning and
held-out people ECG files are dealt out anew, so that an ECG tells nothing of report and diagnoses
beside it. ECG and report are then aligned until they are known by heart. The same embeddings are
scored by the rule that medmcl had below 500 people until November 2026, and on held-out people:
whatever is above .5 is memory. One CPU thread.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.evaluation.memorised_pairs import by_the_withdrawn_rule, write_recipe
from benchmarks.study import Row, Study, interval, table
from medmcl.engine.record import Record
from medmcl.stages.evaluate.spec import EvaluateSpec

COHORT = Path(__file__).parents[2] / "cohorts" / "ptbxl" / "cohort.yaml"
TABLE = "ptbxl_database.csv"
SPLITS = ("train", "tuning", "held_out")
SHARES = (0.55, 0.15, 0.3)


def permuted(source: Path, folder: Path, people: int, seed: int) -> Path:
    """Write a cohort of some people of PTB-XL with the ECG files of others of their split."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    table = pd.read_csv(source / TABLE).drop_duplicates("patient_id").dropna(subset=["report"])
    table = table.sample(people, random_state=seed).reset_index(drop=True)
    table["strat_fold"] = rng.choice(SPLITS, people, p=SHARES)
    for split in SPLITS:
        rows = np.flatnonzero(table["strat_fold"] == split)
        table.loc[rows, "filename_lr"] = table["filename_lr"].to_numpy()[rng.permutation(rows)]
    table.to_csv(folder / TABLE, index=False)
    shutil.copy(source / "scp_statements.csv", folder)
    for name in table["filename_lr"]:
        for ending in (".dat", ".hea"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"{name}{ending}", folder / f"{name}{ending}")
    tree = yaml.safe_load(COHORT.read_text(encoding="utf-8"))
    tree["pairing"] = {"on": "record", "anchor": "ecg"}  # to PyYAML the word on is true
    tree["subjects"]["split"] = {"column": "strat_fold", **{split: [split] for split in SPLITS}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def memorising(epochs: int) -> dict:
    """The towers of `ecg_text_toy`, without augmentation and weight decay, kept at the last step."""
    return {
        "schema": "medmcl/recipe@1",
        "name": "memorising",
        "inputs": {
            "ecg": {"rate_hz": 100, "seconds": 10, "crop_seconds": 10, "baseline": "highpass",
                    "clip_sigma": None, "normalise": "none"},
            "report": {"max_tokens": 48, "vocabulary": 2000},
        },
        "towers": {
            "ecg": {"encoder": {"name": "resnet1d", "widths": [32, 64, 96, 128], "norm": "batch"},
                    "head": {"hidden": 256, "out": 128}},
            "report": {"encoder": {"name": "text_transformer", "width": 64, "depth": 1, "heads": 4},
                       "head": {"hidden": 256, "out": 128}},
        },
        "stages": [
            {"stage": "train", "name": "contrast", "towers": ["ecg", "report"],
             "objectives": {"cross_modal": {"view": "plain", "pairs": [["ecg", "report"]],
                                            "scale": {"init": 14.3, "learned": True}}},
             "batch_size": 64, "epochs": epochs, "keep": "last",
             "optimiser": {"name": "adamw", "lr": 1.0e-3, "weight_decay": 0.0, "warmup": 0.05}},
            {"stage": "evaluate", "name": "results", "bootstrap_draws": 100, "baselines": [],
             "probe": {"modality": "ecg", "models": {"contrastive": "contrast"}}},
        ],
    }  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path)
    parser.add_argument("--people", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "scored": "rule",
        "records": "records",
        "model": "model",
        "macro AUROC (95 % interval)": interval(),
    }
    return {"scored": table(columns, rows)}


def run(given: argparse.Namespace) -> list[Row]:
    """Permute, learn by heart, score in two ways."""
    import torch

    from medmcl.stages.evaluate.stage import run_evaluate

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = permuted(given.source, Path(work) / "cohort", given.people, given.seed)
        recipe = write_recipe(Path(work) / "recipe.yaml", memorising(given.epochs))
        run = medmcl.pretrain(folder, recipe=recipe, out=Path(work) / "run", device="cpu",
                              seed=given.seed)  # fmt: skip
        print(run.facts("contrast")["health"])
        cohort = medmcl.open_cohort(folder)
        spec = EvaluateSpec(stage="evaluate", baselines=(), bootstrap_draws=1000,
                            probe={"modality": "ecg", "models": {"contrastive": "contrast",
                                                                 "untrained": "untrained"}})  # fmt: skip
        record = Record(Path(work) / "metrics.jsonl", active=True)
        rules = {
            "everybody, encoder trained once (withdrawn)": by_the_withdrawn_rule(
                spec, run, cohort, "superclass"
            ),
            "held_out (default)": run_evaluate(
                spec, run, cohort, torch.device("cpu"), record
            ).results,
        }
    return [
        {
            "rule": rule,
            "records": row.n,
            "model": row.method,
            "value": row.value,
            "low": row.low,
            "high": row.high,
        }
        for rule, found in rules.items()
        for row in found
        if (row.metric, row.target, row.versus, row.label_fraction) == ("auroc", "macro", "", 1.0)
    ]


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
