"""Tables of one row a person, of the form of public ones, whose risk is known; a cohort.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

WHAS = ("age", "gender", "hr", "sysbp", "diasbp", "bmi", "cvd", "afb", "sho", "chf", "miord")


def whas(people: int = 700, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Give a table of the form of WHAS500 (an id, covariates, ``lenfol`` in days, ``fstat``), and
    the log hazard of each, (N,)."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame({"id": [f"{number:04d}" for number in range(1, people + 1)]})
    table["age"] = generator.normal(70, 14, people).round()
    for name, mean, spread in (
        ("hr", 87, 23),
        ("sysbp", 144, 32),
        ("diasbp", 78, 21),
        ("bmi", 26.6, 5.4),
    ):
        table[name] = generator.normal(mean, spread, people).round(2)
    for name, share in (
        ("gender", 0.4),
        ("cvd", 0.75),
        ("afb", 0.15),
        ("sho", 0.05),
        ("chf", 0.3),
        ("miord", 0.35),
    ):
        table[name] = (generator.random(people) < share).astype(int)
    risk = 0.06 * (table["age"] - 70) + 0.8 * table["chf"] + 0.012 * (table["hr"] - 87)
    risk = (risk - 0.04 * (table["bmi"] - 26.6)).to_numpy()
    time, event = followed(risk, 900.0, (400.0, 2400.0), generator)
    table["lenfol"], table["fstat"] = np.maximum(1, time.round()).astype(int), event
    return table[["id", *WHAS, "lenfol", "fstat"]], risk


def metabric(people: int = 700, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Give a table of the form of METABRIC (x0 to x8, ``duration`` in months, ``event``; no id),
    and the log hazard of each, (N,)."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(people, 9))
    x[:, 4:8] = x[:, 4:8] > 0
    risk = 0.8 * x[:, 0] - 0.5 * x[:, 8] + 0.7 * x[:, 4]
    table = pd.DataFrame(x.round(5), columns=[f"x{number}" for number in range(9)])
    time, event = followed(risk, 100.0, (20.0, 300.0), generator)
    return table.assign(duration=time.round(3), event=event), risk


def followed(
    risk: np.ndarray, scale: float, ends: tuple[float, float], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw times to an event of hazard exp(risk) / scale, censored evenly between two ends."""
    due = generator.exponential(scale * np.exp(-risk))
    end = generator.uniform(*ends, len(risk))
    return np.minimum(due, end), (due <= end).astype(int)


def write_cohort(folder: Path, table: pd.DataFrame, name: str = "table.csv", **said: Any) -> Path:
    """Write a table, and a cohort.yaml that says what is given beside its schema."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / name, index=False)
    tree: Mapping[str, Any] = {"schema": "medmcl/cohort@1", **said}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder


def write_whas(folder: Path, table: pd.DataFrame, **subjects: Any) -> Path:
    """Write the five lines for a table of `whas`; ``subjects`` adds to that section."""
    return write_cohort(
        folder,
        table,
        subjects={"table": "table.csv", "id": "id", **subjects},
        modalities={"clinic": {"reader": "table", "columns": list(WHAS)}},
        tasks={"death": {"kind": "survival", "time": "lenfol", "event": "fstat", "unit": "days",
                         "horizons_years": [1, 3]}},
        recipe="risk_table_toy",
    )  # fmt: skip
