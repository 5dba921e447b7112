"""Files of a run as a loss of power leaves them: gone on from, or one message whose hint works."""

import json
import re
import shutil
import signal

import numpy as np
import pytest
import torch
from damaged import damage
from killed import forked
from short_runs import unreported

import medmcl
from benchmarks.evaluation.memorised_pairs import LABS, memorising, write_recipe, write_told
from medmcl.core.errors import ArtefactError
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.store import FIRST, FIRST_FILES, Store
from medmcl.stages.run.train_records import kept_hashes

STEP = "checkpoint/within/step-00000002"
TOP = ("config.yaml", "provenance.json", "preprocessing.json", "tasks.json", "could_name.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cohort, a recipe of two train stages, and a run that was killed in the second."""
    home = tmp_path_factory.mktemp("made")
    tree = memorising(4)
    keep = ("contrast", "groups", "within")
    tree["stages"] = [one for one in tree["stages"] if one["name"] in keep]
    for key in ("inputs", "towers"):
        tree[key] = {name: tree[key][name] for name in (LABS, "report")}
    tree["stages"][-1] |= {"evaluate_every": 0.5, "steps": 2}
    write_told(home / "cohort", 0)
    write_recipe(home / "recipe.yaml", tree)
    assert go_on(home, home / "killed", at="within/done.json") == -signal.SIGKILL
    assert go_on(home, home / "run") == 0
    return home


def go_on(home, out, at=None):
    """Begin a run, or go on with it, in a fork."""

    def run():
        torch.set_num_threads(1)
        resumed(home, out)

    return forked(run, out, at=at)[0]


def resumed(home, out):
    """Begin a run, or go on with it."""
    unreported(home / "cohort", recipe=home / "recipe.yaml", out=out, resume=True)


def weights(run):
    return (run / STEP / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("names", "how"),
    [
        ((f"{STEP}/weights.safetensors",), "flipped"),
        ((f"{STEP}/training.pt", "config.yaml"), "zeroed"),
        (("checkpoint/within/last.json", "checkpoint/contrast/done.json"), "cut"),
        (("provenance.json", "checkpoint/groups/done.json", "metrics.jsonl"), "flipped"),
        (TOP[2:], "emptied"),
        (TOP[:1], "cut"),  # it is YAML without its second half, too
        (("files.json",), "missing"),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(made, tmp_path, names, how):
    out = tmp_path / "run"
    shutil.copytree(made / "killed", out)
    for name in names:
        damage(out / name, how)
    assert go_on(made, out) == 0
    assert weights(out) == weights(made / "run")
    assert not list(out.rglob(".*"))
    assert (out / "files.json").read_bytes() == (made / "run" / "files.json").read_bytes()
    assert [one.name for one in out.glob("checkpoint/within/step-*")] == ["step-00000002"]
    medmcl.load(out).learner("within", torch.device("cpu"))


def test_a_finished_stage_that_is_damaged_alone_is_trained_again(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made / "run", out)
    damage(out / STEP / "weights.safetensors", "flipped")
    with pytest.raises(ArtefactError, match="finished and kept: contrast, groups") as said:
        medmcl.load(out).learner("within", torch.device("cpu"))
    shutil.rmtree(re.search(r"delete (/\S+)", str(said.value))[1])
    before = (out / "checkpoint" / "contrast" / "done.json").read_bytes()
    assert go_on(made, out) == 0
    assert weights(out) == weights(made / "run")
    assert (out / "checkpoint" / "contrast" / "done.json").read_bytes() == before


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_where_nothing_says_what_was_asked_one_message_names_both_files(made, tmp_path, how):
    out = tmp_path / "run"
    shutil.copytree(made / "run", out)
    for name in TOP[:2]:
        damage(out / name, how)
    before = sorted(out.rglob("*"))
    for ask in (lambda: medmcl.load(out), lambda: resumed(made, out)):
        with pytest.raises(
            ArtefactError, match="finished and kept: contrast, groups, within"
        ) as said:
            ask()
        assert all(str(out / name) in str(said.value) for name in TOP[:2])
        assert "put the file back" in said.value.fix
        assert "finished stages stay" in said.value.fix
        assert "another --out" not in said.value.fix
    assert {*before} <= {*out.rglob("*")}
    shutil.copy(made / "run" / "provenance.json", out)
    resumed(made, out)
    assert (out / "config.yaml").read_bytes() == (made / "run" / "config.yaml").read_bytes()


def test_nobody_is_scored_once_the_hashes_of_people_in_training_are_gone(made, tmp_path):
    out, file = tmp_path / "run", tmp_path / "run" / "train_records.safetensors"
    shutil.copytree(made / "run", out)
    unseen = medmcl.load(out).unseen_subjects(made / "cohort")
    file.unlink()
    for also in ((), ("provenance.json",)):  # which says that they were kept
        for name in also:
            (out / name).unlink()
        with pytest.raises(ArtefactError, match=r"train_records\.safetensors: there is no") as said:
            medmcl.load(out).unseen_subjects(made / "cohort")
        assert "--resume" in said.value.fix
    resumed(made, out)
    assert file.read_bytes() == (made / "run" / file.name).read_bytes()
    assert medmcl.load(out).unseen_subjects(made / "cohort") == unseen


def test_a_run_of_before_hashes_were_promised_may_have_none(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made / "run", out)
    run = medmcl.load(out)
    about = run.tree("provenance")
    run.save_tree(
        "provenance", {**about, FIRST: [one for one in FIRST_FILES if "train" not in one]}
    )
    for name in ("train_records.safetensors", "files.json"):
        (out / name).unlink()
    assert kept_hashes(medmcl.load(out)) is None


@pytest.mark.parametrize("how", ["cut", "emptied", "zeroed", "flipped", "missing"])
@pytest.mark.parametrize("name", [*TOP, "checkpoint/within/done.json", "groups/groups.parquet"])
def test_whoever_reads_a_damaged_run_is_told_which_file(made, tmp_path, name, how):
    out = tmp_path / "run"
    shutil.copytree(made / "run", out)
    damage(out / name, how)

    def read():
        run = medmcl.load(out)
        _ = run.preprocessing, run.tasks, run.could_name
        _ = run.wrecked, run.refuse_unfinished()
        run.kept("groups")
        run.tree("provenance")

    with pytest.raises(ArtefactError) as said:
        read()
    assert name.rpartition("/")[2] in str(said.value) or how == "missing"
    assert "--resume" in str(said.value)


@pytest.mark.parametrize("name", [b'"seal"', b'"__metadata__"'])
def test_arrays_that_changed_with_the_name_of_their_seal_are_damaged(name, tmp_path):
    store, file = Store(tmp_path), tmp_path / "values.safetensors"
    store.save_arrays("values", {"a": np.arange(3.0)})
    content = file.read_bytes()
    file.write_bytes(content.replace(name, name.replace(b"e", b"g", 1))[:-1] + b"\x01")
    with pytest.raises(ArtefactError, match=r"values\.safetensors: is damaged"):
        store.arrays("values")


def used(tree):
    """A tree without settings that are not used, as of an earlier version that has none such."""
    if isinstance(tree, dict):
        return {key: used(one) for key, one in tree.items() if one is not None}
    return [used(one) for one in tree] if isinstance(tree, list) else tree


def test_a_run_of_a_version_with_fewer_settings_is_gone_on_with(made, tmp_path, monkeypatch):
    """Its stages were said to be from elsewhere, and what was finished was to be deleted."""
    out, now = tmp_path / "run", RecipeSpec.model_dump_json

    def before(spec, **more):
        return json.dumps(used(json.loads(now(spec, **more))))

    with monkeypatch.context() as patched:
        patched.setattr(RecipeSpec, "model_dump_json", before)
        assert go_on(made, out, at="within/done.json") == -signal.SIGKILL
    config, done = out / "config.yaml", out / "checkpoint" / "contrast" / "done.json"
    kept = config.read_bytes(), done.read_bytes()
    assert kept[0] != (made / "killed" / "config.yaml").read_bytes()
    assert go_on(made, out) == 0
    assert (config.read_bytes(), done.read_bytes()) == kept
    assert weights(out) == weights(made / "run")
