"""One person from a table alone: no encoder, no outcome columns; and where events compete."""

import re

import numpy as np
import pandas as pd
import pytest
from changed_files import rewrite
from scipy.stats import binomtest
from short_runs import unreported
from small_tables import whas, write_cohort
from typed import typed

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort.locate import tables_of
from medmcl.stages.evaluate.saved_probes import load_probes
from medmcl.stages.predict.predict import predict_people, predict_person
from medmcl.stages.predict.saved import load_prediction

KEYS = ["subject", "task", "target", "horizon_years"]
OUTCOMES = ["lenfol", "fstat", "cardiac"]
DEATH = {"kind": "survival", "time": "lenfol", "unit": "days", "horizons_years": [1, 3]}
TASKS = {
    "death": {**DEATH, "event": "fstat"},
    "heart_death": {**DEATH, "event": "fstat == 1 and cardiac == 1",
                    "competing": "fstat == 1 and cardiac == 0"},
}  # fmt: skip


def write(folder, table):
    """A cohort whose covariates are every column: those of the outcomes are left out by the run."""
    return write_cohort(
        folder, table, recipe="risk_table", tasks=TASKS,
        subjects={"table": "table.csv", "id": "id"},
        modalities={"clinic": {"reader": "table", "columns": "*"}},
        missing={"bmi": [-9999, "not done"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of `risk_table` on a table of deaths, of which some are of another cause."""
    folder = tmp_path_factory.mktemp("table")
    table, _ = whas()
    table["bmi"] = table["bmi"].astype(object)
    table.loc[::9, "bmi"] = -9999
    table.loc[::18, "bmi"] = "not done"
    table["cardiac"] = np.random.default_rng(1).integers(0, 2, len(table))
    cohort = write(folder / "cohort", table)
    few = {"stages.results.predictions": True, "stages.results.bootstrap_draws": 100}
    run = unreported(cohort, out=folder / "run", overrides=few)
    return run, cohort, table, pd.read_parquet(run.path / "predictions-results.parquet")


@pytest.mark.parametrize("method", [None, "Kaplan-Meier"])
def test_risks_without_outcomes_are_those_that_were_scored(made, tmp_path, method):
    run, cohort, table, scored = made
    name = method or "covariates"
    ours = scored[scored["method"] == name]
    assert set(ours["task"]) == set(TASKS)
    whole = run.predict(cohort, method=method, device="cpu")
    few = ours["subject"].unique()[[0, 5]]
    for number, subjects in enumerate(([few[0]], few, None)):
        told = whole
        if subjects is not None:
            rows = table[table["id"].isin(subjects)].drop(columns=OUTCOMES)
            new = write(tmp_path / str(number), rows)
            told = run.predict(new, method=method, device="cpu")
            assert set(told["subject"]) == set(subjects)
        both = told.merge(ours, on=KEYS, suffixes=("", "_scored"))
        assert len(both) == (len(ours) if subjects is None else 4 * len(subjects))
        assert (both["predicted"] == both["predicted_scored"]).all()


def test_a_risk_where_events_compete_is_absolute(made):
    run, cohort, *_ = made
    told = run.predict(cohort, device="cpu").pivot_table(
        index="subject", columns=["task", "horizon_years"], values="predicted"
    )
    assert ("heart_death", "covariates") in load_prediction(run).rivals
    probe = next(one for one in load_probes(run)
                 if (one.task, one.method) == ("heart_death", "covariates"))  # fmt: skip
    alone = 1 - np.exp(-np.exp(probe.model.curve[-1]))
    assert 0 < alone < 1
    assert (told["heart_death", 3.0] < told["death", 3.0]).mean() > 0.95
    curves = run.predict(cohort, tasks=["heart_death"], curves=True, device="cpu")
    last = curves.groupby("subject")["survival"].last()
    assert (1 - last >= told["heart_death", 3.0].reindex(last.index) - 1e-12).all()


def test_kept_probes_give_absolute_risks_and_say_whose_labels_they_had(made, tmp_path, unpainted):
    """On the held-out people of the run itself the kept probes say what was scored."""
    run, cohort, _, scored = made
    done = medmcl.evaluate(run, cohort, out=tmp_path / "x", probe="frozen", device="cpu",
                           predictions=tmp_path / "people.parquet",
                           overrides={"evaluate.bootstrap_draws": 100})  # fmt: skip
    both = pd.read_parquet(tmp_path / "people.parquet").merge(
        scored, on=[*KEYS, "method", "kind"], suffixes=("", "_home")
    )
    assert len(both) == len(scored)
    assert (both["predicted"] == both["predicted_home"]).all()
    opened = medmcl.open_cohort(cohort)
    side = opened.samples["split"].to_numpy()
    rows = [
        row for row in done.results if row.metric in ("c_index", "brier_at_3y") and not row.versus
    ]
    for row in rows:
        event = opened.targets(row.task).values[side == "train", 1] > 0
        assert (row.train_subjects, row.tuning_subjects) == (len(event), (side == "tuning").sum())
        assert row.train_events == event.sum()
    assert len(rows) == 8
    risks = [r for r in done.results if r.metric == "brier_at_3y" and r.task == "heart_death"]
    assert {r.method for r in risks} == {"covariates", "Kaplan-Meier"}
    assert all(r.value is not None for r in risks)


def test_without_a_competing_event_it_is_said_whose_risk_is_told(made, tmp_path, unpainted):
    run, _, table, _ = made
    alone = {name: {k: v for k, v in keys.items() if k != "competing"}
             for name, keys in TASKS.items()}  # fmt: skip
    new = write(tmp_path / "new", table.assign(id="x" + table["id"], age=table["age"] + 0.5))
    rewrite(new / "cohort.yaml", lambda tree: tree | {"tasks": alone})
    done = medmcl.evaluate(run, new, out=tmp_path / "x", tasks=["heart_death"], device="cpu",
                           overrides={"evaluate.bootstrap_draws": 100})  # fmt: skip
    assert "heart_death: the cohort names no competing event" in " ".join(done.notes)
    assert any(r.metric == "brier_at_3y" and r.value is not None for r in done.results)


def test_people_like_those_in_training_are_seldom_flagged_and_strange_ones_are(made, tmp_path):
    run, cohort, table, _ = made
    found = predict_people(run, cohort, tasks=["death"], device="cpu")
    told = found.table.drop_duplicates("subject")
    held = told[~told["in_training"].astype(bool)]
    assert len(held) > 100
    assert binomtest(int(held["outside"].sum()), len(held), found.rate).pvalue > 1e-3
    strange = table.drop(columns=OUTCOMES).head(20)
    new = write(tmp_path / "strange", strange.assign(age=strange["age"] + 90))
    odd = run.predict(new, tasks=["death"], device="cpu")
    assert odd["outside"].all()
    assert odd["outside_of"].str.match(r"age 1\d\d \(train: ").all()
    assert (held["quality"] == "ok").all()


def test_a_number_that_can_hardly_be_true_is_not_ok_and_is_named(made, tmp_path):
    run, _, table, _ = made
    people = table.drop(columns=OUTCOMES).head(4).astype({"age": float, "hr": float})
    low, high = table["age"].min(), table["age"].max()
    people["age"] = [650.0, high + 0.3 * (high - low), *people["age"][2:]]
    people.loc[2, "hr"] = -9999.0
    people["id"] = list("abcd")
    told = predict_people(run, write(tmp_path / "new", people), tasks=["death"], device="cpu")
    one = told.table.drop_duplicates("subject").set_index("subject")
    assert re.fullmatch(
        r"implausible: age 650 \(train: [\d.]+ to [\d.]+\)", one.loc["a", "quality"]
    )
    assert re.fullmatch(r"implausible: hr -9999 \(train: .*\)", one.loc["c", "quality"])
    assert one.loc[["b", "d"], "quality"].tolist() == ["ok", "ok"]
    assert one["outside"].tolist() == [True, True, True, False]
    assert told.table["predicted"].notna().all()  # as an evaluation would score it
    assert set(told.curves["subject"]) == set("abcd")
    assert told.sentences[0] == (
        "4 people: 4 predicted, 2 of them from implausible values, 0 without a prediction"
    )


def test_a_column_that_counts_must_be_there(made, tmp_path):
    run, _, table, _ = made
    new = write(tmp_path / "new", table.drop(columns=[*OUTCOMES, "age"]).assign(Age=70))
    with pytest.raises(CohortError, match=r"no column 'age'.*did you mean 'Age'"):
        run.predict(new, device="cpu")


def test_one_person_by_values_alone(made):
    run, _, table, _ = made
    row = table.drop(columns=["id", *OUTCOMES]).iloc[3]
    told = predict_person(run, {}, {name: str(value) for name, value in row.items()}, device="cpu")
    assert told.table["quality"].eq("ok").all()
    whole = predict_people(run, made[1], device="cpu").table
    same = whole[whole["subject"] == table["id"].iloc[3]]
    assert told.table["predicted"].tolist() == same["predicted"].tolist()
    for wrong in ("63,5", "old"):
        with pytest.raises(ConfigError, match="'age' is a number in training") as caught:
            predict_person(run, {}, {"age": wrong}, device="cpu")
        assert str(caught.value.where) == f"--value age={wrong}"
    some = predict_person(run, {}, {"age": "63", "chf": "1"}, device="cpu").table
    assert "missing: the train mean stands in" in some["remarks"].iloc[0]
    assert (
        "bmi missing: the train mean stands in, and that it is missing counts"
        in (some["remarks"].iloc[0])
    )
    assert some["outside"].all()
    assert re.search(r"hr missing \(train: in 0 of \d+ people\)", some["outside_of"].iloc[0])
    assert "bmi" not in some["outside_of"].iloc[0]
    row["bmi"] = np.nan
    told = predict_person(run, {}, {n: str(v) for n, v in row.dropna().items()}, device="cpu").table
    assert not told["outside"].any()
    for code in ("-9999.0", "not done"):  # what the cohort.yaml of the run says is no number
        cells = {n: str(v) for n, v in row.items()} | {"bmi": code}
        pd.testing.assert_frame_equal(predict_person(run, {}, cells, device="cpu").table, told)


@pytest.fixture
def command(capsys):
    """The command line in this process: words to its exit code, what it printed, and its error."""

    def run(*words):
        code = typed(*words)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_the_command_counts_writes_and_says_that_the_files_are_about_people(
    made, tmp_path, command
):
    run, cohort, table, _ = made
    out = tmp_path / "risks.csv"
    code, told, _ = command("predict", run.path, "--cohort", cohort, "--out", out, "--workers", 0)
    assert code == 0
    assert f"{len(table)} people: {len(table)} predicted, 0 without a prediction" in told
    assert "this file is about people" in told
    assert len(pd.read_csv(out)) == 4 * len(table)
    assert len(pd.read_csv(tmp_path / "risks.curves.csv")) == 2 * 101 * len(table)
    assert (tmp_path / "risks.csv.README.txt").exists()
    again = command("predict", run.path, "--cohort", cohort, "--out", out)
    assert again[0] == 2
    assert "--overwrite" in again[2]
    read = next(one for one in tables_of(cohort, {}) if one.suffix == ".csv")
    before = read.read_bytes()
    of_it = (run.path, "--cohort", cohort, "--overwrite", "--out")
    for words in (
        ("predict", *of_it, read),
        ("embed", *of_it, read),
        ("evaluate", *of_it, tmp_path / "e", "--predictions", read),
    ):
        code, _, told = command(*words)
        assert (code, "the cohort is read from this file" in told) == (2, True), told
    assert read.read_bytes() == before
    code, told, _ = command("predict", run.path, "--value", "age=63", "--workers", 0)
    assert code == 0
    assert "death: risk by 1 year" in told


def test_an_evaluation_writes_what_was_said_of_people_and_warns_that_it_is_about_people(
    made, tmp_path, command, unpainted
):
    run, cohort, _, scored = made
    out = tmp_path / "people.csv"
    words = ("evaluate", run.path, "--cohort", cohort, "--out", tmp_path / "x", "--predictions",
             out, "--set", "evaluate.bootstrap_draws=100", "--workers", 0)  # fmt: skip
    code, told, _ = command(*words)
    assert code == 0
    assert f"predictions: {out}" in told
    assert "note: this file is about people" in told
    assert "this file is about people" in (tmp_path / "people.csv.README.txt").read_text()
    both = pd.read_csv(out, dtype={"subject": str}).merge(
        scored, on=[*KEYS, "method"], suffixes=("", "_home")
    )
    assert len(both) == len(scored)
    np.testing.assert_allclose(both["predicted"], both["predicted_home"], rtol=1e-15)
    code, _, told = command(*words)
    assert code == 2
    assert "people.csv" in told
    assert "--overwrite" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nobody is given to predict"),
        (("--value", "age"), "must look like NAME=VALUE"),
        (("--value", "age=1", "--value", "age=2"), "given twice"),
        (("--value", "agee=1"), "did you mean 'age'"),
        (("--value", "age=63", "--task", "deaht"), "did you mean 'death'"),
        (("--value", "age=old"), "is a number in training"),
        (("--cohort", "nowhere", "--out", "x.csv"), "there is no cohort 'nowhere'"),
        (("--cohort", "nowhere"), "--out predictions.parquet"),
    ],
)
def test_slips_end_with_code_2_and_say_how_to_go_on(made, command, words, said):
    code, _, told = command("predict", made[0].path, *words)
    assert code == 2
    assert said in told


def test_an_evaluation_of_nobody_ends_with_code_2(made, tmp_path, command):
    run, _, table, _ = made
    new = write(tmp_path / "new", table.assign(lenfol=np.nan, fstat=np.nan))
    code, _, told = command("evaluate", run.path, "--cohort", new, "--out", tmp_path / "out")
    assert code == 2
    assert "known" in told
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_prediction_of_nobody_ends_with_code_2_and_writes_nothing(made, tmp_path, command):
    run, _, table, _ = made
    gaps = {name: np.nan for name in table.columns if name != "id"}
    new = write(tmp_path / "new", table.head(2).assign(**gaps).drop(columns=OUTCOMES))
    out = tmp_path / "risks.csv"
    code, _, told = command("predict", run.path, "--cohort", new, "--out", out, "--workers", 0)
    assert code == 2
    assert "nobody gets a prediction" in told
    assert "2 people: 0 predicted, 2 without a prediction" in told
    assert f"medmcl check --cohort {new} --predict {run.path}" in told
    assert not list(tmp_path.glob("risks*"))
