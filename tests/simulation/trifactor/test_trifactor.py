"""Factors of unequal ease: what is seen, told and paired is what the truth says."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from medmcl.core.rng import numpy_generator
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import open_cohort
from medmcl.simulation.kinds import simulate
from medmcl.simulation.shapes.draw import RGB, TEXTURE_TONES, Layout, draw_picture
from medmcl.simulation.trifactor.digits import GROUND, INK, SWING, grating
from medmcl.simulation.trifactor.settings import FACTORS, PAIRED, TrifactorSettings
from medmcl.simulation.trifactor.vectors import vectors_world
from medmcl.simulation.trifactor.world import (
    LEVELS,
    captions,
    draw_kept,
    draw_levels,
    draw_seats,
    draw_unseen,
    named_levels,
)

SMALL = {
    "vectors": {"subjects": 60, "world": "vectors"},
    "digits": {"subjects": 40, "world": "digits"},
    "pictures": {"subjects": 40, "world": "pictures", "size": 16},
}


def read(folder):
    people = pd.read_csv(folder / "participants.tsv", sep="\t", keep_default_na=False)
    truth = pd.read_parquet(folder / "truth.parquet")
    assert list(people.subject_id) == list(truth.subject_id)
    return people, truth


def drawn(**settings):
    made = TrifactorSettings(**settings)
    seats = draw_seats(made)
    return made, seats, draw_levels(made, seats)


def pixels(folder, subject):
    return np.asarray(Image.open(folder / f"images/{subject}.png"))


@pytest.mark.parametrize("world", SMALL)
def test_pairs_change_nothing_of_the_others_and_come_last(world, tmp_path):
    bare = simulate("trifactor", tmp_path / "a", SMALL[world])
    more = simulate("trifactor", tmp_path / "b", {**SMALL[world], "pairs": 3})
    without, _ = read(bare)
    people, _ = read(more)
    count = SMALL[world]["subjects"]
    pd.testing.assert_frame_equal(people[:count].drop(columns=["pair", "attribute"]), without)
    assert (people[["pair", "attribute"]][:count] == "").all(axis=None)
    beside = people[count:]
    assert len(beside) == 6 * len(PAIRED[world])
    assert (beside.split == "held_out").all()
    assert (beside.groupby("pair").size() == 2).all()
    tree = yaml.safe_load((more / "cohort.yaml").read_text())
    assert tree.pop("choices") == {"pairs": {"pair": "pair", "attribute": "attribute"}}
    about = tree.pop("about")
    plain = yaml.safe_load((bare / "cohort.yaml").read_text())
    assert about != plain.pop("about")
    assert tree == plain
    assert "are pairs who differ in one factor" in (more / "README.md").read_text()
    if world == "vectors":
        one, two = (pd.read_parquet(f / "tables/vector.parquet") for f in (bare, more))
        np.testing.assert_allclose(two.iloc[:count, 1:], one.iloc[:, 1:], atol=1e-6)
    else:
        last = without.subject_id.iloc[-1]
        assert (pixels(bare, last) == pixels(more, last)).all()


@pytest.mark.parametrize("world", SMALL)
def test_a_pair_differs_in_its_attribute_alone(world, tmp_path):
    folder = simulate("trifactor", tmp_path / "a", {**SMALL[world], "pairs": 8})
    people, truth = read(folder)
    told = [*FACTORS[world], *(c for c in people if c.startswith("bit_"))]
    both = people[people.pair != ""].groupby("pair")
    for _, pair in both:
        (attribute,) = set(pair.attribute)
        assert [c for c in told if pair[c].nunique() == 2] == [attribute]
        if world != "digits":  # captions of pairs name everything
            named = [" ".join(row) for row in pair[list(FACTORS[world])].to_numpy()]
            assert pair.caption.tolist() == named
        one, other = (pixels(folder, s) if world != "vectors" else None for s in pair.subject_id)
        if world == "digits":
            assert (one[22:] == other[22:]).all()  # below the digit
            assert (one != other).any()
        if world == "pictures":
            a, b = truth[truth.subject_id.isin(pair.subject_id)].to_dict("records")
            assert (a["middle_x"], a["middle_y"]) == (b["middle_x"], b["middle_y"])
    assert set(people.attribute) - {""} == set(PAIRED[world])
    if world == "vectors":
        latents = truth.filter(regex=r"^z\d").to_numpy()[60:].reshape(8, 2, 3, 16)
        apart = np.abs(latents[:, 0] - latents[:, 1]).max(axis=2)
        assert (apart[:, :2] < 1e-6).all()
        assert (apart[:, 2] > 0.01).all()


def test_a_pair_of_pictures_shares_turn_and_place(tmp_path):
    """Without grain two pictures that differ in colour alone are one drawing in two inks."""
    folder = simulate(
        "trifactor", tmp_path / "a",
        {"subjects": 20, "world": "pictures", "pairs": 12, "pixel_noise": 0, "size": 48},
    )  # fmt: skip
    people, _ = read(folder)
    for _, pair in people[people.attribute != ""].groupby("pair"):
        one, two = (pixels(folder, s).astype(int) for s in pair.subject_id)
        masks = [(np.abs(p - 128).max(axis=2) > 12) for p in (one, two)]
        differs = (masks[0] != masks[1]).mean()
        assert (differs > 0.01) == (pair.attribute.iloc[0] == "shape")
        assert (one != two).any()
        grey = np.abs(one - 128).max(axis=2) == 0  # the ground is 0.5 exactly
        assert 0.5 < grey.mean() < 0.95


def ridge(x, levels, train):
    """Share of held-out rows whose level a linear probe names."""
    x = (x - x[train].mean(0)) / x[train].std(0)
    targets = np.eye(levels.max() + 1)[levels]
    inner = x[train].T @ x[train] + 1e-3 * train.sum() * np.eye(x.shape[1])
    weights = np.linalg.solve(inner, x[train].T @ (targets[train] - targets[train].mean(0)))
    return ((x @ weights).argmax(1) == levels)[~train].mean()


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({}, (0.99, 0.99, 0.90), (1, 1, 0.99)),
        ({"ease": [1.0, 0.6, 0.35], "noise": 0.1}, (0.99, 0.98, 0.80), (1, 1, 0.92)),
        ({"noise": 0.0}, (1, 1, 1), (1, 1, 1)),
    ],
)
def test_a_linear_probe_of_the_raw_columns_finds_the_factors_as_documented(settings, low, high):
    for seed in range(3):
        made, seats, levels = drawn(subjects=3000, seed=seed, **settings)
        x = vectors_world(made).truth.filter(regex=r"^z\d").to_numpy()
        assert x.shape == (3000, 48)
        rng = numpy_generator(seed, "trifactor", "mixing")
        shown = np.tanh(x @ (0.5 * rng.standard_normal((48, 64))))
        train = (seats["split"] == "train").to_numpy()
        found = [ridge(shown, levels[:, axis], train) for axis in range(3)]
        assert (np.array(low) <= found).all(), found
        assert (np.array(found) <= high).all(), found


def test_the_table_shows_the_latent_and_the_latent_the_ease(tmp_path):
    settings = {"subjects": 400, "noise": 0.0, "levels": 4, "ease": [1.0, 0.5, 0.2]}
    folder = simulate("trifactor", tmp_path / "a", settings)
    people, truth = read(folder)
    latents = truth.filter(regex=r"^z\d").to_numpy().reshape(400, 3, 16)
    np.testing.assert_allclose(np.linalg.norm(latents, axis=2), [settings["ease"]] * 400, rtol=1e-5)
    for axis, name in enumerate(("easy", "middle", "hard")):
        levels = people[name].to_numpy()
        assert set(levels) == set(LEVELS[name][:4])
        for level in set(levels):
            assert np.ptp(latents[levels == level, axis], axis=0).max() < 1e-6
    table = pd.read_parquet(folder / "tables/vector.parquet")
    assert list(table.columns) == ["subject_id", *(f"v{k}" for k in range(64))]
    flat = people.groupby(["easy", "middle", "hard"]).ngroup().to_numpy()
    values = table.iloc[:, 1:].to_numpy()
    assert all(np.ptp(values[flat == one], axis=0).max() < 1e-6 for one in set(flat))
    assert len(np.unique(values.round(5), axis=0)) == len(set(flat))


def test_captions_keep_each_word_at_its_rate_and_are_never_empty():
    made = TrifactorSettings(subjects=20_000, keep=(0.9, 0.5, 0.2), seed=1)
    seats = draw_seats(made)
    kept = draw_kept(made, seats)
    empty = 0.1 * 0.5 * 0.8  # these name the first
    np.testing.assert_allclose(kept.mean(axis=0), [0.9 + empty, 0.5, 0.2], atol=0.015)
    assert kept.any(axis=1).all()
    together = (kept[:, 1] & kept[:, 2]).mean()
    assert together == pytest.approx(0.1, abs=0.01)  # independent of one another
    words = named_levels(made, draw_levels(made, seats))
    for text, row, names in zip(captions(words, kept), words.to_numpy(), kept, strict=True):
        assert text.split(" ") == [word for word, named in zip(row, names, strict=True) if named]
    never = TrifactorSettings(subjects=50, keep=(0, 0, 0))
    assert (draw_kept(never, draw_seats(never)) == [True, False, False]).all()


def test_no_word_stands_for_two_levels():
    words = [word for names in LEVELS.values() for word in names]
    assert len(words) == len(set(words)) == 60
    assert {*LEVELS["texture"]} == {*TEXTURE_TONES}
    assert {*LEVELS["colour"]} == {*RGB}


@pytest.mark.parametrize(("levels", "share"), [(6, 0.2), (10, 0.2), (2, 0.25), (3, 0.5), (6, 0.0)])
def test_held_out_shows_combinations_that_nobody_learns_from(levels, share):
    for seed in range(3):
        made, seats, shown = drawn(
            subjects=4000, world="pictures", levels=levels, unseen=share, seed=seed
        )
        hidden = draw_unseen(made)
        assert hidden.sum() == round(share * levels**3)
        is_new = hidden[tuple(shown.T)]
        held_out = (seats["split"] == "held_out").to_numpy()
        assert (is_new == (held_out & (share > 0))).all()
        for axis in range(3):  # every level is learned and asked for, as often as any other
            others = tuple({0, 1, 2} - {axis})
            assert np.ptp(hidden.sum(axis=others)) <= 1
            assert set(shown[~held_out, axis]) == set(range(levels))
        assert seats["split"].value_counts().to_dict() == {
            "train": 2800, "tuning": 400, "held_out": 800,
        }  # fmt: skip
    other = draw_unseen(TrifactorSettings(world="pictures", levels=levels, unseen=share, seed=9))
    assert share == 0 or (other != hidden).any()


def test_pairs_of_unseen_combinations_are_unseen():
    made, seats, levels = drawn(subjects=30, world="pictures", pairs=50)
    hidden = draw_unseen(made)
    paired = (seats["pair"] != "").to_numpy()
    assert paired.sum() == 300
    assert hidden[tuple(levels[paired].T)].all()
    first, second = levels[paired].reshape(-1, 2, 3).transpose(1, 0, 2)
    assert ((first != second).sum(axis=1) == 1).all()
    for axis, name in enumerate(made.factors):
        rows = seats["attribute"][paired][::2] == name
        assert (first[rows, axis] != second[rows, axis]).all()
        assert 0.2 < (first[rows, axis] < second[rows, axis]).mean() < 0.8  # either comes first


def test_the_factors_are_independent_and_even():
    _, seats, levels = drawn(subjects=30_000)
    for axis in range(3):
        assert np.ptp(np.bincount(levels[:, axis])) < 6 * np.sqrt(3000)
        for beside in (levels[:, axis - 1], pd.factorize(seats["split"])[0]):
            table = pd.crosstab(levels[:, axis], beside).to_numpy()
            even = np.outer(table.sum(1), table.sum(0)) / table.sum()
            freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
            assert ((table - even) ** 2 / even).sum() < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("bits", [0, 5, 8, 16])
def test_digit_and_bits_are_read_back_from_the_pixels(bits, tmp_path):
    folder = simulate("trifactor", tmp_path / "a", {**SMALL["digits"], "bits": bits})
    people, truth = read(folder)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    names = [f"bit_{k + 1}" for k in range(bits)]
    assert [c for c in people if c.startswith("bit")] == names
    waves = np.stack([grating(k) for k in range(bits)]) if bits else np.zeros((0, 28, 28))
    for row, source in zip(people.to_dict("records"), truth.digit_row, strict=True):
        picture = pixels(folder, row["subject_id"]).astype(float)
        assert picture.shape == (28, 28)
        assert labels[source] == row["digit"]
        written = [bool(row[name]) for name in names]
        digit = np.zeros((28, 28))
        digit[6:22, 6:22] = images[source].reshape(8, 8).repeat(2, 0).repeat(2, 1) * INK / 16
        whole = GROUND + digit + SWING * waves[written].sum(0)
        np.testing.assert_allclose(picture, whole.clip(0, 255), atol=0.51)
        edge = np.ones((28, 28), bool)
        edge[6:22, 6:22] = False
        edge &= (picture > 0) & (picture < 255)
        columns = np.column_stack([np.ones(edge.sum()), waves[:, edge].T])
        seen = np.linalg.lstsq(columns, picture[edge], rcond=None)[0][1:]
        assert [one > SWING / 2 for one in seen] == written
    assert truth.digit_row.is_unique


def test_no_grating_looks_like_another_one_or_a_shift_of_it():
    power = [np.abs(np.fft.rfft2(grating(k), (112, 112))).ravel() for k in range(16)]
    alike = np.corrcoef(power) - np.eye(16)
    assert alike.max() < 0.5


def test_bits_are_fair_and_tell_nothing_of_the_digit(tmp_path):
    folder = simulate("trifactor", tmp_path / "a", {"subjects": 1797, "world": "digits"})
    people, _ = read(folder)
    bits = people.filter(like="bit_")
    assert ((bits.mean() - 0.5).abs() < 5 * 0.5 / np.sqrt(1797)).all()
    assert ((bits.groupby(people.digit).mean() - 0.5).abs() < 0.2).all(axis=None)
    apart = bits.corr().to_numpy() - np.eye(8)
    assert np.abs(apart).max() < 0.12
    assert people.digit.value_counts().sort_index().index.tolist() == list(range(10))


def test_shapes_and_textures_differ_in_what_is_seen_at_any_turn():
    """An eighth of the area differs at least, whatever the turns of the two."""

    def shown(shape, texture, seed):
        rng = numpy_generator(seed, "test")
        values = {"shape": shape, "texture": texture, "colour": "white"}
        layout = Layout(np.array([[0.5, 0.5]]), 2 / 7)
        seen = draw_picture(values, layout, 32, 0.0, rng, tilt=np.pi / 4, ground=0.5)
        return seen[..., 0] / 255.0 - 128 / 255

    for names, make in (
        (LEVELS["shape"], lambda name, seed: shown(name, "solid", seed)),
        (LEVELS["texture"], lambda name, seed: shown("circle", name, seed)),
    ):
        for n, one in enumerate(names):
            for other in names[:n]:
                for seed in range(4):
                    a, b = make(one, seed), make(other, seed + 10)
                    assert np.abs(a - b).sum() > (np.abs(a).sum() + np.abs(b).sum()) / 16, (
                        one, other, seed,
                    )  # fmt: skip


def test_captioned_shapes_are_drawn_as_before():
    """Tilt and ground that are not given draw what they drew."""
    values = {"shape": "star", "texture": "striped", "colour": "red"}
    layout = Layout(np.array([[0.5, 0.5]]), 0.2)
    one = draw_picture(values, layout, 32, 0.02, numpy_generator(1, "test"))
    other = draw_picture(
        values, layout, 32, 0.02, numpy_generator(1, "test"), tilt=np.radians(10), ground=0.5
    )
    shape = np.abs(one.astype(int) - np.median(one, axis=(0, 1))).max(axis=2) > 40
    inner = ndimage.binary_erosion(shape)
    assert inner.sum() > 20
    assert np.abs(one.astype(int) - other)[inner].max() <= 1  # the same noise, shade and turn
    assert abs(np.median(other) - 128) <= 2


@pytest.mark.parametrize("world", SMALL)
def test_the_folder_opens_and_passes_the_check(world, tmp_path):
    settings = {"subjects": 300, "world": world, "held_out": 0.4}
    folder = simulate("trifactor", tmp_path / "a", settings)
    opened = open_cohort(folder)
    assert opened.spec.keys.recipe == "mcl_toy"
    wanted = [*FACTORS[world], *(["bit_1"] if world == "digits" else [])]
    assert list(opened.spec.tasks) == wanted
    for name in opened.spec.modalities:
        assert opened.samples[name].notna().all()
    found = check_cohort(opened)
    assert {one.code for one in found} <= {"task.few_held_out"}, list(found)
    assert json.loads((folder / "truth.json").read_text())["settings"]["world"] == world
    no_bits = simulate("trifactor", tmp_path / "b", {**settings, "world": "digits", "bits": 0})
    assert list(open_cohort(no_bits).spec.tasks) == ["digit"]


def test_pictures_of_pairs_are_no_copies(tmp_path):
    """Two colours of one grey differ by their grain still."""
    settings = {"subjects": 10, "world": "pictures", "pairs": 40}
    folder = simulate("trifactor", tmp_path / "a", settings)
    tree = yaml.safe_load((folder / "cohort.yaml").read_text())
    tree.pop("choices")
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree))
    found = check_cohort(folder)
    assert not [one for one in found if "copy" in one.code or "duplicate" in one.code]


def test_three_thousand_vectors_take_less_than_three_seconds(tmp_path):
    start = time.process_time()
    simulate("trifactor", tmp_path / "a", {"subjects": 3000})
    assert time.process_time() - start < 3
