"""Damage real ECG files in every way that ``medmcl check`` looks for, and count what it finds.

    python -m benchmarks.ecg.ecg_damage path/to/ptbxl

Records of folds 9 and 10 of PTB-XL (no weight was fitted on them; one a patient), written anew as
WFDB files, are damaged on disk and go through the real readers and the real check. Six minutes of
CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.study import Cell, Row, Study, number, table
from medmcl.core.contracts import RecordRef
from medmcl.core.findings import Finding
from medmcl.data.check.check import check_cohort
from medmcl.data.loading.reading import read_record
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.leads import TWELVE

COHORT = """
schema: medmcl/cohort@1
subjects: {table: people.csv, id: id, split: {random: {seed: 0}}}
modalities:
  ecg: {reader: wfdb, path: "{id}"}
"""
SIZE, DAMAGED, CHECKS = 100, 5, 6
"""A cohort has so many records, of which so many are damaged; so many cohorts are checked."""
ALIKE, DRAWS = 20, 10
"""A cohort whose records are all damaged alike has so many; so many are checked."""
AMONG = (1, 100, 2500, 20000)

Damage = Callable[[Path, np.ndarray], None]


def write(
    path: Path,
    rows: np.ndarray,
    *,
    rate_hz: float = 100,
    names: tuple[str, ...] = TWELVE,
    gain: str = "1000/mV",
) -> None:
    """Write rows in mV, (12, S), in steps of 1 uV; NaN as WFDB does."""
    steps = np.where(np.isfinite(rows), np.round(rows * 1000), -32768).astype("<i2")
    lines = [f"{path.name} {len(rows)} {rate_hz:g} {rows.shape[1]}"]
    for name, row in zip(names, steps, strict=True):
        total = int(row.astype(int).sum()) % 65536
        lines.append(f"{path.name}.dat 16 {gain} 16 0 {row[0]} {total} 0 {name}")
    Path(f"{path}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path(f"{path}.dat").write_bytes(steps.T.tobytes())


def rate(factor: float) -> Damage:
    """Give the damage of a header that states a rate this many times too high."""
    return lambda path, rows: write(path, rows, rate_hz=100 * factor)


def gain(said: str) -> Damage:
    """Give the damage of a header with another gain or unit."""
    return lambda path, rows: write(path, rows, gain=said)


def names(one: str, other: str) -> Damage:
    """Give the damage of two names exchanged."""
    turned = {one: other, other: one}
    return lambda path, rows: write(path, rows, names=tuple(turned.get(n, n) for n in TWELVE))


def electrodes(one: list[float], two: list[float]) -> Damage:
    """Give the damage of other electrodes: what I and II are, in true I and II."""

    def damage(path: Path, rows: np.ndarray) -> None:
        i, ii = np.array([one, two]) @ rows[:2]
        limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
        write(path, np.concatenate([limb, rows[6:]]))

    return damage


def nan(path: Path, rows: np.ndarray) -> None:
    """Mark ten samples of V2 as invalid."""
    rows = rows.copy()
    rows[7, 300:310] = np.nan
    write(path, rows)


def constant(path: Path, rows: np.ndarray) -> None:
    """Let nothing move."""
    write(path, np.full_like(rows, 0.1))


def truncated(path: Path, rows: np.ndarray) -> None:
    """End the signal file after 60 %."""
    write(path, rows)
    data = Path(f"{path}.dat").read_bytes()
    Path(f"{path}.dat").write_bytes(data[: len(data) * 6 // 10])


def missing(path: Path, _rows: np.ndarray) -> None:
    """Leave no file."""
    Path(f"{path}.dat").unlink(missing_ok=True)
    Path(f"{path}.hea").unlink(missing_ok=True)


def zero_bytes(path: Path, rows: np.ndarray) -> None:
    """Leave an empty signal file."""
    write(path, rows)
    Path(f"{path}.dat").write_bytes(b"")


DAMAGES: dict[str, Damage] = {
    "uV values, header says mV": gain("1/mV"),
    "mV values, header says uV": gain("1000/uV"),
    "rate 5 times too high": rate(5),
    "rate twice too high": rate(2),
    "rate 1.25 times too high (500 said for 400)": rate(1.25),
    "rate 0.8 of the true one (400 said for 500)": rate(0.8),
    "rate half the true one": rate(0.5),
    "rate a fifth of the true one": rate(0.2),
    "I and II exchanged": names("I", "II"),
    "II and III exchanged": names("II", "III"),
    "aVR and aVL exchanged": names("aVR", "aVL"),
    "II and V4 exchanged": names("II", "V4"),
    "V1 and V2 exchanged": names("V1", "V2"),
    "V2 and V3 exchanged": names("V2", "V3"),
    "V1 and V6 exchanged": names("V1", "V6"),
    "electrodes of both arms exchanged": electrodes([-1, 0], [-1, 1]),
    "electrodes of right arm and leg exchanged": electrodes([1, -1], [0, -1]),
    "electrodes of left arm and leg exchanged": electrodes([0, 1], [1, 0]),
    "NaN": nan,
    "constant signal": constant,
    "truncated signal file": truncated,
    "empty signal file": zero_bytes,
    "missing files": missing,
}


def read(root: Path) -> np.ndarray:
    """Give records of folds 9 and 10, one a patient, (N, 12, 1000), in mV."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    table = table[table["strat_fold"] >= 9].drop_duplicates("patient_id")
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings(rate_hz=100))
    raws = [
        ecg.read(RecordRef(subject=name, record=name, paths={"path": root / name}))
        for name in table["filename_lr"]
    ]
    return np.stack([raw.signal_mv for raw in raws]).astype(float)


def cohort(folder: Path, signals: np.ndarray, damage: Damage, damaged: int) -> list[str]:
    """Write a cohort whose first records are damaged, and give the ids of all."""
    ids = [f"r{number:04d}" for number in range(len(signals))]
    for place, (name, rows) in enumerate(zip(ids, signals, strict=True)):
        (damage if place < damaged else write)(folder / name, rows)
    (folder / "people.csv").write_text("id\n" + "\n".join(ids) + "\n", encoding="utf-8")
    (folder / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    return ids


def levels(findings: list[Finding], name: str) -> set[str]:
    """Give the levels of what is said about one record."""
    about = [f for f in findings if f.scope == "record" and name in f.where]
    return {finding.level for finding in about}


def few(signals: np.ndarray, damage: Damage, generator: np.random.Generator) -> list[float]:
    """Damage a few records of cohorts.

    Returns:
        Share of the damaged with an error, and with any finding; of the sound with an error, and
        with any; share of cohorts with an error about the cohort.
    """
    sums = np.zeros(5)
    for _ in range(CHECKS):
        chosen = signals[generator.choice(len(signals), SIZE, replace=False)]
        with TemporaryDirectory() as folder:
            ids = cohort(Path(folder), chosen, damage, DAMAGED)
            found = list(check_cohort(Path(folder)))
        said = [levels(found, name) for name in ids]
        for place, part in ((0, said[:DAMAGED]), (2, said[DAMAGED:])):
            sums[place] += np.mean(["error" in one for one in part])
            sums[place + 1] += np.mean([bool(one) for one in part])
        sums[4] += any(whole(finding) for finding in found)
    return list(sums / CHECKS)


def among(signals: np.ndarray, damage: Damage) -> list[float]:
    """Share of damaged records that are errors by themselves, in cohorts of `AMONG` records."""
    ecg = ECG(ECGSource(reader="wfdb"), ECGSettings())
    shares = []
    with TemporaryDirectory() as folder:
        places = []
        for place, rows in enumerate(signals):
            path = Path(folder) / f"r{place:04d}"
            damage(path, rows)
            places.append(RecordRef(subject=path.name, record=path.name, paths={"path": path}))
        for count in AMONG:
            ecg.among = count
            found = [read_record(ecg, place)[1] for place in places]
            sure = [
                {f.code for f in one if f.level == "error"} - {"ecg.too_short"} for one in found
            ]
            shares.append(float(np.mean([bool(codes) for codes in sure])))
    return shares


def alike(
    signals: np.ndarray, damage: Damage, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Damage all records of cohorts.

    Returns:
        Share of cohorts with an error about the cohort; share of records with an error, and with
        an error or a warning.
    """
    sums = np.zeros(3)
    for _ in range(DRAWS):
        chosen = signals[generator.choice(len(signals), ALIKE, replace=False)]
        with TemporaryDirectory() as folder:
            ids = cohort(Path(folder), chosen, damage, ALIKE)
            found = list(check_cohort(Path(folder)))
        said = [levels(found, name) for name in ids]
        sums += [
            any(whole(finding) for finding in found),
            np.mean(["error" in one for one in said]),
            np.mean([bool(one) for one in said]),
        ]
    together, errors, any_level = sums / DRAWS
    return together, errors, any_level


def whole(finding: Finding) -> bool:
    """Whether a finding is an error about the files of a cohort."""
    wrong = finding.code.startswith("ecg.") or finding.code == "cohort.no_files"
    return finding.level == "error" and finding.scope == "cohort" and wrong


def parts(rows: list[Row]) -> dict[str, str]:
    def shares(key: str, digits: int = 0) -> Cell:
        return lambda row: " / ".join(f"{share:.{digits}%}" for share in row[key])

    few, names_of = f"{DAMAGED} of {SIZE}", ", ".join(f"{count:,}" for count in AMONG)
    columns = {
        "damage": "damage",
        f"{few}: records": shares("damaged"),
        f"{few}: cohort": number("cohort", ".0%"),
        "sound": shares("sound", 1),
        f"error among {names_of}": shares("among"),
        "all alike: cohort": number("alike_cohort", ".0%"),
        "all alike: records": shares("alike"),
    }
    return {"damages": table(columns, rows)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ptbxl", type=Path)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Damage and check."""
    signals, rows = read(given.ptbxl), []
    generator = np.random.default_rng(0)
    for name, damage in {"none": write, **DAMAGES}.items():
        shares = few(signals, damage, generator)
        errors = among(signals[:SIZE], damage)
        together, *said = alike(signals, damage, generator)
        row = {"damage": name, "damaged": shares[:2], "cohort": shares[4], "sound": shares[2:4]}
        rows.append({**row, "among": errors, "alike_cohort": together, "alike": said})
        print(rows[-1], flush=True)
        yield rows


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
