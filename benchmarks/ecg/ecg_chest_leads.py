"""Fit the weights that tell mixed-up chest leads, and say how often they are right.

    python -m benchmarks.ecg.ecg_chest_leads path/to/ptbxl \
        > medmcl/modalities/ecg/checks/chest.yaml

Reads the 100 Hz files of PTB-XL (Wagner et al. 2020, CC BY 4.0) and simulated hearts, each also
once disturbed (filtered, noise added). Folds 1 to 8 are fitted; folds 9 and 10, and all records by
five-fold cross-fitting, are judged. Rates go to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.signal import butter, sosfiltfilt

from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.checks.chest import EXCHANGES, measure, namings, pairs
from medmcl.modalities.ecg.checks.shapes import LEADS, measure_shapes
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import BLOCK, draw_block

if TYPE_CHECKING:
    import torch

RIDGE = 1e-3
LEVELS = (5, 10)
HEARTS = 2400
"""Simulated hearts; half of them are fitted."""


def read(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give I, II, V1 to V6 of every record, (N, 8, 1000), and its fold."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(rate_hz=100))
    signals = []
    for name in table["filename_lr"]:
        record = ecg.read(RecordRef(subject=name, record=name, paths={"path": root / name}))
        signals.append(record.signal_mv[[record.leads.index(lead) for lead in LEADS]])
    return np.stack(signals).astype(float), table["strat_fold"].to_numpy()


def hearts(count: int) -> np.ndarray:
    """Give simulated hearts at 100 Hz, (N, 8, 1000)."""
    settings = HeartSettings(subjects=BLOCK)
    parts: list[np.ndarray] = []
    for number in range(-(-count // BLOCK)):
        signals = draw_block(settings, number).ecg_signal(settings, np.arange(BLOCK), 100, 10)
        parts += list(signals)
    return np.stack(parts)[:count, [TWELVE.index(lead) for lead in LEADS]].astype(float)


def disturb(signals: np.ndarray, seed: int) -> np.ndarray:
    """Filter as other devices do, and add noise."""
    generator = np.random.default_rng(seed)
    high = butter(2, 0.5, "high", fs=100, output="sos")
    low = butter(2, 25, "low", fs=100, output="sos")
    signals = signals.copy()
    for number, signal in enumerate(signals):
        for sos in (high, low):
            if generator.random() < 0.5:
                signals[number] = sosfiltfilt(sos, signals[number])
        signals[number] += generator.normal(size=signal.shape) * generator.choice([0, 0.01, 0.03])
    return signals


def design(signals: np.ndarray) -> torch.Tensor:
    """Give what each naming changes in measures and pairs, (N, K, 312)."""
    import torch

    orders, _ = namings()
    first, second = pairs()
    rows = []
    for signal in signals - np.median(signals, axis=-1, keepdims=True):
        shapes = measure_shapes(signal, 100)
        if shapes is None:
            raise ValueError("a record with too little signal")
        lead, pair = (np.concatenate([part, part**2]) for part in measure(shapes))
        leads = lead[:, orders].transpose(1, 0, 2)[:, :, 2:].reshape(len(orders), -1)
        alike = pair[:, orders[:, :, None], orders[:, None, :]][:, :, first, second]
        rows.append(np.concatenate([leads, alike.transpose(1, 0, 2).reshape(len(orders), -1)], 1))
    rows = np.stack(rows)
    return torch.tensor(rows - rows[:, :1])


def fit(x: torch.Tensor) -> torch.Tensor:
    """Fit a ridge conditional logit in which the first naming is right, (312,)."""
    import torch

    scale = x.reshape(-1, x.shape[-1]).std(0)
    x = x / scale
    weight = torch.zeros(x.shape[-1], dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=80, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.logsumexp(x @ weight, 1).mean() + RIDGE * weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach() / scale


def tell(name: str, score: np.ndarray) -> None:
    """Write false alarms and detections to stderr."""
    swaps = score[:, 1 : EXCHANGES + 1]
    _, words = namings()
    for level in LEVELS:
        found = {word: f"{(-score[:, k] > level).mean():.2f}" for k, word in enumerate(words) if k}
        mean = (-swaps > level).mean()
        false = (swaps.max(axis=1) > level).mean()
        line = f"{name} (N={len(score)}) log-odds > {level}: false {false:.2%}, found {mean:.1%}"
        sys.stderr.write(f"{line}; highest {np.sort(swaps.max(axis=1))[-3:].round(1)}\n  {found}\n")


def table(name: str, about: str, rows: np.ndarray) -> str:
    """Write numbers as YAML."""
    lines = []
    for row in rows:
        line = ""
        for number in row:
            word = f"{number:.3g}"
            if len(line) + len(word) > 98:
                lines.append(line)
                line = ""
            line += f"{' ' if line else ''}{word}"
        lines.append(line)
    body = "\n".join(lines)
    return f"# {about}\n{name}: >-\n{indent(body, '  ')}\n"


def main() -> None:
    """Fit, judge and write."""
    import torch

    signals, folds = read(Path(sys.argv[1]))
    clean, noisy = design(signals), design(disturb(signals, 0))
    made = hearts(HEARTS)
    toy, toy_noisy = design(made), design(disturb(made, 1))
    half = len(toy) // 2
    extra = [toy[:half], toy_noisy[:half]]
    crossed = np.zeros(clean.shape[:2])
    for part in range(5):
        out = torch.tensor((folds - 1) // 2 == part)
        crossed[out] = (clean[out] @ fit(torch.cat([clean[~out], noisy[~out], *extra]))).numpy()
    tell("cross-fitted", crossed)
    seen = torch.tensor(folds <= 8)
    weight = fit(torch.cat([clean[seen], noisy[seen], *extra]))
    for fold in (9, 10):
        chosen = torch.tensor(folds == fold)
        tell(f"fold {fold}", (clean[chosen] @ weight).numpy())
        tell(f"fold {fold}, disturbed", (noisy[chosen] @ weight).numpy())
    tell("hearts", (toy[half:] @ weight).numpy())
    parts = weight[:96].numpy().reshape(16, 6), weight[96:].numpy().reshape(8, 27)
    sys.stdout.write(
        "# Weights of `chest`; written by `python -m benchmarks.ecg.ecg_chest_leads path/to/ptbxl`.\n"
    )
    about = "Eight measures and their squares, of V1 to V6: (16, 6)."
    sys.stdout.write(table("lead", about, parts[0]))
    about = "Correlations, partial correlations and their squares, of 27 pairs: (8, 27)."
    sys.stdout.write(table("pair", about, parts[1]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
