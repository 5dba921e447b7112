"""A run on pairs that were made wrong says so, also where it is scored on right ones."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from read_pages import both_pages

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.stages.run.ledger import run_ledger

COHORT = {
    "schema": "medmcl/cohort@1",
    "subjects": {"table": "people.csv", "id": "id", "split": "split"},
    "modalities": {
        "clinic": {"reader": "table", "columns": ["age", "weight"]},
        "report": {"reader": "text", "column": "note"},
    },
    "tasks": {"sick": {"kind": "binary", "column": "sick"}},
}
RECIPE = {
    "schema": "medmcl/recipe@1",
    "inputs": {"clinic": {}, "report": {"max_tokens": 16, "min_count": 1}},
    "towers": {
        "clinic": {"encoder": {"name": "tabular_mlp"}, "head": {"out": 8}},
        "report": {
            "encoder": {"name": "text_transformer", "width": 16, "depth": 1, "heads": 2},
            "head": {"out": 8},
        },
    },
    "views": {"augmented": {}},
    "stages": [
        {
            "stage": "train",
            "name": "contrast",
            "towers": ["clinic", "report"],
            "objectives": {
                "cross_modal": {"pairs": [["clinic", "report"]], "loss": "info_nce"},
            },
            "batch_size": 16,
            "steps": 2,
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort of tables and texts, and a recipe for it."""
    folder, rng = tmp_path_factory.mktemp("noisy"), np.random.default_rng(0)
    people = pd.DataFrame({
        "id": [f"p{n}" for n in range(80)], "split": np.repeat(["train", "held_out"], 40),
        "age": rng.normal(60, 9, 80).round(1), "weight": rng.normal(70, 9, 80).round(1),
        "sick": np.arange(80) % 2, "note": [f"visit {n} without finding" for n in range(80)],
    })  # fmt: skip
    people.to_csv(folder / "people.csv", index=False)
    for name, tree in (("cohort", COHORT), ("pairs", RECIPE)):
        text = yaml.safe_dump(tree, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def run_of(folder, out, **overrides):
    torch.set_num_threads(1)
    return medmcl.pretrain(
        folder, recipe=folder / "pairs.yaml", out=out, overrides=overrides, device="cpu"
    )


def test_report_config_and_ledger_of_a_run_say_that_its_pairs_were_wrong(folder, tmp_path, caplog):
    keys = {"modality": "report", "task": "sick", "share": 0.4, "within": "across"}
    with caplog.at_level("INFO"):
        run = run_of(folder, tmp_path / "run", **{"cohort.noisy_pairs": keys})
    said = "16 of 40 pairs with the report of another sample, 16 of them noise"
    assert f"pairs made wrong on purpose: {said}" in caplog.text
    assert run.config["noisy_pairs"] == said
    found = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    (warning,) = [one for one in found["findings"] if one["code"] == "cohort.noisy_pairs"]
    assert warning["what"].startswith("16 of 40 train pairs have the report of another sample")
    assert said in both_pages(run.path)  # who was taken in
    (weights,) = [one for one in run_ledger(run, ["contrast"]) if "weights" in one.what]
    assert weights.note.endswith(said)  # whatever cohort it is scored on


def test_a_run_on_right_pairs_says_nothing_and_is_not_resumed_on_wrong_ones(folder, tmp_path):
    clean = run_of(folder, tmp_path / "clean")
    assert "noisy_pairs" not in clean.config
    (weights,) = [one for one in run_ledger(clean, ["contrast"]) if "weights" in one.what]
    assert "pairs" not in weights.note
    with pytest.raises(ConfigError, match="other settings"):
        medmcl.pretrain(
            folder, recipe=folder / "pairs.yaml", out=tmp_path / "clean", resume=True, device="cpu",
            overrides={"cohort.noisy_pairs": {"modality": "report", "share": 0.4}},
        )  # fmt: skip
