"""Prediction from any subset of modalities."""

from __future__ import annotations

import numpy as np
import pytest
from made_targets import targets_of as make
from scipy.special import expit, logit

from medmcl.core.errors import ConfigError
from medmcl.evaluation.models.fusion import FUSIONS, fuse
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.together import Together

N, D = 400, 4
TRAIN, TUNING, TEST = np.arange(200), np.arange(200, 300), np.arange(300, N)
NAMES = ("a", "b", "c")


def world(seed=0, rows=N, noise=1.0, *, shares_space=True):
    """One hidden number, three modalities that know it, each absent for a third."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=rows)
    ways = [rng.normal(size=D) for _ in NAMES]
    vectors = {
        name: state[:, None] * (ways[0] if shares_space else way)
        + noise * rng.normal(size=(rows, D))
        for name, way in zip(NAMES, ways, strict=True)
    }
    present = {name: rng.random(rows) < 2 / 3 for name in NAMES}
    return state, Together(vectors=vectors, present=present)


def targets_of(kind, state, seed=1):
    rng = np.random.default_rng(seed)
    noisy = state + 0.5 * rng.normal(size=len(state))
    if kind == "survival":
        time = rng.exponential(np.exp(-noisy))
        values = np.stack([np.minimum(time, 1.0) + 0.01, time < 1.0], axis=1)
        return make(kind, values)
    if kind == "multiclass":
        return make(kind, np.digitize(noisy, [-0.5, 0.5]))
    if kind == "regression":
        return make(kind, np.stack([noisy, -2 * noisy + 5], axis=1))
    if kind == "multilabel":
        known = rng.random((len(state), 2)) < 0.8
        return make(kind, np.stack([noisy > 0, noisy > 1], axis=1), known)
    return make(kind, noisy > 0.3)


KINDS = ("binary", "multilabel", "multiclass", "regression", "survival")


def rows_of(together):
    has = together.any
    return [part[has[part]] for part in (TRAIN, TUNING, TEST)]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_absent_content_changes_no_prediction_bit_for_bit(fusion, kind):
    state, together = world()
    targets = targets_of(kind, state)
    train, tuning, test = rows_of(together)
    found = []
    for fill in (0.0, np.nan, 1e30):
        vectors = {
            name: np.where(together.present[name][:, None], x, fill)
            for name, x in together.vectors.items()
        }
        fused = fuse(Together(vectors=vectors, present=together.present), fusion)
        both = np.concatenate([train, tuning])
        fitted = fused.fit(fused.features, targets, train, tuning, refit_on=both)
        said = [fitted.predict(fused.features[test])]
        said += [fitted.predict(one.features(test)) for one in fused.variants]
        if fitted.survival is not None:
            said.append(fitted.survival(fused.features[test], np.array([0.2, 0.6])))
        found.append(said)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_more_modalities_say_more_and_any_subset_says_something(fusion, kind):
    """Rank correlation with the hidden state: all > one; and one is well above chance."""
    state, together = world(seed=2, rows=900, shares_space=fusion == "mean")
    targets = targets_of(kind, state)
    has = together.flags.sum(axis=1)
    train = np.flatnonzero(has[:500] > 0)
    tuning = 500 + np.flatnonzero(has[500:600] > 0)
    test = 600 + np.flatnonzero(has[600:] == 3)
    fused = fuse(together, fusion)
    fitted = fused.fit(fused.features, targets, train, tuning)

    def score(features):
        said = fitted.predict(features)
        said = said[:, -1] if kind == "multiclass" else said[:, 0]
        return np.corrcoef(np.argsort(np.argsort(said)), np.argsort(np.argsort(state[test])))[0, 1]

    whole = score(fused.features[test])
    alone = [score(v.features(test)) for v in fused.variants if v.name.startswith("only")]
    assert len(alone) == 3
    assert whole > max(alone) - 0.03
    assert whole > np.mean(alone) + 0.02
    assert min(alone) > 0.4


def test_the_mean_is_what_a_slow_loop_gives():
    _, together = world(rows=30)
    expected = np.zeros((30, D))
    for row in range(30):
        units = [x[row] / np.linalg.norm(x[row]) for n, x in together.vectors.items()
                 if together.present[n][row]]  # fmt: skip
        if units:
            mean = np.mean(units, axis=0)
            expected[row] = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(together.mean(), expected, atol=1e-12)


def test_variants_are_the_same_rows_with_less():
    _, together = world()
    for fusion in FUSIONS:
        fused = fuse(together, fusion)
        assert [v.name for v in fused.variants] == [
            *(f"only {n}" for n in NAMES),
            *(f"without {n}" for n in NAMES),
        ]
        for variant in fused.variants:
            flags = {n: x & (n in variant.modalities) for n, x in together.present.items()}
            less = Together(vectors=together.vectors, present=flags)
            rows = np.flatnonzero(variant.has)
            np.testing.assert_array_equal(variant.features(rows), fuse(less, fusion).features[rows])
            assert less.any[rows].all()
            changed = (less.flags != together.flags).any(axis=1)
            assert changed[rows].all()


def slow_product(together, targets, train, tuning, row):
    """Log odds by hand: prior + sum of (expert - its own prior), before calibration."""
    y = targets.values[:, 0]
    total = logit(y[train].mean())
    for name, x in together.vectors.items():
        own = train[together.present[name][train]]
        judged = tuning[together.present[name][tuning]]
        expert = linear_probe(x, targets, own, judged)
        if together.present[name][row]:
            total += logit(expert.predict(x[row : row + 1])[0, 0]) - logit(y[own].mean())
    return total


def test_a_product_of_experts_adds_log_odds_with_the_prior_once():
    state, together = world()
    targets = targets_of("binary", state)
    train, tuning, test = rows_of(together)
    fused = fuse(together, "product_of_experts")
    fitted = fused.fit(fused.features, targets, train, tuning)
    said = logit(fitted.predict(fused.features[test[:12]])[:, 0])
    by_hand = np.array([slow_product(together, targets, train, tuning, row) for row in test[:12]])
    slope, intercept = np.polyfit(by_hand, said, 1)
    np.testing.assert_allclose(said, slope * by_hand + intercept, atol=1e-8)
    assert 0.3 < slope <= 1.1
    uncalibrated = fused.fit(fused.features, targets, train, tuning[:0])
    plain = logit(uncalibrated.predict(fused.features[test[:12]])[:, 0])
    again = [slow_product(together, targets, train, tuning[:0], row) for row in test[:12]]
    np.testing.assert_allclose(plain, again, atol=1e-8)


def test_independent_experts_reach_the_posterior_that_bayes_gives():
    """Class-conditional normals, independent given the class: log odds are known."""
    rng = np.random.default_rng(0)
    rows, share = 6000, 0.25
    y = rng.random(rows) < share
    shifts = {"a": 1.0, "b": 1.5, "c": -0.8}
    vectors = {n: (y * s + rng.normal(size=rows))[:, None] for n, s in shifts.items()}
    present = {n: rng.random(rows) < 0.6 for n in shifts}
    together = Together(vectors=vectors, present=present)
    fused = fuse(together, "product_of_experts")
    targets = make("binary", y)
    has = np.flatnonzero(together.any)
    train, tuning, test = has[has < 3500], has[(has >= 3500) & (has < 4500)], has[has >= 4500]
    fitted = fused.fit(fused.features, targets, train, tuning)
    truth = np.full(rows, logit(share))
    for name, shift in shifts.items():
        truth += present[name] * (shift * vectors[name][:, 0] - shift**2 / 2)
    gap = fitted.predict(fused.features[test])[:, 0] - expit(truth[test])
    assert np.abs(gap).mean() < 0.025
    assert abs(gap.mean()) < 0.02


def test_correlated_experts_are_calibrated_on_tuning():
    """Three copies of one modality are thrice too sure before calibration, not after."""
    rng = np.random.default_rng(0)
    y = rng.random(8000) < 0.4
    x = (1.2 * y + rng.normal(size=8000))[:, None]
    here = np.ones(8000, dtype=bool)
    together = Together(vectors=dict.fromkeys(NAMES, x), present=dict.fromkeys(NAMES, here))
    fused = fuse(together, "product_of_experts")
    targets = make("binary", y)
    train, tuning, test = np.arange(3000), np.arange(3000, 7000), np.arange(7000, 8000)
    one = linear_probe(x, targets, train, tuning).predict(x[test])
    three = fused.fit(fused.features, targets, train, tuning).predict(fused.features[test])
    sure = fused.fit(fused.features, targets, train, tuning[:0]).predict(fused.features[test])
    assert np.abs(three - one).mean() < 0.03
    assert np.abs(sure - one).mean() > 0.1


def test_gaussian_experts_are_weighted_by_their_precision():
    """Independent readings of a normal number: the posterior mean is known."""
    rng = np.random.default_rng(0)
    y = 3 + 2 * rng.normal(size=4000)
    noise = {"a": 1.0, "b": 2.0}
    vectors = {n: (y + s * rng.normal(size=4000))[:, None] for n, s in noise.items()}
    present = {"a": rng.random(4000) < 0.7, "b": rng.random(4000) < 0.7}
    together = Together(vectors=vectors, present=present)
    fused = fuse(together, "product_of_experts")
    has = np.flatnonzero(together.any)
    train, tuning, test = has[has < 2500], has[(has >= 2500) & (has < 3200)], has[has >= 3200]
    fitted = fused.fit(fused.features, make("regression", y), train, tuning)
    weight, total = np.full(4000, 1 / 4.0), np.full(4000, 3 / 4.0)
    for name, sigma in noise.items():
        weight += present[name] / sigma**2
        total += present[name] * vectors[name][:, 0] / sigma**2
    np.testing.assert_allclose(
        fitted.predict(fused.features[test])[:, 0], (total / weight)[test], atol=0.25
    )
    assert fitted.model is None


@pytest.mark.parametrize("fusion", ["product_of_experts", "learned"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "survival"])
def test_what_is_kept_predicts_the_same(fusion, kind):
    state, together = world()
    targets = targets_of(kind, state)
    train, tuning, test = rows_of(together)
    fused = fuse(together, fusion)
    fitted = fused.fit(fused.features, targets, train, tuning)
    again = type(fitted.model).of(fitted.model.link, fitted.model.arrays())
    x = fused.features[test]
    np.testing.assert_array_equal(fitted.predict(x), again.predict(x))


def test_modality_dropout_helps_where_a_modality_goes_that_was_never_missing():
    """Everybody has everything in train; predicted from one modality alone."""
    state, together = world(rows=900, noise=0.6)
    here = np.ones(900, dtype=bool)
    together = Together(vectors=together.vectors, present=dict.fromkeys(NAMES, here))
    targets = targets_of("binary", state)
    train, tuning, test = np.arange(500), np.arange(500, 600), np.arange(600, 900)
    fused = fuse(together, "learned")
    ours = fused.fit(fused.features, targets, train, tuning)
    plain = linear_probe(fused.features, targets, train, tuning)

    def loss(fitted, features):
        p = np.clip(fitted.predict(features)[:, 0], 1e-12, 1 - 1e-12)
        y = targets.values[test, 0]
        return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))

    only = [v.features(test) for v in fused.variants if v.name.startswith("only")]
    assert np.mean([loss(ours, x) for x in only]) < np.mean([loss(plain, x) for x in only])
    assert loss(ours, fused.features[test]) < loss(plain, fused.features[test]) + 0.05


def test_a_modality_that_nobody_has_in_train_says_nothing():
    state, together = world()
    nobody = together.present | {"c": together.present["c"] & (np.arange(N) >= 300)}
    together = Together(vectors=together.vectors, present=nobody)
    train, tuning, test = rows_of(together)
    for kind in KINDS:
        targets = targets_of(kind, state)
        for fusion in ("product_of_experts", "learned"):
            fused = fuse(together, fusion)
            fitted = fused.fit(fused.features, targets, train, tuning)
            assert np.isfinite(fitted.predict(fused.features[test])).all(), (kind, fusion)


def test_widths_that_share_no_space_have_no_mean():
    x = {"a": np.ones((2, 3)), "b": np.ones((2, 4))}
    with pytest.raises(ConfigError, match="a 3, b 4"):
        fuse(Together(vectors=x, present=dict.fromkeys(x, np.ones(2, dtype=bool))), "mean")


def test_a_row_of_one_modality_counts_once_in_training(monkeypatch):
    """What lost nothing by dropout would be fitted twice, and weigh double."""
    state, together = world()
    train, tuning, _ = rows_of(together)
    given = []

    def noted(features, targets, train, tuning, **more):
        given.extend([train, tuning])
        return linear_probe(features, targets, train, tuning, **more)

    monkeypatch.setattr("medmcl.evaluation.models.fusion.linear_probe", noted)
    fused = fuse(together, "learned")
    fused.fit(fused.features, targets_of("binary", state), train, tuning)
    several = np.sum(list(together.present.values()), axis=0) > 1
    for rows, asked in zip(given, (train, tuning), strict=True):
        assert sorted(rows) == sorted([*asked, *(N + asked[several[asked]])])
    assert 0 < several[train].sum() < len(train)
