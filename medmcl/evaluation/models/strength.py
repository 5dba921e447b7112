"""How strong a penalty may be, and how one is chosen.

Many cases of tuning choose on their own. A few choose nearly at random, and now and then a penalty
so weak that a wide embedding predicts nonsense with certainty, or so strong that everybody is
alike (``benchmarks/evaluation/penalty_choice.md``). So where few decide, what they say is weighed
against what is usual: a normal prior of the logarithm of the strength, one decade wide, around the
middle of the grid. Without any case the middle is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medmcl.core.targets import TaskKind

_LIKELIHOOD = tuple(10.0**power for power in range(5, -2, -1))  # against the summed likelihood
STRENGTHS: dict[TaskKind, tuple[float, ...]] = {
    "binary": _LIKELIHOOD,  # 1 / C of scikit-learn
    "multilabel": _LIKELIHOOD,
    "multiclass": _LIKELIHOOD,
    "regression": tuple(10.0 ** (power / 2) for power in range(8, -9, -1)),  # times train rows
    "survival": _LIKELIHOOD,
}
"""Penalties to choose from, by kind of task, strong to weak."""
ENOUGH = 50
"""Cases of tuning that choose a penalty on their own."""
DECADES = 1.0
"""Standard deviation of the prior, of the common logarithm of the strength."""
WEIGHED = "penalty weighed against the middle of its grid: tuning has few cases"
ALIKE = "the strongest penalty was chosen: nearly the same prediction for everyone"


def deciding_cases(kind: TaskKind, outcome: np.ndarray) -> int:
    """Count what tells one penalty from another: events, rows outside the commonest class, rows.

    Args:
        kind: Kind of task.
        outcome: Class, label, value, or whether the event was seen, of each row. (N,)
    """
    if kind == "regression" or not len(outcome):
        return len(outcome)
    if kind == "survival":
        return int((outcome > 0).sum())
    return int(len(outcome) - np.unique(outcome, return_counts=True)[1].max())


def prior_loss(strengths: Sequence[float], cases: int) -> np.ndarray:
    """Give what is added to the summed loss (nats) under each strength where few cases decide.

    Source:
        The negative logarithm of a normal density, so that the choice is the most probable strength
        (MAP). Its width was chosen on other seeds than those that the study's page judges it by.
    """
    if cases >= ENOUGH or min(strengths) <= 0:
        return np.zeros(len(strengths))
    decades = np.log10(strengths)
    return np.asarray(0.5 * ((decades - decades[len(decades) // 2]) / DECADES) ** 2)


def chosen_strength(
    strengths: Sequence[float], loss: Callable[[float], float], cases: int = ENOUGH
) -> int:
    """Walk from strong to weak, until the loss has risen twice; give the place of the least.

    Args:
        strengths: Candidates, strong to weak.
        loss: Summed loss of the tuning cases under a strength, in nats; asked in that order.
        cases: How many cases decide.
    """
    losses: list[float] = []
    for strength, more in zip(strengths, prior_loss(strengths, cases), strict=True):
        losses.append(loss(strength) + more)
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    return int(np.argmin(losses))


def alike_notes(strength: float, choices: Sequence[float], name: str = "") -> tuple[str, ...]:
    """Note that the strongest of several penalties was chosen, for a column of that name."""
    if len(choices) < 2 or strength < max(choices):
        return ()
    return (f"{name}: {ALIKE}" if name else ALIKE,)


def choice_notes(
    strength: float, choices: Sequence[float], cases: int, name: str = ""
) -> tuple[str, ...]:
    """Note that few cases chose among several penalties, and as `alike_notes`."""
    weighed = (WEIGHED,) if len(choices) > 1 and cases < ENOUGH else ()
    return (*weighed, *alike_notes(strength, choices, name))


def is_alike(note: str, target: str = "") -> bool:
    """Whether the note of a row says that all of its target's predictions are nearly the same."""
    return bool({ALIKE, f"{target}: {ALIKE}"} & set(note.split("; ")))


def said_alike(notes: Iterable[str]) -> list[str]:
    """Those of a probe's notes that say that it predicts nearly the same for everyone."""
    return [note for note in notes if note.endswith(ALIKE)]
