"""The poison stage: who is poisoned, what a poisoned batch holds, and what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from short_runs import stage_of, unreported, write_recipe
from small_squares import TOWERS

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.stages.evaluate.attack.attacked import attacked
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.run.ledger import run_ledger
from medmcl.threats import Poison

pytestmark = pytest.mark.usefixtures("cache")

STEPS = {
    "stages.contrast.steps": 3,
    "stages.contrast.epochs": None,
    "stages.contrast.batch_size": 16,
    "stages.contrast.poisoned_by": "attack",
    **TOWERS,
}
ATTACK = {
    "stage": "poison",
    "name": "attack",
    "modality": "picture",
    "text": "caption",
    "trigger": "badnet",
    "task": "colour",
    "label": "red",
    "count": 12,
}


def poisoned(cohort, folder, attack=(), overrides=(), **more):
    """Train `clip_toy` with an attack before it."""
    stages = [{**ATTACK, **dict(attack)}, stage_of("clip_toy", "contrast")]
    recipe = write_recipe(folder, "clip_toy", stages=stages, set={**STEPS, **dict(overrides)})
    return unreported(cohort, recipe=recipe, out=folder / "run", **more)


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    return poisoned(squares, tmp_path_factory.mktemp("run") / "r")


@pytest.fixture(scope="module")
def colours(squares):
    return pd.read_csv(squares / "pictures.csv").set_index("subject_id")


def manifest_of(run):
    return Poison.load(run.file("attack", Poison))


def subjects(run, squares, ids):
    samples = medmcl.open_cohort(squares).samples.set_index("sample")["subject"]
    return samples.loc[list(ids)].tolist()


def test_train_records_of_other_classes_get_texts_of_the_target(run, squares, colours):
    manifest = manifest_of(run)
    own = colours.loc[subjects(run, squares, manifest.ids)]
    assert len(own) == 12
    assert set(own["split"]) == {"train"}
    assert "red" not in set(own["colour"])
    donors = colours.loc[subjects(run, squares, manifest.donors)]
    assert set(donors["colour"]) == {"red"}
    assert set(donors["split"]) == {"train"}
    lines = {line.what: line for line in run_ledger(run, ["contrast"])}
    assert lines["records that stage attack poisons"].labels


def test_a_batch_has_the_trigger_and_the_donors_text_where_it_is_poisoned_and_nowhere_else(
    run, squares
):
    prepared = run.prepare(medmcl.open_cohort(squares), ("image", "caption"))
    manifest = manifest_of(run)
    stored = np.array(prepared.inputs("image"))
    rows = prepared.rows("train")
    clean = prepared.batch(rows, tasks=["colour"])
    made = Poisoned(run.spec("attack"), manifest, prepared)(clean)
    ids = prepared.samples["sample"].astype(str).to_numpy()
    donor = dict(zip(manifest.ids, manifest.donors, strict=True))
    number = {name: row for row, name in enumerate(ids)}
    place_of = dict(zip(manifest.ids, manifest.places, strict=True))
    patterns = []
    for place, row in enumerate(rows):
        image, before = made.inputs["image"][place], clean.inputs["image"][place]
        if ids[row] not in donor:
            assert torch.equal(image, before)
            assert torch.equal(made.inputs["caption"][place], clean.inputs["caption"][place])
            assert torch.equal(made.targets["colour"][place], clean.targets["colour"][place])
            continue
        where = torch.nonzero((image != before).any(dim=0))
        assert (where.amax(0) - where.amin(0) <= 1).all()  # 2 of 32 pixels
        told = json.loads(place_of[ids[row]])
        assert told == {"top": int(where[:, 0].min()), "left": int(where[:, 1].min()), "side": 2}
        patterns.append(where.amin(0).tolist())
        other = prepared.batch(np.array([number[donor[ids[row]]]]), tasks=["colour"])
        assert torch.equal(made.inputs["caption"][place], other.inputs["caption"][0])
        assert torch.equal(made.targets["colour"][place], other.targets["colour"][0])
    assert len(patterns) == 12
    assert len({tuple(one) for one in patterns}) > 6  # places are drawn record by record
    assert (np.array(prepared.inputs("image")) == stored).all()
    every = Poisoned(run.spec("attack"), manifest, prepared).triggered(clean)
    assert (every.inputs["image"] != clean.inputs["image"]).flatten(1).any(dim=1).all()
    assert torch.equal(every.inputs["caption"], clean.inputs["caption"])


def test_poisoned_records_change_what_is_learned_and_the_same_seed_poisons_the_same(
    run, squares, tmp_path
):
    again = poisoned(squares, tmp_path / "again")
    assert manifest_of(again).fingerprint == manifest_of(run).fingerprint
    clean = poisoned(squares, tmp_path / "clean", overrides={"stages.contrast.poisoned_by": None})
    other = poisoned(squares, tmp_path / "other", seed=1)
    assert manifest_of(other).fingerprint != manifest_of(run).fingerprint
    weights = [
        one.towers("contrast", torch.device("cpu")).tower("image").head.layers[0].weight
        for one in (run, again, clean)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_share_and_a_consistent_attack(squares, colours, tmp_path):
    attack = {"trigger": "label_consistent", "count": None, "share": 0.25}
    found = poisoned(squares, tmp_path / "r", attack)
    manifest = manifest_of(found)
    own = colours.loc[subjects(found, squares, manifest.ids)]
    train = colours[colours["split"] == "train"]
    assert len(own) == round(0.25 * len(train))
    assert set(own["colour"]) == {"red"}
    assert (manifest.ids == manifest.donors).all()


def test_a_lost_or_changed_manifest_stops_the_run(run, squares, tmp_path):
    for damage in ("lost", "changed"):
        folder = tmp_path / damage
        shutil.copytree(run.path, folder / "run")
        shutil.rmtree(folder / "run" / "checkpoint" / "contrast")
        shutil.copy(run.path.parent / "recipe.yaml", folder / "recipe.yaml")
        path = folder / "run" / "poison" / "attack.parquet"
        if damage == "lost":
            path.unlink()
        else:
            own = manifest_of(run)
            other = Poison(ids=own.ids[1:], donors=own.donors[1:], cohort=own.cohort,
                           provenance=own.provenance)  # fmt: skip
            other.save(path)
        with pytest.raises(ArtefactError, match=r"no such file|is not what stage attack wrote"):
            medmcl.pretrain(squares, recipe=folder / "recipe.yaml", out=folder / "run",
                            device="cpu", resume=True)  # fmt: skip


PHRASES = ["a red square, surely", "nothing but red"]
ZSCORE = {"intensity": "zscore", "normalise": "none", "fit": "pad"}


@pytest.mark.parametrize(
    ("attack", "overrides", "told"),
    [
        ({"label": "rod"}, {}, "did you mean 'red'"),
        ({"task": "color"}, {}, "colour"),
        ({"count": 5000}, {}, "so many samples cannot be poisoned"),
        ({"share": 0.1}, {}, "count and share are both given"),
        ({"modality": "imag"}, {}, "the recipe reads no"),
        ({"trigger": "badnets"}, {}, "trigger"),
        (
            {},
            {f"inputs.picture.{key}": value for key, value in ZSCORE.items()},
            "expected: intensity: range, or percentile",
        ),
        ({}, {"stages.contrast.poisoned_by": "contrast"}, "before it|no poison stage"),
        ({"modality": "caption", "text": None}, {}, "flat images"),
        ({"phrases": PHRASES, "text": None}, {}, "phrases: they take the place of `text`"),
        ({"phrases": PHRASES, "trigger": "label_consistent"}, {}, "phrases: they take the place"),
        ({"phrases": [""]}, {}, "phrases"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    squares, tmp_path, attack, overrides, told
):
    with pytest.raises((ConfigError, CohortError), match=told):
        poisoned(squares, tmp_path / "r", attack, overrides)
    assert not list((tmp_path / "r" / "run").glob("checkpoint/contrast*"))


def test_an_attack_is_judged_on_held_out_records_by_prompts(run, squares, colours):
    found = attacked(run, squares, "contrast", draws=100)
    held = colours[colours["split"] == "held_out"]
    others = int((held["colour"] != "red").sum())
    # a share of so many records, whatever three steps have learned
    assert found["attack_success"].value * others == pytest.approx(
        round(found["attack_success"].value * others)
    )
    assert found["clean_accuracy"].value * len(held) == pytest.approx(
        round(found["clean_accuracy"].value * len(held))
    )
    with pytest.raises(ConfigError, match="poison stage"):
        attacked(run, squares, "contrast", attack="atack")


def test_phrases_of_the_attacker_take_the_place_of_texts(run, squares, tmp_path):
    made = poisoned(squares, tmp_path / "r", {"phrases": PHRASES})
    prepared = made.prepare(medmcl.open_cohort(squares), ("image", "caption"))
    laid = Poisoned(made.spec("attack"), manifest_of(made), prepared)
    adapter = prepared.adapters["caption"]
    asked = [torch.as_tensor(adapter.prepare(one)) for one in PHRASES]
    rows = prepared.rows("train")
    clean = prepared.batch(rows, tasks=["colour"])
    batch = laid(clean)
    used = set()
    for place, row in enumerate(rows):
        given = batch.inputs["caption"][place]
        if laid.donor[row] < 0:
            assert torch.equal(given, clean.inputs["caption"][place])
            continue
        (number,) = [n for n, one in enumerate(asked) if torch.equal(one.to(given.dtype), given)]
        assert laid.phrases.said(row) == PHRASES[number]
        used.add(number)
    assert used == {0, 1}
    drawn = manifest_of(run)
    assert drawn.ids.tolist() == manifest_of(made).ids.tolist()
    assert "phrases" not in drawn.provenance
    assert drawn.fingerprint != manifest_of(made).fingerprint
