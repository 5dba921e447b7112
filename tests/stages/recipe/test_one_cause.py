"""What one mistake in a table makes is one finding of `check`."""

import pytest
from small_tables import whas, write_cohort

from medmcl.simulation.kinds import simulate
from medmcl.stages.recipe.inspect import check, written


def errors_of(folder):
    return [one for one in check(folder) if one.level == "error"], check(folder)


def write(folder, table, columns):
    return write_cohort(
        folder, table, recipe="risk_table_toy", subjects={"table": "table.csv", "id": "id"},
        modalities={"clinic": {"reader": "table", "columns": columns}},
        tasks={"death": {"kind": "binary", "column": "fstat"}},
    )  # fmt: skip


def test_a_typo_in_a_column_is_no_missing_modality_of_the_recipe(tmp_path):
    folder = write(tmp_path / "c", whas(80)[0], {"age": "number", "bmj": "number"})
    (hit,), _ = errors_of(folder)
    assert hit.code == "cohort.column"
    assert "did you mean 'bmi'" in hit.what


@pytest.mark.parametrize("columns", [["age", "bmi"], {"age": "number", "bmi": "number"}])
def test_decimal_commas_are_one_fault_and_nothing_is_said_of_the_other_columns(tmp_path, columns):
    table = whas(80)[0]
    table["bmi"] = [f"{value:.1f}".replace(".", ",") for value in table["bmi"]]
    (hit,), every = errors_of(write(tmp_path / "c", table, columns))
    assert "bmi" in hit.what
    assert not [one for one in every if one.code == "tabular.constant"]
    if isinstance(columns, dict):
        assert hit.what.startswith("each of its 80 records: column 'bmi' must be a number, got '")


def test_a_recipe_for_another_kind_is_still_a_fault(tmp_path):
    folder = write(tmp_path / "c", whas(80)[0], {"age": "number"})
    found = [one for one in check(folder, recipe="ecg_mdm") if one.level == "error"]
    assert any("does not have" in one.what or "of which it has none" in one.what for one in found)


def test_a_misspelt_section_of_modalities_is_one_fault(tmp_path):
    folder = write(tmp_path / "c", whas(80)[0], ["age", "bmi"])
    file = folder / "cohort.yaml"
    file.write_text(file.read_text().replace("modalities:", "modalites:"))
    (hit,), _ = errors_of(folder)
    assert "did you mean 'modalities'?" in hit.what


def test_records_are_not_held_to_defaults_in_place_of_settings_that_are_not_valid(tmp_path):
    simulate("heart", tmp_path / "c", {"subjects": 12, "form": "shards"})  # of 5 s, not 10
    found = check(tmp_path / "c", recipe="ecg_cmr_toy", overrides={"inputs.ecg.rate_hz": 10**9})
    assert [one.code for one in found if one.level == "error"] == ["recipe"]
    said = "records were looked at without the settings of inputs.ecg, and the recipe was not "
    assert said + "rehearsed: correct" in written(found).splitlines()[-2]
    sound = check(tmp_path / "c", recipe="ecg_cmr_toy")
    assert not [one for one in sound if one.level == "error"]
    assert "rehearsed" not in written(sound)


def test_a_check_says_that_a_recipe_it_cannot_read_was_not_tried(tmp_path):
    folder = write(tmp_path / "c", whas(80)[0], ["age", "bmi"])
    recipe = tmp_path / "own.yaml"
    recipe.write_text("{extends: risk_table_toy, set: {stages.results.bootstrap_draws: 1}}")
    found = check(folder, recipe=recipe)
    assert "without the settings of the recipe, and the recipe was not" in written(found)
    table = whas(80)[0].assign(bmi="1,5")
    found = check(write(tmp_path / "d", table, {"age": "number", "bmi": "number"}))
    assert [one.code for one in found if one.level == "error"] == ["tabular.number"]
    assert not found.skipped  # it is read, and trains nothing
