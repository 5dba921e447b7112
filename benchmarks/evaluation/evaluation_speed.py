"""How long all metrics of fixed predictions take: 2,500 subjects, 1,000 bootstrap draws.

``python benchmarks/evaluation/evaluation_speed.py`` writes ``evaluation_speed.md`` beside itself.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

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


def main() -> None:
    """Time each kind with two models and their paired difference."""
    rng = np.random.default_rng(0)
    train = 500  # censoring weights and thresholds come from other people
    x = rng.normal(size=(SUBJECTS + train, 1))
    split = np.array(["train"] * train + ["held_out"] * SUBJECTS)
    lines, total = [], 0.0
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
        total += seconds
        metrics = len({row.metric for row in found.results})
        lines.append(f"| {kind} | {metrics} | {len(found.results)} | {seconds:.1f} |")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    text = f"""# Speed of evaluation

`OMP_NUM_THREADS={threads} python benchmarks/evaluation/evaluation_speed.py`, {os.cpu_count()} cores,
{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}.

{SUBJECTS:,} subjects, {DRAWS:,} bootstrap draws of every metric, also of those that are fitted
anew in each (ICI, Kaplan-Meier risks by a horizon; reports draw 200 there), half of them for
the second model's figures (bands of calibration curves: 200 at most); fixed predictions of two
models, every metric of each, their paired differences, calibration and decision curves with
bands.

| task | metrics | rows | seconds |
|---|---|---|---|
{chr(10).join(lines)}
| all | | | {total:.1f} |
"""
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
