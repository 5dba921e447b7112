"""Figure and table of paired choice: shares by attribute, and what later models gain."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.paired_choice.measure import CHANCE, MACRO, OVERALL
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.pictures import (
    PAGE,
    TALLEST,
    Picture,
    colour,
    distinct,
    drawing,
    mark,
    model_keys,
    whisker,
)
from medmcl.evaluation.report.section import Shown, folded
from medmcl.evaluation.report.words import p_shown, verdict

MOST_TARGETS = 24  # lines of one figure; every attribute is in the table
LINE, GAP, EDGE = 0.13, 0.12, 0.9  # inches of a model, between attributes, of what is around


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
    step = len(methods) * LINE + GAP
    with drawing(PAGE, min(TALLEST, EDGE + step * len(drawn))) as (figure, ((axes,),)):
        for row in rows:
            if row.target in drawn and row.value is not None:
                k = methods.index(row.method)
                height = step * drawn.index(row.target) + k * LINE
                whisker(axes, row, height, colour(k), mark(k), size=4.5, wide=1.2)
        labels = distinct([target_name(target) for target in drawn])
        middle = (len(methods) - 1) * LINE / 2
        axes.set_yticks(
            [step * n + middle for n in range(len(drawn))],
            [labels[target_name(target)] for target in drawn],
        )
        axes.set_ylim(step * len(drawn) - GAP, -GAP)
        axes.set_xlim(-0.03, 1.03)
        axes.axvline(CHANCE, color="#777777", linestyle="--", linewidth=0.9)
        axes.set_xlabel("share of pairs with both statements right (higher is better)")
        axes.grid(axis="x")
        if len(methods) > 1:
            model_keys(figure, axes, methods, linewidth=1.2)
        more = len(targets) - len(drawn)
        return Picture.of(
            figure,
            title=f"Paired choice: {name}",
            aid="Share of pairs in which both statements choose their own of the two images; lines "
            "are 95 % bootstrap intervals over pairs, those of samples that share a subject or "
            "site together. Dashed: chance, 25 %; a model that sees no difference is below it, as "
            "both statements then choose the same image."
            + (f" {more} more attributes are in the table." if more > 0 else ""),
            lead="Shares of right pairs by attribute, chance 0.25",
            said=[f"{target_name(row.target)}, {row.method}: {row.shown}" for row in rows],
            header=("attribute", "model", "share (95 % interval)", "pairs", "note"),
            rows=[
                (target_name(row.target), row.method, row.shown, f"{row.n:,}", row.note)
                for row in rows
            ],
        )


def choice_differences(results: Sequence[Result]) -> list[Shown]:
    """What each later model gains over the first, on the same pairs."""
    rows = tuple(
        (
            row.task,
            target_name(row.target),
            f"{row.method} minus {row.versus}",
            row.shown,
            verdict(row).removeprefix(", "),
            p_shown(row.p_value),
            f"{row.n:,}",
            row.note,
        )
        for row in results
        if row.versus
    )
    if not rows:
        return []
    return [
        Shown(
            title="Paired differences",
            aid="Both models on the same pairs and draws. Better or worse: the 95 % interval does "
            "not hold 0; of many intervals, some miss it by chance. p is the bootstrap's, "
            "two-sided (the level at which the interval would touch 0).",
            header=("pairs of", "attribute", "difference", "value (95 % interval)", "reading", "p",
                    "pairs", "note"),
            rows=rows,
            folded=folded(rows),
        )
    ]  # fmt: skip


def target_name(target: str) -> str:
    """A target as people write it."""
    return {OVERALL: "all pairs", MACRO: "mean over attributes"}.get(target, target)
