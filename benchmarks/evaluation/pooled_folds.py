"""How near out-of-fold AUROCs come to the truth, pooled in three ways.

``python -m benchmarks.evaluation.pooled_folds``; about two minutes of one idle core. Cohorts of noise and of a
known signal are cross-validated 5 x 5-fold, as small cohorts are. Beside them stands the truth: the
probe of as many people, on 2,000 others.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.study import Cell, Row, Study, table
from medmcl.core.targets import Targets
from medmcl.evaluation import auprc, auroc, knn, linear_probe
from medmcl.evaluation.models.cross_validation import draw_folds, out_of_fold, strata_of

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
WAYS = ("probabilities", "standardised", "by_fold")


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
    plan = iter(draw_folds(rows, strata_of(small), rows, name=small.name))

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


def with_error(key: str) -> Cell:
    """Mean over cohorts (standard error)."""
    error = f"{key}_error"
    return lambda row: f"{row[key]:.3f} ({row[error]:.3f})" if error in row else f"{row[key]}"


def parts(found: dict[str, Any]) -> dict[str, str]:
    about = {name: name for name in ("protocol", "people", "features")}
    ways = {key.replace("_", " "): with_error(key) for key in WAYS}
    signal = {"signal": lambda row: f"slope {row['slope']:g}" if row["slope"] else "none"}
    columns = {**about, "cohorts": "cohorts", **signal, **ways, "truth": with_error("truth")}
    return {
        "auroc": table(columns, found["auroc"]),
        "auprc": table({**about, **ways}, found["auprc"]),
        "random": f"{found['random_auprc']:.3f}",
    }


def run(_: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, list[Row]] = {"auroc": [], "auprc": []}
    for protocol, size, width, slope, count in CASES:
        made = np.array([one(seed, protocol, size, width, slope) for seed in range(count)])
        mean, error = made.mean(axis=0), made.std(axis=0) / count**0.5
        about = {"protocol": protocol, "people": size, "features": width}
        told = {key: float(mean[k]) for k, key in enumerate((*WAYS, "truth"))}
        told |= {f"{key}_error": float(error[k]) for k, key in enumerate((*WAYS, "truth"))}
        if not slope:
            del told["truth_error"]
            both = {key: float(mean[4 + k]) for k, key in enumerate(WAYS)}
            both |= {f"{key}_error": float(error[4 + k]) for k, key in enumerate(WAYS)}
            found["auprc"].append({**about, **both})
        found["auroc"].append({**about, "cohorts": count, "slope": slope, **told})
        print(found["auroc"][-1], flush=True)
    return {"random_auprc": random_precision(60), **found}


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
