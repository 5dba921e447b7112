"""Columns of a cohort that are coded otherwise than in training: 0/1 for male/female."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.modalities.tabular.adapter import read_cell
from medmcl.stages.run.features import kept_reading
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another

SHOWN = 8
"""Levels that are named."""
TOO_MUCH = 0.5
"""Share of the people with a value beyond which a column is refused."""
FEW_PEOPLE = 10
"""Fewer people with a value say nothing of how a column is coded."""


@dataclass(frozen=True, kw_only=True)
class OtherCoding:
    """A column with cells that the run cannot read as it read its own.

    Attributes:
        modality: The table.
        column: The column.
        levels: Categories that the run knows; None of a number.
        found: Cells of the cohort that it does not know, the most frequent first.
        people: How many have such a cell.
        known: How many have any.
        strange: Subjects who have such a cell.
    """

    modality: str
    column: str
    levels: tuple[str, ...] | None
    found: tuple[str, ...]
    people: int
    known: int
    strange: frozenset[str]

    @property
    def is_too_much(self) -> bool:
        """Whether more than half of the people with a value are strange, and these not few."""
        return self.known >= FEW_PEOPLE and self.people > TOO_MUCH * self.known

    def __str__(self) -> str:
        whom = f"{self.people:,} of {counted(self.known, 'person', 'people')} with a value"
        cells = _some(self.found)
        if self.levels is None:
            return f"{self.modality}, {self.column}: {whom} have no number, as in training: {cells}"
        return (
            f"{self.modality}, {self.column}: {whom} have a category that training had not: "
            f"{cells} (training: {_some(self.levels)})"
        )

    @property
    def fix(self) -> str:
        """How to code the column as the run knows it."""
        if self.levels is None:
            return f"recode {self.column} as in training (numbers: for example yes as 1, no as 0)"
        return f"recode {self.column} as in training ({_some(self.levels)})"


def other_coding(
    cohort: Cohort, modality: str, state: Mapping[str, Any]
) -> tuple[OtherCoding, ...]:
    """Compare the cells of a table with the state of the adapter that a run fitted.

    Cells are read as the kind that the column was in training, whatever it is here.
    """
    scales, levels = state.get("scales", {}), state.get("levels", {})
    found = []
    places = list(cohort.records[modality]["place"])
    for column in cohort.spec.modalities[modality].cell_columns:
        if column not in scales and column not in levels:
            continue
        is_number = column in scales
        own = frozenset(() if is_number else levels[column])
        known: set[str] = set()
        strange: set[str] = set()
        cells: Counter[str] = Counter()
        for place in places:
            cell, is_read = read_cell(
                place.values.get(column), "number" if is_number else "category"
            )
            if cell is None and is_read:
                continue
            known.add(place.subject)
            if not is_read or (not is_number and cell not in own):
                strange.add(place.subject)
                cells[str(place.values[column] if is_number else cell)] += 1
        if strange:
            found.append(
                OtherCoding(
                    modality=modality,
                    column=column,
                    levels=None if is_number else tuple(levels[column]),
                    found=tuple(cell for cell, _ in cells.most_common()),
                    people=len(strange),
                    known=len(known),
                    strange=frozenset(strange),
                )
            )
    return tuple(found)


def coded_otherwise(
    run: Run, cohort: Cohort, covariates: str | None, *, is_frozen: bool
) -> tuple[OtherCoding, ...]:
    """Look at every table that is read as the run read it.

    Args:
        run: The run.
        cohort: The cohort; nothing is found in the run's own.
        covariates: The table that a probe reads as it is; read as the run did if ``is_frozen``.
        is_frozen: Whether kept probes are applied.
    """
    if not is_another(run, cohort):
        return ()
    states: dict[str, Mapping[str, Any]] = {}
    trained = {name for spec in run.stages.values() for name in spec.towers}
    for name, entry in run.preprocessing.items():
        if name in trained or (is_frozen and name != covariates):
            states[name] = entry["state"]
    kept = kept_reading(run, covariates) if covariates is not None and is_frozen else None
    if kept is not None and covariates is not None:
        states[covariates] = kept["state"]
    have = cohort.spec.modalities
    tables = [name for name in states if name in have and have[name].traits.tabular]
    return tuple(one for name in tables for one in other_coding(cohort, name, states[name]))


def refuse_other_coding(
    found: Sequence[OtherCoding], where: object, say: Callable[[str], object]
) -> None:
    """Refuse columns that most people have coded otherwise, all in one error; tell the others.

    Raises:
        CohortError: There are some.
    """
    most = [one for one in found if one.is_too_much]
    if most:
        raise CohortError(
            f"{counted(len(most), 'column')} coded otherwise than where the run learned "
            + ("them" if len(most) > 1 else "it"),
            where=where,
            got="; ".join(map(str, most)),
            fix="; ".join(one.fix for one in most),
        )
    for one in found:
        say(str(one))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
