"""Targets of a task, one row a sample, with what is unknown stated and not guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

TaskKind = Literal["binary", "multiclass", "multilabel", "regression", "survival"]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a task asks of each sample.

    Attributes:
        name: Task name in the cohort.
        kind: Kind of outcome.
        columns: Names along C. Survival: ``("time", "event")``. Multiclass: one column that holds
            the class number.
        values: (N, C) float64; zeros where unknown.
        known: (N, C) bool.
        classes: Names of the classes of a multiclass task, in order of their number.
        unit: Unit of a regression target or of survival time.
        horizons_years: Times at which survival metrics are asked for.
        modality: The modality whose records carry the labels; None = labels belong to subjects.
    """

    name: str
    kind: TaskKind
    columns: tuple[str, ...]
    values: np.ndarray
    known: np.ndarray
    classes: tuple[str, ...] = ()
    unit: str = ""
    horizons_years: tuple[float, ...] = ()
    modality: str | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that do not agree and unknowns that are not zero."""
        if self.values.shape != self.known.shape or self.values.ndim != 2:
            raise ValueError(f"values {self.values.shape} and known {self.known.shape} must agree")
        if self.values.shape[1] != len(self.columns):
            raise ValueError(f"{self.values.shape[1]} columns of values, {len(self.columns)} names")
        if not np.isfinite(self.values).all() or self.values[~self.known].any():
            raise ValueError("values must be finite, and zero where not known")

    @property
    def num_outputs(self) -> int:
        """Numbers a model must give: classes, labels, columns, or one log-hazard."""
        if self.kind == "multiclass":
            return len(self.classes)
        return 1 if self.kind == "survival" else len(self.columns)

    @property
    def complete(self) -> np.ndarray:
        """Samples with every column known, (N,) bool."""
        return np.asarray(self.known.all(axis=1))

    def take(self, rows: np.ndarray) -> Targets:
        """The same task for some rows."""
        return replace(self, values=self.values[rows], known=self.known[rows])
