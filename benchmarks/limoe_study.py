"""One tower with experts against the dense one of equal active size, and against two towers.

    python benchmarks/limoe_study.py --work FOLDER --out OUT

The cohort is `medmcl simulate shapes`: pictures of 64 pixels (64 patches) and captions that name
shape, colour and texture. All models see the same batches for the same number of steps; a token
passes as many weights in each. The learning rate of each is the one with the lowest contrastive
loss on the tuning split (seed 0 of the full model of each size), out of `RATES`. Held-out pictures
are scored once: zero-shot accuracy (mean of the three attributes), recall@1 both ways, where every
caption that names the same attributes is a hit. Values are means over seeds of every held-out
subject, intervals draw subjects, the spread of seeds stands beside.

Writes ``limoe_study.json`` to OUT, run after run (those that are in it are not made again), and
prints the page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

import medmcl
from medmcl.core.errors import ArtefactError
from medmcl.data.cohort import open_cohort
from medmcl.data.simulate import simulate
from medmcl.engine.record import read_metrics
from medmcl.evaluation.models.zero_shot import zero_shot_classes
from medmcl.evaluation.retrieval import ranks
from medmcl.stages.features import sample_vectors
from medmcl.stages.zero_shot import embed_texts

SEEDS = (0, 1, 2)
RATES = (1.0e-3, 3.0e-3)
ATTRIBUTES = ("shape", "colour", "texture")
SIZES = {
    "tiny": {"width": 64, "depth": 4, "heads": 4},
    "small": {"width": 128, "depth": 6, "heads": 4},
}
COHORT = {
    "subjects": 6000,
    "size": 64,
    "seed": 11,
    "counts": 1,
    "positions": 1,
    "caption_detail": ["texture", "colour"],
}
STEPS, BATCH = 600, 64
ABLATIONS: dict[str, dict[str, Any]] = {
    "no priority routing": {"shared.experts.priority": False},
    "no global entropy": {"stages.contrast.objectives.router.min_experts": {}},
    "no local entropy": {"stages.contrast.objectives.router.local": []},
    "no entropy at all": {
        "stages.contrast.objectives.router.min_experts": {},
        "stages.contrast.objectives.router.local": [],
    },
    "K = 2": {"shared.experts.k": 2},
    "4 experts": {"shared.experts.experts": 4},
    "16 experts": {"shared.experts.experts": 16},
}


def recipe(model: str, size: str, rate: float) -> dict[str, Any]:
    """The recipe of a model: ``limoe``, ``dense`` or ``two towers``."""
    own = SIZES[size]
    train: dict[str, Any] = {
        "stage": "train",
        "name": "contrast",
        "towers": ["image", "caption"],
        "objectives": {
            "cross_modal": {"pairs": [["image", "caption"]], "loss": "info_nce", "weight": 0.5,
                            "scale": {"init": 14.3, "learned": True}},
        },
        "batch_size": BATCH,
        "steps": STEPS,
        "log_every": 1,
        "evaluate_every": 2,
        "keep": "last",
        "optimiser": {"name": "adamw", "lr": rate, "weight_decay": 0.05, "warmup": 0.1,
                      "clip_norm": 1.0},
    }  # fmt: skip
    tree: dict[str, Any] = {
        "schema": "medmcl/recipe@1",
        "name": f"{model} {size}",
        "inputs": {
            "image": {"size": 64, "channels": "colour", "intensity": "range"},
            "caption": {"max_tokens": 16, "vocabulary": 256, "tokeniser": "words"},
        },
        "views": {"augmented": {"augment": {}}},
        "stages": [train],
    }
    if model == "two towers":
        options = {
            "patch_size": 8,
            "embed_dim": own["width"],
            "depth": own["depth"],
            "num_heads": own["heads"],
            "class_token": False,
            "global_pool": "avg",
        }
        head = {"layers": 1, "out": own["width"]}
        tree["towers"] = {
            "image": {
                "encoder": {"name": "timm", "model": "vit_tiny_patch16_224", "options": options},
                "head": head,
            },
            "caption": {"encoder": {"name": "text_transformer", **own}, "head": head},
        }
        return tree
    tree["shared"] = {**own, "entrances": {"image": {"patch": 8}}, "experts": None}
    if model == "limoe":
        tree["shared"]["experts"] = {"experts": 8}
        train["objectives"]["router"] = {"loss_weight": 0.04, "local": ["caption"]}
    return tree


def cohort(work: Path) -> Path:
    """The cohort; made once."""
    folder = work / "shapes"
    if not (folder / "cohort.yaml").is_file():
        simulate("shapes", folder, COHORT)
    return folder


def one_run(
    work: Path, model: str, size: str, seed: int, rate: float, changes: dict[str, Any]
) -> dict[str, Any]:
    """Train and score one model; what each held-out subject got right comes along."""
    folder = work / "runs" / f"{model}-{size}-{seed}".replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    written = work / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe(model, size, rate), sort_keys=False), encoding="utf-8")
    started = time.process_time()
    try:
        run = medmcl.pretrain(
            cohort(work), recipe=written, out=folder, seed=seed, device="cpu", overrides=changes
        )
    except ArtefactError as error:  # the loss was not finite, step after step
        return {"failed": str(error).splitlines()[0], "seconds": time.process_time() - started}
    seconds = time.process_time() - started
    found = scores(run, cohort(work))
    lines = [row for row in read_metrics(run.path / "metrics.jsonl") if row["stage"] == "contrast"]
    train = [row for row in lines if row["split"] == "train"]
    tuning = [row for row in lines if row["split"] == "tuning"]
    norms = np.array([row["gradient_norm"] for row in train])
    usual = pd.Series(norms).rolling(100, min_periods=20).median().to_numpy()
    found |= {
        "seconds": seconds,
        "skipped": train[-1]["skipped_steps"],
        "spikes": int((norms[20:] > 10 * usual[19:-1]).sum()),
        "tuning": float(next(tuning[-1][k] for k in tuning[-1] if k.startswith("cross_modal"))),
        "weights": sum(p.numel() for p in run.towers("contrast", torch.device("cpu")).parameters()),
    }
    shutil.rmtree(folder, ignore_errors=True)
    return found


def scores(run: Any, folder: Path) -> dict[str, Any]:
    """What each held-out subject got right, 0 or 1."""
    device = torch.device("cpu")
    opened = open_cohort(folder)
    prepared = run.prepare(opened, ("image", "caption"))
    rows = prepared.rows("held_out")
    truth = pd.read_parquet(folder / "truth.parquet").set_index("subject_id")
    truth = truth.loc[opened.subjects.index[prepared.subjects[rows]]]
    points = {
        name: sample_vectors(run, prepared, "contrast", name, "pooled", device)[rows]
        for name in ("image", "caption")
    }
    prompts = opened.spec.prompts
    right: dict[str, Any] = {}
    for task in ATTRIBUTES:
        classes = list(prompts[task])
        texts = [
            embed_texts(run, prepared, "contrast", "caption", list(prompts[task][name]), device)
            for name in classes
        ]
        said = np.array(classes)[
            zero_shot_classes(points["image"], texts, logit_scale=10.0).argmax(1)
        ]
        right[task] = (said == truth[task].to_numpy()).astype(int).tolist()
    identity = pd.factorize(truth[list(ATTRIBUTES)].agg("/".join, axis=1))[0]
    for name, (a, b) in {"image to text": ("image", "caption"),
                         "text to image": ("caption", "image")}.items():  # fmt: skip
        right[name] = (ranks(points[a], points[b], identity, identity) == 1).astype(int).tolist()
    return {"right": right, "held_out": len(rows)}


def plan(sizes: list[str]) -> list[dict[str, Any]]:
    """Runs in the order in which they are made: rates first, then models, then ablations."""
    models = ("limoe", "dense", "two towers")
    runs = [
        {"model": model, "size": size, "seed": 0, "rate": rate, "as": "rate"}
        for size in sizes for model in models for rate in RATES
    ]  # fmt: skip
    runs += [
        {"model": model, "size": size, "seed": seed, "as": "main"}
        for size in sizes for seed in SEEDS for model in models
    ]  # fmt: skip
    runs += [
        {"model": "limoe", "size": sizes[0], "seed": seed, "as": name}
        for seed in SEEDS for name in ABLATIONS
    ]  # fmt: skip
    return runs


def chosen_rate(done: list[dict[str, Any]], model: str, size: str) -> float:
    """The rate with the lowest contrastive loss on the tuning split."""
    tried = [
        row for row in done
        if (row["as"], row["model"], row["size"]) == ("rate", model, size) and "tuning" in row
    ]  # fmt: skip
    return float(min(tried, key=lambda row: row["tuning"])["rate"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    file = given.out / "limoe_study.json"
    done: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    key = ("model", "size", "seed", "as", "rate")
    for asked in plan(given.sizes):
        rate = asked.get("rate") or chosen_rate(done, asked["model"], asked["size"])
        run = {**asked, "rate": rate}
        same = [row for row in done if all(row[k] == run[k] for k in key)]
        twin = [row for row in done if all(row[k] == run[k] for k in key if k != "as")
                and {row["as"], run["as"]} == {"rate", "main"}]  # fmt: skip
        if same:
            continue
        if twin:  # the run that chose the rate is that of seed 0
            done.append({**twin[0], "as": run["as"]})
        else:
            changes = ABLATIONS.get(run["as"], {})
            done.append({**run, **one_run(given.work, run["model"], run["size"], run["seed"],
                                          rate, changes)})  # fmt: skip
        file.write_text(json.dumps(done) + "\n", encoding="utf-8")
        last = {k: v for k, v in done[-1].items() if k != "right"}
        print(json.dumps(last), flush=True)


if __name__ == "__main__":
    main()
