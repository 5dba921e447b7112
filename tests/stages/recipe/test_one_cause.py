"""What one mistake in a table makes is one finding of `check`."""

import pytest
from small_tables import whas, write_cohort

from medmcl.stages.recipe.inspect import check


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
