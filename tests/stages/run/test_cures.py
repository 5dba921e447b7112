"""Cures of a poisoned model: from a victim run, what is taken over, and how they are judged."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from read_pages import both_pages
from short_runs import stage_of, write_recipe
from small_squares import write_squares
from typed import typed

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.engine.record import Record
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.results import load_results
from medmcl.stages.evaluate.attack.attacked import attack_results, attacked
from medmcl.stages.evaluate.attack.backdoor_eval import Asked
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort
from medmcl.stages.run.run import Run
from medmcl.stages.run.stage_reuse import differences, named, run_and_stage, shared_stages
from medmcl.stages.train.spec import ObjectiveSpec
from medmcl.stages.train.train import Train
from medmcl.threats import Poison

pytestmark = pytest.mark.usefixtures("cache")

TINY = {
    "kinds.image.input.size": 32,
    "kinds.text.input.max_tokens": 16,
    "kinds.image.tower.encoder": {
        "name": "timm", "model": "vit_tiny_patch16_224",
        "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    },
    "stages.attack.count": 12,
    "stages.victim.steps": 4,
    "stages.victim.epochs": None,
    "stages.victim.batch_size": 16,
    "stages.results.bootstrap_draws": 100,
}  # fmt: skip
CURED = {"stages.cured.steps": 3, "stages.cured.epochs": None, "stages.cured.batch_size": 16}
OBJECTIVES = "stages.cured.objectives"
UNREAD = (
    "medmcl.stages.evaluate.stage.run_evaluate",
    "medmcl.stages.run.report.write_run_report",
)
"""Results and report, which take longer than training."""
CURES = ("cleanclip_toy", "par_toy", "supervised_cure_toy")


def trained(cohort, recipe, out, overrides=(), *, is_reported=False, **more):
    """Train; without results and report, which take longer, where no test reads them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in () if is_reported else UNREAD:
            patch.setattr(name, lambda *_, **__: None)
        found = medmcl.pretrain(
            cohort, recipe=recipe, out=out, overrides={**TINY, **dict(overrides)}, device="cpu",
            **more,
        )  # fmt: skip
    assert found is not None
    return found


@pytest.fixture(scope="module")
def victim(squares, tmp_path_factory):
    return trained(squares, "poisoned_toy", tmp_path_factory.mktemp("victim") / "run")


def unpainted(*_, **__):
    """Neither lay out a figure nor draw it."""


@pytest.fixture(scope="module")
def cured(squares, victim, tmp_path_factory):
    """Cures with their reports, of which the figures of the first are painted."""
    folder = tmp_path_factory.mktemp("cured")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in CURES:
            out = folder / name
            made[name] = trained(squares, name, out, CURED, reuse=victim, is_reported=True)
            patch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", unpainted)
            patch.setattr("matplotlib.figure.Figure.draw", unpainted)
    return made


def weights(run, stage):
    return run.checkpoints(stage).weights("last")


@pytest.mark.parametrize("name", CURES)
def test_a_cure_goes_on_from_the_victim_of_another_run(name, cured, victim):
    run = cured[name]
    for key, value in weights(victim, "victim").items():
        assert torch.equal(weights(run, "victim")[key], value)
    manifest = Poison.load(run.file("attack", Poison))
    assert manifest.fingerprint == Poison.load(victim.file("attack", Poison)).fingerprint
    own, before = weights(run, "cured"), weights(victim, "victim")
    moved = [key for key in own if key in before and key.startswith("model.towers.image")
             and not torch.equal(own[key], before[key])]  # fmt: skip
    assert moved
    for key in moved:  # a few small steps from there, not another start
        assert torch.allclose(own[key], before[key], atol=0.02)
    (parent,) = json.loads((run.path / "provenance.json").read_text())["parents"]
    assert parent["stages"] == ["attack", "victim"]
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"victim", "cured"}


def test_what_is_taken_over_is_what_training_gives(cured, squares, tmp_path):
    run = trained(squares, "cleanclip_toy", tmp_path / "whole", CURED)
    for stage in ("victim", "cured"):
        for key, value in weights(cured["cleanclip_toy"], stage).items():
            assert torch.equal(weights(run, stage)[key], value), (stage, key)


def test_a_report_shows_the_attack_on_victim_and_cured(cured):
    rows = load_results(cured["cleanclip_toy"].path / "results.csv")
    attack = [row for row in rows if row.kind == "attack"]
    asked = {(row.method, row.protocol) for row in attack}
    assert asked >= {(m, p) for m in ("victim", "cured") for p in ("zero_shot", "linear_probe")}
    assert {(m, p) for m, p in asked if p.startswith("retrieval")} == {
        (m, f"retrieval, {how}") for m in ("victim", "cured") for how in ("clean", "triggered")
    }
    (gap,) = [row for row in attack if row.versus and row.metric == "attack_success"
              and row.protocol == "zero_shot"]  # fmt: skip
    assert (gap.method, gap.versus) == ("cured", "victim")
    page = both_pages(cured["cleanclip_toy"].path)
    assert "Stage attack: target colour = red" in page
    assert "Retrieval, clean and triggered" in page
    assert "Stage attack (target colour = red) on cured: zero-shot attack success" in page
    assert "told so without the trigger (false_success)" in page
    assert "Attack attack" not in page


@pytest.fixture
def evaluated(monkeypatch):
    """What is evaluated, instead of a report of it."""
    kept = []
    monkeypatch.setattr(
        "medmcl.stages.run.report.write_evaluation_report", lambda _, __, made: kept.append(made)
    )
    return kept


def attack_rows(made):
    return [row for row in made.results if row.kind == "attack"]


def notes_of(run, cohort, others, **changes):
    """Ask about the attack by prompts, other runs beside; give the notes."""
    asked = run.recipe.stages[-1].attack
    spec = asked.model_copy(update={"by": ("zero_shot",), **changes})
    prepared, notes = run.prepare(medmcl.open_cohort(cohort), ("image", "caption")), []
    attack_results(spec, run, prepared, torch.device("cpu"), Resampling(prepared.subjects), notes,
                   others=others)  # fmt: skip
    return notes


def test_cures_of_other_runs_are_set_beside(cured, squares, tmp_path, evaluated):
    run, other = cured["cleanclip_toy"], cured["supervised_cure_toy"]
    words = ["--compare", cured["par_toy"].path, "--compare", other.path]
    assert typed("evaluate", run.path, "--cohort", squares, *words, "--out", tmp_path / "e",
                 "--device", "cpu", "--workers", 0) == 0  # fmt: skip
    (made,) = evaluated
    attack = attack_rows(made)
    plain = {(row.protocol, row.method, row.metric): row.value for row in attack if not row.versus}
    models, supervised = {"victim", "cured", "cured of par_toy"}, f"cured of {other.path.name}"
    by_way = {way: {key[1] for key in plain if key[0] == way} for way, _, _ in plain}
    assert by_way.pop("linear_probe") == models | {supervised}
    assert by_way.pop("own head") == {supervised}
    assert by_way == dict.fromkeys(
        ("zero_shot", "retrieval, clean", "retrieval, triggered"), models
    )
    for name, of in (("par_toy", cured["par_toy"]), (other.path.name, other)):
        own = {(row.protocol, row.metric): row.value
               for row in load_results(of.path / "results.csv")
               if row.kind == "attack" and not row.versus and row.method == "cured"}  # fmt: skip
        assert own
        for (protocol, metric), value in own.items():
            if not protocol.startswith("retrieval"):  # of both directions
                assert plain[protocol, f"cured of {name}", metric] == value
    gaps = {(row.protocol, row.method) for row in attack if row.versus == "victim"}
    assert gaps >= {("zero_shot", "cured of par_toy"), ("linear_probe", supervised)}
    told = [line.what for line in made.fitted]
    assert "weights of stage cured, of par_toy" in told
    assert "weights of stage cured" in told


@pytest.fixture(scope="module")
def trojans(squares, victim, tmp_path_factory):
    """A run under the same manifest with names, numbers and pictures of its own."""
    folder = tmp_path_factory.mktemp("trojans")
    attack, first = (stage_of("poisoned_toy", name) for name in ("attack", "victim"))
    manifest = str(victim.file("attack", Poison))
    stages = [
        {**attack, "name": "trojan", "count": None, "manifest": manifest},
        {**first, "name": "first", "poisoned_by": "trojan", "steps": 2, "epochs": None},
        {**first, "name": "second", "poisoned_by": None, "steps": 2, "epochs": None,
         "start_from": dict.fromkeys(first["towers"], "first")},
        {"stage": "evaluate", "name": "results",
         "attack": {"attack": "trojan", "models": {"early": "first", "late": "second"}}},
    ]  # fmt: skip
    recipe = write_recipe(folder, "poisoned_toy", stages=stages)
    own = {key: value for key, value in TINY.items() if key.startswith("kinds.")}
    with pytest.MonkeyPatch.context() as patch:
        for name in UNREAD:
            patch.setattr(name, lambda *_, **__: None)
        return medmcl.pretrain(
            squares, recipe=recipe, out=folder / "trojans", device="cpu",
            overrides={**own, "kinds.image.input.size": 40},
        )  # fmt: skip


def test_models_are_asked_under_the_names_and_inputs_of_their_own_run(
    cured, trojans, squares, tmp_path, evaluated
):
    run = cured["cleanclip_toy"]
    medmcl.evaluate(run, squares, compare=[trojans.path], out=tmp_path / "e", device="cpu")
    rows = attack_rows(evaluated[0])
    both = {"early of trojans", "late of trojans"}
    assert {row.method for row in rows} == {"victim", "cured"} | both
    assert {row.task for row in rows} == {"attack"}
    own = attacked(trojans, squares, "second", draws=100)
    told = {
        row.metric: row.value
        for row in rows
        if (row.method, row.protocol) == ("late of trojans", "zero_shot") and not row.versus
    }
    assert told == {metric: row.value for metric, row in own.items()}
    assert not notes_of(run, squares, {"trojans": trojans}, attack="attack")


def test_runs_that_cannot_be_set_beside_are_noted(
    cured, victim, squares, tmp_path, evaluated, monkeypatch
):
    run, par = cured["cleanclip_toy"], cured["par_toy"]
    assert notes_of(run, squares, {"twin": run}) == [
        "attack on twin left out: its models are those of this run"
    ]
    stranger = trained(squares, "par_toy", tmp_path / "stranger", CURED, seed=1)
    (said,) = notes_of(run, squares, {"stranger": stranger})
    assert said.startswith("attack on stranger left out: no stage of")
    lost = Run(shutil.copytree(par.path, tmp_path / "lost"))
    lost.file("attack", Poison).unlink()
    (said,) = notes_of(run, squares, {"lost": lost})
    assert said.endswith("poison/attack.parquet: there is no such file")
    plain = trained(squares, "poisoned_toy", tmp_path / "plain", {"stages.results.attack": None},
                    reuse=victim)  # fmt: skip
    (said,) = notes_of(run, squares, {"plain": plain}, models={"cured": "cured"})
    assert said == "attack on plain left out: none of its stages (victim) is one that is asked here"
    asked = Asked.of
    monkeypatch.setattr(
        Asked, "of", lambda spec, of, *rest: replace(
            asked(spec, of, *rest), **({} if of is run else {"rows": np.arange(3)}))
    )  # fmt: skip
    (said,) = notes_of(run, squares, {"par": par})
    assert "it reads other held-out records (3, this run" in said
    medmcl.evaluate(plain, squares, compare=[par.path], out=tmp_path / "e", device="cpu")
    assert [one for one in evaluated[0].notes if one.startswith("nothing sets par_toy beside")]


def test_a_supervised_cure_is_judged_by_its_own_head_and_left_out_of_zero_shot(cured):
    run = cured["supervised_cure_toy"]
    rows = load_results(run.path / "results.csv")
    asked = {(row.method, row.protocol) for row in rows if row.kind == "attack" and not row.versus}
    assert ("cured", "own head") in asked
    gaps = [row for row in rows if row.kind == "attack" and row.versus]
    assert {row.protocol for row in gaps} == {"linear_probe"}
    assert ("cured", "zero_shot") not in asked
    assert "attack on cured by zero-shot left out: it has no tower for texts" in both_pages(
        run.path
    )


def test_terms_share_one_temperature_that_goes_on_from_the_victim(cured, victim):
    run = cured["cleanclip_toy"]
    before = weights(victim, "victim")["objectives.cross_modal.scale.log"]
    own = weights(run, "cured")
    scales = [
        own[f"objectives.{label}.scale.log"] for label in ("cross_modal", "of_record", "of_report")
    ]
    assert all(torch.equal(one, scales[0]) for one in scales)
    assert 0 < abs(float(scales[0] - before)) < 0.01
    assert float(before) != pytest.approx(np.log(14.2857), abs=1e-6)
    learner = run.learner("cured", torch.device("cpu"))
    assert learner.objectives["of_record"].scale is learner.objectives["cross_modal"].scale
    par = weights(cured["par_toy"], "cured")["objectives.cross_modal.scale.log"]
    assert torch.equal(par, before)


def test_a_victim_is_taken_over_from_a_run_with_another_cure(cured, squares, tmp_path, monkeypatch):
    source = cured["cleanclip_toy"]
    for reuse, recipe, said in (
        (source, "par_toy", r"stages\.cured\.(.|\n)*--reuse FOLDER:STAGE"),
        (f"{source.path}:vctim", "par_toy", "did you mean 'victim'"),
        (f"{source.path}:cured", "poisoned_toy", r"no 'cured' to reuse\n(.|\n)*attack, victim"),
    ):
        with pytest.raises(ConfigError, match=said):
            trained(squares, recipe, tmp_path / "no", CURED if recipe == "par_toy" else {},
                    reuse=reuse)  # fmt: skip
    with pytest.raises(ArtefactError, match="nobody: is not a run folder"):
        trained(squares, "par_toy", tmp_path / "no", CURED, reuse=f"{tmp_path}/nobody:victim")
    assert not (tmp_path / "no").exists()
    for name in UNREAD:
        monkeypatch.setattr(name, lambda *_, **__: None)
    (tmp_path / "a:victim").symlink_to(source.path, target_is_directory=True)
    words = [f"--set={key}={json.dumps(value)}" for key, value in {**TINY, **CURED}.items()]
    assert typed("pretrain", "--cohort", squares, "--recipe", "par_toy", *words, "--device", "cpu",
                 "--workers", 0, "--out", tmp_path / "run",
                 "--reuse", f"{tmp_path / 'a:victim'}:victim") == 0  # fmt: skip
    run = Run(tmp_path / "run")
    whole, stage = run_and_stage(tmp_path / "a:victim")
    assert (whole.path, stage) == (tmp_path / "a:victim", None)
    (parent,) = run.tree("provenance")["parents"]
    assert parent["stages"] == ["attack", "victim"]
    assert parent["run"] == str(source.path.resolve())
    for key, value in weights(cured["par_toy"], "cured").items():
        assert torch.equal(weights(run, "cured")[key], value)


@pytest.mark.parametrize(
    ("overrides", "more", "told"),
    [
        ({"stages.victim.steps": 5}, {}, "stages.victim.steps: 4 -> 5"),
        ({"stages.attack.count": 9}, {}, "stages.attack.count: 12 -> 9"),
        ({"kinds.image.input.size": 40}, {}, "recipe.inputs.image.size: 32 -> 40"),
        ({}, {"seed": 1}, "seed: 0 -> 1"),
        ({"kinds.image.tower.head.out": 32}, {}, "recipe.towers.image.head.out"),
        ({"kinds.image.augment.augmented.contrast": 0.2}, {}, "recipe.views.augmented"),
    ],
)
def test_a_victim_of_other_settings_is_refused_before_anything_is_written(
    overrides, more, told, victim, squares, tmp_path
):
    with pytest.raises(ConfigError, match="made with other settings") as error:
        trained(squares, "cleanclip_toy", tmp_path / "r", {**CURED, **overrides}, reuse=victim,
                **more)  # fmt: skip
    assert told in str(error.value)
    assert not (tmp_path / "r" / "config.yaml").exists()


def test_a_victim_of_another_cohort_or_recipe_is_refused(victim, squares, tmp_path):
    other = write_squares(tmp_path / "other", people=90)
    with pytest.raises(ConfigError, match="cohort_fingerprint"):
        trained(other, "cleanclip_toy", tmp_path / "r", CURED, reuse=victim)
    names = {
        key: value
        for key, value in TINY.items()
        if not any(word in key for word in ("victim", "attack", "kinds"))
    }
    with pytest.raises(ConfigError, match=r"recipe\.inputs|no stage to reuse"):
        medmcl.pretrain(
            squares, recipe="clip_toy", out=tmp_path / "s", overrides=names, reuse=victim,
            device="cpu",
        )  # fmt: skip
    with pytest.raises(ArtefactError, match="not a run folder"):
        trained(squares, "cleanclip_toy", tmp_path / "t", CURED, reuse=tmp_path)


def test_a_killed_run_that_took_stages_over_goes_on_to_the_same_weights(
    cured, victim, squares, tmp_path, monkeypatch
):
    def stopped(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Train, "run", stopped)
        with pytest.raises(RuntimeError, match="killed"):
            trained(squares, "par_toy", tmp_path / "r", CURED, reuse=victim)
    run = trained(squares, "par_toy", tmp_path / "r", CURED, resume=True)
    for key, value in weights(cured["par_toy"], "cured").items():
        assert torch.equal(weights(run, "cured")[key], value)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({f"{OBJECTIVES}.of_record.scale": {"of": "cros_modal"}}, "did you mean 'cross_modal'"),
        ({f"{OBJECTIVES}.of_record.scale": {"of": "of_report"}}, "its own called 'of_report'"),
        ({f"{OBJECTIVES}.of_record.scale": {"of": "cross_modal", "init": 3.0}}, "leave the rest"),
        ({f"{OBJECTIVES}.cross_modal.scale.start_from": "attack"}, "called 'attack'"),
        ({f"{OBJECTIVES}.cross_modal.scale.init": 5.0}, "no init"),
        ({"stages.results.attack.attack": "atack"}, "atack"),
        ({"stages.results.attack.models": {"victim": "vctim"}}, "vctim"),
        ({"stages.results.attack.by": ["zero_short"]}, "zero_short"),
        ({"stages.results.attack.by": []}, "how is a model asked? zero_shot, head, or both"),
        ({"stages.attack.modality": "picture"}, "reads no 'picture'"),
        (
            {"stages.attack.modality": "picture"},
            "image, caption; by the recipe's roles record (here image), report (here caption)",
        ),
        ({"inputs.picture.size": 32}, "by the recipe's roles record (here image)"),
    ],
)
def test_slips_of_the_pen_are_refused_before_records_are_read(overrides, told, squares, tmp_path):
    with pytest.raises(ConfigError) as error:
        trained(squares, "cleanclip_toy", tmp_path / "r", {**CURED, **overrides})
    assert told in str(error.value)


def test_an_attack_of_another_cohort_is_left_out_with_a_note(cured, tmp_path, monkeypatch):
    other = write_squares(tmp_path / "other", people=90)
    run, said = cured["cleanclip_toy"], []
    monkeypatch.setattr(Record, "say", lambda _, text: said.append(text))
    found = medmcl.evaluate(run, other, out=tmp_path / "e", device="cpu")
    assert not [row for row in found.results if row.kind == "attack"]
    assert any("the run's attack is of its own cohort" in note for note in found.notes)
    assert "results: zero-shot" in said
    assert "results: attack" not in said
    page = both_pages(tmp_path / "e")
    assert "attack left out: the run&#39;s attack is of its own cohort" in page
    assert "probe of the attack section" not in page
    with pytest.raises(ConfigError, match="of its own cohort"):
        attacked(run, other, "victim")


@pytest.mark.parametrize("name", ["cleanclip", "par", "supervised_cure"])
@pytest.mark.parametrize("twin", ["", "_toy"])
def test_shipped_cures_are_those_of_their_sources(name, twin):
    recipe = for_cohort(read_recipe(f"{name}{twin}"), {"image": "image", "caption": "text"})
    attack, victim, cured, results = recipe.stages
    assert victim.poisoned_by == attack.name
    assert cured.poisoned_by is None
    assert set(cured.start_from.values()) == {"victim"}
    assert set(cured.start_from) == set(cured.towers)
    assert list(results.attack.models.items()) == [("victim", "victim"), ("cured", "cured")]
    fits_texts = "victim" if name == "supervised_cure" else "cured"
    assert {results.retrieval.stage, results.zero_shot.stage} == {fits_texts}
    assert all(view.augment.get("image", {}).get("flip", 0) == 0 for view in recipe.views.values())
    if name == "cleanclip":
        terms = {label: cured.objectives[label] for label in ("of_record", "of_report")}
        for label, modality in (("of_record", "image"), ("of_report", "caption")):
            own = terms[label].settings
            assert (own["modality"], own["views"], own["negatives"], own["weight"]) == (
                modality, ["plain", "disturbed"], "cross", 1.0,
            )  # fmt: skip
            assert terms[label].loss_weight == 0.5
            assert own["scale"] == {"of": "cross_modal"}
        assert cured.objectives["cross_modal"].loss_weight == 1
        assert cured.objectives["cross_modal"].settings["view"] == "plain"
    if name == "par":
        assert cured.teacher == "victim"
        assert cured.objectives["par"].settings["threshold"] == 2.15


def test_a_stage_that_keeps_rows_for_a_later_one_is_not_taken_for_one_that_does_not(victim):
    config = victim.config
    stages = victim.recipe.stages
    base = next(stage for stage in stages if stage.name == "victim")
    learn = {"kind": "cross_modal", "settings": {"pairs": {"learn": "tree"}}}
    later = base.model_copy(
        update={
            "name": "bind",
            "poisoned_by": None,
            "start_from": {"image": "victim"},
            "objectives": {"cross_modal": ObjectiveSpec.model_validate(learn)},
        }
    )
    assert [one.name for one in shared_stages(victim, config, stages)] == ["attack", "victim"]
    with pytest.raises(ConfigError, match="rows kept for no later stage -> for bind"):
        shared_stages(victim, config, [*stages[:-1], later, stages[-1]])


def test_a_stage_whose_source_is_not_taken_is_not_taken_either(cured):
    """Of a run whose victim is not finished."""
    run = cured["cleanclip_toy"]
    stages = run.recipe.stages
    (run.path / "checkpoint" / "victim" / "done.json").rename(run.path / "aside.json")
    try:
        assert [one.name for one in shared_stages(run, run.config, stages)] == ["attack"]
        with pytest.raises(ConfigError, match=r"no 'victim' to reuse\n(.|\n)*of that run: attack"):
            shared_stages(run, run.config, stages, "victim")
    finally:
        (run.path / "aside.json").rename(run.path / "checkpoint" / "victim" / "done.json")


@pytest.mark.parametrize("key", ["precision", "keep", "noisy_pairs"])
def test_runs_of_other_precision_or_rows_share_no_stage(key, victim):
    other = {**victim.config, key: "other"}
    with pytest.raises(ConfigError, match=f"{key}: .* -> 'other'"):
        shared_stages(victim, other, victim.recipe.stages)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"stages.attack.task": "color"}, "the cohort has no task 'color'; did you mean 'colour'"),
        ({"stages.attack.label": "rad"}, "no class 'rad'; did you mean 'red'"),
        ({"stages.attack.count": 400}, "so many samples cannot be poisoned"),
        ({"stages.attack.trigger": "pulse"}, "the trigger pulse goes on ECGs"),
    ],
)
def test_check_finds_an_attack_that_cannot_be(overrides, told, squares):
    settings = {**TINY, **overrides}
    found = medmcl.check(squares, recipe="poisoned_toy", overrides=settings)
    said = [str(one.what) for one in found if one.level == "error"]
    assert any(told in one for one in said), said
    assert not [f for f in medmcl.check(squares, recipe="poisoned_toy", overrides=TINY)
                if f.level == "error"]  # fmt: skip


def test_what_differs_is_named_by_its_key_in_few_words():
    before = {"a": {"b": {"x": 1, "y": [1, 2]}, "long": "z" * 90}, "only": {"k": 1}, "n": 0}
    now = {"a": {"b": {"x": 2, "y": [1, 2]}, "long": ""}, "m": {"k": 1}, "n": 0}
    lines = differences(before, now)
    assert lines[0] == "a.b.x: 1 -> 2"
    assert lines[2:] == [
        "m: nothing -> given",
        "only: given -> nothing",
    ]
    assert max(map(len, lines)) < 60
    stages = {"stages": [{"name": "fit", "epochs": 1}, {"n": 1}]}
    later = {"stages": [{"name": "fit", "epochs": 2}, {"n": 2}]}
    assert differences(stages, later) == ["stages.fit.epochs: 1 -> 2", "stages.1.n: 1 -> 2"]
    assert named(lines) == "; ".join(lines)
    many = named([f"k{n}: 1 -> 2" for n in range(9)])
    assert many.endswith("k4: 1 -> 2; and 4 more")


def test_a_check_that_cannot_be_has_a_fix(squares):
    def fix(**changes):
        told = {f"stages.attack.{key}": value for key, value in changes.items()}
        found = medmcl.check(squares, recipe="poisoned_toy", overrides={**TINY, **told})
        (one,) = [one for one in found if one.level == "error"]
        return one.fix

    most = re.fullmatch(r"--set stages.attack.count=(\d+)", fix(count=400))
    assert most is not None
    settings = {**TINY, "stages.attack.count": int(most[1])}
    assert not [one for one in medmcl.check(squares, recipe="poisoned_toy", overrides=settings)
                if one.level == "error"]  # fmt: skip
    assert fix(share=1e-6, count=None) == "--set stages.attack.count=1"
    assert fix(label="rad") == "--set stages.attack.label=CLASS"
