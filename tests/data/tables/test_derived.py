"""``derive:``: columns that are made of others, under the names and in the units of a run."""

import numpy as np
import pandas as pd
import pytest

import medmcl
from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.expressions.expression import evaluate
from medmcl.data.tables.derived import told_through

COHORT = """
schema: medmcl/cohort@1
subjects: {{table: people.csv, id: id, split: {{random: {{seed: 0, tuning: 0.2, held_out: 0.3}}}}}}
modalities:
  clinic: {{reader: table, columns: {columns}}}
tasks:
  death: {{kind: binary, column: {task}}}
{more}
"""


@pytest.fixture
def hospital(tmp_path):
    """Give a function that writes a cohort of 60 people with a ``derive:`` and opens it."""

    def write(derive="", columns="[creatinine, sex]", task="died", **cells):
        rng = np.random.default_rng(0)
        table = pd.DataFrame(
            {
                "id": [f"p{k}" for k in range(60)],
                "crea_mgdl": rng.lognormal(0, 0.3, 60).round(2),
                "gender": rng.choice(["female", "male"], 60),
                "weight": rng.normal(80, 9, 60).round(),
                "died": rng.integers(0, 2, 60),
            }
        ).assign(**cells)
        table.to_csv(tmp_path / "people.csv", index=False)
        text = COHORT.format(columns=columns, task=task, more=f"derive: {derive}" if derive else "")
        (tmp_path / "cohort.yaml").write_text(text)
        return tmp_path

    return write


RENAMED = """{creatinine: 88.4 * crea_mgdl, sex: "recode(gender, 'female', 'F', 'male', 'M')"}"""


def test_other_names_units_and_codes_are_said_in_cohort_yaml(hospital):
    cohort = medmcl.open_cohort(hospital(RENAMED))
    table = cohort.subjects
    np.testing.assert_allclose(table["creatinine"], 88.4 * table["crea_mgdl"])
    assert [*table["sex"]] == [{"female": "F", "male": "M"}[one] for one in table["gender"]]
    assert (
        cohort.fingerprint
        != medmcl.open_cohort(hospital(RENAMED.replace("88.4", "88"))).fingerprint
    )


def test_a_column_may_replace_itself_and_read_those_before_it(hospital):
    cells = {"crea_mgdl": [1.0] * 59 + [None]}
    folder = hospital("{crea_mgdl: 2 * crea_mgdl, creatinine: 3 * crea_mgdl, sex: gender}", **cells)
    found = medmcl.open_cohort(folder).subjects
    assert found["crea_mgdl"].dropna().unique().tolist() == [2.0]
    assert found["creatinine"].dropna().unique().tolist() == [6.0]
    assert found["creatinine"].isna().sum() == 1


@pytest.mark.parametrize(
    ("derive", "what"),
    [
        ("{creatinine: 88.4 * crea_mgdI, sex: gender}", "'crea_mgdI'; did you mean 'crea_mgdl'"),
        ("{gender: lower(died), creatinine: crea_mgdl, sex: gender}", "is not text"),
        ("{weight: 2 * crea_mgdl, creatinine: crea_mgdl, sex: gender}", "has a column 'weight'"),
        ("{creatinine: crea_mgdl +, sex: gender}", "is not an expression"),
        ("{creatinine: crea_mgdl, sex: \"recode(gender, 'female', 1)\"}", "does not name: 'male'"),
        ("{creatinine: crea_mgdl, sex: \"recode(gender, 'male')\"}", "takes pairs"),
        ("{creatinine: crea_mgdl, sex: \"recode(gender, 'm', 1, 'f', 'F')\"}", "not both"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(hospital, derive, what):
    with pytest.raises(CohortError, match=what):
        medmcl.open_cohort(hospital(derive))


def test_rows_without_a_value_are_counted(hospital):
    folder = hospital("{creatinine: log(crea_mgdl), sex: gender}", crea_mgdl=[0.0] * 3 + [1.0] * 57)
    said = [str(one) for one in check_cohort(folder)]
    assert any("3 rows without a value, though all that it reads is there" in one for one in said)


def test_numbers_and_words_are_recoded():
    frame = pd.DataFrame({"sex": [0, 1, None, 1], "site": ["a", "b", None, "c"]})

    def of(text):
        found = evaluate(text, frame)
        return [one if ok else None for one, ok in zip(found.data, found.known, strict=True)]

    assert of("recode(sex, 0, 'F', 1, 'M')") == ["F", "M", None, "M"]
    assert of("recode(site, 'a', 'b', 'b', 'a')") == ["b", "a", None, "c"]  # at once, not in turn
    assert of("recode(nullif(site, 'c'), 'a', 1, 'b', 2) + 1") == [2, 3, None, None]


@pytest.mark.parametrize(
    ("task", "derive"),
    [
        ("died", "{creatinine: 2 * died, sex: gender}"),  # an input is made of the outcome
        ("lost == 1", "{lost: died, creatinine: died, sex: gender}"),  # both of one column
        ("creatinine > 1", "{creatinine: crea_mgdl, sex: crea_mgdl}"),
    ],
)
def test_an_input_that_tells_the_outcome_by_way_of_derive_is_noted(hospital, task, derive):
    said = [str(one) for one in check_cohort(hospital(derive, task=task))]
    assert any("which the modality 'clinic' shows" in one for one in said)
    assert not any("leaky_columns" in one for one in said)


def test_a_pattern_takes_no_column_that_tells_the_task(hospital):
    folder = hospital("{dead: died, kg: weight}", columns='"*"', task="dead == 1")
    assert {*medmcl.open_cohort(folder).spec.modalities["clinic"].cell_columns} == {
        "crea_mgdl", "gender", "weight", "kg",
    }  # fmt: skip


def test_told_through_by_slow_loops():
    columns = {"b": "a + 1", "c": "b * d", "e": "f", "g": "e + c"}
    assert told_through(columns, {"b"}) == {"b", "a", "a + 1", "c", "g"}
    assert {"f", "e", "g"} <= told_through(columns, {"f"})
    assert "a" not in told_through(columns, {"f"})


def test_a_long_chain_is_refused_by_number_and_never_a_traceback(hospital):
    chain = ", ".join(f"c{k}: c{k - 1} + 1" for k in range(1, 1_100))
    with pytest.raises(CohortError, match="at most 100"):
        medmcl.open_cohort(hospital(f"{{c0: weight, {chain}, creatinine: crea_mgdl, sex: gender}}"))
    columns = {f"c{k}": f"c{k - 1} + 1" for k in range(1, 1_100)}
    assert {"c0", "c1098"} <= told_through(columns, {"c1"})


def test_columns_of_dates_are_no_inputs_unless_called_categories(hospital):
    days = [f"2019-03-{k % 28 + 1:02d}" for k in range(60)]
    folder = hospital(columns='"*"', seen=days, told=[None, *days[1:]])
    assert {*medmcl.open_cohort(folder).spec.modalities["clinic"].cell_columns} == {
        "crea_mgdl", "gender", "weight",
    }  # fmt: skip
    with pytest.raises(CohortError, match=r"1 column of dates(.|\n)*seen: category"):
        medmcl.open_cohort(hospital(columns="[weight, seen]", seen=days))
    medmcl.open_cohort(hospital(columns="{weight: number, seen: category}", seen=days))
