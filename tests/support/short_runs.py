"""Runs without a report, whose figures would take most of their time, and recipes for them."""

from contextlib import contextmanager

import pytest
import yaml

import medmcl
from medmcl.stages.recipe.file import read_recipe


@contextmanager
def unwritten():
    """No report of a run or of an evaluation is written meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("report.write_run_report", "report.write_evaluation_report"):
            patch.setattr(f"medmcl.stages.run.{name}", lambda *_, **__: None)
        yield


def unreported(cohort, *, overrides=(), **more):
    """What `medmcl.pretrain` gives on the CPU, without writing the report."""
    with unwritten():
        return medmcl.pretrain(cohort, overrides=dict(overrides), device="cpu", **more)


def stage_of(recipe, name, /, **changes):
    """The tree of a stage of a recipe that ships, with changes."""
    tree = read_recipe(recipe).model_dump(mode="json", by_alias=True)
    return {**next(one for one in tree["stages"] if one["name"] == name), **changes}


def write_recipe(folder, extends, **tree):
    """Write a recipe into a folder; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    whole = {"extends": extends, "about": "a test", **tree}
    path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return path
