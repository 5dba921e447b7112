"""What else the embeddings tell, as a section of a report: confounders beside the tasks."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.confounders.figures import told_dots
from medmcl.evaluation.aspects.confounders.measure import (
    Confounder,
    ToldLine,
    models_of,
    told_lines,
)
from medmcl.evaluation.aspects.tasks.tables import ARROWS, Reasons
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.columns import written
from medmcl.evaluation.report.pictures import number
from medmcl.evaluation.report.section import Section, Shown

TITLE = "What else the embeddings tell"


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
        "Confounders beside the tasks",
        "Columns of models: value (95 % interval). Differences are paired: both models on the "
        "same subjects and draws, 95 % intervals over subjects. Of a confounder (◇) neither "
        "direction is better: the nearer to what a prediction reaches that knows nothing, the less "
        "is told, and nothing on its other side (few people, predicted out of fold).",
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
