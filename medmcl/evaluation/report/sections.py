"""Sections and first sentences of a report, in the order a reader asks: who, how well, how sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

from medmcl.data.loading.worker_pool import beside
from medmcl.evaluation.aspects.aspect import aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.report import figures
from medmcl.evaluation.report.columns import counted, written
from medmcl.evaluation.report.section import OPEN_ROWS, ORDER, PARTS, Drawn, Said, Section, Shown
from medmcl.evaluation.report.table_one import TableOne
from medmcl.evaluation.report.training import embedding_figures, geometry_figures, gradient_figures
from medmcl.evaluation.report.training.geometry_figures import geometry_of
from medmcl.evaluation.report.training.graph_figures import graph_pictures
from medmcl.evaluation.report.tripod import Checklist, checklist


def sections_of(data: Evaluation) -> tuple[Section, ...]:
    """Make every section that has something to show."""
    every = [*_own(data), *(one for part in aspects().values() for one in part.sections(data))]
    for name in ("figure", "backends.backend_agg", "backends.backend_svg"):
        import_module(f"matplotlib.{name}")  # once, not in each copy
    made = beside(lambda one: one if isinstance(one, Section) else one(), every, at_once=True)
    return tuple(
        one.telling(data.level, data.resampling)
        for one in sorted(made, key=lambda one: PARTS.index(one.part))
        if not one.is_empty
    )


def _own(data: Evaluation) -> Iterator[Drawn]:
    """What a report shows that is no aspect: whom it is of, the training, what may be trusted."""
    of = Section.of
    yield lambda: of("cohort", "Who was scored", figures.cohort_flow(data.flow),
                     tables=table_one_shown(data.table_one), short="Who", part="Who")  # fmt: skip
    yield lambda: of("embeddings", "Embeddings",
                     embedding_figures.embedding_map(data.embedding_map),
                     part="Embeddings")  # fmt: skip
    yield lambda: of("missingness", "Missing modalities",
                     figures.missingness_patterns(data.missingness), short="Missingness",
                     part="Who")  # fmt: skip
    geometry = data.geometry or geometry_of(data.curves)
    yield lambda: of("training", "Training", figures.loss_curves(data.curves),
                     gradient_figures.gradient_norms(data.curves),
                     geometry_figures.geometry_curves(geometry), part="Training")  # fmt: skip
    yield lambda: of("graph", "Learned pairs", *graph_pictures(data.curves, data.findings),
                     short="Pairs", part="Training")  # fmt: skip
    yield of("ledger", "Leakage ledger", tables=ledger_shown(data.fitted), short="Leakage",
             part="Appendix")  # fmt: skip
    yield of("tripod", "TRIPOD+AI checklist", tables=[checklist_shown(checklist(data))],
             short="TRIPOD+AI", part="Appendix")  # fmt: skip


def table_one_shown(table: TableOne | None) -> list[Shown]:
    """Table 1 as a table of the page; a variable is named in its first line only."""
    if table is None:
        return []
    rows, last = [], ""
    for variable, level, statistic, *others in table.text_rows:
        rows.append(("" if variable == last else variable, level or statistic, *others))
        last = variable
    return [
        Shown(
            title="The subjects of each split" if "train" in table.splits else "The subjects",
            aid=" ".join(table.notes),
            header=("variable", "level or statistic", *table.header[3:]),
            rows=tuple(rows),
            folded=f"{len(rows)} lines" if len(rows) > 4 * OPEN_ROWS else "",
        )
    ]


def ledger_shown(fitted: Sequence[FittedOn]) -> list[Shown]:
    """The leakage ledger as a table of the page."""
    return [
        Shown.of(
            {"title": "What was fitted on whom", "aid": _peeking(fitted)},
            written(fitted, "what", ("splits", lambda line: " + ".join(line.splits) + _used(line)),
                    "subjects", ("rows", counted("rows")),
                    ("labels used", lambda line: "yes" if line.labels else "no"),
                    ("task", lambda line: line.task or "all"),
                    ("method", lambda line: line.method or "all"), "note"),
        )
    ]  # fmt: skip


def _used(line: FittedOn) -> str:
    if line.peeks:
        return " (peeks!)"
    return {"fit": "", "out_of_fold": " (out of fold)", "score": " (metric only)"}[line.use]


def _peeking(fitted: Sequence[FittedOn]) -> str:
    """Say what of the scored rows was used for predictions."""
    peeks = sum(line.peeks for line in fitted)
    if peeks:
        return f"{peeks} of these used held_out: results that depend on them are no test."
    said = []
    if any(line.use == "out_of_fold" for line in fitted):
        said.append("Probes are scored out of fold: no subject is predicted by a fit that saw it.")
    if any(line.use == "score" and "held_out" in line.splits for line in fitted):
        said.append("Of held_out, outcomes weigh a metric, alike for every method.")
    return " ".join([*said, "No prediction used its own outcome."] if said
                    else ["Nothing here used held_out."])  # fmt: skip


def checklist_shown(found: Checklist) -> Shown:
    """The checklist as a table of the page."""
    parts = [{**vars(one.part), "shown": one.shown} for one in found.cited]
    return Shown.of(
        {"title": "TRIPOD+AI", "aid": found.count},
        written(parts, ("item", "code"), "topic", ("what is asked", "asks"),
                ("applies to", "applies"), ("from this run", "shown")),
        folded="",
    )  # fmt: skip


def headline(data: Evaluation) -> list[Said]:
    """Answer who, how well, how sure, for whom and against what; then what else was found."""
    said = [one for part in aspects().values() for one in part.sentences(data)]
    if data.wrecked:  # before all else
        why = "; ".join(f"{name} ({reason})" for name, reason in data.wrecked.items())
        line = (
            f"This run is wrecked: {why}. Results of models that hold such a stage say nothing of "
            f"the data or of the method. Try to {data.remedy}."
        )
        said.insert(0, Said("Wrecked", line))
    said.sort(key=lambda one: ORDER.index(one.question))
    return said or [Said("", f"{data.title}: nothing has been evaluated yet.")]
