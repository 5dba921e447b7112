from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from short_runs import unwritten
from small_encoder import small_encoder
from small_hospital import write_hospital
from small_squares import write_squares
from tiny_runs import tiny

import medmcl
from medmcl.simulation.kinds import simulate


@pytest.fixture(scope="session")
def hearts(tmp_path_factory) -> Path:
    """A simulated cohort as shards with a report each, a few subjects as WFDB and NIfTI files."""
    folder = tmp_path_factory.mktemp("hearts") / "cohort"
    simulate("heart", folder, {"subjects": 160, "form": "both", "files_subset": 4})
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    finding = table["infarct"].map({0: "no infarct", 1: "old infarct"})
    table["report"] = "sinus rhythm, " + table["conduction"] + " conduction, " + finding
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    tree = yaml.safe_load((folder / "cohort.yaml").read_text(encoding="utf-8"))
    tree["modalities"]["report"] = {"reader": "text", "column": "report"}
    tree["prompts"] = {"infarct": {"infarct": ["old infarct"], "not infarct": ["no infarct"]}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture
def unpainted():
    """Runs and evaluations leave their reports out, which take half of their time."""
    with unwritten():
        yield


@pytest.fixture(scope="session")
def prepared_records(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cache(prepared_records):
    """Records are prepared once for all runs of the files that ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMCL_CACHE", str(prepared_records))
        yield prepared_records


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    """Weights of the published ECG encoder ``turgut_ecg:global_pool``, which is small meanwhile."""
    with small_encoder(tmp_path_factory.mktemp("encoder")) as file:
        yield file


@pytest.fixture(scope="session")
def hospital(tmp_path_factory) -> Path:
    """A cohort of codes, concepts and notes."""
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(folder)
    return folder


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """A cohort of coloured squares and captions."""
    torch.set_num_threads(1)
    return write_squares(tmp_path_factory.mktemp("squares") / "cohort")


@pytest.fixture(scope="session")
def trained(hearts, tmp_path_factory):
    """A run of the toy recipe that nothing disturbed."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    return medmcl.pretrain(
        hearts, recipe="ecg_cmr_toy", out=out, overrides=tiny("ecg_cmr_toy"), device="cpu"
    )
