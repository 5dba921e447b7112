"""Shipped EHR cohorts on small files in the layouts that they are delivered in."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medmcl.core.config import read_yaml
from medmcl.core.errors import CohortError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.cohort.locate import list_cohorts
from tests.support.typed import answer

PEOPLE = 160
DAY = pd.Timedelta(days=1)
SIDES = {"train": "train", "tuning": "tuning", "held_out": "held_out"}
START = pd.Timestamp("2150-01-01 09:30")


def story(seed=0):
    """People of two kinds: who, which codes and drugs, and what happens after the landmark."""
    rng = np.random.default_rng(seed)
    people = []
    for number in range(PEOPLE):
        kind = number % 2
        first = START + DAY * int(rng.integers(0, 300))
        people.append(
            {
                "id": 10_000 + number,
                "split": "train" if number < 100 else "tuning" if number < 125 else "held_out",
                "first": first,
                "landmark": first + 5 * DAY,
                "codes": (rng.integers(0, 8, 12) + 8 * kind).tolist(),
                "drugs": (rng.integers(0, 8, 12) + 8 * kind).tolist(),
                "again": rng.random() < 0.3 + 0.4 * kind,
                "dies": rng.random() < 0.3 + 0.4 * kind,
                "ill": rng.random() < 0.4,
            }
        )
    return people


def write_meds(folder, people, events):
    """Write MEDS 0.4: a folder a split, `subject_splits` and `codes` beside."""
    table = pd.DataFrame(events, columns=["subject_id", "time", "code"])
    table["numeric_value"] = np.float32(1)
    table["time"] = table["time"].astype("datetime64[us]")
    splits = {one["id"]: one["split"] for one in people}
    for side in SIDES:
        shard = folder / "data" / side
        shard.mkdir(parents=True, exist_ok=True)
        ours = table[table["subject_id"].map(splits) == side]
        ours = ours.sort_values(["subject_id", "time"], na_position="first", kind="stable")
        ours.to_parquet(shard / "0.parquet", index=False)
    (folder / "metadata").mkdir(exist_ok=True)
    listed = pd.DataFrame({"subject_id": list(splits), "split": list(splits.values())})
    listed.to_parquet(folder / "metadata" / "subject_splits.parquet", index=False)
    codes = pd.DataFrame({"code": sorted(set(table["code"]))})
    codes.assign(description=None, parent_codes=None).to_parquet(
        folder / "metadata" / "codes.parquet", index=False
    )


def write_mimic_iv(folder, people, extra=()):
    """As MIMIC_IV_MEDS names its codes; the diagnoses of a stay are dated at its end."""
    events = [*extra]
    for one in people:
        who, end = one["id"], one["landmark"]
        events += [(who, None, "GENDER//F"), (who, pd.Timestamp("2090-01-01"), "MEDS_BIRTH")]
        events += [(who, one["first"], "HOSPITAL_ADMISSION//URGENT//UNK")]
        events += [(who, end, f"DIAGNOSIS//ICD//10//A{c:02d}") for c in one["codes"]]
        events += [(who, one["first"] + DAY, f"MEDICATION//START//D{c:02d}") for c in one["drugs"]]
        events += [(who, end, "HOSPITAL_DISCHARGE//HOME")]
        if one["again"]:
            events += [(who, end + 9 * DAY, "HOSPITAL_ADMISSION//URGENT//UNK")]
        events += [(who, end + 400 * DAY, "HOSPITAL_ADMISSION//ELECTIVE//UNK")]
        if one["ill"]:
            events += [(who, end + 40 * DAY, "DIAGNOSIS//ICD//10//I509")]
        if one["dies"]:
            events += [(who, end + 90 * DAY, "MEDS_DEATH")]
    write_meds(folder, people, events)


def write_eicu(folder, people):
    """As eICU_MEDS does: a subject is a hospital stay."""
    events = []
    for one in people:
        who, start = one["id"], one["first"]
        events += [(who, start, "ICU_ADMISSION//Emergency Department//admit")]
        events += [(who, start + DAY / 2, f"DIAGNOSIS//ICD//9//{c + 100}.1") for c in one["codes"]]
        events += [(who, start + DAY / 3, f"MEDICATION//STARTED//D{c:02d}") for c in one["drugs"]]
        if one["again"]:
            events += [(who, start + 4 * DAY, "ICU_ADMISSION//Floor//readmit")]
        if one["ill"]:
            events += [(who, start + 3 * DAY, "DIAGNOSIS//ICD//9//584.9, N17.9")]
        status = "Expired//Death" if one["dies"] else "Alive//Home"
        events += [(who, start + 8 * DAY, f"HOSPITAL_DISCHARGE//{status}")]
    write_meds(folder, people, events)


def write_ehrshot(folder, people):
    """As Redivis delivers it: one csv of events, a csv of splits, a folder a task."""
    events, labels = [], []
    for one in people:
        who, end = one["id"], one["landmark"].normalize() + pd.Timedelta(hours=23, minutes=59)
        codes = [(f"SNOMED/{c}", "condition_occurrence") for c in one["codes"]]
        drugs = [(f"RxNorm/{c}", "drug_exposure") for c in one["drugs"]]
        events += [(who, one["first"], code, table) for code, table in codes + drugs]
        events += [(who, end + 500 * DAY, "Visit/OP", "visit_occurrence")]
        if one["dies"]:
            events += [(who, end + 90 * DAY, "Death Type/OMOP generated", "death")]
        labels += [(who, end, one["again"], one["ill"]), (who, end + 60 * DAY, False, False)]
    (folder / "data").mkdir(parents=True)
    table = pd.DataFrame(events, columns=["patient_id", "start", "code", "omop_table"])
    table = table.assign(end=None, value=None, unit=None, visit_id=None)
    table.to_csv(folder / "data" / "ehrshot.csv")
    known = pd.DataFrame(labels, columns=["patient_id", "prediction_time", "again", "ill"])
    for task, column in (("guo_readmission", "again"), ("new_hypertension", "ill")):
        (folder / "benchmark" / task).mkdir(parents=True)
        rows = known[["patient_id", "prediction_time"]].assign(
            value=known[column], label_type="boolean"
        )
        rows.to_csv(folder / "benchmark" / task / "labeled_patients.csv", index=False)
    (folder / "splits").mkdir()
    names = {"train": "train", "tuning": "val", "held_out": "test"}
    pd.DataFrame(
        {
            "split": [names[one["split"]] for one in people],
            "omop_person_id": [one["id"] for one in people],
        }
    ).to_csv(folder / "splits" / "person_id_map.csv")


def write_omop_site(folder, people):
    """OMOP CDM 5.4, a csv a table."""
    tables = {
        name: [] for name in ("visit_occurrence", "condition_occurrence", "drug_exposure", "death")
    }
    seen = []
    for one in people:
        who, start, end = one["id"], one["first"].date(), one["landmark"].date()
        day = dt.timedelta(days=1)
        stays = [(start, end)] + ([(end + 9 * day, end + 10 * day)] if one["again"] else [])
        tables["visit_occurrence"] += [(who, 9201, a, b) for a, b in stays]
        tables["condition_occurrence"] += [(who, 4_000 + c, start) for c in one["codes"]]
        tables["condition_occurrence"] += [(who, 0, start)]
        tables["drug_exposure"] += [(who, 1_300 + c, start) for c in one["drugs"]]
        if one["ill"]:
            tables["condition_occurrence"] += [(who, 316139, end + 40 * day)]
        if one["dies"]:
            tables["death"] += [(who, end + 90 * day)]
        seen.append((who, start, end + 800 * day))
    columns = {
        "visit_occurrence": ["visit_concept_id", "visit_start_date", "visit_end_date"],
        "condition_occurrence": ["condition_concept_id", "condition_start_date"],
        "drug_exposure": ["drug_concept_id", "drug_exposure_start_date"],
        "death": ["death_date"],
    }
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows, columns=["person_id", *columns[name]]).to_csv(
            folder / f"{name}.csv.gz", index=False
        )
    pd.DataFrame({"person_id": [one["id"] for one in people]}).to_csv(
        folder / "person.csv", index=False
    )
    span = ["person_id", "observation_period_start_date", "observation_period_end_date"]
    pd.DataFrame(seen, columns=span).to_csv(folder / "observation_period.csv", index=False)


LAYOUTS = {
    "mimic_iv": (write_mimic_iv, ("death_1y", "readmission_30d", "heart_failure_1y")),
    "eicu": (write_eicu, ("death", "icu_readmission", "kidney_failure")),
    "ehrshot": (write_ehrshot, ("death_1y", "readmission_30d", "hypertension_1y")),
    "omop_site": (write_omop_site, ("death_1y", "readmission_30d", "heart_failure_1y")),
}


def targets(cohort, task):
    """Label of each subject that has one."""
    found = cohort.targets(task)
    known = found.known[:, 0]
    return dict(
        zip(cohort.samples["subject"][known].astype(int), found.values[known, 0], strict=True)
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_ehr_cohort_opens_on_its_layout_and_asks_what_happened_after_the_landmark(
    name, tmp_path
):
    write, tasks = LAYOUTS[name]
    people = story()
    write(tmp_path, people)
    cohort = open_cohort(name, data_root=tmp_path)
    assert [f for f in cohort.findings if f.level == "error"] == []
    for task, truth in zip(tasks, ("dies", "again", "ill"), strict=True):
        assert targets(cohort, task) == {one["id"]: float(one[truth]) for one in people}
    for modality in ("codes", "concepts"):
        held = [len(place.values["codes"]) for place in cohort.records[modality]["place"]]
        assert held == [12] * PEOPLE  # nothing of what came after, and no concept 0
    if name != "omop_site":
        sides = dict(
            zip(cohort.samples["subject"].astype(int), cohort.samples["split"], strict=True)
        )
        assert sides == {one["id"]: one["split"] for one in people}


@pytest.mark.parametrize("name", LAYOUTS)
def test_claime_is_pretrained_on_it_from_the_command_line_with_its_folder_alone(name, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    if name == "ehrshot":
        data.rmdir()
    LAYOUTS[name][0](data, story())
    asked = ["--cohort", name, "--recipe", "claime_toy", "--out", out, "--device", "cpu"]
    said = answer("pretrain", *asked, "--set", f"data_root={data}")
    assert said.returncode == 0, said.stderr
    results = pd.read_csv(next(out.rglob("results.csv")))
    assert set(results["task"]) >= set(LAYOUTS[name][1])
    auroc = results[(results["metric"] == "auroc") & (results["task"] == LAYOUTS[name][1][0])]
    assert auroc.iloc[0]["value"] > 0.55  # the kind of a person shows in the codes


@pytest.mark.parametrize("minutes", [1, 60, 60 * 24 * 10])
def test_codes_of_the_outcome_that_come_after_the_landmark_have_no_effect(minutes, tmp_path):
    people = story()
    later = pd.Timedelta(minutes=minutes)
    cheat = [
        (one["id"], one["landmark"] + later, f"{vocabulary}//CHEAT")
        for one in people
        if one["again"]
        for vocabulary in ("DIAGNOSIS", "MEDICATION//START")
    ]
    write_mimic_iv(tmp_path / "plain", people)
    write_mimic_iv(tmp_path / "cheat", people, cheat)
    plain, other = (open_cohort("mimic_iv", data_root=tmp_path / n) for n in ("plain", "cheat"))
    for modality in ("codes", "concepts"):
        read = [
            [place.values for place in cohort.records[modality]["place"]]
            for cohort in (plain, other)
        ]
        assert read[0] == read[1]
    assert targets(plain, "readmission_30d") == targets(other, "readmission_30d")


def copied(folder, **changes):
    """cohort.yaml of mimic_iv with some of its sections changed."""
    tree = read_yaml(list_cohorts()["mimic_iv"])
    for path, value in changes.items():
        *way, last = path.split("__")
        section = tree
        for key in way:
            section = section[key]
        section[last] = value
    folder.mkdir()
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree))
    return folder


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"index": None}, "asked after 'discharge', and inputs are cut at no index date"),
        ({"index__column": "last_seen"}, "inputs are cut at 'last_seen'"),
        (
            {"tasks__death_1y__column": "notnull(death)", "subjects__dates__death_1y": {}},
            None,
        ),
    ],
)
def test_an_outcome_that_inputs_could_hold_is_refused(changes, refused, tmp_path):
    changes = dict(changes)
    if refused is None:  # whether somebody ever died, at no date
        dates = read_yaml(list_cohorts()["mimic_iv"])["subjects"]["dates"]
        dates["death"] = {"table": "data/**/*.parquet", "where": "code == 'MEDS_DEATH'"}
        changes["subjects__dates"], refused = dates, "'death' is asked at no date"
        del changes["subjects__dates__death_1y"]
    write_mimic_iv(tmp_path / "data", story())
    cohort = open_cohort(copied(tmp_path / "mine", **changes), data_root=tmp_path / "data")
    found = [f for f in cohort.findings if f.code == "task.not_at_index"]
    assert "death_1y" in {f.task for f in found}
    assert refused in found[0].what
    assert "death_1y" not in cohort.usable_tasks
    with pytest.raises(CohortError):
        cohort.targets("death_1y")


@pytest.mark.parametrize(
    "modality",
    [
        {"reader": "table", "columns": {"readmission_30d": "category"}},
        {"reader": "text", "column": "readmission_30d"},
        {
            "reader": "meds",
            "table": "data/**/*.parquet",
            "present": "startswith(code, 'DIAG') and readmission_30d == 1",
        },
    ],
)
def test_an_input_that_reads_the_outcome_is_refused(modality, tmp_path):
    write_mimic_iv(tmp_path / "data", story())
    mine = copied(tmp_path / "mine", modalities__cheat=modality)
    with pytest.raises(CohortError, match=r"'readmission_30d', which is made of events"):
        open_cohort(mine, data_root=tmp_path / "data")


def dated(tmp_path, **dates):
    """Cells of `subjects.dates` of three people with events of their own."""
    rows = [
        ("a", "2020-01-01", "A", 1), ("a", "2020-01-31", "B", 2), ("a", "2021-06-01", "C", 3),
        ("b", "2020-01-01", "A", 4), ("b", "2020-02-01", "B", 5), ("b", "2020-01-10", "C", 6),
        ("c", "2019-12-01", "B", 7), ("c", "2020-01-01", "A", 8), ("c", "2020-01-05", "B", 9),
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    table = pd.DataFrame(rows, columns=["id", "when", "what", "number"])
    table.to_csv(tmp_path / "data" / "events.csv", index=False)
    pd.DataFrame({"id": ["a", "b", "c"], "split": ["train"] * 3}).to_csv(
        tmp_path / "people.csv", index=False
    )
    events = {"table": "data/*.csv", "date": "when"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {
            "table": "people.csv",
            "id": "id",
            "split": "split",
            "dates": {name: {**events, **keys} for name, keys in dates.items()},
        },
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    return open_cohort(tmp_path)


START_AT = {"where": "what == 'A'"}
SEEN = {"where": "what == 'C'", "which": "last"}


@pytest.mark.parametrize(
    ("keys", "cells"),
    [
        ({"where": "what == 'B'"}, ["2020-01-31", "2020-02-01", "2019-12-01"]),
        ({"where": "what == 'B'", "which": "last"}, ["2020-01-31", "2020-02-01", "2020-01-05"]),
        ({"where": "what == 'B'", "after": "start"}, ["2020-01-31", "2020-02-01", "2020-01-05"]),
        ({"plus_days": 1, "after": "start"}, ["2020-02-01", "2020-01-11", "2020-01-06"]),
        ({"where": "what == 'B'", "after": "start", "within_days": 30}, [1, 0, 1]),
        ({"where": "what == 'B'", "after": "start", "within_days": 30, "new": True}, [1, 0, None]),
        (
            {"where": "what == 'B'", "after": "start", "within_days": 30, "followed": "seen"},
            [1, None, 1],
        ),
        ({"where": "what == 'B'", "after": "start", "until": "seen"}, [1, 0, None]),
        ({"value": "number", "at": "start"}, [1, 4, 8]),
    ],
)
def test_dates_of_events_windows_after_them_and_what_is_unknown(keys, cells, tmp_path):
    cohort = dated(tmp_path, start=START_AT, seen=SEEN, asked=keys)
    found = [None if pd.isna(cell) else cell for cell in cohort.subjects["asked"]]
    assert found == cells


@pytest.mark.parametrize(
    ("dates", "words"),
    [
        ({"x": {"within_days": 3}}, "a window starts at another date"),
        ({"x": {"after": "z"}}, "x reads the date 'z', which is none"),
        ({"x": {"after": "y"}, "y": {"after": "x"}}, "reads itself, by way of others"),
        ({"y": {"value": "number"}, "x": {"after": "y"}}, "which holds no date"),
        ({"y": {}, "x": {"after": "y", "at": "y"}}, "name either after or at"),
        ({"y": {}, "x": {"after": "y", "until": "y", "within_days": 3}}, "name one of"),
        ({"x": {"new": True}}, "new belongs to a window"),
        ({"x": {"value": "number", "plus_days": 1}}, "plus_days is added to a date"),
        ({"split": {}}, "has a column 'split' of its own"),
        ({"x": {"id": "what"}}, "no event belongs to a subject"),
        ({"x": {"date": "wen"}}, "there is no column 'wen'"),
    ],
)
def test_dates_that_cannot_be_are_refused(dates, words, tmp_path):
    with pytest.raises(CohortError, match=words):
        dated(tmp_path, **dates)


def test_rows_beside_the_first_of_a_subject_are_counted(tmp_path):
    cohort = dated(tmp_path, prediction={})
    [finding] = [f for f in cohort.findings if f.code == "dates.further"]
    assert finding.what.startswith("6 rows beside the first")


def of_eicu_demo(folder, source):
    """The open demo as eICU_MEDS lays it out: a subject is a hospital stay."""
    stays = pd.read_csv(source / "patient.csv.gz").set_index("patientunitstayid")
    who = stays["patienthealthsystemstayid"]
    entered = START - pd.to_timedelta(stays["hospitaladmitoffset"], unit="min")

    def coded(table, offset, code):
        rows = pd.read_csv(source / f"{table}.csv.gz").dropna(subset=[offset, code])
        rows = rows[rows["patientunitstayid"].isin(stays.index)]
        unit = rows["patientunitstayid"]
        time = unit.map(entered) + pd.to_timedelta(rows[offset], unit="min")
        return list(zip(unit.map(who), time, rows[code].astype(str), strict=True))

    dx = coded("diagnosis", "diagnosisoffset", "icd9code")
    rx = coded("medication", "drugstartoffset", "drugname")
    events = [(w, t, f"DIAGNOSIS//ICD//9//{c}") for w, t, c in dx]
    events += [(w, t, f"MEDICATION//STARTED//{c}") for w, t, c in rx]
    events += [(w, t, "ICU_ADMISSION//UNK//admit") for w, t in zip(who, entered, strict=True)]
    left = entered + pd.to_timedelta(stays["hospitaldischargeoffset"], unit="min")
    status = stays["hospitaldischargestatus"].fillna("UNK")
    ends = zip(who, left, "HOSPITAL_DISCHARGE//" + status + "//UNK", strict=True)
    ids = who.unique()
    sides = ["train", "train", "tuning", "held_out"]
    people = [{"id": int(one), "split": sides[at % 4]} for at, one in enumerate(ids)]
    write_meds(folder, people, events + list(ends))


def of_synthea(folder, source):
    """Synthea's patients as tables of OMOP, codes of SNOMED and RxNorm for concepts but one."""
    names = ("patients", "encounters", "conditions", "medications")
    people, visits, ill, drugs = (pd.read_csv(source / f"{n}.csv.gz", dtype=str) for n in names)
    folder.mkdir()
    ill["code"] = ill["code"].replace({"88805009": "316139"})  # heart failure
    ward = visits[visits["class"].isin(["IMP", "inpatient"])].assign(concept="9201")
    seen = visits.groupby("patient_id")["stop"].agg(["min", "max"]).reset_index()
    dead = people.dropna(subset=["death_date"])
    tables = {
        "person": (people, {"patient_id": "person_id"}),
        "visit_occurrence": (ward, {"patient_id": "person_id", "concept": "visit_concept_id",
                                    "start": "visit_start_date", "stop": "visit_end_date"}),
        "condition_occurrence": (ill, {"patient_id": "person_id", "code": "condition_concept_id",
                                       "start": "condition_start_date"}),
        "drug_exposure": (drugs, {"patient_id": "person_id", "code": "drug_concept_id",
                                  "start": "drug_exposure_start_date"}),
        "death": (dead, {"patient_id": "person_id", "death_date": "death_date"}),
        "observation_period": (seen, {"patient_id": "person_id",
                                      "max": "observation_period_end_date"}),
    }  # fmt: skip
    for name, (table, columns) in tables.items():
        found = table[list(columns)].rename(columns=columns)
        for column in found.columns[found.columns.str.endswith("_date")]:
            found[column] = found[column].str[:10]
        found.to_csv(folder / f"{name}.csv", index=False)


@pytest.mark.parametrize(
    ("name", "sample", "write", "recipe"),
    [
        ("eicu", "eicu_demo", of_eicu_demo, "claime_toy"),  # 144 stays
        ("omop_site", "synthea", of_synthea, "claime"),
    ],
)
def test_claime_is_pretrained_on_a_public_sample(name, sample, write, recipe, tmp_path):
    source = Path(os.environ.get("MEDMCL_DATA", "")) / sample
    if "MEDMCL_DATA" not in os.environ or not source.is_dir():
        pytest.skip(f"needs MEDMCL_DATA with a folder {sample}")
    data, out = tmp_path / "data", tmp_path / "run"
    write(data, source)
    asked = ["--cohort", name, "--recipe", recipe, "--out", out, "--device", "cpu"]
    said = answer("pretrain", *asked, "--set", f"data_root={data}")
    assert said.returncode == 0, said.stderr
    assert (out / "report.html").is_file()
    cohort = open_cohort(name, data_root=data)
    assert [f for f in cohort.findings if f.level == "error" and f.scope == "cohort"] == []
    assert len(cohort.usable_tasks) == 3


@pytest.fixture
def aces(tmp_path):
    """A cohort whose one task is a table of labels as ACES writes them; data root, file, people."""
    people = story()
    data = tmp_path / "data"
    write_mimic_iv(data, people)
    labels = [(one["id"], one["landmark"], bool(one["again"])) for one in people]
    labels += [(one["id"], one["landmark"] + 60 * DAY, False) for one in people[:5]]
    columns = ["subject_id", "prediction_time", "boolean_value"]
    (data / "labels").mkdir()
    pd.DataFrame(labels, columns=columns).to_parquet(data / "labels" / "0.parquet")
    table = {"table": "labels/*.parquet", "date": "prediction_time"}
    dates = {
        "prediction_time": table,
        "label": {**table, "at": "prediction_time", "value": "boolean_value"},
    }
    mine = copied(
        tmp_path / "mine",
        subjects__dates=dates,
        index={"column": "prediction_time"},
        tasks={"label": {"kind": "binary", "column": "label"}},
    )
    return data, mine, people


def test_a_table_of_labels_as_aces_writes_it_is_a_task_at_its_prediction_time(aces):
    data, mine, people = aces
    cohort = open_cohort(mine, data_root=data)
    assert targets(cohort, "label") == {one["id"]: float(one["again"]) for one in people}
    [finding] = [f for f in cohort.findings if f.code == "dates.further"]
    assert finding.what.startswith("5 rows")


def test_an_aces_task_goes_in_and_predictions_in_the_schema_of_meds_come_out(aces, tmp_path):
    meds = pytest.importorskip("meds")
    data, mine, people = aces
    run, out = tmp_path / "run", tmp_path / "predictions.parquet"
    root = ["--set", f"data_root={data}"]
    asked = ["--cohort", mine, "--recipe", "claime_toy", "--out", run, "--device", "cpu", *root]
    said = answer("pretrain", *asked)
    assert said.returncode == 0, said.stderr
    said = answer("predict", run, "--cohort", mine, "--out", out, "--schema", "meds", *root)
    assert said.returncode == 0, said.stderr
    assert "learned from in training or tuning" in said.stdout
    found = pq.read_table(out)
    meds.LabelSchema.validate(found.select(["subject_id", "prediction_time", "boolean_value"]))
    assert found.schema.field("predicted_boolean_value").type == pa.bool_()
    assert found.schema.field("predicted_boolean_probability").type == pa.float64()
    rows = found.to_pandas()
    held = {one["id"]: one for one in people if one["split"] == "held_out"}
    assert sorted(rows["subject_id"]) == sorted(held)
    for row in rows.itertuples():
        assert row.boolean_value == bool(held[row.subject_id]["again"])
        assert row.prediction_time == held[row.subject_id]["landmark"]
        assert row.predicted_boolean_value == (row.predicted_boolean_probability >= 0.5)
    plain = tmp_path / "plain.parquet"
    answer("predict", run, "--cohort", mine, "--out", plain, *root)
    own = pd.read_parquet(plain).set_index("subject")["predicted"]
    assert all(own[str(r.subject_id)] == r.predicted_boolean_probability for r in rows.itertuples())
    refused = answer("predict", run, "--cohort", mine, "--out", "x.csv", "--schema", "meds", *root)
    assert refused.returncode == 2
    assert "parquet" in refused.stderr
