"""A tower is frozen by its own settings or by the stage; neither undoes the other."""

import pytest

from medmcl.core.batch import InputShape
from medmcl.stages.recipe.file import read_recipe

SHAPES = {
    "ecg": InputShape(kind="ecg", shape=(12, 400)),
    "cmr": InputShape(kind="cmr", shape=(3, 32, 32)),
}


@pytest.mark.parametrize(
    ("tower", "stage", "trained"),
    [
        (False, [], {"ecg", "cmr"}),
        (True, [], {"cmr"}),
        (False, ["ecg"], {"cmr"}),
        (True, ["cmr"], set()),
    ],
)
def test_a_tower_is_frozen_by_its_settings_or_by_the_stage(tower, stage, trained):
    recipe = read_recipe("ecg_cmr_toy", {"towers.ecg.frozen": tower, "stages.mmcl.frozen": stage})
    spec = next(one for one in recipe.stages if one.name == "mmcl")
    towers = spec.build(recipe, SHAPES, seed=0)
    learning = {n for n in SHAPES if any(p.requires_grad for p in towers.tower(n).parameters())}
    assert learning == trained
