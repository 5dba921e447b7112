"""Everything that a report shows, and its rows sorted into tasks, retrieval and paired choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding
from medmcl.evaluation.aspects.confounders.measure import Confounder
from medmcl.evaluation.aspects.experts.content import ExpertContent
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.protocol.evidence import Evidence
from medmcl.evaluation.protocol.results import APART, Result, headline_rows
from medmcl.evaluation.report.study import Study
from medmcl.evaluation.report.table_one import TableOne


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything a report shows. Every part may be empty; its section then says so.

    Attributes:
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
        retrieval: Rows of `retrieval`.
        embedding_map: ``points`` (N, D), ``modality``, ``colours`` (task to values).
        results: Rows of tasks; rows of retrieval and of paired choice among them are shown apart.
        evidence: Calibration, decision curves, risk groups, subgroups, the leakage ledger.
        images: Images with maps, (N, H, W).
        heat: Their cosine maps, (N, h, w).
        experts: What the experts of shared towers take.
        confounders: How well site, sex, age are predicted from the embeddings of tasks.
        selections: What each ``select`` stage kept.
        coefficients: The models of the covariates: a line a column, level or flag, and outcome.
        kept_steps: Stage to the step whose weights it keeps.
        compared: Runs set beside this one: name to facts of it (folder, recipe, seed, hash).
        left_out: Stages of the recipe that were not trained, each with the reason.
        wrecked: Stages whose training is wrecked, each with the reason.
        remedy: What to try then.
        strange: Columns that some people have coded otherwise than the run learned them.
        notes: Remarks a reader must see.
        level: Coverage that intervals of tasks aim at.
        resampling: What the bootstrap of intervals drew, see `Result`.
        highlight: The method the report is about; default the first one in ``results``.
    """

    title: str
    subtitle: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    study: Study = field(default_factory=Study)
    flow: Sequence[tuple[str, int, int]] = ()
    table_one: TableOne | None = None
    missingness: pd.DataFrame = field(default_factory=pd.DataFrame)
    findings: Sequence[Finding] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    geometry: Sequence[Mapping[str, Any]] = ()
    retrieval: Sequence[Result] = ()
    embedding_map: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Result] = ()
    evidence: Evidence = field(default_factory=Evidence)
    images: np.ndarray | None = None
    heat: np.ndarray | None = None
    experts: Sequence[ExpertContent] = ()
    confounders: Sequence[Confounder] = ()
    selections: Sequence[SelectionEvidence] = ()
    coefficients: Sequence[Mapping[str, Any]] = ()
    kept_steps: Mapping[str, int] = field(default_factory=dict)
    compared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    wrecked: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""
    strange: Sequence[str] = ()
    notes: Sequence[str] = ()
    level: float = 0.95
    resampling: str = "subject"
    highlight: str = ""

    @cached_property
    def task_rows(self) -> list[Result]:
        """Rows of tasks, differences among them."""
        return [row for row in (*self.results, *self.retrieval) if row.kind not in APART]

    @cached_property
    def retrieval_rows(self) -> list[Result]:
        """Rows of retrieval, wherever they were put."""
        return [row for row in (*self.results, *self.retrieval) if row.kind == "retrieval"]

    @cached_property
    def choice_rows(self) -> list[Result]:
        """Rows of paired choice, differences among them."""
        return [row for row in self.results if row.kind == "paired_choice"]

    @cached_property
    def attack_rows(self) -> list[Result]:
        """Rows of attacks, differences among them."""
        return [row for row in self.results if row.kind == "attack"]

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
