"""Who the bootstrap of an evaluation draws: every interval follows, no point does."""

from typing import get_args

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.core.errors import ConfigError
from medmcl.evaluation import bootstrap, delong, evaluate_task, linear_probe
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.resampling import Resample, of_task, resampling_of, said_of
from medmcl.stages.evaluate import spec as evaluate_spec

N = 900
RNG = np.random.default_rng(0)
SPLIT = np.array(["train"] * 450 + ["tuning"] * 150 + ["held_out"] * 300)
HELD = np.flatnonzero(SPLIT == "held_out")
SUBJECTS = np.arange(N)
SITES = np.array([f"s{k % 12}" for k in range(N)], dtype=object)
SKILL = np.where(np.arange(12) % 2, 2.0, -0.4)  # the feature means something else in each site
X = RNG.normal(size=(N, 3))
NOISY = X + RNG.normal(size=(N, 3))
SIGNAL = X[:, :1] * SKILL[np.arange(N) % 12][:, None]


def task(kind="binary"):
    noise = RNG.normal(size=(N, 1))
    if kind == "survival":
        waits, ends = RNG.exponential(np.exp(-SIGNAL[:, 0])), RNG.uniform(0.5, 3, N)
        return targets_of(kind, np.column_stack([np.minimum(waits, ends), waits < ends]))
    if kind == "multiclass":
        return targets_of(kind, np.digitize(SIGNAL + noise, [-0.5, 0.8]))
    return targets_of(kind, SIGNAL + noise > 0.5)


def run(targets, resample, **more):
    settings = {
        "bootstrap_draws": 200, "dear_draws": 60, "shown": ["x"],
        "subgroups": {"sex": np.where(np.arange(N) % 3, "F", "M").astype(object)}, **more,
    }  # fmt: skip
    sites = settings.pop("sites", SITES)
    return evaluate_task(
        {"x": X, "z": NOISY}, targets, SPLIT, SUBJECTS, resample=resample,
        sites=sites, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["binary", "multiclass", "survival"])
def test_points_stay_and_every_interval_and_difference_follows(kind):
    targets = task(kind)
    plain = run(targets, "subject")
    for how in ("site", "stratified"):
        other = run(targets, how)
        assert {r.resampling for r in other.results} == {how}
        assert {r.resampling for r in other.subgroups} == {how}
        assert {t.resampling for t in other.evidence} == {how}
        moved = []
        for a, b in zip(plain.results, other.results, strict=True):
            assert (a.method, a.versus, a.metric, a.target) == (
                b.method,
                b.versus,
                b.metric,
                b.target,
            )
            if a.metric != "ici" and not a.metric.startswith("ici_at"):  # corrected by its draws
                assert a.value == b.value, a.metric
            if a.low is not None and a.low != a.high:
                moved.append((a.low, a.high) != (b.low, b.high))
        assert all(moved)
        assert any(row.versus for row in other.results)
        for a, b in zip(plain.subgroups, other.subgroups, strict=True):
            assert a.value == b.value
            assert (a.low, a.high) != (b.low, b.high) or a.low is None
        for a, b in zip(plain.evidence, other.evidence, strict=True):
            assert a.calibration.slope != b.calibration.slope
            assert a.calibration.curve.low != b.calibration.curve.low
            assert a.calibration.curve.observed == b.calibration.curve.observed
            assert a.decision.low != b.decision.low


def test_intervals_by_site_are_those_of_whole_sites_and_wider_where_sites_differ():
    targets = task()
    rows = {
        how: next(r for r in run(targets, how).results if (r.method, r.metric) == ("x", "auroc"))
        for how in ("subject", "site")
    }
    chance = linear_probe(X, targets, np.arange(450), np.arange(450, 600)).predict(X[HELD])[:, 0]
    codes = np.unique(SITES[HELD], return_inverse=True)[1]
    known = bootstrap("auroc", targets.values[HELD, 0], chance, codes, draws=3000)
    own = rows["site"]
    assert (own.low, own.high) == pytest.approx((known.low, known.high), abs=0.03)
    assert own.high - own.low > 1.5 * (rows["subject"].high - rows["subject"].low)
    assert (own.n, own.subjects) == (300, 300)  # people are counted, though sites are drawn
    assert "intervals draw whole sites (12)" in own.note


def test_draws_by_site_hold_whole_sites_and_by_outcome_its_counts():
    people = np.repeat(np.arange(40), 2)
    sampler = Resampling(people, draws=50, clusters=people // 8)
    weights = np.concatenate(list(sampler.blocks()), axis=1)
    for site in range(5):
        inside = weights[people // 8 == site]
        assert (inside == inside[0]).all()
    assert (weights.sum(axis=0) == 80).all()
    strata = of_task(resampling_of("stratified", SUBJECTS), task()).take(HELD).strata
    drawn = np.concatenate(
        list(Resampling(SUBJECTS[HELD], draws=20, strata=strata).blocks()), axis=1
    )
    assert np.ptp(strata @ drawn) == 0
    with pytest.raises(ValueError, match="several clusters"):
        list(Resampling([0, 0, 1], clusters=["a", "b", "a"]).blocks())
    with pytest.raises(ValueError, match="not both"):
        Resampling([0, 1], clusters=["a", "b"], strata=[0, 1])


@pytest.mark.parametrize(
    ("count", "said", "has"),
    [
        (1, "1 site: too few for an interval by site", False),
        (4, "4 sites: too few for an interval by site", False),
        (7, "7 sites: rough interval, 10 or more are wanted", True),
    ],
)
def test_few_sites_have_a_rough_interval_or_none_and_say_so(count, said, has):
    sites = np.array([f"s{k % count}" for k in range(N)], dtype=object)
    done = run(task(), "site", sites=sites)
    intervals = [r for r in done.results if r.value is not None and "ici" not in r.metric]
    assert intervals
    for row in intervals:
        assert (row.low is not None) == has, row.metric
        assert said in row.note
        assert has or row.p_value is None
    (figure,) = done.evidence
    assert bool(figure.calibration.curve.low) == has
    assert (figure.decision.low[0] is not None) == has


def test_sites_of_one_subject_are_counted_and_people_without_a_site_are_their_own():
    sites = SITES.copy()
    sites[HELD[:3]] = ["alone 1", "alone 2", None]
    sites[HELD[3]] = "unknown"
    how = resampling_of("site", SUBJECTS, sites).take(HELD)
    assert said_of(how) == "intervals draw whole sites (16, 4 of a single subject)"
    codes = how.units
    assert len({codes[2], codes[3]}) == 2
    row = run(task(), "site", sites=sites).results[0]
    assert "16, 4 of a single subject" in row.note


def test_delong_by_site_takes_sites_for_the_independent_units():
    targets = task()
    done = run(targets, "site")
    (gain,) = [r for r in done.results if r.versus and r.metric == "auroc"]
    assert "DeLong, by site" in gain.note
    a, b = (done.models[name] for name in ("z", "x"))
    assert gain.p_value is not None
    y = targets.values[HELD, 0]
    p = b.predict(X[HELD])[:, 0]
    by_site = delong(y, p, subjects=SITES[HELD])
    assert by_site.se > 1.3 * delong(y, p).se
    assert a is not b


def test_a_resampling_without_sites_or_of_another_name_is_refused():
    with pytest.raises(ConfigError, match=r"no row has one(.|\n)*cohort\.yaml"):
        run(task(), "site", sites=None)
    with pytest.raises(ConfigError, match="no such resampling"):
        run(task(), "hospital")
    assert get_args(Resample) == get_args(evaluate_spec.Resample)


def test_numbers_have_no_classes_and_say_that_subjects_are_drawn():
    done = run(targets_of("regression", X[:, 0]), "stratified")
    assert all("no two classes to keep" in r.note for r in done.results if not r.versus)
