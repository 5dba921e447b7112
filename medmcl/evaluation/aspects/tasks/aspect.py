"""Tasks as an aspect: how well outcomes are predicted, how sure, for whom, against what.

They are measured by the evaluate stage itself, which fits, keeps and applies what predicts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec, Rows

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation
    from medmcl.evaluation.report.section import Said, Section


class Tasks(Aspect[AspectSpec]):
    """Metrics with intervals, calibration, decision curves, risk groups, subgroups, differences."""

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.tasks import result_figures, tables
        from medmcl.evaluation.aspects.tasks.calibration_figures import calibration_plot
        from medmcl.evaluation.aspects.tasks.decision_figures import decision_curves
        from medmcl.evaluation.aspects.tasks.subgroup_figures import subgroup_forest
        from medmcl.evaluation.aspects.tasks.survival_figures import risk_group_curves
        from medmcl.evaluation.aspects.tasks.tables import coefficient_section
        from medmcl.evaluation.aspects.tasks.target_figures import targets_overview
        from medmcl.evaluation.report.section import Section

        rows, found, method, of = data.task_rows, data.evidence, data.method, Section.of
        yield of("results", "How well: discrimination",
                 result_figures.task_forest(rows), targets_overview(rows, method),
                 tables=tables.discrimination_tables(rows), short="How well",
                 part="How well")  # fmt: skip
        yield of("calibration", "How sure: calibration", calibration_plot(found, method),
                 tables=[tables.d_calibration_shown(found)], short="How sure",
                 part="How sure")  # fmt: skip
        yield of("decisions", "Decision curves", decision_curves(found, method), short="Decisions",
                 part="How sure")  # fmt: skip
        yield of("survival", "Survival by predicted risk", risk_group_curves(found, method),
                 short="Survival", part="How sure")  # fmt: skip
        yield of("subgroups", "For whom: subgroups", subgroup_forest(data.subgroups, method),
                 short="For whom", part="For whom")  # fmt: skip
        yield of("comparisons", "Against what: other methods on the same people",
                 result_figures.gain_forest(rows, method), tables=tables.comparison_tables(data),
                 short="Against what", part="Against what")  # fmt: skip
        yield coefficient_section(data.coefficients, data.baselines)

    @override
    def sentences(self, data: Evaluation) -> Iterator[Said]:
        from medmcl.evaluation.aspects.tasks import answers
        from medmcl.evaluation.aspects.tasks.doubtful import doubtful
        from medmcl.evaluation.report.section import Said

        yield from answers.who(data)
        for line in (*data.strange, *doubtful(data)):
            yield Said("Beware", line if line.endswith("?") else f"{line}.")
        yield from answers.how_well(data)
        yield from answers.how_scored(data)
        yield from answers.how_sure(data)
        yield from answers.for_whom(data)
        yield from answers.against_what(data)

    @override
    def not_shown(self, data: Evaluation) -> Iterable[str]:
        from medmcl.evaluation.aspects.tasks.tables import not_shown

        return not_shown(data)

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        from medmcl.evaluation.aspects.tasks import calibration_figures, decision_figures
        from medmcl.evaluation.aspects.tasks.survival_figures import risk_rows
        from medmcl.evaluation.aspects.tasks.tables import d_rows

        makers = {
            "calibration": calibration_figures.calibration_rows,
            "calibration_curve": calibration_figures.curve_rows,
            "decision_curve": decision_figures.decision_rows,
            "risk_groups": risk_rows,
            "d_calibration": d_rows,
        }
        return {
            **{name: [row for one in data.evidence for row in rows_of(one)]
               for name, rows_of in makers.items()},
            "subgroups": [asdict(row) for row in data.subgroups],
        }  # fmt: skip
