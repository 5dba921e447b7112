"""The shipped LIMoE recipes, a few steps each: pictures and captions, ECGs and reports."""

import json

import pytest
import torch
import yaml
from processes import pretrain_in_two

import medmcl
from medmcl.engine.record import read_metrics
from medmcl.simulation.kinds import simulate

SHORT = {
    "stages.contrast.steps": 3,
    "stages.contrast.batch_size": 24,
    "stages.contrast.log_every": 1,
    "stages.results.label_fractions": [1.0],
    "stages.results.baselines": [],
    "stages.results.bootstrap_draws": 100,
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "cohort"
    simulate("shapes", folder, {"subjects": 80, "size": 32, "colours": 2, "shapes": 2})
    return folder


def check(run, image, text):
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    protocols = {row["protocol"].split(",")[0] for row in report["results"]}
    assert {"linear_probe", "zero_shot"} <= protocols
    assert {row["target"] for row in report["retrieval"]} == {
        f"{image} → {text}",
        f"{text} → {image}",
    }
    rows = [row for row in read_metrics(run.path / "metrics.jsonl") if row["split"] == "train"]
    assert {f"experts/processed/{image}", f"router/local/{text}"} <= set(rows[-1])
    assert all(row["loss"] > 0 for row in rows)


def test_limoe_toy_runs_on_shapes(shapes, tmp_path):
    torch.set_num_threads(1)
    run = medmcl.pretrain(
        shapes, recipe="limoe_toy", out=tmp_path / "run", device="cpu",
        overrides={**SHORT, "stages.results.tasks": ["colour"]},
    )  # fmt: skip
    check(run, "image", "caption")


def test_limoe_ecg_toy_runs_on_ecgs_and_their_reports(hearts, tmp_path):
    torch.set_num_threads(1)
    length = {"inputs.ecg.seconds": 5, "inputs.ecg.crop_seconds": 5}
    run = medmcl.pretrain(
        hearts, recipe="limoe_ecg_toy", out=tmp_path / "run", device="cpu",
        overrides={**SHORT, **length, "stages.results.tasks": ["infarct"]},
    )  # fmt: skip
    check(run, "ecg", "report")


@pytest.mark.dist
def test_two_ranks_route_and_log_what_one_does(shapes, tmp_path):
    """Batches that do not divide: which tokens find room is settled over both ranks' rows."""
    torch.set_num_threads(1)
    recipe = tmp_path / "recipe.yaml"
    short = {"stages.contrast.steps": 5, "stages.contrast.batch_size": 23,
             "stages.contrast.log_every": 1, "stages.contrast.evaluate_every": 5}  # fmt: skip
    recipe.write_text(
        yaml.safe_dump({"extends": "limoe_toy", "about": "x", "drop": ["results"], "set": short})
    )
    alone = medmcl.pretrain(shapes, recipe=recipe, out=tmp_path / "alone", device="cpu")
    both = pretrain_in_two(shapes, recipe, tmp_path / "both", {})
    lines = [read_metrics(run.path / "metrics.jsonl") for run in (both, alone)]
    assert len(lines[1]) == 6
    assert any(min(row["experts/processed/image"], row["experts/processed/caption"]) < 1
               for row in lines[1])  # fmt: skip
    for found, expected in zip(*lines, strict=True):
        numbers = {name: x for name, x in expected.items() if name != "data_wait_seconds"}
        for name, x in numbers.items():
            assert found[name] == (
                pytest.approx(x, rel=1e-5, abs=1e-6) if isinstance(x, float | list) else x
            ), name
