"""Score tests of variants in a case-control study, and how far population structure inflates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

MEDIAN_CHI2 = 0.45493642311957283
"""Median of chi-squared with one degree of freedom."""


@dataclass(frozen=True)
class ScoreTests:
    """Score tests of V variants, one degree of freedom each.

    Attributes:
        chi2: Test statistic, NaN where a variant does not vary beside the covariates. (V,)
        p: Two-sided p-value. (V,)
    """

    chi2: np.ndarray
    p: np.ndarray

    @property
    def inflation(self) -> float:
        """Genomic inflation factor: median chi2 over its expected median; 1 = none.

        Source:
            Devlin & Roeder 1999, Biometrics 55:997-1004. Differs: none.
        """
        return float(np.nanmedian(self.chi2) / MEDIAN_CHI2)


def score_tests(
    dosage: np.ndarray, case: np.ndarray, covariates: np.ndarray | None, called: np.ndarray
) -> ScoreTests:
    """Test each variant for association with being a case, given covariates.

    Args:
        dosage: Copies of an allele, in any linear scale. (N, V)
        case: 0 or 1. (N,)
        covariates: (N, K); an intercept is added.
        called: Where False the mean over the others stands in. (N, V) bool

    Source:
        Score statistic U^2 / V (Cox & Hinkley 1974, 9.3) with U = g'(y - mu), W = mu(1 - mu),
        V = g'Wg - g'WX (X'WX)^-1 X'Wg. Differs: absent calls are imputed by the mean, which loses
        power and keeps the size of the test where calls are absent at random.
    """
    whole = np.asarray(dosage, dtype=np.float64)
    mean = np.where(called, whole, 0.0).sum(axis=0) / np.maximum(called.sum(axis=0), 1)
    g = np.where(called, whole, mean)
    g = g - g.mean(axis=0)
    X = np.column_stack([np.ones(len(case)), *([] if covariates is None else [covariates])])
    slope, weight = _logistic(X, case)
    root = np.sqrt(weight)[:, None]
    left, sizes, _ = np.linalg.svd(X * root, full_matrices=False)
    basis = left[:, sizes > 1e-10 * sizes[0]]
    turned = g * root
    total = np.square(turned).sum(axis=0)
    turned -= basis @ (basis.T @ turned)
    variance = np.square(turned).sum(axis=0)
    varies = variance > 1e-10 * np.maximum(total, 1e-300)
    score = turned.T @ (slope / root[:, 0])
    chi2 = np.where(varies, score**2 / np.where(varies, variance, 1.0), np.nan)
    return ScoreTests(chi2, stats.chi2.sf(chi2, 1))


def _logistic(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and curvature of the log likelihood in the log odds, by Newton's method, (N,) each."""
    beta = np.zeros(X.shape[1])
    for _ in range(100):
        mean = 1 / (1 + np.exp(-(X @ beta)))
        weight = mean * (1 - mean)
        step = np.linalg.lstsq(X.T @ (X * weight[:, None]), X.T @ (y - mean), rcond=None)[0]
        beta = beta + step
        if np.abs(X @ step).max() < 1e-10:
            return y - mean, weight
        if np.abs(X @ beta).max() > 30:
            break
    raise ValueError("the covariates tell cases from controls without error: nothing can be tested")
