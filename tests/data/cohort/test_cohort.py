import re

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.errors import CohortError, OverrideError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import find_cohort, list_cohorts, load_cohort, open_cohort


def visits(tiny, **columns):
    """Give the ECG a table of its own: two records for the first subject."""
    table = pd.DataFrame(
        {
            "subject_id": ["s000", "s000", "s001", "s002", "zz"],
            "visit": ["v1", "v2", "v3", "v4", "v5"],
            "file": ["s000", "s003", "s001", "s002", "s004"],
            "taken": ["2020-01-01", "2020-03-01", "2020-01-05", None, "2020-01-01"],
            **columns,
        }
    )
    table.to_csv(tiny.folder / "visits.csv", index=False)
    tiny.tree["modalities"]["ecg"].update(
        table="visits.csv", record="visit", path="ecg/{file}", date="taken"
    )
    tiny.write()


def test_a_cohort_says_who_has_what(tiny):
    cohort = open_cohort(tiny.folder)
    assert len(cohort.subjects) == len(cohort.samples) == 12
    assert list(cohort.sites[:2]) == ["A", "B"]
    assert list(cohort.records["cmr"].index) == [f"s{n:03d}" for n in range(12) if n % 4 != 3]
    assert cohort.samples["cmr"][3] is None
    place = cohort.records["cmr"]["place"].iloc[3]
    assert (place.subject, place.values, place.paths["path"]) == (
        "s004",
        {"row": 4},
        tiny.folder / "cmr.npy",
    )
    assert [len(cohort.split(name)) for name in ("train", "tuning", "held_out")] == [8, 2, 2]
    targets = cohort.targets("sick")
    assert targets.values[:, 0].tolist() == [n % 2 for n in range(12)]
    assert cohort.flow()[0] == ("in the subjects table", 12, 12)
    assert ("with cmr", 9, 9) in cohort.flow()
    table = cohort.missingness()
    assert table.loc["ecg + cmr + clinic + report"].tolist() == [6, 2, 1]
    assert table.to_numpy().sum() == 12
    assert cohort.findings == []


def test_records_with_a_table_of_their_own_are_paired_and_counted(tiny):
    visits(tiny)
    tiny.only("ecg", "cmr", "clinic")
    cohort = open_cohort(tiny.folder)
    first = cohort.samples[cohort.samples["subject"] == "s000"]
    assert first["ecg"].tolist() == ["v1", "v2"]
    assert first["cmr"].tolist() == ["s000", "s000"]
    assert cohort.records["ecg"].loc["v2", "place"].paths["path"] == tiny.folder / "ecg/s003"
    assert [f.code for f in cohort.findings] == ["cohort.left_out"]
    assert "1 of 5 records without a subject" in cohort.findings[0].what
    assert "(for example 'zz')" in cohort.findings[0].what
    assert pd.isna(cohort.records["ecg"].loc["v4", "date"])


def test_labels_may_belong_to_records(tiny):
    visits(tiny, codes=["A", "B", "A;B", None, "A"])
    tiny.tree["tasks"]["labels"] = {
        "kind": "multilabel",
        "of": "ecg",
        "columns": {"a": "'A' in codes", "b": "'B' in codes and sick == 1"},
    }
    cohort = open_cohort(tiny.write())
    targets = cohort.targets("labels")
    by_record = dict(zip(cohort.samples["ecg"], targets.values.tolist(), strict=True))
    assert by_record["v1"] == [1, 0]
    assert by_record["v2"] == [0, 0]
    assert by_record["v3"] == [1, 1]
    known = dict(zip(cohort.samples["ecg"], targets.known[:, 0], strict=True))
    assert not known["v4"]
    assert not known[None]
    assert targets.modality == "ecg"


def test_records_after_the_index_date_are_left_out_and_counted(tiny):
    visits(tiny)
    tiny.table["baseline"] = "2020-01-05"
    tiny.tree["index"] = {"column": "baseline"}
    cohort = open_cohort(tiny.write())
    assert "v2" not in cohort.records["ecg"].index
    assert "v3" in cohort.records["ecg"].index
    found = {f.code: f.what for f in cohort.findings}
    assert found["index.after"].startswith("1 record of 1 subject")
    assert found["index.undated"].startswith("1 record without a date")


def test_the_index_may_be_the_date_of_a_modality(tiny):
    visits(tiny)
    scans = pd.DataFrame(
        {
            "subject_id": ["s000", "s001"],
            "scan": ["c1", "c2"],
            "row": [0, 1],
            "on_day": ["2020-02-01", "2020-01-01"],
        }
    )
    scans.to_csv(tiny.folder / "scans.csv", index=False)
    tiny.tree["modalities"]["cmr"].update(table="scans.csv", record="scan", date="on_day")
    del tiny.tree["modalities"]["cmr"]["present"]
    tiny.tree["pairing"] = {"on": "date"}
    tiny.tree["index"] = {"modality": "ecg"}
    tiny.table["hf"] = "2021-01-01"
    tiny.table.loc[1, "hf"] = None
    tiny.table["last"] = "2022-01-01"
    tiny.tree["tasks"]["hf"] = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    cohort = open_cohort(tiny.write())
    row = cohort.samples.set_index("ecg")
    assert row.loc["v3", "cmr"] == "c2"
    assert row.loc["v1", "cmr"] is None
    assert row.loc["v2", "cmr"] == "c1"
    times = dict(zip(cohort.samples["ecg"], cohort.targets("hf").values[:, 0], strict=True))
    assert times["v1"] == 366
    assert times["v2"] == 306


def test_rows_of_a_subject_that_are_equal_in_all_are_counted_once_and_said(tiny):
    assert "without repeated rows" not in {step for step, *_ in open_cohort(tiny.folder).flow()}
    other = tiny.table.iloc[[0]].assign(sick=1 - tiny.table["sick"].iloc[0])  # no copy
    tiny.table = pd.concat([tiny.table, tiny.table.iloc[[0, 0, 3]], other])
    cohort = open_cohort(tiny.write())
    assert len(cohort.subjects) == 12
    steps = {step: counts for step, *counts in cohort.flow()}
    assert list(steps)[:3] == ["in the subjects table", "in a split", "without repeated rows"]
    assert steps["in the subjects table"] == [12, 16]
    assert steps["without repeated rows"] == [12, 13]
    (found,) = [one for one in check_cohort(cohort) if one.code == "cohort.repeated_rows"]
    assert found.what.startswith("3 rows of 2 subjects equal to another row of the same subject")
    assert "the first is row 13: counted once" in found.what


def test_a_column_that_differs_within_a_subject_is_refused_where_it_is_used(tiny):
    other = tiny.table.iloc[[0]].assign(sick=1 - tiny.table["sick"].iloc[0])
    tiny.table = pd.concat([tiny.table, other])
    cohort = open_cohort(tiny.write())
    assert cohort.usable_tasks == ["death"]
    with pytest.raises(CohortError, match=r"'sick' differs between the rows(?s:.*)of: MODALITY"):
        cohort.targets("sick")
    tiny.table.iloc[-1, tiny.table.columns.get_loc("row")] = 7
    with pytest.raises(CohortError, match=r"modalities\.cmr(?s:.*)'row' differs"):
        open_cohort(tiny.write())


def test_a_subject_in_two_splits_refuses_the_cohort(tiny):
    tiny.table = pd.concat([tiny.table, tiny.table.iloc[[0]].assign(split="held_out")])
    with pytest.raises(CohortError, match=r"two splits: held_out \(row 13\), train \(row 1\)"):
        open_cohort(tiny.write())


def test_subjects_without_a_split_are_left_out_and_counted(tiny):
    tiny.table.loc[0, "split"] = None
    cohort = open_cohort(tiny.write())
    assert len(cohort.subjects) == 11
    assert "s000" not in cohort.records["ecg"]["subject"].tolist()
    assert cohort.flow()[:2] == [("in the subjects table", 12, 12), ("in a split", 11, 11)]
    assert cohort.findings[0].code == "cohort.no_split"


def test_every_fault_of_the_tables_comes_at_once(tiny):
    tiny.tree["modalities"]["clinic"]["columns"] = {"agee": "number", "sexx": "category"}
    tiny.tree["modalities"]["ecg"]["path"] = "ecg/{subject}"
    tiny.tree["modalities"]["report"]["table"] = "reports.csv"
    tiny.tree["modalities"]["cmr"]["presnt"] = "x"
    with pytest.raises(CohortError) as caught:
        open_cohort(tiny.write())
    for words in ("'age'", "'sex'", "'subject_id'", "reports.csv", "unknown key"):
        assert words in str(caught.value)


def test_cells_and_paths_that_are_missing_are_absences(tiny):
    tiny.table["note"] = tiny.table["note"].where(tiny.table.index > 0, "  ")
    tiny.table["file"] = tiny.table["subject_id"].where(tiny.table.index > 1)
    tiny.table["age"] = tiny.table["age"].where(tiny.table.index > 2)
    tiny.tree["modalities"]["ecg"]["path"] = "ecg/{file}"
    samples = open_cohort(tiny.write()).samples
    assert samples["report"].isna().sum() == 1
    assert samples["ecg"].isna().sum() == 2
    assert samples["clinic"].notna().all()


def test_a_path_may_take_the_first_letters_of_a_number_or_a_text(tiny):
    tiny.table["number"] = 10000032.0 + tiny.table.index
    tiny.table["share"] = 0.125
    tiny.tree["modalities"]["ecg"]["path"] = "p{number:.2}/{number}/{subject_id:.1}/{share:.2}"
    places = open_cohort(tiny.write()).records["ecg"]["place"]
    parts = [place.paths["path"].parts[-4:] for place in places]
    assert parts[0] == ("p10", "10000032", "s", "0.12")  # of a fraction: its digits, as always


def test_a_text_of_several_columns_is_absent_where_all_are_empty(tiny):
    tiny.table["findings"] = [None if n < 2 else "a" for n in tiny.table.index]
    tiny.table["impression"] = [None if n < 1 else "b" for n in tiny.table.index]
    tiny.tree["modalities"]["report"]["column"] = ["findings", "impression"]
    cohort = open_cohort(tiny.write())
    texts = [place.values for place in cohort.records["report"]["place"]]
    assert cohort.samples["report"].isna().sum() == 1
    assert texts[0] == {"findings": None, "impression": "b"} | texts[0]
    tiny.tree["modalities"]["report"]["column"] = ["findings", "impresion"]
    with pytest.raises(CohortError, match="impresion"):
        open_cohort(tiny.write())


def test_unknown_presence_is_absence_and_counted(tiny):
    tiny.table["has_cmr"] = tiny.table["has_cmr"].where(tiny.table.index > 0)
    cohort = open_cohort(tiny.write())
    assert cohort.samples["cmr"][0] is None
    assert "1 row of which `present` is unknown" in cohort.findings[0].what


@pytest.mark.parametrize("way", ["argument", "override", "yaml", "environment"])
def test_the_data_may_lie_elsewhere(tiny, tmp_path_factory, monkeypatch, way):
    data = tmp_path_factory.mktemp("elsewhere") / tiny.folder.name
    for name in ("ecg", "cmr.npy", "people.csv"):
        data.mkdir(exist_ok=True)
        (tiny.folder / name).rename(data / name)
    given = {}
    if way == "argument":
        given = {"data_root": data}
    elif way == "override":
        given = {"overrides": {"data_root": str(data)}}
    elif way == "environment":
        monkeypatch.setenv("MEDMCL_DATA", str(data.parent))
    else:
        text = (tiny.folder / "cohort.yaml").read_text()
        (tiny.folder / "cohort.yaml").write_text(text + f"data_root: {data}\n")
    assert open_cohort(tiny.folder, **given).root == data


def test_a_cohort_is_found_by_folder_file_and_name(tiny, monkeypatch):
    (tiny.folder / "cohorts" / "mine").mkdir(parents=True)
    text = (tiny.folder / "cohort.yaml").read_text()
    (tiny.folder / "cohorts" / "mine" / "cohort.yaml").write_text(text)
    monkeypatch.chdir(tiny.folder)
    assert find_cohort("mine") == tiny.folder / "cohorts" / "mine" / "cohort.yaml"
    assert find_cohort(tiny.folder / "cohort.yaml") == find_cohort(tiny.folder)
    assert {"mine", "ptbxl", "acdc"} <= set(list_cohorts())
    (tiny.folder / "mine").mkdir()
    assert find_cohort("mine") == tiny.folder / "cohorts" / "mine" / "cohort.yaml"
    with pytest.raises(CohortError, match="did you mean 'ptbxl'"):
        find_cohort("ptbx")
    with pytest.raises(CohortError, match="holds no cohort"):
        find_cohort(tiny.folder / "ecg")


def test_an_override_is_laid_over_the_file_before_it_is_checked(tiny):
    cohort = open_cohort(tiny.folder, {"cohort.on_bad_record": "exclude", "recipe": "x"})
    assert cohort.spec.keys.on_bad_record == "exclude"
    assert cohort.spec.keys.recipe == "x"
    with pytest.raises(CohortError, match="did you mean 'on_bad_record'"):
        open_cohort(tiny.folder, {"on_bad_records": "exclude"})


def test_the_fingerprint_follows_what_is_said_and_the_bytes_of_tables(tiny):
    first = open_cohort(tiny.folder).fingerprint
    assert open_cohort(tiny.folder).fingerprint == first
    tiny.table.loc[0, "age"] += 1
    second = open_cohort(tiny.write()).fingerprint
    tiny.tree["about"] = "other"
    assert len({first, second, open_cohort(tiny.write()).fingerprint}) == 3


def test_ids_are_text_whatever_they_look_like(tiny):
    tiny.table["subject_id"] = [f"{n:03d}" for n in range(12)]
    tiny.only("clinic")
    assert list(open_cohort(tiny.folder).subjects.index[:2]) == ["000", "001"]


def test_records_need_ids_that_are_unique(tiny):
    visits(tiny, visit=["v1", "v1", "v2", "v3", "v4"])
    with pytest.raises(CohortError, match=r"1 record id more than once(?s:.*)v1"):
        open_cohort(tiny.folder)
    del tiny.tree["modalities"]["ecg"]["record"]
    with pytest.raises(CohortError, match="record: COLUMN"):
        open_cohort(tiny.write())


def test_a_mistake_in_an_expression_has_a_code_of_its_own(tiny):
    for text, code, what in (
        ("sick = 1", "task.expression", "(got sick = 1)"),
        ("site == NOR", "task.missing_column", "there is no column 'NOR'"),
    ):
        tiny.tree["tasks"]["sick"]["column"] = text
        (found,) = open_cohort(tiny.write()).task_findings("sick")
        assert found.code == code
        assert what in found.what


def test_null_leaves_a_modality_out(tiny):
    cohort = open_cohort(tiny.folder, {"cohort.modalities.cmr": None})
    assert list(cohort.spec.modalities) == [n for n in tiny.tree["modalities"] if n != "cmr"]
    assert cohort.findings == []
    with pytest.raises(OverrideError, match=r"modalities.cmt=null(.|\n)*did you mean 'cmr'"):
        open_cohort(tiny.folder, {"cohort.modalities.cmt": None})


def test_what_is_wrong_with_an_override_is_said_of_it_and_not_of_the_file(tiny):
    for overrides, text in (
        ({"on_bad_recrod": "exclude"}, "--set cohort.on_bad_recrod=exclude: unknown key"),
        ({"on_bad_record": "drop"}, "--set cohort.on_bad_record=drop: 'on_bad_record'"),
        ({"tasks.sick.colum": "x"}, "--set cohort.tasks.sick.colum=x: unknown key"),
        ({"data_root": "/nowhere/at/all"}, "--set data_root=/nowhere/at/all"),
    ):
        with pytest.raises(CohortError) as caught:
            open_cohort(tiny.folder, overrides)
        assert str(caught.value).startswith(text)
        assert "cohort.yaml" not in str(caught.value)


def test_a_recipe_and_a_table_are_no_cohorts(tiny):
    (tiny.folder / "r.yaml").write_text("schema: medmcl/recipe@1")
    with pytest.raises(CohortError, match="is a recipe, not a cohort"):
        open_cohort(tiny.folder / "r.yaml")
    with pytest.raises(CohortError, match=r"the folder that holds cohort\.yaml"):
        open_cohort(tiny.folder / "people.csv")


def own_table(tiny, **keys):
    """Give the report a table of its own, one row a subject, beside the ECG with its visits."""
    visits(tiny)
    ids = tiny.table["subject_id"]
    table = pd.DataFrame(
        {"subject_id": ids, "rid": "r" + ids, "note": "words", "day": "2019-12-31"}
    )
    table.to_csv(tiny.folder / "reports.csv", index=False)
    tiny.only("ecg", "report")
    tiny.tree["modalities"]["report"] |= {"table": "reports.csv", **keys}
    tiny.table["base"] = "2020-02-01"


def levels(tiny):
    _, findings = load_cohort(tiny.write())
    return [(f.level, f.code, f.where) for f in findings if f.code.endswith("no_date")]


REPORT = "modalities.report"


@pytest.mark.parametrize("gap", [{}, {"max_gap_days": 30}])
def test_pairing_by_date_needs_the_dates_of_records_with_a_table_of_their_own(tiny, gap):
    own_table(tiny, record="rid")
    tiny.tree["pairing"] = {"on": "date", **gap}
    assert levels(tiny) == [("error", "pairing.no_date", REPORT)]
    with pytest.raises(CohortError, match=r"report(?s:.*)no_date(?s:.*)date: COLUMN"):
        open_cohort(tiny.folder)
    tiny.tree["modalities"]["report"]["date"] = "day"
    assert levels(tiny) == []
    samples = open_cohort(tiny.folder).samples
    paired = samples[samples["ecg"].notna() & samples["report"].notna()]["ecg"].tolist()
    assert paired == (["v1", "v3"] if gap else ["v1", "v2", "v3"])  # v2 is 61 days off, v4 undated


def test_the_only_record_of_a_person_may_lack_a_date_and_the_gap_that_is_void_is_said(tiny):
    own_table(tiny)
    tiny.tree["pairing"] = {"on": "date"}
    assert levels(tiny) == []
    tiny.tree["pairing"]["max_gap_days"] = 30
    assert levels(tiny) == [("warning", "pairing.no_date", REPORT)]
    assert "max_gap_days: 30" in load_cohort(tiny.folder)[1][-1].what
    tiny.only("report")  # nothing to pair with
    assert levels(tiny) == []


def test_an_index_date_needs_the_dates_of_records_with_a_table_of_their_own(tiny):
    own_table(tiny, record="rid")
    tiny.tree["index"] = {"column": "base"}
    tiny.tree["pairing"] = {"on": "subject", "anchor": "ecg"}
    assert levels(tiny) == [("error", "index.no_date", REPORT)]
    del tiny.tree["modalities"]["report"]["record"]
    assert levels(tiny) == [("warning", "index.no_date", REPORT)]
    assert "taken as known at the index date" in load_cohort(tiny.folder)[1][-1].what
    tiny.tree["modalities"]["report"]["date"] = "day"
    assert levels(tiny) == []


@pytest.mark.parametrize(
    ("index", "level"), [({"column": "base"}, "warning"), ({"modality": "clinic"}, "error")]
)
def test_a_modality_of_the_subjects_table_is_known_at_an_index_date_and_gives_none(
    tiny, index, level
):
    visits(tiny)
    tiny.only("ecg", "clinic")
    tiny.table["base"] = "2020-02-01"
    tiny.tree["index"] = index
    assert levels(tiny) == [(level, "index.no_date", "modalities.clinic")]


@pytest.mark.parametrize(
    ("access", "said"), [("ask Ann", "ask Ann; or"), (None, "README.md says how to get the data")]
)
def test_where_data_are_not_found_the_mend_says_how_to_get_them(tiny, access, said):
    (tiny.folder / "README.md").write_text("# how")
    tiny.tree["access"] = access
    tiny.write()
    (tiny.folder / "people.csv").unlink()
    for cause in ("no such file", "not a folder"):
        with pytest.raises(CohortError, match=cause) as caught:
            open_cohort(tiny.folder)
        assert said in caught.value.fix
        tiny.tree["data_root"] = "nowhere"
        (tiny.folder / "cohort.yaml").write_text(yaml.safe_dump(tiny.tree))


def test_people_seen_at_two_sites_are_refused_or_of_no_known_site_and_counted(tiny):
    tiny.only("ecg")
    tiny.table["site"] = ["A"] * 6 + ["B"] * 6
    again = tiny.table.iloc[[0, 1, 2]].assign(site=["B", None, "A"], split="train")
    tiny.table = pd.concat([tiny.table, again])
    with pytest.raises(
        CohortError, match="'site' differs between the rows of 2 subjects"
    ) as caught:
        open_cohort(tiny.write())
    fix = str(caught.value)
    assert "rows 1 and 13, both subject s000" in fix
    assert "correct 'subject_id' or 'site' of these rows" in fix
    assert "--set cohort.subjects.group_varies=unknown" in fix
    assert "of: MODALITY" not in fix  # that is how labels belong to records, not sites
    cohort = open_cohort(tiny.folder, {"subjects.group_varies": "unknown"})
    groups = cohort.sites
    assert groups.isna().to_dict() == {name: name == "s000" for name in groups.index}
    assert groups.value_counts().to_dict() == {"A": 5, "B": 6}  # s001: one row names none
    (told,) = [one for one in cohort.findings if one.code == "cohort.several_groups"]
    assert told.level == "warning"
    assert "1 subject with rows of several sites, for example s000" in told.what


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"index": {"column": "day"}}, "index.column", "index: {modality: NAME}"),
        ({"modalities.ecg.present": "day == 'x'"}, "modalities.ecg", "table of its own"),
        (
            {"tasks.when": {"kind": "binary", "column": "day == 'x'"}},
            "task when",
            "`of: MODALITY` in tasks.when",
        ),
    ],
)
def test_what_differs_within_a_subject_says_how_its_own_key_is_put_right(tiny, changes, what, fix):
    tiny.only("ecg")
    tiny.table["day"] = "2020-01-01"
    tiny.table = pd.concat([tiny.table, tiny.table.iloc[[0]].assign(day="2021-01-01")])
    found = [one for one in load_cohort(tiny.write(), changes)[1] if "'day' differs" in one.what]
    assert found
    assert all(what in one.where for one in found)
    assert all(fix in one.fix for one in found)


def test_small_groups_are_pooled_and_told(tiny):
    tiny.table["site"] = ["A"] * 6 + ["B"] * 2 + ["C"] * 3 + [None]
    tiny.tree["subjects"]["group_min"] = 5
    cohort = open_cohort(tiny.write())
    groups = cohort.sites
    assert groups.value_counts().to_dict() == {"A": 6, "pooled": 5}
    assert groups.isna().sum() == 1
    (told,) = [one for one in cohort.findings if one.code == "cohort.pooled"]
    assert told.level == "warning"
    assert "2 sites of fewer than 5 subjects (5 in all)" in told.what
    tiny.tree["subjects"]["group_min"] = 1
    assert set(open_cohort(tiny.write()).sites.dropna()) == {"A", "B", "C"}


def test_a_value_that_stands_for_a_missing_cell_is_one_everywhere_and_counted(tiny):
    before = open_cohort(tiny.folder).fingerprint
    tiny.table["subject_id"] = [str(number) for number in 998 + np.arange(len(tiny.table))]
    tiny.only("clinic")
    tiny.table["ldl"] = [999 if n % 5 == 0 else n for n in range(len(tiny.table))]
    tiny.table["grade"] = ["not known" if n % 4 == 0 else str(n) for n in range(len(tiny.table))]
    tiny.tree["modalities"]["clinic"]["columns"] |= {"ldl": "auto", "grade": "auto"}
    tiny.tree["tasks"]["high"] = {"kind": "binary", "column": "ldl > 3"}
    tiny.tree["missing"] = {"l*": 999, "grade": ["not known"], "hdl": [-9]}
    tiny.write()
    cohort = open_cohort(tiny.folder)
    assert cohort.fingerprint != before
    cells = [place.values for place in cohort.records["clinic"]["place"]]
    assert [row["ldl"] for row in cells][:6] == [None, 1, 2, 3, 4, None]
    assert [row["grade"] for row in cells][:3] == [None, 1, 2]  # a number: the word is none
    assert cohort.spec.modalities["clinic"].source.columns["grade"].kind == "number"
    assert (~cohort.targets("high").known[:, 0]).tolist() == [
        n % 5 == 0 for n in range(len(tiny.table))
    ]
    told = [one for one in cohort.findings if one.code == "cohort.missing_code"]
    lost = [sum(n % k == 0 for n in range(len(tiny.table))) for k in (5, 4)]
    assert f"{sum(lost)} cells taken as missing" in told[0].what
    assert told[0].what.endswith(f"ldl {lost[0]}, grade {lost[1]}")
    assert told[1].what.startswith("no table has a column 'hdl'; did you mean 'ldl'?")
    tiny.tree["missing"] = [999]  # of every column but ids
    tiny.write()
    assert open_cohort(tiny.folder).subjects.index.tolist() == tiny.table["subject_id"].tolist()
    tiny.tree["missing"] = {"ldl": [False]}
    tiny.write()
    with pytest.raises(CohortError, match="write words in quotes"):
        open_cohort(tiny.folder)


def test_the_key_that_a_code_for_a_gap_is_named_under_works_as_it_is_told(tiny):
    tiny.table["Age (y)"] = [float(n) for n in range(len(tiny.table) - 1)] + [-9999.0]
    tiny.tree["modalities"]["clinic"]["columns"]["Age (y)"] = "number"
    tiny.only("clinic")

    def told():
        return [one for one in check_cohort(tiny.folder) if one.code == "tabular.gap_code"]

    (found,) = told()
    tiny.tree |= yaml.safe_load(re.search(r"`(missing: .*?)`", found.fix)[1])
    tiny.write()
    assert told() == []


def test_a_key_that_another_tool_wrote_as_true_is_named_with_its_quotes(tiny):
    tiny.tree["pairing"] = {True: "date", "max_gap_days": 30}  # `on` by YAML 1.1
    tiny.tree["subgroups"] = {"sex": {"column": "sex", "names": {0: "none", "M": "men"}}}
    tiny.write()
    (fault,) = [one for one in check_cohort(tiny.folder) if one.level == "error"]
    assert fault.what == (
        "'pairing': the key true must be text: other tools read on as true; write \"on\" in quotes"
    )
    tiny.tree["pairing"] = {"on": "subject"}  # safe_dump writes it in quotes
    tiny.write()
    assert open_cohort(tiny.folder).spec.keys.pairing.on == "subject"


@pytest.mark.parametrize("first", ["1.1", "1000000000000000001"])
def test_ids_that_are_one_float_are_two_people(first, tmp_path):
    """Person 1.10 had the labs of person 1.1, and of 300 people with 19 digits three were left."""
    ids = [first, "1.10" if "." in first else "1000000000000000002", "7.0"]
    people = pd.DataFrame({"pid": ids, "split": "train"})
    people.to_csv(tmp_path / "people.csv", index=False)
    labs = pd.DataFrame({"pid": [ids[1], ids[0], "7"], "value": [10.0, 1.0, 7.0]})
    labs.to_csv(tmp_path / "labs.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "pid", "split": "split"},
        "modalities": {"labs": {"reader": "table", "table": "labs.csv", "columns": ["value"]}},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    cohort = open_cohort(tmp_path)
    assert [*cohort.subjects.index] == [*ids[:2], "7"]
    found = {one.subject: one.values["value"] for one in cohort.records["labs"]["place"]}
    assert found == {ids[0]: 1.0, ids[1]: 10.0, "7": 7.0}


def test_a_where_that_nobody_meets_is_named(tiny):
    tiny.tree["subjects"]["where"] = "subject_id == 'nobody'"
    tiny.write()
    with pytest.raises(CohortError, match=r"no subject is in a split(.|\n)*12 rows not meeting"):
        open_cohort(tiny.folder)


def test_people_who_are_left_out_for_another_spelling_are_told(tmp_path):
    """Who consented with 'Yes' was left out, and counted as not meeting `where`."""
    table = pd.DataFrame({"id": list("abcd"), "ok": ["yes", "Yes", "no", "yes"], "x": [1, 2, 3, 4]})
    table.assign(split=["train", "train", "train", "held_out"]).to_csv(tmp_path / "t.csv")
    (tmp_path / "cohort.yaml").write_text(
        """schema: medmcl/cohort@1
subjects: {table: t.csv, id: id, split: split, where: "ok != 'no' and ok == 'yes'"}
modalities: {m: {reader: table, columns: [x], present: "isin(ok, 'yes')"}}
"""
    )
    found = [one for one in open_cohort(tmp_path).findings if "two_sp" in one.code]
    assert [one.where for one in found] == ["subjects.where"]  # of those left, all are 'yes'
    assert found[0].what.startswith("'ok' also holds 'Yes' (1), which `ok != 'no'")


def test_a_site_that_calls_a_column_otherwise_is_told(tmp_path):
    """Everybody of it had no BMI, and the mean of the others stood in."""
    for site, name in (("ayr", "bmi"), ("bonn", "BMI")):
        rows = pd.DataFrame({"id": [f"{site}{n}" for n in range(3)], name: 27.5, "age": 60})
        rows.assign(split=["train", "train", "held_out"]).to_csv(tmp_path / f"{site}.csv")
    (tmp_path / "cohort.yaml").write_text(
        """schema: medmcl/cohort@1
subjects: {table: "{site}.csv", id: id, split: split, group: site}
modalities: {m: {reader: table, columns: [bmi, age]}}
"""
    )
    found = [one.what for one in open_cohort(tmp_path).findings if one.code == "cohort.columns"]
    assert found == [
        "'bmi' is in 1 of 2 files, and empty in 3 rows of bonn.csv",
        "'BMI' is in 1 of 2 files, and empty in 3 rows of ayr.csv",
    ]
