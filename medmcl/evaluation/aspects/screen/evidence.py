"""What a screening for poisoned rows is judged by and shown with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medmcl.evaluation.aspects.selection.evidence import RecordView
from medmcl.evaluation.metrics.intervals import Interval, bootstrap


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How well a detector finds the rows of a manifest.

    Attributes:
        auroc: Higher = poisoned rows rank above clean ones, 0.5 = chance; over subjects.
        top: So many of the most suspect rows were looked at.
        in_top: So many of them are poisoned.
        by_chance: So many would be in as many rows drawn by chance.
    """

    auroc: Interval
    top: int
    in_top: int
    by_chance: float


def judge(
    scores: np.ndarray,
    is_poisoned: np.ndarray,
    subjects: np.ndarray,
    top: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Judged:
    """Judge a detector by who is poisoned.

    Args:
        scores: (N,), higher = more suspect. Of equal ones, earlier rows rank first.
        is_poisoned: (N,) bool.
        subjects: Subject of each row, (N,).
        top: Most suspect rows to look at; all if there are fewer.
        draws: Bootstrap draws.
        seed: Of the draws.
    """
    top = min(top, len(scores))
    return Judged(
        auroc=bootstrap("auroc", is_poisoned, scores, subjects, draws=draws, seed=seed),
        top=top,
        in_top=int(is_poisoned[most_suspect(scores)[:top]].sum()),
        by_chance=top * float(is_poisoned.mean()),
    )


def most_suspect(scores: np.ndarray) -> np.ndarray:
    """Order rows, the most suspect first; equal ones as they stand. (N,) int64."""
    return np.argsort(-np.asarray(scores), kind="stable")


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspect:
    """A row to look at.

    Attributes:
        id: Its sample.
        subject: Its subject.
        rank: 1 = most suspect.
        scores: Detector to its score, higher = more suspect.
        is_poisoned: What the manifest says; None without one.
        sides: Its records, as the stage was trained on them.
    """

    id: str
    subject: str
    rank: int
    scores: Mapping[str, float]
    is_poisoned: bool | None
    sides: tuple[RecordView, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ScreenEvidence:
    """What a page shows of a screening of N rows.

    Attributes:
        stage: Whose embeddings.
        modality: What was embedded.
        detector: By which the suspects are listed.
        scores: Detector to (N,), higher = more suspect.
        is_poisoned: (N,) bool; None without a manifest.
        judged: Detector to how well it does; empty without a manifest.
        suspects: The most suspect first.
        lines: What was done, in sentences.
        warnings: What a reader must see.
        attack: Name of the attack that is laid over the rows; empty without.
        others: Every other detector to its own most suspect, fewer of them.
    """

    stage: str
    modality: str
    detector: str
    scores: Mapping[str, np.ndarray]
    is_poisoned: np.ndarray | None
    suspects: tuple[Suspect, ...]
    judged: Mapping[str, Judged] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    attack: str = ""
    others: Mapping[str, tuple[Suspect, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores[self.detector])
