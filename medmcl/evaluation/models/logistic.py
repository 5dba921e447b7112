"""Logistic regression with a ridge penalty: one set of rows, one penalty after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dposv

from medmcl.evaluation.models.scaling import Rotation

STEPS = 200
HALVINGS = 50
CLOSE = {"whole": 1e-8, "close": 1e-6}
"""Fall of the loss still to come, a row, below which the last step is taken, by kind of step."""
FEW = 5_000_000  # rows times squared numbers: up to here Newton's equations are solved outright
WIDEST = 512  # numbers up to which rows are turned to principal axes; four times, if many rows
INNER = 200  # conjugate directions of a step at most


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
    sought there: as many numbers as there are rows, if these are fewer than the columns.

    Args:
        rotation: Standardised features (N, E) on the span of their rows.
        classes: Class of each row, 0 .. K - 1, all of them present, K > 1. (N,)

    Raises:
        ValueError: If features are not finite.
    Source:
        Hastie & Tibshirani 2004, Biostatistics 5:329-340 (rotation); Friedman, Hastie & Tibshirani
        2010, J Stat Softw 33 (warm path); Nocedal & Wright 2006, §7.1 (Newton steps by conjugate
        gradients). Differs: these are preconditioned by the spectrum of the rows.
    """

    def __init__(self, rotation: Rotation, classes: np.ndarray) -> None:
        count = int(classes.max()) + 1
        if not np.isfinite(rotation.rows).all():
            raise ValueError("features of a logistic fit must be finite")
        size = rotation.rows.shape[1]
        self._is_small = count == 2 and len(classes) * size**2 <= FEW
        widest = 4 * WIDEST if len(classes) >= 2 * size else WIDEST
        if not self._is_small and size <= widest:
            rotation = rotation.on_principal_axes()
        self.rotation = rotation
        self._x = np.hstack([rotation.rows, np.ones((len(classes), 1))])
        self._sizes = np.square(self._x).sum(axis=0)[:, None]  # (R + 1, 1)
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
        penalty = np.full((self._x.shape[1], 1), float(strength))
        penalty[-1] = 0.0
        solution, converged = self._minimise(self._solution, penalty)
        self._solution = solution
        shown = solution if self._seen.shape[1] == 2 else solution @ self._contrast
        return Logistic(self.rotation.back(shown[:-1]), shown[-1], converged)

    def _minimise(self, solution: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, bool]:
        loss, chance = self._loss(solution, penalty)
        if not np.isfinite(loss):
            solution = np.zeros_like(solution)
            loss, chance = self._loss(solution, penalty)
        for _ in range(STEPS):
            gradient = self._x.T @ ((chance - self._seen) @ self._contrast.T) + penalty * solution
            find = self._whole_step if self._is_small else self._close_step
            step = find(gradient, chance, penalty)
            decrement = 0.5 * float((gradient * step).sum())
            last = decrement <= CLOSE["whole" if self._is_small else "close"] * len(self._x)
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

    def _whole_step(
        self, gradient: np.ndarray, chance: np.ndarray, penalty: np.ndarray
    ) -> np.ndarray:
        """Newton's step for two classes, (R + 1, 1)."""
        half = np.sqrt(chance[:, :1] * chance[:, 1:]) * self._x
        hessian = half.T @ half
        hessian[np.diag_indices(len(hessian))] += penalty[:, 0]
        _, step, failed = dposv(hessian, gradient)
        if failed:  # flat to rounding: the shortest step
            step = np.linalg.lstsq(hessian, gradient, rcond=1e-14)[0]
        return np.asarray(step)

    def _close_step(
        self, gradient: np.ndarray, chance: np.ndarray, penalty: np.ndarray
    ) -> np.ndarray:
        """Newton's step, the closer the smaller the gradient, by conjugate gradients, (R + 1, J).

        Near principal axes the Hessian is nearly diagonal, once classes are turned, too.
        """
        means = chance @ self._contrast.T
        spread = (self._contrast * chance.mean(axis=0)) @ self._contrast.T
        spread -= means.T @ means / len(means)
        values, turn = np.linalg.eigh(spread)
        contrast = turn.T @ self._contrast
        damping = 1 / (self._sizes * np.maximum(values, 1e-12) + penalty)
        rest = gradient @ turn
        step, near = np.zeros_like(rest), damping * rest
        way, size = near, float((rest * near).sum())
        enough = size * min(0.01, size / len(means))
        for _ in range(INNER):
            if size <= enough:
                break
            bent = (self._x @ way) @ contrast
            bent -= (chance * bent).sum(axis=1, keepdims=True)
            bent *= chance
            image = self._x.T @ (bent @ contrast.T) + penalty * way
            length = size / float((way * image).sum())
            step += length * way
            rest = rest - length * image
            near = damping * rest
            size, before = float((rest * near).sum()), size
            way = near + size / before * way
        return np.asarray(step @ turn.T)


def _contrast(count: int) -> np.ndarray:
    """Scores of K classes from K - 1 numbers: (0, score) for two, else orthonormal, sum zero."""
    if count == 2:
        return np.array([[0.0, 1.0]])
    helmert = np.tril(np.ones((count - 1, count)))
    where = np.arange(1, count)
    helmert[where - 1, where] = -where
    return np.asarray(helmert / np.sqrt(where * (where + 1.0))[:, None])
