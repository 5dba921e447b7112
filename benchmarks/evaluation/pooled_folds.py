"""How near out-of-fold AUROCs come to the truth, pooled in three ways.

``python benchmarks/evaluation/pooled_folds.py``; about two minutes of one idle core. Cohorts of noise and of a
known signal are cross-validated 5 x 5-fold, as small cohorts are. Beside them stands the truth: the
probe of as many people, on 2,000 others. Printed is the page ``pooled_folds.md``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.special import expit

from medmcl.core.targets import Targets
from medmcl.evaluation import auprc, auroc, knn, linear_probe
from medmcl.evaluation.models.cross_validation import cross_validation_rows, out_of_fold

OTHERS = 2000
CASES = (
    # protocol, people, features, slope along one direction, cohorts
    ("linear_probe", 60, 2, 0.0, 160),
    ("linear_probe", 200, 32, 0.0, 40),
    ("linear_probe", 60, 16, 1.5, 40),
    ("linear_probe", 200, 32, 1.0, 40),
    ("knn", 100, 8, 1.0, 40),
)
PROTOCOLS: dict[str, Any] = {"linear_probe": linear_probe, "knn": knn}
PAGE = """# Out-of-fold AUROC, pooled in three ways

Made by `python benchmarks/evaluation/pooled_folds.py`: cohorts with about 30 % positive, 5 x 5-fold by
subject. *Probabilities*: predictions averaged over repeats and pooled. *Standardised*: centred and
scaled in each fold by the rows it was fitted on, then the same; **this is what the tables show**
for AUROC, AUPRC, sensitivity at a specificity and top shares. *By fold*: the mean of the AUROCs of
25 folds (LeDell et al. 2015). *Truth*: the probe of all people of the cohort, on {others:,} others;
of noise it is a half. In brackets the standard error.

| protocol | people | features | cohorts | signal | probabilities | standardised | by fold | truth |
|---|---|---|---|---|---|---|---|---|
{lines}

Pooled probabilities are too low: a fold's prevalence is low where its test rows have many
positives, and a fold is surest of itself where its test rows happen to speak against it. (Centring
without scaling fixes the first half only.) The mean over folds is right for the AUROC of a
probe of 80 % of the people, but needs both classes in every fold, ranks a dozen people at a time
(so that precision comes out too high, next table), and has no test such as DeLong's. Standardised
predictions are one score for each person, and serve all metrics that only rank. They are means of
five probes, one a repeat, of 80 % of the people each: of a signal that helps about as much as the
people left out cost; of noise the averaging leaves a small part of the gap.

AUPRC of noise minus the share of positives; of random ranks it is {random:.3f} at 60 people:

| protocol | people | features | probabilities | standardised | by fold |
|---|---|---|---|---|---|
{precision}
"""


def cohort(seed: int, size: int, width: int, slope: float) -> tuple[np.ndarray, Targets]:
    """People of a cohort, then the others."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + OTHERS, width))
    chance = expit(slope * x[:, 0] + np.log(0.3 / 0.7))
    values = (rng.random((len(x), 1)) < chance[:, None]).astype(float)
    known = np.ones(values.shape, bool)
    return x, Targets(name="y", kind="binary", columns=("y",), values=values, known=known)


def one(seed: int, protocol: str, size: int, width: int, slope: float) -> list[float]:
    """AUROC pooled in three ways and the truth, then AUPRC minus the share in three ways."""
    x, task = cohort(seed, size, width, slope)
    fit, rows, others = PROTOCOLS[protocol], np.arange(size), np.arange(size, len(x))
    small = task.take(rows)
    y = small.values[:, 0]
    folds: list[tuple[float, float]] = []
    plan = iter(cross_validation_rows(small, rows, rows))

    def watched(features: np.ndarray, targets: Targets, *sides: np.ndarray, **more: Any) -> Any:
        fitted = fit(features, targets, *sides, **more)
        test = next(plan)[3]
        guess = fitted.predict(features[test])[:, 0]
        if 0 < y[test].sum() < len(test):
            folds.append((float(auroc(y[test], guess)), float(auprc(y[test], guess))))
        return fitted

    found = out_of_fold(x[:size], small, rows, rows, protocol=watched)
    mixed = np.random.default_rng(seed).permutation(size)
    probe = fit(x, task, mixed[size // 4 :], mixed[: size // 4], refit_on=rows)
    truth = 0.5
    if slope:
        truth = float(auroc(task.values[others, 0], probe.predict(x[others])[:, 0]))
    ways = (found.values[:, 0], found.order[:, 0])
    by_fold = np.mean(folds, axis=0)
    rank = [*(float(auroc(y, way)) for way in ways), by_fold[0], truth]
    return [*rank, *(float(auprc(y, way)) - y.mean() for way in ways), by_fold[1] - y.mean()]


def random_precision(size: int) -> float:
    """AUPRC of random ranks above the share of positives."""
    found = []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        y = (rng.random(size) < 0.3).astype(float)
        if y.any():
            found.append(float(auprc(y, rng.random(size))) - y.mean())
    return float(np.mean(found))


def main() -> None:
    """Print the page."""
    lines, precision = [], []
    for protocol, size, width, slope, count in CASES:
        table = np.array([one(seed, protocol, size, width, slope) for seed in range(count)])
        mean, error = table.mean(axis=0), table.std(axis=0) / count**0.5
        cells = [f"{m:.3f} ({e:.3f})" for m, e in zip(mean[:4], error[:4], strict=True)]
        cells[3] = cells[3] if slope else "0.5"
        about = f"| {protocol} | {size} | {width} |"
        lines.append(
            f"{about} {count} | {f'slope {slope:g}' if slope else 'none'} | {' | '.join(cells)} |"
        )
        if not slope:
            shown = [f"{m:.3f} ({e:.3f})" for m, e in zip(mean[4:], error[4:], strict=True)]
            precision.append(f"{about} {' | '.join(shown)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print(
        PAGE.format(
            others=OTHERS, lines="\n".join(lines), random=random_precision(60),
            precision="\n".join(precision),
        ),
        end="",
    )  # fmt: skip


if __name__ == "__main__":
    main()
