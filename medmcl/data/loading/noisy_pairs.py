"""Noisy correspondence on purpose: a known share of pairs exchange their record of one modality.

Which pairs are wrong is the truth that a selection of data is judged by; nothing that trains reads
it. Words mean what they mean in `medmcl.simulation.shapes.world`, but that the simulator hands out
copies
of captions and keeps the share exactly, and here records change places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import CohortError, RecordError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.core.rng import derive_seed, numpy_generator
from medmcl.core.targets import Targets
from medmcl.data.cohort.spec import ModalitySpec, NoisyPairsKeys
from medmcl.modalities import ADAPTERS

Array = np.ndarray
_TRIED = (64, 2048)
"""Partners tried at random, a few and more, before all are looked through."""


def exchange(kinds: Array, rng: np.random.Generator) -> Array:
    """Draw whose each row gets: a permutation without partners that are alike.

    Two rows are alike where one of the kinds is equal. Rows for whom nobody is left keep their own;
    with one kind they are as few as can be: those by which a kind exceeds all the others together.

    Args:
        kinds: What rows are told apart by, (K, n) of integers.
        rng: Draws.

    Returns:
        (n,) int64: the row whose each row gets.
    """
    given = np.arange(kinds.shape[1])
    rows = given.copy()
    while len(rows):
        left = kinds[:, rows]
        drawn = _fixed(left, rng)
        alike = (left == left[:, drawn]).any(axis=0)
        if not alike.any():
            given[rows] = rows[drawn]
            break
        rows = rows[~alike]
    return given


def _fixed(kinds: Array, rng: np.random.Generator) -> Array:
    """A random permutation of (K, n); whoever got a like partner swaps where that helps both."""
    given = rng.permutation(kinds.shape[1])
    theirs, order = kinds[:, given], rng.permutation(len(given))
    hopeless: set[bytes] = set()
    for row in np.flatnonzero((kinds == theirs).any(axis=0)).tolist():
        mine, got = kinds[:, [row]], theirs[:, [row]]
        mark = np.where(mine == got, mine, -1).tobytes()
        if not (mine == got).any() or mark in hopeless:
            continue  # another row's swap has fixed it, or there is nobody for its like
        for tried in (*_TRIED, None):
            others = order if tried is None else rng.integers(len(given), size=tried)
            fits = ~((kinds[:, others] == got) | (theirs[:, others] == mine)).any(axis=0)
            if fits.any():
                pair = [row, int(others[fits.argmax()])]
                given[pair], theirs[:, pair] = given[pair[::-1]], theirs[:, pair[::-1]]
                break
        else:
            hopeless.add(mark)
    return given


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Which pairs are wrong, one row a sample: for evaluation only, never read by training.

    Attributes:
        modality: Whose records changed places.
        pairs: Samples of the splits in question that have it and another modality, (N,) bool.
        record_of: Number of the sample whose record each has: its own but for swapped ones, (N,)
            int64.
        swapped: Pairs with another record than their own, (N,) bool.
        noisy: Swapped, and what the record says or the label set differs, (N,) bool.
        own: Each sample's own record, None where it has none, (N,) object.
    """

    modality: str
    pairs: Array
    record_of: Array
    swapped: Array
    noisy: Array
    own: Array

    def __str__(self) -> str:
        swapped, pairs = int(self.swapped.sum()), counted(int(self.pairs.sum()), "pair")
        return (
            f"{swapped:,} of {pairs} with the {self.modality} of another sample, "
            f"{int(self.noisy.sum()):,} of them noise"
        )


def draw_noise(
    keys: NoisyPairsKeys,
    samples: pd.DataFrame,
    modalities: Sequence[str],
    targets: Targets | None,
    says: Callable[[str], str],
) -> Noise:
    """Draw which pairs exchange their records, and who gets whose; splits apart.

    The order in which pairs are drawn depends on seed, modality and the ids of samples alone, so
    that those drawn at a share are among those drawn at a higher one. Pairs without a partner keep
    their record; others are drawn for them while there are any.

    Args:
        keys: What is asked for.
        samples: One row a sample: ``sample``, ``split``, and the record of each modality.
        modalities: Modalities of the cohort.
        targets: The task whose label sets count; None if no task is named.
        says: Gives what a record says: equal for two records that say the same.

    Raises:
        CohortError: No two pairs can exchange anything.
    """
    own = samples[keys.modality].to_numpy(object)
    others = [name for name in modalities if name != keys.modality]
    has = samples[keys.modality].notna() & samples[others].notna().any(axis=1)
    pairs = (has & samples["split"].isin(keys.splits)).to_numpy(bool)
    records = pd.factorize(own)[0]
    labels = np.full(len(own), -1) if targets is None else _label_sets(targets)
    record_of = np.arange(len(own))
    groups = labels if keys.within == "within" else np.zeros(len(own), dtype=np.int64)
    for split in keys.splits:
        rows = np.flatnonzero(pairs & (samples["split"] == split).to_numpy())
        wanted = round(keys.share * len(rows))
        known = labels[rows] >= 0 if keys.within != "any" else np.ones(len(rows), dtype=bool)
        told_apart = pd.Series((labels if keys.within == "across" else records)[rows]).where(known)
        several = told_apart.groupby(groups[rows]).transform("nunique").to_numpy() > 1
        rows = rows[known & several]
        names = samples["sample"].iloc[rows]
        order = [derive_seed(keys.seed, "noisy pairs", keys.modality, str(one)) for one in names]
        rows = rows[np.argsort(order, kind="stable")]
        rng = numpy_generator(keys.seed, "noisy pairs", keys.modality, keys.within, split)
        kinds = np.stack([records, labels] if keys.within == "across" else [records])
        record_of[rows] = rows[_drawn(kinds[:, rows], groups[rows], wanted, rng)]
    swapped = records != records[record_of]
    if not swapped.any():
        labelled = "" if keys.within == "any" else f" and known labels of {keys.task}"
        raise CohortError(
            "no two pairs can exchange a record",
            where="noisy_pairs",
            got=f"share {keys.share:g} of {counted(int(pairs.sum()), 'pair')} with {keys.modality} "
            f"and another modality in {' and '.join(keys.splits)}, within: {keys.within}",
            expected=f"two pairs or more with different records{labelled}",
            fix="a larger share, or within: any",
        )
    noisy = swapped.copy()
    for row in np.flatnonzero(swapped):
        noisy[row] = says(own[row]) != says(own[record_of[row]])
    if targets is not None:
        both = targets.known & targets.known[record_of]
        noisy |= swapped & (both & (targets.values != targets.values[record_of])).any(axis=1)
    return Noise(
        modality=keys.modality,
        pairs=pairs,
        record_of=record_of,
        swapped=swapped,
        noisy=noisy,
        own=own,
    )


def _label_sets(targets: Targets) -> Array:
    """Number of each sample's label set, (N,); -1 where part of it is unknown."""
    numbers = np.unique(targets.values, axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(targets.complete, numbers, -1)


def _drawn(kinds: Array, groups: Array, wanted: int, rng: np.random.Generator) -> Array:
    """Whose record each of n pairs gets: of the first of them, as many change as are wanted.

    Where some of these have no partner among them, more are taken, as long as not too many change.

    Args:
        kinds: What partners must differ in, (K, n).
        groups: Pairs of one group change places with one another, (n,).
        wanted: How many should change.
        rng: Draws.
    """
    best = np.arange(len(groups))
    take = min(wanted, len(groups))
    while True:
        given = np.arange(len(groups))
        for one in np.unique(groups[:take]):
            part = np.flatnonzero(groups[:take] == one)
            given[part] = part[exchange(kinds[:, part], rng)]
        lacking = wanted - int((given != np.arange(len(given))).sum())
        if lacking >= 0:
            best = given
        if lacking <= 0 or take == len(groups):
            return best
        take = min(take + max(1, lacking // 2), len(groups))  # one more can bring two


class Sayings:
    """What records say: of texts the words, blanks and capitals aside; of others their id.

    A text that cannot be read is like no other; whoever reads the records says what is wrong.
    """

    def __init__(self, spec: ModalitySpec, records: pd.DataFrame) -> None:
        self.places: pd.Series = records["place"]
        self.adapter = None
        if spec.traits.free_text:
            kind = ADAPTERS[spec.kind]
            self.adapter = kind(spec.source, kind.Settings())

    def __call__(self, record: str) -> str:
        """Give what a record says."""
        if self.adapter is None:
            return record
        place: RecordRef = self.places[record]
        try:
            return " ".join(self.adapter.read(place).split()).casefold()
        except RecordError:
            return f"\0{record}"


def noise_finding(keys: NoisyPairsKeys, noise: Noise, splits: Array) -> Finding:
    """Warn of what was done, and say how far it is what was asked for."""
    told = []
    for split in keys.splits:
        here = splits == split
        pairs, swapped = int(noise.pairs[here].sum()), int(noise.swapped[here].sum())
        short = round(keys.share * pairs) - swapped
        told.append(
            f"{swapped:,} of {pairs:,} {split} pairs have the {keys.modality} of another sample"
            + (f" ({short:,} fewer than asked for: no partner was left)" if short else "")
        )
    return cohort_warning(
        "cohort.noisy_pairs",
        "noisy_pairs",
        f"{'; '.join(told)}; {int(noise.noisy.sum()):,} of them are noise (the {keys.modality}"
        + ("" if keys.task is None else f", or the label set of {keys.task},")
        + f" differs); asked for {keys.share:.0%}, within: {keys.within}, seed {keys.seed}",
        "nothing, in a study of wrong pairs; otherwise set share: 0 under `noisy_pairs:`",
    )
