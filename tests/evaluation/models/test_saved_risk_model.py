"""A saved RiskModel predicts the same to the last bit, and what is not one is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError

from medmcl import RiskModel
from medmcl.core.errors import ArtefactError, ConfigError

ROWS = 60


def made(kind):
    """Features and an outcome of a kind."""
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(ROWS, 4)), columns=["a", "b", "c", "d"])
    score = x["a"].to_numpy() + 0.5 * rng.normal(size=ROWS)
    times = rng.exponential(np.exp(-score))
    return x, {
        "binary": np.where(score > 0, "ill", "well"),
        "multiclass": np.digitize(score, [-0.5, 0.5]) * 10,
        "continuous": score,
        "survival": np.column_stack([times < 1.5, np.minimum(times, 1.5)]),
        "no event": np.column_stack([times < 0, np.minimum(times, 1.5)]),
    }[kind]


CASES = [("binary", "cox"), ("multiclass", "cox"), ("continuous", "cox"), ("survival", "cox"),
         ("survival", "discrete_time"), ("no event", "cox")]  # fmt: skip


@pytest.mark.parametrize(("kind", "hazard"), CASES)
def test_what_is_read_back_predicts_the_same(kind, hazard, tmp_path):
    x, y = made(kind)
    kind = kind.replace("no event", "survival")
    model = RiskModel(kind, hazard=hazard, cv=3).fit(x, y)
    again = RiskModel.load(model.save(tmp_path / "risk.safetensors"))
    assert again.get_params() == model.get_params()
    assert again.kind_ == kind
    assert (again.predict(x) == model.predict(x)).all()
    np.testing.assert_equal(again.strength_, model.strength_)
    assert again.notes_ == model.notes_
    assert list(again.feature_names_in_) == list("abcd")
    if kind in ("binary", "multiclass"):
        assert again.classes_.dtype == model.classes_.dtype
        assert (again.predict_proba(x) == model.predict_proba(x)).all()
    if kind == "survival":
        assert len(again.times_)
        assert (again.times_ == model.times_).all()
        curves = again.predict_survival_function(x, times=[0.3, 1.0])
        assert curves.equals(model.predict_survival_function(x, times=[0.3, 1.0]))


def test_features_of_another_width_are_refused_as_by_the_model_itself(tmp_path):
    x, y = made("binary")
    again = RiskModel.load(RiskModel().fit(x, y).save(tmp_path / "m"))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(x.drop(columns="a"))


def test_only_a_fitted_model_is_saved_and_only_plain_classes(tmp_path):
    with pytest.raises(NotFittedError):
        RiskModel().save(tmp_path / "m")
    x, _ = made("binary")
    model = RiskModel(kind="binary").fit(x, np.arange(ROWS) % 2)
    model.classes_ = np.array([object(), object()])
    with pytest.raises(ConfigError, match="cannot be written"):
        model.save(tmp_path / "m")


def of_another_schema(path):
    save_file({"weights": np.ones((4, 1))}, path, metadata={"schema": "other"})


HARMS = {
    "absent": lambda path: path.unlink(),
    "text": lambda path: path.write_text(json.dumps({"schema": "medmcl/risk-model@1"})),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "another": of_another_schema,
}


@pytest.mark.parametrize("how", HARMS)
def test_what_is_no_saved_model_is_refused_in_one_sentence(how, tmp_path):
    path = RiskModel().fit(*made("binary")).save(tmp_path / "m")
    HARMS[how](path)
    with pytest.raises(ArtefactError):
        RiskModel.load(path)


def test_without_an_event_the_times_are_those_of_follow_up(tmp_path):
    x, y = made("survival")
    y[:, 0] = 0
    with np.errstate(all="ignore"):
        model = RiskModel("survival").fit(x, y)
    again = RiskModel.load(model.save(tmp_path / "risk.safetensors"))
    assert (again.times_ == model.times_).all()
    assert len(again.times_)
