"""Suites as they ship: the tasks are those of the authors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from golden_numbers import FOLDER

from medmcl.core.errors import ConfigError
from medmcl.stages.benchmark.suite import list_suites, read_suite

DATA = Path(os.environ.get("MEDMCL_DATA", "none"))


@pytest.fixture(scope="module")
def ptbxl():
    if not (DATA / "ptbxl").is_dir():
        pytest.skip("needs MEDMCL_DATA with ptbxl")
    return read_suite("ptbxl")[1].open(overrides={"data_root": str(DATA / "ptbxl")})


def test_the_six_tasks_of_ptbxl_are_those_of_the_benchmark(ptbxl):
    said = json.loads((FOLDER / "heart_models" / "ptbxl_tasks.json").read_text())
    table = ptbxl.labels["all"].table
    ids = table["ecg_id"].to_numpy(int)[ptbxl.labels["all"].rows]
    splits = ptbxl.samples["split"].to_numpy()
    assert len(ids) == said["records_in_file"]
    assert set(said["tasks"]) == set(read_suite("ptbxl")[1].tasks)
    for name, golden in said["tasks"].items():
        targets = ptbxl.targets(name)
        has = targets.known.all(axis=1)
        assert (targets.known.any(axis=1) == has).all()
        assert list(targets.columns) == sorted(golden["positives"])
        assert len(targets.columns) == golden["n_classes"]
        assert has.sum() == golden["n_records"]
        folds = {"train": "train_folds_1_8", "tuning": "val_fold_9", "held_out": "test_fold_10"}
        for split, key in folds.items():
            assert (has & (splits == split)).sum() == golden[f"n_{key}"]
        for column, (label, counts) in enumerate(sorted(golden["positives"].items())):
            positive = targets.values[:, column] > 0
            found = [positive.sum(), *((positive & (splits == split)).sum() for split in folds)]
            assert found == counts, label
        order = np.argsort(ids)
        first = [row for row in order if has[row]][:5]
        assert ids[first].tolist() == golden["first5_ecg_ids"]
        named = [
            [c for c, v in zip(targets.columns, targets.values[row], strict=True) if v]
            for row in first
        ]
        assert named == golden["labels_of_first5"]
        numbers = 1 + np.arange(len(targets.columns))
        total = (ids[:, None] * numbers * (targets.values > 0)).sum()
        assert total == golden["checksum_sum_of_ecg_id_times_class_index"]


def test_an_unknown_suite_is_refused_with_the_nearest():
    assert "ptbxl" in list_suites()
    with pytest.raises(ConfigError, match="ptbxl"):
        read_suite("ptbx")
