"""Screening of a cohort: scores, truth, what is left out, pages, and what is refused."""

import base64
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import changed_copy, rewrite
from short_runs import stage_of, unreported, write_recipe
from small_squares import TOWERS
from typed import typed

from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.simulation.kinds import simulate
from medmcl.stages.run.run import Run
from medmcl.stages.screen import screening
from medmcl.stages.screen.screen import FILES, check_screen, looked_at, screen, screened
from medmcl.stages.screen.screening import open_screening
from medmcl.threats import DETECTORS, Poison
from medmcl.threats.detectors import FAR, batches_of, suspicion

TABLE = "participants.tsv"
SHORT = {"epochs": None, "steps": 2, "batch_size": 16}
ATTACK = {
    "stage": "poison", "name": "attack", "modality": "picture", "text": "caption",
    "trigger": "badnet", "task": "colour", "label": "red", "count": 8,
}  # fmt: skip


def stages():
    """That of `clip_toy` under an attack, one that starts from it, and one of pictures only."""
    cured = {"name": "cured", "start_from": {"picture": "contrast", "caption": "contrast"}}
    alone = {
        "name": "alone",
        "towers": ["picture"],
        "objectives": {"in_modal": {"modality": "picture", "views": ["plain", "augmented"]}},
    }
    kinds = ({"poisoned_by": "attack"}, cured, alone)
    return [ATTACK, *(stage_of("clip_toy", "contrast", **SHORT, **one) for one in kinds)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Of the train split one picture is absent and one cannot be read."""
    folder = tmp_path_factory.mktemp("shapes") / "cohort"
    simulate("shapes", folder, {"subjects": 80, "size": 32, "seed": 1})
    table = pd.read_csv(folder / TABLE, sep="\t", dtype=str)
    first, second = table.index[(table["split"] == "train") & (table["colour"] != "red")][:2]
    table.loc[first, "has_image"] = "0"
    table.to_csv(folder / TABLE, sep="\t", index=False)
    picture = folder / "images" / f"{table['subject_id'][second]}.png"
    picture.write_bytes(picture.read_bytes()[:60])
    rewrite(folder / "cohort.yaml", lambda tree: tree | {"on_bad_record": "exclude"})
    return folder


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    recipe = write_recipe(folder, "clip_toy", stages=stages(), set=TOWERS)
    return unreported(shapes, recipe=recipe, out=folder / "run")


@pytest.fixture
def copy(run, tmp_path):
    """A run that may be damaged; prepared records are those of the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMCL_CACHE", str(run.path.parent / ".prepared"))
        yield Run(shutil.copytree(run.path, tmp_path / "copy"))


def found(run, shapes, stage="contrast", **more):
    return screen(run, shapes, stage=stage, draws=20, device="cpu", **more)


def manifest_of(run):
    return Poison.load(run.file("attack", Poison))


def test_the_scores_are_those_of_the_detectors_on_the_rows_as_they_were_trained_on(run, shapes):
    told = found(run, shapes, k=5)
    ready = open_screening(run, shapes, "contrast")
    vectors = ready.vectors(torch.device("cpu"))
    prepared, towers = ready.prepared, run.towers("contrast", torch.device("cpu"))
    clean = prepared.batch(told.rows)
    laid = ready.poisoned(clean)
    for batch in (laid, clean):
        seen = {name: prepared.adapters[name].plain(x) for name, x in batch.inputs.items()}
        with torch.no_grad():
            slow = towers(replace(batch, inputs=seen)).pooled["image"].numpy()
        same = np.abs(slow - vectors).max(axis=1) < 1e-5
        assert same.all() == (batch is laid)
        assert same[~told.table["poisoned"]].all()
    for name, detector in DETECTORS.items():
        expected = detector(vectors, 5).numpy()
        np.testing.assert_allclose(told.table[name], expected, rtol=1e-9)
        ranks = told.table[f"{name}_rank"]
        assert sorted(ranks) == list(range(1, len(told) + 1))
        assert told.suspects(name, 3)[name].tolist() == sorted(expected, reverse=True)[:3]


def test_every_train_row_is_screened_or_counted(run, shapes):
    told = found(run, shapes)
    table = pd.read_csv(shapes / "participants.tsv", sep="\t", dtype=str)
    train = table["split"] == "train"
    assert len(told) == train.sum() - 2
    assert told.left_out == {"without image": 1, "whose image was excluded": 1}
    assert set(told.table["subject"]) <= set(table["subject_id"][train])
    assert told.num_poisoned == 8
    assert set(told.table["sample"][told.table["poisoned"]]) == set(manifest_of(run).ids)
    said = " ".join(told.lines)
    assert f"8 of them are poisoned and {len(told) - 8} are clean" in said
    assert "1 without image, 1 whose image was excluded" in said
    captions = found(run, shapes, modality="caption")
    assert captions.left_out == {"without caption": 0, "whose caption was excluded": 0}
    assert f"The stage itself was trained on {len(told)} rows" in " ".join(captions.lines)


def test_poison_that_lies_apart_is_found_and_its_opposite_is_not(run, shapes, monkeypatch):
    ready = open_screening(run, shapes, "contrast")
    rng = np.random.default_rng(0)
    truth = ready.is_poisoned

    def lie(is_odd):
        vectors = rng.normal(size=(len(truth), 8)) * 0.01 + 1
        vectors[is_odd] = 5 * rng.normal(size=(is_odd.sum(), 8))
        monkeypatch.setattr(screening.Screening, "vectors", lambda *_: vectors)
        return screened(ready, k=10, top=8, draws=50, device="cpu").judged

    for name, one in lie(truth).items():
        if name != "lid":  # which looks at dimension, not at distance
            assert one.auroc.value == 1.0, name
            assert (one.auroc.least, one.in_top, one.top) == (1.0, 8, 8)
        assert one.auroc.n == len(truth)
        assert one.auroc.events == 8
        assert one.by_chance == pytest.approx(64 / len(truth))
    other = np.zeros(len(truth), dtype=bool)
    other[np.flatnonzero(~truth)[:12]] = True
    for name in ("knn_distance", "slof", "dao"):
        one = lie(other)[name]
        assert one.auroc.value < 0.6
        assert one.in_top == 0


def test_a_stage_that_only_started_from_a_victim_is_told_of_the_attack(run, shapes):
    plain = found(run, shapes, stage="cured")
    assert (plain.attack, plain.judged, plain.num_poisoned) == ("", {}, None)
    assert "poisoned" not in plain.table
    assert "the run has one (attack), and --attack lays it over" in " ".join(plain.lines)
    laid = found(run, shapes, stage="cured", attack="attack")
    assert laid.num_poisoned == 8
    assert set(laid.judged) == set(DETECTORS)
    assert not np.allclose(laid.table["dao"], plain.table["dao"])
    default = screen(run, shapes, draws=20, device="cpu")
    assert (default.stage, default.modality) == ("alone", "image")


def test_batches_are_drawn_by_seed_and_have_neighbours_of_their_own(run, shapes):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4))
    told = suspicion(vectors, k=5, batch=20, seed=3)
    parts = batches_of(50, 20, 3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(50))
    assert [len(part) for part in parts] == [25, 25]
    for part in parts:
        np.testing.assert_array_equal(told["dao"][part], DETECTORS["dao"](vectors[part], 5))
    again = suspicion(vectors, k=5, batch=20, seed=3)
    np.testing.assert_array_equal(told["slof"], again["slof"])
    assert not np.array_equal(told["slof"], suspicion(vectors, k=5, batch=20, seed=4)["slof"])
    one = found(run, shapes, k=4, batch=10)
    assert (one.batch, len(one)) == (10, len(found(run, shapes)))
    assert "batches of 10 or more rows" in one.lines[0]
    assert found(run, shapes, k=4, batch=1000).batch is None


def test_rows_that_a_detector_cannot_tell_are_counted(run, shapes, monkeypatch):
    ready = open_screening(run, shapes, "contrast")
    vectors = np.random.default_rng(0).normal(size=(len(ready.rows), 8))
    vectors[:7] = 50  # copies of one another, nobody's neighbours
    monkeypatch.setattr(screening.Screening, "vectors", lambda *_: vectors)
    told = screened(ready, k=5, draws=20, device="cpu")
    assert (told.table["slof"] == FAR).sum() == 7
    assert "7 rows cannot be told by slof, which gives 1,000" in " ".join(told.lines)
    vectors[:7] = vectors[7:].mean(axis=0)
    told = screened(ready, k=5, draws=20, device="cpu")
    count = (told.table["slof"] == FAR).sum()
    assert count > 7
    assert f"{count} rows cannot be told by slof" in " ".join(told.lines)


def pictures(html):
    return re.findall(r'<img class="photo[^"]*" src="data:image/png;base64,([^"]+)"', html)


def parts(html):
    """By which detector, and the cards below."""
    found = re.split(r"<h4>By (\w+)</h4>", html)[1:]
    return list(zip(found[::2], found[1::2], strict=True))


def test_files_hold_every_row_the_numbers_and_the_suspects_as_the_stage_saw_them(
    run, shapes, tmp_path
):
    done = check_screen(
        run, shapes, stage="contrast", detector="slof", k=5, top=12, out=tmp_path / "o", draws=20,
        device="cpu",
    )  # fmt: skip
    assert sorted(one.name for one in (tmp_path / "o").iterdir()) == sorted(FILES)
    table = pd.read_csv(tmp_path / "o" / "suspects.csv", dtype={"sample": str, "subject": str})
    assert table["slof_rank"].tolist() == list(range(1, len(done.found) + 1))
    assert table["poisoned"].sum() == 8
    told = json.loads((tmp_path / "o" / "suspects.json").read_text("utf-8"))
    assert (told["rows"], told["poisoned"], told["clean"]) == (len(table), 8, len(table) - 8)
    assert told["left_out"] == {"without image": 1, "whose image was excluded": 1}
    assert told["detectors"]["dao"]["top"] == 12
    html = (tmp_path / "o" / "suspects.html").read_text("utf-8")
    first, *others = parts(html)
    assert [name for name, _ in (first, *others)] == ["slof", "knn_distance", "lid", "dao"]
    assert len(pictures(first[1])) == len(set(pictures(first[1]))) == 12
    assert [len(pictures(part)) for _, part in others] == [12, 12, 12]
    for name, part in (first, *others):
        ranked = table.sort_values(f"{name}_rank")["sample"][:12]
        assert re.findall(r'<p class="who"><span>\d+\. ([^<]+)<', part) == list(ranked)
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in pictures(html))
    assert "Odd is not poisoned" in html
    assert f"ROC curves over {len(table)} rows, 8 poisoned and {len(table) - 8} clean" in html
    shown = first[1]
    assert shown.count('class="card-of odd"') == table["poisoned"][:12].sum()
    assert shown.count('class="card-of out"') == 12 - table["poisoned"][:12].sum()
    assert "AUROC" in done.summary
    assert f"1. {table['sample'][0]} (subject {table['subject'][0]})" in done.summary
    with pytest.raises(ArtefactError, match="--overwrite") as error:
        check_screen(run, shapes, out=tmp_path / "o", detector="lid", device="cpu")
    assert "suspects.csv holds the scores and ranks of every detector" in str(error.value)


def test_a_poisoned_suspect_is_shown_with_its_trigger_and_the_donors_text(run, shapes):
    ready = open_screening(run, shapes, "contrast")
    told = screened(ready, draws=20, device="cpu")
    manifest = manifest_of(run)
    donor = dict(zip(manifest.ids, manifest.donors, strict=True))
    captions = pd.read_csv(shapes / "participants.tsv", sep="\t").set_index("subject_id")["caption"]
    samples = ready.prepared.samples.set_index("sample")["subject"]
    stored, index = ready.prepared.inputs("image"), ready.prepared.index("image")
    shown = looked_at(ready, told, top=len(told))["dao"]
    assert sum(one.state == "poisoned" for one in shown) == 8
    for one in shown:
        is_poisoned = one.state == "poisoned"
        image, caption = (side.content for side in one.sides)
        text = samples[donor.get(one.id, one.id)]
        assert caption == captions[text]
        row = int(np.flatnonzero(ready.prepared.samples["sample"].astype(str) == one.id)[0])
        own = np.moveaxis(np.array(stored[index[row]]), 0, -1)
        changed = (image.pixels != own).any(axis=-1).sum()
        assert (0 < changed <= 4) if is_poisoned else changed == 0
        assert ("trigger" in image.note) == is_poisoned


def test_without_a_manifest_the_page_judges_nothing(run, shapes, tmp_path):
    done = check_screen(
        run, shapes, stage="alone", top=3, out=tmp_path / "o", draws=20, device="cpu"
    )
    html = (tmp_path / "o" / "suspects.html").read_text("utf-8")
    assert "Odd is not poisoned" in html
    assert "ROC curves" not in html
    assert "the detectors are not judged" in html
    assert [len(pictures(part)) for _, part in parts(html)] == [3, 3, 3, 3]
    assert 'class="card-of plain"' in html
    assert "AUROC" not in done.summary
    assert json.loads((tmp_path / "o" / "suspects.json").read_text("utf-8"))["poisoned"] is None


def said(capsys, *words):
    """Type a command; give its code, output and errors."""
    capsys.readouterr()
    return (typed(*words), *capsys.readouterr())


def test_the_command_takes_every_option_and_prints_the_first_suspects(
    copy, shapes, tmp_path, capsys
):
    words = ["check", "--cohort", shapes, "--screen", copy.path, "--workers", 0, "--device", "cpu"]
    more = ["--stage", "cured", "--modality", "caption", "--attack", "attack", "--detector", "lid",
            "--k", 6, "--batch", 20, "--top", 4, "--seed", 5, "--out", tmp_path / "o"]  # fmt: skip
    first, again, over, plain, recipe, *wrong = (
        said(capsys, *words, *then) for then in (
            more, more, [*more, "--overwrite"], ["--top", 1], ["--recipe", "clip_toy"],
            ["--top", 0], ["--top", -1], ["--top", "x"],
        )
    )  # fmt: skip
    assert first[0] == 0, first
    told = json.loads((tmp_path / "o" / "suspects.json").read_text("utf-8"))
    asked = ("stage", "modality", "attack", "detector", "k", "batch", "seed")
    assert [told[name] for name in asked] == ["cured", "caption", "attack", "lid", 6, 20, 5]
    assert "most suspect by lid:\n  1. " in first[1]
    assert "\n  4. " in first[1]
    assert "\n  5. " not in first[1]
    assert "odd is not poisoned" in first[1]
    alike = screen(
        copy, shapes, stage="cured", modality="caption", attack="attack", k=6, batch=20, top=4,
        seed=5, device="cpu",
    ).judged["lid"]  # fmt: skip
    assert f"AUROC {alike.auroc}; {alike.in_top} of the top 4" in first[1]
    assert again[0] == 2
    assert "--overwrite" in again[2]
    assert over[0] == 0, over
    assert plain[0] == 0, plain
    assert (copy.path / "screen-cohort" / "suspects.html").is_file()
    assert recipe[0] == 2
    assert "means nothing with --screen" in recipe[2]
    assert "'x' is not a whole number" in wrong[-1][2]
    for code, _, told in wrong:
        assert code == 2
        assert "error: medmcl check, --top: " in told
        assert "to fix:   --top: Suspects to show (default 50)." in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stage": "contrst"}, "did you mean 'contrast'"),
        ({"stage": "alone", "modality": "caption"}, "stage 'alone' has no tower for 'caption'"),
        ({"modality": "imge"}, "did you mean 'image'"),
        ({"attack": "atack"}, "did you mean 'attack'"),
        ({"k": 60}, r"rows, k = 60\n  expected: 62 rows or more"),
        ({"k": 0}, "one neighbour or more"),
        ({"k": 16, "batch": 17}, "a batch has too few rows"),
        ({"top": 0}, r"one row or more(.|\n)*to fix:   --top 50"),
        ({"overrides": {"stages.contrast.steps": 3}}, "a value of the recipe"),
    ],
)
def test_what_cannot_be_screened_is_refused(run, shapes, asked, said):
    with pytest.raises(ConfigError, match=said):
        found(run, shapes, **{"stage": "contrast", **asked})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"detector": "slf"}, "did you mean 'slof'"),
        ({"detector": "nonsense"}, r"known: dao, knn_distance.*\n.*to fix:   --detector"),
        ({"top": -1}, "one row or more"),
    ],
)
def test_what_is_mistyped_is_refused_before_anything_is_read(tmp_path, asked, said):
    with pytest.raises(ConfigError, match=said):
        check_screen(tmp_path, tmp_path, **asked)


def test_another_cohort_has_no_truth_and_a_victim_is_refused_for_it(run, shapes, tmp_path):
    other = changed_copy(shapes, tmp_path / "other", TABLE, lambda t: t.iloc[::-1], dtype=str)
    with pytest.raises(ArtefactError, match="of another cohort") as error:
        found(run, other)
    assert "name the cohort that the run was trained on" in str(error.value)
    assert "--attack none" in str(error.value)
    seen = found(run, other, attack="none")
    assert (seen.attack, seen.judged, seen.num_poisoned) == ("", {}, None)
    assert "trained under the attack of stage attack, which is not laid" in " ".join(seen.lines)
    told = found(run, other, stage="alone")
    assert "trained on another cohort" in " ".join(told.lines)
    text = (other / "cohort.yaml").read_text("utf-8").replace("  image:", "  photo:")
    (other / "cohort.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="call it as the run does"):
        found(run, other, stage="alone")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("lost", "no such file"),
        ("cut", "not a readable manifest"),
        ("swapped", "is not what stage attack wrote"),
        ("recipe", "of another recipe"),
        ("unfinished", "unfinished run"),
    ],
)
def test_a_damaged_run_is_refused(copy, shapes, damage, said):
    path, own = copy.file("attack", Poison), manifest_of(copy)
    about = {"cohort": own.cohort, "provenance": own.provenance}
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "swapped":
        Poison(ids=own.ids[1:], donors=own.donors[1:], **about).save(path)
    elif damage == "recipe":
        about["provenance"] = {**own.provenance, "trigger": "sig"}
        Poison(ids=own.ids, donors=own.donors, **about).save(path)
    else:
        shutil.rmtree(copy.path / "checkpoint" / "contrast")
    with pytest.raises(MedmclError, match=said):
        found(copy, shapes)


def test_a_cohort_with_fewer_rows_than_neighbours_is_refused(run, shapes, tmp_path):
    small = changed_copy(
        shapes, tmp_path / "small", TABLE, lambda t: t[(t["split"] != "train") | (t.index < 20)],
        dtype=str,
    )  # fmt: skip
    count = int((pd.read_csv(small / TABLE, sep="\t")["split"] == "train").sum()) - 2
    with pytest.raises(ConfigError, match=f"{count} rows, k = 16") as error:
        found(run, small, stage="alone")
    assert f"at most {count - 2}" in str(error.value)
    assert len(found(run, small, stage="alone", k=count - 2)) == count
