"""A run resolves its recipe once, and builds a learner once to train it and once to read it."""

import json
from collections import Counter

import pytest
from short_runs import unreported
from tiny_runs import tiny

import medmcl
import medmcl.stages.run.run
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run import learners
from medmcl.stages.train import models, parts

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def counted(monkeypatch):
    """Times that a recipe was expanded, and that the learner of each stage was built."""
    found = Counter()
    expand, build = RecipeSpec.expanded, models.build_learner

    def expanded(*args):
        found["recipe"] += 1
        return expand(*args)

    def built(recipe, spec, *args):
        found[spec.name] += 1
        return build(recipe, spec, *args)

    monkeypatch.setattr(RecipeSpec, "expanded", expanded)
    for module in (models, parts):
        monkeypatch.setattr(module, "build_learner", built)
    return found


def test_a_run_resolves_its_recipe_once_and_builds_a_learner_at_most_twice(
    hearts, tmp_path, counted
):
    run = medmcl.pretrain(
        hearts, recipe="ecg_cmr_toy", out=tmp_path / "run", overrides=tiny("ecg_cmr_toy"),
        device="cpu",
    )  # fmt: skip
    assert counted.pop("recipe") == 1
    assert set(counted) == set(run.stages)
    assert max(counted.values()) == 2


def test_what_does_not_fit_in_memory_is_built_again(hearts, tmp_path, counted, monkeypatch):
    monkeypatch.setattr(learners, "MEMORY", 0)
    whole = tiny("ecg_mdm_toy")
    unreported(hearts, recipe="ecg_mdm_toy", out=tmp_path / "run", overrides=whole)
    assert counted["mdm"] > 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of typer, in click
@pytest.mark.usefixtures("unpainted")
def test_the_command_resolves_what_it_gives_to_the_run(hearts, tmp_path, counted):
    """Once more before that, of what ``--set`` says, before a table of the cohort is read."""
    from medmcl.cli.main import pretrain

    changes = [f"{key}={json.dumps(value)}" for key, value in tiny("ecg_mdm_toy").items()]
    pretrain(str(hearts), recipe="ecg_mdm_toy", out=tmp_path / "run", set_=changes, device="cpu")
    assert counted["recipe"] == 2
