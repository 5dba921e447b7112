"""Tables of the report that are about no task: Table 1, the leakage ledger, the checklist."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.report.columns import counted, written
from medmcl.evaluation.report.section import OPEN_ROWS, Shown
from medmcl.evaluation.report.table_one import TableOne
from medmcl.evaluation.report.tripod import Checklist


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
            "What was fitted on whom",
            _peeking(fitted),
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
        "TRIPOD+AI",
        found.count,
        written(parts, ("item", "code"), "topic", ("what is asked", "asks"),
                ("applies to", "applies"), ("from this run", "shown")),
        folded="",
    )  # fmt: skip
