"""The sections of a report, in the order a reader asks: who, how well, how sure, for whom."""

from __future__ import annotations

from collections.abc import Iterator

from medmcl.evaluation.aspects.aspect import aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report import figures
from medmcl.evaluation.report.section import PARTS, Section
from medmcl.evaluation.report.tables import checklist_shown, ledger_shown, table_one_shown
from medmcl.evaluation.report.training import embedding_figures, geometry_figures, gradient_figures
from medmcl.evaluation.report.training.geometry_figures import geometry_of
from medmcl.evaluation.report.training.graph_figures import graph_pictures
from medmcl.evaluation.report.tripod import checklist


def sections_of(data: Evaluation) -> tuple[Section, ...]:
    """Make every section that has something to show."""
    every = [*_own(data), *(one for part in aspects().values() for one in part.sections(data))]
    return tuple(
        one.telling(data.level, data.resampling)
        for one in sorted(every, key=lambda one: PARTS.index(one.part))
        if not one.is_empty
    )


def _own(data: Evaluation) -> Iterator[Section]:
    """What a report shows that is no aspect: whom it is of, the training, what may be trusted."""
    of = Section.of
    yield of("cohort", "Who was scored", figures.cohort_flow(data.flow),
             tables=table_one_shown(data.table_one), short="Who", part="Who")  # fmt: skip
    yield of("missingness", "Missing modalities", figures.missingness_patterns(data.missingness),
             short="Missingness", part="Who")  # fmt: skip
    yield of("embeddings", "Embeddings", embedding_figures.embedding_map(data.embedding_map),
             part="Embeddings")  # fmt: skip
    geometry = data.geometry or geometry_of(data.curves)
    yield of("training", "Training", figures.loss_curves(data.curves),
             gradient_figures.gradient_norms(data.curves),
             geometry_figures.geometry_curves(geometry), part="Training")  # fmt: skip
    yield of("graph", "Learned pairs", *graph_pictures(data.curves, data.findings), short="Pairs",
             part="Training")  # fmt: skip
    yield of("ledger", "Leakage ledger", tables=ledger_shown(data.fitted), short="Leakage",
             part="Appendix")  # fmt: skip
    yield of("tripod", "TRIPOD+AI checklist", tables=[checklist_shown(checklist(data))],
             short="TRIPOD+AI", part="Appendix")  # fmt: skip
