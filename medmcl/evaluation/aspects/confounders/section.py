"""What else the embeddings tell, as a section of a report: confounders beside the tasks."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.confounders.measure import (
    Confounder,
    ToldLine,
    confounder_headline,
    models_of,
    told_lines,
)
from medmcl.evaluation.aspects.tasks.tables import ARROWS, Reasons
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.pictures import Picture, number, shorten
from medmcl.evaluation.report.section import Said, Section, Shown
from medmcl.evaluation.report.words import metric_name

TITLE = "What else the embeddings tell"


def sections(data: Evaluation) -> tuple[Section, ...]:
    """What else the embeddings tell, beside the tasks."""
    return confounder_sections(data.shown.get("confounders", ()), data.task_rows)


def sentences(data: Evaluation) -> list[Said]:
    """How well each is told."""
    found = data.shown.get("confounders", ())
    return [Said("Also", line) for line in confounder_headline(found)]


def files(data: Evaluation) -> dict[str, Rows]:
    """Each with its numbers, and on whom it was fitted."""
    found: list[Confounder] = data.shown.get("confounders", [])
    return {
        "confounders": [row for one in found for row in one.plain_rows()],
        "confounders_fitted_on": [row for one in found for row in one.plain_fits()],
    }


def confounder_sections(
    found: Sequence[Confounder], results: Sequence[Result]
) -> tuple[Section, ...]:
    """Make the section; none where nothing was asked.

    Args:
        found: The confounders.
        results: Rows of tasks, of which those of the same models stand beside.
    """
    if not found:
        return ()
    models, lines = models_of(found), told_lines(found, results)
    return (
        Section.of(
            "confounders",
            TITLE,
            told_dots(lines, models),
            tables=(_table(lines, models),),
            short="Confounders",
            part="Also",
            lines=(
                "These are no tasks: the same probe, on the same embeddings, is asked for what "
                "should not matter. Nearer to chance, the embedding tells less of it. A linear "
                "probe that finds nothing does not prove that nothing is there.",
                *(f"{one.name}: {'; '.join(one.notes)}." for one in found if one.notes),
            ),
        ),
    )


def _table(lines: Sequence[ToldLine], models: Sequence[str]) -> Shown:
    reasons, first = Reasons(), models[0]
    cells = written(
        lines, ("predicted", "what"), "role", ("metric", _named),
        ("knows nothing", lambda line: number(line.chance, 2)),
        *((one, lambda line, one=one: reasons.cell(line.values.get(one))) for one in models),
        *((f"{first} minus {one}", lambda line, one=one: reasons.cell(line.differences.get(one)))
          for one in models[1:]),
        ("scored on", _scored),
    )  # fmt: skip
    return Shown.of(
        caption(__file__, "table"),
        cells,
        folded="",
        notes=reasons.lines,
    )


def _named(line: ToldLine) -> str:
    if not line.is_task:
        return f"{line.named} ◇"
    direction = next(iter(line.values.values())).direction
    return f"{line.named} {ARROWS[direction]}"


def _scored(line: ToldLine) -> str:
    row = next(iter(line.values.values()), None)
    return "-" if row is None else f"{row.split} ({row.n:,})"


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
        caption(__file__, "told", more=len(drawn) - len(shown)),
        said=[(f"{line.what}, {line.named}: " + ", ".join(
        f"{name} {row.shown}" for name, row in line.values.items()
    )) for line in shown],
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
