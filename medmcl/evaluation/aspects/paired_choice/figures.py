"""Figure and table of paired choice: shares by attribute, and what later models gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medmcl.evaluation.aspects.paired_choice.measure import CHANCE, MACRO, OVERALL
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, Column, counted, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.pictures import Picture, distinct
from medmcl.evaluation.report.section import Said, Section, Shown
from medmcl.evaluation.report.words import verdict

MOST_TARGETS = 24  # lines of one figure; every attribute is in the table


def sections(data: Evaluation) -> Iterator[Section]:
    """Shares of right pairs, and what later models gain."""
    rows = data.rows_of("paired_choice")
    yield Section.of("choices", "Paired choice", *choice_pictures(rows),
                     tables=choice_differences(rows), short="Pairs told apart",
                     part="Also")  # fmt: skip


def sentences(data: Evaluation) -> list[Said]:
    """How many pairs each model tells apart."""
    return [Said("Also", line) for line in choice_lines(data.rows_of("paired_choice"))]


def choice_lines(found: Sequence[Result]) -> list[str]:
    """A line a set of pairs: every model, later ones against the first."""
    lines = []
    for task in dict.fromkeys(row.task for row in found):
        rows = [row for row in found if (row.task, row.target) == (task, OVERALL)]
        gains = {row.method: row for row in rows if row.versus and row.value is not None}
        said = [
            f"{row.method} {row.shown}"
            + (
                f", against {gains[row.method].versus} {gains[row.method].shown}"
                f"{verdict(gains[row.method])}"
                if row.method in gains
                else ""
            )
            for row in rows
            if not row.versus and row.method != "chance"
        ]
        lines.append(
            f"Paired choice {task}, {rows[0].n:,} pairs (chance {CHANCE}): {'; '.join(said)}."
        )
    return lines


def choice_pictures(results: Sequence[Result]) -> list[Picture]:
    """One figure a set of pairs: a line an attribute, a mark a model, chance as a dashed line."""
    plain = [row for row in results if not row.versus and row.method != "chance"]
    return [
        _picture(name, [row for row in plain if row.task == name])
        for name in dict.fromkeys(row.task for row in plain)
    ]


def _picture(name: str, rows: Sequence[Result]) -> Picture:
    targets = list(dict.fromkeys(row.target for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    drawn = targets[:MOST_TARGETS]
    rows = sorted(rows, key=lambda row: targets.index(row.target))
    known = {(row.target, row.method): row for row in rows if row.value is not None}
    labels = distinct([target_name(target) for target in drawn])
    forest = Forest(
        lines=[
            Line(label=labels[target_name(target)],
                 marks=[(known.get((target, name)), look) for look, name in enumerate(methods)])
            for target in drawn
        ],
        xlabel="share of pairs with both statements right (higher is better)",
        reference=CHANCE, span=(-0.03, 1.03), line=0.13, gap=0.9, size=4.5,
    )  # fmt: skip
    return Picture.of(
        planted([forest], models=methods if len(methods) > 1 else ()),
        caption(__file__, "choices", name=name, more=len(targets) - len(drawn)),
        said=[f"{target_name(row.target)}, {row.method}: {row.shown}" for row in rows],
        **written(rows, ATTRIBUTE, ("model", "method"), ("share (95 % interval)", "shown"),
                  ("pairs", counted("n")), "note"),
    )  # fmt: skip


def choice_differences(results: Sequence[Result]) -> list[Shown]:
    """What each later model gains over the first, on the same pairs."""
    return [
        Shown.of(
            caption(__file__, "differences"),
            written([row for row in results if row.versus], ("pairs of", "task"), ATTRIBUTE,
                    "difference", VALUE, "reading", "p", ("pairs", counted("n")), "note"),
        )
    ]  # fmt: skip


def target_name(target: str) -> str:
    """A target as people write it."""
    return {OVERALL: "all pairs", MACRO: "mean over attributes"}.get(target, target)


ATTRIBUTE: Column = ("attribute", lambda row: target_name(row.target))
