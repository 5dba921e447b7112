"""The sections of a report, in the order a reader asks: who, how well, how sure, for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from medmcl.evaluation.aspects.attack.figures import attack_pictures, attack_tables
from medmcl.evaluation.aspects.confounders.section import confounder_sections
from medmcl.evaluation.aspects.experts.content_figures import content_pictures
from medmcl.evaluation.aspects.experts.figures import routing_curves, share_pictures
from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows
from medmcl.evaluation.aspects.paired_choice.figures import choice_differences, choice_pictures
from medmcl.evaluation.aspects.presence.table import presence_tables
from medmcl.evaluation.aspects.retrieval import figures as retrieval_figures
from medmcl.evaluation.aspects.selection.contact_sheet import SINGLE_PEOPLE
from medmcl.evaluation.aspects.selection.section import selection_sections
from medmcl.evaluation.aspects.tasks import result_figures
from medmcl.evaluation.aspects.tasks.calibration_figures import calibration_plot
from medmcl.evaluation.aspects.tasks.coefficient_table import coefficient_section
from medmcl.evaluation.aspects.tasks.decision_figures import decision_curves
from medmcl.evaluation.aspects.tasks.subgroup_figures import subgroup_forest
from medmcl.evaluation.aspects.tasks.survival_figures import curve_of, risk_group_curves
from medmcl.evaluation.aspects.tasks.target_figures import targets_overview
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.report import figures
from medmcl.evaluation.report.data import ReportData
from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.section import Section
from medmcl.evaluation.report.tables import (
    Shown,
    checklist_shown,
    comparison_tables,
    d_calibration_shown,
    discrimination_tables,
    ledger_shown,
    table_one_shown,
)
from medmcl.evaluation.report.training import embedding_figures, geometry_figures, gradient_figures
from medmcl.evaluation.report.training.geometry_lines import geometry_of
from medmcl.evaluation.report.training.graph_figures import graph_pictures
from medmcl.evaluation.report.tripod import checklist
from medmcl.evaluation.report.words import about_what, at_level, listed, over

MOST_NAMED = 8  # tasks that share a reason

P = TypeVar("P", Picture, Shown)


def sections_of(data: ReportData) -> tuple[Section, ...]:
    """Make every section that has something to show."""
    made = (*_people(data), *_performance(data), *_representations(data), *_trust(data))
    return tuple(
        replace(
            one,
            pictures=tuple(_as_drawn(part, data) for part in one.pictures),
            tables=tuple(_as_drawn(part, data) for part in one.tables),
        )
        for one in made
        if not one.is_empty
    )


def not_shown(data: ReportData) -> list[str]:
    """Say of what was asked for and could not be made why, each reason once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for one in data.evidence.tasks:
        parts: list[tuple[str, object]] = [
            ("calibration curve", one.calibration),
            ("decision curve", one.decision),
            ("D-calibration", one.d_calibration),
            *((f"survival curve ({group.name})", curve_of(group)) for group in one.risk_groups),
        ]
        for what, part in parts:
            if isinstance(part, NotEstimable):
                about = reasons.setdefault((what, part.reason), {})
                about[about_what(one.task, one.target)] = None
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), tasks in reasons.items():
        by_reason.setdefault((reason, tuple(tasks)), []).append(what)
    lines = [
        f"{' and '.join(kinds)} of {listed(tasks, MOST_NAMED)}: {reason}."
        for (reason, tasks), kinds in by_reason.items()
    ]
    lines = [f"{line[0].upper()}{line[1:]}" for line in lines]
    return [*lines, *(note for note in data.notes if LEFT_OUT in note)]


LEFT_OUT = " left out: "
"""How notes of an evaluation say that something was not made, and why."""


def _as_drawn(part: P, data: ReportData) -> P:
    """A figure or table whose words say the level of its intervals, and what they are over."""
    header = tuple(at_level(text, data.level) for text in part.header)
    return replace(part, aid=over(at_level(part.aid, data.level), data.resampling), header=header)


def _people(data: ReportData) -> tuple[Section, ...]:
    return (
        _section("cohort", "Who was scored", figures.cohort_flow(data.flow),
                 tables=table_one_shown(data.table_one), short="Who"),
        _section("missingness", "Missing modalities",
                 figures.missingness_patterns(data.missingness), short="Missingness"),
        *selection_sections(data.selections, data.level),
    )  # fmt: skip


def _performance(data: ReportData) -> tuple[Section, ...]:
    tasks, evidence, method = data.task_rows, data.evidence, data.method
    found = evidence.tasks
    return (
        _section("results", "How well: discrimination",
                 result_figures.task_forest(tasks), targets_overview(tasks, method),
                 tables=discrimination_tables(tasks), short="How well"),
        _section("calibration", "How sure: calibration", calibration_plot(found, method),
                 tables=d_calibration_shown(found), short="How sure"),
        _section("decisions", "Decision curves", decision_curves(found, method), short="Decisions"),
        _section("survival", "Survival by predicted risk", risk_group_curves(found, method),
                 short="Survival"),
        _section("subgroups", "For whom: subgroups", subgroup_forest(evidence.subgroups, method),
                 short="For whom"),
        _section("presence", "By modalities present", tables=presence_tables(evidence.presence),
                 short="By modalities"),
        _section("comparisons", "Against what: other methods on the same people",
                 result_figures.gain_forest(tasks, method), tables=comparison_tables(data),
                 short="Against what"),
        coefficient_section(data.coefficients),
    )  # fmt: skip


def _representations(data: ReportData) -> tuple[Section, ...]:
    geometry = data.geometry or geometry_of(data.curves)
    images, heat = data.images, data.heat
    maps = (None if images is None or heat is None
            else embedding_figures.map_pictures(images, heat))  # fmt: skip
    return (
        *confounder_sections(data.confounders, data.task_rows),
        _section("retrieval", "Retrieval", retrieval_figures.retrieval_bars(data.retrieval_rows)),
        _section("choices", "Paired choice", *choice_pictures(data.choice_rows),
                 tables=choice_differences(data.choice_rows), short="Pairs told apart"),
        _section("attack", "Attack", *attack_pictures(data.attack_rows),
                 tables=attack_tables(data.attack_rows)),
        _section("embeddings", "Embeddings", embedding_figures.embedding_map(data.embedding_map)),
        replace(_section("maps", "Cosine maps", maps),
                warnings=() if maps is None else (SINGLE_PEOPLE,)),
        _section("training", "Training", figures.loss_curves(data.curves),
                 gradient_figures.gradient_norms(data.curves),
                 geometry_figures.geometry_curves(geometry)),
        _section("graph", "Learned pairs", *graph_pictures(data.curves, data.findings),
                 short="Pairs"),
        _experts(data),
    )  # fmt: skip


def _experts(data: ReportData) -> Section:
    """What routers did; records of people only where somebody asked for pieces of them."""
    pieces = any(one.piece_rows() for one in data.experts)
    made = _section(
        "experts", "Experts",
        *share_pictures(share_rows(data.curves, data.kept_steps)),
        *routing_curves(expert_rows(data.curves)),
        *(picture for one in data.experts for picture in content_pictures(one)),
    )  # fmt: skip
    return replace(made, warnings=(SINGLE_PEOPLE,) if pieces else ())


def _trust(data: ReportData) -> tuple[Section, ...]:
    return (
        _section("ledger", "Leakage ledger", tables=ledger_shown(data.evidence), short="Leakage"),
        _section("tripod", "TRIPOD+AI checklist", tables=[checklist_shown(checklist(data))],
                 short="TRIPOD+AI"),
    )  # fmt: skip


def _section(
    key: str, title: str, *pictures: Picture | None, tables: Sequence[Shown] = (), short: str = ""
) -> Section:
    return Section(
        key=key,
        title=title,
        pictures=tuple(picture for picture in pictures if picture is not None),
        tables=tuple(tables),
        short=short or title,
    )
