"""How many labelled people a share of the labels is, as the leakage ledger knows."""

from __future__ import annotations

from collections.abc import Iterable

from medmcl.evaluation.evidence import FittedOn
from medmcl.evaluation.report.words import fraction_name
from medmcl.evaluation.suppression import few


class Labelled:
    """Looks up the people that methods were fitted on, by task and share of the labels.

    Args:
        fitted: The leakage ledger.
    """

    def __init__(self, fitted: Iterable[FittedOn] = ()) -> None:
        self._found: dict[tuple[str, float], dict[str, int]] = {}
        for line in fitted:
            if line.label_fraction is not None and line.subjects is not None:
                key = (line.task, line.label_fraction)
                self._found.setdefault(key, {})[line.method] = line.subjects

    def people(self, task: str, fraction: float, method: str = "") -> str:
        """Give ``" (43 people)"``, ``" (40 to 43 people)"`` where methods differ, or nothing.

        The count of one method, or of every method of the task where it has none of its own.
        """
        known = self._found.get((task, fraction), {})
        found = [known[method]] if method in known else sorted(set(known.values()))
        if not found:
            return ""
        count = few(found[0]) if len(found) == 1 else f"{few(found[0])} to {few(found[-1])}"
        return f" ({count} people)"

    def share(self, task: str, fraction: float, method: str = "") -> str:
        """Give ``1 % labels (43 people)``."""
        return fraction_name(fraction) + self.people(task, fraction, method)
