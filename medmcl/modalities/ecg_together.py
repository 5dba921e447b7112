"""Mistakes that many ECGs of a cohort share, too small to be sure of in one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg_checks import chest_odds, used_leads
from medmcl.modalities.ecg_chest import namings
from medmcl.modalities.ecg_levels import Look
from medmcl.modalities.ecg_rate import FACTORS as RATES
from medmcl.modalities.ecg_rate import NEAR, RIGHT, length_odds
from medmcl.modalities.ecg_rate_check import pool, rate_odds
from medmcl.modalities.ecg_readers import ECGRecord

FEWEST = 5
"""Fewer ECGs say nothing about a cohort."""
WEIGHT_OF_ONE = 6.0
"""A record counts at most so much, in log-odds."""
ENOUGH = 12.0
"""Log-odds of all records together that are an error."""
SAME = 0.8
"""Share of ECGs that last as long as the median; then another length is odd."""


def inspect_together(raws: Iterable[ECGRecord], wanted: Sequence[str]) -> list[Finding]:
    """Look for chest leads named alike wrongly in most files, and for lengths of another rate.

    Args:
        raws: ECGs as read; each is looked at once.
        wanted: Leads that will be used.

    Returns:
        Findings about the cohort. How sure they are: ``docs/data_formats.md``.
    """
    odds, shapes, seconds, rates, leads, places = [], [], [], [], [], []
    for raw in raws:
        look, used = Look(raw), used_leads(raw, wanted)
        found = chest_odds(look, used)
        if found is not None:
            odds.append(found)
        shape = rate_odds(look, used)
        shapes.append(np.zeros(len(RATES)) if shape is None else shape)
        seconds.append(raw.seconds)
        rates.append(raw.rate_hz)
        leads.append(len(raw.leads))
        places.append(raw.where)
    found_names = [*_names(odds)]
    wrong = [*_rates(np.array(shapes), rates, seconds, leads)]
    return [*found_names, *(wrong or _lengths(np.array(seconds), np.array(shapes), places))]


def _accept(code: str) -> str:
    """Say how to go on where a judgement about the cohort is wrong."""
    return f"; if all is right, say accept: {{'*': [{code}]}} in cohort.yaml"


def _rates(
    shapes: np.ndarray, rates: list[float], seconds: list[float], leads: list[int]
) -> Iterator[Finding]:
    """Add the log-odds of each factor that rates may be wrong by over records."""
    if len(shapes) < FEWEST:
        return
    lengths = [length_odds(*pair) for pair in zip(seconds, leads, strict=True)]
    best, sure = pool(shapes + np.array(lengths))
    if not sure:
        return
    likely = sorted({rate / RATES[best] for rate in rates})
    doubtful = RATES[best] in NEAR
    yield Finding(
        code="ecg.wrong_rate",
        where="all ECGs",
        what=(
            f"{int((shapes[:, best] > 0).sum())} of {len(shapes)} ECGs look more usual at "
            f"{' or '.join(f'{rate:g}' for rate in likely[:3])} Hz"
        ),
        mend="correct rate_hz: in cohort.yaml, or the rate in the headers" + _accept("wrong_rate"),
        level="warning" if doubtful else "error",
        scope="cohort",
    )


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
        mend=(
            "correct leads: in cohort.yaml (a list, or {NAME IN THE FILE: V1}), or the export"
            + _accept("swapped_leads")
        ),
        scope="cohort",
    )


def _lengths(seconds: np.ndarray, shapes: np.ndarray, places: list[str]) -> Iterator[Finding]:
    """Note ECGs that are a usual ratio of rates longer or shorter than nearly all others.

    It is an error where the shape of the signal speaks for this ratio too.
    """
    if len(seconds) < FEWEST:
        return
    ratio = np.maximum(seconds, 1e-9) / max(float(np.median(seconds)), 1e-9)
    if (np.abs(ratio - 1) < 0.01).mean() < SAME:
        return
    near = np.abs(ratio[:, None] * np.array(RATES) - 1) < 0.01
    near[:, RIGHT] = False
    odd = np.flatnonzero(near.any(axis=1))
    sure = [n for n in odd if shapes[n][near[n]].max() > 0]
    for which, level in ((sure, "error"), ([n for n in odd if n not in sure], "warning")):
        if which:
            first = which[0]
            yield Finding(
                code="ecg.wrong_rate",
                where=places[first],
                what=(
                    f"{len(which)} of {len(seconds)} ECGs last {seconds[first]:.3g} s or so, "
                    f"the others {np.median(seconds):.3g} s: "
                    f"{'their rate is wrong' if level == 'error' else 'is their rate wrong?'}"
                ),
                mend="compare the rate in their headers with that of the others"
                + (_accept("wrong_rate") if level == "error" else ""),
                level="error" if level == "error" else "warning",
                scope="cohort",
            )
