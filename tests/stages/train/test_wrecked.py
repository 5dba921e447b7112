"""A run that went wrong says so first and last, with a code of its own; a sound one never does."""

import json

import pytest
import torch
import yaml
from small_omics import recipe_for, write_omics
from torch import nn
from typed import typed

import medmcl
from medmcl.core.batch import Term
from medmcl.engine.loop import MAX_SKIPPED
from medmcl.engine.state import Progress
from medmcl.objectives import OBJECTIVES, CrossModal
from medmcl.stages.train.wrecked import Cloud, Health

NAMES = ("rna", "proteins")
QUICK = {"tasks": ["case"], "label_fractions": [1.0], "draws": 1, "bootstrap_draws": 100}


@pytest.fixture(scope="module")
def omics(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write_omics(tmp_path_factory.mktemp("omics"))


def recipe(steps=60, **changes):
    """Two tables aligned, then fine-tuned from there, then both scored."""
    tree = recipe_for(NAMES, **QUICK)
    first, scored = tree["stages"]
    first |= {"steps": steps, **changes}
    tuned = {**first, "name": "tuned", "steps": 50, "optimiser": {"lr": 0.003}, "frozen": [],
             "task": "case", "label_fraction": 1.0, "start_from": dict.fromkeys(NAMES, "align"),
             "objectives": {"supervised": {"task": "case", "modalities": list(NAMES)}}}  # fmt: skip
    scored["finetuned"] = {"tuned": "tuned"}
    scored["baselines"] = ["majority"]
    return {**tree, "stages": [first, tuned, scored]}


def train(cohort, folder, tree, **more):
    torch.set_num_threads(1)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return medmcl.pretrain(cohort, recipe=path, out=folder / "run", device="cpu", **more)


def report(run):
    return json.loads((run.path / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_run_is_not_wrecked(omics, tmp_path, seed):
    tree = recipe()
    tree["stages"][2:] = tree["stages"][2:] if seed == 0 else []
    run = train(omics, tmp_path, tree, seed=seed)
    assert run.wrecked == {}
    health = run.facts("align")["health"]
    assert health["loss"] < health["chance"] < 1.1 * health["first"]
    assert min(health["spread"].values()) > 0.03
    assert report(run)["wrecked"] == {}
    assert not report(run)["headline"][0].startswith("This run is wrecked")


def test_a_short_sound_run_is_above_chance_and_not_called_wrecked(omics, tmp_path):
    tree = recipe(steps=20, optimiser={"lr": 0.0003})
    run = train(omics, tmp_path, {**tree, "stages": tree["stages"][:1]})
    health = run.facts("align")["health"]
    assert health["chance"] < health["loss"] < health["first"]  # it falls, and is not there yet
    assert run.wrecked == {}


def test_a_learning_rate_a_thousand_times_too_high_wrecks_a_run(omics, tmp_path):
    run = train(omics, tmp_path, recipe(steps=200, optimiser={"lr": 3.0, "clip_norm": None}))
    assert "align" in run.wrecked
    assert report(run)["wrecked"] == run.wrecked
    first = report(run)["headline"][0]
    assert first.startswith(f"This run is wrecked: align ({run.wrecked['align']})")
    assert run.facts("tuned")["steps"] == 50  # what can go on does
    assert "lower the learning rate" in first
    assert {row["method"] for row in report(run)["results"]} >= {"aligned"}  # scored all the same
    page = (run.path / "report.html").read_text("utf-8")
    assert "This run is wrecked" in page


@pytest.mark.parametrize("lr", [0.003, 30.0])
def test_more_data_are_advised_for_few_pairs_and_never_for_a_wreck(omics, tmp_path, capsys, lr):
    """Too few rows to score pairs: of a sound stage that is the reason, of a wrecked one it is not.

    The advice stands in all places of the sound run, so that its lack in the other says something.
    """
    tree = recipe_for(**QUICK)
    learned = {"pairs": {"learn": "tree", "every": 10}, "scale": {"init": 10.0}}
    tree["stages"][0] |= {"steps": 60, "objectives": {"cross_modal": learned},
                          "optimiser": {"lr": lr, "clip_norm": None}}  # fmt: skip
    tree["stages"][1]["baselines"] = ["majority"]
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    words = ["--cohort", omics, "--device", "cpu", "--recipe", path, "--out", run]
    wrecked = lr > 1
    assert typed("pretrain", *words) == (3 if wrecked else 0)
    terminal = capsys.readouterr()
    told = json.loads((run / "report.json").read_text("utf-8"))
    (found,) = (one for one in told["findings"] if one["code"] == "graph.too_little_data")
    assert bool(told["wrecked"]) == wrecked
    assert ("lower the learning rate" in found["fix"]) == wrecked
    pages = [(run / name).read_text("utf-8") for name in ("report.html", "appendix.html")]
    for place in (terminal.out + terminal.err, "".join(pages), json.dumps(told)):
        assert "no pair of modalities has a score" in place
        assert ("gather more" in place) == (not wrecked)


class Broken(CrossModal):
    """Charges NaN from its tenth batch on."""

    asked = 0

    def forward(self, seen, batch):
        Broken.asked += self.training
        found = super().forward(seen, batch)
        if Broken.asked <= 10:
            return found
        return {n: Term(t.value * torch.nan, t.count, t.weight, t.chance) for n, t in found.items()}


def test_a_loss_that_is_not_finite_ends_the_stage_and_not_with_an_exception(
    omics, tmp_path, monkeypatch
):
    monkeypatch.setitem(OBJECTIVES, "cross_modal", Broken)
    monkeypatch.setattr(Broken, "asked", 0)
    run = train(omics, tmp_path, recipe())
    done = run.facts("align")
    assert done["steps"] == 10 + MAX_SKIPPED
    assert run.wrecked["align"].startswith(
        f"loss or gradient were not finite in {MAX_SKIPPED} of {done['steps']} steps, and it was "
        "given up"
    )
    assert run.embed(omics, stage="align").shape[0] > 0  # the best weights before are there


@pytest.mark.parametrize("how", ["frozen tower", "constant projection"])
def test_one_point_for_everybody_is_a_wreck(omics, tmp_path, monkeypatch, how):
    from medmcl.stages.train import parts as stage

    built = stage.build_learner

    def damaged(*arguments, **more):
        learner = built(*arguments, **more)
        tower = learner.model.tower("rna")
        parts = [tower.encoder] if how == "frozen tower" else [tower.head]
        for part in parts:
            for name, weight in part.named_parameters():
                if how == "frozen tower" or weight.ndim > 1:
                    nn.init.zeros_(weight)
                weight.requires_grad_(False)
                if name.endswith("bias"):
                    nn.init.ones_(weight)
        return learner

    monkeypatch.setattr(stage, "build_learner", damaged)
    run = train(omics, tmp_path, recipe())
    assert "different rna inputs have the same embedding" in run.wrecked["align"]
    assert "proteins inputs" not in run.wrecked["align"]
    assert "its embedding of rna does not vary" in run.skipped("tuned")  # it would go on from there
    assert {row["method"] for row in report(run)["results"]} >= {"aligned"}  # scored all the same


def test_weights_that_are_not_finite_are_not_scored(omics, tmp_path, monkeypatch):
    from medmcl.engine import loop

    stepped = torch.optim.AdamW.step

    def breaking(optimiser, *arguments):
        found = stepped(optimiser, *arguments)
        with torch.no_grad():
            optimiser.param_groups[0]["params"][0].fill_(torch.inf)
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", breaking)
    run = train(omics, tmp_path, recipe())
    assert "not finite" in run.wrecked["align"]
    assert "aligned" not in {row["method"] for row in report(run)["results"]}
    assert run.facts("align")["skipped_steps"] == loop.MAX_SKIPPED
    done = medmcl.evaluate(run, omics, out=tmp_path / "again")  # and this is no mistake of the user
    assert done.wrecked == run.wrecked


def test_command_line_ends_with_code_3_and_says_why_last(omics, tmp_path, capsys):
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe()), encoding="utf-8")
    words = ["--cohort", omics, "--device", "cpu"]
    more = ["--recipe", path, "--out", run, "--set", "stages.align.optimiser.lr=30.0"]
    assert typed("--quiet", "pretrain", *words, *more) == 3
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(f"wrecked: align ({medmcl.load(run).wrecked['align']})")
    assert "lower the learning rate" in last
    assert typed("evaluate", run, *words, "--out", tmp_path / "again") == 3
    assert capsys.readouterr().out.strip().splitlines()[-1] == last
    told = json.loads((tmp_path / "again" / "report.json").read_text("utf-8"))
    assert told["headline"][0].startswith("This run is wrecked: align")
    assert typed("embed", run, *words, "--out", tmp_path / "e.parquet") == 3
    assert capsys.readouterr().out.strip().splitlines()[-1] == last
    assert (tmp_path / "e.parquet").is_file()
    assert typed("predict", run, *words, "--out", tmp_path / "p.parquet") == 3
    assert capsys.readouterr().out.strip().splitlines()[-1] == last


def healthy(**changes):
    facts = {"steps": 300, "skipped": 0, "given_up": False, "loss": 4.0, "error": 0.05,
             "chance": 4.85, "first": 4.9, "finite": True, "clouds": {}}  # fmt: skip
    return Health(**{**facts, **changes})


def cloud(spread, **more):
    return {"ecg": Cloud(**{"rows": 100, "finite": True, "spread": spread, **more})}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"loss": 4.83}, ""),
        ({"loss": 4.8499}, "no better than chance"),
        ({"loss": 4.9, "labelled": True}, ""),  # at chance, as where labels mean nothing
        ({"loss": 5.2, "labelled": True}, "no better than chance"),
        ({"loss": 5.2, "labelled": True, "error": 0.3}, ""),
        ({"loss": 5.2}, "no better than chance"),
        ({"loss": 5.2, "steps": 50}, "no better than chance"),
        ({"loss": 5.2, "steps": 49}, ""),  # too short: sound ones are above chance, see below
        ({"loss": 12.0, "steps": 20}, "no better than chance"),
        ({"loss": 9.9, "chance": float("nan"), "first": 3.0}, "above the 3 it began with"),
        ({"loss": 2.9, "chance": float("nan"), "first": 3.0}, ""),
        ({"skipped": 2}, ""),
        ({"skipped": 60}, "60 of 300 steps"),
        ({"finite": False}, "weights are not finite"),
        ({"clouds": cloud(float("nan"), finite=False)}, "embedding of ecg is not finite"),
        ({"clouds": cloud(1e-6)}, "same embedding"),
        ({"clouds": cloud(0.02)}, ""),  # hardly apart, yet the loss is far below chance
        ({"clouds": cloud(0.02), "loss": 4.85}, "same embedding"),
        ({"clouds": cloud(0.02), "loss": 4.85, "steps": 6}, ""),
    ],
)
def test_what_is_a_wreck(changes, said):
    wreck = healthy(**changes).wreck
    assert (said in wreck) if said else wreck == ""


def test_the_last_tenth_is_that_of_the_steps_that_were_taken():
    state = Progress(step=0)
    for number in range(40):  # of 100 planned: it ended early
        state.step += 1
        state.remember(float(number), 50.0, tenth=10)
    health = Health.of(state, given_up=False, finite=True, clouds={})
    assert health.loss == pytest.approx((36 + 37 + 38 + 39) / 4)
    assert health.first == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert health.chance == 50.0
