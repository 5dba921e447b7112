"""Logistic regression with a ridge penalty: one set of rows, one penalty after another."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.lapack import dposv

from medmcl.evaluation.models.rotation import Rotation

STEPS = 200
HALVINGS = 50
CLOSE = 1e-8
"""Fall of the loss still to come, a row, below which the last step is taken."""


@dataclass(frozen=True)
class Logistic:
    """Weights of features and an intercept.

    Attributes:
        weights: Two classes: log odds of the second, (E, 1); more: (E, K), each row sums to zero.
        offset: (1,) or (K,), which sums to zero.
        converged: Whether Newton's method did.
    """

    weights: np.ndarray
    offset: np.ndarray
    converged: bool = True

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log odds of the second class, or scores of every class, (N, 1) or (N, K)."""
        return np.asarray(x @ self.weights + self.offset)


class LogisticPath:
    """Fits of one set of rows under one penalty after another, each begun where the last ended.

    Minimises ``sum of log losses + strength / 2 * |weights|²``; the intercept is free. That is
    scikit-learn's LogisticRegression with C = 1 / strength: two classes have one column of
    weights, more have one each (multinomial). The minimum lies in the span of the rows, and is
    sought there: as many numbers as there are rows, if these are fewer than the columns. Small
    problems are solved by Newton's method, to rounding; large ones, where its step costs more than
    it saves, by scikit-learn's L-BFGS (``benchmarks/evaluation_speed.md``).

    Args:
        rotation: Standardised features (N, E) on the span of their rows.
        classes: Class of each row, 0 .. K - 1, all of them present, K > 1. (N,)

    Raises:
        ValueError: If features are not finite.
    Source:
        Hastie & Tibshirani 2004, Biostatistics 5:329-340 (rotation); Friedman, Hastie & Tibshirani
        2010, J Stat Softw 33 (warm path). Differs: Newton's method with halved steps.
    """

    def __init__(self, rotation: Rotation, classes: np.ndarray) -> None:
        self.rotation = rotation
        rows, count = rotation.rows, int(classes.max()) + 1
        if not np.isfinite(rows).all():
            raise ValueError("features of a logistic fit must be finite")
        self._library = _lbfgs() if newton_is_dear(len(rows), rows.shape[1], count) else None
        self._classes = classes
        self._x = np.hstack([rows, np.ones((len(rows), 1))])
        self._seen = np.eye(count)[classes]  # (N, K)
        self._contrast = _contrast(count)  # (J, K): scores = x @ solution @ contrast
        self._solution = np.zeros((self._x.shape[1], len(self._contrast)))

    def begin(self, start: Logistic) -> None:
        """Begin at another fit to as many classes, as one to other rows."""
        inside = np.vstack([self.rotation.inside(start.weights), start.offset])
        back = self._contrast.T if inside.shape[1] > 1 else np.ones((1, 1))
        self._solution = inside @ back

    def fit(self, strength: float) -> Logistic:
        """Fit under a penalty."""
        if self._library is not None:
            return self._by_library(self._library, strength)
        penalty = np.full((self._x.shape[1], 1), float(strength))
        penalty[-1] = 0.0
        solution, converged = self._minimise(self._solution, penalty)
        self._solution = solution
        shown = self._shown(solution)
        return Logistic(self.rotation.back(shown[:-1]), shown[-1], converged)

    def _by_library(self, model: Any, strength: float) -> Logistic:
        from sklearn.exceptions import ConvergenceWarning

        if not hasattr(model, "coef_"):
            shown = self._shown(self._solution)
            model.coef_, model.intercept_ = shown[:-1].T.copy(), shown[-1].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged`
            model.set_params(C=1 / strength).fit(self.rotation.rows, self._classes)
        done = bool((model.n_iter_ < model.max_iter).all())
        return Logistic(self.rotation.back(model.coef_.T), model.intercept_.copy(), done)

    def _shown(self, solution: np.ndarray) -> np.ndarray:
        """A column for two classes, K for K of them, (R + 1, 1 or K)."""
        return solution if self._seen.shape[1] == 2 else solution @ self._contrast

    def _minimise(self, solution: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, bool]:
        loss, chance = self._loss(solution, penalty)
        if not np.isfinite(loss):
            solution = np.zeros_like(solution)
            loss, chance = self._loss(solution, penalty)
        for _ in range(STEPS):
            gradient = self._x.T @ ((chance - self._seen) @ self._contrast.T) + penalty * solution
            step = self._step(gradient, chance, penalty)
            decrement = 0.5 * float((gradient * step).sum())
            last = decrement <= CLOSE * len(self._x)
            for halving in range(HALVINGS):
                size = 0.5**halving
                trial = solution - size * step
                found, following = self._loss(trial, penalty)
                if found <= loss - 2e-4 * size * decrement:
                    break
            else:  # nothing falls any more: at the bottom, to rounding, or lost
                return solution, last
            solution, loss, chance = trial, found, following
            if last:
                return solution, True
        return solution, False

    def _loss(self, solution: np.ndarray, penalty: np.ndarray) -> tuple[float, np.ndarray]:
        """Penalised loss, and probabilities (N, K)."""
        scores = (self._x @ solution) @ self._contrast
        scores -= scores.max(axis=1, keepdims=True)
        own = (scores * self._seen).sum()
        np.exp(scores, out=scores)
        total = scores.sum(axis=1, keepdims=True)
        scores /= total
        loss = np.log(total).sum() - own + 0.5 * (penalty * solution**2).sum()
        return float(loss), scores

    def _step(self, gradient: np.ndarray, chance: np.ndarray, penalty: np.ndarray) -> np.ndarray:
        """Newton's step, of the shape of the solution (R + 1, J)."""
        size, contrasts = gradient.shape
        hessian = np.empty((contrasts, size, contrasts, size))
        means = chance @ self._contrast.T
        for j in range(contrasts):
            for k in range(j + 1):
                weight = (
                    chance @ (self._contrast[j] * self._contrast[k]) - means[:, j] * means[:, k]
                )
                if j == k:  # one factor twice: half the work, and symmetric to the last bit
                    half = np.sqrt(np.maximum(weight, 0.0))[:, None] * self._x
                    hessian[j, :, j] = half.T @ half
                else:
                    hessian[j, :, k] = self._x.T @ (weight[:, None] * self._x)
                    hessian[k, :, j] = hessian[j, :, k].T
        table = hessian.reshape(contrasts * size, contrasts * size)
        table[np.diag_indices(len(table))] += np.tile(penalty[:, 0], contrasts)
        flat = gradient.T.reshape(-1)
        _, found, failed = dposv(table, flat, lower=1)
        if failed:  # flat to rounding: the shortest step
            found = np.linalg.lstsq(table, flat, rcond=1e-14)[0]
        return np.asarray(found.reshape(contrasts, size).T)


def _contrast(count: int) -> np.ndarray:
    """Scores of K classes from K - 1 numbers: (0, score) for two, else orthonormal, sum zero."""
    if count == 2:
        return np.array([[0.0, 1.0]])
    helmert = np.tril(np.ones((count - 1, count)))
    where = np.arange(1, count)
    helmert[where - 1, where] = -where
    return np.asarray(helmert / np.sqrt(where * (where + 1.0))[:, None])


def newton_is_dear(rows: int, columns: int, classes: int) -> bool:
    """Whether a step of Newton's method costs more than the passes over the rows that it saves."""
    contrasts = classes - 1
    table = contrasts * (contrasts + 1) / 2 * rows * columns**2
    step = table + (contrasts * columns) ** 3 / 3
    return bool(step > 100 * rows * columns * classes + 2e7)


def _lbfgs() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="lbfgs", warm_start=True, max_iter=1000)
