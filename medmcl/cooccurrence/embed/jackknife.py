"""Standard errors from counts of groups of patients, without the patients.

Counts add up, so what a statistic would have been without a group is the statistic of the sum of
the others: the delete-a-group jackknife (Efron and Stein 1981; Kott 2001). Groups are random parts
of the patients (shards), or sites; with sites the error includes how sites differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Margin
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
    rests = (_without(pooled, group) for group in groups)
    found = np.stack([np.asarray(statistic(rest), dtype=np.float64) for rest in rests])
    share = (len(groups) - 1) / len(groups)
    error = np.sqrt(share * ((found - found.mean(axis=0)) ** 2).sum(axis=0))
    return Jackknifed(np.asarray(statistic(pooled), dtype=np.float64), error, len(groups))


def _without(pooled: Counts, group: Counts) -> Counts:
    """Counts of all patients but one group's, exact."""
    margins = {
        name: Margin(
            all_.tokens - group.margins[name].tokens, all_.pairs - group.margins[name].pairs
        )
        for name, all_ in pooled.margins.items()
    }
    blocks = {
        pair: Block(sparse.csr_array(block.pairs - group.blocks[pair].pairs))
        for pair, block in pooled.blocks.items()
    }
    return replace(
        pooled,
        margins=margins,
        blocks=blocks,
        units=_rest(pooled.units, group.units),
        patients=_rest(pooled.patients, group.patients),
    )


def _rest(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part
