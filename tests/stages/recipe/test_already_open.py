"""What is open, or read, takes no settings any more: they are refused, not passed over."""

import re

import pytest

import medmcl
from medmcl.core.errors import CohortError, OverrideError
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.on_cohort import recipe_on

RECIPE = "ecg_mdm_toy"
LATER = {"cohort.on_bad_record": "exclude"}


@pytest.mark.parametrize(
    "asks",
    [
        lambda cohort, out: medmcl.pretrain(cohort, recipe=RECIPE, out=out, overrides=LATER),
        lambda cohort, out: medmcl.check(cohort, overrides=LATER),
        lambda cohort, out: medmcl.evaluate(None, cohort, out=out, embeddings={"x": "x.csv"},
                                            overrides=LATER),
        lambda cohort, out: recipe_on(cohort, RECIPE, LATER),
    ],
    ids=["pretrain", "check", "evaluate", "recipe_on"],
)  # fmt: skip
def test_an_open_cohort_takes_no_overrides(hearts, tmp_path, asks):
    words = r"takes no overrides any more(.|\n)*cohort\.on_bad_record=exclude(.|\n)*open_cohort"
    with pytest.raises(CohortError, match=words):
        asks(medmcl.open_cohort(hearts), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overrides_that_it_was_opened_with_may_be_said_again_and_are_kept(hearts):
    opened = medmcl.open_cohort(hearts, LATER)
    assert opened.overrides == {"on_bad_record": "exclude"}
    assert recipe_on(opened, RECIPE, LATER)[0] is opened


def test_a_recipe_that_was_read_takes_no_overrides(hearts):
    opened, spec = recipe_on(hearts, read_recipe(RECIPE), {}), {"stages.mdm.steps": 2}
    assert opened[1].name == RECIPE
    with pytest.raises(OverrideError, match=re.escape("stages.mdm.steps=2")):
        recipe_on(hearts, read_recipe(RECIPE), spec)
