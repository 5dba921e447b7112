"""Say whose sampling rate is doubted though it is right, by rhythm, and which wrong ones are found.

    python -m benchmarks.ecg.ecg_rate_rhythms path/to/ptbxl

Drawn rhythms and folds 9 and 10 of PTB-XL (Wagner et al. 2020, CC BY 4.0); limits of
`medmcl.modalities.ecg.checks.rate` were chosen on rhythms of another seed and on folds 1 to 8. One minute
on one core.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from benchmarks.ecg.ecg_rhythms import KINDS, draw
from benchmarks.study import Row, Study, number, table
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.rate import check_rate
from medmcl.modalities.ecg.checks.together import inspect_together
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE

SEED, EACH, COHORT = 11, 40, 20
CODES = ("NORM", "AFIB", "AFLT", "SVTAC", "STACH", "SBRAD", "CLBBB", "CRBBB", "PACE", "BIGU", "PVC")
WRONG = (5.0, 2.0, 1.25, 0.8, 0.5, 0.2)
"""Stated rate over true rate."""


def record(signal: np.ndarray, stated: float) -> ECGRecord:
    """Make a record whose header states a rate."""
    return ECGRecord(
        signal_mv=signal.astype(np.float32), leads=TWELVE, rate_hz=stated, header_rate_hz=stated
    )


def levels(records: Iterable[ECGRecord]) -> Row:
    """Share with an error, share with an error or a warning, and how many records."""
    said = [{f.level for f in check_rate(Look(one), None)} for one in records]
    if not said:
        return {"records": 0}
    error, either = np.mean(["error" in one for one in said]), np.mean([bool(one) for one in said])
    return {"error": float(error), "either": float(either), "records": len(said)}


def together(records: list[ECGRecord]) -> str:
    """What is said of the rate of so many records together; - where there are fewer."""
    if len(records) < COHORT:
        return "-"
    found = {f.level for f in inspect_together(records[:COHORT], TWELVE) if "rate" in f.code}
    return ", ".join(found) or "nothing"


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    def shares(row: Row) -> str:
        if not row["records"]:
            return "- (0)"
        return f"{row['error']:.1%} / {row['either']:.1%} ({row['records']})"

    right = {"true rate": "rate", "error / either (records)": shares, "20 together": "together"}
    sets = [key for key in rows["wrong"][0] if key != "factor"]
    wrong = {
        "stated over true": number("factor", "g"),
        **{k: lambda row, k=k: shares(row[k]) for k in sets},
    }
    return {"true": table(right, rows["true"]), "wrong": table(wrong, rows["wrong"])}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ptbxl", type=Path)


def run(given: argparse.Namespace) -> dict[str, list[Row]]:
    """Judge right rates, then wrong ones."""
    people = pd.read_csv(given.ptbxl / "ptbxl_database.csv")
    people = people[people["strat_fold"] >= 9]
    codes = [set(ast.literal_eval(text)) for text in people["scp_codes"]]
    signals = [wfdb.rdrecord(str(given.ptbxl / name)).p_signal.T for name in people["filename_lr"]]
    generator = np.random.default_rng(SEED)
    right = {f"drawn: {kind}": [record(draw(kind, generator).signal, 500.0) for _ in range(EACH)]
             for kind in KINDS}  # fmt: skip
    for code in CODES:
        chosen = [s for s, found in zip(signals, codes, strict=True) if code in found]
        right[f"PTB-XL: {code}"] = [record(signal, 100.0) for signal in chosen]
    norm = [s for s, found in zip(signals, codes, strict=True) if "NORM" in found][::2]
    sinus = [draw("sinus rhythm", generator).signal for _ in range(EACH)]
    wrong = []
    for factor in WRONG:
        rate = 100 * factor
        wrong.append({
            "factor": factor,
            "NORM, 10 s": levels(record(signal, rate) for signal in norm),
            "NORM, 7 s": levels(record(signal[:, :700], rate) for signal in norm),
            "all codes, 10 s": levels(record(signal, rate) for signal in signals[::3]),
            "drawn sinus rhythm": levels(record(signal, 500 * factor) for signal in sinus),
        })  # fmt: skip
        print(wrong[-1], flush=True)
    told = [{"rate": name, **levels(one), "together": together(one)} for name, one in right.items()]
    return {"true": told, "wrong": wrong}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
