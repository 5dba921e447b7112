"""An adapter of another package that breaks its contract is named, with the record it broke on."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from plugin_package import PLUGIN, write_lungs

from medmcl.core.config import Config
from medmcl.core.errors import ConfigError, ContractError
from medmcl.core.findings import Finding
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.reading import content_digest
from medmcl.modalities import ADAPTERS, readers
from medmcl.modalities.outside import code_of, rehearse_view

INPUTS = {"lungs": {"rate_hz": 5}}
WHO = "adapter 'spirometry' (package medmcl-spirometry)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_lungs(tmp_path_factory.mktemp("lungs") / "cohort", people=12)


@pytest.fixture
def lungs(monkeypatch):
    """Gives what changes the adapter of the example, as if its package were installed so."""
    monkeypatch.syspath_prepend(PLUGIN)
    from medmcl_spirometry.adapter import Spirometry

    def install(**changes):
        kept = {name: value for name, value in changes.items() if value is not ...}
        made = type("Changed", (Spirometry,), kept)
        for name in changes.keys() - kept.keys():  # as if it had never been written
            setattr(made, name, None)
        monkeypatch.setattr(ADAPTERS, "_kept", {})
        home = {"spirometry": "medmcl_spirometry.adapter:Changed"}
        monkeypatch.setattr(ADAPTERS, "outside", home)
        monkeypatch.setattr(ADAPTERS, "package", lambda name: "medmcl-spirometry")
        monkeypatch.setattr("medmcl_spirometry.adapter.Changed", made, raising=False)
        readers.cache_clear()
        return made

    yield install
    readers.cache_clear()


class Loose(Config):
    reader: str


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "lung"}, "kind must be 'spirometry', as its entry point is called: it is 'lung'"),
        ({"measured": ...}, "measured must be True or False"),
        ({"Augment": ...}, "Augment must be a class of Config"),
        ({"Settings": dict}, "Settings must be a class of Config"),
        ({"Source": Loose}, "reader of its Source must be a Literal"),
        ({"augment": ...}, "the method augment is missing"),
        ({"state": ...}, "the method state is missing"),
    ],
)
def test_a_class_that_lacks_something_is_refused_when_it_is_loaded(changes, told, lungs):
    lungs(**changes)
    for load in (lambda: ADAPTERS["spirometry"], lambda: ADAPTERS.settings["spirometry"]):
        with pytest.raises(ContractError, match="package medmcl-spirometry") as caught:
            load()
        assert told in str(caught.value)


def boom(*_, **__):
    raise KeyError("oops")


def gives(value):
    return lambda self, *_: value


BROKEN = [
    ({"fit": boom}, "failed in fit of lungs", "KeyError: 'oops' (test_outside.py, line"),
    ({"prepare": boom}, "failed in prepare on record p", "KeyError: 'oops'"),
    ({"prepare": gives(torch.zeros(1, 30))}, "breaks its contract in prepare", "torch.Tensor"),
    ({"prepare": gives(np.array(["a"]))}, "breaks its contract in prepare", "of <U1"),
    ({"prepare": lambda self, raw: torch.rand(self.prepared_shape).numpy()},
     "breaks its contract in prepare", "other rows of record p"),
    ({"input_shape": property(gives((1, 30)))}, "contract in input_shape", "<class 'tuple'>"),
    ({"state": gives({"mean": np.zeros(2)})}, "breaks its contract in state", "mean: <class 'num"),
    ({"load_state": boom}, "failed in load_state", "KeyError: 'oops'"),
    ({"load_state": gives(None)}, "breaks its contract in load_state", "prepared otherwise"),
    ({"plain": gives(torch.zeros(1, 30))}, "breaks its contract in plain", "(1, 1, 30)"),
    ({"augment": gives(None)}, "breaks its contract in augment", "NoneType"),
    ({"augment": boom}, "failed in augment on record p", "KeyError: 'oops'"),
    ({"augment": lambda self, x, *_: x.add_(1)}, "breaks its contract in augment", "in place"),
    ({"augment": lambda self, x, *_: x.double()}, "breaks its contract in augment", "float64"),
    ({"augment": lambda self, x, *_: x + torch.rand(1)}, "contract in augment", "once more"),
    ({"plain": lambda self, x: x / 0}, "breaks its contract in plain", "not finite"),
    ({"simple_features": boom}, "failed in simple_features on record p", "KeyError: 'oops'"),
    ({"simple_features": gives({"fev1": "a"})}, "contract in simple_features", "fev1: 'a'"),
    ({"prepared_shape": property(boom)}, "failed in", "KeyError: 'oops'"),
    ({"input_shape": property(boom)}, "failed in input_shape", "KeyError: 'oops'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told", "got"), BROKEN)
def test_check_and_prepare_name_the_adapter_that_breaks(
    changes, told, got, lungs, folder, tmp_path
):
    lungs(**changes)
    (error,) = [one for one in check_cohort(folder, INPUTS) if one.level == "error"]
    cohort, _ = load_cohort(folder)
    with pytest.raises(ContractError) as caught:
        prepare(cohort, INPUTS, cache=tmp_path)
    for said in (str(error), str(caught.value)):
        assert WHO in said
        assert told in said
        assert got in said


@pytest.mark.parametrize("found", [None, ["bad"]])
def test_an_inspection_that_gives_no_findings_is_named(found, lungs, folder):
    lungs(inspect=gives(found))
    with pytest.raises(ContractError, match="breaks its contract in inspect on record p"):
        check_cohort(folder)


def test_a_finding_of_no_level_is_named(lungs, folder):
    lungs(inspect=gives([Finding(code="a", where="b", what="c", fix="d", level="warn")]))
    with pytest.raises(ContractError, match="a Finding with 'warn'"):
        check_cohort(folder)


def test_where_an_inspection_fails_is_told(lungs, folder):
    lungs(inspect=boom)
    found = check_cohort(folder, INPUTS)
    told = {one.what for one in found if one.code == "spirometry.unchecked"}
    assert "KeyError: 'oops' (test_outside.py, line" in "".join(told)


def test_a_view_disturbs_by_the_options_of_the_recipe(lungs):
    """Noise of no size by default, but drawn by torch: nothing is seen of it without options."""
    made = lungs(augment=lambda self, x, options, _: x + options.effort * torch.rand(1))
    adapter = made(made.Source(reader="spirometry"), made.Settings(rate_hz=5))
    x = torch.zeros(2, 1, 30)
    rehearse_view(adapter, x, made.Augment())
    with pytest.raises(ContractError, match=r"breaks its contract in augment(.|\n)*once more"):
        rehearse_view(adapter, x, made.Augment(effort=0.1))


def test_what_reading_raises_by_chance_may_be_the_adapters_fault(lungs, folder):
    lungs(read=boom)
    (error,) = [one for one in check_cohort(folder, INPUTS) if one.code == "spirometry.unreadable"]
    assert f"or {WHO} is at fault (got KeyError: 'oops' (test_outside.py, line" in error.what
    assert "raise RecordError" in error.fix


class Bare:
    """A raw record without a `__repr__` of its own, which would show where it lies."""

    def __init__(self, litres):
        self.litres = litres


@dataclass
class Listed:
    litres: list


@pytest.mark.parametrize("kind", [Bare, Listed])
def test_copies_are_told_by_what_any_object_holds(kind):
    first = content_digest(kind([1.0, 2.0]))
    assert first == content_digest(kind([1.0, 2.0]))
    assert first != content_digest(kind([1.0, 3.0]))


def test_rows_of_older_code_are_not_taken(lungs, folder, tmp_path, monkeypatch):
    made = lungs()
    cohort, _ = load_cohort(folder)
    before = prepare(cohort, INPUTS, cache=tmp_path).inputs("lungs")[0]
    own = made.prepare
    monkeypatch.setattr(made, "prepare", lambda self, raw: own(self, raw) + 1)
    again = prepare(cohort, INPUTS, cache=tmp_path).inputs("lungs")[0]
    assert np.array_equal(again, before), "what the package's files say did not change"
    copied = tmp_path / "code.py"
    copied.write_text("# newer")
    monkeypatch.setattr(sys.modules[made.__mro__[1].__module__], "__file__", str(copied))
    code_of.cache_clear()
    anew = prepare(cohort, INPUTS, cache=tmp_path).inputs("lungs")[0]
    assert np.array_equal(anew, before + 1)


def test_a_shape_that_is_missing_is_named(lungs, folder):
    lungs(prepared_shape=...)
    with pytest.raises(ContractError, match="prepared_shape is missing"):
        check_cohort(folder, INPUTS)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (np.zeros(30, np.float32), "preparing gave another shape"),
        (np.full((1, 30), np.nan, np.float32), "30 of 30 values that are not finite"),
    ],
)
def test_rows_that_are_all_wrong_are_the_adapters_fault(row, told, lungs, folder, tmp_path):
    lungs(prepare=gives(row))
    (error,) = [one for one in check_cohort(folder, INPUTS) if one.level == "error"]
    assert told in error.what
    assert error.scope == "cohort"
    assert f"correct `prepare` of {WHO}" in error.fix
    assert error.where.startswith("modalities.lungs, subject p")
    cohort, _ = load_cohort(folder)
    with pytest.raises(ContractError, match="prepares none of its 12 records") as caught:
        prepare(cohort, INPUTS, cache=tmp_path)
    assert told in str(caught.value)
    assert "copy" not in str(caught.value)


def test_settings_that_leave_nothing_are_refused_before_anything_is_prepared(
    lungs, folder, tmp_path
):
    lungs(fit=gives(None), prepare=boom)
    short = {"lungs": {"seconds": 0.01}}
    (error,) = [one for one in check_cohort(folder, short) if one.level == "error"]
    assert "leave nothing of a record" in error.what
    cohort, _ = load_cohort(folder)
    with pytest.raises(ConfigError, match="leave nothing of a record") as caught:
        prepare(cohort, short, cache=tmp_path)
    assert "shape (1, 0)" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_keeps_its_contract_is_checked_and_prepared(dtype, lungs, folder, tmp_path):
    made = lungs()
    own = made.prepare
    made.prepare = lambda self, raw: own(self, raw).astype(np.float64).astype(dtype) / 3
    assert not [one for one in check_cohort(folder, INPUTS) if one.level == "error"]
    cohort, _ = load_cohort(folder)
    assert prepare(cohort, INPUTS, cache=tmp_path).stored["lungs"].usable.all()
