"""What the fits of a logistic probe cost beside a plain loop of scikit-learn, same penalties.

``OMP_NUM_THREADS=1 python benchmarks/evaluation/fit_speed.py`` writes ``fit_speed.md`` beside itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

from medmcl.core.one_thread import one_blas_thread
from medmcl.evaluation.models.logistic import LogisticPath
from medmcl.evaluation.models.scaling import Rotation
from medmcl.evaluation.models.strength import STRENGTHS

SIZES = [
    (80, 128, 2), (113, 16, 2), (300, 128, 2), (800, 128, 2), (2000, 128, 2), (2000, 256, 2),
    (400, 1024, 2), (1000, 1024, 2), (80, 128, 4), (1000, 64, 5), (2100, 64, 8), (2000, 128, 10),
]  # fmt: skip
REPEATS = 3
BESIDE = {(80, 128, 2): 40, (800, 128, 2): 8, (1000, 64, 5): 8, (2000, 128, 10): 8}
"""Sizes of which so many paths are fitted in two threads."""
ROUNDS = 7


def made(rows: int, columns: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features whose directions differ in size as those of embeddings, and classes."""
    rng = np.random.default_rng(0)
    sizes = np.arange(1, columns + 1) ** -1.0
    x = (rng.normal(size=(rows, columns)) * sizes) @ rng.normal(size=(columns, columns))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    scores = x @ rng.normal(size=(columns, classes)) / np.sqrt(columns)
    return x, (2 * scores + rng.gumbel(size=scores.shape)).argmax(axis=1)


def path(x: np.ndarray, y: np.ndarray) -> list[float]:
    """Fit along the penalties as the probe does; the losses."""
    fits = LogisticPath(Rotation.of(x), y)
    done = [fits.fit(strength) for strength in STRENGTHS["binary"]]
    pairs = zip(done, STRENGTHS["binary"], strict=True)
    return [loss(x, y, fit.weights, fit.offset, strength) for fit, strength in pairs]


def plain(x: np.ndarray, y: np.ndarray) -> list[float]:
    """One scikit-learn fit after another, with steps enough to end; the losses."""
    found = []
    for strength in STRENGTHS["binary"]:
        model = LogisticRegression(C=1 / strength, max_iter=1000).fit(x, y)
        found.append(loss(x, y, model.coef_.T, model.intercept_, strength))
    return found


def loss(x: np.ndarray, y: np.ndarray, weights: np.ndarray, offset: np.ndarray, c: float) -> float:
    """The penalised loss that both minimise."""
    scores = x @ weights + offset
    scores = np.hstack([0 * scores, scores]) if scores.shape[1] == 1 else scores
    top = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    own = scores[np.arange(len(y)), y]
    return float((total - own).sum() + 0.5 * c * np.square(weights).sum())


def least_ms(work: Callable[..., list[float]], *inputs: np.ndarray) -> tuple[float, list[float]]:
    """CPU milliseconds of the quickest of a few, and what it gave."""
    best, found = np.inf, []
    for _ in range(REPEATS):
        began = time.process_time()
        found = work(*inputs)
        best = min(best, time.process_time() - began)
    return 1e3 * best, found


def beside(size: tuple[int, int, int], count: int) -> str:
    """Line of a table: the wall time of paths one after another over that in two threads."""
    jobs = [made(*size)] * count
    ratios, least = [], [np.inf, np.inf]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ROUNDS):
            walls = []
            for run in (map, pool.map):
                began = time.perf_counter()
                list(run(lambda job: path(*job), jobs))
                walls.append(time.perf_counter() - began)
            ratios.append(walls[0] / walls[1])
            least = [min(pair) for pair in zip(least, walls, strict=True)]
    return (
        f"| {size[0]:,} x {size[1]:,} | {size[2]} | {count} | {1e3 * least[0]:.0f} | "
        f"{1e3 * least[1]:.0f} | {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


@one_blas_thread()
def main() -> None:
    """Time both at every size."""
    lines = []
    for size in SIZES:
        x, y = made(*size)
        (ours, low), (theirs, other) = least_ms(path, x, y), least_ms(plain, x, y)
        worst = max((b - a) / a for a, b in zip(low, other, strict=True))
        lines.append(
            f"| {size[0]:,} x {size[1]:,} | {size[2]} | {ours:.1f} | {theirs:.1f} | "
            f"{theirs / ours:.1f} | {worst:.0e} |"
        )
        print(lines[-1], flush=True)
    threads = [beside(size, count) for size, count in BESIDE.items()]
    print(*threads, sep="\n", flush=True)
    text = f"""# Fits of a logistic probe

`OMP_NUM_THREADS=1 python benchmarks/evaluation/fit_speed.py`: CPU milliseconds of {len(STRENGTHS["binary"])}
penalties from 10⁵ to 10⁻¹, one thread, the quickest of {REPEATS} in one run. Beside it a plain loop
of `LogisticRegression(C=..., max_iter=1000)` of scikit-learn {sklearn.__version__}, tolerances as
they come; "above" is how far its penalised loss lies above ours at the worst penalty.

| rows x columns | classes | ours | scikit-learn | ratio | above |
|---|---|---|---|---|---|
{chr(10).join(lines)}

## Side by side over cores

Independent paths in two threads, one BLAS thread, beside one after another: wall milliseconds, the
least of {ROUNDS} rounds in turn, and the median of the ratio loop / threads (its range).
{os.cpu_count()} cores under a load of {os.getloadavg()[0]:.0f}: other work was running, so that a
calm machine may show more (no gain had been seen there either). The fits are many small calls
between which Python holds its lock. Below a gain of 1.3 in the median, fits stay one after another:
the aim of fits side by side is withdrawn.

| rows x columns | classes | paths | loop | two threads | ratio |
|---|---|---|---|---|---|
{chr(10).join(threads)}
"""
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
