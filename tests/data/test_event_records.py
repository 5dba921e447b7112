"""Events: rows of a table become one record a subject, cut at the index date, in order of time."""

import pandas as pd
import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.data.cohort import open_cohort
from medmcl.data.loading import prepare

SUBJECTS = pd.DataFrame(
    {
        "subject_id": [1, 2, 3, 4],
        "split": ["train", "train", "tuning", "held_out"],
        "start": ["2020-03-01", "2020-03-01", None, "2020-03-01"],
        "died": [0, 1, 0, 1],
    }
)
EVENTS = pd.DataFrame(
    [
        (1, "2020-01-31 23:00", "ICD//I10"),
        (2, "2020-02-01 10:00", "ICD//E11"),
        (1, "2019-03-02 00:00", "ICD//E11"),
        (1, None, "MEDS_BIRTH"),
        (1, "2020-03-01 18:00", "RX//1"),
        (1, "2020-03-02 00:00", "MEDS_DEATH"),
        (3, "2021-01-01 00:00", "ICD//I10"),
        (3, "2021-01-11 00:00", "ICD//I10"),
        (9, "2021-01-11 00:00", "ICD//I10"),
        (2, "2020-02-01 10:00", None),
    ],
    columns=["subject_id", "time", "code"],
)


class Hospital:
    def __init__(self, folder):
        self.folder = folder
        self.events, self.subjects = EVENTS.copy(), SUBJECTS.copy()
        self.tree = {
            "schema": "medmcl/cohort@1",
            "subjects": {"table": "subjects.tsv", "id": "subject_id", "split": "split"},
            "modalities": {"codes": {"reader": "meds", "table": "data/*.parquet"}},
            "tasks": {"died": {"kind": "binary", "column": "died"}},
        }

    def open(self, **changes):
        self.tree.update(changes)
        (self.folder / "data").mkdir(exist_ok=True)
        times = pd.to_datetime(self.events["time"], format="ISO8601").astype("M8[us]")
        shards = self.events.assign(time=times)
        shards.iloc[:5].to_parquet(self.folder / "data" / "0.parquet")
        shards.iloc[5:].to_parquet(self.folder / "data" / "1.parquet")
        self.subjects.to_csv(self.folder / "subjects.tsv", sep="\t", index=False)
        (self.folder / "cohort.yaml").write_text(yaml.safe_dump(self.tree))
        return open_cohort(self.folder)


@pytest.fixture
def hospital(tmp_path):
    return Hospital(tmp_path)


def events(cohort, subject):
    values = cohort.records["codes"].loc[subject, "place"].values
    return list(zip(values["codes"], values["days"], strict=True))


def test_events_are_gathered_in_order_of_time_back_from_the_last(hospital):
    cohort = hospital.open()
    assert list(cohort.records["codes"].index) == ["1", "2", "3"]
    assert events(cohort, "1") == [
        ("MEDS_BIRTH", -1),
        ("ICD//E11", 366),
        ("ICD//I10", 31),
        ("RX//1", 1),
        ("MEDS_DEATH", 0),
    ]
    assert events(cohort, "2") == [("ICD//E11", 0)]  # a row without a code is no event
    assert any("1 of 10 records without a subject" in one.what for one in cohort.findings)


def test_events_after_the_index_date_are_left_out_and_counted(hospital):
    cohort = hospital.open(index={"column": "start"})
    assert events(cohort, "1") == [
        ("MEDS_BIRTH", -1),
        ("ICD//E11", 365),
        ("ICD//I10", 30),
        ("RX//1", 0),  # on the day itself stays
    ]
    assert events(cohort, "2") == [("ICD//E11", 29)]
    assert events(cohort, "3") == [("ICD//I10", 10), ("ICD//I10", 0)]  # no index date: all count
    said = {one.code: one.what for one in cohort.findings}
    assert said["index.after"] == "1 event of 1 subject dated after the index date: left out"
    assert said["index.undated"].startswith("1 event without a date")


def test_an_expression_chooses_events(hospital):
    hospital.tree["modalities"] = {
        "codes": {"reader": "meds", "table": "data/*.parquet", "present": "code != 'MEDS_DEATH'"},
        "drugs": {"reader": "meds", "table": "data/*.parquet", "present": "code == 'RX//1'"},
    }
    cohort = hospital.open()
    assert "MEDS_DEATH" not in dict(events(cohort, "1"))
    assert list(cohort.records["drugs"].index) == ["1"]
    assert cohort.samples["drugs"].notna().tolist() == [True, False, False]


def test_any_names_of_columns(hospital):
    hospital.events = EVENTS.rename(columns={"subject_id": "who", "code": "what"})
    hospital.tree["modalities"]["codes"] = {
        "reader": "events",
        "table": "data/*.parquet",
        "id": "who",
        "date": "time",
        "column": "what",
    }
    assert events(hospital.open(), "2") == [("ICD//E11", 0)]


def test_prepared_rows_and_vocabulary_are_of_train_subjects(hospital, tmp_path):
    hospital.events.loc[6:7, "code"] = "ONLY_TUNING"
    cohort = hospital.open()
    prepared = prepare(
        cohort, {"codes": {"max_events": 3, "min_patients": 1}}, cache=tmp_path / "c"
    )
    words = prepared.adapters["codes"].vocabulary
    assert "ONLY_TUNING" not in words
    assert words[2] == "ICD//E11"  # of both train subjects
    row = prepared.inputs("codes")[0]
    assert row[:, 1].tolist() == [31, 1, 0]
    assert prepared.inputs("codes")[2, :, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": None}, "table of their own"),
        ({"column": "kode"}, "no column 'kode'"),
        ({"reader": "events", "id": "subject_id"}, "without dates cannot be cut"),
    ],
)
def test_mistakes_are_told(hospital, change, message):
    section = {**hospital.tree["modalities"]["codes"], **change}
    hospital.tree["modalities"]["codes"] = {k: v for k, v in section.items() if v is not None}
    with pytest.raises(CohortError, match=message):
        hospital.open(index={"column": "start"})


def test_an_index_that_is_the_date_of_another_modality_is_refused(hospital):
    hospital.tree["modalities"]["age"] = {
        "reader": "table",
        "columns": {"died": {"kind": "number"}},
    }
    with pytest.raises(CohortError, match="cut at the date of another modality"):
        hospital.open(index={"modality": "age"})


def test_a_day_more_makes_another_entry_of_the_cache(hospital, tmp_path):
    settings = {"codes": {"min_patients": 1}}
    first = prepare(hospital.open(), settings, cache=tmp_path / "c").inputs("codes")[0].copy()
    hospital.events.loc[0, "time"] = "2020-01-30 23:00"
    again = prepare(hospital.open(), settings, cache=tmp_path / "c").inputs("codes")[0]
    assert (first != again).any()


def test_dates_that_stand_for_none_are_left_out_and_counted(hospital):
    hospital.events["time"] = hospital.events["time"].astype(object)
    hospital.events.loc[0, "time"] = "9999-12-31"
    hospital.events.loc[2, "time"] = "0001-01-01"
    cohort = hospital.open(index={"column": "start"})
    assert [code for code, _ in events(cohort, "1")] == ["MEDS_BIRTH", "RX//1"]
    said = {one.code: one.what for one in cohort.findings}
    assert said["codes.date"] == "2 events dated outside 1700 to 2261: left out"


def test_an_index_date_that_stands_for_none_is_refused(hospital):
    hospital.subjects.loc[0, "start"] = "9999-12-31"
    with pytest.raises(CohortError, match="a year that stands for none"):
        hospital.open(index={"column": "start"})
