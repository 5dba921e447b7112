"""Adapters of other packages: whether they keep their contract, and whose fault it is if not."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.contracts import Adapter, RecordRef, SimpleFeatures
from medmcl.core.errors import (
    ConfigError,
    ContractError,
    MedmclError,
    RecordError,
    is_of_memory,
)
from medmcl.core.findings import LEVELS, SCOPES, Finding
from medmcl.core.lazy import is_config, literals, package_digest, refuse_slips
from medmcl.core.rng import RowGenerator
from medmcl.modalities import ADAPTERS

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = ("read", "inspect", "fit", "prepare", "plain", "augment", "state", "load_state")
_OF_INSTANCES = ("settings", "prepared_shape", "input_shape")
_LIBRARIES = {"medmcl", "numpy", "torch", "pandas", "pydantic", "scipy", "sklearn"}
_LIBRARIES |= sys.stdlib_module_names
_FIX = "correct the package (docs/extend.md has what each method is given and must give)"


def keeps_contract(name: str, adapter: Any, package: str) -> None:
    """Look whether the class of an adapter has what it must have.

    Raises:
        ContractError: It has not; every slip is named.
    """
    slips = []
    if not isinstance(adapter, type):
        slips.append("an adapter must be a class")
    if getattr(adapter, "kind", None) != name:
        is_now = repr(getattr(adapter, "kind", "missing"))
        slips.append(f"kind must be '{name}', as its entry point is called: it is {is_now}")
    if not isinstance(getattr(adapter, "measured", None), bool):
        slips.append("measured must be True or False")
    models = ("Source", "Settings", "Augment")
    slips += [f"{one} must be a class of Config" for one in models if not is_config(adapter, one)]
    if is_config(adapter, "Source") and not literals(adapter.Source, "reader"):
        slips.append('reader of its Source must be a Literal: reader: Literal["NAME"]')
    lacking = [one for one in _METHODS if not callable(getattr(adapter, one, None))]
    slips += [f"the method {one} is missing" for one in lacking]
    refuse_slips(ADAPTERS.group, name, package, slips)


def refuse_incomplete(adapter: Adapter) -> None:
    """Refuse an adapter from outside that lacks, once built, what is asked of it.

    Raises:
        ContractError: An attribute is missing.
    """
    if adapter.kind in ADAPTERS.outside:
        lacking = [
            one for one in _OF_INSTANCES if inspect.getattr_static(adapter, one, None) is None
        ]
        slips = [f"{one} is missing" for one in lacking]
        refuse_slips(ADAPTERS.group, adapter.kind, ADAPTERS.package(adapter.kind), slips)


def said_of(adapter: Adapter) -> str:
    """Name an adapter and its package."""
    return f"adapter '{adapter.kind}' (package {ADAPTERS.package(adapter.kind)})"


@contextmanager
def blamed(adapter: Adapter, method: str, place: RecordRef | None = None) -> Iterator[None]:
    """Say of what an adapter from outside raises unexpectedly whose fault it is, and where.

    What adapters raise on purpose passes. What one that ships raises passes too, with a note.

    Args:
        adapter: The adapter.
        method: What is called.
        place: The record it is called for; None if it is for none alone.

    Raises:
        ContractError: An adapter from outside failed.
    """
    try:
        yield
    except MedmclError:
        raise
    except Exception as error:
        on = "" if place is None else f" on record {place.record} of subject {place.subject}"
        if adapter.kind not in ADAPTERS.outside or is_of_memory(error):
            error.add_note(f"{said_of(adapter)} failed in {method}{on}")
            raise
        raise ContractError(
            f"{said_of(adapter)} failed in {method}{on}", got=raised_at(error), fix=_FIX
        ) from error


@contextmanager
def fails(said: str, fix: str) -> Iterator[None]:
    """Say of what a part of another package raises unexpectedly that the part is at fault.

    Args:
        said: The part, its package, and in what it fails: ``the encoder 'x' (package y) failed``.
        fix: What to do.

    Raises:
        ContractError: It failed, and not for want of memory.
    """
    try:
        yield
    except MedmclError:
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        raise ContractError(said, got=raised_at(error), fix=fix) from error


@contextmanager
def reading(adapter: Adapter) -> Iterator[None]:
    """Say of what `read` of an adapter from outside raises by chance that it may be at fault, too.

    Raises:
        RecordError: Damaged bytes make libraries raise anything: it is still one record's.
    """
    try:
        yield
    except MedmclError:
        raise
    except Exception as error:
        if adapter.kind not in ADAPTERS.outside or is_of_memory(error):
            raise
        raise RecordError(
            f"cannot be read: the file is damaged or of another format, or {said_of(adapter)} is "
            "at fault",
            got=raised_at(error),
            fix="copy it again from its source; if it is sound, correct `read`, and raise "
            "RecordError of what cannot be read",
        ) from error


@cache
def code_of(adapter: type) -> str:
    """Hash the code of an adapter from outside: what it prepared goes stale when that changes.

    The code is every module of its package, and those of the classes it is made of. Empty of an
    adapter that ships.
    """
    if getattr(adapter, "kind", None) not in ADAPTERS.outside:
        return ""
    files = {
        Path(file)
        for one in adapter.__mro__
        if _top(one.__module__) not in (*sys.stdlib_module_names, "medmcl")
        and (file := sys.modules[one.__module__].__file__) is not None
    }
    return package_digest(_top(adapter.__module__), *sorted(files))


def raised_at(error: Exception) -> str:
    """Say what was raised, and in which line: the last that is not of a library or of medmcl."""
    frames = [*traceback.walk_tb(error.__traceback__)]
    own = [one for one in frames if _top(one[0].f_globals.get("__name__", "")) not in _LIBRARIES]
    frame, line = (own or frames)[-1]
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {said} ({Path(frame.f_code.co_filename).name}, line {line})"


def _top(module: str) -> str:
    return module.partition(".")[0]


def broken(adapter: Adapter, method: str, got: object, expected: object) -> ContractError:
    """Make the error of an adapter that gives what it must not give."""
    return ContractError(
        f"{said_of(adapter)} breaks its contract in {method}", got=got, expected=expected, fix=_FIX
    )


def checked_findings(adapter: Adapter, found: Any, place: RecordRef) -> list[Finding]:
    """Give what `Adapter.inspect` found, if it is what it must be.

    Raises:
        ContractError: It is no list of findings.
    """
    if not isinstance(found, list) or not all(isinstance(one, Finding) for one in found):
        strange = f"a list with {found[0]!r}" if isinstance(found, list) else repr(found)
        method = f"inspect on record {place.record}"
        raise broken(adapter, method, strange, "a list of Finding; empty if nothing is wrong")
    for one in found:
        for said, known in ((one.level, LEVELS), (one.scope, SCOPES)):
            if said not in known:
                raise broken(adapter, "inspect", f"a Finding with '{said}'", " or ".join(known))
    return found


def checked_row(adapter: Adapter, row: Any) -> np.ndarray:
    """Give what `Adapter.prepare` gave, if it is an array of numbers.

    Raises:
        ContractError: It is something else.
    """
    if not isinstance(row, np.ndarray) or row.dtype.kind not in "biuf":
        dtype = f" of {row.dtype}" if isinstance(row, np.ndarray) else ""
        got = f"{type(row).__module__}.{type(row).__name__}{dtype}"
        raise broken(adapter, "prepare", got, "a numpy array of numbers")
    return row


def checked_state(adapter: Adapter) -> dict[str, Any]:
    """Give what `Adapter.fit` learned, if JSON can hold it.

    Raises:
        ContractError: It cannot.
    """
    with blamed(adapter, "state"):
        state = adapter.state()
    if adapter.kind in ADAPTERS.outside:
        if not isinstance(state, dict):
            raise broken(adapter, "state", type(state).__name__, "a dict of plain JSON values")
        for key, value in state.items():
            try:
                json.dumps({key: value})
            except (TypeError, ValueError):
                expected = "plain JSON values: numbers of Python, texts, lists, dicts"
                raise broken(adapter, "state", f"{key}: {type(value)}", expected) from None
    return state


def fitted_shape(adapter: Adapter, name: str) -> tuple[int, ...]:
    """Give the shape of prepared rows; known once the adapter is fitted.

    Raises:
        ConfigError: The settings leave nothing of a row.
        ContractError: It is no shape.
    """
    with blamed(adapter, "prepared_shape"):
        shape = tuple(adapter.prepared_shape)
    if adapter.kind in ADAPTERS.outside:
        if not all(isinstance(one, int | np.integer) for one in shape):
            raise broken(adapter, "prepared_shape", shape, "a tuple of whole numbers")
        if min(shape, default=1) < 1:
            raise ConfigError(
                f"the settings of '{name}' leave nothing of a record",
                where=f"inputs.{name}",
                got=f"prepared rows of shape {shape} by {said_of(adapter)}",
                expected="at least 1 along each axis",
                fix=f"other settings under inputs.{name}; `medmcl parts {adapter.kind}` lists them",
            )
    return shape


def rehearse(adapter: Adapter, source: Any, raw: Any, row: np.ndarray, place: RecordRef) -> None:
    """Do with one prepared row of an adapter from outside all that a run would do.

    What it learned goes through JSON into another adapter, which must prepare the same row; the row
    is shown plainly and disturbed; what is plain to see of the record is measured.

    Raises:
        ContractError: The adapter fails, or gives what it must not give.
    """
    if adapter.kind not in ADAPTERS.outside:
        return
    import torch

    with blamed(adapter, "prepare", place):
        twice = adapter.prepare(raw)
    if not np.array_equal(row, np.asarray(twice).astype(row.dtype), equal_nan=True):
        expected = "the same row of the same record again, which it leaves unchanged"
        raise broken(adapter, "prepare", f"other rows of record {place.record}", expected)
    state = json.loads(json.dumps(checked_state(adapter)))
    again = type(adapter)(source, adapter.settings)
    with blamed(again, "load_state"):
        again.load_state(state)
    with blamed(again, "prepare", place):
        other = again.prepare(raw)
    if not np.array_equal(row, np.asarray(other).astype(row.dtype), equal_nan=True):
        raise broken(
            adapter, "load_state", f"record {place.record} prepared otherwise than before `state`",
            "that `load_state` takes back all that `fit` learned",
        )  # fmt: skip
    x = torch.as_tensor(row[None], device="cpu")
    rehearse_view(adapter, x, None, place)
    try:
        options = adapter.Augment()
    except ValueError:  # it has keys that a recipe must say
        pass
    else:
        rehearse_view(adapter, x, options, place)
    if isinstance(adapter, SimpleFeatures):
        with blamed(adapter, "simple_features", place):
            found = adapter.simple_features(raw)
        _check_features(adapter, found)


def rehearse_view(
    adapter: Adapter, x: Tensor, options: Any | None, place: RecordRef | None = None
) -> None:
    """Show prepared rows of an adapter from outside, plainly or disturbed as options say, twice.

    Args:
        adapter: The adapter.
        x: The rows, (B, *prepared_shape).
        options: An ``Augment``; None: they are shown plainly.
        place: The record that they are of; None if of several.

    Raises:
        ContractError: It fails, or gives what it must not give.
    """
    import torch

    with blamed(adapter, "input_shape"):
        seen = adapter.input_shape
    if not isinstance(seen, InputShape):
        raise broken(adapter, "input_shape", type(seen), InputShape)
    method, own, shape = "plain" if options is None else "augment", x.clone(), (len(x), *seen.shape)

    def shown() -> Any:
        if options is None:
            return adapter.plain(own)
        drawn = RowGenerator(torch.Generator(device="cpu").manual_seed(0))
        return adapter.augment(own, options, drawn)

    with blamed(adapter, method, place):
        given, again = shown(), shown()
    if not isinstance(given, torch.Tensor) or tuple(given.shape) != shape:
        got = f"shape {tuple(given.shape)}" if isinstance(given, torch.Tensor) else type(given)
        expected = f"a tensor of shape {shape}: rows, then the shape of input_shape"
        raise broken(adapter, method, got, expected)
    if given.dtype == torch.float64:
        raise broken(adapter, method, given.dtype, torch.float32)
    if not given.isfinite().all():
        raise broken(adapter, method, "values that are not finite", "finite ones")
    if not torch.equal(own, x):
        raise broken(adapter, method, "rows that it changed in place", "x itself unchanged")
    if not torch.equal(given, again):
        got = "other rows when asked once more"
        raise broken(adapter, method, got, "that whatever is drawn comes from `generator`")


def _check_features(adapter: Adapter, found: Any) -> None:
    """Refuse what are neither numbers by name nor terms."""
    if isinstance(found, Mapping):
        for name, value in found.items():
            if not isinstance(value, int | float | np.number | np.bool_):
                raise broken(adapter, "simple_features", f"{name}: {value!r}", "numbers by name")
    elif not (
        isinstance(found, Sequence)
        and not isinstance(found, str)
        and all(isinstance(one, str) for one in found)
    ):
        raise broken(adapter, "simple_features", type(found), "numbers by name, or a list of terms")
