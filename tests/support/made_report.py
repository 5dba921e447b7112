"""A report whose numbers are made, with every part filled."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding
from medmcl.evaluation.metrics.calibration_curve import calibration
from medmcl.evaluation.metrics.decision_curve import net_benefit, net_benefit_survival
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.survival.calibration import survival_calibration
from medmcl.evaluation.metrics.survival.d_calibration import d_calibration
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import (
    FittedOn,
    SubgroupRow,
    TaskEvidence,
    risk_groups,
    risk_histogram,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.report.study import Outcome, Predictor, Study
from medmcl.evaluation.report.table_one import Variable, table_one

DRAWS = 10


def binary_evidence(task, method, n=300, prevalence=0.2, seed=0, target=""):
    rng = np.random.default_rng(0)  # the same people for every method
    score = rng.normal(size=n) + np.log(prevalence / (1 - prevalence))
    y = rng.random(n) < 1 / (1 + np.exp(-0.7 * score))
    risk = 1 / (1 + np.exp(-score - _noise(n, seed)))
    return TaskEvidence(
        task=task,
        target=target or task,
        kind="binary",
        method=method,
        protocol="linear_probe",
        calibration=calibration(y, risk, Resampling(draws=DRAWS)),
        decision=net_benefit(
            y, risk, sensible_thresholds(float(y.mean())), Resampling(draws=DRAWS)
        ),
        histogram=risk_histogram(risk),
    )


def _noise(n, seed):
    """What makes one method's predictions differ from another's."""
    return np.random.default_rng(seed).normal(scale=0.5 if seed else 0.0, size=n)


def survival_evidence(task, method, n=300, seed=0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    time = rng.exponential(2000 * np.exp(-0.8 * x))
    censored = rng.uniform(300, 3000, n)
    event, time = time <= censored, np.minimum(time, censored)
    x = x + _noise(n, seed)
    survival = np.exp(-1000 / 2000 * np.exp(0.8 * x))
    return TaskEvidence(
        task=task,
        target=task,
        kind="survival",
        method=method,
        protocol="cox",
        horizon=1000,
        unit="days",
        calibration=survival_calibration(event, time, survival, 1000, Resampling(draws=4)),
        d_calibration=d_calibration(event, time, np.exp(-time / 2000 * np.exp(0.8 * x))),
        decision=net_benefit_survival(event, time, 1 - survival, 1000, sensible_thresholds(0.4),
                                      Resampling(draws=DRAWS)),
        histogram=risk_histogram(1 - survival),
        risk_groups=risk_groups(event, time, x),
        followed=(n, n, int(event.sum())),
    )  # fmt: skip


def subgroup_rows(task, method, metric="auroc", sites=4, seed=0):
    rng = np.random.default_rng(seed)
    groups = [("everyone", "everyone"), ("sex", "female"), ("sex", "male"), ("age", "under 50"),
              ("age", "50-64"), ("age", "65 and over"),
              *(("site", f"site {k}") for k in range(sites)),
              ("modalities", "ecg + cmr")]  # fmt: skip
    rows = [
        SubgroupRow(task=task, target=task, method=method, metric=metric, direction="higher",
                    attribute=a, group=g, value=float(v), low=float(v - 0.06),
                    high=float(v + 0.06), n=100, events=20, subjects=95)
        for (a, g), v in zip(groups, rng.uniform(0.7, 0.85, len(groups)), strict=True)
    ]  # fmt: skip
    hidden = SubgroupRow(
        task=task, target=task, method=method, metric=metric, direction="higher",
        attribute="site", group="Ålesund", suppressed=True, note="few",
    )  # fmt: skip
    return [*rows, hidden]


def one_row(**changes):
    """The AUROC of a method, with changes."""
    about = {
        "task": "mi", "target": "mi", "kind": "binary", "metric": "auroc",
        "direction": "higher", "method": "ours", "protocol": "linear_probe", "n": 50,
        "events": 20, "value": 0.8, "low": 0.7, "high": 0.9,
    }  # fmt: skip
    return Result(**{**about, **changes})


def result_rows(tasks, methods, kind="binary", metrics=("auroc", "auprc", "brier"), seed=0,
                targets=()):  # fmt: skip
    rng = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        for target in targets or (task,):
            for method in methods:
                for metric in metrics:
                    value = float(rng.uniform(0.6, 0.9))
                    rows.append(Result(
                        task=task, target=target, kind=kind, metric=metric, method=method,
                        direction="lower" if metric == "brier" else "higher",
                        protocol="linear_probe", value=value, low=value - 0.05, high=value + 0.05,
                        n=300, events=60, subjects=290,
                    ))  # fmt: skip
            for method in methods[1:]:
                rows.append(Result(
                    task=task, target=target, kind=kind, metric=metrics[0], method=method,
                    direction="higher", protocol="linear_probe", value=-0.03, low=-0.06,
                    high=0.01, n=300, versus=methods[0],
                ))  # fmt: skip
    return rows


def study_of():
    return Study(
        about="a made cohort",
        first_date="2014-05-02",
        last_date="2019-11-30",
        sites=4,
        eligibility=("subjects where age >= 40", "records that fail a check are excluded"),
        split_rule="by subject, at random",
        index="the date of the ecg",
        outcomes=(
            Outcome(name="mi", kind="binary", definition="column mi"),
            Outcome(name="death", kind="survival", definition="death_days, death", unit="days",
                    horizons=(1.0, 5.0)),
        ),
        predictors=(
            Predictor(name="ecg", kind="ecg", source="wfdb, 12 leads", preparation="500 Hz, 10 s"),
            Predictor(name="cmr", kind="cmr", source="nifti, xyzt", preparation="128 px"),
        ),
        gaps=("ecg: the train mean and a flag stand in",),
        towers={"ecg": "vit, 12 layers", "cmr": "resnet50"},
        training=("Stage contrast: 3,000 samples of 2,000 subjects, 900 steps of 64.",),
    )  # fmt: skip


def subjects_table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "age": np.where(rng.random(n) < 0.05, np.nan, rng.normal(61, 9, n)),
        "sex": rng.choice(["female", "male"], n),
        "bmi": rng.lognormal(3.3, 0.15, n),
        "smoking": rng.choice(["never", "former", "current"], n, p=[0.6, 0.385, 0.015]),
    })  # fmt: skip
    split = np.repeat(["train", "tuning", "held_out"], [n // 2, n // 4, n - n // 2 - n // 4])
    variables = [
        Variable(name="age", kind="number", unit="years"), Variable(name="sex", kind="category"),
        Variable(name="bmi", kind="number", unit="kg/m2"),
        Variable(name="smoking", kind="category"),
    ]  # fmt: skip
    return table_one(table, split, variables)


def full_report(methods=("ours", "scratch", "covariates"), n=300):
    return Evaluation(
        title="ecg_cmr on demo",
        subtitle="ECG and cardiac MRI",
        provenance={
            "recipe": "ecg_cmr", "cohort": "demo", "config_hash": "f27fee411ce096a0",
            "cohort_fingerprint": "cb3de9c0a8fff9d5", "versions": {"medmcl": "0.1.0"},
        },
        study=study_of(),
        flow=[("in the table", 450, 500), ("age >= 40", 400, 440), ("with ecg", 400, 440),
              ("train", 200, 220), ("tuning", 100, 110), ("held_out", 100, 110)],
        table_one=subjects_table(),
        missingness=pd.DataFrame({"ecg": [True] * 9 + [False], "cmr": [True] * 4 + [False] * 6}),
        findings=[Finding(code="flat", where="ecg 7", what="is flat", fix="look at it")],
        results=[
            *result_rows(["mi", "af"], methods),
            *result_rows(["death"], methods, "survival", ("c_index",)),
        ],
        evidence=[
            *(binary_evidence("mi", m, n, 0.2, k) for k, m in enumerate(methods)),
            *(binary_evidence("af", m, n, 0.05, k) for k, m in enumerate(methods)),
            *(survival_evidence("death", m, n, k) for k, m in enumerate(methods)),
        ],
        subgroups=[
            *subgroup_rows("mi", methods[0]), *subgroup_rows("death", methods[0], "c_index", seed=1)
        ],
        fitted=[
            FittedOn(what="standardisation of ecg", splits=("train",), subjects=200, rows=220),
            FittedOn(what="probe", splits=("train",), subjects=200, rows=220, task="mi",
                     method="ours", labels=True),
            FittedOn(what="regularisation", splits=("tuning",), subjects=100, task="mi",
                     method="ours", labels=True),
        ],
        notes=["a note"],
    )  # fmt: skip
