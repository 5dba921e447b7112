"""Another cohort whose table is coded otherwise than the run's: 0/1 for male/female, yes for 1."""

import numpy as np
import pytest
from small_tables import whas, write_cohort

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.headline import headline
from medmcl.stages.predict.predict import predict_people, predict_person
from medmcl.stages.run import pretrain, report

KINDS = {"age": "number", "chf": "number", "sex": "category"}
FEW = {"evaluate.bootstrap_draws": 100}


def write(folder, table, kinds=KINDS, **subjects):
    return write_cohort(
        folder, table, recipe="risk_table",
        subjects={"table": "table.csv", "id": "id", **subjects},
        modalities={"clinic": {"reader": "table", "columns": kinds}},
        tasks={"death": {"kind": "survival", "time": "lenfol", "event": "fstat", "unit": "days",
                         "horizons_years": [1]}},
    )  # fmt: skip


def people(count, seed):
    table, _ = whas(count, seed=seed)
    table["sex"] = np.where(table["gender"] == 1, "female", "male")
    return table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coding")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMCL_CACHE", str(folder / "cache"))
        patch.setattr(pretrain, "write_run_report", lambda *_, **__: None)
        home = write(folder / "home", people(300, 0))
        few = {"stages.results.bootstrap_draws": 100}
        yield medmcl.pretrain(home, out=folder / "run", device="cpu", overrides=few)


@pytest.fixture
def unpainted(monkeypatch):
    monkeypatch.setattr(report, "write_evaluation_report", lambda *_, **__: None)


def elsewhere(folder, change, kinds=KINDS, count=60):
    table = people(count, 1).assign(id=lambda t: "x" + t["id"])
    return write(folder, change(table), kinds, split={"everyone": "held_out"})


def as_digits(table):
    return table.assign(sex=(table["sex"] == "male").astype(int))


def as_words(table):
    return table.assign(chf=np.where(table["chf"] == 1, "yes", "no"))


def test_a_category_of_other_codes_is_refused_once_with_how_to_recode(run, tmp_path):
    there = elsewhere(tmp_path / "c", as_digits)
    with pytest.raises(CohortError) as error:
        medmcl.evaluate(run, there, out=tmp_path / "x", device="cpu", overrides=FEW)
    said = str(error.value)
    assert "1 column coded otherwise" in said
    assert "60 of 60 people" in said
    assert "'0'" in said
    assert "'1'" in said
    assert "recode sex as in training ('female', 'male')" in said
    assert said.count("sex") == 2


def test_a_number_in_words_is_refused_once_and_no_advice_goes_in_a_circle(run, tmp_path):
    for number, kinds in enumerate((KINDS, list(KINDS))):
        there = elsewhere(tmp_path / str(number), as_words, kinds)
        with pytest.raises((CohortError, ConfigError)) as error:
            medmcl.evaluate(run, there, out=tmp_path / "x", device="cpu", overrides=FEW)
        said = str(error.value)
        assert said.count("chf") == 2
        assert "recode chf as in training (numbers" in said
        assert "chf: category" not in said
    told = predict_people(run, there, device="cpu").table
    assert told["quality"].str.contains("column 'chf' must be a number, got").all()


def test_few_people_of_other_codes_are_told_once_a_column(run, tmp_path, unpainted):
    def some(table):
        return table.assign(sex=table["sex"].where(np.arange(len(table)) >= 7, "diverse"))

    there = elsewhere(tmp_path / "c", some)
    done = medmcl.evaluate(run, there, out=tmp_path / "x", device="cpu", overrides=FEW)
    (line,) = done.strange
    assert "7 of 60 people with a value have a category that training had not: 'diverse'" in line
    first = [str(one) for one in headline(Evaluation(title="x", strange=done.strange))]
    assert sum("diverse" in one for one in first) == 1
    told = predict_people(run, there, device="cpu")
    assert sum("diverse" in note for note in told.notes) == 1
    assert (told.table["quality"] == "ok").all()
    assert told.table.drop_duplicates("subject")["outside"].sum() >= 7


def test_predict_says_of_each_person_why_there_is_no_prediction(run, tmp_path):
    told = predict_people(run, elsewhere(tmp_path / "c", as_digits), device="cpu").table
    assert told["quality"].eq("clinic: recode sex as in training ('female', 'male')").all()
    assert told["predicted"].isna().all()
    one = predict_person(run, {}, {"age": "63", "chf": "0", "sex": "0"}, device="cpu")
    assert one.table["outside"].all()
    assert any("'0' (training: 'female', 'male')" in note for note in one.notes)
