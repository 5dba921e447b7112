"""One tower with experts against the dense one of equal active size, and against two towers.

    python -m benchmarks.experts.limoe_study --work FOLDER --out OUT

The cohort is `medmcl simulate shapes`: pictures of 32 pixels (16 patches) and captions that name
shape, colour and texture. All models see the same batches for the same number of steps at one
learning rate, which was set beforehand and tuned for none; a token passes as many weights in each.
Held-out pictures are scored once: zero-shot accuracy (mean of the three attributes), recall@1 both
ways, where every caption that names the same attributes is a hit. A spike is a gradient norm above
ten times the median of the 100 steps before it, from step 100 on.

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
import yaml

import medmcl
from medmcl.core.errors import ArtefactError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.engine.record import read_metrics
from medmcl.evaluation.aspects.retrieval.measure import ranks
from medmcl.evaluation.models.zero_shot import zero_shot_classes
from medmcl.simulation.kinds import simulate

SEEDS = (0, 1, 2)
RATE = 2.0e-3
ATTRIBUTES = ("shape", "colour", "texture")
SIZES = {
    "tiny": {"width": 64, "depth": 4, "heads": 4},
    "small": {"width": 96, "depth": 4, "heads": 6},
}
COHORT = {
    "subjects": 5000,
    "size": 32,
    "seed": 11,
    "shapes": 6,
    "colours": 6,
    "textures": 3,
    "counts": 1,
    "positions": 1,
    "pixel_noise": 0.02,
    "caption_detail": ["texture", "colour"],
}
STEPS, BATCH = 500, 128
ABLATIONS: dict[str, dict[str, Any]] = {
    "no priority routing": {"shared.experts.priority": False},
    "no global entropy": {"stages.contrast.objectives.router.min_experts": {}},
    "no local entropy": {"stages.contrast.objectives.router.local": []},
    "K = 2": {"shared.experts.k": 2},
    "4 experts": {"shared.experts.experts": 4},
    "16 experts": {"shared.experts.experts": 16},
}


def recipe(model: str, size: str) -> dict[str, Any]:
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
        "optimiser": {"name": "adamw", "lr": RATE, "weight_decay": 0.05, "warmup": 0.1,
                      "clip_norm": 1.0},
    }  # fmt: skip
    tree: dict[str, Any] = {
        "schema": "medmcl/recipe@1",
        "name": f"{model} {size}",
        "inputs": {
            "image": {"size": 32, "channels": "colour", "intensity": "range"},
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
    tree["shared"] = {**own, "input_projections": {"image": {"patch": 8}}, "experts": None}
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
    work: Path, model: str, size: str, seed: int, changes: dict[str, Any]
) -> dict[str, Any]:
    """Train and score one model; what each held-out subject got right comes along."""
    import torch

    folder = work / "runs" / f"{model}-{size}-{seed}".replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    written = work / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe(model, size), sort_keys=False), encoding="utf-8")
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
    usual = pd.Series(norms).rolling(100).median().to_numpy()
    found |= {
        "seconds": seconds,
        "skipped": train[-1]["skipped_steps"],
        "spikes": int((norms[100:] > 10 * usual[99:-1]).sum()),
        "tuning": float(next(tuning[-1][k] for k in tuning[-1] if k.startswith("cross_modal"))),
        "weights": sum(p.numel() for p in run.towers("contrast", torch.device("cpu")).parameters()),
    }
    shutil.rmtree(folder, ignore_errors=True)
    return found


def scores(run: Any, folder: Path) -> dict[str, Any]:
    """What each held-out subject got right, 0 or 1."""
    import torch

    from medmcl.stages.evaluate.prompts import embed_prompts
    from medmcl.stages.run.features import sample_vectors

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
        texts = embed_prompts(run, prepared, "contrast", "caption", prompts[task], device)
        said = np.array(classes)[
            zero_shot_classes(points["image"], list(texts.values()), logit_scale=10.0).argmax(1)
        ]
        right[task] = (said == truth[task].to_numpy()).astype(int).tolist()
    identity = pd.factorize(truth[list(ATTRIBUTES)].agg("/".join, axis=1))[0]
    for name, (a, b) in {"image to text": ("image", "caption"),
                         "text to image": ("caption", "image")}.items():  # fmt: skip
        right[name] = (ranks(points[a], points[b], identity, identity) == 1).astype(int).tolist()
    return {"right": right, "held_out": len(rows)}


def plan() -> list[dict[str, Any]]:
    """Runs in the order in which they are made: seed after seed."""
    models = ("limoe", "dense", "two towers")
    return [
        {"model": model, "size": size, "seed": seed, "changed": changed}
        for seed in SEEDS
        for size in SIZES
        for model in models
        for changed in ("nothing", *(ABLATIONS if (model, size) == ("limoe", "tiny") else ()))
    ]


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/experts/experts"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    file = given.out / "limoe_study.json"
    done: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    for asked in plan():
        if any(asked.items() <= row.items() for row in done):
            continue
        changes = ABLATIONS.get(asked["changed"], {})
        found = one_run(given.work, asked["model"], asked["size"], asked["seed"], changes)
        done.append({**asked, **found})
        file.write_text(json.dumps(done) + "\n", encoding="utf-8")
        print(json.dumps({k: v for k, v in done[-1].items() if k != "right"}), flush=True)


if __name__ == "__main__":
    main()
