"""Whether a faster step learns as much: validation loss against CPU seconds, three seeds.

``python -m benchmarks.engine.curves`` trains the masked modelling of ``ecg_cmr`` with its network on short
ECGs of simulated hearts (``network``), ``python -m benchmarks.engine.curves pairs`` its contrastive stage
(ResNet50 at 48 pixels) on hearts whose ECG and CMR tell of little else, ``python -m benchmarks.engine.curves toy``
both first stages of ``ecg_cmr_toy``; ten to twenty minutes each. Each run is a process of its own; the ways take
turns. Compiling is in the seconds: each run compiles anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.study import Cell, Row, Study, made_at, number, table

SEEDS = 3
STAGES = {"mdm": "masked modelling", "mmcl": "contrastive"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "float32 as it is": ("fp32", {}),
    "float32": ("fp32", {"onednn": True, "channels_last": True, "optimiser.fused": True}),
    "bf16": ("bf16", {"channels_last": True, "optimiser.fused": True}),
    "bf16, compiled": (
        "bf16", {"channels_last": True, "optimiser.fused": True, "compile": True}
    ),
}  # fmt: skip
"""Precision, and settings of both stages; masked modelling has no convolutions."""
PUBLISHED = {
    "inputs.ecg.crop_seconds": 2,
    "towers.ecg.encoder": {"name": "ecg_vit", "patch": 50, "width": 384, "depth": 3, "heads": 6},
    "towers.ecg.head": {"hidden": 2048, "out": 128},
    "views.masked.mask.ecg": 0.8,
    "stages.mdm.objectives.masked.decoder": {"width": 256, "depth": 2, "heads": 8},
    "stages.mdm.batch_size": 32,
    "stages.mdm.steps": 150,
    "stages.mdm.evaluate_every": 0.5,
    "stages.mdm.optimiser.lr": 5e-4,
}
"""The network whose steps are timed (`cases.py`), on 2 s at 100 Hz of 12 leads, and how it trains."""
PAIRS = {
    "inputs.ecg": {
        "rate_hz": 100,
        "seconds": 2,
        "crop_seconds": 2,
        "steps": [{"step": "standardise", "mean": [0], "std": [0.2]}],
    },
    "inputs.cmr.size": 48,
    "towers.ecg.encoder": {"name": "ecg_vit", "patch": 100, "width": 384, "depth": 3, "heads": 6},
    "towers.cmr.encoder": {
        "name": "timm",
        "model": "resnet50",
        "options": {"zero_init_last": False},
    },
    "towers.ecg.head": {"hidden": 2048, "out": 128},
    "towers.cmr.head": {"hidden": 2048, "out": 128},
    "stages.mmcl.start_from": {},
    "stages.mmcl.objectives.cross_modal.view": "plain",
    "stages.mmcl.batch_size": 32,
    "stages.mmcl.steps": 80,
    "stages.mmcl.evaluate_every": 0.25,
    "stages.mmcl.log_every": 16,
    "stages.mmcl.optimiser.lr": 5e-4,
    "stages.mmcl.optimiser.min_lr": 1e-4,
    "stages.mmcl.optimiser.warmup": 0.05,
}
"""Both networks of the contrastive stage from nothing, on few pixels; chosen with another seed."""
CALM = 0.4
"""What is left of all that shapes ECG and CMR of `PAIRS` beside the heart; beats come at one time."""
SIZES: dict[str, dict[str, Any]] = {
    "network": {
        "subjects": 1000, "set": PUBLISHED, "stages": ["mdm"],
    },
    "pairs": {
        "subjects": 2500, "calm": CALM,
        "cohort": {"seed": 1, "cmr_size": 48, "ecg_seconds": 2, "sites": 1, "cmr_noise": 0.02,
                   "tuning": 0.12, "held_out": 0.02},
        "set": PAIRS, "stages": ["mmcl"],
    },
    "toy": {"subjects": 3000, "set": {}, "stages": list(STAGES)},
}  # fmt: skip
"""What is trained: people, settings, stages."""


def curves(size: str, ways: list[str], seeds: int, folder: Path) -> Iterator[list[Row]]:
    """Train on simulated hearts with some seeds, each way in turn."""
    import medmcl

    rows: list[Row] = []
    asked = SIZES[size]
    made = {"subjects": asked["subjects"], "form": "shards", **asked.get("cohort", {})}
    with calmed(asked["calm"]) if "calm" in asked else nullcontext():
        cohort = medmcl.simulate("heart", folder / "hearts", made)
    context = get_context("spawn")
    for seed in range(seeds):
        for way in ways:
            out = folder / f"{list(WAYS).index(way)}-{seed}"  # g++ takes no path with a space
            process = context.Process(target=learn, args=(cohort, size, way, seed, out))
            process.start()
            process.join()
            found = json.loads(out.with_suffix(".json").read_text("utf-8"))
            rows += [{"size": size, "seed": seed, "way": way, **row} for row in found]
        yield rows


@contextmanager
def calmed(share: float) -> Iterator[None]:
    """Let hearts be simulated inside with a share of what varies beside their state."""
    from medmcl.simulation.heart import cmr, ecg

    fixed = {"phase": 0.5, "ectopic": 1.0}  # when beats come; none comes early

    def calm(draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*given: Any) -> Any:
            found = draw(*given)
            values = {one.name: getattr(found, one.name) for one in fields(found)}
            values |= {n: share * x for n, x in values.items() if n != "site"}
            values |= {n: np.full_like(values[n], x) for n, x in fixed.items() if n in values}
            return replace(found, **values)

        return drawn

    with (
        patch.object(ecg, "draw_nuisance", calm(ecg.draw_nuisance)),
        patch.object(cmr, "draw_nuisance", calm(cmr.draw_nuisance)),
    ):
        yield


def learn(cohort: Path, size: str, way: str, seed: int, out: Path) -> None:
    """Pretrain; write the tuning losses of each stage, and the CPU seconds of the steps until then."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(out.with_suffix(".compiled"))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # the compiler is a child, and is counted

    import torch

    import medmcl
    from medmcl.engine import loop

    torch.set_num_threads(1)
    precision, settings = WAYS[way]
    stages = SIZES[size]["stages"]
    recipe = recipe_of(stages, SIZES[size]["set"], out)
    spent: dict[str, list[float]] = {name: [0.0] for name in stages}
    plain = loop.Training.step

    def used() -> float:
        return sum(os.times()[:4])

    def timed(training: Any, *given: Any) -> None:
        began = used()
        plain(training, *given)
        seconds = spent[training.plan.stage]
        seconds.append(seconds[-1] + used() - began)

    loop.Training.step = timed  # type: ignore[method-assign]  # for this process
    medmcl.pretrain(
        cohort, recipe=recipe, out=out, seed=seed,
        overrides={f"stages.{n}.{key}": value for n in stages for key, value in settings.items()
                   if (n, key) != ("mdm", "channels_last")},
        device="cpu", precision=precision,
    )  # fmt: skip
    told = map(json.loads, (out / "metrics.jsonl").read_text("utf-8").splitlines())
    rows = [
        {"stage": one["stage"], "step": one["step"], "loss": one["loss"],
         "seconds": round(spent[one["stage"]][one["step"]], 3)}
        for one in told if one["split"] == "tuning"
    ]  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(rows), "utf-8")


def recipe_of(stages: list[str], settings: dict[str, Any], out: Path) -> Path:
    """Write a recipe beside a run: some stages of ``ecg_cmr_toy``, with other settings."""
    from medmcl.stages.recipe.file import read_recipe

    others = [one.name for one in read_recipe("ecg_cmr_toy").stages if one.name not in stages]
    own = {"extends": "ecg_cmr_toy", "drop": others, "set": settings}
    recipe = out.with_suffix(".yaml")
    recipe.write_text(json.dumps(own), "utf-8")
    return recipe


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure one size, all ways or some; other rows stay as they are kept."""
    os.environ["OMP_NUM_THREADS"] = "1"
    kept = STUDY.kept(given.out) or ()
    others = [r for r in kept if r["size"] != given.size or r["way"] not in given.ways]
    with tempfile.TemporaryDirectory() as folder:
        for rows in curves(given.size, given.ways, given.seeds, Path(folder)):
            yield [*others, *rows]


def parts(rows: list[Row]) -> dict[str, str]:
    return {
        f"curves of {size}": curve_table([row for row in rows if row["size"] == size])
        for size in SIZES
    }


def curve_table(rows: list[Row]) -> str:
    """Loss of the tuning split at the end, and the CPU seconds until float32's loss is reached."""
    if not rows:
        return "Not measured."
    told, seeds = [], sorted({row["seed"] for row in rows})
    ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
    first = ways[0]
    for stage, title in STAGES.items():
        own = [row for row in rows if row["stage"] == stage]
        if not own:
            continue
        last = {(row["way"], row["seed"]): row for row in own}
        ends = {w: [last[w, seed]["loss"] for seed in seeds] for w in ways}
        for way, seen in ends.items():
            worst = {seed: last[first, seed]["loss"] + np.ptp(ends[first]) for seed in seeds}
            until = [
                next((r["seconds"] for r in own
                      if (r["way"], r["seed"]) == (way, seed) and r["loss"] <= worst[seed]),
                     float("nan"))
                for seed in seeds
            ]  # fmt: skip
            told.append({
                "stage": title, "way": way, "losses": ", ".join(f"{x:.4f}" for x in seen),
                "difference": statistics.fmean(seen) - statistics.fmean(ends[first]),
                "range": float(np.ptp(seen)), "until": statistics.fmean(until),
                "all": statistics.fmean(last[way, seed]["seconds"] for seed in seeds),
            })  # fmt: skip
    columns: dict[str, str | Cell] = {
        "stage": "stage",
        "": "way",
        f"tuning loss, {len(seeds)} seeds": "losses",
        "mean beside float32 as it is": number("difference", "+.4f"),
        "range of the seeds": number("range", ".4f"),
        "CPU s to float32's last loss": number("until", ".1f"),
        "CPU s of all steps": number("all", ".1f"),
    }
    return f"{table(columns, told)}\n\n{made_at(rows)}"


def options(parser: argparse.ArgumentParser) -> None:
    """What is trained."""
    parser.add_argument("size", nargs="?", choices=SIZES, default="network", help="what is trained")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="how")


STUDY = Study(
    __file__, parts=parts, run=run, options=options, seeds=SEEDS, page="steps", runs=tuple(SIZES)
)

if __name__ == "__main__":
    STUDY.main()
