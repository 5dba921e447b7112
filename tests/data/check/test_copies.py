import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_tables import write_cohort

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.check.copies import CERTAIN, LIKELY, NEAR, neighbours
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading import reading
from medmcl.data.loading.prepare import build_adapters, prepare
from medmcl.modalities.ecg.sketch import ecg_distance


def copies(tiny, **options):
    every = check_cohort(tiny.folder, **options)
    return [one for one in every if one.code.endswith((".duplicate", ".near_copy"))]


def test_a_signal_rounded_through_another_gain_under_two_subjects_is_an_error_for_both(tiny):
    tiny.write_ecg("s008", np.round(tiny.read_ecg("s000") * 200) / 200)
    found = copies(tiny)
    assert [(one.code, one.level) for one in found] == [("ecg.near_copy", "error")] * 2
    assert [one.where.split(",")[0] for one in found] == ["subject s000", "subject s008"]
    assert "record s008 of subject s008 saved anew" in found[0].what
    assert "across splits: train and tuning" in found[0].what


def test_an_exact_copy_is_told_once_and_says_when_it_crosses_splits(tiny):
    tiny.write_ecg("s011", tiny.read_ecg("s000"))
    tiny.write_ecg("s001", tiny.read_ecg("s000"))
    found = copies(tiny)
    assert {one.code for one in found} == {"ecg.duplicate"}
    assert len(found) == 3
    assert all("across splits: train and held_out" in one.what for one in found)


def test_a_near_copy_of_a_pair_of_copies_is_found_too(tiny):
    tiny.write_ecg("s001", tiny.read_ecg("s000"))
    tiny.write_ecg("s002", np.round(tiny.read_ecg("s000") * 200) / 200)
    assert {one.where.split(",")[0][-4:] for one in copies(tiny)} == {"s000", "s001", "s002"}


def test_an_image_with_other_grey_values_under_two_subjects_is_an_error(tiny):
    stored = np.load(tiny.folder / "cmr.npy")
    stored[10] = np.round(stored[0] * 0.5 + 3)
    np.save(tiny.folder / "cmr.npy", stored)
    assert [(one.code, one.level) for one in copies(tiny)] == [("cmr.near_copy", "error")] * 2


def test_hearts_that_beat_alike_are_no_copies(make_tiny, tmp_path):
    assert copies(make_tiny(tmp_path, 40).only("ecg")) == []


def test_what_only_looks_like_a_copy_is_a_warning(tiny):
    rows = tiny.read_ecg("s000")
    disturbed = rows + np.random.default_rng(0).normal(0, 0.006, rows.shape)
    disturbed[2] = disturbed[1] - disturbed[0]
    tiny.write_ecg("s008", disturbed)
    found = copies(tiny)
    assert [(one.code, one.level) for one in found] == [("ecg.near_copy", "warning")] * 2
    assert "perhaps" in found[0].what


def test_a_pattern_that_one_person_repeats_is_no_error(tiny):
    table = pd.DataFrame({"subject_id": ["s000", "s000"], "id": ["a", "b"]})
    tiny.write_ecg("a", tiny.read_ecg("s000"))
    tiny.write_ecg("b", np.round(tiny.read_ecg("s000") * 200) / 200)
    table.to_csv(tiny.folder / "ecgs.csv", index=False)
    tiny.only("ecg")
    tiny.tree["modalities"]["ecg"] |= {"table": "ecgs.csv", "record": "id", "path": "ecg/{id}"}
    tiny.tree["tasks"] = {}
    tiny.write()
    found = copies(tiny)
    assert {one.level for one in found} == {"warning"}
    assert "nothing, if that is meant" in found[0].fix


def test_preparing_refuses_what_check_calls_an_error_also_from_the_cache(tiny, inputs, tmp_path):
    tiny.write_ecg("s008", np.round(tiny.read_ecg("s000") * 200) / 200)
    cohort = open_cohort(tiny.only("ecg").folder)
    for _ in range(2):
        with pytest.raises(CohortError, match=r"s008 saved anew(?s:.*)ecg.near_copy"):
            prepare(cohort, {"ecg": inputs["ecg"]}, cache=tmp_path / "cache")
    cohort = open_cohort(tiny.folder, {"on_bad_record": "exclude"})
    prepared = prepare(cohort, {"ecg": inputs["ecg"]}, cache=tmp_path / "cache")
    assert prepared.present["ecg"].sum() == 10
    assert "ecg.near_copy 2" in prepared.exclusions()


def test_neighbours_are_those_that_a_slow_loop_finds():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 16))
    rows[40:] = rows[:20] + generator.normal(0, 0.05, (20, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    slow = [
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if np.linalg.norm(rows[i] - rows[j]) < NEAR
    ]
    assert 10 < len(slow) <= 20
    assert neighbours(rows) == slow
    assert neighbours(rows[:2]) == []


def test_ptbxl_has_one_signal_under_two_patients_and_none_that_only_looks_like_it():
    root = os.environ.get("MEDMCL_DATA")
    if not root or not (Path(root) / "ptbxl").exists():
        pytest.skip("MEDMCL_DATA names no folder with ptbxl/")
    cohort = open_cohort("ptbxl", {"modalities.ecg.present": None})  # the known copies too
    adapter = build_adapters(cohort, {"ecg": {}})["ecg"]
    places = cohort.records["ecg"]["place"].iloc[:400]
    raws = [adapter.read(place) for place in places]
    ids = list(places.index)
    found = {
        frozenset((ids[i], ids[j]))
        for i, j in neighbours(np.stack([adapter.sketch(raw) for raw in raws]))
        if ecg_distance(raws[i], raws[j]) < LIKELY
    }
    assert frozenset(("145", "463")) in found
    owners = cohort.records["ecg"]["subject"]
    assert [pair for pair in found if len({owners[one] for one in pair}) > 1] == [{"145", "463"}]
    assert CERTAIN < LIKELY


def clinic(folder, table):
    return write_cohort(
        folder, table, subjects={"table": "table.csv", "id": "id"},
        modalities={"clinic": {"reader": "table", "columns": [*table.columns[1:]]}},
    )  # fmt: skip


def same_rows_of(folder, table):
    return [one for one in check_cohort(clinic(folder, table)) if one.code == "tabular.same_rows"]


def test_the_row_of_another_id_is_warned_of_where_that_is_no_chance(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "id": [f"p{n:03d}" for n in range(300)],
            "age": generator.normal(60, 10, 300).round(),
            "sex": generator.choice(["f", "m"], 300),
            "sbp": generator.normal(140, 15, 300).round(),
            "crp": generator.lognormal(0, 1, 300).round(2) + 0.001,
            "smoker": generator.integers(0, 2, 300),
        }
    )
    twins = table.head(40).assign(id=lambda t: "z" + t["id"])
    both = pd.concat([table, twins])
    (found,) = same_rows_of(tmp_path / "c", both)
    assert found.level == "warning"
    monkeypatch.setattr(reading, "_AT_ONCE", 7)  # rows that are not looked at together
    assert same_rows_of(tmp_path / "pieces", both) == [found]
    assert found.what.startswith("80 people have exactly the row of another id, 40 different rows")
    assert "for example p000 and zp000" in found.fix
    assert "share it across splits" in found.what
    prepared = prepare(
        open_cohort(tmp_path / "c"), {"clinic": {}}, cache=tmp_path / "cache", splits="all"
    )
    assert found in prepared.warnings  # a run says it, not `check` alone
    assert same_rows_of(tmp_path / "one", table) == []
    assert same_rows_of(tmp_path / "narrow", both.drop(columns="smoker")) == []
    assert same_rows_of(tmp_path / "whole", both.drop(columns="crp").assign(x=1)) == []
    common = both.assign(age=60, sbp=140, crp=generator.choice([0.5, 1.5], 340))  # by chance
    assert same_rows_of(tmp_path / "chance", common) == []
