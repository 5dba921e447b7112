"""Columns of a table that are named alone: what they are taken for, and what is refused."""

import pandas as pd
import pytest
from small_tables import write_cohort

import medmcl
from medmcl.core.errors import CohortError

AGES = ["18,85", "63,1", "71,25", "1.044,5", "47"]


def cohort(folder, table, columns):
    return write_cohort(
        folder, table, subjects={"table": "table.csv", "id": "id", "split": {"everyone": "train"}},
        modalities={"clinic": {"reader": "table", "columns": columns}},
    )  # fmt: skip


def table(ages):
    frame = pd.DataFrame({"id": [f"p{k}" for k in range(5)], "age": ages})
    return frame.assign(crea=[1.1, 0.9, 2, None, 1], sex=["m", "f", "f", "m", "m"])


@pytest.mark.parametrize("columns", [["age", "crea", "sex"], "*"])
@pytest.mark.parametrize("ages", [AGES, [*AGES[:3], None, "unknown"], ["1,250"] * 5])
def test_numbers_with_decimal_commas_are_no_categories(tmp_path, columns, ages):
    folder = cohort(tmp_path / "c", table(ages), columns)
    said = f"1 column of numbers that have a comma.*got '{ages[0]}' in age"
    with pytest.raises(CohortError, match=said) as error:
        medmcl.open_cohort(folder)
    assert "age: category" in str(error.value)
    assert any("comma" in one.what for one in medmcl.check(folder) if one.level == "error")


@pytest.mark.parametrize("ages", [["18,85", "63,1", "x", "y", "z"], [18.85, 63, 71, 1, 2],
                                  ["1,2,3", "2,3,4", "a", "4,5,6", "1,5,6"]])  # fmt: skip
def test_few_such_cells_lists_and_numbers_are_taken_as_before(tmp_path, ages):
    opened = medmcl.open_cohort(cohort(tmp_path / "c", table(ages), ["age", "crea", "sex"]))
    kinds = {n: one.kind for n, one in opened.spec.modalities["clinic"].source.columns.items()}
    assert kinds == {"age": "number" if ages[1] == 63 else "category", "crea": "number",
                     "sex": "category"}  # fmt: skip


def test_who_says_that_they_are_words_is_believed(tmp_path):
    folder = cohort(tmp_path / "c", table(AGES), {"age": "category", "sex": "auto"})
    medmcl.open_cohort(folder)


def test_check_says_what_each_column_was_taken_for(tmp_path):
    told = str(medmcl.check(cohort(tmp_path / "c", table([1, 2, 3, 4, 5]), "*")).overview)
    assert "clinic columns: 2 numbers (age, crea), 1 category (sex)" in told
