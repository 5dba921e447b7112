from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_targets import targets_of

from medmcl.core.errors import ConfigError
from medmcl.evaluation import label_subset


def make(kind, seed=0, subjects=80, missing=0.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, subjects, 160)
    if kind == "multiclass":
        values = rng.integers(0, 4, (160, 1))
    elif kind == "survival":
        values = rng.random((160, 2)) < 0.2
    else:
        values = rng.random((160, 3)) < 0.08
    classes = tuple("abcd") if kind == "multiclass" else ()
    return targets_of(kind, values, rng.random(values.shape) >= missing, classes=classes), codes


KINDS = st.sampled_from(["multilabel", "multiclass", "survival", "regression"])


@settings(max_examples=50, deadline=None)
@given(KINDS, st.integers(0, 5), st.sampled_from([0.01, 0.1, 0.5]), st.integers(0, 3))
def test_subsets_hold_whole_subjects_and_every_class(kind, seed, fraction, draw):
    targets, subjects = make(kind, seed, missing=0.2)
    rows = np.arange(0, 160, 2)
    chosen = label_subset(targets, subjects, rows, fraction, draw=draw)
    assert set(chosen) <= set(rows)
    assert (np.diff(chosen) > 0).all()
    labelled = rows[targets.known[rows].any(axis=1)]
    assert set(chosen) == {row for row in labelled if subjects[row] in set(subjects[chosen])}
    if kind == "regression":
        return
    for column in [1] if kind == "survival" else range(targets.values.shape[1]):
        known = labelled[targets.known[labelled, column]]
        for value in np.unique(targets.values[known, column]):
            have = set(subjects[known[targets.values[known, column] == value]])
            kept = have & set(subjects[chosen])
            assert len(kept) >= min(2, len(have))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.sampled_from([0.001, 0.02, 0.3]), st.integers(0, 3))
def test_a_column_of_a_regression_keeps_two_subjects_and_two_values_where_it_has_them(
    seed, fraction, draw
):
    rng = np.random.default_rng(seed)
    values = rng.choice([1.0, 1.0, 1.0, 1.0, 2.0], (40, 3))
    known = rng.random((40, 3)) < 0.3
    targets = targets_of("regression", values, known)
    subjects = rng.integers(0, 25, 40)
    chosen = label_subset(targets, subjects, np.arange(40), fraction, draw=draw)
    for column in range(3):
        have, kept = np.flatnonzero(known[:, column]), chosen[known[chosen, column]]
        assert len(set(subjects[kept])) >= min(2, len(set(subjects[have])))
        assert len(set(values[kept, column])) == len(set(values[have, column]))
    larger = label_subset(targets, subjects, np.arange(40), 0.5, draw=draw)
    assert set(chosen) <= set(larger)


@pytest.mark.parametrize("kind", ["multilabel", "multiclass", "survival", "regression"])
def test_two_subjects_are_kept_of_any_kind_even_if_all_are_of_one_class(kind):
    targets = targets_of(kind, np.ones((30, 2 if kind == "survival" else 1)))
    for per_class in (0, 1, 2):
        chosen = label_subset(targets, np.arange(30), np.arange(30), 0.001, min_per_class=per_class)
        assert len(chosen) == 2


@settings(max_examples=30, deadline=None)
@given(KINDS, st.integers(0, 5), st.integers(0, 3))
def test_smaller_fractions_lie_inside_larger_ones(kind, seed, draw):
    targets, subjects = make(kind, seed)
    rows = np.arange(160)
    sets = [set(label_subset(targets, subjects, rows, f, draw=draw)) for f in (0.01, 0.1, 0.4, 1.0)]
    assert sets[0] <= sets[1] <= sets[2] <= sets[3] == set(rows)


def test_the_share_is_the_one_asked_for_within_each_class():
    rng = np.random.default_rng(0)
    values = rng.random(4000) < 0.3
    targets = targets_of("binary", values)
    chosen = label_subset(targets, np.arange(4000), np.arange(4000), 0.1)
    assert len(chosen) == pytest.approx(400, abs=2)
    assert values[chosen].sum() == np.ceil(0.1 * values.sum())


def test_draws_differ_and_repeat():
    targets, subjects = make("multilabel")
    rows = np.arange(160)
    first = label_subset(targets, subjects, rows, 0.2, draw=0)
    assert (label_subset(targets, subjects, rows, 0.2, draw=0) == first).all()
    assert set(label_subset(targets, subjects, rows, 0.2, draw=1)) != set(first)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5])
def test_an_impossible_fraction_is_refused(fraction):
    targets, subjects = make("multilabel")
    with pytest.raises(ConfigError, match="fraction"):
        label_subset(targets, subjects, np.arange(160), fraction)


def test_no_labelled_row_gives_no_row():
    targets, subjects = make("multilabel", missing=1.1)
    assert len(label_subset(targets, subjects, np.arange(160), 0.1)) == 0


@pytest.mark.parametrize("draw", range(5))
def test_a_subject_of_two_classes_is_drawn_as_one_of_the_positive(draw):
    subjects = np.repeat(np.arange(10), 2)
    positive = (subjects < 6) & (np.arange(20) % 2 == 0)  # the first six have a record of each
    targets = targets_of("binary", positive[:, None])
    chosen = set(subjects[label_subset(targets, subjects, np.arange(20), 0.5, draw=draw)])
    assert sum(one < 6 for one in chosen) == 3
    assert len(chosen) == 5
