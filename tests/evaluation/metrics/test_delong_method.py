from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.evaluation.metrics.delong_method import AUC, AUCDifference, delong
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.predictions import auroc

ASAH = Path(__file__).parent / "published" / "asah.csv"


@pytest.fixture(scope="module")
def asah():
    return pd.read_csv(ASAH)


@pytest.mark.parametrize(
    ("name", "value", "variance"),
    [
        ("wfns", 0.8236789, 0.00146991470882363),
        ("ndka", 0.611957994579946, 0.0031908105493913),
        ("s100b", 0.7313686, 0.00266868245717244),
    ],
)
def test_areas_and_variances_are_those_that_proc_publishes(asah, name, value, variance):
    found = delong(asah["poor"], asah[name])
    assert found.value == pytest.approx(value, abs=1e-7)
    assert found.se**2 == pytest.approx(variance, rel=1e-10)


def test_the_plain_interval_is_the_one_that_proc_publishes(asah):
    found = delong(asah["poor"], asah["ndka"], scale="plain")
    assert (found.low, found.high) == pytest.approx((0.501244999271703, 0.722670989888189))


@pytest.mark.parametrize(
    ("a", "b", "z", "p", "low", "high"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882,
         0.0104061769564846, 0.174214419249478),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098,
         0.0634011709339876, 0.3600405634833566),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054,
         -0.2876917446341914, 0.0488706064228094),
    ],
)  # fmt: skip
def test_paired_differences_are_those_that_proc_publishes(asah, a, b, z, p, low, high):
    found = delong(asah["poor"], asah[a], asah[b])
    assert isinstance(found, AUCDifference)
    assert (found.z, found.p) == pytest.approx((z, p))
    assert (found.low, found.high) == pytest.approx((low, high))


def slow(y, scores):
    """Areas and covariance by the definition: every pair."""
    ones, zeros = np.flatnonzero(y), np.flatnonzero(1 - y)
    over = [
        np.array([[(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for j in zeros] for i in ones])
        for s in scores
    ]
    v10 = np.array([kernel.mean(axis=1) for kernel in over])
    v01 = np.array([kernel.mean(axis=0) for kernel in over])
    covariance = np.cov(v10) / len(ones) + np.cov(v01) / len(zeros)
    return v10.mean(axis=1), covariance


def test_the_fast_form_equals_the_definition_with_ties():
    rng = np.random.default_rng(0)
    y = (rng.random(60) < 0.4).astype(int)
    scores = np.round(rng.normal(size=(2, 60)) + y, 1)
    values, covariance = slow(y, scores)
    found = delong(y, *scores)
    assert (found.a.value, found.b.value) == pytest.approx(tuple(values))
    assert found.a.value == pytest.approx(auroc(y, scores[0]), rel=1e-14)
    assert found.se**2 == pytest.approx(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    assert found.a.se**2 == pytest.approx(covariance[0, 0])


def test_a_model_does_not_differ_from_itself():
    rng = np.random.default_rng(1)
    y, s = rng.random(50) < 0.5, rng.normal(size=50)
    for subjects in (None, np.arange(50) // 2):
        found = delong(y, s, s.copy(), subjects)
        assert (found.value, found.z, found.p, found.low, found.high) == (0, 0, 1, 0, 0)


def slow_clustered(y, s, subjects):
    """Obuchowski 1997 for one score, term by term."""
    m, n = y.sum(), (1 - y).sum()
    ones, zeros = np.flatnonzero(y), np.flatnonzero(1 - y)
    won = {(i, j): float(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for i in ones for j in zeros}
    v10 = {i: np.mean([won[i, j] for j in zeros]) for i in ones}
    v01 = {j: np.mean([won[i, j] for i in ones]) for j in zeros}
    area = np.mean(list(v10.values()))
    people = np.unique(subjects)
    a = np.array([sum(v10[i] - area for i in v10 if subjects[i] == g) for g in people])
    b = np.array([sum(v01[j] - area for j in v01 if subjects[j] == g) for g in people])
    i10 = len({subjects[i] for i in v10})
    i01 = len({subjects[j] for j in v01})
    i = len(people)
    s10 = i10 / ((i10 - 1) * m) * (a**2).sum()
    s01 = i01 / ((i01 - 1) * n) * (b**2).sum()
    s11 = i / (i - 1) * (a * b).sum()
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def test_clusters_follow_obuchowski():
    rng = np.random.default_rng(2)
    subjects = rng.integers(0, 15, 60)
    y = (rng.random(60) < 0.5).astype(int)
    s = np.round(rng.normal(size=60) + y + rng.normal(size=15)[subjects], 1)
    found = delong(y, s, subjects=subjects)
    assert found.se**2 == pytest.approx(slow_clustered(y, s, subjects))
    assert found.subjects == 15


def test_repeated_records_do_not_narrow_the_clustered_interval():
    rng = np.random.default_rng(4)
    y, s = rng.random(60) < 0.5, rng.normal(size=60)
    four = np.tile(np.arange(60), 4)
    clustered = delong(np.tile(y, 4), np.tile(s, 4), subjects=four)
    assert clustered.se == pytest.approx(delong(y, s).se, rel=1e-12)
    assert delong(np.tile(y, 4), np.tile(s, 4)).se < 0.6 * clustered.se


def test_the_logit_interval_stays_inside_and_holds_the_value():
    y = np.repeat([0, 1], 10)
    s = np.arange(20.0)
    s[[9, 10]] = s[[10, 9]]
    found = delong(y, s)
    assert isinstance(found, AUC)
    assert 0 < found.low < found.value < found.high < 1
    assert delong(y, s, scale="plain").high == 1.0


def test_what_is_not_estimable_is_said():
    assert isinstance(delong([1, 1, 1], [1, 2, 3]), NotEstimable)
    assert isinstance(delong([], []), NotEstimable)
    assert isinstance(delong([0, 0], [1, 2], [2, 1]), NotEstimable)
    alone = delong([1, 0, 0], [1, 2, 0])
    assert alone.value == 0.5
    assert alone.low is None
    assert "one subject" in alone.note
    perfect = delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4])
    assert (perfect.a.low, perfect.z, perfect.p) == (None, 0.0, 1.0)
    certain = delong([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert (certain.value, certain.z, certain.p) == (1.0, None, None)
    assert "no test" in certain.note


@pytest.mark.parametrize(
    ("scores", "settings", "words"),
    [
        ([1, 2, 3, 4], {}, "must be"),
        ([1, np.nan, 3], {}, "finite"),
        ([1, 2, 3], {"scale": "log"}, "scale"),
        ([1, 2, 3], {"level": 95}, "level"),
        ([1, 2, 3], {"level": 0}, "level"),
        ([1, 2, 3], {"subjects": [1, 1, np.nan]}, "missing"),
        ([1, 2, 3], {"subjects": ["a", None, "b"]}, "missing"),
    ],
)
def test_what_makes_no_sense_is_refused(scores, settings, words):
    with pytest.raises(ValueError, match=words):
        delong([1, 0, 1], scores, **settings)
