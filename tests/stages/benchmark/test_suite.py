"""Suites as they ship: the tasks are those of the authors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from golden_numbers import FOLDER

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.stages.benchmark.suite import Suite, list_suites, read_suite

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


@pytest.fixture(scope="module")
def heart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suites") / "heart"
    medmcl.simulate("heart", folder, {"subjects": 12})
    said = (folder / "cohort.yaml").read_text()
    (folder / "cohort.yaml").write_text(f"{said}\ndataset: own:fold 2\n")
    return folder


def suite_of(heart, **more):
    tree = {"schema": "medmcl/suite@1", "about": "x", "cohort": str(heart), "modality": "ecg"}
    return Suite.model_validate({**tree, **more})


PLAIN = {"encoder": {"name": "resnet1d", "widths": [4]}, "train": {"epochs": 1}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"disturbances": {"x": {"noise": 0.1}}}, "disturb.*noise"),
        ({"modality": "cmr", "disturbances": {"x": {"noise_mv": 0.1}}}, "cannot be disturbed"),
        ({"scratch": {**PLAIN, "train": {"epoch": 1}}}, "epoch"),
        ({"scratch": {**PLAIN, "encoder": {"name": "resnet1d", "width": [4]}}}, "width"),
        ({"scratch": {**PLAIN, "inputs": {"rate": 1}}}, "rate"),
        ({"finetune": {"epochs": 1, "batch": 3}}, "batch"),
        ({"finetune": {"epochs": 1, "steps": 3}}, "both epochs and steps"),
    ],
)
def test_what_a_suite_asks_for_is_refused_before_anything_is_embedded(wrong, said, heart):
    suite_of(heart, scratch=PLAIN, finetune={"epochs": 1}).open()
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        suite_of(heart, **wrong).open()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"protocols": ["linear_prob"]}, "linear_probe"), ({"scratch": {"encode": {}}}, "encode")],
)
def test_what_a_suite_cannot_say_is_refused_by_name(wrong, said, tmp_path):
    tree = {"schema": "medmcl/suite@1", "about": "x", "cohort": "none", "modality": "ecg"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**tree, **wrong}))
    with pytest.raises(ConfigError, match=said):
        read_suite(tmp_path / "s.yaml")


SPLIT = {"cohort.subjects.split": {"random": {"seed": 1, "tuning": 0.2, "held_out": 0.3}}}


@pytest.mark.parametrize(
    ("suite", "overrides", "named", "said"),
    [
        ({}, {}, False, "own:fold 2"),
        ({"dataset": "ptbxl:fold 10"}, {}, False, "ptbxl:fold 10"),
        ({"dataset": "ptbxl:fold 10", "set": SPLIT}, {}, False, "ptbxl"),
        ({"dataset": "ptbxl:fold 10"}, SPLIT, False, "ptbxl"),
        ({"dataset": "ptbxl:fold 10"}, {}, True, "own:fold 2"),
        ({"dataset": "ptbxl:fold 10", "set": SPLIT}, {}, True, "own"),
        ({"set": {**SPLIT, "cohort.dataset": "a:b"}}, {}, False, "a:b"),
    ],
)
def test_a_part_of_a_data_set_is_that_of_the_cohorts_own_split(
    suite, overrides, named, said, heart
):
    opened = suite_of(heart, **suite).open(heart if named else None, overrides)
    assert opened.spec.keys.dataset == said
