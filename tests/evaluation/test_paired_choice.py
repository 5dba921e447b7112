"""Paired choice: slow loops, known truth, ties, intervals over pairs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from medmcl.core.errors import ConfigError
from medmcl.evaluation import compare_choices, paired_choice, right_pairs
from medmcl.evaluation.metrics.intervals import Resampling

RNG = np.random.default_rng(0)
N = 60
PAIR = RNG.permutation(np.repeat(np.arange(N // 2), 2))
IMAGE = RNG.normal(size=(N, 6)) * RNG.uniform(0.1, 9, (N, 1))
TEXT = IMAGE + 12.0 * RNG.normal(size=(N, 6))
ATTRIBUTE = np.array(["colour", "place", "count"])[PAIR % 3]


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def slow(image, text, pair):
    """The rule as it is told: pair id to whether both statements choose their own image."""
    found = {}
    for i in range(len(pair)):
        for j in range(len(pair)):
            if i != j and pair[i] == pair[j]:
                chooses = cosine(text[i], image[i]) > cosine(text[i], image[j])
                found[pair[i]] = found.get(pair[i], True) and chooses
    return found


def by_target(rows, method="model"):
    return {row.target: row for row in rows if row.method == method and not row.versus}


def test_pairs_are_those_of_slow_loops():
    expected = slow(IMAGE, TEXT, PAIR)
    assert right_pairs(IMAGE, TEXT, PAIR).tolist() == list(expected.values())
    assert 0.2 < np.mean(list(expected.values())) < 0.8
    rows = by_target(paired_choice(IMAGE, TEXT, PAIR, ATTRIBUTE, resampling=Resampling(draws=100)))
    assert rows["overall"].value == pytest.approx(np.mean(list(expected.values())))
    assert rows["overall"].n == N // 2
    shares = {
        name: np.mean([expected[i] for i in range(N // 2) if ATTRIBUTE[i == PAIR][0] == name])
        for name in ("colour", "place", "count")
    }
    for name, share in shares.items():
        assert rows[name].value == pytest.approx(share)
        assert rows[name].n == 10
        assert "10 pairs: rough interval" in rows[name].note
    assert rows["macro"].value == pytest.approx(np.mean(list(shares.values())))
    assert rows["macro"].n == N // 2
    assert {row.direction for row in rows.values()} == {"higher"}


def test_attributes_of_unequal_size_weigh_alike_in_the_average():
    image = np.eye(10)
    text = np.eye(10)
    text[8:] = text[[9, 8]]  # the last pair chooses the wrong images
    rows = by_target(paired_choice(image, text, np.arange(10) // 2, ["a"] * 8 + ["b"] * 2))
    assert rows["overall"].value == pytest.approx(0.8)
    assert rows["macro"].value == pytest.approx(0.5)
    assert (rows["a"].value, rows["b"].value) == (1.0, 0.0)
    assert rows["b"].note == "one pair: no interval"
    assert rows["b"].low is None


def test_order_of_rows_and_length_of_embeddings_change_nothing():
    once = right_pairs(IMAGE, TEXT, PAIR)
    order = RNG.permutation(N)
    scale = RNG.uniform(0.01, 100, (N, 1))
    again = right_pairs((IMAGE * scale)[order], (TEXT / scale)[order], PAIR[order])
    first, now = (list(dict.fromkeys(ids)) for ids in (PAIR, PAIR[order]))
    assert dict(zip(first, once, strict=True)) == dict(zip(now, again, strict=True))
    names = np.array([f"p{99 - i}" for i in PAIR])
    assert (right_pairs(IMAGE, TEXT, names) == once).all()


def test_random_embeddings_are_right_in_a_quarter():
    generator = np.random.default_rng(1)
    count = 4000
    image, text = generator.normal(size=(2, 2 * count, 16))
    rows = paired_choice(image, text, np.arange(2 * count) // 2, resampling=Resampling(draws=200))
    row = by_target(rows)["overall"]
    assert row.value == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / count))
    assert row.high - row.low == pytest.approx(2 * 1.96 * np.sqrt(0.1875 / count), rel=0.2)
    assert by_target(rows, "chance")["overall"].value == 0.25


def test_a_model_that_sees_no_difference_is_right_in_none():
    same = RNG.normal(size=(30, 5))
    pair = np.arange(30) // 2
    assert not right_pairs(same[pair], same, pair).any()  # both images of a pair are one
    assert not right_pairs(same[pair] * RNG.uniform(0.1, 9, (30, 1)), same, pair).any()
    assert not right_pairs(same, same[pair], pair).any()  # both statements choose the same image


def test_rounding_of_float32_is_no_difference():
    """A record embedded in another batch differs by some 1e-7."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(N // 2, 6)).repeat(2, axis=0)
    text = rng.normal(size=(N, 6))
    rounded = image + rng.normal(size=image.shape) * 3e-8 * np.abs(image)
    assert not right_pairs(rounded, text, np.repeat(np.arange(N // 2), 2)).any()


def test_one_statement_of_a_pair_that_ties_makes_it_wrong():
    image = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert right_pairs(image, [[1, 0, 0], [0, 1, 0]], [0, 0]).tolist() == [True]
    assert right_pairs(image, [[1, 0, 0], [1, 1, 0]], [0, 0]).tolist() == [False]
    assert right_pairs(image, [[1, 0, 0], [0, 0, 1]], [0, 0]).tolist() == [False]


def test_intervals_are_those_of_drawn_pairs():
    right = right_pairs(IMAGE, TEXT, PAIR).astype(float)
    generator = np.random.default_rng(5)
    draws = [generator.choice(right, len(right)).mean() for _ in range(4000)]
    row = by_target(paired_choice(IMAGE, TEXT, PAIR, resampling=Resampling(draws=4000)))["overall"]
    assert [row.low, row.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.035)
    assert row.resampling == "pair"
    assert row.subjects == N // 2


def test_pairs_that_share_a_subject_are_drawn_together():
    copies = 6
    image, text = np.tile(IMAGE, (copies, 1)), np.tile(TEXT, (copies, 1))
    pair = np.concatenate([PAIR + 1000 * k for k in range(copies)])
    who = np.tile(PAIR, copies)
    alone = by_target(paired_choice(image, text, pair))["overall"]
    together = by_target(paired_choice(image, text, pair, resampling=Resampling(who)))["overall"]
    plain = by_target(paired_choice(IMAGE, TEXT, PAIR))["overall"]
    assert (together.value, together.subjects, together.n) == (alone.value, N // 2, copies * N // 2)
    assert together.high - together.low == pytest.approx(plain.high - plain.low, abs=0.05)
    assert together.high - together.low > 1.8 * (alone.high - alone.low)


def test_a_chain_of_subjects_is_one_unit_and_rows_of_their_own_are_none():
    # pair 0 has subjects a and b, pair 1 b and c, pair 2 d and e
    chain = Resampling(["a", "b", "b", "c", "d", "e"])
    rows = by_target(paired_choice(IMAGE[:6], TEXT[:6], [0, 0, 1, 1, 2, 2], resampling=chain))
    assert rows["overall"].subjects == 2
    alone = Resampling(np.arange(N))
    own = by_target(paired_choice(IMAGE, TEXT, PAIR, resampling=alone))["overall"]
    default = by_target(paired_choice(IMAGE, TEXT, PAIR))["overall"]
    assert own == default


def test_whole_sites_are_drawn_where_they_are_given():
    sites = np.array([f"site {i}" for i in PAIR % 6])
    whole = Resampling(np.arange(N), clusters=sites)
    row = by_target(paired_choice(IMAGE, TEXT, PAIR, resampling=whole))["overall"]
    assert row.resampling == "site"
    assert "6 sites: rough interval" in row.note
    one = Resampling(clusters=["one"] * N)
    few = by_target(paired_choice(IMAGE, TEXT, PAIR, resampling=one))["overall"]
    assert "1 site: too few for an interval by site" in few.note
    assert few.low is None


def test_later_models_are_compared_with_the_first_in_the_same_draws():
    better = IMAGE + 0.5 * RNG.normal(size=IMAGE.shape)
    models = {"base": (IMAGE, TEXT), "same": (IMAGE, TEXT), "better": (IMAGE, better)}
    rows = compare_choices(
        models, PAIR, ATTRIBUTE, task="squares", resampling=Resampling(draws=500)
    )
    values = {(row.method, row.target): row.value for row in rows if not row.versus}
    gaps = {(row.method, row.target): row for row in rows if row.versus}
    assert {row.versus for row in gaps.values()} == {"base"}
    assert {name for name, _ in gaps} == {"same", "better"}
    for (name, target), row in gaps.items():
        assert row.value == pytest.approx(values[name, target] - values["base", target])
        assert row.task == "squares"
    same = gaps["same", "overall"]
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    ours = right_pairs(IMAGE, better, PAIR).astype(float) - right_pairs(IMAGE, TEXT, PAIR)
    draws = [RNG.choice(ours, len(ours)).mean() for _ in range(4000)]
    row = gaps["better", "overall"]
    assert row.low > 0
    assert [row.low, row.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.05)


def test_models_of_other_widths_are_compared():
    wide = (np.concatenate([IMAGE, IMAGE], 1), np.concatenate([TEXT, TEXT], 1))
    rows = compare_choices({"base": (IMAGE, TEXT), "wide": wide}, PAIR)
    assert next(row for row in rows if row.versus).value == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pair": [0, 0, 1]}, "1 pairs have not two rows"),
        ({"pair": [0, 0, 1, 0]}, "pair 0 with 3"),
        ({"pair": [0, 0, None, 1]}, "ids of pairs must have one entry a row.*1 missing"),
        ({"pair": [[0, 0], [1, 1]]}, "ids of pairs must have one entry a row"),
        ({"image": [[1, 0], [0, np.nan], [1, 0], [0, 1]]}, "1 rows of image are not finite"),
        ({"text": [[1, 0], [0, 1], [0, 0], [0, 1]]}, "1 rows of text are not finite or of length"),
        ({"text": np.eye(4)}, "compared in one space"),
        ({"text": np.eye(2)}, "one row for each pair id"),
        ({"attribute": ["a", "b", "c", "c"]}, "pair 7: a and b"),
        ({"attribute": ["a", "a", None, None]}, "attributes must have one entry a row.*2 missing"),
        ({"attribute": ["a", "a"]}, r"attributes.* shape \(2,\).*expected.*\(4,\)"),
        ({"attribute": ["a", "a", "macro", "macro"]}, "called 'macro'"),
        ({"resampling": Resampling([0, 1])}, "subjects must have one entry a row"),
        ({"resampling": Resampling([0.0, 1.0, np.nan, 2.0])}, "subjects must have one entry a row"),
        ({"resampling": Resampling(clusters=["x"])}, "clusters must have one entry a row"),
    ],
)
def test_what_is_refused(change, said):
    given = {"image": [[1, 0], [0, 1], [1, 0], [0, 1]], "text": [[1, 0], [0, 1], [1, 0], [0, 1]],
             "pair": [7, 7, 8, 8], **change}  # fmt: skip
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        paired_choice(**given)


def test_no_model_is_refused():
    with pytest.raises(ConfigError, match="no model"):
        compare_choices({}, PAIR)


def test_a_share_of_none_or_all_has_an_interval_with_width():
    eye, pair = np.eye(20), np.arange(20) // 2
    wrong = eye[[1, 0, *range(2, 20)]]
    rows = compare_choices(
        {"none": (eye, eye[::-1]), "all": (eye, eye)}, pair, resampling=Resampling(draws=100)
    )
    none, every = (by_target(rows, name)["overall"] for name in ("none", "all"))
    # Wilson of 0 of 10, by hand: z^2 / (n + z^2)
    assert (none.low, none.high) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert (every.low, every.high) == pytest.approx((10 / 13.8415, 1), abs=1e-4)
    assert "all pairs alike: Wilson interval" in none.note
    gap = next(row for row in rows if row.versus)
    assert (gap.value, gap.low, gap.high) == (1, None, None)  # every draw gives 1
    row = by_target(paired_choice(eye, wrong, pair))["overall"]
    assert row.value == pytest.approx(0.9)
    assert "Wilson" not in row.note
