"""Say how many beats are found, and how many that are none, where noise lies on an ECG.

    python -m benchmarks.ecg.ecg_beats path/to/ptbxl path/to/wfdb_samples

Simulated hearts and drawn rhythms, whose beats are known; MIT-BIH 100 with its annotations; PTB-XL
(Wagner et al. 2020, CC BY 4.0), where what is found without noise stands for the truth. Thresholds
were chosen on hearts of seeds 1 and 2, rhythms of seeds 3 and 4, even tenths of a minute of MIT-BIH
100 and folds 7 and 8 of PTB-XL; the page is about others. One minute on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import wfdb
from scipy.signal import butter, sosfilt
from wfdb.processing import xqrs_detect

from benchmarks.ecg.ecg_rhythms import draw
from benchmarks.study import Cell, Row, Study, table
from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import find_beats
from medmcl.simulation.heart.ecg import beat_times
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import BLOCK, draw_block

RATE, SECONDS = 500, 10
TOLERANCE, EDGE = 0.1, 0.15
"""A beat is found if it is told within so many seconds; beats this near to an end do not count."""
HEARTS, EACH, SEED = 96, 16, 11
NOISE_SEEDS = (5, 6, 7)
NARROW = ("sinus rhythm", "sinus tachycardia", "bradycardia", "atrial fibrillation", "flutter 2:1")
WIDE = ("bundle branch block", "paced", "bigeminy", "ventricular tachycardia")
NOISES = (
    ("none", 0.0), ("white", 0.1), ("white", 0.3), ("white", 0.5), ("muscle", 0.2), ("wander", 0.5)
)  # fmt: skip
BEATS = set("NLRBAaJSVrFejnE/fQ?")
"""Annotations of MIT-BIH that stand for a beat."""

Records = list[tuple[np.ndarray, np.ndarray]]
"""Leads, (L, S), and seconds of beats, (K,), of each record."""
Detector = Callable[[np.ndarray], np.ndarray]


def hearts() -> Records:
    """Give simulated hearts, 12 leads."""
    settings = HeartSettings(subjects=BLOCK, seed=SEED)
    block, rows = draw_block(settings, 0), np.arange(HEARTS)
    signals = block.ecg_signal(settings, rows, RATE, SECONDS)
    times = beat_times(block.electric.take(rows), block.ecg.take(rows))[0]
    pairs = zip(signals.astype(float), times, strict=True)
    return [(signal, each[(each >= 0) & (each < SECONDS)]) for signal, each in pairs]


def rhythms(kinds: Sequence[str]) -> Records:
    """Give drawn rhythms, 12 leads."""
    generator = np.random.default_rng(SEED)
    drawn = [draw(kind, generator) for kind in kinds for _ in range(EACH)]
    return [(one.signal, one.beats) for one in drawn]


def annotated(root: Path) -> Records:
    """Give odd tenths of a minute of MIT-BIH 100, 2 leads."""
    record = wfdb.rdrecord(str(root / "100"), sampto=360 * 600)
    marks = wfdb.rdann(str(root / "100"), "atr", sampto=360 * 600)
    times = marks.sample[[symbol in BEATS for symbol in marks.symbol]] / record.fs
    signal = steps.resample(record.p_signal.T, record.fs, RATE)
    parts = []
    for first in range(SECONDS, 600, 2 * SECONDS):
        inside = times[(times >= first) & (times < first + SECONDS)] - first
        parts.append((signal[:, first * RATE : (first + SECONDS) * RATE], inside))
    return parts


def real(root: Path) -> Records:
    """Give every second record of folds 9 and 10 of PTB-XL, with what is found without noise."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    names = table.loc[table["strat_fold"] >= 9, "filename_lr"].iloc[::2]
    signals = [wfdb.rdrecord(str(root / name)).p_signal.T for name in names]
    signals = [steps.resample(signal, 100, RATE) for signal in signals]
    return [(signal, find_beats(level(signal)).peaks / RATE) for signal in signals]


def level(signal: np.ndarray) -> np.ndarray:
    """Take the baseline away, as features of an ECG do."""
    return steps.high_pass(signal - signal.mean(axis=1, keepdims=True), RATE, 0.5)


def disturbed(
    signal: np.ndarray, kind: str, size: float, generator: np.random.Generator
) -> np.ndarray:
    """Add noise of a size in mV: white, bursts of muscle (20 to 150 Hz), a wandering baseline."""
    at = np.arange(signal.shape[1]) / RATE
    noise = generator.normal(size=signal.shape)
    if kind == "muscle":
        noise = sosfilt(butter(2, [20, 150], "band", fs=RATE, output="sos"), noise, axis=1)
        noise /= noise.std(axis=1, keepdims=True)
        noise *= np.interp(at, np.arange(21) / 2, generator.gamma(0.7, 1.4, 21).clip(0, 4))
    if kind == "wander":
        waves = np.sin(2 * np.pi * (generator.uniform(0.05, 0.5, (4, 1)) * at + noise[0, :4, None]))
        noise = noise[:, :4] @ waves
    return signal + size * noise


def count(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Count beats that are found, told though there is none, and missed."""
    inside = (true >= EDGE) & (true < SECONDS - EDGE)
    free, hits, wrong = np.ones(len(true), bool), 0, 0
    for one in found:
        away = np.where(free, np.abs(true - one), np.inf)
        nearest = int(away.argmin()) if len(true) else -1
        if len(true) and away[nearest] <= TOLERANCE:
            free[nearest] = False
            hits += bool(inside[nearest])
        else:
            wrong += EDGE <= one < SECONDS - EDGE
    return np.array([hits, wrong, int((free & inside).sum())])


def score(records: Records, leads: Sequence[int] | None, detector: Detector) -> Row:
    """Give precision and recall for each of `NOISES`."""
    found = {}
    for kind, size in NOISES:
        generator, sums = np.random.default_rng(SEED), np.zeros(3)
        for signal, true in records:
            chosen = signal if leads is None else signal[list(leads)]
            noisy = level(disturbed(chosen, kind, size, generator))
            sums += count(detector(noisy) / RATE, true)
        found[f"{kind} {size:g}"] = rates(sums)
    return found


def ours(rows: np.ndarray) -> np.ndarray:
    """Find beats of all leads together."""
    return find_beats(rows).peaks


def xqrs(rows: np.ndarray) -> np.ndarray:
    """Find beats of the first lead as wfdb does."""
    return np.asarray(xqrs_detect(rows[0], RATE, verbose=False))


def neurokit(rows: np.ndarray) -> np.ndarray:
    """Find beats of the first lead as NeuroKit2 does."""
    import neurokit2

    clean = neurokit2.ecg_clean(rows[0], sampling_rate=RATE)
    return np.asarray(neurokit2.ecg_peaks(clean, sampling_rate=RATE)[1]["ECG_R_Peaks"])


def peers() -> dict[str, Detector]:
    """Give detectors of other libraries that are installed."""
    try:
        import neurokit2  # noqa: F401 - is it there?
    except ImportError:
        return {"wfdb xqrs": xqrs}
    return {"wfdb xqrs": xqrs, "neurokit2": neurokit}


def by_draw() -> list[Row]:
    """Precision and recall of two leads in draws of white noise that chose nothing, and pooled.

    Beside them those without the four hearts with most errors, of that draw or of all.
    """
    rows = []
    records = hearts()
    for name, leads in (("II and V5", [1, 10]), ("I and V2", [0, 7])):
        counts = np.zeros((len(NOISE_SEEDS), len(records), 3))
        for row, seed in zip(counts, NOISE_SEEDS, strict=True):
            generator = np.random.default_rng(seed)
            for place, (signal, true) in enumerate(records):
                noisy = level(disturbed(signal[leads], "white", 0.3, generator))
                row[place] = count(ours(noisy) / RATE, true)
        said = [f"seed {seed}" for seed in NOISE_SEEDS]
        for what, each in zip([*said, "pooled"], [*counts, counts.sum(axis=0)], strict=True):
            best = np.argsort(each[:, 1:].sum(axis=1), kind="stable")[:-4]
            whole, without = (rates(one.sum(axis=0)) for one in (each, each[best]))
            rows.append({"leads": name, "noise": what, "all": whole, "without": without})
            print(rows[-1], flush=True)
    return rows


def rates(counts: np.ndarray) -> list[float]:
    """Give precision and recall."""
    hits, wrong, missed = counts
    return [float(hits / max(hits + wrong, 1)), float(hits / max(hits + missed, 1))]


def parts(rows: dict[str, Any]) -> dict[str, str]:
    def both(key: str) -> Cell:
        return lambda row: " / ".join(f"{one:.3f}" for one in row[key])

    names = [f"{kind} {size:g}" for kind, size in NOISES]
    columns = {"records": "records", **{name: both(name) for name in names}}
    without = "without the 4 worst of the 96 hearts"
    draws = {
        "leads": "leads",
        "noise": "noise",
        "precision / recall": both("all"),
        without: both("without"),
    }
    return {
        "ours": table(columns, rows["ours"]),
        "peers": table(columns, rows["peers"]),
        "draws": table(draws, rows["draws"]),
        "times": f"{rows['times']:.1f}",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ptbxl", type=Path)
    parser.add_argument("wfdb_samples", type=Path)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Disturb and find."""
    sets = {
        "simulated hearts, II and V5": (hearts(), (1, 10)),
        "simulated hearts, I and V2": (hearts(), (0, 7)),
        "simulated hearts, 12 leads": (hearts(), None),
        f"drawn: {', '.join(NARROW)}; I and II": (rhythms(NARROW), (0, 1)),
        f"drawn: {', '.join(WIDE)}; I and II": (rhythms(WIDE), (0, 1)),
        f"drawn: {', '.join(WIDE)}; 12 leads": (rhythms(WIDE), None),
        "MIT-BIH 100, 2 leads": (annotated(given.wfdb_samples), None),
        "PTB-XL as without noise, II and V5": (real(given.ptbxl), (1, 10)),
        "PTB-XL as without noise, 12 leads": (real(given.ptbxl), None),
    }
    own = []
    for name, (records, leads) in sets.items():
        own.append({"records": name, **score(records, leads, ours)})
        print(own[-1], flush=True)
    others = []
    for name in ("simulated hearts, II and V5", "MIT-BIH 100, 2 leads"):
        records, leads = sets[name]
        first = [(signal[list(leads)[:1] if leads else [0]], true) for signal, true in records]
        for peer, detector in {"medmcl": ours, **peers()}.items():
            shown = f"{name.rsplit(',', 1)[0]}, {peer}"
            others.append({"records": shown, **score(first, None, detector)})
    noisy = [disturbed(level(s), "white", 0.3, np.random.default_rng(SEED)) for s, _ in hearts()]
    took = []
    for signals in ([level(signal) for signal, _ in hearts()], noisy):
        start = time.process_time()
        for signal in signals:
            find_beats(signal)
        took.append(time.process_time() - start)
    return {"ours": own, "peers": others, "times": took[1] / took[0], "draws": by_draw()}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
