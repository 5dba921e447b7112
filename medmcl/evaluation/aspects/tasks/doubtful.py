"""What a reader must doubt: results that are rarely true of people, and models of nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from medmcl.evaluation.models.strength import ALIKE, is_alike, said_alike
from medmcl.evaluation.protocol.results import FEWEST_DECIDING, WHOLES, Result

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation

NEARLY_PERFECT = 0.995
"""A metric of `_PERFECT_AT_1` above this is remarked on."""
_PERFECT_AT_1 = {"auroc": "AUROC", "c_index": "C-index", "r2": "R²"}


def doubtful(data: Evaluation) -> list[str]:
    """Give a sentence for each result, and each kept model, that is not what it seems."""
    alike = [
        f"{row.task}: {row.method}: {note}; it found nothing to go by, or had too few people to "
        "find it"
        for row in data.main_rows
        for note in row.note.split("; ")
        if ALIKE in note  # of which column, and in how many folds, it says itself
    ]
    return [*too_good(data.task_rows), *alike, *said_alike(data.notes)]


def is_of_nothing(results: Sequence[Result], row: Result) -> bool:
    """Whether a method predicts nearly the same for everyone: of a mean, in each of its targets."""
    if row.target != "macro":
        return is_alike(row.note, row.target)
    own = {one.target for one in results if (one.task, one.metric) == (row.task, row.metric)}
    return all(is_alike(row.note, target) for target in own - {"macro"})


def too_good(results: Iterable[Result]) -> list[str]:
    """Give a sentence a task and metric for methods that are nearly perfect on unseen people.

    A hint, not a refusal: simulated people, and outcomes that are read off the input by definition,
    can be told without a fault.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        if not row.versus and row.is_of_task and _is_too_good(row):
            found.setdefault((row.task, row.metric), []).append(row)
    return [_sentence(task, metric, rows) for (task, metric), rows in found.items()]


def _is_too_good(row: Result) -> bool:
    if row.metric not in _PERFECT_AT_1 or row.value is None or row.value <= NEARLY_PERFECT:
        return False
    if row.target in WHOLES:  # the rows of single targets have their own counts
        return False
    return row.deciding[0] >= FEWEST_DECIDING


def _sentence(task: str, metric: str, rows: list[Result]) -> str:
    best = max(rows, key=lambda row: row.value or 0.0)
    methods = list(dict.fromkeys(row.method for row in rows))
    others = len(methods) - 1
    more = f" and {others} other method{'s' * (others > 1)}" if others else ""
    about = "" if best.target in ("", task) else f", {best.target}"
    return (
        f"{task}{about}: {_PERFECT_AT_1[metric]} of {best.value:.3f} ({best.method}{more}) on "
        "held-out people is rarely true: look for the outcome among the inputs, or for what is "
        "known only because of it"
    )
