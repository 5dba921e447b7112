"""What the fits of a logistic probe cost beside a plain loop of scikit-learn, same penalties.

``OMP_NUM_THREADS=1 python -m benchmarks.evaluation.fit_speed``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.study import Row, Study, interval, number, table
from medmcl.evaluation.models.logistic import LogisticPath
from medmcl.evaluation.models.one_thread import one_blas_thread
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


def beside(size: tuple[int, int, int], count: int) -> Row:
    """The wall time of paths one after another, and in two threads, ms."""
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
    return {
        "rows": size[0],
        "columns": size[1],
        "classes": size[2],
        "paths": count,
        "loop": 1e3 * least[0],
        "threads": 1e3 * least[1],
        "ratio": float(np.median(ratios)),
        "low": min(ratios),
        "high": max(ratios),
    }


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    size = {
        "rows x columns": lambda row: f"{row['rows']:,} x {row['columns']:,}",
        "classes": "classes",
    }
    fits = {
        "ours": number("ours", ".1f"),
        "scikit-learn": number("theirs", ".1f"),
        "ratio": number("ratio", ".1f"),
        "above": number("above", ".0e"),
    }
    beside = {
        "paths": "paths",
        "loop": number("loop", ".0f"),
        "two threads": number("threads", ".0f"),
        "ratio": interval("ratio", 2),
    }
    return {
        "fits": table({**size, **fits}, rows["fits"]),
        "beside": table({**size, **beside}, rows["beside"]),
    }


@one_blas_thread()
def run(_: argparse.Namespace) -> dict[str, list[Row]]:
    """Time both at every size."""
    fits = []
    for size in SIZES:
        x, y = made(*size)
        (ours, low), (theirs, other) = least_ms(path, x, y), least_ms(plain, x, y)
        worst = max((b - a) / a for a, b in zip(low, other, strict=True))
        row = {
            "rows": size[0],
            "columns": size[1],
            "classes": size[2],
            "ours": ours,
            "theirs": theirs,
        }
        fits.append({**row, "ratio": theirs / ours, "above": worst})
        print(fits[-1], flush=True)
    return {"fits": fits, "beside": [beside(size, count) for size, count in BESIDE.items()]}


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
