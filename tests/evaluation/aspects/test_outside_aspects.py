"""An aspect of another package that fails, or gives what it must not give, is named."""

import pytest

from medmcl.core.errors import ContractError
from medmcl.evaluation.aspects.aspect import ASPECTS, Aspect, aspects
from medmcl.evaluation.protocol.evaluation import Found
from medmcl.evaluation.report.section import Said


class Own(Aspect):
    def measure(self, spec, scene):
        return scene()

    def sentences(self, data):
        yield data()


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(ASPECTS, "outside", {"own": "elsewhere:Own"})
    monkeypatch.setattr(ASPECTS, "package", lambda name: "elsewhere")
    monkeypatch.setattr(ASPECTS, "_kept", {"own": Own})
    return aspects()["own"]


def test_a_sound_one_is_measured_and_told(own):
    said = Said("Also", "It is.")
    assert own.sentences(lambda: said) == [said]
    assert isinstance(own.measure(None, Found), Found)
    assert own.sections(None) == []
    assert own.files(None) == {}


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda: None, "measure(.|\n)*NoneType"),
        (lambda: ["found"], "measure(.|\n)*gave 'found', which is no Found"),
        (lambda: Found().nothing, r"measure(.|\n)*nothing' .test_outside_aspects.py, line"),
    ],
)
def test_one_that_breaks_is_named_with_its_line(gives, told, own):
    with pytest.raises(ContractError, match=told) as caught:
        own.measure(None, gives)
    assert "the aspect 'own' (package elsewhere) failed in" in str(caught.value)


def test_one_that_measures_nothing_is_named(own, monkeypatch):
    monkeypatch.delattr(Own, "measure")
    with pytest.raises(ContractError, match="measure is missing"):
        aspects()


def test_a_sentence_that_is_none_is_named(own):
    with pytest.raises(ContractError, match="'long', which is no Said"):
        own.sentences(lambda: "long")
