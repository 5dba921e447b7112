from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of
from sklearn.linear_model import Ridge
from slow_survival import slow_survival

from medmcl.core.errors import ArtefactError, LeakageError
from medmcl.core.split_guard import SplitGuard
from medmcl.evaluation import knn, linear_probe
from medmcl.evaluation.metrics.predictions import auroc, c_index, r2
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.contract import read_model
from medmcl.evaluation.models.knn import _kaplan_meier
from medmcl.evaluation.models.probe import Scaler

N = 240
TRAIN, TUNING, HELD = np.arange(120), np.arange(120, 170), np.arange(170, N)


def make(kind, known=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6))
    if kind == "regression":
        values = np.stack([3 * x[:, 0] + 50, x[:, 1] - x[:, 2]], axis=1)
        values += 0.3 * rng.normal(size=(N, 2))
    elif kind == "multilabel":
        values = (x[:, :2] + 0.5 * rng.normal(size=(N, 2)) > 0).astype(float)
    elif kind == "survival":
        values = np.stack([rng.exponential(np.exp(-2 * x[:, 0])), rng.random(N) < 0.6], axis=1)
    elif kind == "multiclass":
        values = np.digitize(x[:, 0], [-0.5, 0.5])
        return x, targets_of(kind, values, known, classes=("low", "mid", "high"))
    else:
        values = x[:, :1] > 0
    return x, targets_of(kind, values, known)


KINDS = ["binary", "multilabel", "multiclass", "regression", "survival"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_probe_finds_what_is_there(kind):
    x, targets = make(kind)
    guess = linear_probe(x, targets, TRAIN, TUNING).predict(x[HELD])
    values = targets.values[HELD]
    assert guess.shape == (len(HELD), targets.num_outputs)
    if kind == "survival":
        assert c_index(values[:, 1], values[:, 0], guess[:, 0]) > 0.75
    elif kind == "regression":
        assert min(r2(values[:, c], guess[:, c]) for c in range(2)) > 0.9
    elif kind == "multiclass":
        assert guess.sum(axis=1) == pytest.approx(1)
        assert (guess.argmax(axis=1) == values[:, 0]).mean() > 0.75
    else:
        assert auroc(values[:, 0], guess[:, 0]) > 0.85
        assert ((guess >= 0) & (guess <= 1)).all()


def test_ridge_equals_scikit_learn_at_the_chosen_strength():
    x, targets = make("regression")
    x[:, 3] = 7.0  # what does not vary does no harm
    fitted = linear_probe(x, targets, TRAIN, TUNING)
    scaler = Scaler.of(x[TRAIN])
    for column in range(2):
        model = Ridge(alpha=fitted.chosen[column] * len(TRAIN))
        model.fit(scaler(x[TRAIN]), targets.values[TRAIN, column])
        expected = model.predict(scaler(x[HELD]))
        assert fitted.predict(x[HELD])[:, column] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_missing_targets_of_one_column_do_not_dilute_another(kind):
    known = np.ones((N, 2), bool)
    known[::2, 1] = False
    x, full = make(kind)
    _, patchy = make(kind, known)
    whole = linear_probe(x, full, TRAIN, TUNING).predict(x[HELD])
    masked = linear_probe(x, patchy, TRAIN, TUNING).predict(x[HELD])
    assert masked[:, 0] == pytest.approx(whole[:, 0])
    alone = linear_probe(x, full, TRAIN[1::2], TUNING[1::2]).predict(x[HELD])
    assert masked[:, 1] == pytest.approx(alone[:, 1])


def test_pure_noise_is_shrunk_towards_the_mean():
    rng = np.random.default_rng(0)
    _, targets = make("regression")
    noise = linear_probe(rng.normal(size=(N, 100)), targets, TRAIN, TUNING).predict(
        rng.normal(size=(50, 100))
    )
    assert noise[:, 0].std() < 0.5 * targets.values[:, 0].std()


@pytest.mark.parametrize("kind", KINDS)
def test_one_class_in_training_gives_a_constant_and_a_note(kind):
    x, targets = make(kind)
    values = targets.values.copy()
    values[TRAIN] = 0
    fitted = linear_probe(x, replace(targets, values=values), TRAIN, TUNING)
    assert np.ptp(fitted.predict(x[HELD]), axis=0) == pytest.approx(0)
    assert fitted.notes


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_tuning_split_takes_the_middle_of_the_grid(kind):
    x, targets = make(kind)
    guess = linear_probe(x, targets, TRAIN, TUNING[:0]).predict(x[HELD])
    assert np.isfinite(guess).all()


def test_a_class_that_training_never_saw_has_probability_zero():
    x, targets = make("multiclass")
    rows = TRAIN[targets.values[TRAIN, 0] != 1]
    fitted = linear_probe(x, targets, rows, TUNING)
    assert (fitted.predict(x[HELD])[:, 1] == 0).all()
    assert "mid" in fitted.notes[0]


def test_knn_is_the_mean_of_the_nearest_known_rows():
    x, targets = make("regression")
    fitted = knn(x, targets, TRAIN, TUNING, strengths=(7,))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = np.argsort(-(unit[HELD[0]] @ unit[TRAIN].T))[:7]
    expected = targets.values[TRAIN[near]].mean(axis=0)
    assert fitted.predict(x[HELD[:1]])[0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_few_people_are_not_all_each_others_neighbours(kind):
    x, targets = make(kind)
    x = np.random.default_rng(0).normal(size=x.shape)  # tells nothing: more neighbours are better
    for few, most in ((12, 10), (4, 2)):
        fitted = knn(x, targets, TRAIN[:few], TUNING)
        assert fitted.chosen[0] <= most
        assert np.ptp(fitted.predict(x[HELD])) > 0


def test_survival_of_neighbours_is_their_kaplan_meier_curve():
    x, targets = make("survival")
    fitted = knn(x, targets, TRAIN, TUNING, strengths=(15,))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    times = np.quantile(targets.values[:, 0], [0.1, 0.3, 0.5, 0.8])
    for row in HELD[:5]:
        near = TRAIN[np.argsort(-(unit[row] @ unit[TRAIN].T))[:15]]
        time, event = targets.values[near].T
        curve = np.array([slow_survival(event > 0, time, at) for at in times])
        assert fitted.survival(x[[row]], times)[0] == pytest.approx(curve)
    assert fitted.predict(x[HELD]).shape == (len(HELD), 1)


def test_tied_times_multiply_to_the_tied_factor_and_censored_rows_leave_last():
    event = np.array([[True, True, False, False]])
    time = np.array([[2.0, 2.0, 2.0, 5.0]])
    found = _kaplan_meier(event, time, np.array([1.0, 2.0, 9.0]))
    assert found[0] == pytest.approx([1.0, 0.5, 0.5])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*MODELS])
def test_every_model_keeps_the_contract(name, kind):
    model, (x, targets) = MODELS[name], make(kind)
    if model.kinds and kind not in model.kinds:
        return
    fitted = model.fit(x, targets, TRAIN, TUNING, refit_on=TRAIN)
    said = fitted.predict(x[HELD])
    assert said.shape == (len(HELD), targets.num_outputs)
    if kind == "survival":
        curves = fitted.survival(x[HELD], np.array([0.1, 1.0]))
        assert (curves[:, 0] >= curves[:, 1]).all()
        assert c_index(targets.values[HELD, 1], targets.values[HELD, 0], said[:, 0]) > 0.6
    x[HELD], values = 1e6, targets.values.copy()
    values[HELD] = 0  # held-out rows have no say
    again = model.fit(x, replace(targets, values=values), TRAIN, TUNING, refit_on=TRAIN)
    x = make(kind)[0]
    assert again.chosen == fitted.chosen
    assert np.array_equal(again.predict(x[HELD]), said)
    if fitted.model is not None:  # kept in a run, and read back by `predict`
        kept = read_model(fitted.model.link, dict(fitted.model.arrays()))
        assert kept.width == x.shape[1]
        assert np.array_equal(kept.predict(x[HELD]), said)
    split = np.full(N, "held_out", dtype=object)
    split[TRAIN], split[TUNING] = "train", "tuning"
    guarded = replace(targets, sides=SplitGuard(splits=split))
    for rows in ((HELD, TUNING, None), (TRAIN, HELD, None), (TRAIN, TUNING, HELD)):
        with pytest.raises(LeakageError):
            model.fit(x, guarded, rows[0], rows[1], refit_on=rows[2])


def test_a_kept_model_that_nothing_reads_is_named():
    with pytest.raises(ArtefactError, match="keeps a model 'two_means'"):
        read_model("two_means", {})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [linear_probe, knn])
def test_held_out_rows_cannot_change_the_probe(kind, protocol):
    x, targets = make(kind)
    before = protocol(x, targets, TRAIN, TUNING)
    other, values = x.copy(), targets.values.copy()
    other[HELD] = 1e6
    values[HELD] = 0
    after = protocol(other, replace(targets, values=values), TRAIN, TUNING)
    assert after.chosen == before.chosen
    assert (after.predict(x[HELD]) == before.predict(x[HELD])).all()


def test_a_feature_that_does_not_vary_is_harmless():
    x, targets = make("binary")
    x[:, 3] = 7.0
    assert np.isfinite(linear_probe(x, targets, TRAIN, TUNING).predict(x[HELD])).all()
