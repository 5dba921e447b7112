"""Targets of a task, made from its values."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.core.targets import Targets, TaskKind


def targets_of(kind: TaskKind, values: Any, known: Any = None, **more: Any) -> Targets:
    """Give the targets of values, (N,) or (N, C): known unless said otherwise, zero where not.

    Columns, and the classes of a multiclass task (three), get names; ``more`` gives other ones.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    known = np.ones(values.shape, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    columns = ("y",) if values.shape[1] == 1 else tuple("abcdefgh"[: values.shape[1]])
    about: dict[str, Any] = {
        "name": "t",
        "columns": ("time", "event") if kind == "survival" else columns,
        "classes": ("a", "b", "c") if kind == "multiclass" else (),
    }
    return Targets(kind=kind, values=np.where(known, values, 0.0), known=known, **{**about, **more})
