import re

import numpy as np
import pytest

from medmcl.data.check.check import check_cohort, check_people
from medmcl.data.cohort.cohort import open_cohort


def only(findings, code):
    return [one for one in findings if one.code == code]


@pytest.fixture
def grown(make_tiny, tmp_path):
    """150 people of whom a table is known: 50 held out."""
    big = make_tiny(tmp_path, 12).only("clinic")
    numbers = np.arange(150)
    big.table = big.table.iloc[numbers % 12].assign(
        subject_id=[f"p{n:03d}" for n in numbers],
        split=np.repeat(["train", "tuning", "held_out"], 50),
        sick=(numbers + 1) // 2 % 2,  # not as sex, which is every second's
        days=numbers + 1,
        event=(numbers % 3 == 0).astype(int),
    )
    big.write()
    return big


def test_enough_people_in_every_split_give_no_warning(grown):
    assert check_cohort(grown.folder) == []


@pytest.mark.parametrize(
    ("split", "what"),
    [("train", "can be learned"), ("tuning", "which epoch"), ("held_out", "can be scored")],
)
def test_a_split_without_people_is_a_warning(grown, split, what):
    grown.table = grown.table[grown.table["split"] != split]
    hits = only(check_cohort(grown.write()), "cohort.empty_split")
    assert [(one.level, what in one.what) for one in hits] == [("warning", True)]
    trained = only(check_cohort(grown.folder, trains=True), "cohort.empty_split")
    assert [one.level for one in trained] == ["error" if split == "train" else "warning"]


def test_a_cohort_that_is_only_scored_needs_no_other_split(grown):
    grown.tree["subjects"]["split"] = {"everyone": "held_out"}
    assert check_cohort(grown.write()) == []
    trained = only(check_cohort(grown.folder, trains=True), "cohort.empty_split")
    assert [one.level for one in trained] == ["error", "warning"]


def test_fewer_than_fifty_held_out_people_are_a_warning(grown):
    grown.table = grown.table.iloc[:-1]
    (hit,) = only(check_cohort(grown.write()), "cohort.few_held_out")
    assert "held_out has 49 subjects" in hit.what
    grown.table = grown.table.iloc[:101]
    (hit,) = only(check_cohort(grown.write()), "cohort.few_held_out")
    assert "held_out has <5 subjects:" in hit.what


@pytest.mark.parametrize(("held", "told"), [(1, "1 site "), (9, "9 sites "), (10, ""), (0, "")])
def test_a_held_out_of_few_other_sites_names_folds_of_sites(grown, held, told):
    split = grown.table["split"].to_numpy()
    names = np.array([f"s{n % max(held, 1)}" for n in range(150)])
    grown.table["site"] = np.where((split == "held_out") | (held == 0), names, "home")
    grown.write()
    hits = only(check_cohort(grown.folder), "cohort.few_sites")
    assert [told in one.what and "`fold_by: site`" in one.fix for one in hits] == [True] * bool(
        told
    )


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_column_that_is_filled_with_the_outcome_alone_is_a_leak(grown, share):
    has = grown.table["event"].to_numpy() == 1
    filled = has & (np.arange(150) < 150 * share)
    grown.table["death_year"] = np.where(filled, 2001.0, np.nan)
    grown.tree["modalities"]["clinic"]["columns"]["death_year"] = "number"
    hits = [one for one in only(check_cohort(grown.write()), "task.leak") if one.task == "death"]
    assert ["death_year of 'clinic' is filled" in one.what for one in hits] == [True] * (share == 1)


@pytest.mark.parametrize(
    ("cells", "kind", "told"),
    [
        (lambda has: has.astype(int), "number", True),  # the outcome once more
        (lambda has: np.where(has, 0.0, 60.0 + np.arange(150)), "number", True),
        (lambda has: np.where(has, "pathology", "home"), "category", True),
        (lambda has: np.where(np.arange(150) < 1, "home", "ward"), "category", False),
        (lambda has: np.r_[~has[:1], has[1:]].astype(int), "number", False),  # one differs
        (lambda has: np.arange(150), "number", False),
        (lambda has: [f"p{n}" for n in range(150)], "category", False),  # each their own
    ],
)
def test_a_column_that_divides_people_as_the_outcome_does_is_a_leak(grown, cells, kind, told):
    grown.table["copy"] = cells(grown.table["event"].to_numpy() == 1)
    grown.tree["modalities"]["clinic"]["columns"]["copy"] = kind
    hits = [one for one in only(check_cohort(grown.write()), "task.leak") if one.task == "death"]
    assert ["copy of 'clinic' alone tells" in one.what for one in hits] == [True] * told


def test_fewer_than_thirty_tuning_people_are_a_warning(grown):
    grown.table = grown.table.iloc[np.r_[:50, 70:150]]
    assert only(check_cohort(grown.write()), "cohort.few_tuning") == []
    grown.table = grown.table.iloc[np.r_[:50, 51:130]]
    (hit,) = only(check_cohort(grown.write()), "cohort.few_tuning")
    assert "tuning has 29 subjects" in hit.what
    assert hit.level == "warning"
    opened = open_cohort(grown.folder)
    assert hit in check_people(opened, ["clinic"], ["sick"])
    assert hit not in check_people(opened, ["clinic"], ["sick"], fits=False)  # nothing is chosen


def test_a_handful_of_held_out_events_is_a_warning_of_its_task(grown):
    held_out = (grown.table["split"] == "held_out").to_numpy()
    rows = np.flatnonzero(held_out)
    grown.table["event"] = np.where(held_out, 0, grown.table["event"])
    grown.table.iloc[rows[:9], grown.table.columns.get_loc("event")] = 1
    grown.table.iloc[rows, grown.table.columns.get_loc("sick")] = 1
    grown.table.iloc[rows[:4], grown.table.columns.get_loc("sick")] = 0
    hits = {one.task: one.what for one in only(check_cohort(grown.write()), "task.few_held_out")}
    assert "have the event (<10)" in hits["death"]
    assert "lack it (<10)" in hits["sick"]
    grown.table.iloc[rows[9], grown.table.columns.get_loc("event")] = 1
    assert [one.task for one in only(check_cohort(grown.write()), "task.few_held_out")] == ["sick"]


def test_rare_classes_are_named_and_a_task_without_held_out_labels_too(grown):
    rows = np.flatnonzero((grown.table["split"] == "held_out").to_numpy())
    grown.table["stage"] = np.where(np.arange(150) % 2, "mild", "grave")
    grown.table.iloc[rows[:47], grown.table.columns.get_loc("stage")] = "mild"
    grown.table["ef"] = np.where(grown.table["split"] == "held_out", np.nan, np.arange(150.0))
    grown.tree["tasks"] = {
        "stage": {"kind": "multiclass", "column": "stage"},
        "ef": {"kind": "regression", "column": "ef"},
    }
    hits = {one.task: one.what for one in only(check_cohort(grown.write()), "task.few_held_out")}
    assert "have grave (<10)" in hits["stage"]
    assert "lack mild (<10)" in hits["stage"]
    assert "no subject of held_out has a label" in hits["ef"]
    grown.table.iloc[rows[:9], grown.table.columns.get_loc("ef")] = 3.0
    hits = {one.task: one.what for one in only(check_cohort(grown.write()), "task.few_held_out")}
    assert "have a value (<10)" in hits["ef"]


def test_the_overview_counts_people_records_and_labels(tiny):
    (tiny.folder / "ecg" / "s000.dat").unlink()
    tiny.write_ecg("s001", tiny.read_ecg("s011"))
    tiny.table.loc[2, "days"] = np.nan
    tiny.tree["tasks"]["word"] = {"kind": "binary", "column": "sex"}
    seen = check_cohort(tiny.write()).overview
    assert seen.subjects == (8, 2, 2)
    records = {one.modality: one for one in seen.records}
    ecg, cmr = records["ecg"], records["cmr"]
    assert (ecg.read, ecg.usable, ecg.faulty, ecg.absent) == (12, (6, 2, 1), 3, 0)
    assert (cmr.read, cmr.usable, cmr.faulty, cmr.absent) == (9, (6, 2, 1), 0, 3)
    labels = {one.name: one for one in seen.labels}
    assert labels["sick"].known == (8, 2, 2)
    assert labels["sick"].positive == (4, 1, 1)
    assert labels["sick"].negative == (4, 1, 1)
    assert labels["death"].known == (7, 2, 2)
    assert seen.faulty_tasks == ("word",)
    text = str(seen)
    assert "3 of 12 refused" in text
    assert "3 subjects without" in text
    assert "cannot be used" in text
    assert len({len(line.split("  ")[0]) > 0 for line in text.splitlines()[1:]}) == 1


def test_people_with_several_records_are_counted_once(tiny):
    table = tiny.table.iloc[[0, 0, 1, 1, 10, 11]].assign(scan=list("abcdef"))
    table["found"] = [1, 1, 0, 1, 0, 1]
    table[["subject_id", "scan", "row", "found"]].to_csv(tiny.folder / "scans.csv", index=False)
    tiny.only("cmr")
    cmr = tiny.tree["modalities"]["cmr"]
    cmr |= {"table": "scans.csv", "record": "scan", "present": "notnull(scan)"}
    tiny.tree["tasks"] = {"found": {"kind": "binary", "of": "cmr", "column": "found"}}
    (label,) = check_cohort(tiny.write()).overview.labels
    assert (label.known, label.positive, label.negative) == ((2, 0, 2), (2, 0, 1), (1, 0, 1))


def test_columns_known_for_the_same_people_share_a_line(tiny):
    tiny.tree["tasks"] = {"size": {"kind": "regression", "columns": ["age", "days"]}}
    lines = str(check_cohort(open_cohort(tiny.write())).overview).splitlines()
    (line,) = [line for line in lines if line.startswith("size")]
    assert line.split() == ["size", "8", "2", "2", "with", "a", "value", "of", "each", "of", "2"]


def test_a_cohort_that_cannot_be_opened_has_no_overview(tiny):
    del tiny.tree["subjects"]["id"]
    assert check_cohort(tiny.write()).overview is None


def test_a_split_that_cannot_be_used_shows_people_in_no_split(grown):
    grown.tree["subjects"]["split"] = "splt"
    checked = check_cohort(grown.write())
    assert only(checked, "cohort.column")
    shown = [line.split() for line in str(checked.overview).splitlines()]
    assert shown[0] == ["in", "all"]
    assert shown[1] == ["subjects", "150"]
    assert "split cannot be used" in " ".join(shown[2])
    assert ["sick", "75", "of", "150"] in shown
    assert "train" not in str(checked.overview)


def test_an_empty_split_that_was_drawn_says_so_and_names_a_seed_that_works(grown):
    grown.table = grown.table.iloc[:30]
    shares = {"tuning": 0.1, "held_out": 0.2}
    named = 0
    for seed in range(10):
        grown.tree["subjects"]["split"] = {"random": {"seed": seed, **shares}}
        for found in only(check_cohort(grown.write()), "cohort.empty_split"):
            assert "each person is drawn alone, by id, and of 30" in found.what
            other = int(re.search(r"seed: (\d+)", found.fix)[1])
            grown.tree["subjects"]["split"] = {"random": {"seed": other, **shares}}
            assert not only(check_cohort(grown.write()), "cohort.empty_split")
            named += 1
    assert named
    grown.tree["subjects"]["split"] = {"random": {"tuning": 0.0, "held_out": 0.5}}
    (found,) = only(check_cohort(grown.write()), "cohort.empty_split")
    assert "drawn" not in found.what  # nobody asked for one


def test_what_records_take_of_memory_and_disk_is_told(tiny, inputs, monkeypatch):
    checked = check_cohort(tiny.write(), inputs)
    said = {count.modality: count for count in checked.overview.records}
    assert said["ecg"].cached == 12 * 12 * 200 * 4
    assert said["cmr"].held == 3 * 24 * 24 * 4
    assert "memory: 38.4 kB for records in each process" in str(checked.overview)
    said = str(checked.overview)
    assert "(the largest, of ecg, is 9.6 kB), beside what a process takes: this one took" in said
    assert re.search(r"this one took \d+\.?\d* (MB|GB)", said)
    assert "disk: 123 kB for prepared records (ecg 115 kB, cmr 6.91 kB," in str(checked.overview)
    assert not {"check.disk", "check.memory"} & {one.code for one in checked}
    monkeypatch.setattr("medmcl.data.check.overview.free_bytes", lambda _: 1000)
    monkeypatch.setattr("medmcl.data.check.overview.free_memory", lambda: 1000)
    found = {one.code: one for one in check_cohort(tiny.write(), inputs)}
    assert "1 kB are free in runs/.prepared" in found["check.disk"].what
    assert "MEDMCL_CACHE=FOLDER" in found["check.disk"].fix
    assert "38.4 kB of memory, and 1 kB are free" in found["check.memory"].what
    assert found["check.memory"].where == "modalities.ecg"
