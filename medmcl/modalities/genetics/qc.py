"""Quality control of variants: call rate, allele frequency, Hardy-Weinberg, duplicates, linkage.

Everything is judged on the people it is given (train subjects), in the order of PLINK: people are
left out by call rate before, then variants; a variant is counted under the first rule it fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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


_SEED = 0
_TURNS = 7
"""Power iterations of the randomised SVD."""
_LEFT_OUT = 5
"""One of so many train people is left out to see how far projections shrink."""


@dataclass(frozen=True)
class Ancestry:
    """Components of ancestry and what they explain of each variant.

    Attributes:
        loadings: (V, K) float64; a person's components are x @ loadings, of standard deviation 1
            over train. Zero for variants that were left out by linkage.
        shrinkage: Spread of people who were projected over that of people who were fitted, by
            component; 1 = none. (K,)
        explained: Share of the variance of the variants used, by component. (K,)
        slopes: Regression of each standardised dosage on the components, (K, V).
    """

    loadings: np.ndarray
    shrinkage: np.ndarray
    explained: np.ndarray
    slopes: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return self.loadings.shape[1]

    @classmethod
    def fit(cls, x: np.ndarray, used: np.ndarray, count: int) -> Ancestry:
        """Fit on train people.

        The sign of a component is that its largest loading is positive. People who took no part
        in the fit come to lie nearer to zero than they are: with more variants than people,
        components fit the people themselves. How much nearer is measured: one fifth of train is
        projected onto components of the other four. It is told, and not corrected.

        Args:
            x: Standardised dosages, 0 where not called. (N, V)
            used: Variants the components are made of. (V,) bool
            count: K, below N and V.
        Source:
            Price et al. 2006, Nat Genet 38:904-909 (the method); Halko et al. 2011, arXiv
            0909.4061 (the SVD); Lee, Zou & Wright 2010, Ann Stat 38:3605-3629 (shrinkage).
            Differs: columns are not centred again after absent calls were set to the mean.
        """
        read = x if used.all() else x[:, used]
        basis, values = _svd(read, count)
        scores = read @ basis
        spread = _spread(scores)
        loadings = np.zeros((x.shape[1], count))
        loadings[used] = basis / spread
        scores = scores / spread
        total = float(np.einsum("nv,nv->", read, read, dtype=np.float64))
        slopes = np.linalg.pinv(scores).astype(x.dtype) @ x
        shrinkage = _shrinkage(read, count)
        return cls(
            loadings, shrinkage, values.astype(np.float64) ** 2 / total, slopes.astype(np.float64)
        )

    def project(self, x: np.ndarray) -> np.ndarray:
        """Give the components of standardised dosages (..., V): (..., K)."""
        return np.asarray(x @ self.loadings, dtype=np.float64)

    def residual(self, x: np.ndarray) -> np.ndarray:
        """Give standardised dosages (..., V) without what the components explain of them."""
        return np.asarray(x - self.project(x) @ self.slopes)

    def state(self) -> dict[str, Any]:
        """As plain lists."""
        return {
            "loadings": self.loadings.tolist(),
            "shrinkage": self.shrinkage.tolist(),
            "explained": self.explained.tolist(),
            "slopes": self.slopes.tolist(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Ancestry:
        """Take back what `state` gave."""
        parts = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
        return cls(**parts)


def _svd(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors (V, K) with a fixed sign, and singular values (K,)."""
    from sklearn.utils.extmath import randomized_svd

    _, values, rows = randomized_svd(x, n_components=count, n_iter=_TURNS, random_state=_SEED)
    largest = rows[np.arange(count), np.abs(rows).argmax(axis=1)]
    return (rows * np.where(largest < 0, -1.0, 1.0)[:, None]).T, values


def _shrinkage(x: np.ndarray, count: int) -> np.ndarray:
    people = np.random.default_rng(_SEED).permutation(len(x))
    out = people[: len(x) // _LEFT_OUT]
    kept = people[len(out) :]
    if len(out) < 2 or len(kept) <= count:
        return np.ones(count)
    basis, _ = _svd(x[kept], count)
    return _spread(x[out] @ basis) / _spread(x[kept] @ basis)


def _spread(scores: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(np.square(scores).mean(axis=0))
    return np.where(deviation > 0, deviation, 1.0)
