"""Findings: what a check has to say about one record, column or setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from medmcl.core.errors import cut

LEVELS = ("error", "warning")
SCOPES = ("cohort", "task", "record")
_LONGEST = 5_000
"""Letters of one finding: a cell may hold megabytes of them."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing a check found, and how to fix it.

    Attributes:
        code: Short stable name of the kind of fault, for example ``ecg.wrong_units``.
        where: Record, subject, column or file it concerns.
        what: One sentence with the offending value.
        fix: One sentence that says what to do, with the whole keys. An adapter, which does not
            know what its modality is called, writes ``inputs.NAME.size``: NAME is written out.
        level: ``error`` refuses a run; ``warning`` is shown and counted.
        scope: ``cohort`` faults refuse every run; ``record`` faults may be excluded and counted
            (``on_bad_record: exclude``); ``task`` faults refuse only what uses that task.
        task: The task a ``task`` fault belongs to.
    """

    code: str
    where: str
    what: str
    fix: str
    level: Literal["error", "warning"] = "error"
    scope: Literal["cohort", "record", "task"] = "record"
    task: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "what", cut(self.what, _LONGEST))

    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.code}]\n  to fix:   {self.fix}"

    def as_dict(self) -> dict[str, str | None]:
        """Give the finding as plain values for JSON."""
        return asdict(self)


def cohort_error(code: str, where: str, what: str, fix: str) -> Finding:
    """Give an error that refuses every run."""
    return Finding(code=code, where=where, what=what, fix=fix, scope="cohort")


def cohort_warning(code: str, where: str, what: str, fix: str) -> Finding:
    """Give a warning of no single record."""
    return Finding(code=code, where=where, what=what, fix=fix, level="warning", scope="cohort")


def record_finding(
    kind: str,
    code: str,
    where: str,
    what: str,
    fix: str,
    level: Literal["error", "warning"] = "error",
) -> Finding:
    """Give a finding on one record of a kind of modality."""
    return Finding(code=f"{kind}.{code}", where=where, what=what, fix=fix, level=level)


def task_finding(
    task: str, code: str, what: str, fix: str, level: Literal["error", "warning"] = "warning"
) -> Finding:
    """Give a finding that concerns one task: an error refuses only what uses it."""
    return Finding(
        code=code, where=f"task {task}", what=what, fix=fix, level=level, scope="task", task=task
    )


UNLIKE_TRAINING = ".other_"
"""Begins the last part of codes of what differs between a cohort and that of training."""

LEARNED_GRAPH = "the learned pair graph"
"""Where a finding on it says that it lies; codes of the modality `graph` begin alike."""

LEAVE_OUT = "; or leave it out: --set cohort.on_bad_record=exclude"
"""Ends the fix of an error that is a matter of judgement; taken off where it is set already."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: ``1 subject``, ``2 subjects``, ``0 copies``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def first_of(names: Iterable[object], most: int = 5) -> str:
    """Write the first few names, and how many more there are: ``a, b, … (3 more)``."""
    every = [*map(str, names)]
    more = len(every) - most
    return ", ".join(every[:most]) + (f", … ({more:,} more)" if more > 0 else "")


def alike_once(findings: Iterable[Finding]) -> list[Finding]:
    """Give findings of many records in the same words once, with how many they are.

    Others, errors among them, pass: who lost a record stands by name.
    """
    kinds: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        words = (one.level, one.code, one.what, one.fix)
        own = () if (one.level, one.scope) == ("warning", "record") else (one.where,)
        kinds.setdefault((*words, *own), []).append(one)
    return [
        replace(same[0], where=f"{len(same):,} records, the first {same[0].where}")
        if len(same) > 1
        else same[0]
        for same in kinds.values()
    ]
