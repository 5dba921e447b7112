"""What a selection of pairs is judged by: scores, who is kept, and pairs to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medmcl.evaluation.report.cards import Card

Row = Literal["best", "borderline", "worst"]
ROWS: tuple[Row, ...] = ("best", "borderline", "worst")


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionEvidence:
    """What is known of a selection of N pairs.

    Attributes:
        name: Of the selection: its stage, or the run that scored.
        kept: (N,) bool.
        rule: In words: what was kept, by which scores and shares.
        scores: Name to (N,), higher = keep; may be infinite, never NaN.
        subgroups: Attribute (a task, sex, site) to group to its members, (N,) bool; groups of one
            attribute may overlap (labels of a multilabel task).
        subjects: Code of the subject of each pair, (N,); None = every pair is of its own.
        pairs: Row of the contact sheet to its pairs, in the order shown; empty: no sheet.
        sheet_by: The score by which ``pairs`` were chosen.
        copies: Kind of duplicates to (N,) int64: position of the first pair of a pair's group, its
            own where it has no duplicate.
        warnings: What a reader must see; those about groups are found here.
        notes: What else there is to say.
    """

    name: str
    kept: np.ndarray
    rule: str
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    subgroups: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    subjects: np.ndarray | None = None
    pairs: Mapping[Row, tuple[Card, ...]] = field(default_factory=dict)
    sheet_by: str = ""
    copies: Mapping[str, np.ndarray] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse columns that do not agree, scores that are NaN and a selection of nothing."""
        if self.kept.dtype != bool or self.kept.ndim != 1 or not len(self.kept):
            raise ValueError(f"kept must be (N,) bool, N >= 1, got {self.kept.shape}")
        columns = {**self.scores, **self.copies}
        for attribute, members in self.subgroups.items():
            columns |= {f"{attribute}: {name}": rows for name, rows in members.items()}
        if self.subjects is not None:
            columns["subjects"] = self.subjects
        for name, values in columns.items():
            if values.shape != self.kept.shape:
                raise ValueError(f"'{name}' has shape {values.shape}, kept has {self.kept.shape}")
        for name, values in self.scores.items():
            if np.isnan(values).any():
                raise ValueError(f"score '{name}' is NaN for {int(np.isnan(values).sum())} pairs")

    def __len__(self) -> int:
        return len(self.kept)


def cut_of(scores: np.ndarray, kept: np.ndarray) -> float | None:
    """The lowest kept score, if no pair that is not kept has a higher one; else None.

    None also where all are kept, none is, or every score is the same: nothing was cut by it.

    Args:
        scores: (N,), higher = keep.
        kept: (N,) bool.
    """
    if kept.all() or not kept.any() or scores.min() == scores.max():
        return None
    lowest = scores[kept].min()
    return float(lowest) if lowest >= scores[~kept].max() else None
