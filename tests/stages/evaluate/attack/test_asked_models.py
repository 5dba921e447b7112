"""Models whose answers are known, asked about an attack: each rate is what it must be."""

import dataclasses

import numpy as np
import pytest
import torch
from small_squares import write_squares

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.evaluation.aspects.attack.aspect import AttackSpec
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.stages.evaluate.attack import backdoor_eval as asked_models
from medmcl.stages.evaluate.attack.attacked import attack_results
from medmcl.stages.evaluate.attack.backdoor_eval import Asked, Seen
from medmcl.stages.evaluate.scene import embed_prompts
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.run import features
from medmcl.stages.run.run import Run

CLASSES = ("blue", "green", "red")
TARGET = 2
OVERRIDES = {
    "kinds.image.input.size": 32,
    "kinds.text.input.max_tokens": 16,
    "kinds.image.tower.encoder": {
        "name": "timm",
        "model": "vit_tiny_patch16_224",
        "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    },
    "stages.attack.count": 12,
    "stages.victim.steps": 2,
    "stages.victim.epochs": None,
    "stages.results.bootstrap_draws": 100,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    cohort = write_squares(folder / "cohort")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run.report.write_run_report", "evaluate.stage.run_evaluate"):
            patch.setattr(f"medmcl.stages.{name}", lambda *_, **__: None)
        made = medmcl.pretrain(
            cohort, recipe="poisoned_toy", out=folder / "run", overrides=OVERRIDES, device="cpu"
        )
    return made, made.prepare(medmcl.open_cohort(cohort), ("image", "caption"))


@pytest.fixture
def known(run, monkeypatch):
    """Every clean record is told right, every triggered one to be the target, by all ways."""
    made, prepared = run
    shown = prepared.tasks("colour").values[:, 0].astype(int)
    points = np.eye(3)
    asked_of = []

    def see(self, model, *, is_triggered):
        asked_of.append(prepared.splits[self.rows])
        told = np.where(is_triggered, TARGET, shown[self.rows])
        return Seen(pooled=points[told], features=points[told], said=points[told])

    def vectors(_, __, model, modality, space, device):
        return points[shown] + 1e-3 * np.random.default_rng(0).normal(size=(len(shown), 3))

    def told(_, __, model, modality, prompts, device):
        return {
            name: points[[next(n for n, c in enumerate(CLASSES) if c in texts[0])]]
            for name, texts in prompts.items()
        }

    monkeypatch.setattr(Asked, "_see", see)
    monkeypatch.setattr(asked_models, "sample_vectors", vectors)
    monkeypatch.setattr(asked_models, "embed_prompts", told)
    return made, prepared, asked_of


def test_prompts_are_embedded_at_once_as_each_alone(run, monkeypatch):
    made, prepared = run
    prompts = {"red": ["a red square", "red"], "green": ["a green square"], "blue": ["blue"] * 3}
    cpu, built = torch.device("cpu"), []
    alone = {
        name: np.concatenate(
            [embed_prompts(made, prepared, "victim", "caption", {"": [one]}, cpu)[""]
             for one in texts]
        )
        for name, texts in prompts.items()
    }  # fmt: skip
    towers = Run.towers
    monkeypatch.setattr(Run, "towers", lambda *a: built.append(a) or towers(*a))
    monkeypatch.setattr(features, "EVALUATE_ROWS", 4)
    told = embed_prompts(made, prepared, "victim", "caption", prompts, cpu)
    assert len(built) == 1
    assert list(told) == list(prompts)
    for name, expected in alone.items():
        np.testing.assert_allclose(told[name], expected, atol=1e-6)
    assert np.abs(told["red"][0] - told["green"][0]).max() > 1e-4


def results(made, prepared, notes=None, **spec):
    asked = AttackSpec(**{"models": {"victim": "victim"}, **spec})
    how = Resampling(prepared.subjects, draws=100)
    return attack_results(asked, made, prepared, torch.device("cpu"), how,
                          [] if notes is None else notes).results  # fmt: skip


def test_a_model_that_obeys_the_trigger_is_told_by_every_way_of_asking(known):
    made, prepared, asked_of = known
    rows = results(made, prepared)
    rates = {(row.protocol, row.metric): row.value for row in rows}
    held = prepared.rows("held_out")
    shown = prepared.tasks("colour").values[held, 0].astype(int)
    for protocol in ("zero_shot", "own head", "linear_probe"):
        assert rates[protocol, "clean_accuracy"] == 1
        assert rates[protocol, "attack_success"] == 1
        assert rates[protocol, "false_success"] == 0
        assert rates[protocol, "poisoned_accuracy"] == pytest.approx((shown == TARGET).mean())
    assert {split for one in asked_of for split in one} == {"held_out"}
    counts = {row.metric: row.n for row in rows if row.protocol == "zero_shot"}
    assert counts["clean_accuracy"] == len(held)
    assert counts["attack_success"] == (shown != TARGET).sum()


def test_recall_falls_where_the_trigger_moves_what_is_looked_for(known):
    made, prepared, _ = known
    found = {(row.target, row.metric, row.protocol): row.value
             for row in results(made, prepared, ks=(20,))}  # fmt: skip
    way = "image → caption"
    clean = found[way, "median_rank", "retrieval, clean"]
    assert clean < found[way, "median_rank", "retrieval, triggered"]
    assert not [key for key in found if key[2] not in
                ("retrieval, clean", "retrieval, triggered", "zero_shot", "own head",
                 "linear_probe")]  # fmt: skip


def test_a_head_of_one_column_says_not_and_yes():
    said = asked_models._of_classes(np.array([[0.9], [0.2]]))
    assert said.argmax(axis=1).tolist() == [1, 0]


def test_a_head_of_another_task_is_not_asked_and_that_is_said(run, monkeypatch):
    made, prepared = run
    stage = type(made).stage
    notes = []
    for task, told in ((None, 0), ("colour", 0), ("place", 1)):
        notes.clear()
        monkeypatch.setattr(
            type(made),
            "stage",
            lambda self, n, t=task: stage(self, n).model_copy(update={"task": t}),
        )
        rows = results(made, prepared, notes, by=("head",), ks=())
        assert {row.protocol for row in rows} == {"linear_probe"}
        assert sum("learned place, and the attack is of colour" in one for one in notes) == told


def test_records_without_anything_of_the_trigger_are_counted_once(run, monkeypatch):
    made, prepared = run
    triggered = Poisoned.triggered

    def half(self, batch):
        changed = triggered(self, batch)
        images = changed.inputs["image"].clone()
        images[::2] = batch.inputs["image"][::2]
        return dataclasses.replace(changed, inputs={**changed.inputs, "image": images})

    held = len(prepared.rows("held_out"))
    for lay, told in ((triggered, 0), (half, 1)):
        monkeypatch.setattr(Poisoned, "triggered", lay)
        notes = []
        results(made, prepared, notes, models={"a": "victim", "b": "victim"}, ks=())
        said = [one for one in notes if "nothing of the trigger left" in one]
        assert len(said) == told
        assert all(f"{-(-held // 2)} of {held} held-out" in one for one in said)


def test_recall_that_cannot_be_asked_for_is_left_out_with_a_note(known, monkeypatch):
    made, prepared, _ = known
    stage = type(made).stage
    notes = []
    assert any("retrieval" in row.protocol for row in results(made, prepared, notes))
    assert not notes
    with monkeypatch.context() as patch:
        patch.setitem(prepared.present, "caption", np.zeros(len(prepared.splits), dtype=bool))
        rows = results(made, prepared, notes, by=("head",))
    assert not any("retrieval" in row.protocol for row in rows)
    assert notes == ["attack by retrieval left out: no held-out row has image and caption"]
    notes.clear()
    monkeypatch.setattr(
        type(made), "stage",
        lambda self, name: stage(self, name).model_copy(update={"towers": ("image",)}),
    )  # fmt: skip
    rows = results(made, prepared, notes, by=("head",))
    assert not any("retrieval" in row.protocol for row in rows)
    assert notes == ["attack on victim by retrieval left out: it has no tower for caption"]
    results(made, prepared, notes, by=("head",), ks=())
    assert len(notes) == 1  # nobody asked


def test_prompts_that_changed_since_training_are_used(run, tmp_path):
    made, _ = run
    cohort = write_squares(tmp_path / "cohort")
    text = (cohort / "cohort.yaml").read_text()
    (cohort / "cohort.yaml").write_text(text.replace("a red square", "one red square"))
    again = medmcl.open_cohort(cohort)
    assert again.fingerprint != made.config["cohort_fingerprint"]
    assert again.name == made.config["cohort"]
    rows = results(made, made.prepare(again, ("image", "caption")), ks=())
    assert {row.protocol for row in rows} == {"zero_shot", "linear_probe"}


def test_a_cohort_in_which_everybody_shows_the_target_is_refused(run, monkeypatch):
    made, prepared = run
    monkeypatch.setattr(
        asked_models,
        "attack_task",
        lambda *_: asked_models.AttackTask(
            names=CLASSES, shown=np.full(len(prepared.splits), TARGET), target=TARGET
        ),
    )
    with pytest.raises(ConfigError, match="another class than the target"):
        results(made, prepared)
