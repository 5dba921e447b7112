"""Events: rows of a table become one record a subject, cut at the index date, in order of time."""

import csv
import io
import shutil

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import CohortError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.events.spelling import spelt_otherwise, spelt_twice
from medmcl.data.events.tables import EventTable, read_events
from medmcl.data.events.write import write_meds
from medmcl.data.loading.prepare import prepare
from medmcl.data.tables.files import dates, read_table

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


def tree_of(source):
    """A cohort.yaml of the subjects, and events read as told."""
    return {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "subjects.tsv", "id": "subject_id", "split": "split"},
        "modalities": {"codes": source},
        "tasks": {"died": {"kind": "binary", "column": "died"}},
    }


class Hospital:
    def __init__(self, folder):
        self.folder = folder
        self.events, self.subjects = EVENTS.copy(), SUBJECTS.copy()
        self.tree = tree_of({"reader": "meds", "table": "data/*.parquet"})

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


def test_index_dates_of_another_modality_or_that_stand_for_none_are_refused(hospital):
    hospital.subjects.loc[0, "start"] = "9999-12-31"
    with pytest.raises(CohortError, match="a year that stands for none"):
        hospital.open(index={"column": "start"})
    hospital.tree["modalities"]["age"] = {"reader": "table", "columns": {"died": "number"}}
    with pytest.raises(CohortError, match="cut at the date of another modality"):
        hospital.open(index={"modality": "age"})


def test_a_day_more_makes_another_entry_of_the_cache(hospital, tmp_path):
    chosen = {"codes": {"min_patients": 1}}
    first = prepare(hospital.open(), chosen, cache=tmp_path / "c").inputs("codes")[0].copy()
    hospital.events.loc[0, "time"] = "2020-01-30 23:00"
    again = prepare(hospital.open(), chosen, cache=tmp_path / "c").inputs("codes")[0]
    assert (first != again).any()


def test_dates_that_stand_for_none_are_left_out_and_counted(hospital):
    hospital.events["time"] = hospital.events["time"].astype(object)
    hospital.events.loc[0, "time"] = "9999-12-31"
    hospital.events.loc[2, "time"] = "0001-01-01"
    cohort = hospital.open(index={"column": "start"})
    assert [code for code, _ in events(cohort, "1")] == ["MEDS_BIRTH", "RX//1"]
    assert said(cohort)["codes.date"] == "2 events dated outside 1700 to 2261: left out"


def said(cohort):
    return {one.code: one.what for one in cohort.findings}


def test_what_is_left_out_kept_twice_or_undated_is_counted(hospital):
    hospital.events = pd.concat(
        [EVENTS, EVENTS.iloc[[0, 0, 3]], EVENTS.iloc[[1]].assign(code="x" * 10_000)],
        ignore_index=True,
    )
    cohort = hospital.open()
    assert events(cohort, "1").count(("ICD//I10", 31)) == 3
    assert events(cohort, "2") == [("ICD//E11", 0)]
    told = said(cohort)
    assert told["codes.repeated"].startswith("3 events equal to another")
    assert told["codes.undated"].startswith("2 events without a date")
    assert told["codes.no_code"] == "1 event without a code: left out"
    assert told["codes.long"] == "1 event with a code longer than 1,000 characters: left out"
    assert all(one.level == "warning" for one in cohort.findings)


def test_codes_that_two_hospitals_write_in_two_ways_are_told(hospital):
    assert "codes.spelling" not in said(hospital.open())
    odd = EVENTS.iloc[[0, 0, 2]].assign(code=["ICD//I1.0", "icd//i10", "OTHER//I10"])
    hospital.events = pd.concat([EVENTS, odd], ignore_index=True)  # beside three of ICD//I10
    found = said(hospital.open())["codes.spelling"]
    assert found.startswith("2 events with a code that others have in another spelling")
    assert found.endswith("'ICD//I1.0' is 'ICD//I10', 'icd//i10' is 'ICD//I10'")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("I50.9", "I509", True), ("I509", "i509", True), ("ICD//I50.9", "ICD//i50 .9", True),
     ("39.95", "399.5", False), ("ICD9//V10", "ICD10//V10", False), ("A-1", "A.1", False),
     ("2160-0", "21600", True), ("...", "---", False), ("E11", "E119", False)],
)  # fmt: skip
def test_codes_are_one_only_where_their_signs_do_not_contradict(one, other, is_same):
    assert (spelt_twice([one, other]) == {other: one}) == is_same
    assert bool(spelt_otherwise([other], [one])) == is_same


def test_a_column_of_texts_is_no_column_of_codes(hospital):
    hospital.events["code"] = "Patient admitted with pain. " * 50
    with pytest.raises(CohortError, match="every code is longer than 1,000 characters"):
        hospital.open()


def test_rows_and_shards_in_any_order_give_the_same(hospital):
    sorted_ = [events(hospital.open(), one) for one in "123"]
    hospital.events = EVENTS.sample(frac=1, random_state=4)
    assert [events(hospital.open(), one) for one in "123"] == sorted_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.assign(subject_id=e["subject_id"].astype(str)), "subject_id' has the wrong"),
        (lambda e: e.assign(code=pd.Categorical(e["code"]).codes), "code' has the wrong type"),
        (lambda e: e.rename(columns={"code": "kode"}), "no column 'code'; did you mean 'kode'"),
    ],
)
def test_shards_that_are_not_meds_are_refused(hospital, change, message):
    hospital.events = change(EVENTS)
    with pytest.raises(CohortError, match=rf"[01]\.parquet.*{message}(?s:.)*reader: events"):
        hospital.open()


def test_codes_are_rolled_up_as_in_counting(hospital):
    hospital.open()
    parents = {"ICD//I10": ["PHE//401", "CCS//98"], "ICD//E11": ["PHE//250"], "RX//1": ["ATC//C"]}
    (hospital.folder / "metadata").mkdir()
    table = {"code": list(parents), "parent_codes": list(parents.values())}
    pd.DataFrame(table).to_parquet(hospital.folder / "metadata" / "codes.parquet")
    codes = hospital.tree["modalities"]["codes"]
    codes["roll_up"] = "PHE//"
    cohort = hospital.open()
    assert events(cohort, "1")[1:4] == [("PHE//250", 366), ("PHE//401", 31), ("RX//1", 1)]
    codes["roll_up"] = True
    assert events(hospital.open(), "1")[2:4] == [("PHE//401", 31), ("CCS//98", 31)]
    codes |= {"reader": "events", "date": "time", "column": "code"}
    with pytest.raises(CohortError, match="needs reader: meds"):
        hospital.open()


def test_codes_that_look_like_numbers_stay_as_they_are_written(tmp_path):
    """250 and 250.00 are two codes of ICD-9."""
    (tmp_path / "events.csv").write_text("subject_id,time,code\n1,,250\n1,,250.00\n1,,0410\n")
    SUBJECTS.to_csv(tmp_path / "subjects.tsv", sep="\t", index=False)
    tree = tree_of({**LONG, "table": "events.csv"})
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    assert [code for code, _ in events(open_cohort(tmp_path), "1")] == ["250", "250.00", "0410"]


def test_offsets_become_dates_on_the_way_to_meds(hospital):
    """The readers of a cohort want dates; negative offsets come to it by `cooccur to-meds`."""
    columns = {"subject": "who", "time": "minutes", "code": "code"}
    path = hospital.folder / "stay.csv"
    path.write_text("who,minutes,code\n1,-1440,LAB//A\n1,0,LAB//B\n1,-10080,LAB//C\n")
    table = EventTable(path=path, name="stay", columns=columns, offset_unit="minutes")
    hospital.open()
    shutil.rmtree(hospital.folder / "data")
    write_meds([("stay", read_events(table))], hospital.folder / "meds", shards=1)
    hospital.tree["modalities"]["codes"]["table"] = "meds/data/*.parquet"
    (hospital.folder / "cohort.yaml").write_text(yaml.safe_dump(hospital.tree))
    cohort = open_cohort(hospital.folder)
    assert events(cohort, "1") == [("LAB//C", 7), ("LAB//A", 1), ("LAB//B", 0)]
    long = {"reader": "events", "table": "stay.csv", "id": "who", "date": "minutes"}
    hospital.tree["modalities"]["codes"] = long
    (hospital.folder / "cohort.yaml").write_text(yaml.safe_dump(hospital.tree))
    with pytest.raises(CohortError, match="3 cells are no dates"):
        open_cohort(hospital.folder)


def damaged(draw, data):
    """The bytes of a file after some damage: cut, overwritten, or others altogether."""
    how = draw(st.sampled_from(["cut", "overwritten", "inserted", "random"]))
    if how == "random":
        return draw(st.binary(max_size=200))
    at = draw(st.integers(0, len(data) - 1))
    if how == "cut":
        return data[:at]
    some = draw(st.binary(min_size=1, max_size=8))
    return data[:at] + some + data[at + (len(some) if how == "overwritten" else 0) :]


CELLS = st.one_of(
    st.sampled_from(["1", "2", "", "9999-12-31", "0001-01-01", "2020-02-30", "1e400", "-5", "nan"]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)


@st.composite
def csv_files(draw):
    """An events table as csv: sound but for its bytes, or with a sound header and odd cells."""
    lines = [("subject_id", "time", "code"), ("1", "2020-01-31", "I10"), ("2", "", "E11")]
    if draw(st.booleans()):
        lines += draw(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue().encode()
    return damaged(draw, "\n".join(map(",".join, lines)).encode())


@st.composite
def parquet_files(draw):
    """A shard of events as parquet, damaged."""
    return damaged(draw, SHARD)


def shard_bytes():
    rows = EVENTS[["subject_id", "code"]].assign(
        time=pd.to_datetime(EVENTS["time"], format="ISO8601").astype("M8[us]")
    )
    stream = io.BytesIO()
    rows.to_parquet(stream)
    return stream.getvalue()


SHARD = shard_bytes()
LONG = {"reader": "events", "id": "subject_id", "date": "time", "column": "code"}


def opened_or_refused(folder, source, data, **changes):
    """Open a cohort whose events are these bytes; what comes of it is sound, or a CohortError."""
    (folder / source["table"]).write_bytes(data)
    SUBJECTS.to_csv(folder / "subjects.tsv", sep="\t", index=False)
    tree = {**tree_of(source), **changes}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree))
    try:
        cohort = open_cohort(folder)
    except CohortError:
        return
    records = cohort.records["codes"]
    assert set(records.index) <= set(map(str, SUBJECTS["subject_id"]))
    for place in records["place"]:
        assert len(place.values["codes"]) == len(place.values["days"]) > 0
        assert all(isinstance(code, str) and code for code in place.values["codes"])
        assert min(place.values["days"]) >= -1


def test_text_of_a_shard_that_is_no_utf8_is_refused(tmp_path):
    damage = SHARD.replace(b"ICD//I10", b"ICD//I1\x9c")
    assert damage != SHARD
    (tmp_path / "0.parquet").write_bytes(damage)
    with pytest.raises(CohortError, match="cannot be read as a table"):
        read_table(tmp_path, "0.parquet")


@pytest.mark.parametrize("second", ["+03:00", "Z", "", "-0100"])
def test_dates_of_two_time_zones_are_refused(second):
    column = pd.Series(["2020-01-01T00:00:00+01:00", f"2020-01-01T00:00:00{second}"])
    with pytest.raises(CohortError, match="more than one time zone"):
        dates(column, "here")


@pytest.mark.parametrize("winter", ["+01:00", "-05:00", "+0000"])
def test_summer_and_winter_of_one_place_are_read_as_its_clock_showed(winter):
    summer = {"+01:00": "+02:00", "-05:00": "-04:00", "+0000": "+0100"}[winter]
    column = pd.Series([f"2020-01-01T23:30:00{winter}", f"2020-07-01 00:10:00{summer}",
                        None, "2020-03-02", f"2020-01-01T23:30:00{winter}"])  # fmt: skip
    read = dates(column, "here")
    assert read.dropna().dt.strftime("%Y-%m-%d %H:%M").tolist() == [
        "2020-01-01 23:30", "2020-07-01 00:10", "2020-03-02 00:00", "2020-01-01 23:30"
    ]  # fmt: skip
    with pytest.raises(CohortError, match="no dates"):
        dates(pd.concat([column, pd.Series([f"2020-02-30T10:00:00{winter}"])]), "here")


def test_days_that_are_numbers_are_no_dates_but_for_basic_iso():
    parsed = dates(pd.Series([20190331, 20200101]), "here")
    assert parsed.dt.strftime("%Y-%m-%d").tolist() == ["2019-03-31", "2020-01-01"]
    with pytest.raises(CohortError):
        dates(pd.Series([2, 17]), "here")


@pytest.mark.parametrize("index", [{}, {"index": {"column": "start"}}], ids=["plain", "index"])
@settings(max_examples=60, deadline=None)
@given(data=csv_files())
def test_a_damaged_csv_of_events_is_refused_or_read(tmp_path_factory, index, data):
    folder = tmp_path_factory.mktemp("csv")
    opened_or_refused(folder, {**LONG, "table": "events.csv"}, data, **index)


@pytest.mark.parametrize("source", [LONG, {"reader": "meds"}], ids=["events", "meds"])
@settings(max_examples=60, deadline=None)
@given(data=parquet_files())
def test_a_damaged_shard_is_refused_or_read(tmp_path_factory, source, data):
    folder = tmp_path_factory.mktemp("shard")
    opened_or_refused(folder, {**source, "table": "0.parquet"}, data)
