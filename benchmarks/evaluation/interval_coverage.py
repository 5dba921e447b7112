"""How often 95 % intervals hold the true value: simulated samples, truth by integration.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation.interval_coverage

Intervals were chosen on other sizes, outcomes and seeds (`--tuning --out FOLDER`).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from benchmarks.study import Row, Study, number, percent, table
from medmcl.evaluation.metrics.decision_curve import net_benefit_metric
from medmcl.evaluation.metrics.delong_method import AUC, delong
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.metrics.sampled import Interval, Sampled

GRID = np.linspace(-8, 8, 400_001)
DENSITY = norm.pdf(GRID) * (GRID[1] - GRID[0])
DRAWS = 400
ICI_DRAWS = 150
HORIZONS_CENSORING = 0.5  # hazard of censoring; that of the event is exp(x)

Found = dict[str, tuple[float | None, float | None, float]]  # low, high, value


@dataclass(frozen=True)
class Binary:
    """True log odds ``a + b l`` of predictions with log odds ``l = mean + spread x``, x normal."""

    name: str
    a: float
    b: float
    mean: float
    spread: float

    def draw(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Outcomes and probabilities of a sample."""
        logit = self.mean + self.spread * rng.normal(size=size)
        return (rng.random(size) < expit(self.a + self.b * logit)).astype(float), expit(logit)

    def truth(self) -> dict[str, float]:
        """The metrics of the whole population, by integration over x."""
        logit = self.mean + self.spread * GRID
        right, p = expit(self.a + self.b * logit), expit(logit)
        prevalence = float(DENSITY @ right)
        ones, zeros = DENSITY * right / prevalence, DENSITY * (1 - right) / (1 - prevalence)
        below = np.cumsum(zeros) - 0.5 * zeros
        above = (1 - np.cumsum(ones) + 0.5 * ones) * prevalence
        precision = above / (above + (1 - below) * (1 - prevalence))
        treated = DENSITY * (p >= 0.2)
        top = norm.sf(GRID) <= 0.05
        found = {
            "prevalence": prevalence,
            "auroc": float(ones @ below),
            "auprc": float(ones @ precision),
            "brier": float(DENSITY @ (right * (1 - right) + (right - p) ** 2)),
            "calibration_slope": self.b,
            "ici": float(DENSITY @ np.abs(right - p)),
            "net_benefit_at_0.2": float(treated @ (right - 0.25 * (1 - right))),
            "sensitivity_at_specificity": float(ones[below >= 0.9].sum()),
            "tpr_at_top": float(ones[top].sum()),
        }
        found["calibration_intercept"] = _intercept(logit, right)
        return found


def _intercept(logit: np.ndarray, right: np.ndarray) -> float:
    low, high = -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if DENSITY @ expit(middle + logit) < DENSITY @ right else (
            low, middle)  # fmt: skip
    return low


SCENARIOS = {
    "reported": (Binary("prevalence .27, slope .8", -0.3, 0.8, -1.2, 1.4),),
    "tuning": (Binary("prevalence .35, slope 1.3", 0.1, 1.3, -0.7, 1.0),),
}
CALIBRATED = {
    "reported": Binary("perfectly calibrated", 0.0, 1.0, -1.2, 1.4),
    "tuning": Binary("perfectly calibrated", 0.0, 1.0, -0.7, 1.0),
}
SIZES = {"reported": (200, 1000), "tuning": (150, 500)}


def binary(case: Binary, size: int, rng: np.random.Generator, seed: int) -> Iterator[Found]:
    y, p = case.draw(size, rng)
    sampler = Resampling(np.arange(size), draws=DRAWS, seed=seed)
    names = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept",
             "sensitivity_at_specificity", "tpr_at_top")  # fmt: skip
    specs = [*(SPECS[name] for name in names), net_benefit_metric(0.2)]
    found = {}
    for spec in specs:
        found[spec.name] = _ends(sampler.sample(spec, (y,), [p]).interval())
    if size <= 500:
        stratified = Resampling(np.arange(size), draws=DRAWS, seed=seed, strata=y)
        for name in ("auroc", "auprc"):
            found[f"{name}, stratified"] = _ends(stratified.sample(name, (y,), [p]).interval())
    for scale in ("logit", "plain"):
        found[f"auroc, DeLong ({scale})"] = _delong(delong(y, p, scale=scale))  # type: ignore[arg-type] # both are names of scales
    yield found


def ici(case: Binary, size: int, rng: np.random.Generator, seed: int) -> Iterator[Found]:
    y, p = case.draw(size, rng)
    sampler = Resampling(np.arange(size), draws=ICI_DRAWS, seed=seed)
    sampled = sampler.sample("ici", (y,), [p])
    plain = Sampled(points=sampled.points, draws=sampled.draws, n=size, events=None, subjects=size)
    yield {
        "ici, corrected": _ends(sampled.interval()),
        "ici, as published": _ends(plain.interval()),
    }


def others(size: int, rng: np.random.Generator, seed: int) -> Iterator[Found]:
    x = rng.normal(size=size)
    sampler = Resampling(np.arange(size), draws=DRAWS, seed=seed)
    y = x + rng.normal(size=size)
    event_at = rng.exponential(size=size) * np.exp(-x)
    censored_at = rng.exponential(size=size) / HORIZONS_CENSORING
    event, follow_up = event_at <= censored_at, np.minimum(event_at, censored_at)
    outcomes: dict[str, tuple[tuple[np.ndarray, ...], np.ndarray]] = {
        "r2": ((y,), 0.1 + 0.8 * x),
        "pearson": ((y,), x),
        "mae": ((y,), 0.1 + 0.8 * x),
        "c_index": ((event, follow_up), x),
    }
    yield {
        name: _ends(sampler.sample(name, data, [scores]).interval())
        for name, (data, scores) in outcomes.items()
    }


def others_truth() -> dict[str, float]:
    x = GRID[::200]
    density = norm.pdf(x) / norm.pdf(x).sum()
    hazard = np.exp(x)
    first = hazard[:, None] / (hazard[:, None] + hazard[None] + 2 * HORIZONS_CENSORING)
    pair = density[:, None] * density[None] * first
    error = np.hypot(1.0, 0.2)  # residual of N(0.2 x - 0.1, 1), mean -0.1
    mean = error * np.sqrt(2 / np.pi) * np.exp(-0.005 / error**2) + 0.1 * (
        1 - 2 * norm.cdf(-0.1 / error)
    )
    lower, diagonal = np.tril(pair, -1).sum(), 0.5 * np.trace(pair)
    return {
        "r2": 1 - (1 + 0.04 + 0.01) / 2,
        "pearson": float(np.sqrt(0.5)),
        "mae": float(mean),
        "c_index": float((lower + diagonal) / pair.sum()),
    }


def clustered(size: int, rng: np.random.Generator, seed: int) -> Iterator[Found]:
    """Four records a subject; half of the score's variance is the subject's."""
    subjects = size // 4
    codes = np.repeat(np.arange(subjects), 4)
    y = (rng.random(subjects) < 0.4).astype(float)[codes]
    score = y + (rng.normal(size=subjects)[codes] + rng.normal(size=len(codes))) / np.sqrt(2)
    sampler = Resampling(codes, draws=DRAWS, seed=seed)
    yield {
        "auroc, records drawn by subject": _ends(sampler.sample("auroc", (y,), [score]).interval()),
        "auroc, DeLong by subject": _delong(delong(y, score, subjects=codes)),
        "auroc, DeLong blind to subjects": _delong(delong(y, score)),
    }


def _ends(interval: Interval) -> tuple[float | None, float | None, float]:
    return interval.low, interval.high, interval.value if interval.value is not None else np.nan


def _delong(found: Any) -> tuple[float | None, float | None, float]:
    return (found.low, found.high, found.value) if isinstance(found, AUC) else (None, None, np.nan)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Every scenario at every size; one row a metric; told after each."""
    kind = "tuning" if given.tuning else "reported"
    rows: list[dict[str, Any]] = []
    normal = {"auroc": float(norm.cdf(1 / np.sqrt(2)))}
    case, calibrated = SCENARIOS[kind][0], CALIBRATED[kind]
    jobs: list[tuple[str, dict[str, float], Callable[..., Iterator[Found]], tuple[Any, ...]]] = [
        ("regression and survival", others_truth(), others, ()),
        (case.name, case.truth(), binary, (case,)),
        ("4 records a subject", normal, clustered, ()),
        (case.name, case.truth(), ici, (case,)),
        (calibrated.name, calibrated.truth(), ici, (calibrated,)),
    ]
    for place, (name, truth, job, arguments) in enumerate(jobs):
        for size in SIZES[kind]:
            began = time.process_time()
            kept: dict[str, list[tuple[float | None, float | None, float]]] = defaultdict(list)
            for replicate in range(given.replicates):
                seed = [kind == "tuning", size, place, replicate]
                rng = np.random.default_rng(np.random.SeedSequence(seed))
                for found in job(*arguments, size, rng, replicate):
                    for metric, ends in found.items():
                        kept[metric].append(ends)
            spent = time.process_time() - began
            print(f"n={size} {name}: {spent:.0f} s", flush=True)
            rows += [
                _row(size, name, metric, truth[metric.split(",")[0]], ends)
                for metric, ends in kept.items()
            ]
            rows[-1]["cpu_s"] = round(spent, 1)
            yield rows


def _row(
    size: int,
    scenario: str,
    metric: str,
    truth: float,
    ends: list[tuple[float | None, float | None, float]],
) -> dict[str, Any]:
    given = [(low, high) for low, high, _ in ends if low is not None and high is not None]
    slack = 1e-12  # a corrected ICI of exactly zero holds a truth of zero
    hits = [low - slack <= truth <= high + slack for low, high in given]
    coverage = sum(hits) / len(ends)
    return {
        "n": size,
        "scenario": scenario,
        "metric": metric,
        "truth": round(truth, 5),
        "mean": round(float(np.nanmean([value for _, _, value in ends])), 5),
        "coverage": round(coverage, 4),
        "too_low": round(sum(high < truth - slack for _, high in given) / len(ends), 4),
        "too_high": round(sum(low > truth + slack for low, _ in given) / len(ends), 4),
        "width": round(float(np.mean([high - low for low, high in given])), 5),
        "no_interval": len(ends) - len(given),
        "replicates": len(ends),
    }


def parts(rows: list[Row]) -> dict[str, str]:
    covers = percent("coverage", 1)
    columns = {
        "metric": "metric",
        "scenario": "scenario",
        "n": lambda row: str(row["n"]),
        "truth": number("truth", ".3f"),
        "mean": number("mean", ".3f"),
        "coverage": lambda row: covers(row) + ("" if 0.90 <= row["coverage"] <= 0.97 else " *"),
        "too low": percent("too_low", 1),
        "too high": percent("too_high", 1),
        "width": number("width", ".3f"),
    }
    order = sorted(rows, key=lambda r: (r["metric"].split(",")[0], r["metric"], r["n"]))
    return {"coverage": table(columns, order)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--tuning", action="store_true", help="other sizes, outcomes and seeds")


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
