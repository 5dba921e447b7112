"""How much of each group a selection keeps, and which groups it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.suppression import TOO_FEW, WITHHELD, hide
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.metrics.shares import effective_size, wilson

EVERYONE = "all pairs"
LOW = 0.5
"""A group of which less than this part of the overall share is kept gets a warning."""
FEWEST_PAIRS = 20
"""Of a group that gets a warning."""


@dataclass(frozen=True, kw_only=True)
class KeptShare:
    """What is kept of a group.

    Attributes:
        attribute: What it is a group of; `EVERYONE` for all.
        group: Its name; empty for all.
        n: Its pairs; None where a number would tell of too few people.
        kept: How many of them are kept.
        share: Share of them that is kept, 0 to 1.
        low: Lower end of its interval.
        high: Upper end.
        is_low: At least 20 pairs, and less than half of the share kept of all.
        note: Why there is no number; empty if there is.
    """

    attribute: str
    group: str
    n: int | None = None
    kept: int | None = None
    share: float | None = None
    low: float | None = None
    high: float | None = None
    is_low: bool = False
    note: str = ""

    @property
    def value(self) -> float | None:
        """The share, as forests draw it."""
        return self.share


def kept_shares(evidence: SelectionEvidence, level: float = 0.95) -> list[KeptShare]:
    """Count what is kept of all pairs and of each group; groups without pairs are left out.

    Groups of fewer than 5 people show no number, nor does what would tell theirs by subtraction.
    How many pairs are kept is no fact about a person, and is shown however few they are.

    Args:
        evidence: The selection.
        level: Coverage that intervals aim at (Wilson, pairs of one subject taken together).
    """
    people = np.arange(len(evidence)) if evidence.subjects is None else evidence.subjects
    whole = float(evidence.kept.mean())
    every = np.ones(len(evidence), dtype=bool)
    found = [_share(evidence.kept, people, every, EVERYONE, "", whole, level)]
    for attribute, groups in evidence.subgroups.items():
        members = {name: rows for name, rows in groups.items() if rows.any()}
        shown = hide({name: len(np.unique(people[rows])) for name, rows in members.items()})
        for name, rows in members.items():
            one = _share(evidence.kept, people, rows, attribute, name, whole, level)
            if isinstance(shown[name], str):
                note = WITHHELD if shown[name] == WITHHELD else TOO_FEW
                one = KeptShare(attribute=attribute, group=name, is_low=one.is_low, note=note)
            found.append(one)
    return found


def _share(
    kept: np.ndarray, people: np.ndarray, rows: np.ndarray, attribute: str, group: str,
    whole: float, level: float,
) -> KeptShare:  # fmt: skip
    own = kept[rows].astype(np.float64)
    share = float(own.mean())
    low, high = wilson(share, effective_size(own, people[rows]), level)
    return KeptShare(
        attribute=attribute,
        group=group,
        n=len(own),
        kept=int(own.sum()),
        share=share,
        low=low,
        high=high,
        is_low=len(own) >= FEWEST_PAIRS and share < LOW * whole,
    )


def share_warnings(shares: Sequence[KeptShare]) -> list[str]:
    """Say of which groups a selection keeps less than half of what it keeps of all."""
    whole = next(one.share for one in shares if one.attribute == EVERYONE)
    return [_warning(one, whole or 0.0) for one in shares if one.is_low]


def _warning(one: KeptShare, whole: float) -> str:
    counts = (
        f"(counts: {one.note})" if one.n is None
        else f"({one.kept:,} of {one.n:,} pairs, {one.share:.1%}; of all {whole:.1%})"
    )  # fmt: skip
    return (
        f"{one.attribute}, {one.group}: less than half as often kept as all pairs {counts}. "
        "A model trained on this selection sees little of that group."
    )
