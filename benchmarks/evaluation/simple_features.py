"""What simple features of each modality are worth, and what they cost.

    python -m benchmarks.evaluation.simple_features --data-root FOLDER

``FOLDER`` holds ``ptbxl/`` and ``acdc/``. PTB-XL: macro AUROC of the five superclasses on fold 10
by the linear probe on ECG features and on TF-IDF of the reports, penalty chosen on fold 9. ACDC:
rank correlation of the ejection fraction, accuracy of the five groups by 8-fold cross-validation.
Simulated hearts: rate, QRS and ejection fraction against the truth; covariates beside an embedding
(256 main directions of the log spectrum) against each alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.study import Cell, Row, Study, table
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import Prepared, prepare
from medmcl.data.loading.simple_features import simple_table
from medmcl.evaluation.metrics.predictions import auroc, c_index, r2
from medmcl.evaluation.models.baselines import combined, probe_terms
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.probe import linear_probe
from medmcl.modalities.ecg.features import ecg_features
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.simulation.heart.ecg import LEADS, qrs_duration
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import draw_block

ARMS = {
    "covariates": "covariates",
    "embedding": "embedding",
    "joint, no blocks": "joint",
    "joint, blocks": "blocks",
}


def options(parser: argparse.ArgumentParser) -> None:
    root = os.environ.get("MEDMCL_DATA")
    parser.add_argument("--data-root", type=Path, default=root, required=not root)


def parts(found: dict[str, list[Row]]) -> dict[str, str]:
    def both(key: str) -> Cell:
        return lambda row: f"{row[f'{key}_tuning']:.3f} / {row[key]:.3f}"

    named = {"seed, task": lambda row: f"{row['seed']}, {row['task']}"}
    arms = {name: both(key) for name, key in ARMS.items()}
    features = table({"what": "what", "value": lambda row: str(row["value"])}, found["features"])
    return {"features": features, "together": table({**named, **arms}, found["together"])}


def run(given: argparse.Namespace) -> dict[str, list[Row]]:
    root = Path(given.data_root)
    with tempfile.TemporaryDirectory() as cache:
        told = [*_ptbxl(root, Path(cache)), *_acdc(root, Path(cache)), *_intervals()]
    features = [{"what": what, "value": value} for what, value in told]
    return {"features": features, "together": _together()}


def _ptbxl(root: Path, cache: Path) -> list[tuple[str, str]]:
    cohort = open_cohort("ptbxl", {"data_root": str(root / "ptbxl")})
    inputs = {"ecg": {"rate_hz": 100, "seconds": 10, "crop_seconds": 10}, "report": {}}
    prepared = prepare(cohort, inputs, cache=cache, splits="all")
    found = []
    fits: dict[str, Callable[..., Fitted]] = {"ecg": linear_probe, "report": probe_terms}
    for name, fit in fits.items():
        began = time.process_time()
        table = simple_table(prepared, name, cache=cache)
        if table is None:
            continue
        features, names = table.matrix()
        seconds = time.process_time() - began
        count = int(table.present.sum())
        found.append((f"PTB-XL, {name}: CPU seconds, {count} records", f"{seconds:.0f}"))
        found.append((f"PTB-XL, {name}: features", str(len(names))))
        score = _macro(prepared, name, features, fit)
        found.append((f"PTB-XL, {name}: macro AUROC, fold 10", f"{score:.3f}"))
    return found


def _macro(
    prepared: Prepared, name: str, features: np.ndarray, fit: Callable[..., Fitted]
) -> float:
    targets = prepared.tasks("superclass")
    train, tuning, held = (
        prepared.rows(split, needs=(name,)) for split in ("train", "tuning", "held_out")
    )
    found = fit(features, targets, train, tuning).predict(features[held])
    scores = [_value(auroc(y, p)) for y, p in zip(targets.values[held].T, found.T, strict=True)]
    return float(np.mean(scores))


def _value(estimate: object) -> float:
    return float(estimate)  # type: ignore[arg-type]  # not estimable has no value: it would raise


def _acdc(root: Path, cache: Path) -> list[tuple[str, str]]:
    from scipy.stats import spearmanr
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    cohort = open_cohort("acdc", {"data_root": str(root / "acdc")})
    inputs = {"cmr": {"frames": ["es", "ed"], "size": 64}}
    prepared = prepare(cohort, inputs, cache=cache, splits="all")
    began = time.process_time()
    table = simple_table(prepared, "cmr")
    if table is None:
        return []
    seconds = time.process_time() - began
    rows = np.flatnonzero(table.present)
    values = table.values[rows, table.names.index("lv_ejected")]
    truth = prepared.tasks("lvef").values[rows, 0]
    group = prepared.tasks("group").values[rows, 0]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    features, _ = table.matrix(rows)
    accuracy = cross_val_score(model, features[rows], group, cv=8).mean()
    correlation = float(spearmanr(values, truth, nan_policy="omit").statistic)
    return [
        (f"ACDC: CPU seconds, {len(rows)} records", f"{seconds:.1f}"),
        ("ACDC: rank correlation of lv_ejected with the ejection fraction", f"{correlation:.2f}"),
        ("ACDC: accuracy, five groups (chance .20)", f"{accuracy:.2f}"),
    ]


def _intervals() -> list[tuple[str, str]]:
    settings, block = HeartSettings(), draw_block(HeartSettings(), 20)
    signals = block.ecg_signal(settings, np.arange(128), 500, 10.0)
    rows = [
        ecg_features(ECGRecord(signal_mv=one, leads=LEADS, rate_hz=500.0), LEADS, 10.0)
        for one in signals
    ]
    rate, qrs = (np.array([row[name] for row in rows]) for name in ("rate", "qrs_ms"))
    error = np.abs(rate - block.electric.rate)
    truth = qrs_duration(block.electric, block.ecg)
    return [
        ("simulated: rate, median and largest error, 1/min",
         f"{np.median(error):.1f}, {error.max():.1f}"),
        ("simulated: QRS, correlation with the true duration",
         f"{np.corrcoef(qrs, truth)[0, 1]:.3f}"),
    ]  # fmt: skip


def _together() -> list[Row]:
    rows = []
    for seed in range(3):
        clinic, wide, tasks = _hearts(seed)
        count = len(clinic)
        train, tuning, held = np.split(np.arange(count), [int(0.7 * count), int(0.85 * count)])
        for task in tasks:
            row = {"seed": seed, "task": task.name}
            plain = np.hstack([clinic, wide])
            fits = [(linear_probe(x, task, train, tuning), x) for x in (clinic, wide, plain)]
            fits.append(combined([clinic, wide], task, train, tuning))
            for key, (fitted, x) in zip(ARMS.values(), fits, strict=True):
                for name, part in ((f"{key}_tuning", tuning), (key, held)):
                    row[name] = _score(task.take(part), fitted.predict(x[part])[:, 0])
            rows.append(row)
    return rows


def _hearts(seed: int) -> tuple[np.ndarray, np.ndarray, list[Targets]]:
    settings = HeartSettings(seed=seed)
    blocks = [draw_block(settings, number) for number in range(12)]
    ecg = [block.ecg_signal(settings, np.arange(128), 100, 4.0) for block in blocks]
    columns = {n: np.concatenate([b.table[n] for b in blocks]) for n in blocks[0].table}
    power = np.abs(np.fft.rfft(np.concatenate(ecg).astype(float), axis=2))[:, :, :160]
    spectrum = np.log(power + 1e-3).reshape(len(power), -1)
    train = slice(0, int(0.7 * len(spectrum)))
    spectrum -= spectrum[train].mean(axis=0)
    wide = spectrum @ np.linalg.svd(spectrum[train], full_matrices=False)[2][:256].T
    age = np.concatenate([block.state.age for block in blocks])
    bmi = np.concatenate([block.state.bmi for block in blocks])
    clinic = np.column_stack([age, columns["sex"] == "M", bmi]).astype(float)
    tasks = [
        _task("R2 of LVEF", "regression", ("lvef",), columns["lv_ef"]),
        _task("AUROC of infarct", "binary", ("infarct",), columns["infarct"]),
        _task("C-index of heart failure", "survival", ("time", "event"),
              np.column_stack([columns["hf_days"], columns["hf_event"]])),
    ]  # fmt: skip
    return clinic, wide, tasks


def _task(name: str, kind: str, columns: tuple[str, ...], values: np.ndarray) -> Targets:
    table = np.asarray(values, dtype=float).reshape(-1, len(columns))
    return Targets(
        name=name,
        kind=kind,  # type: ignore[arg-type]  # one of the kinds
        columns=columns,
        values=table,
        known=np.ones(table.shape, bool),
    )


def _score(task: Targets, predicted: np.ndarray) -> float:
    if task.kind == "regression":
        return _value(r2(task.values[:, 0], predicted))
    if task.kind == "binary":
        return _value(auroc(task.values[:, 0], predicted))
    return _value(c_index(task.values[:, 1], task.values[:, 0], predicted))


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
