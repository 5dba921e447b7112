"""Numbers that checks have learned: data files beside them, written by benchmarks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from medmcl.core.config import read_yaml


@cache
def learned(check: str) -> dict[str, np.ndarray]:
    """Give the numbers of a check by name, each in one row, (N,)."""
    numbers = read_yaml(Path(__file__).with_name(f"{check}.yaml"))
    return {name: np.array(text.split(), dtype=float) for name, text in numbers.items()}
