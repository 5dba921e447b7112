"""What embeddings tell beside the tasks: how well site, sex, age can be predicted from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.results import MAJORITY, Result

METRICS = {
    "multiclass": ("auroc", "balanced_accuracy"),
    "multilabel": ("auroc",),
    "regression": ("r2", "mae"),
}
"""Metrics of a confounder by its kind; the first is the one that is drawn."""
READING = "the nearer to chance, the less the embedding tells of it"


@dataclass(frozen=True, kw_only=True)
class Confounder:
    """How well one confounder is predicted from some embeddings. It is no task.

    Attributes:
        name: As ``site``.
        kind: ``multiclass`` (two classes as well), ``multilabel`` (each class asked on its own, of
            many classes) or ``regression``.
        classes: Number of classes; 0 of a number.
        rows: One a model and metric of `METRICS`, then paired differences, their ``versus`` set;
            ``direction`` is ``chance`` everywhere: neither higher nor lower is better. Those of
            classes are the mean over classes, one against the rest, or of all classes at once.
        chance: Metric to what a prediction that knows nothing reaches; None = not estimable.
        notes: What was pooled, left out, and how it was predicted.
        fitted: Ledger lines of its probes. No result of a task depends on them, so that they stand
            apart from the ledger of the tasks.
    """

    name: str
    kind: str
    classes: int
    rows: tuple[Result, ...]
    chance: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fitted: tuple[FittedOn, ...] = ()

    @property
    def models(self) -> list[str]:
        """The methods, as they were asked."""
        return list(dict.fromkeys(row.method for row in self.rows if not row.versus))

    def row(self, metric: str, method: str, versus: str = "") -> Result | None:
        """Give the row of a method, or of its difference to another; None if there is none."""
        key = (metric, method, versus)
        found = (row for row in self.rows if (row.metric, row.method, row.versus) == key)
        return next(found, None)

    def plain_rows(self) -> list[dict[str, Any]]:
        """Rows of plain values, each with the notes of the confounder."""
        plain = []
        for row in self.rows:
            told = {k: v for k, v in asdict(row).items() if k not in ("task", "events")}
            said = dict.fromkeys(part for part in (row.note, *self.notes) if part)
            own = {"reading": READING, "chance": self.chance.get(row.metric)}
            plain.append({"confounder": self.name, **told, **own, "note": "; ".join(said)})
        return plain

    def plain_fits(self) -> list[dict[str, Any]]:
        """Ledger lines as plain values; ``confounder`` stands where tasks have ``task``."""
        lines = [{**asdict(line), "splits": " ".join(line.splits)} for line in self.fitted]
        return [
            {"confounder": line["task"], **{k: v for k, v in line.items() if k != "task"}}
            for line in lines
        ]


def confounder_of(
    targets: Targets,
    results: Sequence[Result],
    *,
    notes: Sequence[str] = (),
    fitted: Sequence[FittedOn] = (),
) -> Confounder:
    """Sort the rows of an evaluated attribute into what is told of a confounder.

    Args:
        targets: What was predicted: ``multiclass``, ``multilabel`` with a column a class, or
            ``regression`` of one column.
        results: Rows of `medmcl.evaluation.protocol.evaluate.evaluate_task`.
        notes: What was pooled, left out, and how it was predicted.
        fitted: Ledger lines of the probes.
    """
    metrics = METRICS[targets.kind]
    is_number = targets.kind == "regression"
    whole = set(targets.columns) if is_number else {"macro", "all classes"}
    rows = tuple(
        replace(row, direction="chance", events=None)
        for metric in metrics
        for row in results
        if row.metric == metric and row.target in whole and MAJORITY not in (row.method, row.versus)
    )
    reached = {row.metric: row.value for row in results
               if row.method == MAJORITY and row.target in whole and not row.versus}  # fmt: skip
    fixed = {metric: SPECS[metric].chance for metric in metrics}
    return Confounder(
        name=targets.name,
        kind=targets.kind,
        classes=0 if is_number else targets.num_outputs,
        rows=rows,
        chance={m: reached.get(m) if one is None else one for m, one in fixed.items()},
        notes=tuple(notes),
        fitted=tuple(fitted),
    )
