"""Fit the weights that tell exchanged limb electrodes, and say how often they are right.

    python -m benchmarks.ecg.ecg_electrodes path/to/ptbxl \
        > medmcl/modalities/ecg/checks/electrodes.yaml

Data and method as in ``ecg_chest_leads.py``. Folds 1 to 8 are fitted; thresholds were chosen on
folds 7 and 8 with weights of folds 1 to 6; folds 9 and 10 are judged. Rates go to stderr. Half a
minute of CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.ecg.ecg_chest_leads import disturb, fit, hearts, read, table
from medmcl.modalities.ecg.checks.electrodes import ELECTRODES, TRUE, WORDS, measure
from medmcl.modalities.ecg.checks.shapes import measure_shapes

if TYPE_CHECKING:
    import torch

LEVELS = (5, 6, 8, 10)
HEARTS = 2400
"""Simulated hearts; half of them are fitted."""


def design(signals: np.ndarray) -> torch.Tensor:
    """Give what each mistake changes in measures and their squares, (N, 6, 100)."""
    import torch

    rows = []
    for signal in signals - np.median(signals, axis=-1, keepdims=True):
        shapes = measure_shapes(signal, 100)
        if shapes is None:
            raise ValueError("a record with too little signal")
        measured = measure(shapes)
        rows.append(np.concatenate([measured, measured**2], axis=1))
    every = np.stack(rows)
    return torch.tensor(every - every[:, :1])


def judge(name: str, signals: np.ndarray, weight: torch.Tensor) -> None:
    """Write how often each mistake, and none, is called one, to stderr."""
    for number, words in enumerate(WORDS):
        damaged = signals.copy()
        damaged[:, :2] = np.linalg.inv(TRUE[number]) @ signals[:, :2]
        odds = (design(damaged) @ weight).numpy()
        for about, count in (("all six limb leads", ELECTRODES), ("I and II", len(WORDS))):
            most = odds[:, 1:count].max(axis=1)
            over = ", ".join(f"> {level}: {(most > level).mean():.2%}" for level in LEVELS)
            highest = "" if number else f"; highest {np.sort(most)[-3:].round(1)}"
            sys.stderr.write(f"{name}, {words} ({about}; N={len(most)}): {over}{highest}\n")


def main() -> None:
    """Fit, judge and write."""
    import torch

    signals, folds = read(Path(sys.argv[1]))
    made = hearts(HEARTS)
    half = HEARTS // 2
    clean, noisy, toy = design(signals), design(disturb(signals, 0)), design(made[:half])
    for upto, judged in ((6, (7, 8)), (8, (9, 10))):
        seen = torch.tensor(folds <= upto)
        weight = fit(torch.cat([clean[seen], noisy[seen], toy]))
        chosen = np.isin(folds, judged)
        judge(f"folds {judged[0]} and {judged[1]}", signals[chosen], weight)
        judge(f"folds {judged[0]} and {judged[1]}, disturbed", disturb(signals[chosen], 1), weight)
    judge("hearts", made[half:], weight)
    sys.stdout.write(
        "# Weights of `electrodes`; written by `python -m benchmarks.ecg.ecg_electrodes PTBXL`.\n"
    )
    about = "Fifty measures and their squares."
    sys.stdout.write(table("weights", about, weight[None].numpy()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
