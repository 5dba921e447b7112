"""Statistics of our own beside libraries that have them: equal numbers, and how long they take.

``OMP_NUM_THREADS=1 python -m benchmarks.evaluation.kernel_speed``. Needs
scikit-survival (extra ``[dev]``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks, kaplan_meier_estimator
from sksurv.util import Surv

from benchmarks.study import Row, Study, number, table
from medmcl.evaluation import bootstrap
from medmcl.evaluation.metrics.survival.kaplan_meier import aalen_johansen_at, kaplan_meier_at
from medmcl.evaluation.models.cox_model import cox_model
from medmcl.evaluation.models.one_thread import one_blas_thread

ROWS, DRAWS = 1_000, 200
Job = Callable[[], Any]


def seconds(job: Job, times: int = 3) -> float:
    """Least processor seconds of a few rounds, after a warm-up."""
    job()
    found = []
    for _ in range(times):
        began = time.process_time()
        job()
        found.append(time.process_time() - began)
    return min(found)


def jobs() -> Iterator[tuple[str, str, Job, Job, float]]:
    """What is compared, the library, ours and theirs, and how far the two may lie apart."""
    draw = np.random.default_rng(0)
    y = (draw.random(ROWS) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-(y + draw.normal(size=ROWS))))
    x = draw.normal(size=(ROWS, 20))
    latent = draw.exponential(np.exp(-x[:, 0]))
    censored = draw.exponential(2.0, ROWS)
    event, when = latent < censored, np.minimum(latent, censored).round(2)
    kinds = np.where(event, 1 + (draw.random(ROWS) < 0.3), 0)
    outcome = Surv.from_arrays(event, when)
    grid = np.quantile(when, np.linspace(0.1, 0.9, 9))
    weights = draw.multinomial(ROWS, np.full(ROWS, 1 / ROWS), size=DRAWS).T.astype(float)

    def drawn(metric: Callable[..., float], *arrays: np.ndarray) -> Job:
        return lambda: scipy_bootstrap(
            arrays, metric, paired=True, vectorized=False, n_resamples=DRAWS,
            method="percentile", rng=0,
        ).standard_error  # fmt: skip

    def harrell(event: np.ndarray, when: np.ndarray, risk: np.ndarray) -> float:
        return float(concordance_index_censored(event > 0, when, risk)[0])

    def ours(metric: str, *arrays: np.ndarray) -> Job:
        *outcomes, said = arrays
        return lambda: bootstrap(metric, tuple(outcomes), said, draws=DRAWS).low

    sk = "scipy.stats.bootstrap of scikit-learn's metric"
    yield f"AUROC, {DRAWS} draws", sk, ours("auroc", y, p), drawn(roc_auc_score, y, p), np.inf
    yield (f"AUPRC, {DRAWS} draws", sk, ours("auprc", y, p),
           drawn(average_precision_score, y, p), np.inf)  # fmt: skip
    yield (f"Harrell's C, {DRAWS} draws", "scipy.stats.bootstrap of scikit-survival's",
           ours("c_index", event.astype(float), when, x[:, 0]),
           drawn(harrell, event.astype(float), when, x[:, 0]), np.inf)  # fmt: skip
    yield ("Cox, ridge, Efron ties, 20 columns", "scikit-survival",
           lambda: cox_model(x, event, when, ridge=1.0, ties="efron")[0].weights[:, 0],
           lambda: CoxPHSurvivalAnalysis(alpha=1.0, ties="efron").fit(x, outcome).coef_, 1e-6)  # fmt: skip

    def at(times: np.ndarray, curve: np.ndarray, start: float) -> np.ndarray:
        return np.r_[start, curve][np.searchsorted(times, grid, side="right")]

    rows = [np.repeat(np.arange(ROWS), column.astype(int)) for column in weights.T]
    yield (f"Kaplan-Meier at 9 times, {DRAWS} draws", "scikit-survival, a call a draw",
           lambda: kaplan_meier_at(event, when, weights, grid, extend=True).T,
           lambda: np.stack([at(*kaplan_meier_estimator(event[r], when[r]), 1.0) for r in rows]),
           1e-9)  # fmt: skip

    def incidence(r: np.ndarray) -> np.ndarray:
        times, curves = cumulative_incidence_competing_risks(kinds[r], when[r])
        return at(times, curves[1], 0.0)

    yield (f"Aalen-Johansen at 9 times, {DRAWS} draws", "scikit-survival, a call a draw",
           lambda: aalen_johansen_at(kinds, when, weights, grid)[0].T,
           lambda: np.stack([incidence(r) for r in rows]), 1e-9)  # fmt: skip


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "what": "what",
        "library": "library",
        "ours": number("ours", ".1f"),
        "library's": number("theirs", ".0f"),
        "ratio": lambda row: f"{row['ratio']:.0f}x",
        "apart": number("apart", ".0e"),
    }
    return {"kernels": table(columns, rows)}


def run(_: argparse.Namespace) -> list[Row]:
    rows = []
    with one_blas_thread():
        for what, library, mine, theirs, apart in jobs():
            worst = None
            if np.isfinite(apart):
                worst = float(np.nanmax(np.abs(np.asarray(mine()) - np.asarray(theirs()))))
                assert worst <= apart, (what, worst)
            a, b = 1e3 * seconds(mine), 1e3 * seconds(theirs, times=1)
            times = {"ours": a, "theirs": b, "ratio": b / a, "apart": worst}
            rows.append({"what": what, "library": library, **times})
            print(rows[-1], flush=True)
    return rows


STUDY = Study(__file__, parts=parts, run=run)

if __name__ == "__main__":
    STUDY.main()
