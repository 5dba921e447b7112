"""Pairs made wrong on purpose: who has whose record, what is noise, and what stays as it was."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

import medmcl
from medmcl.core.errors import ArtefactError, CohortError
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.shards import write_shards
from medmcl.evaluation.protocol.sample_subgroups import sample_subgroups
from medmcl.selection.keep import Keep
from medmcl.stages.run.study import study_of
from medmcl.stages.run.subjects_table import describe_subjects

DATA = os.environ.get("MEDMCL_DATA")
CLASSES = ("normal", "infarct", "block")
VISITS = 240
SECTION = {"modality": "report", "task": "finding"}


@pytest.fixture
def clinic(tmp_path):
    """Two visits a person: a scan, a report of which every second is alike, age and sex.

    Visit 0, 20, ... has no scan, visit 1, 21, ... no report; every 12th class is not known.
    """
    rng = np.random.default_rng(0)
    numbers = np.arange(VISITS)
    sides = np.repeat(["train", "tuning", "held_out"], [VISITS // 2, VISITS // 4, VISITS // 4])
    kind = rng.choice(CLASSES, VISITS, p=[0.5, 0.3, 0.2])
    said = [f"{one.title()},  ECG {n % 2 and n}" for n, one in zip(numbers, kind, strict=True)]
    table = pd.DataFrame({
        "visit": [f"v{n}" for n in numbers], "person": [f"p{n // 2}" for n in numbers],
        "side": sides, "x": np.where(numbers % 20 == 0, np.nan, numbers),
        "age": 30 + numbers // 2, "sex": np.where(numbers % 4 < 2, "F", "M"),
        "note": np.where(numbers % 20 == 1, None, said), "kind": np.where(numbers % 12, kind, None),
        "words": [len(one) for one in said], "weight": 50 + 7 * numbers % 101,
    })  # fmt: skip
    table.to_csv(tmp_path / "visits.csv", index=False)
    own = {"table": "visits.csv", "id": "person", "record": "visit"}
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "visits.csv", "id": "person", "split": "side"},
        "modalities": {
            "scan": {"reader": "table", **own, "columns": ["x"]},
            "report": {"reader": "text", **own, "column": "note"},
            "clinic": {"reader": "table", **own, "columns": {"age": "number", "sex": "category"}},
        },
        "pairing": {"on": "record", "anchor": "clinic"},
        "tasks": {
            "finding": {"kind": "multiclass", "of": "clinic", "column": "kind"},
            "length": {"kind": "regression", "of": "report", "column": "words"},
        },
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return tmp_path


def opened(folder, share=0.5, **keys):
    return open_cohort(folder, {"noisy_pairs": {**SECTION, "share": share, **keys}})


def truth(folder):
    """The table as it was written, one row a visit."""
    return pd.read_csv(folder / "visits.csv").set_index("visit")


def found(cohort, code="cohort.noisy_pairs"):
    (finding,) = [one for one in cohort.findings if one.code == code]
    assert (finding.level, finding.scope) == ("warning", "cohort")
    return finding.what


@pytest.mark.parametrize("within", ["any", "within", "across"])
def test_everybody_has_the_record_that_the_truth_says(clinic, within):
    before, after = open_cohort(clinic), opened(clinic, within=within)
    table, noise = truth(clinic), after.noise
    assert before.noise is None
    own, now = before.samples, after.samples
    assert now.drop(columns="report").equals(own.drop(columns="report"))
    assert (now["report"].to_numpy() == own["report"].to_numpy()[noise.record_of]).all()
    assert (noise.own == own["report"].to_numpy()).all()
    assert sorted(now["report"].dropna()) == sorted(own["report"].dropna())  # each once
    assert (noise.swapped == (now["report"].notna() & (now["report"] != own["report"]))).all()
    assert (noise.record_of[~noise.swapped] == np.flatnonzero(~noise.swapped)).all()
    assert (noise.pairs == (own["report"].notna() & (own["split"] == "train"))).all()
    assert noise.swapped.sum() == round(0.5 * noise.pairs.sum()) == 57
    assert not noise.swapped[~noise.pairs].any()
    mine, theirs = table.loc[own["sample"]], table.loc[own["sample"].to_numpy()[noise.record_of]]
    assert (mine["side"].to_numpy() == theirs["side"].to_numpy()).all()  # no split is crossed
    one, other = (part["kind"].to_numpy(object)[noise.swapped] for part in (mine, theirs))
    if within != "any":
        assert not pd.isna(np.concatenate([one, other])).any()
        assert (one == other).all() if within == "within" else (one != other).all()
    notes = [" ".join(str(n).lower().split()) for n in mine["note"]]
    texts = [" ".join(str(n).lower().split()) for n in theirs["note"]]
    known = mine["kind"].notna().to_numpy() & theirs["kind"].notna().to_numpy()
    differs = known & (mine["kind"].to_numpy() != theirs["kind"].to_numpy())
    expected = noise.swapped & ((np.array(notes) != np.array(texts)) | differs)
    assert (noise.noisy == expected).all()
    assert noise.noisy.sum() < noise.swapped.sum() or within == "across"
    assert f"57 of 114 train pairs have the report of another sample; {expected.sum()} of" in found(
        after
    )


def test_the_draw_knows_the_seed_and_no_order_of_rows_and_shares_are_nested(clinic):
    first, again, other = opened(clinic), opened(clinic), opened(clinic, seed=1)
    assert first.samples.equals(again.samples)
    assert not first.samples.equals(other.samples)
    more = opened(clinic, 0.8)
    assert set(np.flatnonzero(first.noise.swapped)) < set(np.flatnonzero(more.noise.swapped))
    truth(clinic).reset_index().sample(frac=1, random_state=0).to_csv(
        clinic / "visits.csv", index=False
    )
    shuffled = opened(clinic).samples.set_index("sample")["report"]
    assert shuffled.to_dict() == first.samples.set_index("sample")["report"].to_dict()


def test_without_a_share_all_is_as_if_nothing_were_said(clinic):
    plain = open_cohort(clinic)
    for section in (SECTION, {**SECTION, "modality": "gone", "task": "gone", "seed": 4}):
        same = open_cohort(clinic, {"noisy_pairs": section})
        assert same.noise is None
        assert same.samples.equals(plain.samples)
        assert same.fingerprint == plain.fingerprint
    prints = {opened(clinic, *how).fingerprint for how in ((0.2,), (0.5,))}
    assert len({plain.fingerprint, opened(clinic, seed=1).fingerprint, *prints}) == 4
    samples = plain.samples["sample"].to_numpy(object)
    keep = Keep(ids=samples, kept=np.ones(len(samples), bool), rule="all", cohort=plain.fingerprint)
    assert keep.among(samples, plain.fingerprint).all()
    with pytest.raises(ArtefactError, match="another cohort"):
        keep.among(samples, opened(clinic).fingerprint)


def test_equal_texts_and_labels_are_no_noise_and_other_kinds_are_told_by_record(clinic):
    table = truth(clinic).reset_index()
    table["note"] = np.where(np.arange(VISITS) % 2, "Sinus rhythm.", " sinus  RHYTHM. \n")
    table.to_csv(clinic / "visits.csv", index=False)
    assert not opened(clinic, within="within").noise.noisy.any()
    across = opened(clinic, within="across").noise
    assert (across.noisy == across.swapped).all()
    assert not opened(clinic, task=None).noise.noisy.any()  # nothing but the text counts
    scans = opened(clinic, modality="scan", within="within").noise
    assert (scans.noisy == scans.swapped).all()


def test_tuning_may_be_noisy_too_and_nothing_leaves_its_split(clinic):
    cohort = opened(clinic, splits=["train", "tuning"])
    sides = cohort.samples["split"].to_numpy()
    assert (sides == sides[cohort.noise.record_of]).all()
    counts = cohort.samples["split"][cohort.noise.swapped].value_counts().to_dict()
    assert counts == {"train": 57, "tuning": 28}
    assert "28 of 57 tuning pairs" in found(cohort)


def test_who_finds_no_partner_keeps_the_record_and_is_counted(clinic):
    table = truth(clinic).reset_index()
    table["kind"] = np.where(np.arange(VISITS) < 6, "block", "normal")
    table.to_csv(clinic / "visits.csv", index=False)
    cohort = opened(clinic, 0.9, within="across")
    assert cohort.noise.swapped.sum() == 2 * 5  # of the six rare ones visit 1 has no report
    assert "10 of 114 train pairs" in found(cohort)
    assert "(93 fewer than asked for" in found(cohort)
    table["kind"] = "normal"
    table.to_csv(clinic / "visits.csv", index=False)
    cohort, findings = load_cohort(
        clinic, {"noisy_pairs": {**SECTION, "share": 0.5, "within": "across"}}
    )
    (error,) = [one for one in findings if one.level == "error" and one.scope == "cohort"]
    assert "no two pairs can exchange" in error.what
    assert "known labels of finding" in error.fix


def test_targets_stay_with_samples_but_those_of_the_record_go_with_it(clinic):
    before, after = open_cohort(clinic), opened(clinic)
    one, other = before.targets("finding"), after.targets("finding")
    assert (one.values == other.values).all()
    assert (one.known == other.known).all()
    lengths = truth(clinic)["words"]
    said = after.targets("length")
    has = after.samples["report"].notna().to_numpy()
    assert (said.known[:, 0] == has).all()
    assert (said.values[has, 0] == lengths[after.samples["report"][has]].to_numpy()).all()


def test_what_is_prepared_is_the_wrong_pair(clinic, tmp_path):
    inputs = {"scan": {}, "report": {"max_tokens": 12, "min_count": 1}}
    before, after = (
        prepare(one, inputs, cache=tmp_path / "cache", splits="all")
        for one in (open_cohort(clinic), opened(clinic))
    )
    rows = np.flatnonzero(after.cohort.noise.swapped)
    partners = after.cohort.noise.record_of[rows]
    given, own = after.batch(rows), before.batch(rows)
    assert given.inputs["report"].equal(before.batch(partners).inputs["report"])
    assert given.inputs["scan"].equal(own.inputs["scan"])
    rest = np.flatnonzero(~after.cohort.noise.swapped)
    assert after.batch(rest).inputs["report"].equal(before.batch(rest).inputs["report"])
    # vocabularies are learned from the same records
    assert after.adapters["report"].tokens.words == before.adapters["report"].tokens.words


def test_people_are_described_by_their_own_records(clinic, tmp_path):
    weighed = {"modalities.clinic.columns": ["weight"], "subgroups": {"heavy": "weight > 99"}}
    keys = {"noisy_pairs": {"modality": "clinic", "share": 0.9}}
    before, after = (open_cohort(clinic, {**weighed, **more}) for more in ({}, keys))
    assert not before.samples["clinic"].equals(after.samples["clinic"])
    assert after.own_records("clinic").equals(before.samples["clinic"])
    groups = sample_subgroups(before, {})["heavy"]
    assert set(groups) == {"yes", "no"}
    assert (groups == sample_subgroups(after, {})["heavy"]).all()
    tables = [
        describe_subjects(prepare(one, {"clinic": {}}, cache=tmp_path / "c", splits="all"), [])
        for one in (before, after)
    ]
    assert tables[0] == tables[1]


def test_entries_are_removed_before_pairs_are_made_wrong(clinic):
    keys = {"noisy_pairs": {**SECTION, "share": 0.5}, "remove.share": 0.3}
    cohort = open_cohort(clinic, keys)
    for name in cohort.spec.modalities:  # nobody holds a record that is not there
        assert set(cohort.samples[name].dropna()) <= set(cohort.records[name].index)
    assert cohort.noise.swapped.sum() == round(0.5 * cohort.noise.pairs.sum()) > 0
    assert len(cohort.noise.own) == len(cohort.samples) == len(cohort.targets("finding").values)


def test_texts_in_files_are_read_and_one_that_is_not_there_is_like_no_other(clinic):
    for visit, row in truth(clinic).iterrows():
        (clinic / f"{visit}.txt").write_text("Sinus rhythm." if row["kind"] else "")
    path = {"modalities.report.column": None, "modalities.report.path": "{visit}.txt"}
    keys = {"noisy_pairs": {**SECTION, "share": 0.5, "task": None}, **path}
    cohort = open_cohort(clinic, keys)
    assert not cohort.noise.noisy.any()
    row = int(np.flatnonzero(cohort.noise.swapped)[0])
    (clinic / f"{cohort.noise.own[row]}.txt").unlink()
    noise = open_cohort(clinic, keys).noise
    both = {row, int(np.flatnonzero(noise.record_of == row)[0])}
    assert set(np.flatnonzero(noise.noisy)) == both


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"share": 1.0}, "below 1"),
        ({"share": -0.1}, "at least 0"),
        ({"modality": "raport"}, "no modality 'raport'; did you mean 'report'"),
        ({"task": "findings"}, "no task 'findings'; did you mean 'finding'"),
        ({"task": "length"}, "no label sets"),
        ({"task": None, "within": "across"}, "name their task"),
        ({"splits": ["train", "held_out"]}, "held_out stays as it is"),
        ({"splits": ["test"]}, "train and tuning"),
        ({"splits": ["train", "train"]}, "each once"),
        ({"splits": []}, "at least 1"),
        ({"within": "accross"}, "did you mean 'across'"),
        ({"share": 0.01}, r"no two pairs can exchange a record \(got share 0.01 of 114 pairs"),
    ],
)
def test_what_cannot_be_used_is_refused(clinic, keys, said):
    with pytest.raises(CohortError, match=said):
        open_cohort(clinic, {"noisy_pairs": {**SECTION, "share": 0.5, **keys}})


def test_a_task_that_cannot_be_built_or_nothing_to_pair_with_is_refused(clinic):
    section = {"noisy_pairs": {**SECTION, "share": 0.5}}
    with pytest.raises(CohortError, match="label sets of the task 'finding' cannot be read"):
        open_cohort(clinic, {**section, "tasks.finding.classes": ["normal"]})
    alone = {"modalities.scan": None, "modalities.clinic": None, "pairing.anchor": "report"}
    alone |= {"tasks.finding": None, "noisy_pairs": {"modality": "report", "share": 0.5}}
    with pytest.raises(CohortError, match="no modality beside 'report'"):
        open_cohort(clinic, alone)


def test_check_report_and_ledger_say_it_and_shards_refuse(clinic, tmp_path):
    keys = {"cohort.noisy_pairs": {**SECTION, "share": 0.5}}
    assert "cohort.noisy_pairs" in {one.code for one in medmcl.check(clinic, overrides=keys)}
    assert "cohort.noisy_pairs" not in {one.code for one in medmcl.check(clinic)}
    cohort = opened(clinic)
    recipe = SimpleNamespace(inputs={}, towers={}, shared=None)
    config = {"cohort": "clinic", "cohort_fingerprint": cohort.fingerprint}
    run = SimpleNamespace(recipe=recipe, stages={}, specs={}, config=config)
    assert any("57 of 114 pairs" in rule for rule in study_of(run, cohort, []).eligibility)
    assert not study_of(run, open_cohort(clinic), []).eligibility
    with pytest.raises(CohortError, match="57 of 114 pairs"):
        write_shards(cohort, tmp_path / "shards", modalities=["report"])


def test_nothing_that_trains_reads_the_truth():
    package = Path(medmcl.__file__).parent
    told = {
        "stages/run/pretrain.py",
        "stages/run/study.py",
        "stages/evaluate/refit_all.py",
    }  # that there are some
    for part in ("encoders", "objectives", "selection", "engine", "stages"):
        for path in (package / part).rglob("*.py"):
            if str(path.relative_to(package)) not in told:
                found = re.findall(r"cohort\.noise\b|\brecord_of\b", path.read_text("utf-8"))
                assert not found, path


def needs(name):
    there = DATA is not None and (Path(DATA) / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"needs MEDMCL_DATA with a folder {name}")


@pytest.fixture(scope="module")
def ptbxl():
    """PTB-XL as it ships, and the table that it is made of."""
    cohort = open_cohort("ptbxl")
    return cohort, pd.read_csv(cohort.root / "ptbxl_database.csv").set_index("ecg_id")


@needs("ptbxl")
@pytest.mark.parametrize("within", ["any", "within", "across"])
def test_ptbxl_reports_change_places_and_the_ecg_labels_do_not(ptbxl, within):
    before, table = ptbxl
    after = open_cohort("ptbxl", {"noisy_pairs.share": 0.2, "noisy_pairs.within": within})
    noise, samples = after.noise, after.samples
    assert (
        noise.pairs.sum()
        == (before.samples["split"][before.samples["report"].notna()] == "train").sum()
    )
    assert noise.swapped.sum() == round(0.2 * noise.pairs.sum())
    assert (samples["split"][noise.swapped] == "train").all()
    targets = after.targets("superclass")
    assert (targets.values == before.targets("superclass").values).all()
    same = (targets.values == targets.values[noise.record_of]).all(axis=1)[noise.swapped]
    assert {"any": 0.1 < same.mean() < 0.6, "within": same.all(), "across": not same.any()}[within]
    now = table.loc[samples["report"][noise.swapped].astype(int), "report"]
    own = table.loc[before.samples["report"][noise.swapped].astype(int), "report"]
    words = [one.str.lower().str.split().str.join(" ").to_numpy() for one in (now, own)]
    expected = (words[0] != words[1]) | ~same
    assert (noise.noisy[noise.swapped] == expected).all()
    assert 0.9 < expected.mean() <= 1
    if within == "within":
        assert expected.mean() < 1  # many reports are identical


@needs("covid_cxr")
def test_covid_notes_change_places_among_train_patients():
    before = open_cohort("covid_cxr")
    after = open_cohort("covid_cxr", {"noisy_pairs.share": 0.4})
    noise = after.noise
    assert noise.swapped.sum() == round(0.4 * noise.pairs.sum()) > 20
    assert 0.8 * noise.swapped.sum() < noise.noisy.sum() <= noise.swapped.sum()
    for split in ("tuning", "held_out"):
        rows = (before.samples["split"] == split).to_numpy()
        assert before.samples[rows].equals(after.samples[rows])
    for task in before.spec.tasks:
        assert (before.targets(task).values == after.targets(task).values).all()
