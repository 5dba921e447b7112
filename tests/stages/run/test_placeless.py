"""What leaves with a run does not say where it was made, by whom, or on which machine."""

import json
import shutil
import socket
from pathlib import Path

import pytest
from small_omics import write_omics, write_recipe

import medmcl
from medmcl.core.errors import ArtefactError
from medmcl.core.suppression import placeless
from medmcl.engine.record import Record, read_metrics
from medmcl.stages.run.export import export
from medmcl.stages.run.own_cohort import own_overrides
from medmcl.stages.run.run import Run

HOME = "Anna Maria's ward"
"""A folder that is to stay at home; a name with a space, and one of a person."""
OTHER = "jane-roe"
"""One that a text of a person tells in passing: no sentence parts a name with a space from it."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run, an evaluation of it and predictions, all in a folder that is to stay at home."""
    home = tmp_path_factory.mktemp("home") / HOME
    other = tmp_path_factory.mktemp(OTHER)
    folder = write_omics(home / "omics", 120, about=f"copied from {other}/source, and cut")
    (home / "study").mkdir()
    shutil.move(folder / "cohort.yaml", home / "study" / "cohort.yaml")
    recipe = write_recipe(home / "recipe.yaml", tasks=["case"], baselines=["majority"])
    overrides = {"data_root": str(folder), "stages.align.steps": 3}
    run = medmcl.pretrain(
        home / "study", recipe=recipe, out=home / "run", overrides=overrides, device="cpu"
    )
    medmcl.evaluate(run.path, home / "study", out=home / "again", device="cpu",
                    predictions=home / "people.csv")  # fmt: skip
    return home, run


def test_no_file_that_leaves_names_a_place(told):
    home, run = told
    strange = {HOME, HOME.replace("'", "&#39;"), "Anna Maria", OTHER, socket.gethostname() + "/"}
    strange |= {str(Path.home()) + "/", str(Path.cwd())}
    found = [
        (path.name, one)
        for folder in (run.path, home / "again")
        for path in folder.rglob("*")
        if path.is_file() and path.name != "local.json"
        for one in strange
        if one in path.read_bytes().decode("utf-8", "replace")
    ]
    assert not found
    for folder in (run.path, home / "again"):  # there was one to tell
        assert "copied from …/source, and cut" in (folder / "model_card.md").read_text("utf-8")
    assert HOME in (run.path / "local.json").read_text(encoding="utf-8")
    about = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    assert about["cohort_file"] == "…/cohort.yaml"


def test_no_file_of_an_export_names_a_place(told, tmp_path, monkeypatch):
    """Neither of a tokeniser, nor of a file that a setting names, nor of weights of others."""
    home, run = told
    kept, before = run.preprocessing, Run.made_by
    kept["rna"]["state"]["clip"] = f"{home}/merges.gz"
    kept["rna"]["settings"]["clip_vocabulary"] = f"{home}/merges.gz"
    monkeypatch.setattr(Run, "preprocessing", kept)
    began = {"rna": {"source": f"{tmp_path}/{OTHER}/weights.pth, cut"}}
    monkeypatch.setattr(Run, "made_by", lambda *a: {**before(*a), "published": began})
    export(run, tmp_path / "given", modality="rna")
    read = {one.name: one.read_bytes() for one in (tmp_path / "given").iterdir()}
    strange = {HOME, OTHER, str(home.parent), str(tmp_path), str(Path.cwd()), f"{Path.home()}/"}
    assert not [(name, one) for name, text in read.items() for one in strange
                if one.encode() in text]  # fmt: skip
    told_of = json.loads(read["config.json"])
    assert told_of["published"] == {"rna": {"source": "…/weights.pth, cut"}}
    prepared = told_of["parts"]["rna"]["preparation"]
    assert (prepared["state"]["clip"], prepared["settings"]["clip_vocabulary"]) == (
        "merges.gz", "…/merges.gz",
    )  # fmt: skip


def test_a_line_of_training_names_no_place(tmp_path):
    """What an objective of elsewhere says of a step may."""
    Record(tmp_path / "metrics.jsonl", active=True).write(
        {
            "step": 1,
            "teacher": f"{tmp_path}/a.pt",
            "said": {"of": f"from {tmp_path}/x, whole"},
        }
    )
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line == {"step": 1, "teacher": "…/a.pt", "said": {"of": "from …/x, whole"}}


def test_a_run_finds_its_cohort_and_settings_again(told):
    home, run = told
    again = Run(run.path)
    assert again.config == run.config
    assert own_overrides(again, home / "study", {}) == {"data_root": str(home / "omics")}
    assert again.tree("provenance")["cohort_file"] == str(home / "study" / "cohort.yaml")


def test_a_run_that_is_shared_without_it_is_a_run(told, tmp_path):
    home, run = told
    shared = tmp_path / "shared"
    shutil.copytree(run.path, shared)
    (shared / "local.json").unlink()
    root = {"data_root": str(home / "omics")}
    assert "data_root" not in own_overrides(Run(shared), home / "study", {})
    found = medmcl.evaluate(
        shared, home / "study", out=tmp_path / "e", overrides=root, device="cpu"
    )
    assert found.task_rows
    done = medmcl.pretrain(
        home / "study", recipe=home / "recipe.yaml", out=shared, device="cpu", resume=True,
        overrides={**root, "stages.align.steps": 3},
    )  # fmt: skip
    assert done.config == run.config


def test_a_local_file_changes_no_setting(told, tmp_path):
    """A level of intervals that was damaged there was that of the next evaluation."""
    _, run = told
    shared = tmp_path / "shared"
    shutil.copytree(run.path, shared)
    text = (shared / "local.json").read_text(encoding="utf-8")
    assert '"level": 0.95' in text
    (shared / "local.json").write_text(text.replace('"level": 0.95', '"level": 0.65'))
    found = Run(shared).config
    assert found["recipe"] == run.config["recipe"]


def test_a_config_that_is_cut_at_a_line_is_refused_by_name(told, tmp_path):
    """What is left is YAML still, of fewer stages, and its seal is gone with the end."""
    _, run = told
    shared = tmp_path / "shared"
    shutil.copytree(run.path, shared)
    lines = (shared / "config.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    for left in (len(lines) - 1, len(lines) - 9):
        (shared / "config.yaml").write_text("".join(lines[:left]), encoding="utf-8")
        with pytest.raises(ArtefactError, match=r"config\.yaml: is damaged(.|\n)*--resume"):
            Run(shared)


@pytest.mark.parametrize(
    "damage", ["", "{", "[" * 100_000, "[]", '{"config": 3}', '{"config": {"of": 1}}']
)
def test_a_damaged_local_file_is_passed_over(damage, told, tmp_path, caplog):
    _, run = told
    shared = tmp_path / "shared"
    shutil.copytree(run.path, shared)
    (shared / "local.json").write_text(damage)
    assert Run(shared).tree("provenance")["cohort_file"] == "…/cohort.yaml"
    assert Run(shared).config["cohort_overrides"]["data_root"] == "…/omics"
    assert ("local.json cannot be read, or is damaged" in caplog.text) == (
        damage in ("", "{", "[" * 100_000)
    )


def test_what_places_are(tmp_path):
    here = tmp_path / "a b" / "c.csv"
    here.parent.mkdir()
    here.touch()
    assert placeless(str(here)) == "…/c.csv"
    told = placeless([{"k": (f"read {tmp_path}/x.csv, row 3", 1)}])
    assert told == [{"k": ["read …/x.csv, row 3", 1]}]
    assert placeless(f"--cohort={tmp_path}/x ~/y/z") == "--cohort=…/x …/z"
    written = [f"file://{tmp_path}/x", f"nas:{tmp_path}/x", f"/{tmp_path}/x", f"{tmp_path}//a/x"]
    elsewhere = ["/cluster/anna/x", "/Volumes/anna/x", r"C:\Users\anna\x", r"\\nas\anna\x"]
    for text in (*written, *elsewhere):
        assert placeless(f"see {text}").removeprefix("see ") in ("…/x", "nas:…/x")
    for text in ("https://a.b/home/c", "µg /kg/min", "~5/10", "10:/2", r"\d+\s", "a:b"):
        assert placeless(text) == text
    for text in ("mg/dl", "and/or", "1/2", "https://a.b/c/d", "/classes/of/ours", "a/b/c", "/", ""):
        assert placeless(text) == text
    assert placeless(f"got '{tmp_path}/a b/c.csv'") == "got '…/c.csv'"
    tree = {"state": [f"{tmp_path}/x"], "other": f"{tmp_path}/x"}
    assert placeless(tree, "state") == {"state": [f"{tmp_path}/x"], "other": "…/x"}
