"""Another cohort whose table is coded otherwise than the run's: 0/1 for male/female, yes for 1."""

import re
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from changed_files import rewrite
from short_runs import unreported
from small_omics import write_omics, write_recipe
from small_tables import whas, write_cohort

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.reach import ColumnReach
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.sections import headline
from medmcl.evaluation.report.tripod import checklist
from medmcl.stages.predict.cohort import check_people
from medmcl.stages.predict.other_coding import OtherRange, other_ranges, said_once, shown_in
from medmcl.stages.predict.predict import predict_people, predict_person
from medmcl.stages.run import report

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
        home = write(folder / "home", people(300, 0))
        few = {"stages.results.bootstrap_draws": 100}
        yield unreported(home, out=folder / "run", overrides=few)


def evaluate(run, cohort, out, overrides=FEW, **more):
    return medmcl.evaluate(run, cohort, out=out, device="cpu", overrides=overrides, **more)


def elsewhere(folder, change, kinds=KINDS, count=60):
    table = people(count, 1).assign(id=lambda t: "x" + t["id"])
    return write(folder, change(table), kinds, split={"everyone": "held_out"})


def as_digits(table):
    return table.assign(sex=(table["sex"] == "male").astype(int))


def as_words(table):
    return table.assign(chf=np.where(table["chf"] == 1, "yes", "no"))


@pytest.mark.parametrize("count", [6, 60])
def test_a_category_of_other_codes_is_refused_once_with_how_to_recode(run, tmp_path, count):
    there = elsewhere(tmp_path / "c", as_digits, count=count)
    with pytest.raises(CohortError) as error:
        evaluate(run, there, tmp_path / "x")
    said = str(error.value)
    assert "1 column coded otherwise" in said
    assert f"{count} of {count} people" in said
    assert "'0'" in said
    assert "'1'" in said
    assert "recode sex as in training ('female', 'male')" in said
    assert said.count(", sex: ") == 1


def test_a_number_in_words_is_refused_once_and_no_advice_goes_in_a_circle(run, tmp_path):
    for number, kinds in enumerate((KINDS, list(KINDS))):
        there = elsewhere(tmp_path / str(number), as_words, kinds)
        with pytest.raises((CohortError, ConfigError)) as error:
            evaluate(run, there, tmp_path / "x")
        said = str(error.value)
        assert said.count("chf") == 2
        assert "recode chf as in training (numbers" in said
        assert "chf: category" not in said
        with pytest.raises(CohortError, match="recode chf as in training"):
            predict_people(run, there, device="cpu")


def test_few_people_of_other_codes_are_told_once_a_column(run, tmp_path, unpainted):
    def some(table):
        return table.assign(sex=table["sex"].where(np.arange(len(table)) >= 7, "diverse"))

    there = elsewhere(tmp_path / "c", some)
    done = evaluate(run, there, tmp_path / "x")
    (line,) = done.strange
    assert "7 of 60 people with a value have a category that training had not: 'diverse'" in line
    first = [str(one) for one in headline(Evaluation(title="x", strange=done.strange))]
    assert sum("diverse" in one for one in first) == 1
    told = predict_people(run, there, device="cpu")
    assert sum("diverse" in note for note in told.notes) == 1
    who = told.table.drop_duplicates("subject")
    none = who["predicted"].isna()
    assert none.sum() == 7
    said = "clinic: sex is 'diverse', training had 'female', 'male'"
    assert who.loc[none, "quality"].eq(said).all()
    assert who.loc[~none, "quality"].eq("ok").all()
    assert told.sentences[0] == "60 people: 53 predicted, 7 without a prediction"
    assert set(told.curves["subject"]) == set(who.loc[~none, "subject"])


@pytest.mark.parametrize("count", [1, 5, 60])
@pytest.mark.parametrize(
    "change", [as_digits, lambda table: table.assign(sex=table["sex"].str.upper())]
)
def test_predict_refuses_a_recoded_column_however_few_there_are(run, tmp_path, change, count):
    there = elsewhere(tmp_path / "c", lambda table: change(table).head(count))
    with pytest.raises(CohortError) as error:
        predict_people(run, there, device="cpu")
    assert f"clinic, sex: {count} of {count} pe" in str(error.value.got)
    assert "recode sex as in training ('female', 'male')" in str(error.value.fix)
    assert ("'MALE' is 'male'" in str(error.value.fix)) == (change is not as_digits)


def test_predict_gives_no_number_where_somebody_alone_has_a_value_in_a_seldom_column(run, tmp_path):
    def one(table):
        return table.assign(sex=np.where(np.arange(len(table)) == 3, "diverse", None))

    told = predict_people(run, elsewhere(tmp_path / "c", one), device="cpu").table
    who = told.drop_duplicates("subject")
    assert who["predicted"].isna().sum() == 1
    assert who.loc[who["predicted"].isna(), "quality"].str.contains("'diverse'").all()


@pytest.mark.parametrize("sex", ["0", "Male"])
def test_one_person_of_another_code_gets_no_number_but_how_to_recode(run, sex):
    values = {"age": "63", "chf": "0", "sex": sex}
    with pytest.raises(CohortError) as error:
        predict_person(run, {}, values, device="cpu")
    assert error.value.where == f"--value age=63 --value chf=0 --value sex={sex}"
    assert f"1 of 1 person with a value has a category that training had not: '{sex}'" in str(
        error.value.got
    )
    assert "recode sex as in training ('female', 'male')" in str(error.value.fix)


def test_where_rare_categories_were_taken_as_one_a_new_one_is_one_of_them(tmp_path):
    table = people(300, 0)
    table.loc[::40, "sex"] = [f"rare {number}" for number in range(8)]
    pooling = {"inputs.clinic.min_count": 5, "stages.results.bootstrap_draws": 100}
    home = write(tmp_path / "home", table)
    pooled = unreported(home, out=tmp_path / "run", overrides=pooling)
    told = predict_person(pooled, {}, {"age": "63", "chf": "0", "sex": "other"}, device="cpu")
    assert told.table["predicted"].notna().all()
    assert "a category that training had not 5 times: 'other'" in " ".join(told.notes)
    with pytest.raises(CohortError, match="60 of 60 people with a value have a category"):
        predict_people(pooled, elsewhere(tmp_path / "c", as_digits), device="cpu")


def test_the_same_holds_of_a_table_that_an_encoder_reads(tmp_path):
    home = write_omics(tmp_path / "home", 120)
    rewrite(home / "rna.csv", lambda table: table.assign(r_kit=np.where(table["r_3"] > 0, *"ab")))
    rna = pd.read_csv(home / "rna.csv")
    recipe = write_recipe(tmp_path / "recipe.yaml", tasks=["case"], baselines=["majority"])
    few = {"stages.align.steps": 3}
    encoded = unreported(home, recipe=recipe, out=tmp_path / "run", overrides=few)
    there = shutil.copytree(home, tmp_path / "there")
    who = rna["pid"].iloc[:5].tolist()
    rna.assign(r_kit=rna["r_kit"].where(~rna["pid"].isin(who), "c")).to_csv(
        there / "rna.csv", index=False
    )
    told = predict_people(encoded, there, device="cpu").table.set_index("subject")
    assert told.loc[who, "quality"].str.startswith("rna: r_kit is 'c', training had 'a', 'b'").all()
    assert told["predicted"].isna().sum() == 5 + 5  # and five people without any record
    plain = predict_people(encoded, there, method="majority", device="cpu").table
    assert plain.set_index("subject").loc[who, "predicted"].notna().all()  # it reads no table
    rna.assign(r_kit=rna["r_kit"].str.upper()).to_csv(there / "rna.csv", index=False)
    with pytest.raises(CohortError, match="recode r_kit as in training"):
        predict_people(encoded, there, device="cpu")


def test_a_number_in_another_unit_is_told_once_and_not_scored(run, tmp_path):
    there = elsewhere(tmp_path / "c", lambda table: table.assign(age=table["age"] * 12))
    checked = check_people(run, there)
    (one,) = [one for one in checked if one.code == "tabular.other_range"]
    assert one.level == "warning"
    assert one.where == "modalities.clinic, age"
    assert re.fullmatch(
        r"60 of 60 values \(median [\d.]+\) lie far outside [\d.]+ to [\d.]+ of training: "
        r"another unit\?",
        one.what,
    )
    with pytest.raises(CohortError) as error:
        evaluate(run, there, tmp_path / "x")
    assert f"clinic, age: {one.what}" in str(error.value.got)
    assert "write age in the unit of training" in str(error.value.fix)
    told = predict_people(run, there, device="cpu")
    assert told.notes.count(f"clinic, age: {one.what}") == 1
    assert told.table["quality"].str.startswith("implausible: age").all()


def test_many_columns_of_other_ranges_are_counted_the_worst_first():
    found = [OtherRange(modality="rna", column=f"g{n}", low=-5.7e-09, high=1, median=0, known=99,
                        outside=n + 1, beyond=n + 1, people=200) for n in range(20)]  # fmt: skip
    lines = said_once(found)
    assert lines[0].startswith("rna, g19: 20 of 99 values lie far outside 0 to 1")
    assert lines[8:] == ["12 more columns with values outside training"]


def labs(numbers, name="crp"):
    """A cohort of one table with one column."""
    places = [SimpleNamespace(subject=str(n), values={name: one}) for n, one in enumerate(numbers)]
    spec = SimpleNamespace(modalities={"labs": SimpleNamespace(cell_columns=(name,))})
    return SimpleNamespace(records={"labs": {"place": places}}, spec=spec)


@pytest.mark.parametrize(
    ("factor", "shift", "said"),
    [(0.1, 0, "about .* times smaller"), (10, 0, "about .* times larger"), (1.6, 0, None),
     (1, 4, None)],
)  # fmt: skip
def test_a_lab_in_a_tenth_of_its_unit_is_told_though_it_stays_in_range(factor, shift, said):
    rng = np.random.default_rng(0)
    home, rows = rng.lognormal(1.5, 1.2, 400), np.arange(400)
    home[:2] = 0.01, 900
    scale = {"state": {"scales": {"crp": (home.mean(), home.std())}}}
    standard = ((home - home.mean()) / home.std())[:, None]
    reach = ColumnReach.learn(standard, ["crp"], rows, rows)
    here = shift + factor * rng.lognormal(1.5, 1.2, 80)
    found = other_ranges(labs(here), "labs", scale, reach)
    if said is None:
        assert not found
        return
    assert re.search(said + " than in training: another unit", found[0].what)
    assert not found[0].is_elsewhere
    assert found[0].times == pytest.approx(factor, rel=0.5)
    assert "80" not in found[0].shown
    assert not other_ranges(labs(here[:19]), "labs", scale, reach)


def test_a_lab_of_which_some_are_in_another_unit_is_told():
    rng = np.random.default_rng(1)
    home, rows = rng.normal(90, 15, 150), np.arange(150)
    scale = {"state": {"scales": {"crea": (home.mean(), home.std())}}}
    standard = ((home - home.mean()) / home.std())[:, None]
    reach = ColumnReach.learn(standard, ["crea"], rows, rows)
    here = rng.normal(90, 15, 150)
    assert not other_ranges(labs(here, "crea"), "labs", scale, reach)
    here[:63] /= 88.4
    (found,) = other_ranges(labs(here, "crea"), "labs", scale, reach)
    assert re.match(
        r"6[3-5] of 150 values lie outside .* of training: another unit of some", found.what
    )
    assert "150" not in found.shown


def first_page(done):
    return [str(one) for one in headline(Evaluation(title="x", strange=done.strange))]


@pytest.mark.parametrize("count", [5, 60])
def test_most_numbers_outside_training_however_near_are_told_once_and_scored(
    run, tmp_path, unpainted, caplog, count
):
    there = elsewhere(tmp_path / "c", lambda table: table.assign(age=table["age"] / 7), count=count)
    (one,) = [one for one in check_people(run, there) if one.code == "tabular.other_range"]
    assert one.level == "warning"
    assert re.fullmatch(
        rf"{count} of {count} values \(median \d+(\.\d+)?\) lie outside [\d.]+ to [\d.]+ "
        r"of training: another unit\?", one.what
    )  # fmt: skip
    told = predict_people(run, there, device="cpu")
    assert told.notes.count(f"clinic, age: {one.what}") == 1
    assert told.table["outside"].all()
    if count < 60:
        return
    with caplog.at_level("INFO", "medmcl"):
        done = evaluate(run, there, tmp_path / "x")
    assert done.strange == (f"clinic, age: {one.what}",)
    assert sum(str(line).endswith(f"{one.what}") for line in first_page(done)) == 1
    assert caplog.messages.count(f"clinic, age: {one.what}") == 1  # what the terminal shows


def test_a_column_that_nobody_has_is_told_once_and_people_are_predicted_from_the_rest(
    run, tmp_path, unpainted
):
    def lost(table):
        return table.assign(age=None, sex=None)

    there = elsewhere(tmp_path / "c", lost)
    found = {one.where: one for one in check_people(run, there) if one.code == "tabular.nobody_has"}
    assert set(found) == {"modalities.clinic, age", "modalities.clinic, sex"}
    age = found["modalities.clinic, age"]
    assert age.level == "warning"
    assert age.what.startswith("none of 60 people has a value, which training had")
    told = predict_people(run, there, device="cpu")
    assert told.notes.count(f"clinic, age: {age.what}") == 1
    assert told.table["predicted"].notna().all()
    done = evaluate(run, there, tmp_path / "x")
    assert [line.split(":")[0] for line in done.strange] == ["clinic, age", "clinic, sex"]
    assert sum(f"clinic, age: {age.what}." in line for line in first_page(done)) == 1
    few = predict_people(run, elsewhere(tmp_path / "d", lost, count=1), device="cpu")
    assert not [note for note in few.notes if "none of" in note]  # her remarks say it
    assert few.table["remarks"].str.contains("age, sex missing").all()


def test_ends_of_a_range_are_shown_without_the_rounding_of_its_scale():
    assert [shown_in(one, -5.729e-09, 1) for one in (-5.729e-09, 1)] == ["0", "1"]
    assert [shown_in(one, 40.3, 90.5) for one in (40.300003, 90.5)] == ["40.3", "90.5"]
    assert shown_in(71.2345678, 71.2345678, 203, digits=6) == "71.235"


def test_some_impossible_numbers_are_told_once_a_column_and_scored(run, tmp_path, unpainted):
    def some(table):
        return table.assign(age=table["age"].where(np.arange(len(table)) >= 3, 900))

    there = elsewhere(tmp_path / "c", some)
    line = r"clinic, age: 3 of 60 values lie far outside .* of training: mistakes, or another unit?"
    done = evaluate(run, there, tmp_path / "x")
    (said,) = done.strange
    assert re.fullmatch(re.escape(line).replace(r"\.\*", ".*"), said)
    first = [str(one) for one in headline(Evaluation(title="x", strange=done.strange))]
    assert sum(said in one for one in first) == 1
    told = predict_people(run, there, device="cpu")
    assert told.notes.count(said) == 1
    assert told.table["predicted"].notna().all()
    found = {one.what: one.level for one in check_people(run, there)}
    assert found[said.removeprefix("clinic, age: ")] == "warning"


def test_fewer_than_a_handful_of_numbers_say_nothing_of_a_unit(run, tmp_path):
    there = elsewhere(tmp_path / "c", lambda table: table.assign(age=table["age"] * 12), count=4)
    told = predict_people(run, there, device="cpu").table
    assert told["quality"].str.startswith("implausible: age").all()


def test_follow_up_in_another_unit_is_refused_with_both_units(run, tmp_path):
    there = elsewhere(tmp_path / "c", lambda table: table.assign(lenfol=table["lenfol"] / 7))
    weeks = {**FEW, "cohort.tasks.death.unit": "weeks"}
    with pytest.raises(CohortError) as error:
        evaluate(run, there, tmp_path / "x", weeks)
    said = str(error.value.got)
    assert "death: asks for another unit (run: days, here: weeks)" in said
    assert "of 60 held-out people" not in said
    assert "give death in cohort.yaml as the run has it" in str(error.value.fix)


def test_table_one_of_another_cohort_is_of_those_who_were_scored(run, tmp_path, unpainted):
    table = people(80, 1).assign(id=lambda t: "x" + t["id"])
    there = write(tmp_path / "c", table)  # declares no split: all are scored, none by a draw
    done = evaluate(run, there, tmp_path / "x")
    data = report.described(medmcl.load(run.path), done.prepared.cohort, done)
    assert data.table_one.splits == ("scored",)
    assert [cell.count for cell in data.table_one.rows[0].cells] == [80]
    assert "The run kept no table of its training people" in data.table_one.notes[-1]
    cited = {one.part.code: one.value for one in checklist(data).cited}
    assert cited["16"] is cited["20c"] is None
    assert "80" in cited["21"]
    assert "80 people were scored" in str(headline(data)[0])
    parts = {part.title: " ".join(part.lines) for part in model_card(data).sections}
    assert "Split: none: all people are scored" in parts["Evaluation data"]
    assert "at random" not in parts["Evaluation data"]
    assert re.search(r"Split: fitted on train.* subjects\) of that cohort", parts["Training data"])
    assert "How the scored people compare" in parts["What is not known"]
    home = evaluate(run, there, tmp_path / "y", probe="refit")
    data = report.described(medmcl.load(run.path), home.prepared.cohort, home)
    assert data.table_one.splits == ("train", "tuning", "held_out")


def test_a_cohort_that_calls_everybody_train_has_no_split_in_its_report(run, tmp_path, unpainted):
    table = people(60, 1).assign(id=lambda t: "x" + t["id"])
    there = write(tmp_path / "c", table, split={"everyone": "train"})
    done = evaluate(run, there, tmp_path / "x")
    data = report.described(medmcl.load(run.path), done.prepared.cohort, done)
    assert data.flow[-1] == ("no held-out split", 60, 60)
    (scored,) = [part for part in model_card(data).sections if part.title == "Evaluation data"]
    assert "Subjects: 60 (no held-out split)." in scored.lines
    assert not [line for line in scored.lines if "train" in line]


def test_a_column_of_another_name_is_to_be_renamed_and_not_emptied(run, tmp_path):
    named = {"years": "number", "failure": "number", "sex": "category"}
    new = {"age": "years", "chf": "failure"}
    there = elsewhere(tmp_path / "c", lambda t: t.rename(columns=new), named)
    for ask in (run.predict, partial(check_people, run)):
        with pytest.raises(CohortError) as caught:
            ask(there)
        assert "the run reads age, chf" in str(caught.value)
        assert "age, chf under another name (the cohort has years, failure," in caught.value.fix
    with pytest.raises(ConfigError, match="the cohort has years, failure, which the run does not"):
        evaluate(run, there, tmp_path / "x")
    back = elsewhere(tmp_path / "b", lambda t: t)
    assert run.predict(back, device="cpu")["predicted"].notna().all()


def test_a_column_that_is_not_there_is_made_up_for_by_an_empty_one(run, tmp_path):
    """The way out that the refusal names is gone, step by step."""
    there = elsewhere(tmp_path / "c", lambda t: t.drop(columns="age"))
    with pytest.raises(CohortError, match="there is no column 'age'") as caught:
        run.predict(there, device="cpu")
    assert "add an empty column of that name to the table" in caught.value.fix
    fewer = {name: kind for name, kind in KINDS.items() if name != "age"}
    without = elsewhere(tmp_path / "w", lambda t: t.drop(columns="age"), fewer)
    with pytest.raises(ConfigError) as refused:
        evaluate(run, without, tmp_path / "x")
    assert "add an empty column of that name to the table" in refused.value.fix
    assert "recode" not in refused.value.fix
    empty = elsewhere(tmp_path / "e", lambda t: t.assign(age=np.nan))
    assert run.predict(empty, device="cpu")["predicted"].notna().all()
