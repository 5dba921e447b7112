"""``choices:`` of a cohort: which samples are a pair, and what is wrong with some."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from small_squares import pair_squares, write_squares

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.prepare import build_adapters, prepare
from medmcl.data.loading.shards import write_shards


@pytest.fixture
def squares(tmp_path):
    return pair_squares(write_squares(tmp_path / "squares", people=72, side=16))


def change(folder, edit):
    """Edit the table, as a text of each cell."""
    table = pd.read_csv(folder / "pictures.csv", dtype=object)
    edit(table)
    table.to_csv(folder / "pictures.csv", index=False)


def said(folder):
    """Code, level and words of what check finds of pairs."""
    found = [one for one in check_cohort(folder) if "choices" in one.where]
    return [(one.code, one.level, one.what) for one in found]


def test_pairs_are_read_for_every_sample(squares):
    cohort = open_cohort(squares)
    assert said(squares) == []
    choice = cohort.choices["squares"]
    held = (cohort.samples["split"] == "held_out").to_numpy()
    assert [one is not None for one in choice.pair] == held.tolist()
    mates = ("0", "1", "1", "0", "2", "2")
    assert choice.pair[held].tolist() == [f"{block}-{m}" for block in (5, 11) for m in mates]
    differ = ["place" if m == "0" else "colour" for m in mates]
    assert choice.attribute[held].tolist() == differ * 2
    assert (choice.sizes == 2).all()


def test_an_expression_may_pair_too(squares):
    change(squares, lambda table: table.insert(0, "n", range(len(table))))
    where = {
        "subjects.where": "split == 'held_out'",
        "choices": {"x": {"pair": "n // 2"}},
    }
    cohort = open_cohort(squares, where)
    assert cohort.choices["x"].pair[:4].tolist() == ["15", "15", "16", "16"]
    assert cohort.choices["x"].attribute is None


def test_a_pair_of_other_than_two_samples_is_found(squares):
    def move(table):
        table.loc[table["pair"] == "5-0", ["pair", "differs"]] = ["5-1", "colour"]
        table.loc[table.index[table["pair"] == "11-2"][0], ["pair", "differs"]] = [None, None]

    change(squares, move)
    assert said(squares) == [
        ("choice.pair", "error", "1 pair of more than two samples (5-1)"),
        ("choice.pair", "warning", "1 pair of one sample (11-2): not scored"),
    ]
    with pytest.raises(CohortError, match=r"(?s)more than two.*cohort\.choices\.squares=null"):
        open_cohort(squares)
    assert open_cohort(squares, {"cohort.choices.squares": None}).choices == {}


MIXED = ("choice.attribute", "1 pair with two attributes, or without (5-0)")


@pytest.mark.parametrize(
    ("count", "column", "value", "found"),
    [
        (1, "split", "train", ("choice.split", "1 pair across splits (5-0)")),
        (1, "differs", "colour", MIXED),
        (1, "differs", None, MIXED),
        (2, "differs", None, MIXED),
    ],
)
def test_a_pair_across_splits_or_not_of_one_attribute_is_found(
    squares, count, column, value, found
):
    def move(table):
        table.loc[table.index[table["pair"] == "5-0"][:count], column] = value

    change(squares, move)
    assert said(squares) == [(found[0], "error", found[1])]


def test_a_column_in_which_no_two_agree_is_found(squares):
    path = squares / "cohort.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["choices"]["squares"]["pair"] = "subject_id"
    path.write_text(yaml.safe_dump(tree))
    assert [(c, level) for c, level, _ in said(squares)] == [("choice.pair", "error")]
    assert "72 ids in 72 samples" in said(squares)[0][2]


@pytest.mark.parametrize("key", ["pair", "attribute"])
def test_a_column_that_is_not_there_is_found_with_its_neighbour(squares, key):
    known = {"pair": "pair", "attribute": "differs"}
    overrides = {f"choices.squares.{key}": f"{known[key]}x"}
    _, findings = load_cohort(squares, overrides)
    (found,) = [one for one in findings if one.level == "error"]
    assert found.code == "cohort.column"
    assert f"choices.squares.{key}" in found.where
    assert f"did you mean '{known[key]}'" in found.what
    with pytest.raises(CohortError, match="no column"):
        open_cohort(squares, overrides)


def test_a_column_that_differs_within_a_subject_is_found(squares):
    def move(table):
        table.loc[:3, "subject_id"] = "s0000"
        table.loc[:3, "pair"] = ["a", "a", "b", "b"]

    change(squares, move)
    _, findings = load_cohort(squares)
    assert any("column 'pair' differs" in f.what and "choices" in f.where for f in findings)


def test_a_misspelt_key_is_named(squares):
    _, findings = load_cohort(squares, {"choices": {"x": {"pear": "pair"}}})
    text = " ".join(one.what for one in findings)
    assert "pear" in text
    assert "choices" in text


def test_pairs_belong_to_the_fingerprint_and_none_change_nothing(squares):
    with_pairs = open_cohort(squares)
    without = open_cohort(squares, {"choices.squares": None})
    assert with_pairs.fingerprint != without.fingerprint
    assert without.choices == {}


def test_shards_say_that_pairs_are_left_out_and_keep_a_prefix_once(squares, tmp_path):
    cohort = open_cohort(squares, {"modalities.caption.prefix": "look: "})
    done = write_shards(cohort, tmp_path / "shards")
    assert any(one.startswith("choices") for one in done.left_out)
    packed = open_cohort(tmp_path / "shards")
    assert packed.choices == {}
    read = [texts(one) for one in (cohort, packed)]
    assert read[0] == read[1]
    assert read[0]["s0000"].startswith("look: a red square")


def texts(cohort):
    """Subject to its caption, as it is read."""
    adapter = build_adapters(cohort, {"caption": {}})["caption"]
    return {place.subject: adapter.read(place) for place in cohort.records["caption"]["place"]}


# ------------------------------------------------------------------ MMVP-VLM

TYPES = ("Orientation", "Presence", "State", "Quantity", "Spatial", "Color")
TYPES += ("Structural Character", "Text", "Camera Perspective")


@pytest.fixture(scope="module")
def mmvp(tmp_path_factory):
    """A made-up folder in the published layout: nine types of 15 pairs, rows in another order."""
    folder = tmp_path_factory.mktemp("mmvp")
    rows = []
    for number in range(1, 271):
        kind = TYPES[(number - 1) // 30]
        path = folder / "MLLM_VLM Images" / kind / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((24, 24), Image.Resampling.BICUBIC).save(path)
        rows.append((number, kind, f"a thing, number {number}"))
    table = pd.DataFrame(rows, columns=["Question ID", "Type", "Statement"])
    table.sample(frac=1, random_state=0).to_csv(folder / "Questions.csv", index=False)
    return folder


def test_mmvp_has_nine_types_of_fifteen_pairs_and_a_prefix(mmvp, tmp_path):
    cohort = open_cohort("mmvp", {"data_root": str(mmvp)})
    assert list(check_cohort(cohort)) == []
    assert cohort.spec.tasks == {}
    assert (cohort.samples["split"] == "held_out").all()
    choice = cohort.choices["mmvp"]
    assert len(choice.sizes) == 135
    assert pd.Series(choice.attribute).value_counts().to_dict() == dict.fromkeys(TYPES, 30)
    row = dict(zip(cohort.samples["subject"], choice.pair, strict=True))
    assert row["1"] == row["2"] != row["3"]
    assert row["269"] == row["270"]
    prepared = prepare(cohort, {"image": {"size": 8}, "caption": {"max_tokens": 16}},
                       cache=tmp_path, splits="all")  # fmt: skip
    adapter = prepared.adapters["caption"]
    place = cohort.records["caption"]["place"].loc["7"]
    assert adapter.read(place) == "a photo of a thing, number 7"
    assert cohort.records["image"]["place"].loc["7"].paths["path"].is_file()


def test_mmvp_without_an_image_is_told(mmvp, tmp_path):
    copy = tmp_path / "mmvp"
    shutil.copytree(mmvp, copy)
    (copy / "MLLM_VLM Images" / "Text" / "212.jpg").unlink()
    cohort = open_cohort("mmvp", {"data_root": str(copy)})
    (found,) = check_cohort(cohort)
    assert found.code == "image.missing_file"
    assert "212.jpg" in found.where
