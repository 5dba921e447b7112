"""What experts take, a study of benchmarks: against loops, and nothing of few people is named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.experts.taken import against_even, can_cut, cut, surest, taken_words
from medmcl.core.batch import InputShape

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def tokens(seed=0, count=600):
    rng = np.random.default_rng(seed)
    number = rng.integers(4, 16, count)
    expert = np.where(rng.random(count) < 0.6, number % 4, rng.integers(-1, 4, count))
    return expert, number, rng.integers(0, 30, count)


def slowly(expert, number, subject, most, fewest):
    """Words of each expert, counted token by token."""
    taken = [(e, w, s) for e, w, s in zip(expert, number, subject, strict=True) if e >= 0]
    found, hidden = {}, 0
    for e in sorted({one[0] for one in taken}):
        own = []
        of_e = [one for one in taken if one[0] == e]
        for w in sorted({one[1] for one in of_e}):
            here = [one for one in of_e if one[1] == w]
            base = sum(one[1] == w for one in taken) / len(taken)
            lift = len(here) / len(of_e) / base
            if lift <= 1:
                continue
            if len({one[2] for one in here}) < fewest:
                hidden += 1
                continue
            own.append((-len(here) * math.log(lift), w, len(here), lift,
                        len(here) / sum(one[1] == w for one in taken)))  # fmt: skip
        found[e] = sorted(own)[:most]
    return found, hidden


def test_words_are_those_of_a_loop_over_tokens():
    expert, number, subject = tokens()
    for most, fewest in ((3, 5), (99, 12), (2, 1)):
        found, hidden = taken_words(expert, number, subject, most=most, fewest=fewest)
        want, unnamed = slowly(expert, number, subject, most, fewest)
        assert hidden == unnamed
        for e, words in want.items():
            own = [one for one in found if one.expert == e]
            assert [one.number for one in own] == [w for _, w, *_ in words]
            for one, (_, _, count, lift, of_word) in zip(own, words, strict=True):
                np.testing.assert_allclose((one.tokens, one.lift, one.of_word),
                                           (count, lift, of_word))  # fmt: skip


def test_a_word_of_few_people_is_not_named_however_often_it_stands():
    number = np.array([7] * 400 + [8] * 100)
    expert = np.array([0] * 400 + [1] * 100)
    subject = np.concatenate([np.arange(400) % 4, np.arange(100)])
    found, hidden = taken_words(expert, number, subject, most=9)
    assert [one.number for one in found] == [8]
    assert hidden == 1
    found, hidden = taken_words(expert, number, np.arange(500) % 5, most=9)
    assert [(one.number, hidden) for one in found] == [(7, 0), (8, 0)]


def test_without_tokens_there_are_no_words():
    nothing = np.zeros(0, dtype=np.int64)
    assert taken_words(nothing, nothing, nothing, most=3) == ([], 0)
    assert taken_words(np.array([-1]), np.array([4]), np.array([0]), most=3) == ([], 0)


def test_the_surest_tokens_are_one_a_person():
    rng = np.random.default_rng(2)
    expert, gate = rng.integers(-1, 3, (20, 6)), rng.random((20, 6)).round(2)
    subject = np.arange(20) // 2
    found = surest(expert, gate, subject, most=4)
    assert set(found) == {0, 1, 2}
    for e, places in found.items():
        want, people = [], set()
        ranked = sorted((-gate[r, t], r, t) for r in range(20) for t in range(6)
                        if expert[r, t] == e)  # fmt: skip
        for _, row, token in ranked:
            if subject[row] not in people and len(want) < 4:
                want.append((row, token))
                people.add(subject[row])
        assert places == want


def test_a_patch_lies_in_the_middle_of_its_neighbours():
    image = np.arange(8 * 12, dtype=np.float64).reshape(1, 8, 12)
    shape = InputShape(kind="image", shape=image.shape, names=("grey",))
    low, high = np.quantile(image, [0.01, 0.99])
    scaled = np.clip((image[0] - low) / (high - low), 0, 1)
    for token in range(6):
        row, column = divmod(token, 3)
        piece, names = cut(image, shape, (2, 3), token)
        assert piece.shape == (12, 12)
        assert names == ()
        for r in range(12):
            for c in range(12):
                y, x = (row - 1) * 4 + r, (column - 1) * 4 + c
                if 0 <= y < 8 and 0 <= x < 12:
                    assert piece[r, c] == scaled[y, x]
                else:
                    assert np.isnan(piece[r, c])


def test_colours_stay_and_of_frames_the_last_is_shown():
    rng = np.random.default_rng(0)
    x = rng.random((3, 8, 8))
    colour = InputShape(kind="image", shape=x.shape, names=("red", "green", "blue"))
    frames = InputShape(kind="cmr", shape=x.shape, names=("0", "1", "2"))
    assert cut(x, colour, (2, 2), 0)[0].shape == (12, 12, 3)
    piece = cut(x, frames, (2, 2), 0)[0]
    low, high = np.quantile(x[-1], [0.01, 0.99])
    np.testing.assert_allclose(piece[4:, 4:], np.clip((x[-1] - low) / (high - low), 0, 1))


@pytest.mark.parametrize(("grid", "token", "leads"), [
    ((1, 5), 3, ("II", "V1", "V5")),
    ((12, 5), 5 * 7 + 3, ("V2",)),
    ((4, 5), 5 * 2 + 3, ("V1", "V2", "V3")),
])  # fmt: skip
def test_a_stretch_has_the_leads_and_samples_of_its_token(grid, token, leads):
    x = np.arange(12)[:, None] * 1000.0 + np.arange(50)
    shape = InputShape(kind="ecg", shape=x.shape, names=LEADS)
    piece, names = cut(x, shape, grid, token)
    assert names == leads
    for own, lead in zip(piece, leads, strict=True):
        np.testing.assert_array_equal(own, x[LEADS.index(lead), 20:50])
    first, _ = cut(x, shape, grid, 0)
    assert np.isnan(first[:, :10]).all()
    assert np.isfinite(first[:, 10:]).all()


def test_what_does_not_lie_in_a_plane_is_not_cut():
    volume = InputShape(kind="image", shape=(1, 4, 8, 8))
    assert not can_cut(volume, (2, 2, 2))
    assert not can_cut(InputShape(kind="text", shape=(9,), vocabulary=4), (9,))
    assert not can_cut(InputShape(kind="image", shape=(1, 8, 8)), None)
    assert not can_cut(InputShape(kind="image", shape=(1, 9, 8)), (2, 2))
    assert can_cut(InputShape(kind="image", shape=(1, 8, 8)), (2, 4))
    assert can_cut(InputShape(kind="ecg", shape=(12, 50)), (1, 5))


def test_a_mean_gate_is_set_beside_an_even_one():
    assert against_even("It", 0.13, 8).endswith("means little.")
    assert "means little" not in against_even("It", 0.05, 8)  # experts chose, or a bias did
    assert against_even("It", 0.5, 8) == "It is 0.500; even gates are 0.125."
    for gate in np.linspace(1 / 8, 1.25 / 8, 5, endpoint=False):  # whatever the others are
        left, rest = 1.0, []
        while left > 1e-12:
            rest.append(min(gate, left))
            left -= rest[-1]
        assert 1 + sum(p * math.log(p) for p in rest) / math.log(8) <= math.log(1.25) / math.log(8)
