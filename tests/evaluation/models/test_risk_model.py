from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from made_targets import targets_of
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning, SkipTestWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from medmcl.core.errors import ConfigError, LeakageError
from medmcl.evaluation import c_index, linear_probe
from medmcl.evaluation.models.outcome import read_outcome
from medmcl.evaluation.models.risk_model import RiskModel
from medmcl.evaluation.models.survival_models import cox_probe


def survival(count=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)) * [1, 4, 1] + [0, 10, 0]
    time, censored = rng.exponential(5 * np.exp(-x[:, 0])), rng.exponential(8, count)
    y = np.zeros(count, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = time <= censored, np.minimum(time, censored)
    return x, y


def classes(count=200, number=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal([0, 10, 0], size=(count, 3))
    score = x[:, 0] + 0.8 * rng.normal(size=count)
    cuts = np.quantile(score, np.arange(1, number) / number)
    return x, np.array(["low", "mid", "top", "zenith"])[np.searchsorted(cuts, score)]


@pytest.mark.parametrize(
    ("kind", "strength"),
    [("binary", 1.0), ("multiclass", "auto"), ("continuous", "auto"), ("auto", 1.0)],
)
def test_every_check_of_scikit_learn_passes(kind, strength):
    # few folds keep it short; the array API check asks for an environment variable of scipy
    with pytest.warns(SkipTestWarning, match="array_api"):
        check_estimator(RiskModel(kind=kind, strength=strength, cv=2))


class SurvivalOfNumbers(RiskModel):
    """Takes the outcomes that scikit-learn's checks hand over for times, every event seen."""

    def fit(self, X, y=None, **rest):
        return super().fit(X, self.two(y), **rest)

    def score(self, X, y):
        return super().score(X, self.two(y))

    def two(self, y):
        if y is None or np.ndim(y) != 1 or np.iscomplexobj(y):
            return y
        try:
            time = np.asarray(y, dtype=float)
        except (TypeError, ValueError):
            return y
        return np.column_stack([np.ones(len(time)), time - min(0, time.min(initial=0)) + 1])


@pytest.mark.parametrize("hazard", ["cox", "discrete_time"])
def test_every_check_of_scikit_learn_passes_for_survival(hazard):
    with pytest.warns(SkipTestWarning, match="array_api"):
        check_estimator(SurvivalOfNumbers(kind="survival", hazard=hazard, cv=2))


@pytest.mark.parametrize("kind", ["survival", "binary", "regression"])
def test_on_given_tuning_rows_it_is_the_linear_probe(kind):
    train, tuning, held = np.arange(100), np.arange(100, 150), np.arange(150, 200)
    x, y = survival() if kind == "survival" else classes()
    values = np.column_stack([y["time"], y["event"]]) if kind == "survival" else y == "mid"
    if kind == "regression":
        values = y = x[:, 0] * 2 + np.random.default_rng(1).normal(size=200)
    targets = targets_of(kind, values)
    probe = linear_probe(x, targets, train, tuning)
    model = RiskModel().fit(x[train], y[train], tuning=(x[tuning], y[tuning]))
    assert model.strength_ == probe.chosen[0]
    found = model.predict_proba(x[held])[:, 1] if kind == "binary" else model.predict(x[held])
    assert (found == probe.predict(x[held])[:, 0]).all()
    if kind == "survival":
        curves = cox_probe(x, targets, train, tuning).survival(x[held], model.times_)
        assert model.predict_survival_function(x[held]) == pytest.approx(curves, abs=1e-12)


def as_columns(y):
    return np.column_stack([y["event"], y["time"]]).astype(float)


@pytest.mark.parametrize(
    "given_as",
    [
        as_columns,
        lambda y: pd.DataFrame({"event": y["event"], "time": y["time"]}),
        lambda y: pd.DataFrame({"time": y["time"], "event": y["event"].astype(int)}),
        lambda y: y[["time", "event"]],
        lambda y: np.array(list(y), dtype=[("cens", "?"), ("d", "<f8")]),
    ],
)
def test_every_form_of_a_survival_outcome_is_the_same(given_as):
    x, y = survival(80)
    expected = RiskModel(strength=1.0).fit(x, y)
    found = RiskModel(strength=1.0).fit(x, given_as(y))
    assert found.kind_ == "survival"
    assert (found.predict(x) == expected.predict(x)).all()
    assert found.score(x, given_as(y)) == c_index(y["event"], y["time"], found.predict(x))
    assert not hasattr(found, "predict_proba")
    assert not hasattr(found, "classes_")


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        ([0, 1, 1, 0], "binary"),
        ([True, False, True, False], "binary"),
        (["a", "b", "a", "b"], "binary"),
        ([0.0, 1.0, 0.0, 1.0], "binary"),
        ([0, 1, 2, 2], "multiclass"),
        (["a", "b", "c", "c"], "multiclass"),
        ([0.0, 1.0, 2.0, 3.0], "continuous"),
        (range(40), "continuous"),
        ([[1, 3.0], [0, 4.0], [0, 4.0], [1, 2.0]], "survival"),
    ],
)
def test_the_guess_of_auto_is_said(y, kind):
    outcome = read_outcome(y, rows=len(y))
    assert outcome.kind == kind
    assert kind in outcome.notes[0]
    assert read_outcome(y, kind, rows=len(y)).notes == ()


@pytest.mark.parametrize(
    ("y", "kind", "words"),
    [
        ([1.0, np.nan, 2.0], "auto", "1 values"),
        ([1, 1, 1], "binary", "one class"),
        ([1, 2, 3], "binary", "Only binary"),
        ([1.0, 2.5, 3.0], "multiclass", "continuous"),
        ([[1, 2], [3, 4], [5, 6]], "survival", "0 or 1"),
        ([[1, -2], [0, 4], [1, 6]], "survival", "negative"),
        ([1, 2, 3], "survival", "two columns"),
        ([[1, 2, 3]] * 3, "continuous", "one column"),
        ([1, 2], "auto", "inconsistent"),
        (None, "auto", "y"),
        (["a", "b", "c"], "continuous", "numbers"),
        (np.array([(True, 1, 2)] * 3, dtype=[("a", "?"), ("b", "f"), ("c", "f")]), "auto", "field"),
    ],
)  # fmt: skip
def test_outcomes_that_cannot_be_used_are_refused_by_name(y, kind, words):
    with pytest.raises(ConfigError, match=words):
        RiskModel(kind=kind).fit(np.eye(3), y)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "ordinal"}, "ordinal"),
        ({"kind": "surv"}, "did you mean 'survival'"),
        ({"strength": 0.0}, "strength"),
        ({"strength": "weak"}, "strength"),
        ({"cv": 1}, "cv"),
        ({"hazard": "aft"}, "hazard"),
        ({"hazard": "coxx"}, "did you mean 'cox'"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_fit(wrong, told):
    x, y = classes(40)
    with pytest.raises(ConfigError, match=told):
        RiskModel(**wrong).fit(x, y)


def test_missing_features_are_refused_with_counts():
    x, y = classes(40)
    model = RiskModel(strength=1.0).fit(x, y)
    x[3, 1] = np.nan
    for call in (lambda: model.predict(x), lambda: RiskModel().fit(x, y)):
        with pytest.raises(ConfigError, match="1 of 40 rows, 1 of 3 columns"):
            call()


def test_a_column_of_outcomes_warns_as_scikit_learn_does():
    x, y = classes(40)
    with pytest.warns(DataConversionWarning):
        RiskModel(strength=1.0).fit(x, y[:, None])


@pytest.mark.parametrize("number", [2, 3, 4])
def test_classes_probabilities_and_decisions_agree(number):
    x, y = classes(number=number)
    model = RiskModel(strength=1.0).fit(x, y)
    chance, scores = model.predict_proba(x), model.decision_function(x)
    assert chance.sum(axis=1) == pytest.approx(1.0)
    assert (model.predict(x) == model.classes_[chance.argmax(axis=1)]).all()
    if number == 2:
        assert 1 / (1 + np.exp(-scores)) == pytest.approx(chance[:, 1])
    else:
        assert np.exp(scores) == pytest.approx(chance)
    assert model.score(x, y) == (model.predict(x) == y).mean()
    assert is_classifier(model)
    assert is_regressor(RiskModel(kind="continuous"))
    assert not is_classifier(RiskModel(kind="survival"))


def test_a_strength_is_chosen_with_a_subject_in_one_fold_only():
    x, y = classes(60)
    # each subject has 5 copies with its own marker columns: leaking folds would want no penalty
    rng = np.random.default_rng(0)
    markers = np.kron(rng.normal(size=(12, 40)), np.ones((5, 1)))
    labels = np.repeat(rng.integers(0, 2, 12), 5)
    groups = np.repeat(np.arange(12), 5)
    leaking = RiskModel().fit(markers, labels)
    grouped = RiskModel().fit(markers, labels, groups=groups)
    assert grouped.strength_ > leaking.strength_
    with pytest.raises(ConfigError, match="groups"):
        RiskModel().fit(x, y, groups=np.arange(3))


def test_tuning_rows_are_not_fitted_on_and_strange_classes_are_refused():
    x, y = classes(90, number=3)
    first = RiskModel(strength="auto").fit(x[:60], y[:60], tuning=(x[60:], y[60:]))
    alone = RiskModel(strength=first.strength_).fit(x[:60], y[:60])
    assert first.predict_proba(x) == pytest.approx(alone.predict_proba(x))
    with pytest.raises(ConfigError, match="class that training has not"):
        RiskModel().fit(x[:60], y[:60], tuning=(x[60:], np.full(30, "new")))


@pytest.mark.parametrize("hazard", ["cox", "discrete_time"])
def test_survival_curves_come_as_arrays_or_frames(hazard):
    x, y = survival(100)
    model = RiskModel(strength=1.0, hazard=hazard).fit(x, y)
    curves = model.predict_survival_function(x)
    assert curves.shape == (100, len(model.times_))
    assert (np.diff(curves, axis=1) <= 0).all()
    frame = pd.DataFrame(x, columns=["a", "b", "c"], index=np.arange(100) + 7)
    model.fit(frame, y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    found = model.predict_survival_function(frame, times=[1, 2.5])
    assert (found.index == frame.index).all()
    assert list(found.columns) == [1.0, 2.5]
    # who has the higher risk has the lower curve
    order = np.argsort(model.predict(frame))
    assert (np.diff(found[2.5].to_numpy()[order]) <= 1e-12).all()
    with pytest.raises(ConfigError):
        model.predict_survival_function(frame, times=[[1.0]])


def test_it_works_in_pipelines_folds_and_searches():
    x, y = survival(120)
    groups = np.arange(120) // 2
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    pipe = make_pipeline(StandardScaler(), RiskModel(kind="survival", cv=2))
    pipe.set_output(transform="pandas")
    scores = cross_val_score(pipe, frame, y, groups=groups, cv=GroupKFold(3), error_score="raise")
    assert scores.mean() > 0.6
    risk = cross_val_predict(pipe, frame, y, groups=groups, cv=GroupKFold(3))
    assert c_index(y["event"], y["time"], risk) > 0.6
    search = GridSearchCV(
        pipe, {"riskmodel__strength": [1.0, 100.0]}, cv=GroupKFold(3), error_score="raise"
    )
    search.fit(frame, y, groups=groups, riskmodel__groups=groups)
    assert search.best_estimator_[-1].kind_ == "survival"

    x, labels = classes(120)
    pipe = make_pipeline(StandardScaler(), RiskModel(strength=1.0))
    scores = cross_val_score(
        pipe, x, labels, groups=groups, cv=GroupKFold(3), scoring="roc_auc", error_score="raise"
    )
    assert scores.mean() > 0.7


def test_subjects_reach_the_inner_folds_by_metadata_routing():
    x, y = classes(60)
    groups = np.arange(60) // 5
    with sklearn.config_context(enable_metadata_routing=True):
        model = RiskModel(cv=2).set_fit_request(groups=True)
        search = GridSearchCV(model, {"seed": [0, 1]}, cv=GroupKFold(3), error_score="raise")
        search.fit(x, y, groups=groups)
    assert search.best_estimator_.strength_ > 0


def test_it_can_be_fitted_again_to_another_kind():
    x, y = survival(60)
    model = RiskModel(strength=2.0).fit(x, y)
    x, labels = classes(60)
    model.fit(x, labels)
    assert model.predict_proba(x).shape == (60, 2)
    assert not hasattr(model, "predict_survival_function")
    model.fit(x, x[:, 0])
    assert not hasattr(model, "classes_")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(4, 30),
    st.sampled_from(["binary", "continuous", "survival", "discrete"]),
)
def test_any_small_table_gives_finite_predictions(seed, count, kind):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, 4)).astype(float)
    if kind == "binary":
        y = rng.permutation(np.arange(count) % 2)
    elif kind == "continuous":
        y = rng.normal(size=count)
    else:
        y = np.column_stack([rng.random(count) < 0.5, rng.integers(0, 6, count)]).astype(float)
    hazard = "discrete_time" if kind == "discrete" else "cox"
    model = RiskModel("survival" if kind == "discrete" else kind, hazard=hazard, cv=3).fit(x, y)
    assert np.isfinite(model.predict(x)).all()
    assert model.predict(x).shape == (count,)


def test_shared_or_unnamed_subjects_of_tuning_rows_are_refused():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 3))
    y = (x[:, 0] + generator.normal(size=80) > 0).astype(int)
    people = np.arange(80) // 2
    with pytest.raises(LeakageError, match="subjects that are fitted on") as said:
        RiskModel("binary").fit(
            x[:61], y[:61], groups=people[:61], tuning=(x[61:], y[61:], people[61:])
        )
    assert "1 of 10 tuning subjects, as 30" in str(said.value)
    with pytest.raises(ConfigError, match=r"groups are given(.|\n)*\(X, y, groups\)"):
        RiskModel("binary").fit(x[:60], y[:60], groups=people[:60], tuning=(x[60:], y[60:]))
    apart = (x[60:], y[60:], people[60:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RiskModel("binary").fit(x[:60], y[:60], groups=people[:60], tuning=apart)
    assert not any("also in X" in note for note in model.notes_)


def test_copies_are_found_whatever_their_outcome_and_in_spite_of_jitter():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(80, 6)) * [1, 10, 100, 0.1, 1, 1], np.arange(80) % 2
    copies = x[50:60] + 1e-10 * rng.normal(size=(10, 6)) * [1, 10, 100, 0.1, 1, 1]
    tuning = np.concatenate([copies, x[60:]])
    with pytest.warns(UserWarning, match="10 of 30 tuning rows are also in X"):
        model = RiskModel("binary").fit(x[:60], y[:60], tuning=(tuning, 1 - y[50:]))
    assert any("also in X" in note for note in model.notes_)


@pytest.mark.parametrize("hazard", ["cox", "discrete_time"])
def test_without_an_event_survival_is_one_at_the_follow_up_times(hazard):
    x = np.random.default_rng(4).normal(size=(12, 2))
    y = np.column_stack([np.zeros(12), np.repeat([3.0, 1.0, 2.0], 4)])
    model = RiskModel("survival", hazard=hazard).fit(x, y)
    assert model.times_.tolist() == [1.0, 2.0, 3.0]
    assert (model.predict_survival_function(x) == np.ones((12, 3))).all()
    assert "no event in training, constant risk" in model.notes_
    with pytest.raises(ConfigError, match="not estimable"):
        model.score(x, y)
