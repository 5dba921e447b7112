"""How often a backdoor does what its attacker wants."""

from __future__ import annotations

import numpy as np

from medmcl.core.errors import MedmclError
from medmcl.evaluation.metrics.metric import numbers


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
    try:
        return numbers(_detached(given), name)
    except MedmclError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or no numbers at all
        raise MedmclError(
            f"{name}: must be numbers in rows of one length",
            got=f"{type(given).__name__}: {error}",
            expected="a tensor, an array or lists",
        ) from error


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
