"""The sections of a report, in the order a reader asks: who, how well, for whom, how sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from medmcl.evaluation.evidence import TaskEvidence
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.report import (
    embedding_figures,
    figures,
    geometry_figures,
    gradient_figures,
    result_figures,
    retrieval_figures,
)
from medmcl.evaluation.report.attack_figures import attack_pictures, attack_tables
from medmcl.evaluation.report.calibration_figures import calibration_plot
from medmcl.evaluation.report.choice_figures import choice_differences, choice_pictures
from medmcl.evaluation.report.confounder_section import confounder_sections
from medmcl.evaluation.report.data import ReportData
from medmcl.evaluation.report.decision_figures import decision_curves
from medmcl.evaluation.report.expert_content_figures import content_pictures
from medmcl.evaluation.report.expert_figures import routing_curves, share_pictures
from medmcl.evaluation.report.expert_lines import expert_rows, share_rows
from medmcl.evaluation.report.geometry_lines import geometry_of
from medmcl.evaluation.report.graph_figures import graph_pictures
from medmcl.evaluation.report.labelled import Labelled
from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.presence_table import presence_tables
from medmcl.evaluation.report.section import Section
from medmcl.evaluation.report.selection_section import selection_sections
from medmcl.evaluation.report.subgroup_figures import subgroup_forest
from medmcl.evaluation.report.survival_figures import curve_of, risk_group_curves
from medmcl.evaluation.report.tables import (
    Shown,
    checklist_shown,
    comparison_tables,
    d_calibration_shown,
    discrimination_tables,
    ledger_shown,
    table_one_shown,
)
from medmcl.evaluation.report.target_figures import targets_overview
from medmcl.evaluation.report.tripod import checklist
from medmcl.evaluation.report.words import at_level, listed, over

MOST_REASONS = 8  # in the sentence of an empty section

Maker = Callable[[], Picture | None]
P = TypeVar("P", Picture, Shown)


def sections_of(data: ReportData) -> tuple[Section, ...]:
    """Make every section; those without content say why."""
    made = (*_people(data), *_performance(data), *_representations(data), *_trust(data))
    return tuple(
        replace(
            one,
            pictures=tuple(_as_drawn(part, data) for part in one.pictures),
            tables=tuple(_as_drawn(part, data) for part in one.tables),
        )
        for one in made
    )


def _as_drawn(part: P, data: ReportData) -> P:
    """A figure or table whose words say the level of its intervals, and what they are over."""
    header = tuple(at_level(text, data.level) for text in part.header)
    return replace(part, aid=over(at_level(part.aid, data.level), data.resampling), header=header)


def _people(data: ReportData) -> tuple[Section, ...]:
    return (
        _section("cohort", "Participants", "No cohort flow was recorded.",
                 lambda: figures.cohort_flow(data.flow)),
        _section("table-one", "Table 1", "The subjects were not described.",
                 tables=table_one_shown(data.table_one)),
        _section("missingness", "Missing modalities", "No missingness was recorded.",
                 lambda: figures.missingness_patterns(data.missingness), short="Missingness"),
        *selection_sections(data.selections, data.level),
    )  # fmt: skip


def _performance(data: ReportData) -> tuple[Section, ...]:
    tasks, evidence, method = data.task_rows, data.evidence, data.method
    found, labelled = evidence.tasks, Labelled(evidence.fitted)
    return (
        _section("results", "Discrimination", "No task was evaluated.",
                 lambda: result_figures.task_forest(tasks, labelled),
                 lambda: targets_overview(tasks, method),
                 tables=discrimination_tables(tasks, labelled)),
        _section("calibration", "Calibration",
                 _why("Calibration was not assessed.", [(one, one.calibration) for one in found]),
                 lambda: calibration_plot(found, method), tables=d_calibration_shown(found)),
        _section("decisions", "Decision curves",
                 _why("Net benefit was not assessed.", [(one, one.decision) for one in found]),
                 lambda: decision_curves(found, method), short="Decisions"),
        _section("survival", "Survival by predicted risk",
                 _why("No survival outcome was drawn.",
                      [(one, curve_of(group)) for one in found for group in one.risk_groups]),
                 lambda: risk_group_curves(found, method), short="Survival"),
        _section("subgroups", "Subgroups", "No subgroup was assessed.",
                 lambda: subgroup_forest(evidence.subgroups, method)),
        _section("presence", "By modalities present",
                 "No method that reads several modalities was scored.",
                 tables=presence_tables(evidence.presence), short="By modalities"),
        _section("comparisons", "Comparisons", "No two methods were compared.",
                 lambda: result_figures.gain_forest(tasks, method, labelled),
                 tables=comparison_tables(data)),
    )  # fmt: skip


def _representations(data: ReportData) -> tuple[Section, ...]:
    geometry = data.geometry or geometry_of(data.curves)
    images, heat = data.images, data.heat
    graphs = graph_pictures(data.curves, data.findings)
    routers, choices, attacks = _experts(data), _choices(data), _attacks(data)
    learned = Section(key="graph", title="Learned pairs", pictures=graphs, tables=(), empty="",
                      short="Pairs")  # fmt: skip
    return (
        *confounder_sections(data.confounders, data.task_rows),
        _section("retrieval", "Retrieval", "Retrieval was not evaluated.",
                 lambda: retrieval_figures.retrieval_bars(data.retrieval_rows)),
        *([choices] if choices.pictures else []),
        *([attacks] if attacks.pictures else []),
        _section("embeddings", "Embeddings", "No embeddings were drawn.",
                 lambda: embedding_figures.embedding_map(data.embedding_map)),
        _section("maps", "Cosine maps", "No cosine maps were made.",
                 lambda: None if images is None or heat is None
                 else embedding_figures.map_pictures(images, heat)),
        _section("training", "Training", "No training curves were recorded.",
                 lambda: figures.loss_curves(data.curves),
                 lambda: gradient_figures.gradient_norms(data.curves),
                 lambda: geometry_figures.geometry_curves(geometry)),
        *([learned] if graphs else []),
        *([routers] if routers.pictures else []),
    )  # fmt: skip


def _choices(data: ReportData) -> Section:
    """Pairs whose statements chose between two images; shown only where there were some."""
    pictures, tables = choice_pictures(data.choice_rows), choice_differences(data.choice_rows)
    return Section(key="choices", title="Paired choice", pictures=tuple(pictures),
                   tables=tuple(tables), empty="", short="Pairs told apart")  # fmt: skip


def _attacks(data: ReportData) -> Section:
    """What a trigger does to the models; shown only where there was an attack."""
    rows = data.attack_rows
    return Section(key="attack", title="Attack", pictures=tuple(attack_pictures(rows)),
                   tables=tuple(attack_tables(rows)), empty="", short="Attack")  # fmt: skip


def _experts(data: ReportData) -> Section:
    """What routers did; shown only where a run has some."""
    pictures = (
        *share_pictures(share_rows(data.curves, data.kept_steps)),
        *routing_curves(expert_rows(data.curves)),
        *(picture for one in data.experts for picture in content_pictures(one)),
    )
    return Section(key="experts", title="Experts", pictures=pictures, tables=(), empty="",
                   short="Experts")  # fmt: skip


def _trust(data: ReportData) -> tuple[Section, ...]:
    return (
        _section("ledger", "Leakage ledger", "What was fitted on whom was not recorded.",
                 tables=ledger_shown(data.evidence), short="Leakage"),
        _section("tripod", "TRIPOD+AI checklist", "", tables=[checklist_shown(checklist(data))],
                 short="TRIPOD+AI"),
    )  # fmt: skip


def _why(nothing: str, parts: Sequence[tuple[TaskEvidence, object]]) -> str:
    """Say why a section is empty: nothing was asked for, or the reasons that were given."""
    reasons = dict.fromkeys(
        f"{one.task}: {part.reason}" for one, part in parts if isinstance(part, NotEstimable)
    )
    return f"Not estimable: {listed(list(reasons), MOST_REASONS, '; ')}." if reasons else nothing


def _section(
    key: str, title: str, empty: str, *makers: Maker, tables: Sequence[Shown] = (), short: str = ""
) -> Section:
    made = [maker() for maker in makers]
    pictures = tuple(picture for picture in made if picture is not None)
    return Section(key=key, title=title, pictures=pictures, tables=tuple(tables), empty=empty,
                   short=short or title)  # fmt: skip
