import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.config import parse_yaml
from medmcl.data.cohort.manifest import parse_spec, refuse

SOUND = parse_yaml("""
schema: medmcl/cohort@1
subjects: {table: p.csv, id: id, split: split, join: [{table: q.csv, on: {id: eid}}]}
modalities:
  ecg: {reader: wfdb, path: "ecg/{id}", rate_hz: 500, units: mV}
  cmr: {reader: nifti, path: "{id}.nii.gz", axes: xyzt}
  clinic: {reader: table, columns: {age: number, sex: category}}
  report: {reader: text, table: r.csv, record: rid, column: text}
tasks:
  sick: {kind: binary, column: "x > 0"}
  lvef: {kind: regression, column: ef, unit: "%"}
  labels: {kind: multilabel, of: ecg, columns: [NORM, MI]}
  death: {kind: survival, time: days, event: died, horizons_years: [1]}
pairing: {on: date, max_gap_days: 30}
prompts: {labels: {NORM: [normal], MI: infarct}}
""")


def change(**changes):
    tree = copy.deepcopy(SOUND)
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = tree
        for part in parents:
            node = node[part]
        node[last] = value
    return tree


def said(tree):
    spec, findings = parse_spec(tree, "cohort.yaml")
    return spec, [finding.what for finding in findings]


def test_a_sound_file_has_no_finding():
    spec, findings = parse_spec(SOUND, "cohort.yaml")
    assert findings == []
    assert [m.kind for m in spec.modalities.values()] == ["ecg", "cmr", "tabular", "text"]
    assert spec.tasks["labels"].columns == {"NORM": "NORM", "MI": "MI"}
    assert spec.keys.prompts == {"labels": {"NORM": ("normal",), "MI": ("infarct",)}}
    assert spec.anchor == "ecg"


def test_the_key_on_is_not_read_as_truth():
    assert SOUND["pairing"] == {"on": "date", "max_gap_days": 30}


def test_every_unknown_key_is_named_with_its_neighbour_and_the_rest_is_kept():
    tree = change(
        subject={},
        modalities__ecg__rate_hertz=500,
        modalities__ecg__recrod="x",
        modalities__clinic__colums={},
        tasks__sick__colum="y",
        subjects__groups="site",
        pairing__max_gap=3,
    )
    tree["subjects"]["join"][0]["onn"] = {}
    tree["modalities"]["clinic"]["columns"]["age"] = {"kind": "number", "units": "y"}
    spec, lines = said(tree)
    assert spec is not None
    for key, near in {
        "subject": "subjects",
        "modalities.ecg.rate_hertz": "rate_hz",
        "modalities.ecg.recrod": "record",
        "modalities.clinic.colums": "columns",
        "tasks.sick.colum": "column",
        "subjects.groups": "group",
        "pairing.max_gap": "max_gap_days",
        "subjects.join.0.onn": "on",
        "modalities.clinic.columns.age.units": "unit",
    }.items():
        line = next(line for line in lines if f"'{key}'" in line)
        assert key == "subjects.join.0.onn" or f"'{near}'" in line
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "medmcl/cohort@9"}, "'schema'"),
        ({"subjects": {"id": "i"}}, "'subjects.table' is missing"),
        ({"subjects__split": {}}, "either a column, or random"),
        (
            {"subjects__split": {"random": {"tuning": 0.6, "held_out": 0.5}}},
            "something to train on",
        ),
        ({"modalities": []}, "modalities"),
        ({"modalities__ecg__reader": "wdfb"}, "did you mean 'wfdb'"),
        ({"modalities__ecg": {"path": "x"}}, "needs a reader"),
        ({"modalities__ecg": {"reader": "npy", "path": "x"}}, "needs a kind"),
        ({"modalities__ecg__kind": "egg"}, "did you mean 'ecg'"),
        (
            {"modalities__cmr": {"reader": "nifti", "path": "x"}},
            "'modalities.cmr': axes: the nifti format does not say it",
        ),
        ({"modalities__my.ecg": {"reader": "text"}}, "letters, digits and _"),
        ({"tasks__a/b": {"kind": "binary", "column": "x"}}, "files are called by it"),
        ({"tasks__sick__kind": "binry"}, "did you mean 'binary'"),
        ({"tasks__labels__of": "egc"}, "did you mean 'ecg'"),
        ({"tasks__lvef__columns": {"a": "b"}}, "either column or columns"),
        ({"tasks__death__event_date": "d"}, "either time and event"),
        ({"tasks__d2": {"kind": "survival", "event_date": "a", "censor_date": "b"}}, "index date"),
        ({"pairing": {"anchor": "cmrr"}}, "did you mean 'cmr'"),
        ({"pairing": {"max_gap_days": 3}}, "needs on: date"),
        ({"index": {"column": "a", "modality": "ecg"}}, "either a column or a modality"),
        ({"prompts": {"label": {"NORM": "x"}}}, "did you mean 'labels'"),
        ({"tasks__Sick": {"kind": "binary", "column": "x"}}, "one file on disks"),
        ({"modalities__ECG": {"reader": "wfdb", "path": "x"}}, "one file on disks"),
        ({"on_bad_record": "drop"}, "'on_bad_record'"),
    ],
)
def test_a_fault_is_named_by_its_field(changes, words):
    _, lines = said(change(**changes))
    assert any(words in line for line in lines), lines


def test_what_is_not_valid_is_taken_out_with_what_hangs_on_it_and_the_rest_is_kept():
    tree = change(
        schema="medmcl/cohort@9",
        subjects__split={"column": "a", "random": {}},
        modalities__cmr={"reader": "nifti", "path": "x"},
        modalities__ecg__reader="wdfb",
        tasks__lvef__columns={"a": "b"},
        tasks__death={"kind": "survival", "event_date": "a", "censor_date": "b"},
        index={"modality": "cmr"},
        pairing={"on": "date", "anchor": "cmrr"},
    )
    tree["tasks"]["volume"] = {"kind": "regression", "of": "cmr", "column": "v"}
    spec, lines = said(tree)
    assert len(lines) == 6, lines
    assert set(spec.modalities) == {"ecg", "clinic", "report"}
    assert set(spec.tasks) == {"sick", "labels"}
    assert (spec.keys.index, spec.keys.pairing.anchor) == (None, None)
    assert spec.keys.subjects.split.everyone == "train"
    assert spec.left_out == {
        "schema", "subjects.split", "modalities.cmr", "tasks.lvef", "tasks.death", "tasks.volume",
        "index", "pairing",
    }  # fmt: skip


def test_a_file_whose_subjects_cannot_be_told_is_not_opened():
    for subjects in ({"table": "p.csv", "idd": ["x"], "id": ["y"]}, {"id": "i", "split": "s"}, 3):
        assert said(change(subjects=subjects))[0] is None


@pytest.mark.parametrize(
    ("years", "words"),
    [
        ([-1, 5], "numbers above 0"),
        ([0, 5], "numbers above 0"),
        ([1, float("inf")], "a finite number"),
        ([5, 1], "write [1, 5]"),
        ([1, 1, 5], "each once: write [1, 5]"),
    ],
)
def test_horizons_are_later_and_later(years, words):
    spec, lines = said(change(tasks__death__horizons_years=years))
    assert len(lines) == 1
    assert "'tasks.death.horizons_years" in lines[0]
    assert words in lines[0]
    assert spec.left_out == {"tasks.death"}


def test_horizons_left_blank_are_none_given():
    spec, lines = said(change(tasks__death__horizons_years=None))
    assert not lines
    assert spec.tasks["death"].horizons_years == ()


def test_several_faults_come_in_one_error():
    tree = change(schema="x", subject={}, tasks__sick__kind="z", modalities__ecg__unit="mV")
    _, findings = parse_spec(tree, "cohort.yaml")
    text = str(refuse(findings, "cohort.yaml"))
    for words in ("4 faults", "'schema'", "'subject'", "'modalities.ecg.unit'", "tasks.sick.kind"):
        assert words in text


def test_one_fault_has_its_code_too():
    _, findings = parse_spec(change(subject={}), "cohort.yaml")
    text = str(refuse(findings, "cohort.yaml"))
    assert text.startswith("cohort.yaml: ")
    assert "[config.unknown_key]" in text
    assert "to fix" in text


@pytest.mark.parametrize(
    ("place", "right", "wrong"),
    [
        (("modalities", "ecg"), "reader", "raeder"),
        (("modalities", "clinic"), "reader", "redaer"),
        (("tasks", "sick"), "kind", "knid"),
    ],
)
def test_a_misspelt_key_that_says_how_to_read_the_others_is_the_only_fault(place, right, wrong):
    tree = copy.deepcopy(SOUND)
    section = tree[place[0]][place[1]]
    section[wrong] = section.pop(right)
    spec, lines = said(tree)
    assert spec is not None
    assert lines == [f"unknown key '{'.'.join(place)}.{wrong}'; did you mean '{right}'?"]


@pytest.mark.parametrize("beside", [{}, {"kind": "ecg"}])
def test_a_misspelt_reader_is_one_fault_with_the_nearest(beside):
    section = {"reader": "wfbd", "path": "x", **beside}
    _, lines = said(change(modalities__ecg=section))
    wrong = [line for line in lines if "reader" in line]
    assert len(wrong) == 1
    assert "unknown reader 'wfbd'; did you mean 'wfdb'?" in wrong[0]
    _, lines = said(change(modalities__ecg={**section, "reader": "wfdb", "kind": "cmr"}))
    assert lines == ["'modalities.ecg.reader': 'wfdb' reads kind 'ecg', and kind says 'cmr'"]
    _, lines = said(change(modalities__ecg={**section, "reader": "csv"}))
    assert "a row a sample are read by `parquet` (ECG)" in " ".join(lines)


ODD = st.sampled_from(
    [None, True, 3, -1.5, "", "x", [], [1], {}, {"a": 1}, [[1]], {1: 2}, "{", "é"]
)


def places(node, path=()):
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from places(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from places(value, (*path, number))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_file_gives_findings_and_no_traceback(data):
    tree = copy.deepcopy(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from([p for p in places(tree) if p]))
        node = tree
        for part in parents:
            node = node[part]
        node[last] = copy.deepcopy(data.draw(ODD))
    spec, findings = parse_spec(tree, "cohort.yaml")
    assert spec is not None or findings


def test_a_list_of_subgroups_keeps_the_names_of_its_columns():
    wanted, _ = said(change(subgroups={"sex": "sex", "site": "site"}))
    spec, findings = said(change(subgroups=["sex", "site"]))
    assert findings == []
    assert spec.keys.subgroups == wanted.keys.subgroups


def test_what_to_write_for_the_schema_is_said():
    tree = change()
    del tree["schema"]
    assert said(tree)[1] == ["'schema' is missing: write `schema: medmcl/cohort@1`"]
