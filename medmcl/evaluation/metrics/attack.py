"""How often a backdoor does what its attacker wants."""

from __future__ import annotations

import numpy as np

from medmcl.core.errors import MedmclError


def attack_success(logits: object, labels: object, target: int) -> float:
    """Give the attack success rate: share of triggered records that are told to be the target.

    Records of the target class itself are in neither numerator nor denominator: to call them by
    their name is no success of an attack.

    Args:
        logits: Of triggered records, (N, C), the largest is what is told; of equal ones the first.
        labels: True class of each, (N,) integers.
        target: Class that the attacker wants, 0 to C - 1.

    Returns:
        0 to 1, higher = the attack works.

    Raises:
        MedmclError: Shapes or classes that do not fit, logits that are not finite, or no record of
            another class.

    Source:
        Bansal et al. 2023 (CleanCLIP). Differs: their code leaves the target's own records out of
        the numerator but divides by all, and by zero-shot leaves the target unread.
    """
    given, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if given.ndim != 2 or truth.shape != given.shape[:1] or not len(given):
        raise MedmclError(
            "logits and labels do not fit",
            got=f"logits {given.shape}, labels {truth.shape}",
            expected="(N, C) and (N,), N > 0",
        )
    if not np.isfinite(given).all():
        bad = int((~np.isfinite(given).all(axis=1)).sum())
        raise MedmclError("logits are not finite", got=f"{bad:,} of {len(given):,} rows")
    classes = given.shape[1]
    if not (0 <= int(target) < classes) or not np.isin(truth, np.arange(classes)).all():
        raise MedmclError(
            "a label or the target is no column of the logits",
            got=f"target {target}, labels {np.min(truth)} to {np.max(truth)}",
            expected=f"0 to {classes - 1}",
        )
    others = truth != target
    if not others.any():
        raise MedmclError(
            "every record is of the target class",
            got=f"{len(truth):,} records of class {target}",
            mend="score records of other classes",
        )
    return float((given[others].argmax(axis=1) == target).mean())
