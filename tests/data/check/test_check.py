import re

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding
from medmcl.data.check.check import check_cohort, check_tasks, summarise
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.stages.recipe.inspect import written

SCANT = {"cohort.few_held_out", "cohort.few_tuning", "task.few_held_out"}
"""Of a cohort of two held-out subjects."""


def found(tiny, inputs=None, **options):
    every = check_cohort(tiny.folder, inputs, **options)
    return [finding for finding in every if finding.code not in SCANT]


def of(findings, code):
    hits = [finding for finding in findings if finding.code == code]
    assert hits, sorted({finding.code for finding in findings})
    assert all(finding.fix and finding.what and finding.where for finding in hits)
    return hits


def spoil(tiny, **changes):
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = tiny.tree
        for part in parents:
            node = node[part]
        node[last] = value
    tiny.write()


def test_a_sound_cohort_has_no_finding(tiny, inputs):
    assert found(tiny, inputs) == []


@pytest.mark.parametrize("content", [b"", b"\x00\xff nonsense"])
def test_a_damaged_header_is_a_fault_of_its_record(tiny, content):
    (tiny.folder / "ecg" / "s002.hea").write_bytes(content)
    findings = found(tiny)
    assert len(findings) == 1
    assert findings[0].scope == "record"
    assert findings[0].level == "error"
    assert "s002" in findings[0].where


def test_a_missing_file_is_named_and_a_missing_folder_is_one_finding(tiny):
    (tiny.folder / "ecg" / "s002.hea").unlink()
    (tiny.folder / "ecg" / "s002.dat").unlink()
    assert "s002" in of(found(tiny), "ecg.missing_file")[0].where
    (tiny.folder / "ecg").rename(tiny.folder / "gone")
    findings = found(tiny)
    assert "none of its 12 files" in of(findings, "cohort.no_files")[0].what
    assert str(tiny.folder) in of(findings, "cohort.no_files")[0].fix


def test_nan_and_constant_records_are_found(tiny):
    stored = np.load(tiny.folder / "cmr.npy")
    stored[1, 0, 0, 0] = np.nan
    stored[2] = 7
    np.save(tiny.folder / "cmr.npy", stored)
    findings = found(tiny)
    assert "s001" in of(findings, "cmr.nan")[0].where
    assert "s002" in of(findings, "cmr.constant")[0].where


def test_a_wrong_rate_and_a_row_beyond_the_array_are_found(tiny):
    spoil(tiny, modalities__ecg__rate_hz=500)
    tiny.table.loc[4, "row"] = 99
    tiny.write()
    findings = found(tiny)
    assert len([f for f in findings if f.code.startswith("ecg.")]) >= 1
    assert "s004" in of(findings, "cmr.unreadable")[0].where


def test_a_copy_under_two_subjects_is_an_error_and_within_one_a_warning(tiny):
    stored = np.load(tiny.folder / "cmr.npy")
    stored[10] = stored[0]
    np.save(tiny.folder / "cmr.npy", stored)
    hits = of(found(tiny), "cmr.duplicate")
    assert {f.level for f in hits} == {"error"}
    assert len(hits) == 2
    assert "s010" in hits[0].what
    table = pd.DataFrame(
        {"subject_id": ["s000", "s000", "s001"], "id": ["a", "b", "c"], "row": [3, 3, 5]}
    )
    table.to_csv(tiny.folder / "scans.csv", index=False)
    spoil(tiny, modalities__cmr__table="scans.csv", modalities__cmr__record="id")
    spoil(tiny, pairing={"anchor": "cmr"}, modalities__cmr__present="notnull(id)")
    assert {f.level for f in of(found(tiny), "cmr.duplicate")} == {"warning"}


def test_columns_that_are_not_there_name_the_nearest(tiny):
    spoil(tiny, modalities__clinic__columns={"agee": "number"}, subjects__group="sitee")
    findings = found(tiny)
    text = " ".join(f.what for f in of(findings, "cohort.column"))
    assert "did you mean 'site'" in text
    spoil(tiny, subjects__group="site")
    findings = found(tiny)
    assert "did you mean 'age'" in of(findings, "cohort.column")[0].what
    assert of(findings, "cohort.column")[0].scope == "cohort"


def test_faults_of_outcomes_belong_to_their_task(tiny):
    tiny.table["flat"] = 1
    tiny.table.loc[3, "days"] = -4
    spoil(
        tiny,
        tasks__flat={"kind": "binary", "column": "flat"},
        tasks__word={"kind": "binary", "column": "sex"},
        tasks__gone={"kind": "regression", "column": "agee"},
    )
    findings = found(tiny)
    for code, task in {
        "task.one_class": "flat",
        "task.negative_time": "death",
        "task.not_binary": "word",
        "task.missing_column": "gone",
    }.items():
        hit = of(findings, code)[0]
        assert (hit.scope, hit.task, hit.level) == ("task", task, "error")
    assert "1 time below zero" in of(findings, "task.negative_time")[0].what
    cohort = open_cohort(tiny.folder)
    assert cohort.usable_tasks == ["sick"]
    assert check_tasks(cohort, ["sick"]) == []
    with pytest.raises(CohortError, match="is 1 for all 12"):
        cohort.targets("flat")
    assert {finding.code for finding in check_cohort(cohort, tasks=["sick"])} == SCANT


def test_a_modality_that_nobody_has_is_an_error_for_a_recipe_that_reads_it(tiny, inputs):
    spoil(tiny, modalities__cmr__present="has_cmr == 9")
    assert of(found(tiny), "cohort.modality_absent")[0].level == "warning"
    assert of(found(tiny, inputs), "cohort.modality_absent")[0].level == "error"
    spoil(tiny, modalities__cmr__present="split != 'train'")
    assert "train split" in of(found(tiny, inputs), "cohort.modality_absent")[0].what


def test_settings_of_a_recipe_are_tried_on_a_few_records(tiny, inputs):
    inputs["cmr"]["spacing_mm"] = 1.4
    assert "spacing" in of(found(tiny, inputs), "cmr.unprepared")[0].what
    inputs["cmr"] = {"sizee": 3}
    hit = of(found(tiny, inputs), "recipe.inputs")[0]
    assert (hit.scope, hit.where) == ("cohort", "inputs.cmr")
    assert "did you mean 'size'" in hit.what


def test_an_input_that_makes_the_outcome_is_a_warning(tiny):
    spoil(tiny, tasks__old={"kind": "binary", "column": "age > 60"})
    hit = of(found(tiny), "task.leak")[0]
    assert (hit.level, hit.task) == ("warning", "old")
    assert "age" in hit.what


def test_a_limit_reads_some_records_and_says_so(tiny):
    (tiny.folder / "ecg" / "s001.hea").unlink()
    findings = found(tiny, limit=2)
    assert "2 of 12 records" in of(findings, "check.sampled")[0].what
    assert not [f for f in findings if f.code.startswith("ecg.")]


def test_progress_counts_every_record(tiny):
    seen = []
    found(tiny, progress=seen.append)
    assert seen[-1] == 12 + 9 + 12 + 12
    assert seen == sorted(set(seen))
    assert set(range(1, 12 + 9 + 1)) <= set(seen)  # files; sound rows of a table are told at once


def test_everything_is_found_at_once(tiny, inputs):
    """The faults of the issue, injected together."""
    tiny.table["flat"] = 0
    tiny.table.loc[2, "days"] = -1
    tiny.table = pd.concat([tiny.table, tiny.table.iloc[[1]].assign(split="held_out")])
    spoil(tiny, tasks__flat={"kind": "binary", "column": "flat"}, recipee="x")
    stored = np.load(tiny.folder / "cmr.npy")
    stored[9] = stored[0]
    stored[4, 0] = np.nan
    np.save(tiny.folder / "cmr.npy", stored)
    ecg = tiny.folder / "ecg"
    (ecg / "s003.dat").write_bytes(b"")
    (ecg / "s006.hea").unlink()
    (ecg / "s006.dat").unlink()
    findings = found(tiny, inputs)
    codes = {finding.code for finding in findings}
    assert {
        "config.unknown_key",
        "cohort.split_leak",
        "task.one_class",
        "task.negative_time",
        "cmr.duplicate",
        "cmr.nan",
        "ecg.missing_file",
    } <= codes
    assert any("s003" in finding.where for finding in findings)
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels)
    with pytest.raises(CohortError, match="recipee"):
        open_cohort(tiny.folder)
    assert sum(count for _, count, _ in summarise(findings)) == len(findings)


def test_a_fault_of_the_file_names_the_pages_that_help(tiny):
    spoil(tiny, modalities__ecg__reader="wfdbb")
    fix = of(found(tiny), "config.invalid")[0].fix
    assert "docs/cohort.md" in fix
    assert "docs/data_formats.md" in fix


def test_no_mend_says_to_exclude_a_record_that_will_be_excluded(tiny):
    spoil(tiny, on_bad_record="exclude")
    stored = np.load(tiny.folder / "cmr.npy")
    stored[1, 0, 0, 0], stored[2], stored[4] = np.nan, 7, stored[0]
    np.save(tiny.folder / "cmr.npy", stored)
    (tiny.folder / "ecg" / "s000.dat").unlink()
    (tiny.folder / "ecg" / "s001.dat").write_bytes(b"")
    tiny.write_ecg("s002", np.zeros((12, 200)))
    tiny.table.loc[5, "note"] = ""
    tiny.write()
    findings = [finding for finding in found(tiny) if "will be excluded" in finding.what]
    assert len(findings) >= 7
    assert not [finding for finding in findings if "exclude" in finding.fix]


def test_a_check_that_breaks_does_not_call_the_file_damaged(tiny, monkeypatch):
    def broken(self, raw, place):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("medmcl.modalities.ecg.adapter.ECG.inspect", broken)
    (hit,) = of(found(tiny), "ecg.unchecked")
    assert "each of its 12 records: can be read, but not checked (ZeroDivisionError" in hit.what
    assert "the first: subject s000" in hit.what


def test_yaml_that_is_broken_is_a_clear_error(tiny):
    (tiny.folder / "cohort.yaml").write_text("subjects: {table: [\n")
    with pytest.raises(ValueError, match="is not valid YAML"):
        found(tiny)
    (tiny.folder / "cohort.yaml").write_text(yaml.safe_dump({"subjects": 3, "modalities": []}))
    assert of(found(tiny), "config.invalid")


def test_what_will_be_excluded_is_a_warning_and_keeps_its_code(tiny, inputs):
    spoil(tiny, on_bad_record="exclude")
    (tiny.folder / "ecg" / "s002.dat").unlink()
    for suffix in (".dat", ".hea"):
        data = (tiny.folder / "ecg" / f"s000{suffix}").read_bytes()
        (tiny.folder / "ecg" / f"s008{suffix}").write_bytes(data.replace(b"s000.dat", b"s008.dat"))
    findings = found(tiny, inputs)
    assert {finding.level for finding in findings} == {"warning"}
    for code, count in (("ecg.missing_file", 1), ("ecg.duplicate", 2)):
        hits = of(findings, code)
        assert len(hits) == count
        assert all("will be excluded" in hit.what for hit in hits)
    spoil(tiny, on_bad_record="refuse")
    assert {finding.level for finding in found(tiny, inputs)} == {"error"}


def test_a_split_that_exclusion_leaves_without_a_modality_is_told_with_counts(tiny):
    spoil(tiny, on_bad_record="exclude")
    assert found(tiny) == []
    splits = tiny.table.set_index("subject_id")["split"]
    for name in splits[splits == "tuning"].index:
        (tiny.folder / "ecg" / f"{name}.dat").write_bytes(b"")
    (hit,) = of(found(tiny), "cohort.modality_absent")
    counts = splits.value_counts()
    assert f"tuning 0 of {counts['tuning']}" in hit.what
    assert f"train {counts['train']} of {counts['train']}" in hit.what
    assert hit.level == "warning"


def test_excluding_excuses_neither_the_cohort_nor_settings_nor_a_modality_without_records(
    tiny, inputs
):
    spoil(tiny, on_bad_record="exclude", subjectz=1)
    inputs["cmr"]["spacing_mm"] = 1.4
    for path in (tiny.folder / "ecg").glob("*.dat"):
        path.write_bytes(b"")
    findings = found(tiny, inputs)
    for code in ("config.unknown_key", "cmr.unprepared", "cohort.modality_absent"):
        assert [hit.level for hit in of(findings, code)] == ["error"]
    assert "none of its 12 records" in of(findings, "cohort.modality_absent")[0].what


def test_missing_signal_files_beside_headers_are_named_one_by_one(tiny):
    for path in (tiny.folder / "ecg").glob("*.dat"):
        path.unlink()
    assert len(of(found(tiny), "ecg.missing_file")) == 12


def test_a_summary_keeps_errors_and_warnings_of_one_code_apart():
    both = [
        Finding(code="x.y", where=str(n), what="w", fix="m", level=level)
        for n, level in enumerate(("warning", "error", "warning"))
    ]
    summary = summarise(both)
    assert [(code, count, shown[0].level) for code, count, shown in summary] == [
        ("x.y", 1, "error"), ("x.y", 2, "warning")
    ]  # fmt: skip


def truncate(tiny, subject="s001"):
    path = tiny.folder / "ecg" / f"{subject}.dat"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"schema": "medmcl/cohort@9"}, "config.invalid", "'schema'"),
        ({"modalities__ecg__reader": "wdfb"}, "config.invalid", "did you mean 'wfdb'"),
        ({"modalities__report__reader": 5}, "config.invalid", "unknown reader '5'"),
        ({"modalities__cmr__axes": "abc"}, "config.invalid", "'modalities.cmr': axes"),
        ({"tasks__death__kind": "survial"}, "config.invalid", "did you mean 'survival'"),
        ({"tasks__death__unit": "dais"}, "config.invalid", "did you mean 'days'"),
        ({"tasks__death__horizons_years": [5, 1]}, "config.invalid", "rising order"),
        ({"subjects__split": {}}, "config.invalid", "either a column, or random"),
        ({"subjects__where": "agee > 3"}, "cohort.column", "did you mean 'age'"),
        ({"subjects__group": "sitee"}, "cohort.column", "did you mean 'site'"),
        ({"subjects__split": "sex"}, "cohort.invalid", "values that name no split: F, M"),
        (
            {"subjects__join": [{"table": "none.csv", "on": "subject_id"}]},
            "cohort.invalid",
            "no such file",
        ),
        ({"index": {"column": "bas"}}, "cohort.column", "no column 'bas'"),
        ({"pairing": {"max_gap_days": 3}}, "config.invalid", "needs on: date"),
        ({"modalities__report__table": "none.csv"}, "cohort.invalid", "no such file"),
        ({"prompts": {"sik": {}}}, "config.invalid", "did you mean 'sick'"),
        ({"on_bad_record": "drop"}, "config.invalid", "'on_bad_record'"),
    ],
)
def test_whatever_is_wrong_with_the_file_the_records_are_looked_at_too(tiny, changes, code, words):
    truncate(tiny)
    spoil(tiny, **changes)
    findings = found(tiny)
    errors = [finding for finding in findings if finding.level == "error"]
    assert sorted(finding.code for finding in errors) == sorted([code, "ecg.unreadable"])
    assert words in of(findings, code)[0].what
    with pytest.raises(CohortError):
        open_cohort(tiny.folder)


def test_mistakes_of_many_kinds_come_in_one_check(tiny):
    truncate(tiny)
    tiny.table.loc[2, "split"] = "test"
    tiny.table.loc[5, "days"] = -3
    tiny.table["grade"] = 2.0
    tiny.tree["tasks"]["grade"] = {"kind": "binary", "column": "grade"}
    spoil(
        tiny,
        subjectz=1,
        modalities__ecg__reader="wdfb",
        modalities__report={"column": "note"},
        tasks__sick__kind="binry",
    )
    findings = found(tiny)
    said = {(finding.code, finding.level) for finding in findings if finding.level == "error"}
    assert said == {
        (code, "error")
        for code in (
            "config.unknown_key", "config.invalid", "cohort.invalid", "task.negative_time",
            "task.not_binary", "ecg.unreadable",
        )
    }  # fmt: skip
    lines = [finding.what for finding in of(findings, "config.invalid")]
    assert len(lines) == 3, lines
    for words in ("unknown reader 'wdfb'", "'modalities.report' needs a reader", "binary"):
        assert any(words in line for line in lines), words
    assert of(findings, "task.not_binary")[0].what.endswith("it holds 2 (12)")


def test_every_table_that_is_missing_is_named(tiny):
    tiny.tree["modalities"]["report"]["table"] = "reports.csv"
    tiny.tree["maps"] = {"scp": {"table": "scp.csv", "key": "a", "value": "b"}}
    tiny.write()
    (tiny.folder / "people.csv").unlink()
    places = [finding.where for finding in of(found(tiny), "cohort.invalid")]
    assert sorted(place.rsplit("/", 1)[1] for place in places) == [
        "people.csv", "reports.csv", "scp.csv"
    ]  # fmt: skip


def test_the_tasks_are_checked_even_where_no_modality_is_left(tiny):
    tiny.table.loc[5, "days"] = -3
    tiny.only("ecg")
    spoil(tiny, modalities__ecg={"path": "x"})
    findings = found(tiny)
    assert of(findings, "task.negative_time")
    assert of(findings, "config.invalid")


@pytest.mark.parametrize(
    ("modality", "key", "wrong"),
    [("ecg", "path", "paht"), ("ecg", "reader", "readr"), ("cmr", "path", "pth"),
     ("ecg", "units", "unit"), ("report", "column", "colum")],
)  # fmt: skip
def test_a_misspelt_key_of_a_modality_is_one_error_and_its_records_are_read(
    tiny, modality, key, wrong
):
    section = tiny.tree["modalities"][modality]
    section[wrong] = section.pop(key)
    findings = check_cohort(tiny.write())
    (one,) = [finding for finding in findings if finding.level == "error"]
    assert one.code == "config.unknown_key"
    assert f"'modalities.{modality}.{wrong}'; did you mean '{key}'?" in one.what
    counts = {count.modality: count for count in findings.overview.records}
    assert counts[modality].faulty == 0
    assert counts[modality].read > 0


def test_a_modality_without_a_path_is_one_error_and_nobody_is_told_to_leave_all_out(tiny):
    for name in ("ecg", "cmr"):
        del tiny.tree["modalities"][name]["path"]
    findings = check_cohort(tiny.write())
    errors = [finding for finding in findings if finding.level == "error"]
    assert len(errors) == 2
    assert all("each of its" in error.what and "path" in error.fix for error in errors)
    assert "exclude" not in written(findings)


def test_only_where_some_records_are_left_may_the_others_be_left_out(tiny, inputs):
    path = tiny.folder / "ecg" / "s002.dat"
    path.write_bytes(path.read_bytes()[:40])
    assert "on_bad_record=exclude" in written(check_cohort(tiny.folder))
    for number in range(12):
        (tiny.folder / "ecg" / f"s{number:03d}.dat").write_bytes(b"short")
    findings = check_cohort(tiny.folder)
    assert of(findings, "ecg.unreadable")
    assert "exclude" not in written(findings)
    with pytest.raises(CohortError, match="no record of ecg can be used") as told:
        prepare(open_cohort(tiny.folder), {"ecg": inputs["ecg"]}, cache=tiny.folder / "cache")
    assert "exclude" not in str(told.value)


def test_an_id_typed_twice_is_named_by_its_rows_and_hides_no_other_fault(tiny):
    tiny.table.loc[5, "subject_id"] = "s004"
    tiny.table["sick"] = tiny.table["sick"].astype(str)
    tiny.table.loc[7, "sick"] = "yes"
    tiny.table.loc[8, "days"] = -3
    tiny.tree["tasks"]["sick"]["column"] = "sick"
    tiny.tree["modalities"]["clinic"]["columns"]["agee"] = "number"
    tiny.write()
    findings = found(tiny)
    for hit in [*of(findings, "task.varies"), *of(findings, "cohort.invalid")]:
        assert "rows 5 and 6, both subject s004" in hit.what
        assert hit.fix.startswith("correct 'subject_id' or '")
    assert "'yes' (1 row: subject s007)" in of(findings, "task.not_binary")[0].what
    assert "subject s008" in of(findings, "task.negative_time")[0].what
    assert "'agee'; did you mean 'age'?" in of(findings, "cohort.column")[0].what
    with pytest.raises(CohortError, match="rows 5 and 6, both subject s004"):
        open_cohort(tiny.folder)


def test_what_was_not_looked_at_is_said(tiny):
    tiny.tree["modalities"]["ecg"]["date"] = "nope"
    tiny.tree["tasks"]["lost"] = {"kind": "binary"}
    tiny.tree["tasks"]["of_ecg"] = {"kind": "binary", "of": "ecg", "column": "sick"}
    overview = check_cohort(tiny.write()).overview
    assert overview.faulty_modalities == ("ecg",)
    lines = {line.split("  ")[0].strip(): line for line in str(overview).splitlines()}
    for name in ("ecg records", "lost", "of_ecg"):
        assert lines[name].endswith("cannot be used")


def test_no_table_of_that_name_names_the_nearest_file(tiny):
    tiny.tree["subjects"]["table"] = "poeple.csv"
    (finding,) = check_cohort(tiny.write())
    assert "there is no such file; did you mean 'people.csv'?" in finding.what
    assert "--set data_root=FOLDER" in finding.fix


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ecgs/{subject_id}", "there is no folder 'ecgs' in {folder}; did you mean 'ecg'?"),
        ("ecg/{subject_id}_", "did you mean 's000.hea'?"),
        ("far/away/{subject_id}", "there is no folder 'far' in {folder}, which holds ecg"),
    ],
)
def test_a_wrong_path_says_what_is_there(tiny, path, said):
    tiny.tree["modalities"]["ecg"]["path"] = path
    tiny.write()
    assert said.format(folder=tiny.folder) in of(found(tiny), "cohort.no_files")[0].what


def test_a_wfdb_path_with_its_suffix_works(tiny):
    tiny.tree["modalities"]["ecg"]["path"] = "ecg/{subject_id}.hea"
    tiny.write()
    assert found(tiny) == []


def test_an_odd_cell_of_presence_is_named_and_the_mend_keeps_its_record(tiny):
    tiny.only("clinic", "cmr")
    tiny.table["has_cmr"] = [*tiny.table["has_cmr"].astype(str)[:-2], "yes", "0"]
    (found,) = [one for one in check_cohort(tiny.write()) if "cmr" in one.where]
    assert "'has_cmr' is a number, but for 'yes' (1 row: subject s010)" in found.what
    fix = re.search(r"isin\(.*?\)", found.fix)[0]
    tiny.tree["modalities"]["cmr"]["present"] = fix
    has = set(load_cohort(tiny.write())[0].records["cmr"]["subject"])
    assert has == set(tiny.table["subject_id"][tiny.table["has_cmr"].isin(["1", "yes"])])


def test_a_task_that_is_no_expression_is_named_and_the_rest_is_checked(tiny):
    tiny.only("clinic")
    tiny.tree["tasks"]["died"] = {"kind": "binary", "column": "sick = 1"}
    tiny.tree["tasks"]["old"] = {"kind": "binary", "column": "agee > 60"}
    found = {one.where: one for one in check_cohort(tiny.write()) if one.level == "error"}
    assert set(found) == {"task died", "task old"}
    assert found["task died"].code == "task.expression"
    assert "write == for =" in found["task died"].fix


def test_no_cell_is_judged_whose_column_was_refused_before_its_kind_was_known(tmp_path):
    rows = [f"p{n},{40 + n},{'FM'[n % 2]},{n % 2}" for n in range(40)]
    table = "\n".join(["patient_id,age,sex,dead", *rows, "p0,50,M,1"])
    (tmp_path / "people.csv").write_text(table)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "patient_id"},
        "modalities": {"clinical": {"reader": "table", "columns": ["age", "sex"]}},
        "tasks": {"death": {"kind": "binary", "column": "dead"}},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    findings = check_cohort(tmp_path)
    errors = [one for one in findings if one.level == "error"]
    assert len(errors) == 2
    assert all("differs between the rows of one subject (rows 1 and 41" in e.what for e in errors)
    assert "clinical records" in str(findings.overview)
    assert "refused" not in str(findings.overview)
