"""A model of frozen features: whose mean is nearer, that of people with the outcome or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted, Model

SHARES = (0.0, 0.5, 0.9)
"""How far the two means are drawn together: chosen on tuning."""


@dataclass(frozen=True)
class TwoMeans:
    """Means of each column's two groups; keeps `medmcl.evaluation.models.contract.KeptModel`.

    Attributes:
        means: Of people without and with the outcome, (2, E, C).
    """

    means: np.ndarray
    link: str = "two_means"
    has_curves: bool = False

    @property
    def width(self) -> int:
        """Features it takes, E."""
        return self.means.shape[1]

    @property
    def times(self) -> np.ndarray:
        """No curves."""
        return np.zeros(0)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Give probabilities (N, C): the logistic function of how much nearer the second mean is.

        Of features (N, E).
        """
        apart = np.square(np.asarray(features)[:, None, :, None] - self.means).sum(axis=2)
        return np.asarray(1 / (1 + np.exp(np.clip(apart[:, 1] - apart[:, 0], -500, 500))))

    def survival(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Not asked for without curves."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for the run."""
        return {"means": self.means}

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray]) -> TwoMeans:
        """Read back what `arrays` gave."""
        return cls(arrays["means"])


def fit(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Average train people's features with and without each outcome.

    Raises:
        LeakageError: A row given is of `held_out`.
    """
    targets.refuse_leak("the means of two_means", train, refit_on)
    targets.refuse_leak("how far the means of two_means are drawn together", tuning)
    x = np.asarray(features, dtype=np.float64)
    losses = [_loss(_means(x, targets, train, share), x, targets, tuning) for share in SHARES]
    best = SHARES[int(np.argmin(losses))]
    final = train if refit_on is None else refit_on
    return Fitted.of(_means(x, targets, final, best), chosen=(best,))


def _means(x: np.ndarray, targets: Targets, rows: np.ndarray, share: float) -> TwoMeans:
    """Means of the rows (indices), drawn to their middle by a share."""
    has = targets.values[rows] > 0
    sums = [np.einsum("ne,nc->ec", x[rows], (group & targets.known[rows]).astype(float))
            for group in (~has, has)]  # fmt: skip
    counts = [(group & targets.known[rows]).sum(axis=0) for group in (~has, has)]
    means = np.stack([total / np.maximum(n, 1) for total, n in zip(sums, counts, strict=True)])
    return TwoMeans((1 - share) * means + share * means.mean(axis=0))


def _loss(model: TwoMeans, x: np.ndarray, targets: Targets, rows: np.ndarray) -> float:
    wrong = np.square(model.predict(x[rows]) - targets.values[rows]) * targets.known[rows]
    return float(wrong.sum())


TWO_MEANS = Model(fit=fit, kinds=("binary", "multilabel"), load=TwoMeans.load)
