"""An evaluation: what was found, of what; the one object that is made, returned and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding
from medmcl.core.suppression import Rounding
from medmcl.evaluation.protocol.evidence import (
    Applied,
    FittedOn,
    PresenceRow,
    SubgroupRow,
    TaskEvidence,
)
from medmcl.evaluation.protocol.results import Result, headline_rows
from medmcl.evaluation.report.study import Study

if TYPE_CHECKING:
    from medmcl.data.loading.prepare import Prepared
    from medmcl.evaluation.protocol.evaluate import TaskEvaluation
    from medmcl.evaluation.report.table_one import TableOne


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
        applied: Where folds were scored, what ``medmcl predict`` applies instead.
        baselines: Of those of survival the hazard where every cell is zero: a line a time.
        notes: Remarks a reader must see.
        shown: Aspect to what else it found, one of each time that it was measured.
    """

    results: list[Result] = field(default_factory=list)
    evidence: list[TaskEvidence] = field(default_factory=list)
    subgroups: list[SubgroupRow] = field(default_factory=list)
    presence: list[PresenceRow] = field(default_factory=list)
    fitted: list[FittedOn] = field(default_factory=list)
    coefficients: list[dict[str, Any]] = field(default_factory=list)
    baselines: list[dict[str, Any]] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
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


@dataclass(kw_only=True)
class Evaluation(Found):
    """What was found, and everything else that a report shows.

    Every part may be empty; its section is then left out.

    Attributes:
        folder: Where the report lies.
        prepared: The cohort as it was scored; None of made numbers.
        people: Task to what was predicted of single people (`medmcl.stages.predict.people`).
        seconds: How long scoring took.
        gaps: What was done about missing inputs and cells.
        level: Coverage that intervals of tasks aim at.
        resampling: What the bootstrap of intervals drew, see `Result`.
        seen: Samples of people that the run, or another, has seen, (N,) bool; None = unknown.
        embedding_map: ``points`` (N, D), ``modality``, ``colours`` (task to values).
        compared: Runs set beside this one: name to facts of it (folder, recipe, seed, hash).
        wrecked: Stages whose training is wrecked, each with the reason.
        fits: Whether anything was fitted on this cohort; otherwise kept probes were applied to it.
        strange: How the cohort differs from what the run was trained on: columns that some people
            have coded otherwise, its own tables changed since.
        title: Heading.
        subtitle: One line below it.
        provenance: Recipe, cohort, seed, versions, hashes: name to value, shown at the end.
            ``cohort`` is the one trained on, ``scored cohort`` another one that was scored.
        study: Facts of cohort and recipe, for the checklist and the model card.
        flow: Steps of cohort selection: (step, subjects, samples).
        table_one: The subjects of each split.
        missingness: One bool column a modality, and ``samples`` if rows are patterns already.
        findings: What checks found; what was excluded.
        curves: Stage to lines of ``metrics.jsonl`` (keys step, split, loss, terms; keys such as
            ``effective_rank/ecg`` are read as geometry).
        geometry: Dicts with stage, step, modality, effective_rank, uniformity, alignment.
        kept_steps: Stage to the step whose weights it keeps.
        left_out: Stages of the recipe that were not trained, each with the reason.
        remedy: What to try where a stage is wrecked.
        highlight: The method the report is about; default the first one in ``results``.
        rounding: How a report rounds all counts; None: it hides those that tell of few people.
    """

    folder: Path = field(default_factory=Path)
    prepared: Prepared = field(default=None)  # type: ignore[assignment]  # only of made numbers
    people: list[tuple[str, TaskEvaluation]] = field(default_factory=list)
    seconds: float = 0.0
    gaps: list[str] = field(default_factory=list)
    level: float = 0.95
    resampling: str = "subject"
    seen: np.ndarray | None = None
    embedding_map: Mapping[str, Any] = field(default_factory=dict)
    compared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wrecked: dict[str, str] = field(default_factory=dict)
    fits: bool = True
    strange: Sequence[str] = ()
    title: str = ""
    subtitle: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    study: Study = field(default_factory=Study)
    flow: Sequence[tuple[str, int, int]] = ()
    table_one: TableOne | None = None
    missingness: pd.DataFrame = field(default_factory=pd.DataFrame)
    findings: Sequence[Finding] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    geometry: Sequence[Mapping[str, Any]] = ()
    kept_steps: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    remedy: str = ""
    highlight: str = ""
    rounding: Rounding | None = None

    @property
    def task_rows(self) -> list[Result]:
        """Rows of tasks, differences among them."""
        return [row for row in self.results if row.is_of_task]

    def rows_of(self, kind: str) -> list[Result]:
        """Give the rows of an aspect that is no task, differences among them."""
        return [row for row in self.results if row.kind == kind]

    @property
    def trained_on(self) -> str:
        """The cohort the run was trained on; empty if unknown."""
        return str(self.provenance.get("cohort") or "")

    @property
    def scored_on(self) -> str:
        """The cohort that was scored; empty if unknown."""
        return str(self.provenance.get("scored cohort") or self.trained_on)

    @cached_property
    def method(self) -> str:
        """The method the report is about."""
        first = next((row.method for row in self.task_rows if not row.versus), "")
        return self.highlight or first

    @cached_property
    def main_rows(self) -> list[Result]:
        """The main metric of every task at the most labels, for the method the report is about.

        A task that this method has no row of is shown by its first one.
        """
        found = []
        for task in dict.fromkeys(row.task for row in self.task_rows):
            every = headline_rows(self.task_rows, task)
            own = [row for row in every if row.method == self.method]
            own = own or [row for row in every if row.method == every[0].method]
            found += sorted(own, key=lambda row: -row.label_fraction)[:1]
        return found
