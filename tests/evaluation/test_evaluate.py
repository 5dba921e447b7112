from __future__ import annotations

import numpy as np
import pytest

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.evaluation import METRICS, evaluate_embeddings

N = 300
RNG = np.random.default_rng(0)
SPLIT = np.array(["train"] * 180 + ["tuning"] * 50 + ["held_out"] * 70)
SUBJECTS = np.arange(N)
Z = RNG.normal(size=(N, 3))
GOOD = Z + 0.2 * RNG.normal(size=(N, 3))
BAD = RNG.normal(size=(N, 3))


def make(kind):
    noise = 0.3 * RNG.normal(size=(N, 3))
    columns, classes = ("a", "b", "c"), ()
    if kind == "regression":
        values = Z + noise
    elif kind == "multilabel":
        values = (Z + noise > 0.5).astype(float)
    elif kind == "survival":
        values = np.stack([RNG.exponential(np.exp(-2 * Z[:, 0])), RNG.random(N) < 0.6], axis=1)
        columns = ("time", "event")
    elif kind == "multiclass":
        values, columns, classes = (Z[:, :1] > 0) + 0.0, ("g",), ("low", "high")
    else:
        values, columns = (Z[:, :1] > 0.5).astype(float), ("y",)
    known = np.ones(values.shape, bool)
    return Targets(
        name="t", kind=kind, columns=columns, classes=classes, values=values, known=known
    )


def fast(features, targets, **kwargs):
    options = {"bootstrap_draws": 60, "cross_validate": False, "draws": 2, **kwargs}
    split = options.pop("split", SPLIT)
    return evaluate_embeddings(features, targets, split, SUBJECTS, **options)


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_every_kind_gives_finite_rows_and_a_paired_gain(kind):
    rows = fast({"good": GOOD, "bad": BAD}, make(kind), fractions=(0.2, 1.0), baseline="bad")
    basic = [row for row in rows if row.label_fraction == 0.2]
    assert {row.metric for row in basic} == set(METRICS[kind])
    assert {row.metric for row in rows} >= set(METRICS[kind])
    assert {row.label_fraction for row in rows} == {0.2, 1.0}
    assert all(row.value is not None and row.low is not None for row in rows)
    assert {row.seeds for row in rows if row.label_fraction == 0.2} == {2}
    first = METRICS[kind][0]
    gains = [r for r in rows if r.versus and r.metric == first and r.label_fraction == 1]
    assert gains
    assert all(row.method == "good" and row.versus == "bad" for row in gains)
    assert gains[0].low > 0
    values = {r.method: r.value for r in rows if r.target == gains[0].target and not r.versus
              and r.metric == first and r.label_fraction == 1}  # fmt: skip
    assert gains[0].value == pytest.approx(values["good"] - values["bad"])


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_shuffled_held_out_outcomes_do_not_change_predictions_but_end_the_skill(kind):
    targets = make(kind)
    values = targets.values.copy()
    held = np.flatnonzero(SPLIT == "held_out")
    values[held] = values[np.random.default_rng(1).permutation(held)]
    cheat = Targets(
        name="t", kind=kind, columns=targets.columns, classes=targets.classes, values=values,
        known=targets.known,
    )  # fmt: skip
    rows = fast({"good": GOOD}, cheat)
    first = rows[0]
    assert first.metric == METRICS[kind][0]
    chance = 0.0 if kind == "regression" else 0.5
    assert first.value < chance + 0.2


def test_all_methods_are_scored_on_the_rows_that_all_have():
    present = {"bad": SUBJECTS % 2 == 0}
    rows = fast({"good": GOOD, "bad": BAD}, make("binary"), present=present)
    assert {row.n for row in rows} == {35}
    assert all("35 labelled rows lack" in row.note for row in rows if not row.versus)


def test_given_predictions_are_scored_as_they_are_and_compared():
    targets = make("binary")
    scores = np.zeros((N, 1))
    held = SPLIT == "held_out"
    scores[held] = targets.values[held]
    rows = fast({"good": GOOD}, targets, fractions=(0.2, 1.0), predictions={("tuned", 0.2): scores})
    tuned = next(row for row in rows if row.method == "tuned" and row.metric == "auroc")
    assert (tuned.value, tuned.protocol, tuned.label_fraction) == (1.0, "fine_tune", 0.2)
    gain = [row for row in rows if row.method == "tuned" and row.versus == "good"]
    assert {row.label_fraction for row in gain} == {0.2}
    alone = fast({}, targets, predictions={"tuned": [scores, scores]})
    assert {row.seeds for row in alone} == {2}


def test_scores_that_are_no_probabilities_have_no_brier_score():
    rows = fast({}, make("binary"), predictions={"zero-shot": 5 * GOOD[:, :1]})
    found = {row.metric: row for row in rows}
    assert found["auroc"].value > 0.8
    assert found["brier"].value is None
    assert "not probabilities" in found["brier"].note


def test_small_cohorts_are_cross_validated_by_subject():
    rows = evaluate_embeddings(
        {"good": GOOD[:80], "bad": BAD[:80]}, make("binary").take(np.arange(80)), SPLIT[:80],
        SUBJECTS[:80] // 2, bootstrap_draws=50,
    )  # fmt: skip
    assert all("5 x 5-fold" in row.protocol and row.split == "cross-validation" for row in rows)
    assert {row.n for row in rows} == {80}
    assert {row.subjects for row in rows} == {40}


def test_predictions_beside_cross_validation_are_scored_on_held_out_only():
    targets = make("binary")
    guess = np.where(SPLIT[:, None] == "held_out", 0.5, targets.values)  # perfect on train
    rows = fast({"good": GOOD}, targets, cross_validate=True, predictions={"tuned": guess})
    tuned = [row for row in rows if row.method == "tuned" and row.metric == "auroc"]
    assert tuned[0].value == 0.5
    assert {row.n for row in tuned} == {70}
    assert {row.split for row in tuned} == {"held_out"}


@pytest.mark.parametrize("kind", sorted(METRICS))
def test_no_outcome_in_the_scored_split_is_stated_not_nan(kind):
    targets = make(kind)
    known = targets.known.copy()
    known[SPLIT == "held_out"] = False
    bare = Targets(
        name="t", kind=kind, columns=targets.columns, classes=targets.classes,
        values=targets.values * known, known=known,
    )  # fmt: skip
    rows = fast({"good": GOOD}, bare)
    assert rows
    assert all(row.value is None and row.note for row in rows)


def test_one_class_in_the_scored_split_is_stated():
    targets = make("binary")
    values = targets.values.copy()
    values[SPLIT == "held_out"] = 0
    flat = Targets(name="t", kind="binary", columns=("y",), values=values, known=targets.known)
    found = {row.metric: row for row in fast({"good": GOOD}, flat)}
    assert found["auroc"].value is None
    assert "one class" in found["auroc"].note
    assert found["brier"].value is not None


def test_training_seeds_are_averaged_with_their_spread():
    rows = fast({"good": [GOOD, GOOD[:, ::-1].copy()], "bad": [BAD, BAD]}, make("binary"))
    assert {row.seeds for row in rows} == {2}


def test_a_missing_tuning_split_is_replaced_and_noted():
    split = np.where(SPLIT == "tuning", "train", SPLIT)
    rows = fast({"good": GOOD}, make("binary"), split=split)
    assert all("no tuning split" in row.note for row in rows)


def test_unknown_protocols_and_wrong_lengths_are_refused():
    with pytest.raises(ConfigError, match="linear_probe"):
        fast({"good": GOOD}, make("binary"), protocol="linear_prob")
    with pytest.raises(ValueError, match="rows"):
        fast({"good": GOOD[:10]}, make("binary"))
    with pytest.raises(ValueError, match="columns"):
        fast({"good": GOOD}, make("binary"), predictions={"p": [GOOD[:, 0]]})


def test_the_same_seed_gives_the_same_rows():
    options = {"fractions": (0.2,), "seed": 3}
    first = fast({"good": GOOD}, make_once := make("binary"), **options)
    assert fast({"good": GOOD}, make_once, **options) == first


def test_folds_without_both_classes_are_not_estimable_and_not_an_auroc_of_zero():
    values = np.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
    targets = Targets(
        name="rare", kind="binary", columns=("rare",), values=values, known=np.ones((5, 1), bool)
    )
    features = {"a": np.random.default_rng(0).normal(size=(5, 3)), "b": np.eye(5)[:, :3]}
    rows = evaluate_embeddings(
        features, targets, np.array(["train"] * 4 + ["held_out"]), np.arange(5), bootstrap_draws=100
    )
    assert rows
    assert all(row.value is None and "not estimable" in row.note for row in rows)
    assert not [row for row in rows if row.versus]
