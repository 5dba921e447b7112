"""What embeddings tell, drawn: confounders and tasks of the same models on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.confounders.measure import ToldLine
from medmcl.evaluation.report.columns import VALUE, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.pictures import Picture, number, shorten
from medmcl.evaluation.report.words import metric_name

MOST_TASKS = 8  # lines of tasks on one scale; every task is in the table
APART = 0.17  # inches between the dots of two models


def told_dots(lines: Sequence[ToldLine], models: Sequence[str]) -> Picture | None:
    """Draw the first metric of every confounder, a panel a metric, the tasks below on its scale.

    Tasks whose metric no confounder has (survival) stand in the table only.

    Args:
        lines: Of confounders, then of tasks.
        models: In the order of colours.
    """
    drawn = [line for line in lines if line.is_first and _has_value(line)]
    metrics = list(dict.fromkeys(line.metric for line in drawn if not line.is_task))
    panels = {metric: _panel_lines(drawn, metric) for metric in metrics}
    if not panels:
        return None
    shown = [line for own in panels.values() for line in own]
    return Picture.of(
        planted([_forest(own, models) for own in panels.values()], models=models),
        title="Confounders and tasks, from the same embeddings",
        aid="Dot = value on subjects it was not fitted on, line = 95 % bootstrap interval over "
        "subjects; dashed = a prediction that knows nothing; the AUROC of several classes is "
        "the mean of each against the rest. Of a confounder, nearer to the dashed line means "
        "that the embedding tells less of it; left of the line, it tells nothing. Of a task, "
        "further right is better." + _rest(drawn, shown),
        lead="Dot plot of what the embeddings tell",
        said=[_said(line) for line in shown],
        **written(
            [{**vars(row), "line": line, "shown": row.shown} for line in shown
             for row in line.values.values()],
            ("predicted", lambda row: row.line.what), ("role", lambda row: row.line.role),
            ("metric", lambda row: row.line.named),
            ("knows nothing", lambda row: number(row.line.chance)), ("model", "method"), VALUE, "n",
        ),
    )  # fmt: skip


def _has_value(line: ToldLine) -> bool:
    return any(row.value is not None for row in line.values.values())


def _panel_lines(drawn: Sequence[ToldLine], metric: str) -> list[ToldLine]:
    """Lines on one scale, confounders first."""
    own = [line for line in drawn if line.metric == metric]
    tasks = [line for line in own if line.is_task][:MOST_TASKS]
    return [*(line for line in own if not line.is_task), *tasks]


def _rest(drawn: Sequence[ToldLine], shown: Sequence[ToldLine]) -> str:
    more = len(drawn) - len(shown)
    return f" Tasks that are in the table only: {more}." if more else ""


def _forest(own: Sequence[ToldLine], models: Sequence[str]) -> Forest:
    """Lines under a heading each for confounders and tasks."""
    lines: list[Line] = []
    for heading, is_task in (("confounders", False), ("tasks", True)):
        part = [line for line in own if line.is_task == is_task]
        lines += [Line(label=heading, is_bold=True)] if part else []
        for one in part:
            marks = [(one.values.get(name), look) for look, name in enumerate(models)]
            lines.append(Line(label=shorten(one.what, 34), marks=marks))
    return Forest(lines=lines, xlabel=metric_name(own[0].metric), reference=own[0].chance,
                  line=APART, gap=0.7)  # fmt: skip


def _said(line: ToldLine) -> str:
    return f"{line.what}, {line.named}: " + ", ".join(
        f"{name} {row.shown}" for name, row in line.values.items()
    )
