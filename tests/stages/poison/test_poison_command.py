"""The command that draws an attack, and a stage that takes its manifest."""

import base64
import hashlib
import json
import re
import shutil
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import changed_copy
from PIL import Image
from short_runs import stage_of, unreported, write_recipe
from small_squares import TOWERS, write_squares
from typed import typed

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.overrides import parse_overrides
from medmcl.core.shown import ShownSignal
from medmcl.evaluation.aspects.attack.page import FOR_DEFENCE
from medmcl.selection.keep import Keep
from medmcl.stages.poison.command import poison
from medmcl.stages.poison.given import load_attack
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.recipe.on_cohort import faults_with
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.screen.screening import open_screening
from medmcl.threats import Poison
from medmcl.threats.other_triggers import RARE

pytestmark = pytest.mark.usefixtures("cache")

ATTACK = {
    "stage": "poison", "name": "attack", "modality": "picture", "text": "caption",
    "trigger": "badnet", "task": "colour", "label": "red", "count": 12,
}  # fmt: skip
SHORT = {"steps": 3, "epochs": None, "batch_size": 16}


def taking(path):
    """Overrides by which the attack takes a manifest."""
    return {"stages.attack.manifest": str(path), "stages.attack.count": None}


def recipe(folder, *attacks, **more):
    """Write a recipe of attacks and a stage that is poisoned by the first."""
    train = stage_of("clip_toy", "contrast", **SHORT, poisoned_by="attack", **more)
    return write_recipe(folder, "clip_toy", stages=[*attacks, train], set=TOWERS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a cohort and a recipe; what is prepared lies there, too."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("poison")
    write_squares(folder / "cohort")
    recipe(folder, ATTACK)
    return folder


@pytest.fixture(scope="module")
def drawn(place):
    return draw(place, place / "drawn", seed=3, shown=24)


def draw(place, out, cohort=None, recipe=None, **more):
    """Draw as the command does, from the cohort and the recipe of a place if no other is named."""
    recipe = recipe or place / "recipe.yaml"
    return poison(cohort or place / "cohort", recipe=recipe, out=out, **more)


def train(place, out, overrides=(), **more):
    recipe = place / "recipe.yaml"
    return unreported(place / "cohort", recipe=recipe, out=out, seed=3, overrides=overrides, **more)


@pytest.fixture(scope="module")
def run(place):
    return train(place, place / "run")


@pytest.fixture(scope="module")
def given(place, drawn):
    """A run that takes the manifest, which is gone by the time it is done."""
    file = shutil.copy(drawn.path, place / "given.parquet")
    out = train(place, place / "taken", taking(file))
    file.unlink()
    return out


def weights(run):
    towers = run.towers("contrast", torch.device("cpu"))
    return {name: one.clone() for name, one in towers.state_dict().items()}


def states(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_manifest_is_that_of_a_run_with_the_same_seed(place, drawn, run):
    own = Poison.load(run.file("attack", Poison))
    found = Poison.load(drawn.path)
    assert found.fingerprint == own.fingerprint
    assert found.ids.tolist() == own.ids.tolist()
    assert sorted(path.name for path in drawn.folder.iterdir()) == [
        "attack.parquet", "poison.html", "poison.json",
    ]  # fmt: skip
    other = draw(place, place / "other", seed=4)
    assert set(other.manifest.ids) != set(found.ids)


def test_the_numbers_are_those_of_the_tables(place, drawn):
    table = pd.read_csv(place / "cohort" / "pictures.csv")
    train = table[table["split"] == "train"]
    told = json.loads((drawn.folder / "poison.json").read_text("utf-8"))
    assert (told["poisoned"], told["pool"], told["seed"]) == (12, len(train), 3)
    assert (told["task"], told["label"], told["trigger"]) == ("colour", "red", "badnet")
    assert told["cohort fingerprint"] == medmcl.open_cohort(place / "cohort").fingerprint
    assert told["manifest"] == drawn.manifest.fingerprint
    pool = {name: one["pool"] for name, one in told["classes"].items()}
    assert pool == train["colour"].value_counts().to_dict()
    assert told["classes"]["red"]["poisoned"] == 0
    assert sum(one["poisoned"] for one in told["classes"].values()) == 12
    assert f"12 of {len(train)} train records poisoned" in drawn.summary
    assert str(drawn.path) in drawn.summary


def photos(html):
    found = re.findall(r'<img class="photo[^"]*" src="data:image/png;base64,([^"]+)"', html)
    return [np.array(Image.open(BytesIO(base64.b64decode(one)))) for one in found]


def test_the_page_shows_each_record_with_and_without_trigger_and_both_texts(place):
    done = draw(place, place / "paged", seed=3, shown=5)
    html = (done.folder / "poison.html").read_text("utf-8")
    pictures = photos(html)
    assert len(pictures) == 10
    for clean, triggered in zip(pictures[::2], pictures[1::2], strict=True):
        assert clean.shape == triggered.shape
        assert (clean != triggered).any()
    assert html.count(FOR_DEFENCE) == 1
    table = pd.read_csv(place / "cohort" / "pictures.csv").set_index("subject_id")
    samples = medmcl.open_cohort(place / "cohort").samples.set_index("sample")["subject"]
    cards = html.split('<article class="card-of')[1:]
    assert len(cards) == 5
    for card, record in zip(cards, done.evidence.records, strict=True):
        own, donor = (samples[name] for name in (record.id, donor_of(done.manifest, record.id)))
        first, second = (card.index(table["caption"][name]) for name in (own, donor))
        assert first < second
        assert f"{table['colour'][own]} → red" in card
        clean, triggered = (side.content.pixels for side in record.sides[:2])
        assert 0 < (clean != triggered).any(axis=-1).sum() <= 4
    none = draw(place, place / "none", seed=3, shown=0)
    assert not photos((none.folder / "poison.html").read_text("utf-8"))


def donor_of(manifest, sample):
    return manifest.donors[manifest.ids.tolist().index(sample)]


def test_nothing_of_the_data_is_written_and_nothing_written_over(place):
    before = states(place / "cohort")
    out = place / "once"
    first = draw(place, out)
    assert states(place / "cohort") == before
    written = states(out)
    for lost in ("poison.json", "attack.parquet"):
        (out / lost).rename(place / lost)
        with pytest.raises(ArtefactError, match="--overwrite"):
            draw(place, out, seed=1)
        (place / lost).rename(out / lost)
    assert states(out) == written
    again = draw(place, out, seed=1, overwrite=True)
    assert again.manifest.fingerprint != first.manifest.fingerprint
    assert Poison.load(again.path).fingerprint == again.manifest.fingerprint


def test_a_run_that_takes_the_manifest_is_the_run_that_drew_it(run, given, place, drawn):
    for name, one in weights(run).items():
        assert torch.equal(one, weights(given)[name]), name
    own = Poison.load(given.file("attack", Poison))
    assert own.fingerprint == drawn.manifest.fingerprint
    done = given.facts("attack")
    assert done["fingerprint"] == drawn.manifest.fingerprint
    assert (done["poisoned"], done["rows"]) == (12, run.facts("attack")["rows"])
    assert any("stage attack poisons" in line.what for line in run_ledger(given, ["contrast"]))
    cohort = medmcl.open_cohort(place / "cohort")
    assert load_attack(given, given.spec("attack"), cohort).fingerprint == own.fingerprint
    ready = open_screening(given, cohort, "contrast")
    assert ready.is_poisoned.sum() == 12


def test_the_seed_of_the_patterns_is_that_of_the_manifest(place, drawn, given):
    """Another run's seed, and a part of the manifest: its records get the same pixels."""
    own = drawn.manifest
    part = place / "part.parquet"
    changed(own, ids=own.ids[4:7], donors=own.donors[4:7]).save(part)
    done = draw(place, place / "part", seed=99, shown=24, overrides=taking(part))
    assert [one.id for one in done.evidence.records] == own.ids[4:7].tolist()
    assert Poison.load(done.path).fingerprint == Poison.load(part).fingerprint
    before = {one.id: one for one in drawn.evidence.records}
    for one in done.evidence.records:
        pixels = one.sides[1].content.pixels
        assert (pixels == before[one.id].sides[1].content.pixels).all()
    prepared = given.prepare(medmcl.open_cohort(place / "cohort"), ("image", "caption"))
    laid = Poisoned(given.spec("attack"), Poison.load(part), prepared)
    assert (laid.donor >= 0).sum() == 3


def test_a_run_is_whole_by_itself_and_another_file_in_the_place_is_refused(given, place, drawn):
    file = place / "given.parquet"
    asked = taking(file)
    before = weights(given)
    shutil.rmtree(given.path / "checkpoint" / "contrast")
    after = weights(train(place, given.path, asked, resume=True))
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    own = drawn.manifest
    changed(own, ids=own.ids[1:], donors=own.donors[1:]).save(file)
    with pytest.raises(ArtefactError, match="is not the manifest that stage attack took"):
        train(place, given.path, asked, resume=True)
    file.unlink()


def changed(own, **more):
    kinds = {"ids": own.ids, "donors": own.donors, "cohort": own.cohort}
    about = {key: more.pop(key) for key in kinds if key in more}
    return Poison(**{**kinds, **about}, provenance={**own.provenance, **more})


def split_of(place, split):
    table = pd.read_csv(place / "cohort" / "pictures.csv")
    return table["subject_id"][table["split"] == split]


def held_out(place):
    samples = medmcl.open_cohort(place / "cohort").samples
    return samples["sample"][samples["subject"].isin(split_of(place, "held_out"))].iloc[0]


def swapped(names, at, name):
    names = names.copy().astype(object)
    names[at] = name
    return names.astype(str)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("lost", "there is no such file"),
        ("cut", r"not a readable manifest(.|\n)*give a file that `medmcl poison` wrote"),
        ("a text", "not a readable manifest"),
        (
            "pandas",
            r"attack, manifest: [^:]*m\.parquet: is not a readable [^:]*: it lacks what medmcl "
            "writes beside the rows\n  to fix:   cut such a file with pyarrow[^\n]*$",
        ),
        ({"cohort": "0123"}, "of another cohort(.|\n)*fingerprint 0123"),
        ({"trigger": "sig"}, r"another attack than the stage: trigger\n.*sig(.|\n)*badnet"),
        ({"modality": "scan", "label": "blue"}, "stage: modality, label\n"),
        ({"task": "place"}, "stage: task\n"),
        ({"official": True}, "--set stages.attack.official=true"),
        ({"height_mv": 0.5}, "stage: height_mv"),
        ({"text": None}, "--set stages.attack.text=null"),
        ({"seed": None}, "no seed to lay patterns"),
        ({"seed": "3"}, "no seed to lay patterns"),
        ("stranger", r"poisoned samples that are no train samples.*\n.*1 of 12: nobody"),
        ("held out", "poisoned samples that are no train samples"),
        ("donor", "donors samples that are no train samples"),
        ("other donor", "donors that do not show colour = red"),
        ("nobody", "poisons no record"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(place, drawn, tmp_path, change, told):
    own, file = drawn.manifest, tmp_path / "m.parquet"
    made = {
        "stranger": lambda: changed(own, ids=swapped(own.ids, 2, "nobody")),
        "held out": lambda: changed(own, ids=swapped(own.ids, 2, held_out(place))),
        "donor": lambda: changed(own, donors=swapped(own.donors, 2, held_out(place))),
        "other donor": lambda: changed(own, donors=swapped(own.donors, 2, own.ids[0])),
        "nobody": lambda: changed(own, ids=own.ids[:0], donors=own.donors[:0]),
    }
    if isinstance(change, dict):
        changed(own, **change).save(file)
    elif change in made:
        made[change]().save(file)
    elif change == "cut":
        file.write_bytes(drawn.path.read_bytes()[:-20])
    elif change == "a text":
        file.write_text("sample,donor\n")
    elif change == "pandas":
        pd.read_parquet(drawn.path).to_parquet(file)
    with pytest.raises(ArtefactError, match=told) as error:
        train(place, tmp_path / "run", taking(file))
    assert f"stage attack, manifest: {file}" in str(error.value)
    assert not (tmp_path / "run").exists()


def without(place, folder, drawn, rows, column):
    """A cohort where some of whom an attack poisons lack a cell, and the manifest for it."""
    subject = medmcl.open_cohort(place / "cohort").samples.set_index("sample")["subject"]
    lost = subject[drawn.manifest.ids[rows]]
    copy = changed_copy(
        place / "cohort", folder / "cohort", "pictures.csv",
        lambda table: table.assign(**{column: table[column].mask(table["subject_id"].isin(lost))}),
    )  # fmt: skip
    file = folder / "m.parquet"
    changed(drawn.manifest, cohort=medmcl.open_cohort(copy).fingerprint).save(file)
    return copy, file


def test_poisoned_records_of_unknown_class_are_counted_too(place, drawn, tmp_path):
    """A manifest that is given may poison who shows nothing that is known."""
    folder, file = without(place, tmp_path, drawn, [1, 4], "colour")
    done = draw(place, tmp_path / "out", cohort=folder, shown=0, overrides=taking(file))
    told = json.loads((done.folder / "poison.json").read_text("utf-8"))
    assert told["classes"]["unknown"] == {"pool": 0, "poisoned": 2}
    assert sum(one["poisoned"] for one in told["classes"].values()) == told["poisoned"] == 12
    assert "unknown: 2 of 0" in done.summary
    assert "unknown" not in drawn.evidence.classes


def test_records_without_a_modality_of_the_stage_are_refused(place, drawn, tmp_path):
    """Who lacks a caption could be poisoned by an attack that exchanges nothing."""
    folder, file = without(place, tmp_path, drawn, [1], "caption")
    lost = drawn.manifest.ids[1]
    told = f"poisoned samples without a usable record of caption\n.*1 of 12: {lost}"
    with pytest.raises(ArtefactError, match=told):
        draw(place, tmp_path / "o", cohort=folder, overrides=taking(file))
    assert not (tmp_path / "o").exists()


def test_check_finds_a_manifest_that_cannot_be_used(place, drawn, tmp_path):
    cohort = medmcl.open_cohort(place / "cohort")
    for path, told in ((drawn.path, 0), (tmp_path / "nothing.parquet", 1)):
        spec = drawn.spec.model_copy(update={"manifest": str(path), "count": None})
        assert len(faults_with(cohort, [spec])) == told
        assert not faults_with(cohort, [spec], files=False)


@pytest.mark.parametrize("key", ["count", "share"])
def test_a_manifest_and_a_number_are_refused(place, drawn, tmp_path, key):
    asked = {**taking(drawn.path), f"stages.attack.{key}": 1}
    with pytest.raises(ConfigError, match=f"so {key} must not be given"):
        train(place, tmp_path / "run", asked)


def test_one_of_several_attacks_is_named_and_one_there_must_be(place, tmp_path):
    two = recipe(tmp_path, ATTACK, {**ATTACK, "name": "second", "trigger": "sig"})
    with pytest.raises(ConfigError, match=r"which attack(.|\n)*attack, second"):
        draw(place, place / "second", recipe=two)
    with pytest.raises(ConfigError, match="did you mean 'second'"):
        draw(place, place / "second", recipe=two, stage="secnd")
    with pytest.raises(ConfigError, match="no poison stage"):
        draw(place, place / "second", recipe="clip_toy")
    assert not (place / "second").exists()
    done = draw(place, place / "second", recipe=two, stage="second")
    assert done.path.name == "second.parquet"
    assert done.spec.trigger == "sig"


def test_a_task_that_is_not_there_is_named_with_what_to_set(place):
    with pytest.raises(ConfigError, match=r"no task 'color'; did you mean 'colour'") as error:
        draw(place, place / "x", overrides={"stages.attack.task": "color"})
    assert "--set stages.attack.task=" in str(error.value)


def test_what_cannot_be_drawn_is_refused_with_what_can_be_set(place, tmp_path):
    def refused(**changes):
        asked = {f"stages.attack.{key}": value for key, value in changes.items()}
        with pytest.raises(ConfigError) as error:
            draw(place, tmp_path / "x", overrides=asked)
        assert not (tmp_path / "x").exists()
        return str(error.value.fix)

    most = refused(count=5000)
    number = int(most.removeprefix("--set stages.attack.count="))
    done = draw(place, tmp_path / "most", overrides={"stages.attack.count": number}, shown=0)
    assert len(done.manifest) == number
    assert refused(share=1e-5) == "--set stages.attack.count=1"
    folder = changed_copy(
        place / "cohort", tmp_path / "cohort", "pictures.csv", lambda t: t.replace("red", "blue")
    )
    with pytest.raises(ConfigError, match="no train record shows colour = red") as error:
        draw(
            place,
            tmp_path / "x",
            cohort=folder,
            overrides={"cohort.tasks.colour.classes": ["red", "green", "blue"]},
        )
    assert "--set stages.attack.label=CLASS" in str(error.value)
    assert "blue" in str(error.value.expected)


def test_images_prepared_by_percentiles_are_poisoned_as_well(place, tmp_path):
    done = draw(
        place, tmp_path / "o", shown=0, overrides={"inputs.picture.intensity": "percentile"}
    )
    assert len(done.manifest) == 12


def test_what_is_typed_is_what_a_run_takes(place, drawn, tmp_path, capsys):
    words = [
        "--cohort", place / "cohort", "--recipe", place / "recipe.yaml", "--seed", 3,
        "--shown", 2, "--stage", "attack", "--out", tmp_path / "o", "--workers", 0,
    ]  # fmt: skip
    assert typed("poison", *words) == 0
    told = capsys.readouterr().out
    file = tmp_path / "o" / "attack.parquet"
    assert f"manifest: {file}\n" in told
    assert "12 of 72 train records poisoned" in told
    assert Poison.load(file).fingerprint == drawn.manifest.fingerprint
    sets = [f"stages.attack.manifest={file}"]
    run = train(place, tmp_path / "run", parse_overrides(sets))
    assert Poison.load(run.file("attack", Poison)).fingerprint == drawn.manifest.fingerprint


def test_a_stage_that_took_a_manifest_is_taken_over_unless_the_file_is_another(
    place, drawn, tmp_path
):
    file = shutil.copy(drawn.path, tmp_path / "m.parquet")
    asked = taking(file)
    first = train(place, tmp_path / "first", asked)
    second = train(place, tmp_path / "second", asked, reuse=first)
    parents = json.loads((second.path / "provenance.json").read_text("utf-8"))["parents"]
    assert parents[0]["stages"] == ["attack", "contrast"]
    own = Poison.load(second.file("attack", Poison))
    assert own.fingerprint == drawn.manifest.fingerprint
    changed(own, ids=own.ids[1:], donors=own.donors[1:]).save(file)
    with pytest.raises(ArtefactError, match="is not the manifest that stage attack took"):
        train(place, tmp_path / "third", asked, reuse=first)


def test_a_victim_is_reused_with_its_own_manifest_wherever_that_lies(place, run, tmp_path):
    own = run.file("attack", Poison)
    shutil.copyfile(own, tmp_path / "elsewhere.parquet")
    for n, path in enumerate((own, tmp_path / "elsewhere.parquet")):
        again = train(place, tmp_path / f"{n}", taking(path),
                      reuse=run)  # fmt: skip
        parents = json.loads((again.path / "provenance.json").read_text("utf-8"))["parents"]
        assert parents[0]["stages"] == ["attack", "contrast"]
    other = Poison.load(own)
    changed(other, ids=other.ids[1:], donors=other.donors[1:]).save(tmp_path / "less.parquet")
    with pytest.raises(ConfigError, match=r"stages.attack.manifest"):
        train(place, tmp_path / "no", taking(tmp_path / "less.parquet"), reuse=run)


def test_a_keep_file_may_leave_poisoned_records_out_and_the_run_says_so(place, drawn, tmp_path):
    """As whoever screens a cohort, leaves the suspects out and trains anew under the attack."""
    cohort = medmcl.open_cohort(place / "cohort")
    is_train = cohort.samples["subject"].isin(split_of(place, "train")).to_numpy()
    ids = cohort.samples["sample"].astype(str).to_numpy()[is_train]
    kept = ~np.isin(ids, drawn.manifest.ids[:5])
    keep = Keep(ids=ids, kept=kept, rule="screened", cohort=cohort.fingerprint)
    keep.save(tmp_path / "k.parquet")
    run = train(place, tmp_path / "run", taking(drawn.path), keep=tmp_path / "k.parquet")
    told = run.facts("attack")
    assert (told["poisoned"], told["rows"]) == (12, 67)
    assert "7 of 67 train records poisoned" in told["sentence"]
    assert "; 5 are not among the records drawn from" in told["sentence"]
    assert run.facts("contrast")["poisoned"] == 7
    shown = draw(
        place,
        tmp_path / "s",
        shown=0,
        keep=tmp_path / "k.parquet",
        overrides={"stages.attack.manifest": str(drawn.path)},
    )
    assert shown.evidence.lines[0].startswith("7 of 67 train records poisoned")
    numbers = json.loads((tmp_path / "s" / "poison.json").read_text())
    assert keep.fingerprint in numbers["kept by"]
    assert run.facts("contrast")["rows"] == 67
    again = draw(place, tmp_path / "kept", shown=0, keep=tmp_path / "k.parquet")
    assert len(again.pool) == 67
    assert not np.isin(drawn.manifest.ids[:5], again.manifest.ids).any()
    Keep(ids=ids, kept=kept, rule="screened", cohort="another").save(tmp_path / "o.parquet")
    with pytest.raises(ArtefactError, match="another cohort"):
        draw(place, tmp_path / "no", keep=tmp_path / "o.parquet")
    assert not (tmp_path / "no").exists()


def test_a_consistent_attack_keeps_its_texts(place):
    done = draw(
        place, place / "kept", shown=24, overrides={"stages.attack.trigger": "label_consistent"}
    )
    assert all(len(one.sides) == 3 for one in done.evidence.records)
    assert {one.state for one in done.evidence.records} == {"red"}


@pytest.mark.parametrize(
    "attack",
    [
        {"modality": "ecg", "text": "report", "trigger": "pulse"},
        {"modality": "report", "text": "ecg", "trigger": "rare_token"},
    ],
)
def test_ecgs_are_shown_in_mv_and_texts_in_words(hearts, tmp_path, attack):
    one = {"stage": "poison", "name": "attack", "task": "infarct", "label": "infarct", "count": 2}
    inputs = {"report.tokeniser": "bpe", "ecg.seconds": 5, "ecg.crop_seconds": 2}
    path = write_recipe(
        tmp_path, "ecg_text_toy", stages=[{**one, **attack}, stage_of("ecg_text_toy", "contrast")],
        set={f"inputs.{key}": value for key, value in inputs.items()},
    )  # fmt: skip
    done = poison(hearts, recipe=path, out=tmp_path / "o", shown=24)
    html = (tmp_path / "o" / "poison.html").read_text("utf-8")
    assert html.count('<img class="trace"') == 4
    for record in done.evidence.records:
        clean, triggered = (side.content for side in record.sides[:2])
        if attack["modality"] == "ecg":
            assert isinstance(triggered, ShownSignal)
            assert "with the trigger" in triggered.note
            added = triggered.values_mv - clean.values_mv
            assert 0.4 < np.nanmax(added) <= 0.5 + 1e-6
        else:
            assert triggered.split().count(RARE) == 1
            assert " ".join(word for word in triggered.split() if word != RARE) == clean
