"""MONAI and torch-geometric in one recipe: volumes and graphs of people with one hidden number."""

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import medmcl

PEOPLE, SIDE, REGIONS = 120, 16, 8
COHORT = {
    "schema": "medmcl/cohort@1",
    "subjects": {
        "table": "people.csv",
        "id": "pid",
        "split": {"random": {"seed": 0, "tuning": 0.15, "held_out": 0.35}},
    },
    "modalities": {
        "mri": {"kind": "image", "reader": "nifti", "path": "mri/{pid}.nii.gz"},
        "network": {"reader": "connectivity", "path": "graph/{pid}.csv"},
    },
    "tasks": {"large": {"kind": "binary", "column": "size > 0"}},
    "recipe": "volume_graph_toy",
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The size of a ball in the volume is the strength of a block of the graph."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for part in ("mri", "graph"):
        (folder / part).mkdir()
    size = rng.uniform(-1, 1, PEOPLE)
    ids = [f"p{number:03d}" for number in range(PEOPLE)]
    far = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(SIDE) - 7.5] * 3)), axis=0)
    for pid, one in zip(ids, size, strict=True):
        ball = 1.0 * (far < 4 + 2 * one) + rng.normal(0, 0.1, far.shape)
        nibabel.Nifti1Image(ball.astype(np.float32), np.eye(4)).to_filename(
            folder / "mri" / f"{pid}.nii.gz"
        )
        weights = rng.normal(0, 0.05, (REGIONS, REGIONS))
        weights[:4, :4] += 0.4 + 0.3 * one
        weights = np.clip((weights + weights.T) / 2, -1, 1)
        np.fill_diagonal(weights, 1)
        np.savetxt(folder / "graph" / f"{pid}.csv", weights, delimiter=",", fmt="%.4f")
    pd.DataFrame({"pid": ids, "size": size}).to_csv(folder / "people.csv", index=False)
    (folder / "cohort.yaml").write_text(yaml.safe_dump(COHORT, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    torch.set_num_threads(1)
    return medmcl.pretrain(people, out=tmp_path_factory.mktemp("run") / "run", device="cpu")


def test_the_towers_are_of_monai_and_of_torch_geometric(run):
    towers = run.towers("contrast", torch.device("cpu")).towers
    used = {name: {type(one).__module__ for one in t.modules()} for name, t in towers.items()}
    assert any(module.startswith("monai.") for module in used["mri"])
    assert any(module.startswith("torch_geometric.") for module in used["network"])


def test_volumes_find_the_graphs_of_their_people_and_graphs_the_volumes(run):
    rows = pd.read_csv(run.path / "results.csv").query("kind == 'retrieval'")
    for k in ("recall@5", "recall@10"):
        of = rows[rows["metric"] == k]
        found, chance = (of[of["method"] == method] for method in ("contrast", "chance"))
        assert len(found) == 2  # either way
        assert (found["low"] > chance["value"].max()).all()
