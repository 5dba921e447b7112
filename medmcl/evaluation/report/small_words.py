"""What a page says where it shows a count that is hidden: why, and how one gets exact ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from medmcl.core.suppression import FEWEST_SUBJECTS, WITHHELD, Hidden, few
from medmcl.evaluation.protocol.evaluation import Evaluation

WHY = (
    "Counts that read <5, as a range (55 to 59) or withheld would tell of 1 to 4 people, by "
    "themselves or together with others; numbers beside them are rounded for the same reason. "
    "For your own use, the results that medmcl.evaluate(...) returns in Python have exact counts, "
    "and medmcl evaluate --predictions FILE writes a line a person."
)


def why_hidden(data: Evaluation) -> str:
    """Say why counts are hidden, and how one gets exact ones; empty where none is.

    Args:
        data: As shown.
    """
    if data.rounding is not None:
        return data.rounding.said
    parts = (data.results, data.subgroups, data.presence, data.evidence, data.fitted,
             data.applied, data.table_one, data.shown, data.flow)  # fmt: skip
    has_few = any(0 < n < FEWEST_SUBJECTS for step in data.flow for n in step[1:])
    return WHY if has_few or hides(parts) else ""


def hides(found: Any) -> bool:
    """Whether a count in something, or in its parts, is hidden."""
    if isinstance(found, str):
        return found == few(1) or found.startswith(WITHHELD)
    if is_dataclass(found) and not isinstance(found, type):
        found = vars(found)
    if isinstance(found, Mapping):
        return any(map(hides, found.values()))
    if isinstance(found, (list, tuple)):
        return any(map(hides, found))
    return isinstance(found, Hidden)
