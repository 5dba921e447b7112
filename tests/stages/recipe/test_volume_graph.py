"""MONAI and torch-geometric in one recipe: volumes and graphs of people with one hidden number."""

import pandas as pd
import pytest
import torch
from small_volumes import write_volumes

import medmcl


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_volumes(folder)
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
