"""Mistakes that many ECGs of a cohort share, too small to be sure of in one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg_checks import chest_odds, used_leads
from medmcl.modalities.ecg_chest import namings
from medmcl.modalities.ecg_levels import Look
from medmcl.modalities.ecg_readers import ECGRecord

FEWEST = 5
"""Fewer ECGs say nothing about a cohort."""
WEIGHT_OF_ONE = 6.0
"""A record counts at most so much, in log-odds."""
ENOUGH = 12.0
"""Log-odds of all records together that are an error."""
SAME = 0.8
"""Share of ECGs that last as long as the median; then another length is odd."""
FACTORS = np.array([2.0, 2.5, 4.0, 5.0, 8.0, 10.0])
"""Usual rates are such multiples of one another (3 and 6 are lengths: 30 and 60 s)."""


def inspect_together(raws: Iterable[ECGRecord], wanted: Sequence[str]) -> list[Finding]:
    """Look for chest leads named alike wrongly in most files, and for lengths of another rate.

    Args:
        raws: ECGs as read; each is looked at once.
        wanted: Leads that will be used.

    Returns:
        Findings about the cohort. In PTB-XL (folds 9 and 10; 200 draws of 5, 10, 20 or more
        records, all with the same two chest leads exchanged) V5/V6 was found in 96, 100, 100 % of
        draws and every other exchange in 100 %; true names were never doubted.
    """
    odds, seconds, places = [], [], []
    for raw in raws:
        found = chest_odds(Look(raw), used_leads(raw, wanted))
        if found is not None:
            odds.append(found)
        seconds.append(raw.seconds)
        places.append(raw.where)
    return [*_names(odds), *_lengths(np.array(seconds), places)]


def _names(odds: list[np.ndarray]) -> Iterator[Finding]:
    """Add the log-odds of each naming over records; most of them must prefer it."""
    if len(odds) < FEWEST:
        return
    every = np.stack(odds).clip(-WEIGHT_OF_ONE, WEIGHT_OF_ONE)
    total = every.sum(axis=0)
    best = int(total.argmax())
    if total[best] <= ENOUGH or np.median(every[:, best]) <= 0:
        return
    better = int((every[:, best] > 0).sum())
    yield Finding(
        code="ecg.swapped_leads",
        where="all ECGs",
        what=f"{namings()[1][best]}: {better} of {len(odds)} ECGs look more usual with these names",
        mend="correct leads: in cohort.yaml (a list, or {NAME IN THE FILE: V1}), or the export",
        scope="cohort",
    )


def _lengths(seconds: np.ndarray, places: list[str]) -> Iterator[Finding]:
    """Note ECGs that are a usual ratio of rates longer or shorter than nearly all others."""
    if len(seconds) < FEWEST:
        return
    ratio = np.maximum(seconds, 1e-9) / max(float(np.median(seconds)), 1e-9)
    if (np.abs(ratio - 1) < 0.01).mean() < SAME:
        return
    ratio = np.maximum(ratio, 1 / ratio)
    odd = np.flatnonzero((np.abs(ratio[:, None] / FACTORS - 1) < 0.01).any(axis=1))
    if len(odd):
        first = odd[0]
        yield Finding(
            code="ecg.wrong_rate",
            where=places[first],
            what=(
                f"{len(odd)} of {len(seconds)} ECGs last {seconds[first]:.3g} s or so, "
                f"the others {np.median(seconds):.3g} s: is their rate wrong?"
            ),
            mend="compare the rate in their headers with that of the others",
            level="warning",
            scope="cohort",
        )
