"""Association of each variant with an outcome, and how much of it is population structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.errors import ConfigError

MEDIAN_CHI2 = 0.45493642311957283
"""Median of chi-squared with one degree of freedom."""
_STEPS, _CONVERGED = 100, 1e-10


@dataclass(frozen=True)
class Association:
    """Score tests of V variants, one degree of freedom each.

    Attributes:
        chi2: Test statistic, NaN where a variant does not vary beside the covariates. (V,)
        p: Two-sided p-value. (V,)
        beta: One-step estimate of the effect of a unit of dosage: log odds ratio, or the unit of
            the outcome. (V,)
    """

    chi2: np.ndarray
    p: np.ndarray
    beta: np.ndarray

    @property
    def inflation(self) -> float:
        """Genomic inflation factor: median chi2 over its expected median; 1 = none.

        Source:
            Devlin & Roeder 1999, Biometrics 55:997-1004. Differs: none.
        """
        return float(np.nanmedian(self.chi2) / MEDIAN_CHI2)


def score_test(
    dosage: np.ndarray,
    outcome: np.ndarray,
    covariates: np.ndarray | None = None,
    called: np.ndarray | None = None,
) -> Association:
    """Test each variant for association with an outcome, given covariates.

    Two values 0 and 1 of the outcome are logistic regression, any others linear regression. The
    model without the variant is fitted once. With components of ancestry as covariates, what
    populations differ by in both frequency and outcome is not association.

    Args:
        dosage: Copies of an allele, in any linear scale. (N, V)
        outcome: (N,), finite.
        covariates: (N, K), finite; an intercept is added.
        called: Where False the mean over the others stands in. (N, V) bool

    Raises:
        ConfigError: Numbers of people that differ, values that are not finite, one class only.
    Source:
        Score statistic U^2 / V (Cox & Hinkley 1974, 9.3) with V = g'Wg - g'WX (X'WX)^-1 X'Wg;
        logistic: U = g'(y - mu), W = mu(1 - mu); linear: U = g'(y - mu) / s^2, W = 1 / s^2.
        Without covariates and missing calls the logistic one is N times the squared correlation
        (Armitage 1955, Biometrics 11:375-386). Differs: absent calls are imputed by the mean,
        which loses power and keeps the size of the test where calls are absent at random.
    """
    g, y, X = _checked(dosage, outcome, covariates, called)
    is_binary = set(np.unique(y)) <= {0.0, 1.0}
    slope, weight = _logistic(X, y) if is_binary else _linear(X, y)
    root = np.sqrt(weight)[:, None]
    left, sizes, _ = np.linalg.svd(X * root, full_matrices=False)
    basis = left[:, sizes > 1e-10 * sizes[0]]
    turned = g * root
    turned -= basis @ (basis.T @ turned)
    variance = np.square(turned).sum(axis=0)
    score = turned.T @ (slope / root[:, 0])
    total = np.square(g * root).sum(axis=0)
    varies = variance > 1e-10 * np.maximum(total, 1e-300)
    safe = np.where(varies, variance, 1.0)
    chi2 = np.where(varies, score**2 / safe, np.nan)
    from scipy.stats import chi2 as distribution

    return Association(chi2, distribution.sf(chi2, 1), np.where(varies, score / safe, np.nan))


def _checked(
    dosage: np.ndarray,
    outcome: np.ndarray,
    covariates: np.ndarray | None,
    called: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g, y = np.asarray(dosage, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if called is not None:
        calls = np.maximum(called.sum(axis=0), 1)
        mean = np.where(called, g, 0.0).sum(axis=0) / calls
        g = np.where(called, g, mean)
    more = np.empty((len(y), 0)) if covariates is None else np.asarray(covariates, np.float64)
    if not len(g) == len(y) == len(more):
        raise ConfigError(
            "dosages, outcome and covariates are of different people",
            got=f"{len(g)}, {len(y)} and {len(more)} rows",
        )
    if not (np.isfinite(g).all() and np.isfinite(y).all() and np.isfinite(more).all()):
        raise ConfigError(
            "values are not finite",
            fix="give called= for absent dosages; leave out people without outcome or covariates",
        )
    if len(np.unique(y)) < 2:
        raise ConfigError("the outcome is the same for everybody", got=float(y[0]))
    return g - g.mean(axis=0), y, np.column_stack([np.ones(len(y)), more])


def _linear(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and curvature of the log likelihood in the fitted values, (N,) each.

    The residual variance is the unbiased one.
    """
    mean = X @ np.linalg.lstsq(X, y, rcond=None)[0]
    free = len(y) - np.linalg.matrix_rank(X)
    variance = float(np.square(y - mean).sum()) / max(1, free)
    weight = np.full(len(y), 1 / max(variance, 1e-300))
    return (y - mean) * weight, weight


def _logistic(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and curvature of the log likelihood in the log odds, by Newton's method, (N,) each."""
    beta = np.zeros(X.shape[1])
    for _ in range(_STEPS):
        mean = 1 / (1 + np.exp(-(X @ beta)))
        weight = mean * (1 - mean)
        step = np.linalg.lstsq(X.T @ (X * weight[:, None]), X.T @ (y - mean), rcond=None)[0]
        beta = beta + step
        if np.abs(X @ step).max() < _CONVERGED:
            return y - mean, weight
        if np.abs(X @ beta).max() > 30:
            break
    raise ConfigError(
        "the covariates tell cases from controls without error, so nothing can be tested",
        fix="leave out the covariate that is the outcome",
    )
