"""How long all metrics of fixed predictions take: 2,500 subjects, 1,000 bootstrap draws.

``python -m benchmarks.evaluation.evaluation_speed``.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.study import Row, Study, number, table
from medmcl.core.targets import Targets
from medmcl.evaluation import Given, evaluate_task

SUBJECTS, DRAWS = 2500, 1000
DAYS = np.array([365.25, 5 * 365.25, 10 * 365.25])


def task(kind: str, x: np.ndarray, rng: np.random.Generator) -> Targets:
    """An outcome that x explains in part."""
    columns: tuple[str, ...] = ("y",)
    if kind == "binary":
        values = (rng.random((len(x), 1)) < 1 / (1 + np.exp(1.5 - x))) + 0.0
    elif kind == "regression":
        values = x + rng.normal(size=x.shape)
    else:
        days = rng.exponential(4000 * np.exp(-x[:, 0]))
        ends = rng.uniform(400, 5000, len(x))
        values = np.stack([np.minimum(days, ends), (days <= ends) + 0.0], axis=1)
        columns = ("time", "event")
    return Targets(
        name=kind,
        kind=kind,  # type: ignore[arg-type]  # one of the three kinds
        columns=columns,
        values=values,
        known=np.ones(values.shape, bool),
        unit="days",
        horizons_years=(1.0, 5.0, 10.0) if kind == "survival" else (),
    )


def predictions(kind: str, x: np.ndarray, noise: float, rng: np.random.Generator) -> Given:
    """Fixed predictions of a model that sees x with some noise."""
    seen = x + noise * rng.normal(size=x.shape)
    if kind == "binary":
        return Given(values=1 / (1 + np.exp(1.5 - seen)))
    if kind == "regression":
        return Given(values=seen)
    rate = np.exp(seen) / 4000
    return Given(values=seen, survival=lambda times: np.exp(-rate * times))


def parts(rows: list[Row]) -> dict[str, str]:
    total = {"task": "all", "seconds": sum(row["seconds"] for row in rows)}
    columns = {
        "task": "task",
        "metrics": "metrics",
        "rows": "rows",
        "seconds": number("seconds", ".1f"),
    }
    return {"speed": table(columns, [*rows, total])}


def run(_: argparse.Namespace) -> list[Row]:
    """Time each kind with two models and their paired difference."""
    rng = np.random.default_rng(0)
    train = 500  # censoring weights and thresholds come from other people
    x = rng.normal(size=(SUBJECTS + train, 1))
    split = np.array(["train"] * train + ["held_out"] * SUBJECTS)
    rows = []
    for kind in ("binary", "regression", "survival"):
        targets = task(kind, x, rng)
        models = {"a": predictions(kind, x, 0.3, rng), "b": predictions(kind, x, 1.0, rng)}
        start = time.perf_counter()
        found = evaluate_task(
            {},
            targets,
            split,
            np.arange(len(x)),
            predictions=models,
            bootstrap_draws=DRAWS,
            dear_draws=DRAWS,
            shown=["a", "b"],
        )
        seconds = time.perf_counter() - start
        metrics = len({row.metric for row in found.results})
        counts = {"metrics": metrics, "rows": len(found.results)}
        rows.append({"task": kind, **counts, "seconds": seconds})
    return rows


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
