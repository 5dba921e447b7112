"""Quality control of variants: call rate, allele frequency, Hardy-Weinberg, duplicates, linkage.

Everything is judged on the people it is given (train subjects), in the order of PLINK: people are
left out by call rate before, then variants; a variant is counted under the first rule it fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from medmcl.modalities.genetics.variants import SEX_LINKED, Variants, is_ambiguous

NO_CALL = -1
"""In a matrix of dosages: no call."""
RULES = {
    "sex_linked": "on X, Y or mitochondrial",
    "duplicate": "a second time there, by id or by place and alleles",
    "ambiguous": "A/T or C/G",
    "call_rate": "call rate too low",
    "frequency": "minor allele too rare",
    "equilibrium": "out of Hardy-Weinberg equilibrium",
    "linkage": "in linkage with an earlier one",
}
"""What a variant is left out for, in this order."""


def frequencies(dosage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the frequency of the counted allele and the share of calls of each variant.

    Args:
        dosage: (N, V), `NO_CALL` where there is none.

    Returns:
        (V,) in [0, 1], 0 where nobody has a call; and (V,) in [0, 1].
    """
    called = dosage >= 0
    calls = called.sum(axis=0)
    total = np.where(called, dosage, 0).sum(axis=0, dtype=np.float64)
    return total / np.maximum(2 * calls, 1), calls / max(1, len(dosage))


def hardy_weinberg(hets: int, homs: int, other_homs: int) -> float:
    """Give the exact p-value of Hardy-Weinberg equilibrium.

    The probability, given the allele counts, of a number of heterozygotes that is at most as
    likely as the one seen. 1 where nobody has a call or one allele is alone.

    Args:
        hets: People with one copy of each allele.
        homs: People with two copies of one allele.
        other_homs: People with two copies of the other.
    Source:
        Wigginton, Cutler & Abecasis 2005, AJHG 76:887-893, equations 1 and 2. Differs: logarithms
        of factorials take the place of the recurrence; ties count within a relative 1e-9.
    """
    people = hets + homs + other_homs
    rare = 2 * min(homs, other_homs) + hets
    if people == 0 or rare == 0:
        return 1.0
    probabilities = _heterozygotes(people, rare)
    seen = probabilities[hets // 2]
    return float(min(1.0, probabilities[probabilities <= seen * (1 + 1e-9)].sum()))


@lru_cache(maxsize=4096)
def _heterozygotes(people: int, rare: int) -> np.ndarray:
    """Probability of each possible number of heterozygotes: 0, 2, 4, ... or 1, 3, 5, ..."""
    from scipy.special import gammaln

    hets = np.arange(rare % 2, rare + 1, 2, dtype=np.float64)
    homs = (rare - hets) / 2
    others = people - hets - homs
    possible = others >= 0
    logs = np.full(len(hets), -np.inf)
    logs[possible] = (
        hets[possible] * np.log(2.0)
        - gammaln(hets[possible] + 1)
        - gammaln(homs[possible] + 1)
        - gammaln(others[possible] + 1)
    )
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def equilibrium(dosage: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
    """Give the lowest exact p-value of any group of people, for each variant: (V,).

    Dosages with fractions count as the nearest whole number. Groups keep ancestries apart: people
    of two ancestries together are out of equilibrium though each is in it.

    Args:
        dosage: (N, V), `NO_CALL` where there is none.
        groups: Group of each person, None = left out of the test. (N,)
    """
    lowest = np.ones(dosage.shape[1])
    known = np.array([group is not None for group in groups], dtype=bool)
    names = np.array([group or "" for group in groups], dtype=object)
    for name in sorted(set(names[known])):
        part = dosage[known & (names == name)]
        counts = _counts(part)
        values = [hardy_weinberg(*map(int, one)) for one in counts.T]
        lowest = np.minimum(lowest, values)
    return lowest


def _counts(dosage: np.ndarray) -> np.ndarray:
    """People with one, two and no copies, (3, V)."""
    nearest = np.rint(dosage)
    return np.stack([((nearest == copies) & (dosage >= 0)).sum(axis=0) for copies in (1, 2, 0)])


def duplicates(variants: Variants) -> np.ndarray:
    """Tell which variants stand there a second time: by id, or by place and alleles: (V,) bool.

    Where the position is unknown (0) only ids are compared.
    """
    ids, places = set[str](), set[tuple[str, int, frozenset[str]]]()
    found = np.zeros(len(variants), dtype=bool)
    rows = zip(
        variants.ids, variants.chromosomes, variants.positions.tolist(), variants.counted,
        variants.other, strict=True,
    )  # fmt: skip
    for number, (name, chromosome, position, counted, other) in enumerate(rows):
        place = (chromosome, position, frozenset((counted, other)))
        found[number] = name in ids or (position > 0 and place in places)
        places.add(place)
        ids.add(name)
    return found


def ambiguous(variants: Variants) -> np.ndarray:
    """Tell which variants look alike from both strands, A/T and C/G. (V,) bool."""
    pairs = zip(variants.counted, variants.other, strict=True)
    return np.array([is_ambiguous(*pair) for pair in pairs], dtype=bool)


def sex_linked(variants: Variants) -> np.ndarray:
    """Tell which variants lie on no autosome. (V,) bool."""
    return np.array([name in SEX_LINKED for name in variants.chromosomes], dtype=bool)


def prune(x: np.ndarray, variants: Variants, r2: float, window: int) -> np.ndarray:
    """Choose variants of which no two near ones are in strong linkage. (V,) bool, True = kept.

    In order of chromosome and position; a variant is kept if its squared correlation with every
    kept one among the ``window`` kept before it on the chromosome is at most ``r2``.

    Args:
        x: Standardised dosages, 0 where not called. (N, V)
        variants: Their places.
        r2: Highest squared correlation of two that are kept.
        window: Kept variants that are looked back at.
    Source:
        After PLINK's ``--indep-pairwise`` (Chang et al. 2015). Differs: the earlier of two is
        kept, not the one with the commoner minor allele, and the window holds kept variants only.
    """
    order = np.lexsort((variants.positions, np.array(variants.chromosomes, dtype=object)))
    length = np.sqrt(np.square(x).sum(axis=0, dtype=np.float64))
    units = x / np.where(length > 0, length, 1.0)
    kept = np.zeros(x.shape[1], dtype=bool)
    behind: list[int] = []
    chromosome = None
    for column in order.tolist():
        if variants.chromosomes[column] != chromosome:
            chromosome, behind = variants.chromosomes[column], []
        near = units[:, behind[-window:]]
        if not behind or float(np.square(units[:, column] @ near).max()) <= r2:
            kept[column] = True
            behind.append(column)
    return kept
