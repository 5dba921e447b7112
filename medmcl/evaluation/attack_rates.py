"""An attack in four numbers with intervals: what it does, and what it leaves as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.core.errors import MedmclError
from medmcl.evaluation.metrics.attack import attack_success
from medmcl.evaluation.metrics.intervals import Interval, bootstrap

RATES = ("clean_accuracy", "attack_success", "false_success", "poisoned_accuracy")


def attack_rates(
    clean: Any,
    triggered: Any,
    labels: Any,
    target: int,
    groups: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Give the rates of an attack, each with its bootstrap interval over subjects.

    Args:
        clean: Logits of records as they are, (N, C).
        triggered: Logits of the same records with the trigger, (N, C).
        labels: True class of each, (N,) integers.
        target: Class that the attacker wants.
        groups: Subject of each record; each its own if not given.
        draws: Bootstrap draws.
        seed: Of the draws.
        level: Coverage aimed at.

    Returns:
        ``clean_accuracy`` (higher = the victim looks sound), ``attack_success`` (higher = the
        attack works; see `attack_success`), ``false_success`` (the same without the trigger: what
        is told to be the target anyway) and ``poisoned_accuracy`` (triggered records that are told
        right all the same, of all classes).

    Raises:
        MedmclError: As `attack_success`; clean and triggered logits of different shapes.
    """
    one, other = np.asarray(clean, dtype=np.float64), np.asarray(triggered, dtype=np.float64)
    truth = np.asarray(labels)
    if one.shape != other.shape:
        raise MedmclError(
            "clean and triggered logits are of the same records",
            got=f"{one.shape} and {other.shape}",
        )
    for logits in (one, other):
        attack_success(logits, truth, target)  # refuses what cannot be counted
    said, lured = one.argmax(axis=1), other.argmax(axis=1)
    who = np.arange(len(truth)) if groups is None else np.asarray(groups)
    others = truth != target

    def rate(hits: np.ndarray, rows: np.ndarray) -> Interval:
        return bootstrap(
            _share, np.ones(int(rows.sum())), hits[rows].astype(float), who[rows],
            draws=draws, seed=seed, level=level,
        )  # fmt: skip

    everyone = np.ones(len(truth), dtype=bool)
    return {
        "clean_accuracy": rate(said == truth, everyone),
        "attack_success": rate(lured == target, others),
        "false_success": rate(said == target, others),
        "poisoned_accuracy": rate(lured == truth, everyone),
    }


def _share(_: np.ndarray, hits: np.ndarray) -> float:
    return float(hits.mean())
