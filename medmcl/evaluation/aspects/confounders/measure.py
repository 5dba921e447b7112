"""What embeddings tell beside the tasks: how well site, sex, age can be predicted from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.results import (
    MAJORITY,
    Result,
    difference_rows,
    flipped,
    headline_rows,
)
from medmcl.evaluation.report.words import about_what, measured, metric_name

METRICS = {
    "multiclass": ("auroc", "balanced_accuracy"),
    "multilabel": ("auroc",),
    "regression": ("r2", "mae"),
}
"""Metrics of a confounder by its kind; the first is the one that is drawn."""
HELD_BACK = ("task", "events", "non_events")
"""Columns of a result that a confounder has not."""
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
            told = {k: v for k, v in asdict(row).items() if k not in HELD_BACK}
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
        replace(row, direction="chance", events=None, non_events=None)
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


@dataclass(frozen=True, kw_only=True)
class ToldLine:
    """One metric of one confounder, or the first metric of one task.

    Attributes:
        what: As ``site (3 classes)``, or the name of the task.
        is_task: Whether higher or lower is better; of a confounder neither is.
        metric: Metric by name.
        named: The same as people write it.
        chance: What a prediction that knows nothing reaches; None = unknown.
        values: Model to its row.
        differences: Model to the paired difference first model minus it.
        is_first: Whether it is the metric by which its kind is judged, and drawn.
    """

    what: str
    is_task: bool
    metric: str
    named: str
    chance: float | None
    values: dict[str, Result]
    differences: dict[str, Result]
    is_first: bool = True

    @property
    def role(self) -> str:
        """What it is, in a word."""
        return "task" if self.is_task else "confounder"


def models_of(found: Sequence[Confounder]) -> list[str]:
    """Every model that was asked, in order."""
    return list(dict.fromkeys(name for one in found for name in one.models))


def told_lines(found: Sequence[Confounder], results: Sequence[Result]) -> list[ToldLine]:
    """Lines of the confounders, then of the tasks that the same models were scored on.

    Of tasks: the first metric, at the largest share of the labels.

    Args:
        found: The confounders.
        results: Rows of tasks, differences among them.
    """
    models = models_of(found)
    lines = [
        _of_confounder(one, metric, models)
        for one in found
        for metric in METRICS[one.kind]
        if any(row.metric == metric for row in one.rows)
    ]
    tasks = dict.fromkeys(row.task for row in results if row.kind != "retrieval")
    own = [_of_task(results, task, models) for task in tasks]
    return [*lines, *(line for line in own if line is not None)]


def confounder_headline(found: Sequence[Confounder]) -> list[str]:
    """One sentence a confounder: how well each model tells it, by the first metric."""
    sentences = []
    for one in found:
        line = _of_confounder(one, METRICS[one.kind][0], models_of(found))
        told = [f"{name} {row.shown}" for name, row in line.values.items() if row.value is not None]
        if told:
            blind = "" if line.chance is None else f", {line.chance:g} = not at all"
            sentences.append(
                f"How well {one.name} is told from the embeddings ({line.named}{blind}): "
                f"{'; '.join(told)}."
            )
    return sentences


def _of_confounder(one: Confounder, metric: str, models: Sequence[str]) -> ToldLine:
    rows = {name: one.row(metric, name) for name in models}
    apart = [row for row in one.rows if row.versus and row.metric == metric]
    return ToldLine(
        what=f"{one.name} ({one.classes} classes)" if one.classes else f"{one.name} (a number)",
        is_task=False,
        metric=metric,
        named=measured(metric, "macro") if metric == "auroc" and one.classes > 2
        else metric_name(metric),
        chance=one.chance.get(metric),
        values={name: row for name, row in rows.items() if row is not None},
        differences=_from_first(apart, models),
        is_first=metric == METRICS[one.kind][0],
    )  # fmt: skip


def _of_task(results: Sequence[Result], task: str, models: Sequence[str]) -> ToldLine | None:
    rows = [row for row in headline_rows(results, task) if row.method in models]
    if not rows:
        return None
    most = max(row.label_fraction for row in rows)
    rows = [row for row in rows if row.label_fraction == most]
    apart = [row for row in difference_rows(results, task) if row.label_fraction == most]
    first = rows[0]
    spec = SPECS.get(first.metric)
    return ToldLine(
        what=about_what(task, "" if first.target == "macro" else first.target),
        is_task=True,
        metric=first.metric,
        named=measured(first.metric, first.target),
        chance=None if spec is None else spec.chance,
        values={row.method: row for row in rows},
        differences=_from_first(apart, models),
    )


def _from_first(rows: Sequence[Result], models: Sequence[str]) -> dict[str, Result]:
    """Differences turned to read first model minus other."""
    turned = [flipped(row) if row.versus == models[0] else row for row in rows]
    return {r.versus: r for r in turned if r.method == models[0] and r.versus in models}
