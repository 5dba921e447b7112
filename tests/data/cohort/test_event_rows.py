"""Of event shards the rows and columns that a cohort asks for are held, and no others."""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.cohort.event_rows import EventRows
from medmcl.data.cohort.locate import find_cohort

PEOPLE = 60


def write_events(folder, shards=3, noise=200):
    """As MIMIC_IV_MEDS writes people, with measurements that the cohort does not ask for."""
    rng = np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    (folder / "metadata").mkdir()
    start = np.datetime64("2150-01-01", "us")
    day = np.timedelta64(1, "D")
    for number, people in enumerate(np.array_split(np.arange(10_000, 10_000 + PEOPLE), shards)):
        own, when, code = [], [], []

        def add(who, times, codes, own=own, when=when, code=code):
            own.append(np.repeat(who, len(codes)))
            when.append(np.broadcast_to(times, len(codes)))
            code.append(np.asarray(codes, dtype=object))

        for who in people:
            add(who, np.datetime64("NaT"), ["GENDER//F"])
            add(who, start, ["HOSPITAL_ADMISSION//URGENT//UNK"])
            add(who, start + day, [f"MEDICATION//START//D{c}" for c in rng.integers(0, 9, 6)])
            add(who, start + 5 * day, [f"DIAGNOSIS//ICD//10//A{c}" for c in rng.integers(0, 9, 6)])
            add(who, start + 5 * day, ["HOSPITAL_DISCHARGE//HOME"])
            add(who, start + 3 * day, [f"LAB//{c}" for c in rng.integers(50_000, 50_500, noise)])
        rows = sum(map(len, own))
        table = {
            "subject_id": pa.array(np.concatenate(own)),
            "time": pa.array(np.concatenate(when).astype("M8[us]")),
            "code": pa.array(np.concatenate(code)),
            "numeric_value": pa.array(rng.normal(size=rows).astype(np.float32)),
            "text_value": pa.array([f"what somebody wrote of it, {n}" for n in range(rows)]),
        }
        pq.write_table(pa.table(table), folder / "data" / f"{number}.parquet")
    sides = np.array(["train", "train", "tuning", "held_out"])[np.arange(PEOPLE) % 4]
    listed = pd.DataFrame({"subject_id": 10_000 + np.arange(PEOPLE), "split": sides})
    listed.to_parquet(folder / "metadata" / "subject_splits.parquet", index=False)
    return folder


def opened(path, root):
    cohort, findings = load_cohort(path, {"data_root": str(root)})
    return cohort, findings


def same(one, other):
    assert one.fingerprint == other.fingerprint
    pd.testing.assert_frame_equal(one.subjects, other.subjects)
    pd.testing.assert_frame_equal(one.samples, other.samples)
    for name, records in one.records.items():
        pd.testing.assert_frame_equal(
            records.drop(columns="place"), other.records[name].drop(columns="place")
        )
        for ours, theirs in zip(records["place"], other.records[name]["place"], strict=True):
            assert ours.values == theirs.values


ODD = {
    "as it ships": {},
    "all events": {"modalities.codes": {"reader": "meds", "table": "data/**/*.parquet"}},
    "numbers too": {"modalities.codes": {
        "reader": "meds", "table": "data/**/*.parquet",
        "present": "startswith(code, 'LAB//') and numeric_value > 1",
    }},
    "a text that is no code": {"modalities.codes": {
        "reader": "meds", "table": "data/**/*.parquet",
        "present": "startswith(text_value, 'what') and startswith(code, 'LAB//501')",
    }},
    "a column of subjects": {"modalities.codes": {
        "reader": "meds", "table": "data/**/*.parquet",
        "present": "split == 'train' and startswith(code, 'DIAGNOSIS//')",
    }},
}  # fmt: skip


@pytest.mark.parametrize("which", ODD)
def test_the_cohort_is_as_if_everything_had_been_read(tmp_path, monkeypatch, which):
    root = write_events(tmp_path / "meds")
    tree = yaml.safe_load(find_cohort("mimic_iv").read_text())
    for key, value in ODD[which].items():
        section, name = key.split(".")
        tree[section][name] = value
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    few, told = opened(tmp_path / "cohort.yaml", root)
    assert len(few.records["codes"]) > 20
    monkeypatch.setattr(EventRows, "of", classmethod(lambda *given: None))
    every, told_of_all = opened(tmp_path / "cohort.yaml", root)
    same(few, every)
    assert told == told_of_all


def test_a_slip_is_told_as_before(tmp_path, monkeypatch):
    root = write_events(tmp_path / "meds")
    tree = yaml.safe_load(find_cohort("mimic_iv").read_text())
    tree["modalities"]["codes"]["date"] = "tiem"
    tree["modalities"]["concepts"]["present"] = "startswith(cod, 'MEDICATION')"
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
    _, told = opened(tmp_path / "cohort.yaml", root)
    assert any("did you mean 'time'" in str(one) for one in told)
    assert any("did you mean 'code'" in str(one) for one in told)
    monkeypatch.setattr(EventRows, "of", classmethod(lambda *given: None))
    assert told == opened(tmp_path / "cohort.yaml", root)[1]


OPEN = """
import resource, sys, medmcl
cohort = medmcl.open_cohort("mimic_iv", {"data_root": sys.argv[1]})
assert len(cohort.records["codes"]) == 60
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_what_is_not_asked_for(tmp_path):
    """Ten times the measurements, in shards of one size: 184 and 182 MB; all of it 215 and 420."""
    assert resource.RUSAGE_SELF == 0  # Linux: ru_maxrss is in KiB
    used = []
    for name, shards, noise in (("few", 2, 1_000), ("many", 20, 10_000)):
        folder = write_events(tmp_path / name, shards, noise)
        done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True,
                              text=True, check=True, cwd=Path.cwd())  # fmt: skip
        used.append(float(done.stdout.split()[-1]))
    assert used[1] - used[0] < 60, used


def test_other_readers_of_a_table_see_all_of_it(tmp_path):
    root = write_events(tmp_path / "meds")
    spec = open_cohort("mimic_iv", data_root=root).spec
    assert EventRows.of(spec, "data/**/*.parquet", ("code",)).asked
    assert EventRows.of(spec, "metadata/subject_splits.parquet", ()) is None
    join = {"table": "data/**/*.parquet", "on": {"subject_id": "subject_id"}}
    subjects = type(spec.keys.subjects).model_validate(
        {**spec.keys.subjects.model_dump(), "join": [join]}
    )
    joined = replace(spec, keys=spec.keys.model_copy(update={"subjects": subjects}))
    assert EventRows.of(joined, "data/**/*.parquet", ("code",)) is None
    coded = replace(spec, keys=spec.keys.model_copy(update={"missing": {"code": ("?",)}}))
    assert EventRows.of(coded, "data/**/*.parquet", ("code",)) is None
