"""What should choose a probe's penalty: a few tuning people, or cross-validation over train too.

``OMP_NUM_THREADS=1 python benchmarks/evaluation/penalty_choice.py`` (some ten minutes) writes
``penalty_choice.md`` beside itself. The truth is simulated: 2,000 further people of each cohort judge.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.models.penalty import (
    cross_validated_strength,
    prediction_loss,
)
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.strength import ENOUGH, STRENGTHS

FURTHER, COHORTS, FIRST_SEED = 2_000, 60, 1_000
SIZES = (75, 150, 300, 600, 1_200)
KINDS = ("survival", "binary")
FEATURES = {
    "table": "6 columns, of which 4 tell the outcome",
    "embedding": "64 numbers that hold the 4 in noise, of an encoder that learned elsewhere",
    "overfitted": "the same 64; those of train people also hold their outcome, as of an encoder "
    "that has learned them by heart",
}


def cohort(kind: str, features: str, size: int, seed: int) -> tuple[np.ndarray, Targets]:
    """Features and outcomes of so many people and of `FURTHER`; 70 % train."""
    rng = np.random.default_rng([seed, size])
    people = size + FURTHER
    hidden = rng.normal(size=(people, 4))
    score = hidden @ np.array([0.6, 0.4, -0.3, 0.2])
    if kind == "survival":
        time, end = rng.exponential(np.exp(-score)), rng.exponential(1.2, people)
        values = np.column_stack([np.minimum(time, end), time <= end]).astype(float)
        outcome = -np.log(time)
    else:
        values = (rng.random(people) < 1 / (1 + np.exp(0.8 - score)))[:, None].astype(float)
        outcome = 2 * values[:, 0] - 1
    x = np.hstack([hidden, rng.normal(size=(people, 2))])
    if features != "table":
        x = 0.5 * hidden @ rng.normal(size=(4, 64)) + 1.5 * rng.normal(size=(people, 64))
    if features == "overfitted":
        train = round(0.7 * size)
        x[:train] += 0.6 * outcome[:train, None] * rng.normal(size=64)
    columns = ("time", "event") if kind == "survival" else ("y",)
    return x, Targets(
        name="outcome",
        kind=kind,  # type: ignore[arg-type]
        columns=columns,
        values=values,
        known=np.ones(values.shape, dtype=bool),
        unit="days" if kind == "survival" else "",
    )


Rule = Callable[[np.ndarray, Targets, np.ndarray, np.ndarray], float]


def crossed(
    x: np.ndarray, targets: Targets, train: np.ndarray, tuning: np.ndarray, *, with_tuning: bool
) -> float:
    """The penalty by 5-fold cross-validation over train, with tuning or without."""
    rows = np.concatenate([train, tuning]) if with_tuning else train
    return cross_validated_strength(linear_walk, x[rows], targets.take(rows), rows)[0]


def alone(x: np.ndarray, targets: Targets, train: np.ndarray, tuning: np.ndarray) -> float:
    """The penalty of the lowest tuning loss, however few decide."""
    fits = [
        linear_probe(x, targets, train, tuning[:0], strengths=[strength])
        for strength in STRENGTHS[targets.kind]
    ]
    told = targets.take(tuning)
    return min(fits, key=lambda one: prediction_loss(told, one.predict(x[tuning]))).chosen[0]


RULES: dict[str, Rule] = {
    "tuning alone": alone,
    "tuning, weighed": lambda *given: linear_probe(*given).chosen[0],
    "cross-validation over train": partial(crossed, with_tuning=False),
    "cross-validation over train and tuning": partial(crossed, with_tuning=True),
}


def line(kind: str, features: str, size: int) -> str:
    """Line of the table for one kind of outcome, features and size."""
    grid = STRENGTHS[kind]
    train = np.arange(round(0.7 * size))
    tuning = np.arange(len(train), len(train) + round(0.09 * size))
    further = np.arange(size, size + FURTHER)
    lost: dict[str, list[float]] = {name: [] for name in RULES}
    null = dict.fromkeys(RULES, 0)
    events = []
    for seed in range(FIRST_SEED, FIRST_SEED + COHORTS):
        x, targets = cohort(kind, features, size, seed)
        events.append(targets.values[tuning, -1].sum())
        loss = {
            strength: prediction_loss(
                targets.take(further),
                linear_probe(x, targets, train, tuning[:0], strengths=[strength]).predict(
                    x[further]
                ),
            )
            / FURTHER
            for strength in grid
        }
        for name, rule in RULES.items():
            chosen = rule(x, targets, train, tuning)
            lost[name].append(loss[chosen] - min(loss.values()))
            null[name] += chosen == max(grid)
    cells = " | ".join(
        f"{np.mean(lost[name]):.4f} ({np.quantile(lost[name], 0.9):.4f}) | "
        f"{100 * null[name] / COHORTS:.0f} %"
        for name in RULES
    )
    return f"| {kind} | {features} | {size} | {len(tuning)} ({np.mean(events):.0f}) | {cells} |"


def main() -> None:
    """Write the page."""
    rows = [line(kind, features, size) for kind in KINDS for features in FEATURES for size in SIZES]
    what = "\n".join(f"- {name}: {said}" for name, said in FEATURES.items())
    header = " | ".join(f"{name} | strongest" for name in RULES)
    text = f"""# What chooses a penalty

`OMP_NUM_THREADS=1 python benchmarks/evaluation/penalty_choice.py`: {COHORTS} simulated cohorts a
line, {FURTHER:,} further people of each judge. 70 % of a cohort are train, 9 % tuning. Every rule
chooses from the same grid, and the fit is on train. Shown is what is lost: the loss a person (Cox:
negative log partial likelihood; logistic: log loss) above that of the best penalty of the grid,
mean and, in brackets, 90 % quantile over cohorts; then how often the strongest penalty was chosen,
under which everybody gets the same. Features:

{what}

"Weighed" adds to the summed loss of tuning what a normal prior of the logarithm of the penalty
does, one decade wide around the middle of the grid, where fewer than {ENOUGH} cases decide.

Below some 15 tuning events, tuning alone takes the strongest penalty, or one so weak that 64 numbers
predict nonsense, in up to every third cohort. Weighed, it takes the strongest in none. Where
nothing has learned from the people, cross-validation over train and tuning loses least, for a table
at every size, for an embedding at most. Where an encoder knows its train people by heart,
cross-validation sees the outcome in the features and takes too weak a penalty at every size; of
which kind its encoder is, a run cannot tell.

So embeddings, and what holds one, have tuning, weighed where it is small; covariates and simple
features, which have learned from nobody, have cross-validation over train and tuning where fewer
than {ENOUGH} cases of tuning would decide, and tuning where there are more. The width of the prior
and the rules were chosen on seeds 0 to 29 of the same simulation (up to 600 people; .25, .5, 1, 2
and 4 for half the inverse squared width); these are seeds {FIRST_SEED:,} to
{FIRST_SEED + COHORTS - 1:,}.

| outcome | features | people | tuning (events) | {header} |
|---|---|---|---|{"---|---|" * len(RULES)}
{chr(10).join(rows)}
"""
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
