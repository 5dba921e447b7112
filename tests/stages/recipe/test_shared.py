"""One tower for ECG and report, end to end: trained, fine-tuned, upcycled, resumed, evaluated."""

import copy
import json
import signal

import numpy as np
import pytest
import torch
import yaml
from processes import assert_same_weights
from read_pages import both_pages
from short_runs import unreported
from stopping import stopped_at

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.record import read_metrics
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort
from medmcl.stages.recipe.spec import RecipeSpec

KINDS = {"ecg": "ecg", "cmr": "cmr", "report": "text"}
DENSE = {"experts": None}
RECIPE = {
    "schema": "medmcl/recipe@1",
    "about": "one tower for signals and words",
    "roles": {"signal": "ecg", "words": "text"},
    "inputs": {
        "signal": {"rate_hz": 100, "seconds": 5, "crop_seconds": 5},
        "words": {"max_tokens": 16, "vocabulary": 200},
    },
    "shared": {
        "width": 16,
        "depth": 2,
        "heads": 2,
        "out": 8,
        "experts": {"experts": 4},
        "input_projections": {"signal": {"patch": 50, "joint_leads": True}},
    },
    "views": {"augmented": {"augment": {"signal": {"noise": 0.02}}}},
    "stages": [
        {
            "stage": "train",
            "name": "contrast",
            "objectives": {
                "cross_modal": {"pairs": [["signal", "words"]], "loss": "info_nce"},
                "router": {"loss_weight": 0.04, "local": ["words"]},
            },
            "batch_size": 32,
            "steps": 6,
            "log_every": 1,
        },
        {
            "stage": "train",
            "name": "tuned",
            "task": "infarct",
            "towers": ["signal"],
            "start_from": {"signal": "contrast"},
            "frozen": ["shared"],
            "objectives": {"supervised": {"task": "infarct", "modalities": ["signal"],
                                          "view": "plain"}},
            "batch_size": 32,
            "steps": 3,
            "optimiser": {"layer_decay": 0.5},
        },
        {
            "stage": "evaluate",
            "name": "results",
            "tasks": ["infarct"],
            "probe": {"modality": "signal", "models": {"limoe": "contrast"}},
            "finetuned": {"tuned": "tuned"},
            "retrieval": {"stage": "contrast", "pairs": [["signal", "words"]]},
            "zero_shot": {"stage": "contrast", "modality": "signal", "text": "words"},
            "bootstrap_draws": 100,
        },
    ],
}  # fmt: skip


def write(folder, change=lambda tree: None):
    tree = copy.deepcopy(RECIPE)
    change(tree)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def only(tree, *stages):
    tree["stages"] = [one for one in tree["stages"] if one["name"] in stages]


@pytest.fixture(scope="module")
def run(hearts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    torch.set_num_threads(1)
    return medmcl.pretrain(hearts, recipe=write(folder), out=folder / "run", device="cpu")


def weights(run, stage):
    return Checkpoints(run.path / "checkpoint" / stage).weights(run.stage(stage).keep)


def test_the_run_knows_its_modalities_by_the_cohorts_names(run):
    assert list(run.recipe.inputs) == ["ecg", "report"]
    assert run.recipe.shared["input_projections"] == {"ecg": {"patch": 50, "joint_leads": True}}
    assert not run.recipe.roles


def test_every_protocol_reads_the_shared_tower(run):
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    protocols = {row["protocol"].split(",")[0] for row in report["results"]}
    assert {"linear_probe", "fine_tune", "zero_shot"} <= protocols
    assert {row["protocol"].split(",")[0] for row in report["retrieval"]} == {"retrieval"}


def test_the_report_says_how_tokens_are_routed(run):
    page = both_pages(run.path)
    told = ", ".join(f"{name} {value}" for name, value in run.recipe.shared["experts"].items())
    assert f"experts: {told}" in page


def test_router_losses_are_recorded(run):
    rows = read_metrics(run.path / "metrics.jsonl")
    named = {name for row in rows if row.get("stage") == "contrast" for name in row}
    assert {
        "router/importance", "router/load", "router/z", "router/local/report",
        "router/global/ecg", "router/global/report",
    } <= named  # fmt: skip


def test_routing_is_recorded_by_modality_and_block(run):
    rows = [row for row in read_metrics(run.path / "metrics.jsonl") if row["stage"] == "contrast"]
    for row in rows:
        for name in ("ecg", "report"):
            assert len(row[f"experts/share/{name}/1"]) == 4
            assert 1 <= row[f"experts/effective/{name}/1"] <= 4 + 1e-5
            dropped = row[f"experts/dropped/{name}/1"]
            assert row[f"experts/processed/{name}"] == pytest.approx(1 - dropped)
    train = [row for row in rows if row["split"] == "train"]
    tuning = [row for row in rows if row["split"] == "tuning"]
    assert {row["experts/tokens/ecg"] for row in train} == {32 * 10}
    assert all(row["experts/dropped/ecg/1"] == 0 for row in tuning)
    assert any(row["experts/dropped/ecg/1"] > 0 for row in train)
    assert run.facts("contrast")["gradient_spikes"] == 0  # too few steps to have any


def test_the_report_shows_what_experts_take_of_the_tuning_split(run):
    html = both_pages(run.path)
    assert '<section id="experts"' in html
    found = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    done = run.facts("contrast")
    shares = [row for row in found["expert_shares"] if row["stage"] == "contrast"]
    assert {(row["split"], row["step"]) for row in shares} == {("tuning", done["best_step"])}


def test_a_frozen_trunk_stays_and_the_rest_moves(run):
    before, after = weights(run, "contrast"), weights(run, "tuned")
    assert not any("report" in name for name in after)
    moved = {
        name for name, value in after.items() if not torch.equal(value, before.get(name, value))
    }
    assert not [name for name in moved if name.startswith("model.trunk.")]
    assert any(name.startswith("model.towers.ecg.") for name in moved)


def test_embeddings_of_a_modality_do_not_need_the_other(run, hearts):
    table = run.embed(hearts, modality="ecg", stage="contrast", space="pooled", device="cpu")
    vectors = table.filter(regex=r"^e\d").to_numpy()[table["quality"] == "ok"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_stopped_run_ends_like_one_that_was_not(run, hearts, tmp_path):
    recipe, out = write(tmp_path), tmp_path / "stopped"
    with stopped_at("contrast  step 3/", signal.SIGTERM, "contrast: saved at step 3"):
        unreported(hearts, recipe=recipe, out=out)
    resumed = unreported(hearts, recipe=recipe, out=out, resume=True)
    assert_same_weights(resumed.path, run.path, ("contrast", "tuned"))
    assert read_metrics(resumed.path / "metrics.jsonl") == read_metrics(run.path / "metrics.jsonl")


def test_experts_can_start_from_a_dense_stage(hearts, tmp_path, caplog):
    def two_stages(tree):
        only(tree, "contrast")
        dense, experts = tree["stages"][0], copy.deepcopy(tree["stages"][0])
        dense.update(name="dense", encoder={"shared": DENSE}, steps=2, batch_size=1024)
        del dense["objectives"]["router"]
        experts.update(start_from={"signal": "dense", "words": "dense"}, steps=1)
        experts["optimiser"] = {"lr": 0.0, "weight_decay": 0.0}
        tree["stages"] = [dense, experts]

    with caplog.at_level("INFO"):
        run = unreported(hearts, recipe=write(tmp_path, two_stages), out=tmp_path / "run")
    subjects = run.facts("dense")["batch_size"]
    said = f"dense: {subjects} subjects, so batches of {subjects}, not 1,024"
    assert caplog.text.count(", so batches of ") == caplog.text.count(said) == 1
    dense, experts = weights(run, "dense"), weights(run, "contrast")
    assert not any(".moe." in name for name in dense)
    copies = experts["model.trunk.blocks.1.moe.mlps.weight1"]
    for one in copies:
        torch.testing.assert_close(
            one, dense["model.trunk.blocks.1.mlp.fc1.weight"], rtol=0, atol=0
        )
    same = "model.towers.report.encoder.embed.weight"
    torch.testing.assert_close(experts[same], dense[same], rtol=0, atol=0)


@pytest.mark.parametrize("names", ["run", "upcycled"])
def test_a_whole_tower_can_come_from_the_file_of_another_run(hearts, tmp_path, names):
    def first(tree):
        only(tree, "contrast")
        tree["stages"][0].update(steps=2)
        if names == "upcycled":
            tree["shared"]["experts"] = None
            del tree["stages"][0]["objectives"]["router"]

    (tmp_path / "a").mkdir()
    source = unreported(hearts, recipe=write(tmp_path / "a", first), out=tmp_path / "a" / "run")
    found = Checkpoints(source.path / "checkpoint" / "contrast").find("best")
    file = next(path for path in found.rglob("*.safetensors"))

    def second(tree):
        only(tree, "contrast")
        tree["stages"][0].update(steps=1, weights={"shared": {"path": str(file), "names": names}},
                                 optimiser={"lr": 0.0, "weight_decay": 0.0})  # fmt: skip

    run = unreported(hearts, recipe=write(tmp_path, second), out=tmp_path / "run")
    given, taken = weights(source, "contrast"), weights(run, "contrast")
    whole = [name for name in given if name.startswith("model.") and ".mlp." not in name]
    assert any(".trunk." in name for name in whole)
    for name in whole:
        torch.testing.assert_close(taken[name], given[name], rtol=0, atol=0)
    if names == "upcycled":
        expert = taken["model.trunk.blocks.1.moe.mlps.weight2"][3]
        torch.testing.assert_close(
            expert, given["model.trunk.blocks.1.mlp.fc2.weight"], rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shared.experts": {"capacity_factor": 0}}, "capacity_factor"),
        ({"towers": {"ecg": {"encoder": {"name": "resnet1d"}}}}, "not both"),
        ({"stages.contrast.objectives.router.local": ["word"]}, "modality"),
        ({"shared.input_projections.signal.patch": 33}, "patch 33"),
        ({"stages.tuned.start_from": {"signal": "contrast", "shared": "tuned"}}, "needs the stage"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_before_the_first_step(hearts, tmp_path, change, words):
    with pytest.raises(ConfigError) as error:
        unreported(hearts, recipe=write(tmp_path), out=tmp_path / "run", overrides=change)
    assert words in str(error.value)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_modalities_from_different_stages_need_to_say_whose_trunk(hearts, tmp_path):
    def two(tree):
        only(tree, "contrast")
        second, third = copy.deepcopy(tree["stages"][0]), copy.deepcopy(tree["stages"][0])
        second["name"], third["name"] = "again", "both"
        third["start_from"] = {"signal": "contrast", "words": "again"}
        tree["stages"] += [second, third]

    with pytest.raises(ConfigError, match="shared: contrast"):
        unreported(hearts, recipe=write(tmp_path, two), out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_roles_take_the_only_modality_of_their_kind():
    recipe = read_recipe("limoe_ecg_toy", {"inputs.ecg.rate_hz": 250})
    found = for_cohort(recipe, KINDS)
    assert list(found.inputs) == ["ecg", "report"]
    assert found.inputs["ecg"]["rate_hz"] == 250
    assert found.inputs["ecg"]["seconds"] == 10
    assert found.stages[0].objectives["cross_modal"].settings["pairs"] == [["ecg", "report"]]
    assert found.stages[0].objectives["router"].settings["local"] == ["report"]


def test_a_modality_called_like_a_role_takes_it_only_if_it_is_of_its_kind():
    found = for_cohort(read_recipe("limoe_ecg_toy"), {"caption": "ecg", "picture": "text"})
    assert found.stages[0].objectives["cross_modal"].settings["pairs"] == [["caption", "picture"]]
    assert found.inputs["caption"]["seconds"] == 10
    assert found.inputs["picture"]["max_tokens"] == 48


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"ecg": "ecg"}, "of which it has none"),
        ({"ecg": "ecg", "note": "text", "report": "text"}, "several: note, report"),
    ],
)
def test_a_role_that_no_modality_or_several_could_take_is_refused(kinds, words):
    with pytest.raises(ConfigError) as error:
        for_cohort(read_recipe("limoe_ecg_toy"), kinds)
    assert words in str(error.value)
    named = {**kinds, "caption": "text"}
    assert isinstance(for_cohort(read_recipe("limoe_ecg_toy"), named), RecipeSpec)
