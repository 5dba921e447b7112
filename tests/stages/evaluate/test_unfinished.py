"""Runs that stopped, or were never begun, are refused before anything is computed or written."""

import shutil

import pytest
from tiny_runs import tiny

import medmcl
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.stages.evaluate.evaluate import evaluate


@pytest.fixture
def unfinished(trained, tmp_path):
    folder = shutil.copytree(trained.path, tmp_path / "unfinished")
    (folder / "checkpoint" / "mmcl" / "done.json").unlink()
    return folder


def test_an_unfinished_run_is_refused_at_once(unfinished, trained, hearts, tmp_path):
    said = r"unfinished: mmcl; finished: mdm.*--resume"
    with pytest.raises(ArtefactError, match=rf"(?s){said}"):
        medmcl.load(unfinished).embed(hearts)
    with pytest.raises(ArtefactError, match=rf"(?s){said}"):
        evaluate(unfinished, hearts, out=tmp_path / "a")
    with pytest.raises(ArtefactError, match=rf"(?s){said}"):
        evaluate(trained.path, hearts, compare=[unfinished], out=tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["a/one", "b/one"], "two runs to compare have one name"),
        (["a/untrained"], "called as a model of the first run"),
    ],
)
def test_runs_to_compare_have_names_of_their_own(folders, said, trained, hearts, tmp_path):
    links = [tmp_path / one for one in folders]
    for link in links:
        link.parent.mkdir()
        link.symlink_to(trained.path, target_is_directory=True)
    with pytest.raises(ConfigError, match=said):
        evaluate(trained.path, hearts, compare=links, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_stage_of_an_unfinished_run_can_be_named(unfinished, hearts):
    assert len(medmcl.load(unfinished).embed(hearts, modality="ecg", stage="mdm"))


@pytest.mark.parametrize(
    ("override", "kind", "said"),
    [
        ({"stages.mdm.epochs": 15, "stages.mdm.steps": 10}, ConfigError,
         r"(?s)mdm.*both.*epochs=15 and steps=10.*stages\.mdm\.epochs=null"),
        ({"stages.mdm.epochs": None, "stages.mdm.steps": None}, ConfigError, "neither"),
        ({"stages.mdm.objectives": {"x": {"kind": "nothing"}}}, MedmclError, "nothing"),
    ],
)  # fmt: skip
def test_a_bad_override_leaves_no_run_folder(override, kind, said, hearts, tmp_path):
    overrides = {**tiny("ecg_mdm_toy"), **override}
    with pytest.raises(kind, match=said):
        medmcl.pretrain(hearts, recipe="ecg_mdm_toy", out=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()
