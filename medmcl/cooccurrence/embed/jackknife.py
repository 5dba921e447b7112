"""Standard errors from counts of groups of patients, without the patients.

Counts add up, so what a statistic would have been without a group is the statistic of the sum of
the others: the delete-a-group jackknife (Efron and Stein 1981; Kott 2001). Groups are random parts
of the patients (shards), or sites; with sites the error includes how sites differ.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medmcl.cooccurrence.count.counts import Counts
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class Jackknifed:
    """A statistic of all groups, and its standard error.

    Attributes:
        value: Statistic of the pooled counts, any shape.
        error: Standard error, same shape.
        groups: How many groups; the error of the error is about a share 1 / sqrt(2 (groups - 1)).
    """

    value: np.ndarray
    error: np.ndarray
    groups: int


def jackknife(groups: Sequence[Counts], statistic: Callable[[Counts], np.ndarray]) -> Jackknifed:
    """Give a statistic of the pooled counts with its delete-a-group standard error.

    Args:
        groups: Counts of disjoint groups of about equal size, two or more; ten and more are better.
        statistic: From counts to numbers. They must not change with the rotation of an embedding:
            cosines do not, coordinates do.

    Raises:
        ArtefactError: For fewer than two groups, or groups that cannot be added.
    """
    if len(groups) < 2:
        raise ArtefactError(
            "a jackknife leaves out one group at a time",
            got=f"{len(groups)} group",
            expected="counts of two groups of patients or more",
        )
    pooled = sum(groups[1:], start=groups[0])
    rests = (pooled + _negative(group) for group in groups)
    found = np.stack([np.asarray(statistic(rest), dtype=np.float64) for rest in rests])
    share = (len(groups) - 1) / len(groups)
    error = np.sqrt(share * ((found - found.mean(axis=0)) ** 2).sum(axis=0))
    return Jackknifed(np.asarray(statistic(pooled), dtype=np.float64), error, len(groups))


def _negative(group: Counts) -> Counts:
    """What added to counts of all patients takes one group's away, exact."""
    return replace(
        group,
        margins={name: one.each(np.negative) for name, one in group.margins.items()},
        blocks={pair: one.each(operator.neg) for pair, one in group.blocks.items()},
        units=None if group.units is None else -group.units,
        patients=None if group.patients is None else -group.patients,
        sites=-group.sites,
    )
