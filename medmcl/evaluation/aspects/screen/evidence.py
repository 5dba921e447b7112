"""What a screening for poisoned rows is judged by and shown with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.config import lookup
from medmcl.core.findings import counted
from medmcl.evaluation.metrics.intervals import bootstrap
from medmcl.evaluation.metrics.sampled import Interval

TOP = 50
"""Most suspect rows that are looked at if nobody says."""


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
class Screened:
    """What a screening of N rows found.

    Attributes:
        stage: Whose embeddings.
        modality: What was embedded.
        attack: Poison stage that was laid over the rows; empty without.
        k: Neighbours.
        batch: Rows within which neighbours were looked for; None: the whole table.
        rows: Sample number of each row, (N,).
        table: N rows: ``sample``, ``subject``; of each detector its score (higher = more suspect)
            and ``NAME_rank`` (1 = most suspect); ``poisoned`` where there is a manifest.
        judged: Detector to how well it finds the poisoned rows; empty without a manifest.
        left_out: Why train samples were not screened, to how many.
        notes: What else a reader must know.
    """

    stage: str
    modality: str
    attack: str
    k: int
    batch: int | None
    rows: np.ndarray
    table: pd.DataFrame
    judged: Mapping[str, Judged] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors, as the table has them."""
        return tuple(str(name) for name in self.table if f"{name}_rank" in self.table)

    @property
    def num_poisoned(self) -> int | None:
        """Poisoned rows; None without a manifest."""
        return int(self.table["poisoned"].sum()) if "poisoned" in self.table else None

    @property
    def is_poisoned(self) -> np.ndarray | None:
        """What the manifest says of each row, (N,) bool; None without one."""
        return self.table["poisoned"].to_numpy() if "poisoned" in self.table else None

    def suspects(self, detector: str = "dao", top: int = TOP) -> pd.DataFrame:
        """Give the most suspect rows of the table, the most suspect first."""
        lookup("detector", detector, dict.fromkeys(self.detectors))
        return self.table.sort_values(f"{detector}_rank").head(top)

    def state(self, row: Any) -> str:
        """What the manifest says of a row of the table; empty without one."""
        return ("poisoned" if row["poisoned"] else "clean") if "poisoned" in row else ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, in sentences: rows, neighbours, poisoned and clean, what was left out."""
        how = "the whole table" if self.batch is None else f"batches of {self.batch:,} or more rows"
        said = [
            f"{counted(len(self), 'train row')} screened by the {self.modality} embeddings of "
            f"stage {self.stage}: {counted(self.k, 'neighbour')} in {how}."
        ]
        if self.num_poisoned is not None:
            clean = len(self) - self.num_poisoned
            said.append(
                f"{self.num_poisoned:,} of them are poisoned and {clean:,} are clean, says the "
                f"manifest of stage {self.attack}."
            )
        lost = [f"{count:,} {why}" for why, count in self.left_out.items() if count]
        if lost:
            said.append(f"Train samples that are not screened: {', '.join(lost)}.")
        return (*said, *(f"{one[0].upper()}{one[1:]}." for one in self.notes))
