"""A cohort whose inputs say nothing of the outcome, paired with a modality that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

PEOPLE = 300
WIDTH = 16
LABS, VITALS, ANSWER = "labs", "vitals", "answer"
"""Noise, other noise, and the table that names the outcome (as a report would)."""


def write_told(folder: Path, seed: int, *, told_by: bool = True, split=None) -> Path:
    """Noise tables, an outcome and a sex that are independent of them, and a table that names both.

    Args:
        folder: Folder to write.
        seed: Of everything random.
        told_by: Whether cohort.yaml says so.
        split: Keys of the split; default drawn: 15 % tuning, 30 % held out.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    ids = [f"p{number:03d}" for number in range(PEOPLE)]
    people = pd.DataFrame({"pid": ids, "ill": rng.integers(0, 2, PEOPLE)})
    people["sex"] = np.where(rng.random(PEOPLE) < 0.5, "f", "m")
    people["fold"] = np.array(["train", "train", "tuning", "held_out"])[np.arange(PEOPLE) % 4]
    people.to_csv(folder / "people.csv", index=False)
    for name in (LABS, VITALS):
        table = pd.DataFrame(rng.normal(size=(PEOPLE, WIDTH)).round(4))
        table.columns = [f"{name}_{k}" for k in range(WIDTH)]
        table.insert(0, "pid", ids)
        table.to_csv(folder / f"{name}.csv", index=False)
    answer = pd.DataFrame({"pid": ids, "a_ill": 3.0 * people["ill"]})
    answer["a_sex"] = 3.0 * (people["sex"] == "f")
    for k in range(4):  # whom it is of: pairs can be learned by heart
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
        },
        "subgroups": {"sex": {"column": "sex"}},
        "tasks": {"ill": {"kind": "binary", "column": "ill"}},
    }  # fmt: skip
    if told_by:
        tree["tasks"]["ill"]["told_by"] = ["a_ill"]
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def memorising(steps: int, *evaluations: dict) -> dict:
    """A recipe whose stages learn pairs by heart, kept at their last step, in every way we have."""
    tower = {"encoder": {"name": "tabular_mlp", "cell_width": 4, "hidden": 64, "depth": 1,
                         "width": 32}, "head": {"layers": 1, "out": 16}}  # fmt: skip
    common = {
        "batch_size": 64, "steps": steps, "keep": "last", "evaluate_every": 1000,
        "optimiser": {"name": "adamw", "lr": 5.0e-3, "weight_decay": 0.0, "warmup": 0},
    }  # fmt: skip
    aligned = {"cross_modal": {"view": "plain", "pairs": [[LABS, ANSWER]], "scale": {"init": 5.0}}}
    return {
        "schema": "medmcl/recipe@1",
        "name": "memorising",
        "inputs": {LABS: {}, VITALS: {}, ANSWER: {}},
        "towers": {LABS: tower, VITALS: tower, ANSWER: tower},
        "stages": [
            {"stage": "train", "name": "contrast", "towers": [LABS, ANSWER],
             "objectives": aligned, **common},
            {"stage": "cluster", "name": "groups", "of": "contrast", "modality": ANSWER,
             "clusters": 2, "smallest": 8, "adds": 0.0},
            {"stage": "train", "name": "within", "towers": [LABS, ANSWER], "groups": "groups",
             "restart": 1, "objectives": aligned, **common},
            {"stage": "join", "name": "joined", "of": ["contrast", "within"]},
            {"stage": "train", "name": "bind", "towers": [LABS, VITALS, ANSWER], "rows": "any",
             "objectives": {"cross_modal": {"view": "plain",
                 "pairs": {"learn": "tree", "score": "mi", "warm_up": 0.5, "every": 20,
                           "floor": 0.0, "probe_share": 0.2, "probe_rows": 30},
                 "scale": {"init": 5.0}}}, **common},
            *evaluations,
        ],
    }  # fmt: skip


def write_recipe(path: Path, tree: dict) -> Path:
    """Write a recipe."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path
