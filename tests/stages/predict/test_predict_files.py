"""One person from single files, and fine-tuned heads, of a run over ECG and CMR."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

import medmcl
from medmcl.core.errors import CohortError, ConfigError, MedmclError
from medmcl.stages.predict.predict import predict_person

KEYS = ["subject", "task", "target", "horizon_years"]

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def scored(trained, hearts, tmp_path_factory):
    """What the run's own evaluation said of each person that was scored."""
    folder = tmp_path_factory.mktemp("scored")
    done = medmcl.evaluate(trained.path, hearts, out=folder / "report", device="cpu",
                           predictions=folder / "people.parquet")  # fmt: skip
    assert "about people" in (folder / "people.parquet.README.txt").read_text()
    return done, pd.read_parquet(folder / "people.parquet")


@pytest.mark.parametrize("method", [None, "covariates", "covariates + embedding", "fine-tuned"])
def test_every_method_says_of_one_person_what_it_said_of_all(trained, hearts, scored, method):
    _, people = scored
    told = trained.predict(hearts, method=method, device="cpu")
    name = method or "MDM + contrastive"
    ours = people[(people["method"] == name) & (people["split"] == "held_out")]
    both = told.merge(ours, on=KEYS, how="inner", suffixes=("", "_scored"))
    assert len(both) == len(ours) > 20
    assert (both["predicted"] == both["predicted_scored"]).all()
    assert set(told["method"]) == {name}


def test_who_was_scored_is_written_with_what_happened(scored, hearts):
    done, people = scored
    rows = {(r.task, r.method): r.n for r in done.results if r.metric == "auroc" and not r.versus}
    for (task, method), count in rows.items():
        assert len(people[(people["task"] == task) & (people["method"] == method)]) == count
    table = pd.read_csv(hearts / "participants.tsv", sep="\t", dtype={"subject_id": str})
    truth = table.set_index("subject_id")
    infarct = people[(people["task"] == "infarct") & (people["method"] == "covariates")]
    assert (infarct["observed"].to_numpy() == truth["infarct"].loc[infarct["subject"]]).all()
    death = people[(people["task"] == "heart_failure") & (people["method"] == "covariates")]
    assert (death["time"].to_numpy() == truth["hf_days"].loc[death["subject"]]).all()
    ranks = death.groupby("horizon_years")[["predicted", "log_hazard"]].corr("spearman")
    assert (ranks.to_numpy() > 0.99).all()


def record_of(hearts):
    """A WFDB record of somebody, and the cohort that reads such files."""
    header = sorted((hearts / "ecg").glob("*.hea"))[0]
    return header.stem, header


def test_one_wfdb_file_gets_what_the_cohort_of_files_gets(trained, hearts, tmp_path):
    subject, header = record_of(hearts)
    told = trained.predict(hearts / "cohort_files.yaml", device="cpu").set_index("subject")
    stem = header.with_suffix("")
    for path in (header, stem):
        one = predict_person(trained, {"ecg": path}, device="cpu")
        assert set(one.table["subject"]) == {subject}
        assert one.table["predicted"].tolist() == told.loc[[subject], "predicted"].tolist()
    assert not list(tmp_path.iterdir())
    assert one.sentences[0] == "1 person: 1 predicted, 0 without a prediction"


def test_an_array_is_read_as_the_run_read_its_own(trained, hearts, tmp_path):
    people = pd.read_csv(hearts / "participants.tsv", sep="\t", dtype={"subject_id": str})
    who = people[people["has_ecg"] == 1].iloc[5]
    ecg = np.load(hearts / "shards" / "ecg.npy", mmap_mode="r")[int(who["ecg_row"])]
    np.save(tmp_path / "one.npy", ecg)
    one = predict_person(trained, {"ecg": tmp_path / "one.npy"}, device="cpu").table
    told = trained.predict(hearts, device="cpu").set_index("subject").loc[[who["subject_id"]]]
    assert one["predicted"].tolist() == told["predicted"].tolist()
    assert one["in_training"].tolist() == told["in_training"].tolist()
    np.save(tmp_path / "microvolts.npy", ecg * 1000)
    with pytest.raises(CohortError, match=r"wrong_units"):
        predict_person(trained, {"ecg": tmp_path / "microvolts.npy"}, device="cpu")
    said = predict_person(trained, {"ecg": tmp_path / "microvolts.npy"}, device="cpu",
                          overrides={"cohort.modalities.ecg.units": "uV"})  # fmt: skip
    assert said.table["predicted"].to_numpy() == pytest.approx(
        one["predicted"].to_numpy(), rel=1e-3
    )
    np.save(tmp_path / "few.npy", ecg[:8])
    with pytest.raises(CohortError, match="record cannot be used"):
        predict_person(trained, {"ecg": tmp_path / "few.npy"}, device="cpu")


def test_columns_are_given_by_a_row_or_by_value(trained, hearts, tmp_path):
    (tmp_path / "her.csv").write_text("age,sex,bmi,name\n63,F,27.5,x\n")
    about = {"method": "covariates", "device": "cpu"}
    row = predict_person(trained, {"clinic": tmp_path / "her.csv"}, **about).table
    said = predict_person(trained, {}, {"age": "63", "sex": "F", "bmi": "27.5"}, **about).table
    assert row["predicted"].tolist() == said["predicted"].tolist()
    assert not said["outside"].any()
    old = predict_person(trained, {}, {"age": "140", "sex": "F"}, **about).table
    assert old["outside"].all()
    assert "age 140 (train: " in old["outside_of"].iloc[0]
    assert old["remarks"].iloc[0] == "bmi missing: the train mean stands in"
    with pytest.raises(ConfigError, match="did you mean 'age'"):
        predict_person(trained, {}, {"aeg": "63"}, **about)
    with pytest.raises(ConfigError, match="'covariates' reads clinic, and nothing of it") as caught:
        predict_person(trained, {"ecg": record_of(hearts)[1]}, **about)
    assert "what is known of age, sex, bmi; or --record clinic=" in str(caught.value)
    (tmp_path / "two.csv").write_text("age,sex,bmi\n63,F,27\n64,F,28\n")
    with pytest.raises(CohortError, match="several people"):
        predict_person(trained, {"clinic": tmp_path / "two.csv"}, **about)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"ecgg": "x.hea"}, "did you mean 'ecg'"),
        ({"ecg": "nowhere.hea"}, "there is no such file"),
        ({"cmr": "README.md"}, "cannot be told from the ending"),
        ({}, "nothing is given"),
    ],
)
def test_slips_are_told(trained, hearts, records, said):
    with pytest.raises(MedmclError, match=said):
        predict_person(trained, {n: hearts / path for n, path in records.items()}, device="cpu")


def test_a_run_of_before_says_that_it_keeps_no_limits(trained, hearts, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(trained.path, old)
    for path in old.glob("prediction.*"):
        path.unlink()
    with pytest.raises(
        MedmclError, match=r"prediction\.json: there is no such file(.|\n)*--resume"
    ):
        medmcl.load(old).predict(hearts, device="cpu")
    (old / "files.json").unlink()
    told = medmcl.load(old).predict(hearts, tasks=["infarct", "heart_failure"], device="cpu")
    assert told["outside"].isna().all()
    risks = told[told["task"] == "heart_failure"].dropna(subset=["predicted"])
    tree = yaml.safe_load((hearts / "cohort.yaml").read_text())
    stated = tree["tasks"]["heart_failure"]["horizons_years"]
    assert sorted(set(risks["horizon_years"])) == stated
    (old / "prediction.json").write_text("{}")
    with pytest.raises(MedmclError, match=r"prediction\.json.*is damaged"):
        medmcl.load(old).predict(hearts, device="cpu")
