"""Parts of another run, stage or step in a run folder: refused by name, or passed over."""

import shutil

import numpy as np
import pytest
import torch
from short_runs import unreported

import medmcl
from benchmarks.evaluation.memorised_pairs import LABS, memorising, write_recipe, write_told
from medmcl.core.errors import ArtefactError
from medmcl.engine.checkpoint import Checkpoints
from medmcl.evaluation.models.cox_model import Baseline
from medmcl.stages.predict.saved import KeptPrediction, load_prediction
from medmcl.stages.run.store import Store

ENDS = {
    "contrast": "checkpoint/contrast/step-00000004",
    "within": "checkpoint/within/step-00000002",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one recipe: of two seeds, and of the first seed with another learning rate."""
    home = tmp_path_factory.mktemp("runs")
    tree = memorising(4)
    keep = ("contrast", "groups", "within")
    tree["stages"] = [one for one in tree["stages"] if one["name"] in keep]
    for key in ("inputs", "towers"):
        tree[key] = {name: tree[key][name] for name in (LABS, "report")}
    tree["stages"][-1] |= {"steps": 2}
    write_told(home / "cohort", 0)
    write_recipe(home / "recipe.yaml", tree)
    faster = {"stages.within.optimiser.lr": 0.01}
    for name, seed, changed in (("own", 0, {}), ("other", 1, {}), ("faster", 0, faster)):
        made(home, home / name, seed=seed, overrides=changed)
    return home


def made(home, out, **settings):
    return unreported(home / "cohort", recipe=home / "recipe.yaml", out=out, **settings)


def swapped(runs, tmp_path, source, place):
    """A copy of the run of which one folder or file is another."""
    out = tmp_path / "run"
    shutil.copytree(runs / "own", out)
    target = out / place
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return out


@pytest.mark.parametrize(
    ("source", "place", "got"),
    [
        (f"own/{ENDS['contrast']}", ENDS["within"], "stage contrast"),
        (f"other/{ENDS['within']}", ENDS["within"], "seed 1"),
        ("other/checkpoint/within", "checkpoint/within", "seed 1"),
        (f"faster/{ENDS['within']}", ENDS["within"], "recipe "),
        ("faster/checkpoint/within", "checkpoint/within", "recipe "),
    ],
)
def test_weights_of_elsewhere_are_refused_by_name(runs, tmp_path, source, place, got):
    out = swapped(runs, tmp_path, runs / source, place)
    with pytest.raises(ArtefactError, match=r"(?s)within.*from elsewhere.*") as said:
        medmcl.load(out).learner("within", torch.device("cpu"))
    assert got in str(said.value)
    assert str(out / "checkpoint" / "within") in str(said.value.where)
    assert "--resume" in said.value.fix


@pytest.mark.parametrize(
    "name", ["preprocessing.json", "provenance.json", "train_records.safetensors"]
)
def test_a_file_of_another_recipe_is_refused_by_name(runs, tmp_path, name):
    run = medmcl.load(swapped(runs, tmp_path, runs / "faster" / name, name))
    stem, _, kind = name.partition(".")
    with pytest.raises(ArtefactError, match=rf"{name}: was put here from elsewhere: it is of reci"):
        run.tree(stem) if kind == "json" else run.arrays(stem)


def test_a_step_of_elsewhere_gives_way_to_the_one_before(tmp_path):
    own, other = ({"seed": seed, "stage": "a"} for seed in (0, 1))
    for folder, of in (("own", own), ("other", other)):
        for step in (1, 2):
            weights = {"w": torch.full((2,), step + 10.0 * of["seed"])}
            Checkpoints(tmp_path / folder, of).save(step, weights, {"step": step}, best=True)
    last = tmp_path / "own" / "step-00000002"
    for source in (tmp_path / "other" / last.name, tmp_path / "own" / "step-00000001"):
        shutil.rmtree(last)
        shutil.copytree(source, last)
        saved = Checkpoints(tmp_path / "own", own)
        assert saved.resume(point=False)[1] == {"step": 1}
        with pytest.raises(ArtefactError, match=r"step-00000002/whole\.json: was put here"):
            saved.weights("last")


@pytest.mark.parametrize("name", ["prediction.safetensors", "prediction.json"])
def test_what_a_run_keeps_for_predictions_is_its_own(tmp_path, name):
    for seed in (0, 1):
        run = store(tmp_path / str(seed), seed)
        KeptPrediction(heads={("a", "x"): Baseline(np.arange(3.0), np.arange(3.0) + seed)}).save(
            run
        )
    shutil.copy(tmp_path / "1" / name, tmp_path / "0")
    with pytest.raises(ArtefactError, match=rf"(?s){name}: was put here.*seed 1.*seed 0.*--resume"):
        load_prediction(store(tmp_path / "0", 0))


def store(path, seed):
    path.mkdir(exist_ok=True)
    found = Store(path)
    found.identity = {"seed": seed}
    return found


def test_a_copy_elsewhere_and_stages_that_are_reused_are_read(runs, tmp_path):
    def weights(run):
        return run.checkpoints("within").weights("last")

    shutil.copytree(runs / "own", tmp_path / "moved")
    moved = medmcl.load(tmp_path / "moved")
    again = made(runs, tmp_path / "again", reuse=moved)
    faster = {"stages.within.optimiser.lr": 0.01}
    mixed = made(runs, tmp_path / "b", reuse=f"{tmp_path / 'moved'}:contrast", overrides=faster)
    shutil.rmtree(tmp_path / "moved")
    for name, found in (("own", again), ("faster", mixed)):
        own, new = (weights(medmcl.load(one)) for one in (runs / name, found.path))
        assert all(torch.equal(own[key], new[key]) for key in own)
