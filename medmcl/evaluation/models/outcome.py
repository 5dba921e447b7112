"""Outcomes as scikit-learn and scikit-survival users hand them over, read into targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets, TaskKind

Kind = Literal["binary", "multiclass", "continuous", "survival"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "continuous", "survival")
FEW_CLASSES = 10
"""Whole numbers with more distinct values than this are not taken for classes."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An outcome that was read.

    Attributes:
        kind: What it is.
        targets: Its values, all known.
        classes: Classes in order, as they were given (binary, multiclass).
        notes: What was guessed.
        warning: What scikit-learn would warn of: a column where one dimension was expected.
    """

    kind: Kind
    targets: Targets
    classes: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    warning: str = ""


def read_outcome(
    y: Any, kind: Kind | Literal["auto"] = "auto", *, rows: int, classes: np.ndarray | None = None
) -> Outcome:
    """Read y.

    Args:
        y: See `medmcl.evaluation.models.risk_model.RiskModel.fit`.
        kind: One of `KINDS`, or ``auto`` to guess.
        rows: Rows of the features.
        classes: Classes that are known already; other values are refused.

    Raises:
        ConfigError: Names what is wrong and what would be accepted.
    """
    if y is None:
        raise ConfigError("requires y to be passed, but the target y is None")
    array, names = _array(y)
    if array.ndim == 0 or len(array) != rows:
        raise ConfigError(
            "X and y have inconsistent numbers of samples", got=f"{rows} and {array.shape}"
        )
    guessed = _guess(array) if kind == "auto" else kind
    guess = f"kind guessed from y: {guessed}; give kind= to decide"
    notes = (guess,) if kind == "auto" else ()
    found: np.ndarray | None = None
    warning = ""
    if guessed == "survival":
        targets = _survival(array, names)
    else:
        if array.ndim == 2 and array.shape[1] == 1:
            warning = "A column-vector y was passed when a 1d array was expected"
            array = array[:, 0]
        if array.ndim != 1:
            got = f"y should be a 1d array, got {array.shape}"
            raise ConfigError(f"a {guessed} outcome has one column", got=got)
        if guessed == "continuous":
            targets = _targets("regression", ("outcome",), _finite(array)[:, None])
        else:
            targets, found = _classes(array, guessed, classes)
    return Outcome(kind=guessed, targets=targets, classes=found, notes=notes, warning=warning)


def _array(y: Any) -> tuple[np.ndarray, list[str]]:
    """Y as an array, and the names of its columns or fields if it has any."""
    if hasattr(y, "columns"):
        return y.to_numpy(), [str(name) for name in y.columns]
    array = np.asarray(y)
    return array, list(array.dtype.names or ())


def _guess(array: np.ndarray) -> Kind:
    if array.dtype.names or (array.ndim == 2 and array.shape[1] == 2):
        return "survival"
    flat = array.ravel()
    if flat.dtype.kind == "O":  # numbers where all are, otherwise words
        try:
            flat = np.array(flat.tolist())
        except ValueError:
            raise ConfigError("y holds values of several kinds", got=flat[:3]) from None
    distinct = len(np.unique(flat))
    if flat.dtype.kind in "fiu":
        if distinct == 2:
            return "binary"
        few = flat.dtype.kind in "iu" and distinct <= FEW_CLASSES
        return "multiclass" if few else "continuous"
    return "binary" if distinct <= 2 else "multiclass"


def _finite(array: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(array):
        raise ConfigError("Complex data not supported in y")
    try:
        values = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError("y must be numbers", got=str(array[:3])) from None
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ConfigError(
            "y contains NaN or infinity", got=f"{bad} values", fix="leave these rows out"
        )
    return values


def _classes(array: np.ndarray, kind: str, known: np.ndarray | None) -> tuple[Targets, np.ndarray]:
    from sklearn.utils.multiclass import check_classification_targets, type_of_target

    if array.dtype.kind == "f":
        _finite(array)
    try:
        check_classification_targets(array)
    except ValueError as error:
        raise ConfigError(
            str(error), fix="RiskModel(kind='continuous'), or turn the values into classes"
        ) from None
    found, numbers = np.unique(array, return_inverse=True)
    if known is not None:
        strange = np.setdiff1d(found, known)
        if len(strange):
            raise ConfigError("y has a class that training has not", got=strange, expected=known)
        numbers, found = np.searchsorted(known, array), known
    if len(found) < 2:
        raise ConfigError(
            "y has one class; a classifier needs at least 2 classes", got=str(found[0])
        )
    if kind == "binary" and len(found) > 2:
        raise ConfigError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(array)}.",
            fix="RiskModel(kind='multiclass')",
        )
    values = numbers[:, None].astype(np.float64)
    if kind == "binary":
        return _targets("binary", (str(found[1]),), values), found
    labels = tuple(str(value) for value in found)
    return _targets("multiclass", ("outcome",), values, labels), found


def _survival(array: np.ndarray, names: list[str]) -> Targets:
    if array.dtype.names:
        truth = [name for name in names if array.dtype[name].kind == "b"]
        if len(names) != 2 or len(truth) != 1:
            what = "a structured y has one boolean field (event) and one number (time)"
            raise ConfigError(what, got=array.dtype)
        parts = [array[truth[0]], *(array[name] for name in names if name not in truth)]
    else:
        if array.ndim != 2 or array.shape[1] != 2:
            got = f"Expected 2D array, got shape {array.shape}"
            raise ConfigError("a survival outcome has two columns, event and time", got=got)
        is_turned = [name.lower() for name in names] == ["time", "event"]
        parts = [*array.T[::-1]] if is_turned else [*array.T]
    seen, when = map(_finite, parts)
    if not np.isin(seen, (0.0, 1.0)).all():
        raise ConfigError(
            "event must be 0 or 1 (or False and True)",
            got=np.unique(seen)[:5],
            fix="give event first and time second, or columns named 'event' and 'time'",
        )
    if (when < 0).any():
        raise ConfigError("times must not be negative", got=f"{int((when < 0).sum())} are")
    return _targets("survival", ("time", "event"), np.column_stack([when, seen]))


def _targets(
    kind: TaskKind, columns: tuple[str, ...], values: np.ndarray, classes: tuple[str, ...] = ()
) -> Targets:
    known = np.ones(values.shape, dtype=bool)
    return Targets(
        name="outcome", kind=kind, columns=columns, values=values, known=known, classes=classes
    )
