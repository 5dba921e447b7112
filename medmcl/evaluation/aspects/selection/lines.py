"""What a selection kept, in sentences and as rows of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.aspects.selection.kept_shares import kept_shares, share_warnings
from medmcl.evaluation.report.pictures import shorten


def selection_line(evidence: SelectionEvidence) -> str:
    """Say how many pairs are kept."""
    kept, n = int(evidence.kept.sum()), len(evidence)
    return f"{kept:,} of {n:,} pairs are kept ({kept / n:.1%})."


def selection_headline(found: Sequence[SelectionEvidence]) -> list[str]:
    """Say for the first lines of a report what was kept, and how many warnings there are."""
    lines = []
    for one in found:
        count = len(one.warnings) + len(share_warnings(kept_shares(one)))
        more = f" {count} warnings are under Selection." if count else ""
        more = " A warning is under Selection." if count == 1 else more
        lines.append(f"Selection {shorten(one.name, 60)}: {selection_line(one)}{more}")
    return lines


def copies_lines(evidence: SelectionEvidence) -> list[str]:
    """Say how many pairs are duplicates of an earlier one, by kind."""
    lines = []
    for kind, first in evidence.copies.items():
        again = first != np.arange(len(first))
        kept = int((again & evidence.kept).sum())
        lines.append(f"Duplicates ({kind}): {int(again.sum()):,} pairs repeat an earlier one; "
                     f"{kept:,} of them are kept.")  # fmt: skip
    return lines


def selection_rows(found: Sequence[SelectionEvidence], level: float) -> list[dict[str, Any]]:
    """What is kept of all and of each group, as plain values."""
    names = ("attribute", "group", "n", "kept", "share", "low", "high", "is_low", "note")
    return [
        {"selection": one.name, **{name: getattr(share, name) for name in names}}
        for one in found
        for share in kept_shares(one, level)
    ]
