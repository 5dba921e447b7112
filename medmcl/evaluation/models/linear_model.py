"""What a fitted linear probe comes down to: a few arrays that can be kept and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from scipy.special import expit

from medmcl.evaluation.models.scaling import Scaler

Link = Literal["value", "logistic", "softmax", "cox", "discrete_time"]
LINKS: tuple[Link, ...] = get_args(Link)

CELLS = 200_000
"""Products held at once: rows times columns times features."""


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Predictions from ``features @ weights + offset``; standardisation is inside the weights.

    Attributes:
        link: ``value`` (regression), ``logistic`` (a probability a column), ``softmax``
            (probabilities of classes), ``cox`` or ``discrete_time`` (log hazard, with curves).
        weights: (E, C).
        offset: (C,); minus infinity for a class that never occurred.
        times: Survival: where the baseline steps, or ends of the intervals, ascending. (K,)
        curve: Survival: log cumulative baseline hazard from each time on (``cox``), or logit of
            the hazard of each interval (``discrete_time``), of a subject with log hazard 0. (K,)
    """

    link: Link
    weights: np.ndarray
    offset: np.ndarray
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    curve: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def scaled(
        cls, link: Link, scaler: Scaler, weights: np.ndarray, offset: np.ndarray | float
    ) -> LinearModel:
        """Fold a standardisation into weights (E, C) and offset (C,) of standardised features."""
        own = np.asarray(weights, dtype=np.float64) / scaler.scale[:, None]
        return cls(link=link, weights=own, offset=np.atleast_1d(offset - scaler.mean @ own))

    @classmethod
    def constant(cls, link: Link, width: int, values: np.ndarray) -> LinearModel:
        """The same for everyone: ``values`` (C,), probabilities, numbers or log hazards."""
        with np.errstate(divide="ignore"):  # a share of zero is minus infinity before the link
            if link == "logistic":
                values = np.log(values) - np.log1p(-values)
            elif link == "softmax":
                values = np.log(values)
        return cls(link=link, weights=np.zeros((width, len(values))), offset=np.asarray(values))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Linear predictor, (N, C); a survival model's is its log hazard.

        A row's is the same to the last bit whatever rows stand beside it: each is summed along its
        own features. A matrix product is not: how BLAS sums depends on the number of rows.
        """
        x = np.ascontiguousarray(features, dtype=np.float64)
        columns = np.ascontiguousarray(self.weights.T)
        found = np.empty((len(x), len(columns)))
        step = max(1, CELLS // max(1, columns.size))
        for first in range(0, len(x), step):
            block = slice(first, first + step)
            found[block] = (x[block, None] * columns).sum(axis=2)
        return found + self.offset

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, values or log hazard, (N, C)."""
        scores = self.scores(features)
        if self.link == "logistic":
            return np.asarray(expit(scores))
        if self.link != "softmax":
            return scores
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    @property
    def width(self) -> int:
        """Features it takes, E."""
        return len(self.weights)

    @property
    def has_curves(self) -> bool:
        """Whether it gives survival curves."""
        return self.link in ("cox", "discrete_time")

    def survival(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """P(T > times[t]), (N, T)."""
        from medmcl.evaluation.models.cox_model import Baseline
        from medmcl.evaluation.models.discrete_time import Intervals

        if not self.has_curves:
            raise ValueError(f"a model with link '{self.link}' has no survival curves")
        curves = Baseline if self.link == "cox" else Intervals
        return curves(self.times, self.curve).survival(self.scores(features)[:, 0], times)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as `of` takes them."""
        arrays = {"weights": self.weights, "offset": self.offset}
        return arrays | ({"times": self.times, "curve": self.curve} if self.has_curves else {})

    @classmethod
    def of(cls, link: str, arrays: Mapping[str, np.ndarray]) -> LinearModel:
        """Read back what `arrays` gave.

        Raises:
            ValueError: For an unknown link, or arrays that do not fit together.
        """
        if link not in LINKS:
            raise ValueError(f"unknown link '{link}'")
        model = cls(link=link, **{name: np.asarray(a, np.float64) for name, a in arrays.items()})
        shapes = model.weights.ndim == 2 and model.offset.shape == model.weights.shape[1:]
        if not shapes or model.times.shape != model.curve.shape:
            raise ValueError("the arrays of a model do not fit together")
        return model
