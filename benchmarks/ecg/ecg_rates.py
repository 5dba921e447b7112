"""Fit the weights that tell a wrong sampling rate, and say how often they are right.

    python -m benchmarks.ecg.ecg_rates path/to/ptbxl > medmcl/modalities/ecg/checks/rate.yaml

Reads the 100 Hz files of PTB-XL (Wagner et al. 2020, CC BY 4.0); adds simulated hearts and ECGs
drawn from five waves with random timing. Each record is stated at 12 rates as it is, at 500 Hz and
at 250 Hz with few leads and less time, filtered and disturbed as by other devices. Folds 1 to 8 are
fitted; thresholds were chosen on folds 7 and 8 with weights of folds 1 to 6; folds 9 and 10 are
judged. Rates go to stderr. Five minutes on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.signal import butter, resample_poly, sosfiltfilt

from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.checks import rate
from medmcl.modalities.ecg.checks.rate import RATE_DOUBT, RATE_ERROR, pool, worst
from medmcl.modalities.ecg.leads import LIMB_ROWS
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import BLOCK, draw_block

if TYPE_CHECKING:
    import torch

RIDGE = 1e-4
HEARTS, DRAWN = 600, 400
FACTORS = np.array(rate.FACTORS)
KINDS = ("as it is", "500 Hz, other devices", "250 Hz, 1 to 8 leads, 5 to 10 s")


def read(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Give the leads of every record, (N, 12, 1000), and its fold."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(rate_hz=100))
    places = [
        RecordRef(subject=name, record=name, paths={"path": root / name})
        for name in table["filename_lr"]
    ]
    return np.stack([ecg.read(place).signal_mv for place in places]), table["strat_fold"].to_numpy()


def hearts(count: int) -> np.ndarray:
    """Give simulated hearts at 100 Hz, (N, 12, 1000)."""
    settings = HeartSettings(subjects=BLOCK)
    parts: list[np.ndarray] = []
    for number in range(-(-count // BLOCK)):
        parts += list(draw_block(settings, number).ecg_signal(settings, np.arange(BLOCK), 100, 10))
    return np.stack(parts)[:count]


def drawn(generator: np.random.Generator) -> np.ndarray:
    """Draw an ECG of five Gaussian waves at 100 Hz, (12, 1000), with QT by Bazett."""
    at = np.arange(1000) / 100
    beat = 60 / generator.uniform(45, 120)
    uneven = generator.choice([0, 0.02, 0.05])
    starts = [-generator.uniform(0, beat)]
    while starts[-1] < 10:
        starts.append(starts[-1] + beat * (1 + uneven * generator.normal()))
    wide = generator.uniform(0.8, 1.5)
    end = 0.39 * np.sqrt(beat) * generator.uniform(0.9, 1.15)
    first = -generator.uniform(0.12, 0.2) + 0.05
    p_width, t_width = 0.02 * generator.uniform(0.8, 1.4), 0.045 * generator.uniform(0.8, 1.3)
    waves = [
        (first, p_width, generator.uniform(0, 0.15), 50, 10),
        (-0.03 * wide, 0.009 * wide, -0.15 * generator.random(), 120, 60),
        (0, 0.012 * wide, 1.1, 55, 0),
        (0.03 * wide, 0.011 * wide, -0.5 * generator.random(), 80, 80),
        (end - 0.12, t_width, generator.uniform(0.1, 0.4), 40, 60),
    ]
    angles = np.deg2rad([130, 100, 70, 45, 20, -10])
    chest = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    signal = np.zeros((12, len(at)))
    for centre, width, size, frontal, across in waves:
        times = (at - np.array(starts)[:, None] - 0.3 - centre) / width
        x, y = np.cos(np.deg2rad(frontal)), np.sin(np.deg2rad(frontal))
        ahead = chest @ np.array([np.cos(np.deg2rad(across)), np.sin(np.deg2rad(across))])
        leads = np.concatenate([LIMB_ROWS @ np.array([x, x / 2 + y * np.sqrt(3) / 2]), ahead])
        signal += leads[:, None] * size * np.exp(-(times**2) / 2).sum(axis=0)
    noise = generator.choice([0.001, 0.005, 0.01, 0.02])
    return np.asarray(signal + noise * generator.normal(size=signal.shape))


def disturbed(
    signal: np.ndarray, kind: int, generator: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Give a record as another device would, and its true rate; ``kind`` counts in `KINDS`."""
    if kind == 0:
        return signal.astype(float), 100.0
    true = (500.0, 250.0)[kind - 1]
    signal = resample_poly(signal.astype(float), 5, kind, axis=1)
    if kind == 2:
        signal = signal[generator.choice(12, generator.choice([1, 2, 3, 8]), replace=False)]
        signal = signal[:, : int(generator.uniform(0.5, 1) * signal.shape[1])]
    high = butter(2, generator.choice([0.5, 1.0]), "high", fs=true, output="sos")
    low = butter(4, generator.choice([25.0, 35.0, 40.0]), "low", fs=true, output="sos")
    for sos in (high, low):
        if generator.random() < 0.5:
            signal = sosfiltfilt(sos, signal, axis=1)
    signal = signal + generator.normal(size=signal.shape) * generator.choice([0, 0.003, 0.01, 0.03])
    if generator.random() < 0.3:
        turn = 2 * np.pi * generator.choice([50, 60]) / true
        signal = signal + generator.choice([0.01, 0.05]) * np.sin(turn * np.arange(signal.shape[1]))
    return signal, true


def design(signals: np.ndarray, kind: int) -> np.ndarray:
    """Measure each record at each stated rate, (N, 12, MEASURES); NaN where it is too short."""
    generator = np.random.default_rng(kind + 10)
    rows = np.full((len(signals), len(FACTORS), rate.MEASURES), np.nan)
    for row, signal in zip(rows, signals, strict=True):
        signal, true = disturbed(signal, kind, generator)
        for number, factor in enumerate(FACTORS):
            measured = rate.measure(signal[:, : int(30 * true * factor)], true * factor)
            if measured is not None:
                row[number] = measured
    return rows


def fit(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fit the ridge logit of factors, (2 * MEASURES, 4) and (12,)."""
    import torch

    rows = np.concatenate([part.reshape(-1, rate.MEASURES) for part in parts])
    factor = np.tile(np.arange(len(FACTORS)), len(rows) // len(FACTORS))
    good = np.isfinite(rows).all(axis=1)
    x = torch.tensor(np.concatenate([rows, rows**2], axis=1)[good])
    y = torch.tensor(factor[good])
    middle, scale = x.mean(0), x.std(0) + 1e-6
    z, curves = ((x - middle) / scale).float(), torch.tensor(rate.curves()).float()
    weight = torch.zeros(z.shape[1], len(curves), requires_grad=True)
    bias = torch.zeros(len(FACTORS), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(z @ weight @ curves + bias, y)
        value = value + RIDGE * (weight @ curves).square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    weight = weight.detach().double() / scale[:, None]
    bias = bias.detach().double() - middle @ weight @ curves.double()
    return weight.numpy(), (bias - bias[rate.RIGHT]).numpy()


def odds_of(rows: np.ndarray, fitted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Log-odds of factors by stated factor, (N, 12, 12)."""
    score = np.concatenate([rows, rows**2], axis=-1) @ fitted[0] @ rate.curves() + fitted[1]
    return np.asarray(score - score[..., rate.RIGHT, None])


def tell(name: str, odds: np.ndarray) -> None:
    """Write false alarms and detections of single records, by shape alone and with length."""
    lengths = np.stack([rate.length_odds(10 / factor, 12) for factor in FACTORS])
    for about, given in (("shape", np.zeros_like(lengths)), ("shape, 10 s", lengths)):
        every = odds + given
        for level in (RATE_DOUBT, RATE_ERROR):
            over = np.array([[worst(one)[1] > level for one in row] for row in every])
            found = {
                float(factor): round(float(over[:, number].mean()), 3)
                for number, factor in enumerate(FACTORS)
                if number != rate.RIGHT
            }
            false = over[:, rate.RIGHT].mean()
            line = f"{name} (N={len(odds)}), {about}, > {level}: false {false:.2%}, found {found}"
            sys.stderr.write(line + "\n")


def tell_pooled(name: str, odds: np.ndarray) -> None:
    """Write the same for cohorts, 300 draws each, by shape alone."""
    generator = np.random.default_rng(0)
    for size in (5, 10, 20):
        draws = [generator.choice(len(odds), size, replace=False) for _ in range(300)]
        found = {
            float(factor): np.mean([pool(odds[draw, number])[1] for draw in draws]).round(3)
            for number, factor in enumerate(FACTORS)
        }
        sys.stderr.write(f"{name}, {size} records: {found}\n")


def table(name: str, about: str, rows: np.ndarray) -> str:
    """Write numbers as YAML."""
    lines, line = [], ""
    for number in rows.ravel():
        word = f"{number:.4g}"
        if len(line) + len(word) > 98:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{word}"
    body = "\n".join([*lines, line])
    return f"# {about}\n{name}: >-\n{indent(body, '  ')}\n"


def main() -> None:
    """Fit, judge and write."""
    signals, folds = read(Path(sys.argv[1]))
    generator = np.random.default_rng(3)
    toys = [hearts(HEARTS), np.stack([drawn(generator) for _ in range(DRAWN)])]
    real = [design(signals, kind) for kind in range(len(KINDS))]
    made = [[design(toy, kind) for kind in range(len(KINDS))] for toy in toys]
    extra = [rows[: len(rows) // 2] for kinds in made for rows in kinds]
    inner, middle, last = folds <= 6, (folds == 7) | (folds == 8), folds >= 9
    chosen = fit([*[rows[inner] for rows in real], *extra])
    fitted = fit([*[rows[folds <= 8] for rows in real], *extra])
    for words, which, weights in (("7, 8", middle, chosen), ("9, 10", last, fitted)):
        for kind, rows in zip(KINDS, real, strict=True):
            odds = odds_of(rows[which], weights)
            tell(f"folds {words}, {kind}", odds)
            if not np.isnan(odds).any():
                tell_pooled(f"folds {words}, {kind}", odds)
    for name, kinds in zip(("hearts", "drawn"), made, strict=True):
        tell(name, odds_of(kinds[0][len(kinds[0]) // 2 :], fitted))
    sys.stdout.write(
        "# Weights of `rate`; written by `python -m benchmarks.ecg.ecg_rates path/to/ptbxl`.\n"
    )
    about = "Measures and their squares by four curves: (134, 4)."
    sys.stdout.write(table("weights", about, fitted[0]))
    sys.stdout.write(table("biases", "Of 12 factors.", fitted[1]))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
