"""Say whose sampling rate is doubted though it is right, by rhythm, and which wrong ones are found.

    python -m benchmarks.ecg.ecg_rate_rhythms path/to/ptbxl > benchmarks/ecg/ecg_rate_rhythms.md

Drawn rhythms and folds 9 and 10 of PTB-XL (Wagner et al. 2020, CC BY 4.0); limits of
`medmcl.modalities.ecg.checks.rate` were chosen on rhythms of another seed and on folds 1 to 8.
One minute
on one core.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from benchmarks.ecg.ecg_rhythms import KINDS, draw
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


def levels(records: Iterable[ECGRecord]) -> str:
    """Share with an error / with an error or a warning, and how many records."""
    said = [{f.level for f in check_rate(Look(one), TWELVE, None, "")} for one in records]
    if not said:
        return "- (0)"
    error, either = np.mean(["error" in one for one in said]), np.mean([bool(one) for one in said])
    return f"{error:.1%} / {either:.1%} ({len(said)})"


def main() -> None:
    """Judge and write tables."""
    root = Path(sys.argv[1])
    table = pd.read_csv(root / "ptbxl_database.csv")
    table = table[table["strat_fold"] >= 9]
    codes = [set(ast.literal_eval(text)) for text in table["scp_codes"]]
    signals = [wfdb.rdrecord(str(root / name)).p_signal.T for name in table["filename_lr"]]
    print("# Sampling rates of ECGs of many rhythms\n")
    print("    python -m benchmarks.ecg.ecg_rate_rhythms path/to/ptbxl\n")
    print("Share of records whose rate is an error / an error or a warning, and their number.\n")
    print("| true rate | error / either (records) | 20 together |\n|---|---|---|")
    generator = np.random.default_rng(SEED)
    for kind in KINDS:
        drawn = [record(draw(kind, generator).signal, 500.0) for _ in range(EACH)]
        together = {f.level for f in inspect_together(drawn[:COHORT], TWELVE) if "rate" in f.code}
        print(f"| drawn: {kind} | {levels(drawn)} | {', '.join(together) or 'nothing'} |")
    for code in CODES:
        chosen = [s for s, found in zip(signals, codes, strict=True) if code in found]
        records = [record(signal, 100.0) for signal in chosen]
        said = "-"
        if len(records) >= COHORT:
            found = {
                f.level for f in inspect_together(records[:COHORT], TWELVE) if "rate" in f.code
            }
            said = ", ".join(found) or "nothing"
        print(f"| PTB-XL: {code} | {levels(records)} | {said} |")
    print("\n| stated over true | NORM, 10 s | NORM, 7 s | all codes, 10 s | drawn sinus rhythm |")
    print("|---|---|---|---|---|")
    norm = [s for s, found in zip(signals, codes, strict=True) if "NORM" in found][::2]
    sinus = [draw("sinus rhythm", generator).signal for _ in range(EACH)]
    for factor in WRONG:
        rate = 100 * factor
        cells = [
            levels(record(signal, rate) for signal in norm),
            levels(record(signal[:, :700], rate) for signal in norm),
            levels(record(signal, rate) for signal in signals[::3]),
            levels(record(signal, 500 * factor) for signal in sinus),
        ]
        print(f"| {factor:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
