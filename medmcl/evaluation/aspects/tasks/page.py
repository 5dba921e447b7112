"""How tasks are shown: the sections that answer the five questions, their sentences and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks import answers, result_figures, tables
from medmcl.evaluation.aspects.tasks.calibration_figures import (
    calibration_plot,
    calibration_rows,
    curve_rows,
)
from medmcl.evaluation.aspects.tasks.decision_figures import decision_curves, decision_rows
from medmcl.evaluation.aspects.tasks.doubtful import doubtful
from medmcl.evaluation.aspects.tasks.subgroup_figures import subgroup_forest
from medmcl.evaluation.aspects.tasks.survival_figures import risk_group_curves, risk_rows
from medmcl.evaluation.aspects.tasks.target_figures import targets_overview
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.section import Drawn, Said, Section

FILES = {
    "calibration": calibration_rows,
    "calibration_curve": curve_rows,
    "decision_curve": decision_rows,
    "risk_groups": risk_rows,
    "d_calibration": tables.d_rows,
}
"""Of the evidence of a task."""


def sections(data: Evaluation) -> Iterator[Drawn]:
    """How well, how sure, for whom, against what; and the model written out."""
    rows, found, method, of = data.task_rows, data.evidence, data.method, Section.of
    yield lambda: of("results", "How well: discrimination",
                     result_figures.task_forest(rows), targets_overview(rows, method),
                     tables=tables.discrimination_tables(rows), short="How well",
                     part="How well")  # fmt: skip
    yield lambda: of("calibration", "How sure: calibration", calibration_plot(found, method),
                     tables=[tables.d_calibration_shown(found)], short="How sure",
                     part="How sure")  # fmt: skip
    yield lambda: of("decisions", "Decision curves", decision_curves(found, method),
                     short="Decisions", part="How sure")  # fmt: skip
    yield lambda: of("survival", "Survival by predicted risk", risk_group_curves(found, method),
                     short="Survival", part="How sure")  # fmt: skip
    yield lambda: of("subgroups", "For whom: subgroups", subgroup_forest(data.subgroups, method),
                     short="For whom", part="For whom")  # fmt: skip
    yield lambda: of("comparisons", "Against what: other methods on the same people",
                     result_figures.gain_forest(rows, method),
                     tables=tables.comparison_tables(data), short="Against what",
                     part="Against what")  # fmt: skip
    yield tables.coefficient_section(data.coefficients, data.baselines)


def sentences(data: Evaluation) -> Iterator[Said]:
    """An answer a question, after what makes answers doubtful."""
    yield from answers.who(data)
    for line in (*data.strange, *doubtful(data)):
        yield Said("Beware", line if line.endswith("?") else f"{line}.")
    yield from answers.how_well(data)
    yield from answers.how_scored(data)
    yield from answers.how_sure(data)
    yield from answers.for_whom(data)
    yield from answers.against_what(data)


def not_shown(data: Evaluation) -> list[str]:
    """Say which curves could not be made, and why."""
    return tables.not_shown(data)


def files(data: Evaluation) -> dict[str, Rows]:
    """The evidence of every task, and its subgroups."""
    found = {
        name: [row for one in data.evidence for row in rows_of(one)]
        for name, rows_of in FILES.items()
    }
    return {**found, "subgroups": [asdict(row) for row in data.subgroups]}
