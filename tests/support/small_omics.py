"""A cohort of three omics tables of one hidden state, one of them absent for a third."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

TABLES = {"rna": 12, "proteins": 8, "metabolites": 10}


def write_omics(folder: Path, subjects: int = 240, *, seed: int = 0, **changes) -> Path:
    """Write tables, outcomes and cohort.yaml; ``changes`` are laid over the top level of it.

    Tables are in different orders of people and formats; metabolites are absent for a third. Each
    table has a constant column and one without any cell. Five people have nothing at all.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([f"p{number:03d}" for number in range(subjects)], dtype=object)
    state = rng.normal(size=(subjects, 2))
    risk = state[:, 0] + 0.3 * rng.normal(size=subjects)
    time = rng.exponential(np.exp(-risk)) + 0.01
    frame = pd.DataFrame({"pid": ids, "case": (risk > 0).astype(int), "score": risk.round(4)})
    frame["days"], frame["event"] = (300 * np.minimum(time, 1.5)).round(1), (time < 1.5).astype(int)
    frame["stage"] = np.digitize(risk, [-0.6, 0.6])
    frame["sex"] = rng.choice(["f", "m"], subjects)
    frame["split"] = ["held_out" if n % 4 == 3 else "tuning" if n % 8 == 2 else "train"
                      for n in range(subjects)]  # fmt: skip
    frame.to_csv(folder / "people.csv", index=False)
    nothing = rng.random(subjects) < 0
    nothing[-5:] = True
    for number, (name, width) in enumerate(TABLES.items()):
        mixing = rng.normal(size=(2, width))
        cells = state @ mixing + 0.8 * rng.normal(size=(subjects, width))
        cells[:, 0], cells[:, 1] = 3.0, np.nan
        cells[rng.random(cells.shape) < 0.03] = np.nan
        table = pd.DataFrame(cells.round(4), columns=[f"{name[0]}_{k}" for k in range(width)])
        table.insert(int(number > 0), "pid", ids)
        rows = ~nothing & (np.arange(subjects) % 3 != 0 if name == "metabolites" else True)
        table = table[rows].sample(frac=1, random_state=number)
        if name == "proteins":
            table.to_parquet(folder / f"{name}.parquet")
        else:
            table.to_csv(folder / f"{name}.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "pid", "split": "split"},
        "modalities": {
            "rna": {"reader": "table", "table": "rna.csv", "columns": "r_*"},
            "proteins": {"reader": "table", "table": "proteins.parquet", "columns": ["p_*"]},
            "metabolites": {
                "reader": "table",
                "table": "metabolites.csv",
                "columns": [f"m_{k}" for k in range(TABLES["metabolites"])],
            },
        },
        "tasks": {
            "case": {"kind": "binary", "column": "case"},
            "score": {"kind": "regression", "column": "score"},
            "stage": {"kind": "multiclass", "column": "stage"},
            "death": {"kind": "survival", "time": "days", "event": "event", "unit": "days",
                      "horizons_years": [0.5]},
        },
        **changes,
    }  # fmt: skip
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def recipe_for(names=tuple(TABLES), **evaluate) -> dict:
    """A small recipe over tables; ``evaluate`` are keys of its evaluate stage."""
    tower = {"encoder": {"name": "tabular_mlp", "cell_width": 4, "hidden": 32, "depth": 1,
                         "width": 16}, "head": {"hidden": 32, "out": 8, "layers": 1}}  # fmt: skip
    probe = {"modality": "all", "models": {"aligned": "align", "untrained": "untrained"}}
    return {
        "schema": "medmcl/recipe@1",
        "name": "omics",
        "inputs": {name: {} for name in names},
        "towers": dict.fromkeys(names, tower),
        "views": {"augmented": {"augment": {name: {} for name in names}, "drop": 0.2}},
        "stages": [
            {"stage": "train", "name": "align", "towers": list(names), "steps": 40,
             "batch_size": 64, "optimiser": {"lr": 0.003},
             "objectives": {"cross_modal": {"scale": {"init": 10.0, "learned": False}}}},
            {"stage": "evaluate", "name": "results", "probe": probe, "bootstrap_draws": 100,
             **evaluate},
        ],
    }  # fmt: skip


def write_recipe(path: Path, **given) -> Path:
    """Write `recipe_for` to a file."""
    path.write_text(yaml.safe_dump(recipe_for(**given), sort_keys=False), encoding="utf-8")
    return path
