"""A model of another package that fails, or predicts no numbers, is named."""

from types import SimpleNamespace

import numpy as np
import pytest

from medmcl.core.errors import ContractError
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.contract import Fitted, fit_of

X = np.zeros((4, 2))


def sums(features):
    return features.sum(axis=1, keepdims=True)


@pytest.fixture
def own(monkeypatch):
    """Gives a function that installs a model whose fit gives what is said."""

    def install(gives):
        monkeypatch.setattr(MODELS, "outside", {"own": "elsewhere:OWN"})
        monkeypatch.setattr(MODELS, "package", lambda name: "elsewhere")
        monkeypatch.setattr(MODELS, "_kept", {"own": SimpleNamespace(fit=lambda *_: gives())})
        return fit_of("own")

    return install


def test_a_sound_one_predicts_as_it_does(own):
    assert own(lambda: Fitted(predict=sums))(X).predict(X).shape == (4, 1)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda: None, "failed in fit(.|\n)*gave NoneType, which is no Fitted"),
        (lambda: X.nothing, r"failed in fit(.|\n)*nothing' .test_outside_models.py, line"),
        (lambda: Fitted(predict=lambda x: sums(x)[1:]), r"in predict(.|\n)*gave \(3, 1\), or NaN"),
        (lambda: Fitted(predict=lambda x: sums(x) * np.nan), "in predict(.|\n)*or NaN"),
    ],
)
def test_one_that_breaks_is_named(gives, told, own):
    with pytest.raises(ContractError, match=told) as caught:
        own(gives)(X).predict(X)
    assert "the model 'own' (package elsewhere) failed in" in str(caught.value)
