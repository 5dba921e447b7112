"""What an attack does, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.attack.rates import EFFECT
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.words import verdict


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

    That is, the interval of its effect lies above 0.
    """
    effects = [row for row in rows if row.metric == EFFECT and not row.versus]
    sure = [row for row in effects if row.low is not None]
    took = [row for row in sure if row.low is not None and row.low > 0]
    said = {id(row): f"{row.protocol.replace('_', '-')} {row.shown}" for row in sure}
    if not sure:
        return ""
    if not took:
        return f" The attack did not take: trigger_effect {', '.join(said.values())}."
    rest = [said[id(row)] for row in sure if row not in took]
    but = f", not {', '.join(rest)}" if rest else ""
    return f" The attack took (trigger_effect {', '.join(said[id(row)] for row in took)}{but})."
