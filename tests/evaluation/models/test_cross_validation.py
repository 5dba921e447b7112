from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.evaluation import evaluate_task, linear_probe, majority
from medmcl.evaluation.metrics.calibration_metrics import calibration_slope
from medmcl.evaluation.metrics.predictions import auprc, auroc, brier, c_index
from medmcl.evaluation.metrics.thresholds import sensitivity_at_specificity, tpr_at_top
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cross_validation import (
    draw_folds,
    out_of_fold,
    site_folds,
    strata_of,
    subject_folds,
)
from medmcl.evaluation.models.strength import ALIKE, is_alike
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.predicted import Method

RNG = np.random.default_rng(0)
SUBJECTS = np.repeat(np.arange(60), 2)
X = np.repeat(RNG.normal(size=(60, 3)), 2, axis=0)
Y = targets_of("binary", X[:, :1] + 0.5 * np.repeat(RNG.normal(size=(60, 1)), 2, axis=0) > 0.8)


def of_task(targets, subjects, rows, **how):
    return draw_folds(subjects, strata_of(targets), rows, name=targets.name, **how)


def over(size):
    """5 x 5 folds over all rows, of features that nobody learned from them."""
    return CrossValidation(folds=5, repeats=5, refit="probe", unseen=np.ones(size, bool))


def test_rows_beside_those_scored_are_fitted_on_in_every_fold_and_tested_in_none():
    scored, besides = np.arange(0, 120, 3), np.arange(1, 120, 3)
    people = np.arange(120) // 2
    plan = list(of_task(Y, people, scored, besides=besides, repeats=2, folds=4))
    more = besides[~np.isin(people[besides], people[scored])]
    for _, train, tuning, test in plan:
        assert set(test) <= set(scored)
        assert set(more) <= {*train, *tuning}
        assert not {*people[train], *people[tuning]} & {*people[test]}


def test_a_subject_never_stands_on_two_sides():
    plan = list(of_task(Y, SUBJECTS, np.arange(120), repeats=2, folds=4))
    assert len(plan) == 8
    for _, train, tuning, test in plan:
        sides = [set(SUBJECTS[rows]) for rows in (train, tuning, test)]
        assert all(sides)
        assert sum(map(len, sides)) == len(set.union(*sides))
    for repeat in range(2):
        tests = np.concatenate([test for r, _, _, test in plan if r == repeat])
        assert sorted(tests) == list(range(120))


def test_strata_spread_evenly_over_folds():
    fold = subject_folds(SUBJECTS, Y.values[:, 0], 4, np.random.default_rng(0))
    positives = [Y.values[fold == f, 0].sum() for f in range(4)]
    assert max(positives) - min(positives) <= 2


SITES = np.repeat([0, 1, 2, 3, 4, 5, 6, 7], [40, 20, 20, 12, 10, 8, 6, 4])


def test_a_site_never_stands_on_two_sides_and_folds_are_of_like_size():
    plan = list(of_task(Y, SITES, np.arange(120), draw=site_folds, repeats=3, folds=4))
    assert len(plan) == 12
    for _, train, tuning, test in plan:
        sides = [set(SITES[rows]) for rows in (train, tuning, test)]
        assert all(sides)
        assert sum(map(len, sides)) == len(set.union(*sides))
    made = [
        {frozenset(SITES[test]) for r, _, _, test in plan if r == repeat} for repeat in range(3)
    ]
    assert made[0] != made[1] or made[1] != made[2]
    few = site_folds(SITES[:80], np.zeros(80), 5, np.random.default_rng(0))
    assert sorted(np.unique(few)) == [0, 1, 2]  # no fold without rows


def test_predictions_of_a_site_come_from_the_other_sites():
    own = np.eye(8)[SITES]  # a feature that only remembers the site
    label = targets_of("binary", SITES % 2 == 0)
    settings = {"repeats": 2, "folds": 4}
    known = out_of_fold(own, label, SUBJECTS, np.arange(120), **settings)
    assert auroc(label.values[:, 0], known.order[:, 0]) == 1
    blind = [
        out_of_fold(own, label, SITES, np.arange(120), draw=site_folds, seed=seed, **settings)
        for seed in range(6)  # eight sites: one draw of them says little
    ]
    assert np.mean([auroc(label.values[:, 0], one.order[:, 0]) for one in blind]) <= 0.5


def test_predictions_are_out_of_fold_and_find_what_is_there():
    guess = out_of_fold(X, Y, SUBJECTS, repeats=2, folds=4).values
    assert auroc(Y.values[:, 0], guess[:, 0]) > 0.8
    names = np.eye(60)[SUBJECTS]  # a feature that only remembers who is who
    memory = out_of_fold(names, Y, SUBJECTS, repeats=1, folds=4).values
    assert auroc(Y.values[:, 0], memory[:, 0]) < 0.65


def test_survival_risks_of_different_folds_can_be_ranked_together():
    time = np.repeat(RNG.exponential(np.exp(-2 * X[::2, 0])), 2)
    targets = targets_of("survival", np.stack([time, np.ones(120)], axis=1))
    guess = out_of_fold(X, targets, SUBJECTS, repeats=1).values
    assert c_index(np.ones(120), time, guess[:, 0]) > 0.75


def test_the_same_seed_gives_the_same_predictions():
    first = out_of_fold(X, Y, SUBJECTS, repeats=1, folds=3, seed=4).values
    second = out_of_fold(X, Y, SUBJECTS, repeats=1, folds=3, seed=4).values
    assert (first == second).all()


@pytest.mark.parametrize("subjects", [1, 2, 3])
def test_a_handful_of_subjects_does_not_break(subjects):
    rows = np.flatnonzero(subjects > SUBJECTS)
    guess = out_of_fold(X, Y, SUBJECTS, rows=rows, repeats=1).values
    assert np.isfinite(guess).all()


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass", "regression", "survival"])
def test_constants_of_folds_rank_nobody(kind):
    """Pooled as they are, a fold's share is low where its own test rows have many events."""
    generator = np.random.default_rng(5)
    columns = ("a", "b") if kind in ("multilabel", "regression") else ("a",)
    values = generator.normal(size=(117, len(columns)))
    if kind == "survival":
        columns = ("time", "event")
        values = np.stack([generator.exponential(size=117), generator.random(117) < 0.5], axis=1)
    elif kind != "regression":
        values = (values > 0.5) + 0.0
    classes = ("low", "high") if kind == "multiclass" else ()
    task = targets_of(kind, values, columns=columns, classes=classes)
    nobody = Method(features=np.zeros((117, 1)), fit=majority, protocol="majority")
    split = np.where(np.arange(117) < 80, "train", "held_out")
    found = evaluate_task(
        {"nobody": nobody, "x": generator.normal(size=(117, 2))}, task, split, np.arange(117),
        bootstrap_draws=50, shown=["nobody"], cross_validation=over(117),
    )  # fmt: skip
    rows = {(r.target, r.metric): r for r in found.results if r.method == "nobody"}
    assert {row.split for row in rows.values()} == {"cross-validation"}
    assert all(r.p_value is None and r.untested for r in found.results)
    assert any("no test out of fold" in r.note for r in found.results if r.versus)
    half = [r for (_, m), r in rows.items() if m.startswith(("auroc", "c_index", "auc_at"))]
    assert all(row.value == pytest.approx(0.5) for row in half)
    assert all(row.low is row.high is None for row in half)  # every draw gives the same
    assert bool(half) == (kind != "regression")
    for (target, metric), row in rows.items():
        if metric == "auprc" and target != "macro":
            assert row.value == pytest.approx(values[:, columns.index(target)].mean())
        if metric.startswith(("calibration_slope", "pearson")):
            assert row.value is None
            assert row.note
        if metric in ("brier", "integrated_brier", "mae"):
            assert row.value > 0
    scores = {r.target: r for r in found.results if r.method == "x" and not r.versus
              and r.metric in ("auroc", "c_index")}  # fmt: skip
    for row in found.results:
        if row.versus and row.metric in ("auroc", "c_index"):
            assert row.value == pytest.approx(scores[row.target].value - 0.5)


def cohort(seed, size, strength, kind="binary"):
    """Noise, or a signal of two features, and many more people of the same kind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 2000, 2))
    score = strength * x.sum(axis=1) / 2**0.5 + rng.logistic(size=size + 2000)
    cuts = [0.85] if kind == "binary" else [-0.7, 0.7]
    return x, targets_of(kind, np.digitize(score, cuts))


def scores(seed, size, strength, kind="binary", **more):
    x, task = cohort(seed, size, strength, kind)
    small = np.arange(size)
    split = np.where(small < size * 0.7, "train", "held_out")
    rows = evaluate_task(
        {"x": x[:size]},
        task.take(small),
        split,
        small,
        bootstrap_draws=20,
        **{"cross_validation": over(size), **more},
    ).results
    return x, task, {(r.target, r.metric): r for r in rows}


def discriminant(x, task, train, tuning, refit_on=None):
    """A linear rule in closed form, for many cohorts: the line between the means of two classes."""
    y = task.values[refit_on, 0] > 0
    seen = x[refit_on]
    slope = (seen[y].mean(axis=0) - seen[~y].mean(axis=0)) / seen.var(axis=0)
    offset = np.log(y.mean() / (1 - y.mean())) - slope @ seen.mean(axis=0)
    return Fitted(predict=lambda rows: 1 / (1 + np.exp(-(rows @ slope + offset)))[:, None])


def pooled_and_standardised(strength, size, cohorts):
    """Mean AUROC of both, of the rule of all people on 2,000 others, and the errors of these."""
    found = []
    for seed in range(cohorts):
        x, task = cohort(seed, size, strength)
        rows, others = np.arange(size), np.arange(size, len(x))
        small = task.take(rows)
        out = out_of_fold(x[:size], small, rows, rows, protocol=discriminant)
        rule = discriminant(x, task, rows, rows[:0], refit_on=rows)
        y = small.values[:, 0]
        truth = auroc(task.values[others, 0], rule.predict(x[others])[:, 0])
        found.append([auroc(y, out.values[:, 0]), auroc(y, out.order[:, 0]), truth])
    table = np.array(found)
    apart = table[:, 1] - table[:, 2]
    return table.mean(axis=0), apart.std() / cohorts**0.5


@pytest.mark.parametrize("size", [60, 200])
@pytest.mark.parametrize("strength", [0.0, 1.2])
def test_out_of_fold_the_auroc_is_that_of_the_rule_of_as_many_people(size, strength):
    """A half for noise, and of a signal not too good either; pooled as they are it is too low."""
    (pooled, ours, truth), error = pooled_and_standardised(strength, size, cohorts=150)
    assert abs(ours - truth) < 3 * error
    assert abs(ours - truth) < 0.035
    assert pooled < ours


def test_only_what_ranks_reads_standardised_predictions():
    x, task, rows = scores(0, 80, 1.2)
    small, y = task.take(np.arange(80)), task.values[:80, 0]
    found = out_of_fold(x[:80], small, np.arange(80), np.arange(80))
    assert not np.array_equal(found.order.argsort(axis=0), found.values.argsort(axis=0))
    for name, metric in (
        ("auroc", auroc), ("auprc", auprc), ("tpr_at_top", tpr_at_top),
        ("sensitivity_at_specificity", sensitivity_at_specificity),
    ):  # fmt: skip
        assert rows["y", name].value == pytest.approx(metric(y, found.order[:, 0])), name
        assert "standardised in each fold" in rows["y", name].note
    for name, metric in (("brier", brier), ("calibration_slope", calibration_slope)):
        assert rows["y", name].value == pytest.approx(metric(y, found.values[:, 0])), name
        assert "standardised" not in rows["y", name].note


def test_standardised_predictions_are_centred_and_scaled_by_the_rows_fitted_on():
    seen = []

    def spy(x, task, train, tuning, refit_on=None):
        fitted = linear_probe(x, task, train, tuning, refit_on=refit_on)
        seen.append((refit_on, fitted))
        return fitted

    found = out_of_fold(X, Y, SUBJECTS, np.arange(120), protocol=spy, repeats=1)
    slow = np.zeros(120)
    for rows, fitted in seen:
        test = np.setdiff1d(np.arange(120), rows)
        own = fitted.predict(X[rows])[:, 0]
        slow[test] = (fitted.predict(X[test])[:, 0] - own.mean()) / own.std()
    assert found.order[:, 0] == pytest.approx(slow)


def test_out_of_fold_the_auc_at_a_horizon_of_noise_is_a_half():
    """Pooled risks rank by the baselines of the folds: .26 on average over these seeds."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        waits, ends = rng.exponential(3000, 60), rng.uniform(500, 4000, 60)
        values = np.column_stack([np.minimum(waits, ends), waits < ends])
        death = targets_of("survival", values, unit="days", horizons_years=(1.0,))
        split = np.array(["train"] * 40 + ["held_out"] * 20)
        rows = evaluate_task(
            {"noise": rng.normal(size=(60, 2))}, death, split, np.arange(60), bootstrap_draws=20
        ).results
        value = next(row.value for row in rows if row.metric == "auc_at_1y")
        found += [] if value is None else [value]
    assert len(found) >= 10
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / len(found) ** 0.5
    assert np.mean(found) > 0.4


def test_how_many_folds_give_everyone_the_same_is_said():
    rows = np.arange(120)
    once = []

    def fit(x, targets, train, tuning, refit_on):
        once.append("fold")
        said = ("other", ALIKE) if len(once) == 1 else ("other",)
        return replace(majority(x, targets, train, tuning, refit_on=refit_on), notes=said)

    found = out_of_fold(X, Y, SUBJECTS, rows=rows, protocol=fit, repeats=1, folds=3)
    assert found.notes == ("other", f"{ALIKE}, in 1 of 3 folds")
    assert not is_alike("; ".join(found.notes))
