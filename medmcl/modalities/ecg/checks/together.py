"""Mistakes that many ECGs of a cohort share, too small to be sure of in one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.findings import Finding, cohort_error, cohort_warning
from medmcl.modalities.ecg.checks.chest import namings
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.rate import FACTORS as RATES
from medmcl.modalities.ecg.checks.rate import (
    NEAR,
    RATE_ERROR,
    RIGHT,
    length_odds,
    pool,
    rate_odds,
    second_sign,
    would_be,
)
from medmcl.modalities.ecg.checks.values import chest_odds, used_leads
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import PRECORDIAL

FEWEST = 5
"""Fewer ECGs say nothing about a cohort."""
WEIGHT_OF_ONE = 6.0
"""A record counts at most so much, in log-odds."""
ENOUGH = 12.0
"""Log-odds of all records together that are an error."""
LIKELIEST = 3
"""Factors of one record that are looked into."""
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
    seen: list[_Seen] = []
    odds: list[np.ndarray] = []
    chests = 0
    for raw in raws:
        look = Look(raw, used_leads(raw, wanted))
        chests += all(lead in look.used for lead in PRECORDIAL)
        found = chest_odds(look)
        if found is not None:
            odds.append(found)
        shape, length = rate_odds(look), length_odds(raw.seconds, len(raw.leads))
        beats = look.pulse(look.used)[0]
        plain = _plain(look, shape)
        seen.append(_Seen(raw.where, raw.seconds, raw.rate_hz, shape, plain, length, beats))
    return [*_names(odds, chests), *([*_rates(seen)] or _lengths(seen))]


@dataclass(frozen=True)
class _Seen:
    """What is kept of one ECG.

    Attributes:
        where: File it was read from.
        seconds: How long it lasts.
        rate_hz: Its rate, as stated.
        shape: `rate_odds`; None where no heart beats.
        plain: `_plain`.
        length: `length_odds`.
        beats: A minute, at the stated rate.
    """

    where: str
    seconds: float
    rate_hz: float
    shape: np.ndarray | None
    plain: np.ndarray
    length: np.ndarray
    beats: float


def _accept(code: str) -> str:
    """Say how to go on where a judgement about the cohort is wrong."""
    return f"; if all is right, say accept: {{'*': [{code}]}} in cohort.yaml"


def _plain(look: Look, shape: np.ndarray | None) -> np.ndarray:
    """Which of the likeliest factors, (12,) bool, leave a plain sinus rhythm if taken out.

    One that is none at any other rate does not accuse its rate; see `sinus`.
    """
    plain = np.zeros(len(RATES), bool)
    if shape is not None:
        for number in np.argsort(-shape)[:LIKELIEST]:
            if shape[number] > 0:
                plain[number] = would_be(look, int(number)) is not None
    return plain


def _rates(seen: list[_Seen]) -> Iterator[Finding]:
    """Add the log-odds of each factor that rates may be wrong by over records where a heart beats.

    Most must be plain sinus rhythms without this factor: a cohort of tachycardias, paced or
    fibrillating hearts accuses no rate. It is an error where most of these records are sure by
    their looks and have another sign too, as `check_rate` asks of one.
    """
    judged = [one for one in seen if one.shape is not None]
    if len(judged) < max(FEWEST, len(seen) / 2):
        return
    every = np.stack([one.shape for one in judged if one.shape is not None])
    best, sure = pool(every + np.stack([one.length for one in judged]))
    looks = float(np.median(every[:, best]))
    agree = np.mean([one.plain[best] for one in judged])
    if not sure or looks <= 0 or agree <= 0.5:
        return
    factor = RATES[best]
    signed = np.mean([second_sign(best, one.length, one.beats) for one in judged])
    error = factor not in NEAR and looks > RATE_ERROR and signed > 0.5
    likely = " or ".join(f"{rate:g}" for rate in sorted({x.rate_hz / factor for x in judged})[:3])
    what = f"{int((every[:, best] > 0).sum())} of {len(seen)} ECGs look more usual at {likely} Hz"
    if not error and factor not in NEAR:
        what += f", or these hearts are {'fast' if factor > 1 else 'slow'}"
    fix = "correct rate_hz: in cohort.yaml, or the rate in the headers" + _accept("wrong_rate")
    yield (cohort_error if error else cohort_warning)("ecg.wrong_rate", "all ECGs", what, fix)


def _names(odds: list[np.ndarray], chests: int) -> Iterator[Finding]:
    """Add the log-odds of each naming over records; most of them must prefer it.

    Nothing is said where half of the ECGs with a chest, ``chests``, look like no heart's.
    """
    if len(odds) < max(FEWEST, chests / 2):
        return
    every = np.stack(odds).clip(-WEIGHT_OF_ONE, WEIGHT_OF_ONE)
    total = every.sum(axis=0)
    best = int(total.argmax())
    if total[best] <= ENOUGH or np.median(every[:, best]) <= 0:
        return
    better = int((every[:, best] > 0).sum())
    yield cohort_error(
        "ecg.swapped_leads",
        "all ECGs",
        f"{namings()[1][best]}: {better} of {len(odds)} ECGs look more usual with these names",
        "correct leads: in cohort.yaml (a list, or {NAME IN THE FILE: V1}), or the export"
        + _accept("swapped_leads"),
    )


def _lengths(seen: list[_Seen]) -> Iterator[Finding]:
    """Note ECGs that are a usual ratio of rates longer or shorter than nearly all others.

    It is an error where the shape of the signal speaks for this ratio too, and the ECG is a plain
    sinus rhythm without it.
    """
    if len(seen) < FEWEST:
        return
    seconds = np.array([one.seconds for one in seen])
    ratio = np.maximum(seconds, 1e-9) / max(float(np.median(seconds)), 1e-9)
    if (np.abs(ratio - 1) < 0.01).mean() < SAME:
        return
    near = np.abs(ratio[:, None] * np.array(RATES) - 1) < 0.01
    near[:, RIGHT] = False
    odd = np.flatnonzero(near.any(axis=1))
    sure = [n for n in odd if (seen[n].plain & near[n]).any()]
    fix = "compare the rate in their headers with that of the others" + _accept("wrong_rate")
    for which, make, said in (
        (sure, cohort_error, "their rate is wrong"),
        ([n for n in odd if n not in sure], cohort_warning, "is their rate wrong?"),
    ):
        if which:
            what = (
                f"{len(which)} of {len(seen)} ECGs last {seconds[which[0]]:.3g} s or so, "
                f"the others {np.median(seconds):.3g} s: {said}"
            )
            yield make("ecg.wrong_rate", seen[which[0]].where, what, fix)
