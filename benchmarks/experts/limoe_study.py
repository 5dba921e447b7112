"""One tower with experts against the dense one of equal active size, and against two towers.

    python -m benchmarks.experts.limoe_study --work FOLDER

The cohort is `medmcl simulate shapes`: pictures of 32 pixels (16 patches) and captions that name
shape, colour and texture. All models see the same batches for the same number of steps at one
learning rate, which was set beforehand and tuned for none; a token passes as many weights in each.
Held-out pictures are scored once: zero-shot accuracy (mean of the three attributes), recall@1 both
ways, where every caption that names the same attributes is a hit. A spike is a gradient norm above
ten times the median of the 100 steps before it, from step 100 on.

Runs that are kept are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.study import Row, Study, drawn, grid
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

    from medmcl.stages.evaluate.scene import embed_prompts
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
    prompts = opened.spec.keys.prompts
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


DRAWS = 2000
SHOWN = {
    "zero-shot": ("shape", "colour", "texture"),
    "image to text": ("image to text",),
    "text to image": ("text to image",),
}


def per_subject(runs: list[Row], outcome: str) -> np.ndarray:
    """Share that each seed got right of each held-out subject, (seeds, subjects)."""
    return np.array([np.mean([run["right"][p] for p in SHOWN[outcome]], axis=0) for run in runs])


def with_interval(values: np.ndarray) -> str:
    """Mean over subjects with a 95 % interval that draws subjects, in percent."""
    draws = values[drawn((len(values),), DRAWS)[0]].mean(1)
    low, high = np.percentile(100 * draws, [2.5, 97.5])
    return f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"


def line(name: str, runs: list[Row], base: list[Row] | None) -> list[str]:
    """One row of the table: values, the paired difference to ``base``, seeds, cost."""
    sound = [run for run in runs if "right" in run]
    cells = [name]
    for outcome in SHOWN:
        values = per_subject(sound, outcome)
        spread = ", ".join(f"{100 * one:.0f}" for one in values.mean(1))
        cells.append(f"{with_interval(values.mean(0))} [{spread}]")
    if base is None:
        cells.append("")
    else:
        cells.append(
            "; ".join(
                with_interval(per_subject(sound, o).mean(0) - per_subject(base, o).mean(0))
                for o in ("zero-shot", "image to text")
            )
        )
    failed = len(runs) - len(sound)
    spikes = sum(run["spikes"] for run in sound)
    skipped = sum(run["skipped"] for run in sound)
    cells.append(f"{failed}, {spikes}, {skipped}")
    cells.append(f"{np.mean([run['seconds'] for run in runs]):.0f}")
    cells.append(f"{sound[0]['weights'] / 1e6:.2f}")
    return cells


HEAD = (
    "model",
    *(f"{name}, %" for name in ("zero-shot", "R@1 image to text", "R@1 text to image")),
    "zero-shot and R@1 image to text less those of the first row, points",
    "failed, spikes, skipped",
    "CPU s",
    "weights, M",
)


def parts(done: list[Row]) -> dict[str, str]:
    def made(model: str, size: str, changed: str = "nothing") -> list[Row]:
        key = (model, size, changed)
        return [run for run in done if (run["model"], run["size"], run["changed"]) == key]

    lines = []
    for size in ("tiny", "small"):
        dense = made("dense", size)
        for model in ("dense", "limoe", "two towers"):
            runs = made(model, size)
            if runs:
                base = None if model == "dense" else dense[: len(runs)]
                lines.append(line(f"{size}: {model}, {len(runs)} seeds", runs, base))
    whole = made("limoe", "tiny")
    for changed in dict.fromkeys(run["changed"] for run in done if run["changed"] != "nothing"):
        runs = made("limoe", "tiny", changed)
        lines.append(line(f"tiny: limoe, {changed}, {len(runs)} seeds", runs, whole[: len(runs)]))
    return {"models": grid(HEAD, lines)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    import torch

    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    done: list[Row] = STUDY.kept(given.out) or []
    for asked in plan():
        if any(asked.items() <= row.items() for row in done):
            continue
        changes = ABLATIONS.get(asked["changed"], {})
        found = one_run(given.work, asked["model"], asked["size"], asked["seed"], changes)
        done.append({**asked, **found})
        print({k: v for k, v in done[-1].items() if k != "right"}, flush=True)
        yield done


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
