"""Logged losses of a run on one, two, four and eight processes: how far apart they are.

``python -m benchmarks.engine.rank_losses`` takes some minutes. Every case is a run of its own on
simulated people, with batches that no number of processes divides; all lines of its record are
compared with those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine.ranks import measured
from benchmarks.study import Row, Study, grid, shown

RANKS = (2, 4, 8)
STEPS, FEW, MANY = 8, 43, 1031
"""Steps, and rows of a batch: such as are gathered, and such as go round in a ring."""
COHORTS = {
    "heart": ["heart", "--subjects", "160"],
    "modalities": ["modalities", "--subjects", "400"],
    "trifactor": ["trifactor", "--subjects", "400"],
    "shapes": ["shapes", "--subjects", "1600"],
}
PICTURE = {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}
SQUARES = {"inputs.picture.size": 32, "towers.picture.encoder.options": PICTURE}
SHARED: dict[str, Any] = {"optimiser.sharded": True}
GROUPS = {
    "k": 2,
    "normalise": True,
    "bias_rate": 0.001,
    "group_rows": 8,
    "grouping": "per_modality",
}
CASES: dict[str, tuple[str, str, dict[str, dict[str, Any]], dict[str, Any]]] = {
    "masked modelling, then InfoNCE; optimiser shared out, a modality dropped": (
        "heart", "ecg_cmr_toy",
        {"mdm": {"batch_size": FEW}, "mmcl": {"batch_size": FEW, **SHARED}},
        {"views.augmented.drop": 0.3},
    ),
    "InfoNCE in a ring": (
        "shapes", "clip_toy", {"contrast": {"batch_size": MANY, **SHARED}}, SQUARES,
    ),
    "sigmoid loss in a ring": (
        "shapes", "siglip_toy", {"contrast": {"batch_size": MANY, **SHARED}}, SQUARES,
    ),
    "NT-Xent, then within groups": (
        "trifactor", "mcl_toy",
        {name: {"batch_size": FEW} for name in ("base", "stage_1", "stage_2", "distilled")}, {},
    ),
    "pairs that are learned": (
        "modalities", "autobind_toy", {"bind": {"batch_size": FEW}}, {},
    ),
    "one tower with experts": (
        "shapes", "limoe_toy", {"contrast": {"batch_size": FEW}}, {},
    ),
    "experts that choose tokens; blocks run again": (
        "shapes", "limoe_toy", {"contrast": {"batch_size": FEW, "recompute": True}},
        {"shared.experts.routing": "experts"},
    ),
    "two experts a token with a load bias, slots of 8 rows and a modality": (
        "shapes", "limoe_toy", {"contrast": {"batch_size": FEW, **SHARED}},
        {f"shared.experts.{name}": value for name, value in GROUPS.items()},
    ),
}  # fmt: skip
"""Case to cohort, recipe, settings of its train stages, and others."""


def recipe_of(case: str) -> dict[str, Any]:
    """The recipe of a case: a toy without what comes after training."""
    _, name, stages, more = CASES[case]
    every = {"log_every": 1, "steps": STEPS, "evaluate_every": 1}
    own = {
        f"stages.{s}.{k}": v for s, given in stages.items() for k, v in {**every, **given}.items()
    }
    from medmcl.stages.recipe.file import read_recipe

    drop = [
        one.name for one in read_recipe(name).stages if one.stage == "evaluate" or "{" in one.name
    ]
    return {"extends": name, "about": case, "drop": drop, "set": {**own, **more}}


def logged(folder: Path) -> list[Row]:
    """Lines of the record of a run on the processes that there are."""
    import medmcl

    out = folder / f"run-{os.environ.get('WORLD_SIZE', 1)}"
    medmcl.pretrain(folder / "cohort", recipe=folder / "recipe.yaml", device="cpu", out=out)
    return [json.loads(one) for one in (out / "metrics.jsonl").read_text("utf-8").splitlines()]


def losses(lines: list[Row]) -> dict[tuple[str, str, int], float]:
    """Stage, split and step to the loss that was logged."""
    return {
        (one["stage"], one["split"], one["step"]): one["loss"] for one in lines if "loss" in one
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="*", type=int, help="numbers of cases from 0; default: all")


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Run each case on one process, then on several; a case after the other."""
    import yaml

    chosen = [list(CASES)[i] for i in given.cases or range(len(CASES))]
    rows: list[Row] = [one for one in STUDY.kept(given.out) or [] if one["case"] not in chosen]
    for case in chosen:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            words = [sys.executable, "-m", "medmcl", "simulate", *COHORTS[CASES[case][0]], "--out"]
            subprocess.run([*words, folder / "cohort"], check=True, stdout=subprocess.DEVNULL)
            (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(case)), "utf-8")
            alone = losses(measured("logged", 1, folder=folder)[0])
            for ranks in RANKS:
                found = losses(measured("logged", ranks, folder=folder)[0])
                rows += apart(case, ranks, alone, found)
                yield rows


def apart(case: str, ranks: int, alone: dict[Any, float], found: dict[Any, float]) -> list[Row]:
    """The largest relative difference of each stage, of training and of tuning."""
    if alone.keys() != found.keys():
        raise RuntimeError(f"{case}: {sorted(alone.keys() ^ found.keys())}")
    rows = []
    for stage in dict.fromkeys(key[0] for key in alone):
        row: Row = {"case": case, "stage": stage, "ranks": ranks}
        for split in ("train", "tuning"):
            off = [abs(found[k] / alone[k] - 1) for k in alone if k[:2] == (stage, split)]
            row |= {split: max(off, default=None), f"{split} lines": len(off)}
        rows.append(row)
    return rows


def parts(rows: list[Row]) -> dict[str, str]:
    def largest(row: Row) -> float:
        return max(row["train"], row["tuning"] or 0)

    known = {(row["case"], row["stage"], row["ranks"]): largest(row) for row in rows}
    stages = list(dict.fromkeys((row["case"], row["stage"]) for row in rows))
    cells = [[*each, *(shown(known.get((*each, n)), ".0e") for n in RANKS)] for each in stages]
    head = ["case", "stage", *(f"{ranks} processes" for ranks in RANKS)]
    return {"agreement": grid(head, cells), "worst": f"{max(known.values()):.0e}"}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="ranks")

if __name__ == "__main__":
    STUDY.main()
