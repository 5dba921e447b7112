"""Targets of a cohort as fields of JSON, and tasks that read them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort

_PREFIX = "target"


@dataclass(frozen=True)
class TargetFields:
    """The targets of every sample.

    Attributes:
        tasks: The ``tasks:`` of a cohort.yaml over these fields.
        left_out: Tasks that are not written, and why.
        columns: Field to its value for each sample, None where unknown.
    """

    tasks: dict[str, dict[str, Any]]
    left_out: list[str]
    columns: dict[str, list[Any]]

    def row(self, sample: int) -> dict[str, Any]:
        """Give the fields of one sample; what is unknown has none."""
        cells = {name: values[sample] for name, values in self.columns.items()}
        return {name: cell for name, cell in cells.items() if cell is not None}


def target_fields(cohort: Cohort, modalities: Sequence[str]) -> TargetFields:
    """Evaluate every task that can be, over the subjects or the modalities that are written.

    Raises:
        CohortError: Labels of a subject that differ from sample to sample.
    """
    found = TargetFields({}, [], {})
    for name in cohort.spec.tasks:
        if name not in cohort.usable_tasks:
            found.left_out.append(f"task {name}: it has faults")
            continue
        targets = cohort.targets(name)
        if targets.modality is not None and targets.modality not in modalities:
            found.left_out.append(f"task {name}: of {targets.modality}, which is not written")
            continue
        if targets.modality is None:
            _require_agreeing(cohort, targets)
        _add(cohort, found, targets)
    return found


def _add(cohort: Cohort, found: TargetFields, targets: Targets) -> None:
    task = cohort.spec.tasks[targets.name]
    told = task.model_dump(include={"of", "about"}, exclude_defaults=True)
    many = len(targets.columns) > 1
    fields = {
        column: f"{_PREFIX}.{targets.name}" + (f".{column}" if many else "")
        for column in targets.columns
    }
    for number, (column, field) in enumerate(fields.items()):
        values, known = targets.values[:, number], targets.known[:, number]
        kind = _kind(targets, column)
        found.columns[field] = [
            _cell(kind, targets, value) if k else None
            for value, k in zip(values, known, strict=True)
        ]
    quoted = {column: f"`{field}`" for column, field in fields.items()}
    if targets.kind == "survival":
        told |= {"time": quoted["time"], "event": quoted["event"], "unit": targets.unit}
        told |= {"horizons_years": list(targets.horizons_years)} if targets.horizons_years else {}
        if targets.competing is not None:
            field = f"{_PREFIX}.{targets.name}.competing"
            known = targets.complete
            found.columns[field] = [
                bool(one) if k else None for one, k in zip(targets.competing, known, strict=True)
            ]
            told["competing"] = f"`{field}`"
    elif targets.kind in ("multilabel", "regression"):
        told["columns"] = quoted
    else:
        told["column"] = next(iter(quoted.values()))
    if targets.kind == "multiclass":
        told["classes"] = list(targets.classes)
    if targets.kind == "regression" and targets.unit:
        told["unit"] = targets.unit
    found.tasks[targets.name] = {"kind": targets.kind, **told}


def _kind(targets: Targets, column: str) -> str:
    if targets.kind == "survival":
        return "truth" if column == "event" else "number"
    return {"multiclass": "class", "regression": "number"}.get(targets.kind, "truth")


def _cell(kind: str, targets: Targets, value: float) -> Any:
    if kind == "class":
        return targets.classes[int(value)]
    return bool(value) if kind == "truth" else float(value)


def _require_agreeing(cohort: Cohort, targets: Targets) -> None:
    """Refuse labels of subjects that differ within one, as those counted from a record's date."""
    rows = np.concatenate([targets.values, targets.known], axis=1)
    first: dict[str, np.ndarray] = {}
    for subject, row in zip(cohort.samples["subject"], rows, strict=True):
        if not np.array_equal(first.setdefault(subject, row), row):
            raise CohortError(
                "labels of a subject differ from sample to sample",
                where=f"tasks.{targets.name}, subject {subject}",
                fix=f"leave the task out: --set cohort.tasks.{targets.name}=null",
            )
