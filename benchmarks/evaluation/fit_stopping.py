"""Where a logistic fit of ten classes may stop: time against held-out predictions.

``OMP_NUM_THREADS=1 python -m benchmarks.evaluation.fit_stopping``.
The one case in which a warm loop of L-BFGS is quicker than ours: many classes, well separated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from benchmarks.study import Row, Study, number, table
from medmcl.evaluation.models import logistic
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.scaling import Rotation, Scaler
from medmcl.evaluation.models.strength import STRENGTHS

WIDTHS, WRONG = (64, 128, 256), (0.0, 0.3)
EXACT = 1e-10
REPEATS = 3
Path_ = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Data:
    """Embeddings (N, E) of digits and their classes; fitted rows and held-out ones."""

    x: np.ndarray
    y: np.ndarray
    more: np.ndarray
    held: np.ndarray

    @classmethod
    def of(cls, width: int, wrong: float) -> Data:
        """Digits through two random layers, a share of the labels drawn anew."""
        given = load_digits()
        rng = np.random.default_rng(0)
        inputs = given.data / 16 - (given.data / 16).mean(axis=0)
        hidden = np.maximum(0, inputs @ rng.normal(size=(64, width)) / 4)
        x = np.maximum(0, hidden @ rng.normal(size=(width, width)) / np.sqrt(width))
        y = np.where(rng.random(len(x)) < wrong, rng.integers(0, 10, len(x)), given.target)
        order = rng.permutation(len(x))
        train, held = order[: len(x) * 2 // 3], order[len(x) * 2 // 3 :]
        scaler = Scaler.of(x[train])
        return cls(scaler(x[train]), y[train], scaler(x[held]), y[held])

    def said(self, fits: Path_) -> tuple[list[np.ndarray], np.ndarray]:
        """Log probabilities of held-out rows, and their mean loss, of each fit."""
        logs = [log_softmax(self.more @ w + b, axis=1) for w, b in fits]
        rows = np.arange(len(self.held))
        return logs, np.array([-one[rows, self.held].mean() for one in logs])


def ours(data: Data, close: float) -> Path_:
    """Fit along the penalties, stopping where so much of the loss, a row, is still to fall."""
    logistic.CLOSE["close"] = close
    path = logistic.LogisticPath(Rotation.of(data.x), data.y)
    fits = [path.fit(strength) for strength in STRENGTHS["binary"]]
    return [(fit.weights, fit.offset) for fit in fits]


def warm(data: Data, tolerance: float) -> Path_:
    """scikit-learn's L-BFGS, each fit begun at the last one."""
    model = LogisticRegression(warm_start=True, max_iter=10_000, tol=tolerance)
    found = []
    for strength in STRENGTHS["binary"]:
        model.C = 1 / strength
        model.fit(data.x, data.y)
        found.append((model.coef_.T.copy(), model.intercept_.copy()))
    return found


def measured(data: Data, fit: Callable[[], Path_], exact: Path_) -> Row:
    """Time of a fit, ms, and how far held-out predictions lie from exact ones."""
    best, fits = np.inf, exact
    for _ in range(REPEATS):
        began = time.process_time()
        fits = fit()
        best = min(best, time.process_time() - began)
    (logs, losses), (known, least) = data.said(fits), data.said(exact)
    far = max(np.abs(np.exp(a) - np.exp(b)).max() for a, b in zip(logs, known, strict=True))
    chosen = int(least.argmin())
    return {
        "ms": 1e3 * best,
        "probability": float(far),
        "loss": float(np.abs(losses - least).max()),
        "chosen": float(losses[chosen] - least[chosen]),
        "same": "yes" if losses.argmin() == chosen else "no",
    }


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "numbers": "width",
        "labels drawn anew": lambda row: f"{row['wrong']:.0f} %",
        "fit": "fit",
        "ms": number("ms", ".0f"),
        "probability": number("probability", ".0e"),
        "loss": number("loss", ".0e"),
        "loss at the choice": number("chosen", "+.0e"),
        "same choice": "same",
    }
    return {"fits": table(columns, rows)}


@one_blas_thread()
def run(_: argparse.Namespace) -> list[Row]:
    """Time each stopping rule on each data set."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    usual, rows = logistic.CLOSE["close"], []
    for wrong in WRONG:
        for width in WIDTHS:
            data = Data.of(width, wrong)
            exact = ours(data, EXACT)
            fits: dict[str, Callable[[], Path_]] = {}
            for close in (usual, 1e-5, 1e-4, 1e-3):
                name = f"ours, {close:.0e}{' (as it is)' if close == usual else ''}"
                fits[name] = lambda c=close, d=data: ours(d, c)
            for tolerance in (1e-4, 1e-6):
                fits[f"warm L-BFGS, tol {tolerance:.0e}"] = lambda t=tolerance, d=data: warm(d, t)
            for name, fit in fits.items():
                about = {"width": width, "wrong": 100 * wrong, "fit": name}
                rows.append({**about, **measured(data, fit, exact)})
                print(rows[-1], flush=True)
    logistic.CLOSE["close"] = usual
    return rows


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
