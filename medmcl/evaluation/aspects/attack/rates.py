"""An attack in a few numbers with intervals: what it does, and what it leaves as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.core.errors import MedmclError, damage
from medmcl.evaluation.metrics.intervals import PLAIN, Resampling
from medmcl.evaluation.metrics.metric import numbers
from medmcl.evaluation.metrics.sampled import Interval, Sampled
from medmcl.evaluation.metrics.shares import share_interval, share_metric
from medmcl.evaluation.protocol.results import Result


def attack_success(logits: object, labels: object, target: object) -> float:
    """Give the attack success rate: share of triggered records that are told to be the target.

    Records of the target class itself are in neither numerator nor denominator: to call them by
    their name is no success of an attack.

    Args:
        logits: Of triggered records, (N, C), the largest is what is told; of equal ones the first.
            A tensor (any precision and device, with or without gradient), an array or lists.
        labels: True class of each, (N,) whole numbers.
        target: Class that the attacker wants, a whole number from 0 to C - 1.

    Returns:
        0 to 1, higher = the attack works.

    Raises:
        MedmclError: Shapes or classes that do not fit, labels or a target that are no whole
            numbers, logits that are not finite, or no record of another class.

    Source:
        Bansal et al. 2023 (CleanCLIP). Differs: their code leaves the target's own records out of
        the numerator but divides by all, and by zero-shot leaves the target unread.
    """
    given, truth, wanted = attack_numbers(logits, labels, target)
    others = truth != wanted
    return float((given[others].argmax(axis=1) == wanted).mean())


def attack_numbers(
    logits: object, labels: object, target: object
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give what `attack_success` counts as numbers, or refuse.

    Returns:
        Logits (N, C) float64, labels (N,) int64 and the target.

    Raises:
        MedmclError: As `attack_success`.
    """
    given, truth = as_numbers(logits, "logits"), as_numbers(labels, "labels")
    if given.ndim != 2 or truth.shape != given.shape[:1] or not len(given):
        raise MedmclError(
            "logits and labels do not fit",
            got=f"logits {given.shape}, labels {truth.shape}",
            expected="(N, C) and (N,), N > 0",
        )
    if not np.isfinite(given).all():
        bad = int((~np.isfinite(given).all(axis=1)).sum())
        raise MedmclError("logits are not finite", got=f"{bad:,} of {len(given):,} rows")
    classes, wanted = given.shape[1], _whole(target)
    if not (0 <= wanted < classes) or not np.isin(truth, np.arange(classes)).all():
        raise MedmclError(
            "a label or the target is no column of the logits",
            got=f"target {wanted}, labels {np.min(truth):g} to {np.max(truth):g}",
            expected=f"whole numbers, 0 to {classes - 1}",
        )
    if (truth == wanted).all():
        raise MedmclError(
            "every record is of the target class",
            got=f"{len(truth):,} records of class {wanted}",
            fix="score records of other classes",
        )
    return given, truth.astype(np.int64), wanted


def as_numbers(given: object, name: str) -> np.ndarray:
    """Give a tensor of any kind, an array or lists as float64.

    Raises:
        MedmclError: For words, rows of several lengths, and other things that are no numbers.
    """
    what, expected = "must be numbers in rows of one length", "a tensor, an array or lists"
    with damage(name, what, error=MedmclError, expected=expected, fix=None):
        return numbers(_detached(given), name)


def _detached(given: object) -> object:
    """An array of a tensor, whatever its device and precision; lists that hold tensors, too."""
    if isinstance(given, list | tuple):
        return [_detached(one) for one in given]
    if not hasattr(given, "detach"):
        return given
    found = given.detach()
    return (found if found.is_complex() else found.double()).cpu().numpy()


def _whole(target: object) -> int:
    """The target as an integer."""
    number = _detached(target)
    if isinstance(number, np.generic | np.ndarray) and number.ndim == 0:
        number = number.item()
    if isinstance(number, int | float) and not isinstance(number, bool) and number == number // 1:
        return int(number)
    raise MedmclError(
        "the target is no class",
        where="target",
        got=repr(target),
        expected="the number of a column of the logits",
        fix="target=0",
    )


KIND = "attack"
EFFECT = "trigger_effect"
RATES = {
    "clean_accuracy": "higher",
    "attack_success": "lower",
    "false_success": "lower",
    EFFECT: "lower",
    "poisoned_accuracy": "higher",
}
"""Rate to what is better for whom is attacked."""
Hits = dict[str, tuple[np.ndarray, np.ndarray]]


def attack_rates(
    clean: Any,
    triggered: Any,
    labels: Any,
    target: Any,
    resampling: Resampling = PLAIN,
) -> dict[str, Interval]:
    """Give the rates of an attack, each with its bootstrap interval over subjects.

    Args:
        clean: Logits of records as they are, (N, C).
        triggered: Logits of the same records with the trigger, (N, C).
        labels: True class of each, (N,) integers.
        target: Class that the attacker wants.
        resampling: How records are drawn.

    Returns:
        ``clean_accuracy`` (higher = the victim looks sound), ``attack_success`` (higher = the
        attack works; see `attack_success`), ``false_success`` (the same without the trigger: what
        is told to be the target anyway), ``trigger_effect`` (attack success less false success, the
        same records and draws: what the trigger itself does, -1 to 1) and ``poisoned_accuracy``
        (triggered records that are told right all the same, of all classes). Percentiles of the
        bootstrap; Wilson 1927 of a share where all records are alike.

    Raises:
        MedmclError: As `attack_success`; clean and triggered logits of different shapes.
    """
    hits = _hits(clean, triggered, labels, target)
    found = _sampled(resampling.over(labels), hits)
    return {name: _interval(name, one, resampling.level) for name, one in found.items()}


def compare_attacks(
    models: Mapping[str, tuple[Any, Any]],
    labels: Any,
    target: Any,
    *,
    resampling: Resampling = PLAIN,
    task: str = "attack",
    label: str = "target",
    protocol: str = "zero_shot",
    split: str = "held_out",
) -> list[Result]:
    """Score several models as `attack_rates`, and each later one against the first.

    Args:
        models: Name to logits of the same records, clean and triggered, each (N, C).
        labels: As in `attack_rates`.
        target: Class that the attacker wants.
        resampling: How records are drawn.
        task: Name of the attack, for the rows.
        label: Name of the target, for the rows.
        protocol: How the logits were made, for the rows.
        split: Name of the split, for the rows.

    Returns:
        A row for each of `RATES` and model, then paired differences (later minus first, same
        draws), with ``versus`` the first; ``direction`` is that of whom is attacked.

    Raises:
        MedmclError: As `attack_rates`.
    """
    hits = {name: _hits(*both, labels, target) for name, both in models.items()}
    sampler = resampling.over(labels)
    level = sampler.level
    found = {name: _sampled(sampler, one) for name, one in hits.items()}
    about: dict[str, Any] = {
        "task": task, "target": label, "kind": KIND, "protocol": protocol, "split": split,
        "resampling": sampler.kind,
    }  # fmt: skip
    rows = [
        Result.of(_interval(rate, one, level), method=name, metric=rate, direction=RATES[rate],
                  **about)
        for name, rates in found.items()
        for rate, one in rates.items()
    ]  # fmt: skip
    first, *later = found
    for name in later:
        for rate, one in found[name].items():
            gap = one.minus(found[first][rate])
            row = Result.of(share_interval(gap, level, is_share=False), method=name, versus=first,
                            metric=rate, direction=RATES[rate], **about)  # fmt: skip
            rows.append(replace(row, p_value=gap.p_value()))
    return rows


def _hits(clean: Any, triggered: Any, labels: Any, target: Any) -> Hits:
    """Give which records each rate counts, and among which, both (N,) bool."""
    one, other = as_numbers(clean, "clean logits"), as_numbers(triggered, "triggered logits")
    if one.shape != other.shape:
        raise MedmclError(
            "clean and triggered logits are of the same records",
            got=f"{one.shape} and {other.shape}",
        )
    one, truth, wanted = attack_numbers(one, labels, target)
    other, _, _ = attack_numbers(other, labels, target)
    said, lured = one.argmax(axis=1), other.argmax(axis=1)
    everyone, others = np.ones(len(truth), dtype=bool), truth != wanted
    return {
        "clean_accuracy": (said == truth, everyone),
        "attack_success": (lured == wanted, others),
        "false_success": (said == wanted, others),
        "poisoned_accuracy": (lured == truth, everyone),
    }


def _sampled(sampler: Resampling, hits: Hits) -> dict[str, Sampled]:
    """Give points and draws of each rate."""
    found = {
        rate: sampler.sample(
            share_metric(rate, "no records", higher=RATES[rate] == "higher"),
            [],
            [hit.astype(np.float64)],
            rows,
        )
        for rate, (hit, rows) in hits.items()
    }
    found[EFFECT] = found["attack_success"].minus(found["false_success"])
    return {rate: found[rate] for rate in RATES}


def _interval(rate: str, sampled: Sampled, level: float) -> Interval:
    return share_interval(sampled, level, is_share=rate != EFFECT)
