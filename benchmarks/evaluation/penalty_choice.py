"""What should choose a probe's penalty: a few tuning people, or cross-validation over train too.

``OMP_NUM_THREADS=1 python -m benchmarks.evaluation.penalty_choice``. The truth is simulated:
2,000 further people of each cohort judge. What is kept is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.study import Study, grid
from medmcl.core.targets import Targets, TaskKind
from medmcl.evaluation.models.penalty import cross_validated_strength, prediction_loss
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.strength import (
    STRENGTHS,
    chosen_strength,
    deciding_cases,
    prior_loss,
)

FURTHER = 2_000
SIZES = (75, 150, 300, 600, 1_200)
KINDS: tuple[TaskKind, ...] = ("survival", "binary", "regression")
FEATURES = ("table", "embedding", "overfitted", "noise")
RULES = ("tuning alone", "tuning, weighed", "folds of train", "folds of train and tuning")
HALF_PRECISIONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Half the inverse squared width of the prior; 0 = no prior."""
CHOOSE, REPORT = range(30), range(1_000, 1_060)
"""Seeds that the width was chosen on, and those of the page."""


def cohort(kind: TaskKind, features: str, size: int, seed: int) -> tuple[np.ndarray, Targets]:
    """Features and outcomes of so many people and of `FURTHER`; 70 % train."""
    rng = np.random.default_rng([seed, size])
    people = size + FURTHER
    hidden = rng.normal(size=(people, 4))
    score = hidden @ np.array([0.6, 0.4, -0.3, 0.2])
    if kind == "survival":
        time, end = rng.exponential(np.exp(-score)), rng.exponential(1.2, people)
        values = np.column_stack([np.minimum(time, end), time <= end]).astype(float)
        outcome = -np.log(time)
    elif kind == "binary":
        values = (rng.random(people) < 1 / (1 + np.exp(0.8 - score)))[:, None].astype(float)
        outcome = 2 * values[:, 0] - 1
    else:
        outcome = score + rng.normal(size=people)
        values = outcome[:, None]
    x = np.hstack([hidden, rng.normal(size=(people, 2))])
    if features == "noise":
        x = rng.normal(size=(people, 64))
    elif features != "table":
        x = 0.5 * hidden @ rng.normal(size=(4, 64)) + 1.5 * rng.normal(size=(people, 64))
    if features == "overfitted":
        train = round(0.7 * size)
        x[:train] += 0.6 * outcome[:train, None] * rng.normal(size=64)
    return x, Targets(
        name="outcome",
        kind=kind,
        columns=("time", "event") if kind == "survival" else ("y",),
        values=values,
        known=np.ones(values.shape, dtype=bool),
        unit="days" if kind == "survival" else "",
    )


def losses(kind: TaskKind, features: str, size: int, seed: int) -> dict[str, list[float] | int]:
    """Of each rule, and of each width, what is lost a person and where in the grid it chose."""
    grid = STRENGTHS[kind]
    x, targets = cohort(kind, features, size, seed)
    train = np.arange(round(0.7 * size))
    tuning = np.arange(len(train), len(train) + round(0.09 * size))
    further = np.arange(size, size + FURTHER)
    fits = [linear_probe(x, targets, train, tuning[:0], strengths=[one]).predict for one in grid]
    far = [prediction_loss(targets.take(further), fit(x[further])) / FURTHER for fit in fits]
    near = [prediction_loss(targets.take(tuning), fit(x[tuning])) for fit in fits]
    if kind == "regression":
        near = [0.5 * len(tuning) * float(np.log(one / len(tuning))) for one in near]
    cases = deciding_cases(kind, targets.values[tuning, -1])

    def crossed(rows: np.ndarray) -> int:
        part = targets.take(rows)
        return grid.index(cross_validated_strength(linear_walk, x[rows], part, rows)[0])

    asked = dict(zip(grid, near, strict=True))
    chosen = [
        int(np.argmin(near)),
        chosen_strength(grid, asked.__getitem__, cases),
        crossed(train),
        crossed(np.concatenate([train, tuning])),
    ]
    prior = 2 * prior_loss(grid, 0)  # squared decades from the middle
    widths = [int(np.argmin(near + half * prior)) for half in HALF_PRECISIONS]
    return {
        "lost": [far[one] - min(far) for one in chosen],
        "strongest": [float(one == 0) for one in chosen],
        "weaker": [float(one > int(np.argmin(far))) for one in chosen],
        "widths": [far[one] - min(far) for one in widths],
        "cases": cases,
    }


def run(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run what is not yet kept."""
    found = STUDY.kept(given.out) or {}
    for kind in KINDS:
        for features in FEATURES:
            for size in SIZES:
                for name, seeds in (("choose", CHOOSE), ("report", REPORT)):
                    key = f"{name} {kind} {features} {size}"
                    if key not in found and (name == "report" or size <= 600):
                        each = [losses(kind, features, size, seed) for seed in seeds]
                        found[key] = {
                            part: np.round([one[part] for one in each], 5).tolist()
                            for part in each[0]
                        }
                        yield found


def parts(found: dict[str, Any]) -> dict[str, str]:
    rows, widths = [], []
    for key, part in found.items():
        name, *about = key.split()
        if name == "choose":
            widths.append([*about, *(f"{one:.4f}" for one in np.mean(part["widths"], axis=0))])
            continue
        lost = np.array(part["lost"])
        error = lost.std(axis=0, ddof=1) / np.sqrt(len(lost))
        shares = [100 * np.mean(part[one], axis=0) for one in ("strongest", "weaker")]
        cells = [*about, f"{np.mean(part['cases']):.0f}"]
        for rule in range(len(RULES)):
            cells += [f"{lost[:, rule].mean():.4f} ± {error[rule]:.4f}"]
            cells += [f"{np.median(lost[:, rule]):.4f}", *(f"{one[rule]:.0f}" for one in shares)]
        rows.append(cells)
    about = ["outcome", "features", "people"]
    head = [one for name in RULES for one in (name, "median", "strongest %", "too weak %")]
    return {
        "lost": grid([*about, "cases of tuning", *head], rows),
        "widths": grid([*about, *map(str, HALF_PRECISIONS)], widths),
    }


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
