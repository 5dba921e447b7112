"""The captioned shapes: pixels, words and truth say one thing."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from typed import answer

from medmcl.core.contracts import RecordRef
from medmcl.core.rng import numpy_generator
from medmcl.data.cohort.cohort import open_cohort
from medmcl.modalities.image.adapter import Image as ImageAdapter
from medmcl.modalities.image.settings import ImageSettings, ImageSource
from medmcl.simulation.kinds import simulate
from medmcl.simulation.shapes.captions import caption, prompts
from medmcl.simulation.shapes.draw import RGB, draw_layout, draw_picture
from medmcl.simulation.shapes.settings import ShapesSettings
from medmcl.simulation.shapes.words import COLOURS, COUNTS, FILLERS, POSITIONS, SHAPES, TEXTURES
from medmcl.simulation.shapes.world import ATTRIBUTES, draw_unseen, draw_world

ALL = {"shapes": 10, "colours": 10, "textures": 5, "positions": 9, "counts": 4}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
WORDS = {
    "shape": {name: [one for form in forms for one in form] for name, forms in SHAPES.items()},
    "colour": COLOURS,
    "texture": TEXTURES,
    "position": POSITIONS,
}


def world(**settings):
    made = ShapesSettings(**settings)
    return made, draw_world(made)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    settings = {
        **ALL, "subjects": 160, "seed": 3, "pixel_noise": 0.02, "noisy_pairs": 0.5,
        "missing_captions": 0.1, "missing_images": 0.15, "size": 96, "filler": 2,
    }  # fmt: skip
    return simulate("shapes", tmp_path_factory.mktemp("shapes") / "out", settings)


@pytest.fixture(scope="module")
def truth(cohort):
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", keep_default_na=False)
    hidden = pd.read_parquet(cohort / "truth.parquet")
    return people.merge(hidden, on=["subject_id", *ATTRIBUTES], validate="one_to_one")


def foreground(path):
    """Pixels (Y, X, 3) in [0, 1], where they are no ground, and where one surely is shape."""
    pixels = np.asarray(Image.open(path), dtype=float) / 255
    ground = np.median(pixels.reshape(-1, 3), axis=0)
    return pixels, np.abs(pixels - ground).max(axis=2) > 0.15


def test_pixels_show_the_colour_of_the_truth(cohort, truth):
    """Ink keeps the hue: the mean of all shape pixels points along the colour."""
    names = list(RGB)
    shades = np.array([RGB[name] for name in names])
    shades /= np.linalg.norm(shades, axis=1, keepdims=True)
    rows = truth[truth.has_image == 1]
    assert len(rows) == 136
    for row in rows.itertuples():
        pixels, shape = foreground(cohort / f"images/{row.subject_id}.png")
        inner = ndimage.binary_erosion(shape)  # edges mix with the ground
        mean = pixels[inner if inner.any() else shape].mean(axis=0)
        assert names[int((shades @ mean).argmax())] == row.colour, row.subject_id


def test_pixels_show_the_count_and_the_place_of_the_truth(cohort, truth):
    for row in truth[(truth.has_image == 1) & (truth.texture == "solid")].itertuples():
        _, shape = foreground(cohort / f"images/{row.subject_id}.png")
        found, parts = ndimage.label(shape, structure=np.ones((3, 3)))
        sizes = np.bincount(found.ravel())[1:]
        assert (sizes > 12).sum() == NUMBERS[row.count], (row.subject_id, parts, sizes)
        y, x = (np.array(ndimage.center_of_mass(found > 0)) + 0.5) / 96
        across = "left" if x < 0.42 else "right" if x > 0.58 else ""
        down = "top" if y < 0.42 else "bottom" if y > 0.58 else ""
        assert f"{down} {across}".strip() == row.position.replace("centre", ""), row.subject_id
        assert np.hypot(x - row.middle_x, y - row.middle_y) < 0.4 * row.radius  # a crescent's


def drawn(size, shape="circle", texture="solid", count="one", position="centre", seed=0):
    """A white shape without noise, (size, size) in [0, 1] above the ground; negative: ink."""
    rng = numpy_generator(seed, "test")
    layout = draw_layout(count, position, rng)
    values = {"shape": shape, "colour": "white", "texture": texture}
    picture = draw_picture(values, layout, size, 0.0, rng)[..., 0].astype(float) / 255
    return picture - np.median(picture)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("seed", range(3))
def test_shapes_and_textures_differ_in_what_is_seen(size, seed):
    """In one place and size an eighth of both areas differs at least (circle and square)."""
    shapes = [drawn(size, shape=name, seed=seed) for name in SHAPES]
    for n, one in enumerate(shapes):
        for other in shapes[:n]:
            assert np.abs(one - other).sum() > (one.sum() + other.sum()) / 8
    textures = [drawn(size, texture=name, seed=seed) for name in TEXTURES]
    for n, one in enumerate(textures):
        for other in textures[:n]:
            assert np.abs(one - other).sum() > textures[0].sum() / 4


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("position", POSITIONS)
def test_no_copy_is_cut_or_touches_another(count, position):
    for seed in range(6):
        for size in (32, 96):
            shape = drawn(size, "square", count=count, position=position, seed=seed) > 0.1
            edge = np.ones_like(shape)
            edge[1:-1, 1:-1] = False
            assert not (shape & edge).any()
            assert ndimage.label(shape, np.ones((3, 3)))[1] == NUMBERS[count]


def test_size_does_not_tell_the_ground_nor_edges_jump():
    fine, coarse = drawn(96, "star"), drawn(32, "star")
    blocks = fine.reshape(32, 3, 32, 3).mean(axis=(1, 3))
    assert np.abs(blocks - coarse).mean() < 0.003  # the same picture at a third of the pixels
    assert len(np.unique(coarse.round(3))) > 6  # in between ground and white: smooth edges


def named_by(text):
    """Read a caption back, attribute to value; `at the top` does not count in `at the top left`."""
    found = {}
    for attribute, table in WORDS.items():
        owner = {word: value for value, words in table.items() for word in words}
        longest_first = "|".join(sorted(map(re.escape, owner), key=len, reverse=True))
        for word in re.findall(rf"\b(?:{longest_first})\b", text):
            assert attribute not in found, (text, attribute)
            found[attribute] = owner[word]
    first = re.search(r"\b(a single|a pair of|a trio of|a quartet of|one|two|three|four)\b", text)
    if first:
        found["count"] = next(value for value, words in COUNTS.items() if first[1] in words)
    elif re.search(r"\ban? (?!picture|image)", text):
        found["count"] = "one"
    return found


def without_fillers(text):
    for clause in FILLERS:
        text = text.replace(f", {clause}", "")
    return text


DETAILS = [
    (), ("colour",), ("texture",), ("count",), ("position",), ("texture", "colour"),
    ("position", "count", "colour", "texture"),
]  # fmt: skip


@pytest.mark.parametrize("named", DETAILS)
def test_a_caption_names_exactly_what_it_shall(named):
    rng, seen = numpy_generator(1, "test"), set()
    values = ShapesSettings(**ALL).values
    for _ in range(300):
        told = {name: str(rng.choice(values[name])) for name in ("shape", *named)}
        text = caption(told, rng, 2)
        bare = without_fillers(text)
        assert len(text.split(", ")) == len(bare.split(", ")) + 2
        assert named_by(bare) == told, text
        assert not re.search(r"  |,,| ,|,$|\ba [aeiou]", text), text
        many = "count" in told and told["count"] != "one"
        forms = {form[many] for form in SHAPES[told["shape"]]}
        assert forms & set(re.findall(r"\w+", bare)), text
        seen.add(bare)
    assert len(seen) > (30 if not named else 100)


def test_no_word_stands_for_two_values_and_fillers_name_none():
    words = [w for table in (*WORDS.values(), COUNTS) for forms in table.values() for w in forms]
    assert len(words) == len(set(words))
    for clause in FILLERS:
        assert named_by(clause).keys() <= {"count"}, clause  # `an even ground`


def test_captions_grow_with_detail_and_filler():
    rng = numpy_generator(0, "test")
    told = {"shape": "heart", "count": "two", "texture": "faded", "colour": "pink"}
    told["position"] = "centre"

    def words(values, filler=0):
        return np.mean([len(caption(values, rng, filler).split()) for _ in range(200)])

    assert words({"shape": "heart"}) < 2
    assert 6 < words(told) < 12
    assert words(told, 12) > words(told) + 3 * 12


def test_the_caption_of_each_row_is_the_one_that_the_truth_says(cohort, truth):
    rows = truth.set_index("subject_id")
    told = rows[rows.caption != ""]
    assert (rows.caption_of.isna() == (rows.caption == "")).all()
    for subject, row in told.iterrows():
        named = named_by(without_fillers(row.caption))
        source = rows.loc[row.caption_of]
        assert named == {name: source[name] for name in ATTRIBUTES}
        assert row.swapped == (row.caption_of != subject)
        assert row.noisy == any(named[name] != row[name] for name in named)
    assert (rows.has_image == 0).sum() == 24
    assert (rows.caption == "").sum() == 16
    assert not ((rows.has_image == 0) & (rows.caption == "")).any()
    facts = json.loads((cohort / "truth.json").read_text())
    pairs = (rows.split == "train") & (rows.has_image == 1) & (rows.caption != "")
    assert facts["train_pairs"] == pairs.sum()
    assert facts["swapped_pairs"] == rows.swapped.sum() == round(0.5 * pairs.sum())
    assert facts["noisy_pairs"] == rows.noisy.sum()


@pytest.mark.parametrize("within", ["any", "within", "across"])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_share_of_swapped_pairs_is_exact_and_only_train_has_any(within, share):
    _, rows = world(
        subjects=3000, noisy_pairs=share, noisy_within=within, imbalance=1, missing_captions=0.2
    )
    pairs = (rows.split == "train") & rows.has_image & rows.has_caption
    assert rows.swapped.sum() == round(share * pairs.sum())
    assert not rows.swapped[~pairs].any()
    assert not rows.noisy[~rows.swapped].any()
    donors = rows.iloc[rows.caption_of[rows.swapped]]
    assert pairs.iloc[donors.index].all()  # no caption of held-out or tuning people in train
    same = donors["shape"].to_numpy() == rows["shape"][rows.swapped].to_numpy()
    chance = (rows["shape"][pairs].value_counts(normalize=True) ** 2).sum()
    expected = {
        "within": 1.0,
        "across": 0.0,
        "any": chance,
    }
    assert same.mean() == pytest.approx(expected[within], abs=0.04 if within == "any" else 0)


def test_a_swapped_caption_that_still_fits_is_no_noise():
    _, rows = world(subjects=2000, noisy_pairs=1.0, caption_detail=())
    other = rows.iloc[rows.caption_of]
    differs = other["shape"].to_numpy() != rows["shape"].to_numpy()
    assert rows.swapped[rows.split == "train"].all()
    assert (rows.noisy == differs).all()
    assert 0.05 < 1 - rows.noisy[rows.swapped].mean() < 0.2  # one in eight shapes
    _, rows = world(subjects=500, noisy_pairs=0.5, noisy_within="within", caption_detail=())
    assert rows.swapped.sum() == 175
    assert not rows.noisy.any()


def test_shapes_follow_zipf_and_the_rest_does_not_change():
    _, rows = world(subjects=40_000, imbalance=1.5, shapes=5)
    weights = np.arange(1, 6) ** -1.5
    shares = rows["shape"].value_counts(normalize=True)[list(SHAPES)[:5]]
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)
    np.testing.assert_allclose(rows["colour"].value_counts(normalize=True), 1 / 8, atol=0.01)
    assert rows["split"].value_counts().to_dict() == {
        "train": 28_000, "tuning": 4_000, "held_out": 8_000,
    }  # fmt: skip


def test_attributes_are_independent_of_one_another_and_of_the_split():
    _, rows = world(subjects=40_000)
    for one in ("split", *ATTRIBUTES):
        for other in ATTRIBUTES:
            if one != other:
                table = pd.crosstab(rows[one], rows[other])
                even = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(rows)
                freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
                assert np.sum((table.to_numpy() - even) ** 2 / even) < freedom + 5 * np.sqrt(
                    2 * freedom
                ), (one, other)


@pytest.mark.parametrize(("shapes", "colours", "unseen"), [(2, 2, 2), (8, 8, 32), (3, 7, 10)])
def test_unseen_combinations_are_in_held_out_alone(shapes, colours, unseen):
    for seed in range(5):
        settings, rows = world(
            subjects=3000, shapes=shapes, colours=colours, unseen=unseen, seed=seed
        )
        hidden = draw_unseen(settings)
        assert hidden.sum() == unseen
        pairs = set(zip(rows["shape"], rows["colour"], strict=True))
        learned = rows[rows.split != "held_out"]
        seen = set(zip(learned["shape"], learned["colour"], strict=True))
        assert len(pairs) == shapes * colours
        assert len(seen) == shapes * colours - unseen
        assert learned["shape"].nunique() == shapes
        assert learned["colour"].nunique() == colours
        is_new = [pair not in seen for pair in zip(rows["shape"], rows["colour"], strict=True)]
        assert (rows.unseen == is_new).all()


def test_prompts_name_their_class_and_balance_the_rest():
    settings = ShapesSettings(**ALL)
    made = prompts(settings.values, settings.named)
    assert set(made) == set(ATTRIBUTES)
    for attribute, classes in made.items():
        assert tuple(classes) == settings.values[attribute]
        beside = []
        for value, texts in classes.items():
            read = [named_by(text) for text in texts]
            assert {one.pop(attribute) for one in read} == {value}
            assert {frozenset(one) for one in read} == {frozenset(ATTRIBUTES) - {attribute}}
            beside.append(read)
            for other in set(ATTRIBUTES) - {attribute}:
                shown = [one[other] for one in read]
                often = [shown.count(name) for name in settings.values[other]]
                assert max(often) - min(often) <= 1
        assert all(read == beside[0] for read in beside)
    few = ShapesSettings(caption_detail=("colour",), colours=1)
    assert set(prompts(few.values, few.named)) == {"shape"}
    bare = prompts(ShapesSettings().values, ("shape",))["shape"]["circle"]
    assert {"circle", "disc"} < set(bare)
    assert len(bare) == len(set(bare))


RECIPE = """
schema: medmcl/recipe@1
about: two small towers
source: this test
inputs:
  image: {size: 96, channels: colour, intensity: range}
  caption: {max_tokens: 64, vocabulary: 400}
towers:
  image: {encoder: {name: small_cnn, widths: [8]}, head: {hidden: 8, out: 4}}
  caption:
    encoder: {name: text_transformer, width: 8, depth: 1, heads: 2}
    head: {hidden: 8, out: 4}
views: {augmented: {}}
stages:
  - stage: train
    name: contrast
    towers: [image, caption]
    objectives: {cross_modal: {pairs: [[image, caption]], loss: info_nce}}
    batch_size: 16
    epochs: 1
    optimiser: {name: adamw, lr: 1.0e-3}
"""


def test_the_folder_passes_the_check_and_is_read_in_colour(cohort, truth, tmp_path):
    recipe = tmp_path / "two_towers.yaml"
    recipe.write_text(RECIPE)
    said = answer("check", "--cohort", cohort, "--recipe", recipe)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.rstrip().endswith("0 errors, 7 warnings"), said.stdout
    assert set(re.findall(r"warning (\S+)", said.stdout)) == {
        "cohort.few_held_out", "cohort.few_tuning", "task.few_held_out",
    }  # fmt: skip
    opened = open_cohort(cohort)
    assert opened.samples["image"].notna().sum() == 136
    assert opened.samples["caption"].notna().sum() == 144
    assert list(opened.spec.tasks) == list(ATTRIBUTES)
    settings = ImageSettings(size=96, channels="colour", intensity="range")
    adapter = ImageAdapter(ImageSource(reader="image"), settings)
    for row in truth[truth.has_image == 1].head(20).itertuples():
        path = cohort / f"images/{row.subject_id}.png"
        place = RecordRef(subject=row.subject_id, record=row.subject_id, paths={"path": path})
        read = adapter.prepare(adapter.read(place))
        np.testing.assert_allclose(
            read, np.asarray(Image.open(path)).transpose(2, 0, 1) / 255, atol=1e-6
        )
