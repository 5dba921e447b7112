"""A risk model from a table alone: a recipe of one evaluate stage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import rewrite
from read_pages import check_pages
from small_tables import WHAS, metabric, whas, write_cohort, write_whas

import medmcl
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.engine.record import Record
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.evaluation.aspects.tasks.tables import coefficient_section
from medmcl.evaluation.models.strength import ALIKE
from medmcl.stages.evaluate.saved_probes import load_probes
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.run.features import Covariates


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    """A run on a WHAS-like table with gaps, its cohort, and the log hazard of each person."""
    folder = tmp_path_factory.mktemp("whas")
    table, risk = whas()
    table.loc[::9, "bmi"] = np.nan
    write_whas(folder / "cohort", table)
    run = medmcl.pretrain(folder / "cohort", out=folder / "run", device="cpu")
    return run, medmcl.open_cohort(folder / "cohort"), risk


FEW = {"evaluate.bootstrap_draws": 100}


def kept_probe(run, task, method="covariates"):
    (probe,) = [one for one in load_probes(run) if (one.task, one.method) == (task, method)]
    return probe


def concordance(time, event, risk):
    """Harrell's C as loops."""
    right = pairs = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and time[i] < time[j]:
                pairs += 1
                right += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    return right / pairs


def rows_of(run):
    table = pd.read_csv(run.path / "results.csv")
    return table[table["versus"].isna()].set_index(["task", "method", "metric"])


def test_no_encoder_is_trained_and_the_whole_report_is_there(made):
    run, cohort, _ = made
    check_pages(run.path)
    assert not (run.path / "checkpoint").exists()
    told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    assert "covariates reach C-index" in " ".join(told["headline"])
    for part in ("calibration", "decision_curve", "risk_groups", "subgroups", "table_one",
                 "checklist", "fitted_on", "flow"):  # fmt: skip
        assert told[part], part
    assert {row["attribute"] for row in told["subgroups"]} >= {"age", "sex"}
    assert "No encoder is trained." in (run.path / "model_card.md").read_text(encoding="utf-8")
    found = rows_of(run)
    held = cohort.samples["split"].eq("held_out").sum()
    row = found.loc["death", "covariates", "c_index"]
    assert (row["split"], row["n"], row["protocol"]) == ("held_out", held, "cox")
    assert found.loc["death", "Kaplan-Meier", "c_index"]["value"] == 0.5
    fitted = [one for one in told["fitted_on"] if one["method"] == "covariates"]
    uses = {one["what"]: one["splits"] for one in fitted}
    assert uses["cox and its standardisation"] in (["train"], "train")
    assert uses["penalty or setting of cox"] in (["tuning"], "tuning")


def test_a_small_table_gets_no_null_model_and_says_how_its_penalty_was_chosen(tmp_path, cache):
    """150 people: of fifteen such cohorts three gave everybody the same risk, unsaid."""
    for seed in range(3):
        table, _ = whas(150, seed)
        folder = write_whas(tmp_path / f"c{seed}", table)
        few = {"stages.results.bootstrap_draws": 100}
        run = medmcl.pretrain(folder, out=tmp_path / f"r{seed}", device="cpu", overrides=few)
        (penalty,) = kept_probe(run, "death").about["chosen"]
        assert penalty <= 100
        written = pd.read_csv(run.path / "coefficients.csv")
        assert set(written["penalty"]) == {penalty}
        assert (
            "penalty chosen by cross-validation"
            in rows_of(run).loc["death", "covariates", "c_index"]["note"]
        )
        told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
        (line,) = [one for one in told["fitted_on"] if "penalty" in one["what"]]
        assert "train" in line["splits"]
        assert "tuning" in line["splits"]
        _, appendix = check_pages(run.path)
        assert f"Ridge penalty of death: {penalty:g}." in appendix


def test_a_signal_ends_an_evaluation_within_a_task_not_after_it(made, tmp_path):
    run, cohort, _ = made
    (spec,) = run.recipe.stages
    asked = []

    class Late(StopRequest):
        def check_interrupt(self, where):
            asked.append(where)
            if len(asked) > 12:  # more often than between the parts of a stage of one task
                raise Interrupted(where)

    record = Record(tmp_path / "m.jsonl", active=False)
    with pytest.raises(Interrupted):
        run_evaluate(spec, run, cohort, torch.device("cpu"), record, stop=Late())


def test_the_order_of_the_rows_of_a_table_changes_no_fold_and_no_model(tmp_path, cache):
    table, few = whas(150, 1)[0], {"stages.results.bootstrap_draws": 100}
    found = []
    for number in range(3):
        rows = np.random.default_rng(number).permutation(150) if number else np.arange(150)
        folder = write_whas(tmp_path / f"c{number}", table.iloc[rows])
        run = medmcl.pretrain(folder, out=tmp_path / f"r{number}", device="cpu", overrides=few)
        prepared = run.prepare(medmcl.open_cohort(folder), ())
        whose = dict(zip(prepared.samples["subject"], prepared.subjects, strict=True))
        found.append((whose, pd.read_csv(run.path / "coefficients.csv")))
    (whose, first), *others = found
    for other, again in others:
        assert other == whose
        assert again["penalty"].tolist() == first["penalty"].tolist()
        assert again["coefficient"].to_numpy() == pytest.approx(first["coefficient"], rel=1e-6)


def test_a_table_that_tells_nothing_is_said_to_on_page_one_and_by_predict(tmp_path, cache, caplog):
    rng = np.random.default_rng(3)
    table, _ = whas(400)
    table[["lenfol", "fstat"]] = table[["lenfol", "fstat"]].to_numpy()[rng.permutation(400)]
    folder = write_whas(tmp_path / "c", table)
    few = {"stages.results.bootstrap_draws": 100}
    with caplog.at_level("INFO"):
        run = medmcl.pretrain(folder, out=tmp_path / "run", device="cpu", overrides=few)
    assert f"warning: death: covariates: {ALIKE}" in caplog.text
    told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    assert f"death: covariates: {ALIKE}" in " ".join(told["headline"])
    said = run.predict(folder)
    assert set(said["quality"]) == {ALIKE}
    assert said.groupby("horizon_years")["predicted"].agg(np.ptp).max() < 0.02
    done = medmcl.evaluate(
        run, write_whas(tmp_path / "d", whas(300, 7)[0], split={"everyone": "held_out"}),
        out=tmp_path / "there", device="cpu", overrides=FEW,
    )  # fmt: skip
    assert any(ALIKE in row.note for row in done.results if row.method == "covariates")


def test_folds_say_that_predict_applies_another_fit(tmp_path, cache):
    folder = write_whas(tmp_path / "c", whas(150)[0])
    few = {"stages.results.bootstrap_draws": 100, "stages.results.folds": "5x1"}
    run = medmcl.pretrain(folder, out=tmp_path / "run", device="cpu", overrides=few)
    train = int((medmcl.open_cohort(folder).samples["split"] == "train").sum())
    kept = (
        f"predict applies none of them, but cox of covariates, fitted once on {train} people of "
        "train of cohort c; nobody was scored by it. The fits of the folds had 120 people, it has "
        "fewer, so expect it to do a little worse."
    )

    def beside_the_result(path):
        told = json.loads((path / "report.json").read_text(encoding="utf-8"))
        well = [line for line in told["headline"] if line.startswith("How well: death")]
        assert "covariates reach C-index" in well[0]
        notes = {line["note"] for line in told["fitted_on"]}
        assert {line["split"] for line in told["table_one"]} == {"scored out of fold"}
        (whole,) = [x["count"] for x in told["table_one"] if x["statistic"] == "subjects"]
        cited = {one["item"]: one["from_this_run"] for one in told["checklist"]}
        assert whole == 150
        for item in ("12a", "16", "20c"):
            how = "5 x 1-fold by subject, reading and probes refitted"
            assert f"Scored out of fold ({how})" in cited[item]
            assert "train" not in cited[item]
        assert "People scored: 150" in cited["12a"]
        return well[1], any("medmcl predict" in note for note in notes)

    said, in_ledger = beside_the_result(run.path)
    assert said.endswith(kept)
    assert in_ledger
    again = {"evaluate.bootstrap_draws": 100, "evaluate.folds": "5x1"}
    medmcl.evaluate(run, folder, out=tmp_path / "again", device="cpu", overrides=again)
    said, in_ledger = beside_the_result(tmp_path / "again")
    assert said.endswith(kept)
    assert not in_ledger  # nothing was kept of what was fitted there
    shutil.rmtree(run.path / "probes")
    (run.path / "files.json").unlink()  # as of a run that kept none
    medmcl.evaluate(run, folder, out=tmp_path / "bare", device="cpu", overrides=again)
    assert "the run keeps no model of covariates" in beside_the_result(tmp_path / "bare")[0]


def test_what_stands_in_for_a_cell_is_not_learned_from_whom_a_fold_scores(tmp_path, cache):
    table = whas(90)[0]
    table["bmi"] = table["bmi"].astype(float)
    table.loc[::3, "bmi"] = np.nan
    said = []
    split = medmcl.open_cohort(write_whas(tmp_path / "c", table)).subjects["split"].to_numpy()
    someone = np.flatnonzero((split == "train") & table["bmi"].notna())[0]
    for name, bmi in (("a", 25.0), ("b", 2500.0)):
        table.loc[someone, "bmi"] = bmi
        keys = {"stages.results.folds": "3 x 1", "stages.results.predictions": True}
        run = medmcl.pretrain(
            write_whas(tmp_path / name, table), recipe="risk_table_toy",
            out=tmp_path / f"run_{name}", device="cpu", overrides=keys,
        )  # fmt: skip
        found = pd.read_parquet(run.path / "predictions-results.parquet")
        said.append(found[found["method"] == "covariates"].groupby("subject")["predicted"].first())
    assert (said[0] == said[1]).sum() == 29  # all that he was scored with, whose means he is not in
    assert not (run.path / "folds").exists()  # nothing was trained: there is nothing to go on from


def test_refit_all_says_that_a_table_trains_nothing(tmp_path, cache, caplog):
    folder = write_whas(tmp_path / "c", whas(150)[0])
    few = {"stages.results.bootstrap_draws": 100, "stages.results.folds": "3x1",
           "stages.results.refit": "all"}  # fmt: skip
    with caplog.at_level("INFO"):
        run = medmcl.pretrain(folder, out=tmp_path / "run", device="cpu", overrides=few)
    assert "refit: all: the recipe has no stage to train, so nothing is trained" in caplog.text
    assert "stages anew" not in caplog.text
    row = rows_of(run).loc["death", "covariates", "c_index"]
    assert row["protocol"] == "cox, 3 x 1-fold by subject, reading and probes refitted"
    assert "nothing is trained; how inputs are read" in row["note"]
    told = (run.path / "report.json").read_text(encoding="utf-8")
    assert "how inputs are read, cox, its standardisation" in told
    assert "every stage" not in told


def test_the_report_is_of_the_kept_model_and_near_to_the_truth(made):
    run, cohort, risk = made
    probe = kept_probe(run, "death")
    read = Covariates.of(run, cohort, "clinic", is_frozen=True)
    eta = probe.predict(read.values).values[:, 0]
    held = (cohort.samples["split"] == "held_out").to_numpy()
    time, event = cohort.targets("death").values[held].T
    said = rows_of(run).loc["death", "covariates", "c_index"]["value"]
    assert said == pytest.approx(concordance(time, event, eta[held]), abs=1e-9)
    assert np.corrcoef(eta[held], risk[held])[0, 1] > 0.95
    assert ("bmi", "measured") in read.terms
    assert ("age", "measured") not in read.terms


def test_its_coefficients_are_those_of_scikit_survival(made):
    linear = pytest.importorskip(
        "sksurv.linear_model", reason="scikit-survival, an oracle, is not installed"
    )
    from sksurv.util import Surv

    run, cohort, _ = made
    probe = kept_probe(run, "death")
    train = (cohort.samples["split"] == "train").to_numpy()
    x = Covariates.of(run, cohort, "clinic", is_frozen=True).values[train]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    time, event = cohort.targets("death").values[train].T
    (strength,) = probe.about["chosen"]
    other = linear.CoxPHSurvivalAnalysis(alpha=strength, ties="efron", n_iter=200, tol=1e-12)
    other.fit(x, Surv.from_arrays(event > 0, time))
    raw = Covariates.of(run, cohort, "clinic", is_frozen=True).values[train]
    assert probe.model.weights[:, 0] * raw.std(axis=0) == pytest.approx(other.coef_, abs=1e-4)


def test_the_model_is_written_out_a_column_a_row(made):
    run, cohort, _ = made
    table = pd.read_csv(run.path / "coefficients.csv")
    number = table[table["is"] == "number"].set_index("column")
    flags = table[table["is"] == "measured"].set_index("column")
    assert set(number.index) == set(WHAS)
    assert number["coefficient"]["age"] == pytest.approx(0.06, abs=0.02)  # as it was simulated
    assert number["ratio_value"].to_numpy() == pytest.approx(np.exp(number["coefficient_per_sd"]))
    assert set(number["ratio"]) == {"hazard ratio"}
    half = number["coefficient_high"] - number["coefficient"]
    assert (half > 0).all()
    assert (number["coefficient"] - number["coefficient_low"]).to_numpy() == pytest.approx(half)
    assert number["coefficient_low"]["age"] < 0.06 < number["coefficient_high"]["age"]
    assert (number["coefficient_per_sd_high"] - number["coefficient_per_sd"]).to_numpy() == (
        pytest.approx((half * number["sd"]).to_numpy())
    )
    for end in ("low", "high"):
        assert number[f"ratio_{end}"].to_numpy() == pytest.approx(
            np.exp(number[f"coefficient_per_sd_{end}"])
        )
    assert set(table["interval"]) == {"95 % Wald, robust over people, the penalty as chosen"}
    eta = np.zeros(len(cohort.samples))
    for name in WHAS:
        cells = cohort.subjects[name].astype(float)
        train = cells[cohort.subjects["split"] == "train"]
        eta += number["coefficient"][name] * cells.fillna(train.mean()).to_numpy()
        eta += flags["coefficient"].get(name, 0.0) * cells.notna().to_numpy()
    read = Covariates.of(run, cohort, "clinic", is_frozen=True)
    said = kept_probe(run, "death").predict(read.values).values[:, 0]
    assert eta - eta.mean() == pytest.approx(said - said.mean(), abs=1e-5)


def test_the_appendix_shows_every_coefficient_and_few_are_led_to_from_the_first_page(made):
    run, _, _ = made
    table = pd.read_csv(run.path / "coefficients.csv")
    first, appendix = check_pages(run.path)
    assert len(table) == 12
    assert 'href="appendix.html#model"' in first
    part = appendix.split('<section id="model"')[1].split("</section>")[0]
    for row in table.itertuples():
        what = row.column if row._4 == "number" else f"{row.column} was measured"
        (line,) = [one for one in part.split("<tr>") if f">{what}<" in one]
        assert f"{row.coefficient:.3g} ({row.coefficient_low:.3g} to " in line
        assert f"{row.ratio_value:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})<" in line
    many = [{"task": "t", "target": "t", "column": f"x{n}", "coefficient": 1.0} for n in range(13)]
    assert not coefficient_section(many).lines
    assert len(coefficient_section(many).tables[0].rows) == 13
    assert coefficient_section(many[:12]).lines
    assert coefficient_section([]).is_empty


def test_other_people_are_scored_by_the_kept_model(made, tmp_path):
    run, cohort, _ = made
    table, _ = whas(250, seed=5)
    table.loc[::4, "hr"] = np.nan  # a column that had no gap in training
    there = write_whas(tmp_path / "elsewhere", table, split={"everyone": "held_out"})
    done = medmcl.evaluate(run, there, out=tmp_path / "out", device="cpu")
    (row,) = [
        r for r in done.results if (r.method, r.metric, r.versus) == ("covariates", "c_index", "")
    ]
    assert (row.protocol, row.n) == ("cox, frozen", 250)
    told = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    age = {x["split"]: x for x in told["table_one"] if x["level"] == "" and x["variable"] == "age"
           and x["statistic"] == "mean (SD)"}  # fmt: skip
    own = cohort.subjects
    assert age["training"]["mean"] == pytest.approx(
        own[own["split"] == "train"]["age"].mean(), abs=0.051
    )
    assert age["scored"]["mean"] == pytest.approx(table["age"].mean(), abs=0.051)
    assert 0 < age["scored"]["smd"] < 0.5
    cited = {one["item"]: one["from_this_run"] for one in told["checklist"]}
    assert "the largest standardised difference to training is" in cited["16"]
    assert cited["20c"] == cited["16"]
    scales = run.preprocessing["clinic"]["state"]["scales"]
    shown = json.loads((run.path / "probes" / "covariates.json").read_text())["clinic"]["terms"]
    cells = {n: ((table[n] - scales[n][0]) / scales[n][1]).fillna(0.0) for n in WHAS}
    features = np.stack(
        [cells[n] if what == "" else table[n].notna() for n, what in shown], axis=1
    ).astype(float)
    eta = features @ kept_probe(run, "death").model.weights[:, 0]
    assert row.value == pytest.approx(
        concordance(table["lenfol"], table["fstat"], eta),
        abs=1e-4,  # cells are kept in float32
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of typer, in click
def test_people_of_equal_rows_are_others_unless_there_are_too_many_of_them(
    made, tmp_path, cache, capsys
):
    from medmcl.cli.command import say_report

    run, cohort, _ = made
    table, _ = whas()
    table.loc[::9, "bmi"] = np.nan
    table["id"] = "p" + table["id"]  # the same people under other ids
    there = write_whas(tmp_path / "again", table, split={"everyone": "held_out"})
    done = medmcl.evaluate(run, there, out=tmp_path / "x", device="cpu", overrides=FEW)
    assert done.results[0].n == (cohort.samples["split"] == "held_out").sum()
    learned = len(cohort.samples) - done.results[0].n
    said = f"{learned} subjects have a record that the run learned from: not scored"
    assert said in done.notes
    say_report(tmp_path / "x")
    assert f"{said}." in capsys.readouterr().out
    told = json.loads((tmp_path / "x" / "report.json").read_text())
    assert f"Who: {said}." in told["headline"]
    assert [step["subjects"] for step in told["flow"][-2:]] == [len(table), done.results[0].n]
    narrow = {"clinic": {"reader": "table", "columns": ["gender", "chf"]}}
    said = {"tasks": {"miord": {"kind": "binary", "column": "miord"}}, "modalities": narrow}
    own = write_cohort(
        tmp_path / "narrow", table, subjects={"table": "table.csv", "id": "id"}, **said
    )
    few = {"stages.results.bootstrap_draws": 100}
    run = medmcl.pretrain(
        own, recipe="risk_table_toy", out=tmp_path / "run", device="cpu", overrides=few
    )
    others, _ = whas(200, seed=4)
    there = write_cohort(
        tmp_path / "others", others,
        subjects={"table": "table.csv", "id": "id", "split": {"everyone": "held_out"}}, **said,
    )  # fmt: skip
    done = medmcl.evaluate(run, there, out=tmp_path / "y", device="cpu", overrides=FEW)
    assert done.results[0].n == 200
    assert "200 subjects with a row or text like one" in " ".join(done.notes)


def test_a_cohort_of_outcomes_alone_is_told_what_it_lacks(tmp_path):
    people = pd.DataFrame({"id": range(40), "old": [0, 1] * 20})
    tasks = {"old": {"kind": "binary", "column": "old"}}
    folder = write_cohort(
        tmp_path / "c", people, subjects={"table": "table.csv", "id": "id"}, tasks=tasks
    )
    with pytest.raises(ConfigError, match="the cohort has no modality to read") as caught:
        medmcl.pretrain(folder, out=tmp_path / "none")
    assert "got:" not in str(caught.value)
    assert "evaluate --embeddings" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        medmcl.pretrain(folder, recipe="risk_table", out=tmp_path / "none")
    assert all(
        line.rstrip() not in ("  got:", "  expected:") for line in str(caught.value).split("\n")
    )


def test_nine_columns_and_a_time_need_neither_ids_nor_a_split(tmp_path, cache):
    table, risk = metabric()
    task = {"kind": "survival", "time": "duration", "event": "event", "unit": "months",
            "horizons_years": [5]}  # fmt: skip
    folder = write_cohort(
        tmp_path / "metabric",
        table,
        subjects={"table": "table.csv"},
        modalities={"patient": {"reader": "table", "columns": "*"}},
        tasks={"death": task},
    )
    with pytest.raises(ConfigError, match="no recipe is named") as caught:
        medmcl.pretrain(folder, out=tmp_path / "none")
    assert "--recipe risk_table " in str(caught.value)
    run = medmcl.pretrain(folder, recipe="risk_table_toy", out=tmp_path / "run", device="cpu")
    cohort = medmcl.open_cohort(folder)
    assert cohort.spec.modalities["patient"].cell_columns == [f"x{n}" for n in range(9)]
    assert [f.what for f in cohort.findings if f.code == "cohort.no_id"] == [
        "no `id:` is given: each of the 700 rows is taken for one person"
    ]
    assert set(cohort.samples["split"]) == {"train", "tuning", "held_out"}
    held = (cohort.samples["split"] == "held_out").to_numpy()
    truth = concordance(*table.loc[held, ["duration", "event"]].to_numpy().T, risk[held])
    assert rows_of(run).loc["death", "covariates", "c_index"]["value"] == pytest.approx(
        truth, abs=0.03
    )


def test_a_forgotten_id_is_not_taken_for_rows_of_different_people(tmp_path):
    table, _ = whas(40)
    write_whas(tmp_path, table)
    text = (tmp_path / "cohort.yaml").read_text(encoding="utf-8")
    (tmp_path / "cohort.yaml").write_text(text.replace("  id: id\n", ""), encoding="utf-8")
    with pytest.raises(CohortError, match="the column 'id' is called as one that names subjects"):
        medmcl.open_cohort(tmp_path)


def test_what_a_task_is_made_of_is_no_covariate_of_it(tmp_path, cache):
    table, _ = metabric(600)
    table["late"] = (table["duration"] > table["duration"].median()).astype(int)
    table["copy"] = table["late"] * 2 + 1
    given = {
        "subjects": {"table": "table.csv"},
        "modalities": {"patient": {"reader": "table", "columns": ["x1", "x2", "late", "copy"]}},
        "tasks": {
            "late": {"kind": "binary", "column": "late", "leaky_columns": ["copy"]},
            "x0": {"kind": "regression", "column": "x0"},
        },
    }
    folder = write_cohort(tmp_path / "c", table, **given)
    run = medmcl.pretrain(folder, recipe="risk_table_toy", out=tmp_path / "run", device="cpu")
    row = rows_of(run).loc["late", "covariates", "auroc"]
    assert row["low"] < 0.5 < row["high"]  # nothing else of the table tells it
    assert np.abs(kept_probe(run, "late").model.weights).max() < 1
    told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    said = "late: late, copy of patient left out of the covariates"
    assert [note for note in told["notes"] if note.startswith(said)]
    assert rows_of(run).loc["x0", "covariates", "r2"]["protocol"] == "linear_probe"
    # elsewhere a column that the kept model reads is made of the outcome
    there = write_cohort(
        tmp_path / "d", table.drop(columns="x1"), **given, derive={"x1": "2 * late"}
    )
    medmcl.evaluate(run, there, out=tmp_path / "e")
    told = json.loads((tmp_path / "e" / "report.json").read_text(encoding="utf-8"))
    assert "Beware: late: x1, late, copy of patient left out" in "\n".join(told["headline"])


def test_a_mixed_table_with_gaps_categories_and_odd_cells(tmp_path, cache):
    table, _ = whas(600)
    table["fstat"] = np.where(table["fstat"] == 1, "dead", "alive")
    table.loc[:4, "fstat"] = None
    table["constant"] = 3
    table["stage"] = np.where(table["chf"] == 1, "late", "early")
    table.loc[5:49, "stage"] = None
    table["ef"] = 60 - 0.3 * (table["age"] - 70) + np.where(table["stage"] == "late", -15, 0)
    folder = write_whas(tmp_path / "c", table)

    def mixed(tree):
        tree["modalities"]["clinic"]["columns"] = {
            "age": "number", "bmi": "number", "constant": "number", "stage": "category",
        }  # fmt: skip
        tree["tasks"] = {
            "death": {**tree["tasks"]["death"], "event": "fstat == 'dead'"},
            "ef": {"kind": "regression", "column": "ef"},
            "stage": {"kind": "multiclass", "column": "stage", "classes": ["early", "late"]},
        }

    rewrite(folder / "cohort.yaml", mixed)
    few = {"stages.results.bootstrap_draws": 100}
    run = medmcl.pretrain(folder, out=tmp_path / "run", device="cpu", overrides=few)
    found = rows_of(run)
    assert found.loc["death", "covariates", "c_index"]["low"] > 0.5
    assert found.loc["ef", "covariates", "r2"]["value"] > 0.95
    cohort = medmcl.open_cohort(folder)
    read = Covariates.of(run, cohort, "clinic", is_frozen=True)
    rows = pd.read_csv(run.path / "coefficients.csv").query("task == 'ef'")
    coefficient = rows.set_index(["column", "is"])["coefficient"]
    train = cohort.subjects["split"] == "train"
    hand = np.full(len(table), rows.query("column == 'intercept'")["coefficient"].item())
    for name in ("age", "bmi"):
        cells = cohort.subjects[name].astype(float)
        hand += coefficient[name, "number"] * cells.fillna(cells[train].mean()).to_numpy()
    for level in ("early", "late"):
        is_so = (cohort.subjects["stage"] == level).to_numpy()
        hand += coefficient["stage", level] * is_so
    hand += coefficient["stage", "measured"] * cohort.subjects["stage"].notna().to_numpy()
    said = kept_probe(run, "ef").predict(read.values).values[:, 0]
    assert hand == pytest.approx(said, abs=1e-4)
    files = [pd.read_csv(run.path / f"{name}.csv") for name in ("coefficients", "baseline")]
    risks = risks_by_hand(cohort.subjects, *(one.query("task == 'death'") for one in files))
    predicted = run.predict(folder, tasks=["death"])
    assert len(predicted) == 2 * len(table)
    for row in predicted.itertuples():
        assert row.predicted == pytest.approx(risks[row.subject, row.horizon_years], abs=1e-6)
    _, appendix = check_pages(run.path)
    at = files[1].dropna(subset="horizon_years")
    assert at["time"].tolist() == [365.25, 3 * 365.25]
    for row in at.itertuples():
        assert f">{row.survival:.6g}<" in appendix
        assert f">{row.log_cumulative_hazard:.6g}<" in appendix
    assert len(files[1]) > 50  # the other rows are of event times
    (per,) = set(rows["ratio_per"].dropna()) - {"sd", "reference", "early against not measured"}
    assert (per, f">{per}<" in appendix) == ("late against early", True)
    assert "written out in coefficients.csv and baseline.csv" in appendix
    assert "constant" not in {column for column, _ in read.terms}
    assert {("stage", "early"), ("stage", "late"), ("stage", "measured")} <= {*read.terms}
    told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    assert [f for f in told["findings"] if f["code"] == "tabular.constant"]


def risks_by_hand(people, coefficients, baseline):
    """Risk of each (person, horizon) from the two files alone."""
    eta = np.zeros(len(people))
    for row in coefficients.itertuples():
        kind, cells = row._4, people[row.column]
        if kind == "number":
            values = cells.astype(float).fillna(row.if_missing)
        elif kind == "measured":
            values = cells.notna().astype(float)
        else:
            values = (cells == kind).where(cells.notna(), row.if_missing).astype(float)
        eta += row.coefficient * values.to_numpy()
    return {
        (name, row.horizon_years): 1 - row.survival ** np.exp(one)
        for row in baseline.dropna(subset="horizon_years").itertuples()
        for name, one in zip(people.index, eta, strict=True)
    }


def test_an_embedding_cannot_be_had_of_a_run_without_encoder(made, tmp_path):
    run, cohort, _ = made
    with pytest.raises(ArtefactError, match="has no encoder"):
        run.embed(cohort)
    table, _ = whas(30)
    there = write_whas(tmp_path / "c", table.rename(columns={}), split={"everyone": "held_out"})
    text = (there / "cohort.yaml").read_text(encoding="utf-8").replace("clinic:", "other:")
    (there / "cohort.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="the cohort has no 'clinic', the modality whose columns"):
        medmcl.evaluate(run, there, out=tmp_path / "out", device="cpu")


def test_nothing_but_the_files_names_the_recipe():
    stages = read_recipe("risk_table").stages
    assert [one.stage for one in stages] == ["evaluate"]
    code = [path for path in Path(medmcl.__file__).parent.rglob("*.py")
            if "risk_table" in path.read_text(encoding="utf-8")]  # fmt: skip
    assert not code
