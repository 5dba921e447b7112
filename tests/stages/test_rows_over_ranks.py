"""Masks, augmentations and dropped modalities belong to the row, not to the rank that holds it."""

import json
import os
import subprocess
import sys

import pytest
import yaml

import medmcl

pytestmark = pytest.mark.usefixtures("cache")

SETTINGS = {
    "drop": ["finetune-{task}-{label_fraction}", "results"],
    "set": {
        "views.augmented.drop": 0.3,
        "stages.mmcl.optimiser.sharded": True,
        **{f"stages.{stage}.{key}": value for stage in ("mdm", "mmcl")
           for key, value in (("steps", 8), ("log_every", 1), ("batch_size", 23))},
    },
}  # fmt: skip


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {
        (one["stage"], one["split"], one["step"]): one["loss"] for one in lines if "loss" in one
    }


@pytest.mark.dist
def test_three_ranks_log_the_losses_of_one(hearts, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tree = {"extends": "ecg_cmr_toy", "about": "Losses on several ranks", **SETTINGS}
    recipe.write_text(yaml.safe_dump(tree))
    alone = medmcl.pretrain(hearts, recipe=recipe, out=tmp_path / "alone", device="cpu").path
    shared = tmp_path / "shared"
    words = [sys.executable, "-m", "medmcl", "pretrain", "--cohort", hearts, "--recipe", recipe,
             "--out", shared, "--device", "cpu", "--devices", "3"]  # fmt: skip
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0
    expected = losses(alone)
    assert len({key[0] for key in expected}) == 2
    assert losses(shared) == pytest.approx(expected, rel=1e-4)
