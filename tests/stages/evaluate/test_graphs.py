"""Graphs from files to a run: connectomes beside phenotypes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from read_pages import both_pages
from short_runs import unreported

import medmcl
from medmcl.core.errors import CohortError
from medmcl.engine.record import Record
from medmcl.evaluation.report.sections import headline
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.predict.cohort import check_people

DATA = os.environ.get("MEDMCL_DATA")
REGIONS, FRAMES, PEOPLE = 8, 60, 60


def recipe(brain="brain", table="table", *more):
    """Graph beside table, contrastive, a few steps."""
    head = {"hidden": 16, "out": 8}
    return {
        "schema": "medmcl/recipe@1",
        "inputs": {brain: {"density": 0.4, "nodes": ["profile", "strength"]}, table: {}},
        "towers": {
            brain: {"encoder": {"name": "graph_dense", "width": 16}, "head": head},
            table: {"encoder": {"name": "tabular_mlp", "hidden": 16, "width": 16}, "head": head},
        },
        "views": {"cut": {"augment": {brain: {"edge_dropout": 0.1, "node_dropout": 0.1}}}},
        "stages": [
            {
                "stage": "train",
                "name": "contrast",
                "towers": [brain, table],
                "objectives": {"cross_modal": {"pairs": [[brain, table]], "view": "cut"}},
                "batch_size": 16,
                "steps": 4,
            },
            *more,
        ],
    }


SCORED = {
    "stage": "evaluate",
    "name": "results",
    "probe": {"modality": "brain", "models": {"contrastive": "contrast"}},
    "baselines": ["simple"],
    "bootstrap_draws": 100,
}


@pytest.fixture
def brains(tmp_path):
    """People of four sites whose ill half has two regions in step; one has a dead region."""
    rng = np.random.default_rng(0)
    ids = [f"p{number:02d}" for number in range(PEOPLE)]
    (tmp_path / "rois").mkdir()
    ill = np.arange(PEOPLE) % 2
    for number, one in enumerate(ids):
        series = rng.normal(size=(FRAMES, REGIONS))
        series[:, 1] += 2 * ill[number] * series[:, 0]
        series[:, 3] *= number != 4
        np.savetxt(tmp_path / "rois" / f"{one}.1D", series)
    site = [f"s{number // 2 % 4}" for number in range(PEOPLE)]
    split = ["tuning" if number % 5 == 1 else "train" for number in range(PEOPLE)]
    table = pd.DataFrame({"id": ids, "ill": ill, "site": site, "split": split})
    table["age"] = rng.normal(50, 8, PEOPLE)
    table.loc[::5, "split"] = "held_out"
    table.to_csv(tmp_path / "people.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "id", "split": "split", "group": "site"},
        "modalities": {
            "brain": {"reader": "timeseries", "path": "rois/{id}.1D"},
            "table": {"reader": "table", "columns": {"age": "number"}},
        },
        "tasks": {"ill": {"kind": "binary", "column": "ill == 1"}},
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return tmp_path


def written(folder, tree):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_a_bad_graph_stops_a_run_or_is_left_out_and_counted(brains):
    path = written(brains, recipe())
    with pytest.raises(CohortError, match=r"p04(?s:.*)without signal(?s:.*)graph.constant"):
        medmcl.pretrain(brains, recipe=path, out=brains / "a", device="cpu")
    out = {"cohort.on_bad_record": "exclude"}
    run = medmcl.pretrain(brains, recipe=path, out=brains / "b", device="cpu", overrides=out)
    assert "graph.constant" in both_pages(run.path)
    cohort = medmcl.open_cohort(brains, {"on_bad_record": "exclude"})
    record = Record(brains / "metrics.jsonl", active=True)
    done = run_evaluate(EvaluateSpec(**SCORED), run, cohort, torch.device("cpu"), record)
    assert {row.split for row in done.results} == {"held_out"}
    values = {row.method: row for row in done.results if row.metric == "auroc" and not row.versus}
    simple = values["simple features (brain)"]
    assert simple.value > 0.9  # one edge tells them apart
    assert simple.subjects == simple.n < PEOPLE - 1
    masked = {"cohort.modalities.brain.absent_regions": "mask"}
    found = medmcl.check(brains, recipe=path, overrides=masked)
    told = [(one.code, one.level) for one in found if one.scope == "record"]
    assert told == [("graph.constant", "warning")]


def test_check_finds_a_graph_of_another_region_count_as_the_run_would(brains):
    path = written(brains, recipe())
    np.savetxt(brains / "rois" / "p07.1D", np.random.default_rng(1).normal(size=(FRAMES, 9)))
    masked = {"cohort.modalities.brain.absent_regions": "mask"}
    found = [one for one in medmcl.check(brains, recipe=path, overrides=masked)
             if one.level == "error"]  # fmt: skip
    assert [(one.code, "p07" in one.where) for one in found] == [("graph.regions", True)]
    with pytest.raises(CohortError, match=r"p07(?s:.*)graph.regions"):
        medmcl.pretrain(brains, recipe=path, out=brains / "a", device="cpu", overrides=masked)
    out = {**masked, "cohort.on_bad_record": "exclude"}
    told = [one for one in medmcl.check(brains, recipe=path, overrides=out) if "p07" in one.where]
    assert [(one.code, one.level) for one in told] == [("graph.regions", "warning")]


def connectomes(folder, seed, said, times=1.0, split="split"):
    """People of whom the first regions go together; lower triangles, of which cohort.yaml says."""
    rng = np.random.default_rng(seed)
    (folder / "fc").mkdir(parents=True)
    ids = [f"{seed}p{number:02d}" for number in range(40)]
    ill = np.arange(40) % 2
    for one, is_ill in zip(ids, ill, strict=True):
        shared = rng.normal(size=(1, 100)) * np.linspace(1.5 + is_ill, 0, 12)[:, None]
        matrix = np.corrcoef(shared + rng.normal(size=(12, 100)))
        np.save(folder / "fc" / f"{one}.npy", times * matrix[np.tril_indices(12, -1)])
    table = pd.DataFrame({"id": ids, "ill": ill, "age": rng.normal(50, 8, 40)})
    table["split"] = np.resize(["train", "train", "tuning", "held_out", "held_out"], 40)
    table.to_csv(folder / "people.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "id", "split": split},
        "modalities": {
            "brain": {"reader": "connectivity", "path": "fc/{id}.npy", **said},
            "table": {"reader": "table", "columns": {"age": "number"}},
        },
        "tasks": {"ill": {"kind": "binary", "column": "ill == 1"}},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


def test_connectomes_unlike_those_of_training_are_told_by_an_evaluation_elsewhere(
    tmp_path, unpainted, caplog
):
    home = connectomes(tmp_path / "home", 0, {"layout": "lower"})
    scored = {**SCORED, "baselines": []}
    path = written(tmp_path, recipe("brain", "table", scored))
    run = unreported(home, recipe=path, out=tmp_path / "run")
    few = {"evaluate.bootstrap_draws": 100}

    def told(name, said, times=1.0):
        there = connectomes(tmp_path / name, 1, said, times, split={"everyone": "held_out"})
        found = [one for one in check_people(run, there) if one.code.startswith("graph.other_")]
        assert not any("NAME" in one.fix for one in found)
        caplog.clear()
        with caplog.at_level("INFO", "medmcl"):
            out = tmp_path / f"{name}-out"
            done = medmcl.evaluate(run, there, out=out, device="cpu", overrides=few)
        first = [str(one) for one in headline(done)]
        for one in found:
            line = f"{one.where}: {one.what}"
            assert caplog.messages.count(line) == 1  # what the terminal shows
            assert sum(line in text for text in first) == 1
        assert not any("?." in text for text in first)
        return {one.code.removeprefix("graph.other_"): one.fix for one in found}

    assert told("same", {"layout": "lower"}) == {}
    assert told("turned", {"layout": "upper", "measure": "fisher_z"}) == {
        "measure": "write the files as correlation, or, if that is what they hold, write in "
        "cohort.yaml modalities.brain.measure: correlation",
        "layout": "write in cohort.yaml modalities.brain.layout: lower",
    }
    found = told("larger", {"layout": "lower", "measure": "other"}, 100.0)
    assert set(found) == {"measure", "scale"}
    assert found["scale"] == "if so, write in cohort.yaml modalities.brain.divide_by: 100"


@pytest.mark.skipif(
    DATA is None or not (Path(DATA) / "abide").is_dir(), reason="needs MEDMCL_DATA with abide"
)
def test_connectomes_of_abide_are_trained_beside_phenotypes(tmp_path):
    tree = recipe("connectome", "phenotypes")
    some = {"cohort.subjects.where": "sub_id % 12 == 0"}
    run = medmcl.pretrain(
        "abide", recipe=written(tmp_path, tree), out=tmp_path / "run", device="cpu", overrides=some
    )
    assert run.shapes["connectome"].shape == (200, 1 + 200 + 202)
