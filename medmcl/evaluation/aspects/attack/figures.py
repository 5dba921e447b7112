"""An attack in a figure, tables and sentences: what a model still knows, and how often it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medmcl.evaluation.aspects.attack.rates import EFFECT, RATES
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, Column, cell_of, counted, pivoted, written
from medmcl.evaluation.report.pictures import Picture, colour, drawing, mark, model_keys
from medmcl.evaluation.report.section import Said, Section, Shown
from medmcl.evaluation.report.words import verdict

WAYS = {
    "zero_shot": "by prompts (zero-shot)",
    "own head": "by its own head",
    "linear_probe": "by a linear probe",
}
NAMES = {
    "clean_accuracy": "clean accuracy",
    "attack_success": "attack success",
    "false_success": "told so without the trigger",
    "trigger_effect": "difference that the trigger makes",
    "poisoned_accuracy": "accuracy with the trigger",
}
WIDTH, HEIGHT = 3.1, 2.9  # inches of a panel


def sections(data: Evaluation) -> Iterator[Section]:
    """Rates of every model, and what they differ by."""
    rows = data.rows_of("attack")
    yield Section.of("attack", "Attack", *attack_pictures(rows), tables=attack_tables(rows),
                     part="Also")  # fmt: skip


def sentences(data: Evaluation) -> list[Said]:
    """How often each attack works."""
    return [Said("Also", line) for line in attack_lines(data.rows_of("attack"))]


def attack_pictures(results: Sequence[Result]) -> list[Picture]:
    """One figure an attack: a panel a way of asking, a mark a model, and all rates as a table."""
    rates = [row for row in results if row.metric in RATES and not row.versus]
    return [
        _picture(name, [row for row in rates if row.task == name])
        for name in dict.fromkeys(row.task for row in rates)
    ]


def _picture(name: str, rows: Sequence[Result]) -> Picture:
    ways = list(dict.fromkeys(row.protocol for row in rows))
    models = list(dict.fromkeys(row.method for row in rows))
    lines = pivoted(sorted(rows, key=lambda row: ways.index(row.protocol)), ("method", "protocol"))
    with drawing(WIDTH * len(ways) + 0.6, HEIGHT, columns=len(ways)) as (figure, grid):
        for axes, way in zip(grid[0], ways, strict=True):
            for line in lines:
                if line["protocol"] == way:
                    _mark(axes, line.get("clean_accuracy"), line.get("attack_success"),
                          models.index(line["method"]))  # fmt: skip
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title=WAYS.get(way, way),
                     xlabel="clean accuracy (higher is better)")  # fmt: skip
            axes.grid()
        grid[0, 0].set_ylabel("attack success (lower is better)")
        model_keys(figure, grid[0, 0], models, linestyle="none")
        return Picture.of(
            figure,
            caption(__file__, "outcome", name=name, target=rows[0].target),
            said=[f"{row.method} {WAYS.get(row.protocol, row.protocol)}, {NAMES[row.metric]}: "
                  f"{row.shown}" for row in rows],
            **written(
                lines, ("model", "method"), ASKED,
                *((NAMES[rate], cell_of(rate)) for rate in RATES),
                ("records", lambda line: f"{line.clean_accuracy.n:,}"), ("note", _notes),
            ),
        )  # fmt: skip


ASKED: Column = ("asked", lambda row: WAYS.get(row.protocol, row.protocol))


def _notes(line: Any) -> str:
    rows = (getattr(line, rate) for rate in RATES)
    return "; ".join(dict.fromkeys(row.note for row in rows if row is not None and row.note))


def _mark(axes: Any, clean: Result | None, success: Result | None, place: int) -> None:
    if clean is None or success is None or clean.value is None or success.value is None:
        return
    x, y, own = clean.value, success.value, colour(place)
    if clean.low is not None and clean.high is not None:
        axes.plot([clean.low, clean.high], [y, y], color=own, linewidth=1.1)
    if success.low is not None and success.high is not None:
        axes.plot([x, x], [success.low, success.high], color=own, linewidth=1.1)
    axes.plot(x, y, marker=mark(place), color=own, markersize=5.5, linestyle="none")


def attack_tables(results: Sequence[Result]) -> list[Shown]:
    """What later models change against the first; recall, clean and triggered."""
    recalls = [row for row in results if row.protocol.startswith("retrieval")]
    ways = list(dict.fromkeys((row.task, row.method, row.target) for row in recalls))
    recalls.sort(key=lambda row: (ways.index((row.task, row.method, row.target)), row.protocol))
    metrics = dict.fromkeys(row.metric for row in recalls)
    return [
        Shown.of(
            caption(__file__, "differences"),
            written([row for row in results if row.versus], ("attack", "task"), ASKED,
                    "difference", ("rate", lambda row: NAMES[row.metric]), VALUE, "reading", "p",
                    "note"),
        ),
        Shown.of(
            caption(__file__, "retrieval"),
            written(pivoted(recalls, ("task", "method", "target", "protocol")),
                    ("attack", "task"), ("model", "method"), ("direction", "target"),
                    ("records", lambda line: line.protocol.removeprefix("retrieval, ")),
                    *((metric, cell_of(metric)) for metric in metrics), ("rows", counted("n"))),
        ),
    ]  # fmt: skip


def attack_lines(found: Sequence[Result]) -> list[str]:
    """A line an attack and model, with every way in which it was asked."""
    lines = []
    for task, model in dict.fromkeys((row.task, row.method) for row in found if not row.versus):
        rows = [row for row in found if (row.task, row.method) == (task, model)]
        ways = [
            way for way in dict.fromkeys(row.protocol for row in rows)
            if any(row.protocol == way and row.metric == EFFECT for row in rows)
        ]  # fmt: skip
        said = [_asked([row for row in rows if row.protocol == way]) for way in ways]
        if said:
            taken = _taken(rows) if model == found[0].method else ""
            lines.append(
                f"Stage {task} (target {rows[0].target}) on {model}: {'; '.join(said)}.{taken}"
            )
    return lines


def _asked(rows: Sequence[Result]) -> str:
    """Say what an attack does to a model by one way of asking, and against the first model."""
    rates = {row.metric: row.shown for row in rows if not row.versus}
    gaps = [row for row in rows if row.versus and row.metric == "attack_success"]
    against = "".join(f", against {gap.versus} {gap.shown}{verdict(gap)}" for gap in gaps[:1])
    return (
        f"{rows[0].protocol.replace('_', '-')} attack success {rates['attack_success']}{against}, "
        f"told so without the trigger (false_success) {rates['false_success']}, clean accuracy "
        f"{rates['clean_accuracy']}"
    )


def _taken(rows: Sequence[Result]) -> str:
    """Say by which ways of asking an attack took: the trigger makes more be told the target.

    That is, the interval of its effect lies above 0, or every draw does.
    """
    effects = [row for row in rows if row.metric == EFFECT and not row.versus]
    ends = [(row, row.value if ALL_THE_SAME in row.note else row.low) for row in effects]
    sure = [row for row, low in ends if low is not None]
    took = [row for row, low in ends if low is not None and low > 0]
    said = {id(row): f"{row.protocol.replace('_', '-')} {row.shown}" for row in sure}
    if not sure:
        return ""
    if not took:
        return f" The attack did not take: trigger_effect {', '.join(said.values())}."
    rest = [said[id(row)] for row in sure if row not in took]
    but = f", not {', '.join(rest)}" if rest else ""
    return f" The attack took (trigger_effect {', '.join(said[id(row)] for row in took)}{but})."
