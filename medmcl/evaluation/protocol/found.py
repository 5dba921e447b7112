"""What was found by evaluating: one shape from the protocol and the aspects to the report."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from medmcl.evaluation.protocol.evidence import FittedOn, PresenceRow, SubgroupRow, TaskEvidence
from medmcl.evaluation.protocol.results import Result


@dataclass(kw_only=True)
class Found:
    """What was measured, beside one another.

    Attributes:
        results: Rows of tasks and of aspects, differences among them.
        evidence: Calibration, decision curves and risk groups, by task, target and method.
        subgroups: Rows in the order they are shown.
        presence: By what subjects have, and as if they had less.
        fitted: The leakage ledger.
        coefficients: The models of the covariates: a line a column, level or flag, and outcome.
        notes: Remarks a reader must see.
        shown: Aspect to what else it found, one of each time that it was measured.
    """

    results: list[Result] = field(default_factory=list)
    evidence: list[TaskEvidence] = field(default_factory=list)
    subgroups: list[SubgroupRow] = field(default_factory=list)
    presence: list[PresenceRow] = field(default_factory=list)
    fitted: list[FittedOn] = field(default_factory=list)
    coefficients: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shown: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        """Take in what else was found; ledger lines that say the same stand once."""
        for one in fields(Found):
            if one.name != "shown":
                getattr(self, one.name).extend(getattr(other, one.name))
        self.fitted[:] = dict.fromkeys(self.fitted)
        for name, found in other.shown.items():
            self.shown.setdefault(name, []).extend(found)
