"""`medmcl recipes` and `medmcl cohorts`: what ships, and one of them with its keys."""

import re

import pytest

from medmcl.core.config import Config
from medmcl.core.errors import MedmclError
from medmcl.core.key_help import help_of
from medmcl.core.overrides import parse_overrides
from medmcl.data.cohort.listing import one_cohort
from medmcl.stages.recipe.file import list_recipes, read_recipe
from medmcl.stages.recipe.listing import one_recipe
from medmcl.stages.recipe.listing_parts import PARTS, list_of_parts, one_part
from medmcl.stages.recipe.needs import list_of_recipes
from medmcl.stages.train.spec import TrainSpec


@pytest.mark.parametrize("name", list_recipes())
def test_what_a_recipe_prints_can_be_typed_and_gives_the_same_recipe(name):
    said = one_recipe(name)
    recipe = read_recipe(name)
    listed = said.partition("stages, in order\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == len(recipe.stages)
    for line, stage in zip(listed, recipe.stages, strict=True):
        assert re.split(r"\W*\{", stage.name)[0] == line.split()[0]
        assert f" {stage.stage}: " in line
    said = said.partition("what it says now")[2]
    typed = [line.strip().replace(" = ", "=", 1) for line in said.splitlines() if " = " in line]
    assert len(typed) > 1
    assert read_recipe(name, parse_overrides(typed)) == recipe


def test_every_key_of_a_stage_is_told_with_its_default_and_what_it_takes():
    said = one_recipe("ecg_cmr", "stages.mdm")
    for name, field in TrainSpec.model_fields.items():
        assert (f"  stages.mdm.{name}" in said) == (name not in ("stage", "name"))
        assert field.alias is None
    assert "stages.mdm.batch_size  (a whole number at least 2; default 128)" in said
    assert "stages.mdm.epochs = 400.0  (a number above 0 or null; default null)" in said
    assert "Which checkpoint later stages take" in said


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("stages.finetune.optimiser", "stages.finetune.optimiser.lr = 6.0e-06"),
        ("inputs.ecg", "inputs.ecg.rate_hz"),
        ("stages.mdm.objectives.masked", "stages.mdm.objectives.masked.modality = ecg"),
        ("towers.ecg.encoder", "towers.ecg.encoder.drop_path  (a number at least 0 below 1"),
        ("views.masked", "views.masked.modalities = [ecg]"),
    ],
)
def test_what_lies_below_a_key_is_told(key, line):
    assert f"  {line}" in one_recipe("ecg_cmr", key)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("stages.mdn", "did you mean 'mdm'"),
        ("inputs.ecgg", "did you mean 'ecg'"),
        ("stages.mdm.optimizer", "did you mean 'optimiser'"),
        ("nonsense", "stages.finetune"),
    ],
)
def test_a_key_that_is_not_there_is_refused_with_those_that_are(key, said):
    with pytest.raises(MedmclError, match=re.escape(said)):
        one_recipe("ecg_cmr", key)


def test_a_recipe_that_is_not_there_is_refused_and_the_list_says_how_to_see_one():
    with pytest.raises(MedmclError, match="did you mean 'ecg_cmr'"):
        one_recipe("ecg_cmrr")
    assert "medmcl recipes NAME" in list_of_recipes()


def test_a_cohort_is_told_by_its_modalities_and_tasks():
    said = one_cohort("acdc")
    assert re.search(r"cmr +nifti", said)
    assert re.search(r"group +multiclass", said)
    assert "recipe: none" in said


class Base(Config):
    """A base."""

    low: int = 3
    """Of the base."""


class Own(Base):
    """One of its kinds."""

    needed: float
    high: int | None = None
    """How high; et al. is no end. This is another sentence."""


def test_help_reads_the_lines_below_fields_of_a_class_and_its_bases():
    told = {one.name: one for one in help_of(Own)}
    assert (told["low"].about, told["low"].default) == ("Of the base", 3)
    assert told["needed"].needed
    assert told["high"].about == "How high; et al. is no end"
    assert told["high"].takes == "a whole number or null"


def test_every_part_is_listed_with_a_line_of_what_it_is():
    lines = list_of_parts().splitlines()
    said = [one.strip().split(maxsplit=1) for one in lines if one.startswith("  ")]
    assert len(said) == sum(map(len, PARTS.values()))
    assert all(len(one) == 2 and one[1].endswith(".") and len(one[1]) > 15 for one in said), said
    assert "  tabular               Tables of numbers and categories, a record a row." in lines
    assert any(one.split()[:4] == ["cox", "Fit", "a", "Cox"] for one in lines)


@pytest.mark.parametrize("kind", PARTS)
def test_a_kind_of_parts_is_listed_alone(kind):
    first, *lines, _ = one_part(kind).splitlines()
    assert first.startswith(f"{kind} (")
    assert [line.split()[0] for line in lines] == list(PARTS[kind])


def test_of_a_part_without_a_docstring_nothing_is_said_but_its_name(monkeypatch):
    class Bare:
        pass

    monkeypatch.setitem(PARTS["selectors"], "bare", Bare)
    assert "  bare" in list_of_parts("selectors").splitlines()


def test_keys_that_take_one_value_alone_are_not_listed():
    said = one_part("join")
    assert "  of  (a list of texts; needed)" in said
    for key in ("patience", "objectives", "label_fraction", "restart", "keep"):
        assert f"  {key}  (" not in said


def test_a_reader_stands_for_what_it_reads():
    assert one_part("wfdb") == one_part("ecg")
    assert one_part("nifti").count("in cohort.yaml, under modalities.NAME:") == 2
