"""The panel: variants that passed quality control, with what train people taught of them.

Everything is judged on the people it is given (train subjects), in the order of PLINK: people are
left out by call rate before, then variants; a variant is counted under the first rule it fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.modalities.genetics.settings import GeneticsSettings
from medmcl.modalities.genetics.variants import (
    SEX_LINKED,
    Alignment,
    Genotypes,
    Variants,
    align,
    is_ambiguous,
)

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
    for number, (name, chromosome, position, first, other) in enumerate(rows):
        place = (chromosome, position, frozenset((first, other)))
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


@dataclass(frozen=True)
class Panel:
    """What `fit` learned.

    Attributes:
        variants: Those that are used.
        frequency: Of the counted allele in train, in (0, 1). (V,)
        people: Train people it was learned from.
        considered: Variants of the first file, before quality control.
        excluded: Rule of `RULES` to the ids it left out.
        ambiguous: Ids of A/T and C/G variants that are used.
        ancestry: Components of ancestry; None where there are too few people for any.
    """

    variants: Variants
    frequency: np.ndarray
    people: int
    considered: int
    excluded: dict[str, tuple[str, ...]]
    ambiguous: tuple[str, ...]
    ancestry: Ancestry | None

    def standardise(self, dosage: np.ndarray, called: np.ndarray) -> np.ndarray:
        """Give (dosage - 2p) / sqrt(2p(1 - p)), 0 (the train mean) where not called; (..., V)."""
        p = self.frequency
        x = (dosage - 2 * p) / np.sqrt(2 * p * (1 - p))
        return np.asarray(np.where(called, x, 0.0))

    def summary(self) -> str:
        """Say in a line what was left out and why."""
        out = [
            f"{len(ids)} {RULES[rule]} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for rule, ids in self.excluded.items()
            if ids
        ]
        flagged = len(self.ambiguous)
        said = [f"{counted(len(self.variants), 'variant')} of {self.considered:,} used"]
        said += [f"left out: {'; '.join(out)}"] if out else []
        said += [f"{flagged} of those used are A/T or C/G"] if flagged else []
        return f"{', '.join(said)}; judged on {counted(self.people, 'train record')}"

    def state(self) -> dict[str, Any]:
        """As plain JSON values."""
        v = self.variants
        return {
            "ids": list(v.ids),
            "chromosomes": list(v.chromosomes),
            "positions": v.positions.tolist(),
            "counted": list(v.counted),
            "other": list(v.other),
            "frequency": self.frequency.tolist(),
            "people": self.people,
            "considered": self.considered,
            "excluded": {rule: list(ids) for rule, ids in self.excluded.items()},
            "ambiguous": list(self.ambiguous),
            "ancestry": None if self.ancestry is None else self.ancestry.state(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Panel:
        """Take back what `state` gave."""
        ancestry = state["ancestry"]
        return cls(
            variants=Variants(
                ids=tuple(state["ids"]),
                chromosomes=tuple(state["chromosomes"]),
                positions=np.asarray(state["positions"], dtype=np.int64),
                counted=tuple(state["counted"]),
                other=tuple(state["other"]),
                where="the run",
            ),
            frequency=np.asarray(state["frequency"], dtype=np.float64),
            people=int(state["people"]),
            considered=int(state["considered"]),
            excluded={rule: tuple(ids) for rule, ids in state["excluded"].items()},
            ambiguous=tuple(state["ambiguous"]),
            ancestry=None if ancestry is None else Ancestry.load(ancestry),
        )


def fit_panel(raws: Iterable[Genotypes], settings: GeneticsSettings, needs: int) -> Panel:
    """Learn a panel from train people.

    The first file says which variants there are and which allele counts; other files are aligned
    to it, and what they do not have is no call.

    Args:
        raws: Train people.
        settings: Thresholds, pruning and components.
        needs: Components that must be had; 0 = as many as the people allow.

    Raises:
        CohortError: Nobody to learn from, no variant left, or too few people for the components.
    """
    dosage, groups, variants = _matrix(raws)
    if settings.equilibrium_p > 0 and all(group is None for group in groups):
        raise CohortError(
            "Hardy-Weinberg equilibrium is to be tested, and nobody in train is a control of known "
            "ancestry",
            where=variants.where,
            fix="correct controls: or ancestry: in cohort.yaml, or set equilibrium_p: 0",
        )
    p, _ = frequencies(dosage)
    excluded, kept = _exclude(dosage, groups, variants, settings)
    if not len(kept):
        raise CohortError(
            "quality control leaves no variant",
            where=variants.where,
            got="; ".join(f"{len(ids)} {RULES[rule]}" for rule, ids in excluded.items() if ids),
            fix="look at the genotypes, or loosen inputs (call rate, frequency, equilibrium)",
        )
    chosen = variants.take(kept)
    panel = Panel(
        variants=chosen,
        frequency=p[kept],
        people=len(dosage),
        considered=len(variants),
        excluded=excluded,
        ambiguous=_ids(chosen, ambiguous(chosen)),
        ancestry=None,
    )
    x = _standardised(dosage[:, kept], panel)
    used = np.ones(len(kept), dtype=bool)
    if settings.prune_r2 is not None:
        used = prune(x, chosen, settings.prune_r2, settings.prune_window)
    if settings.prune_for == "all":
        panel, x, used = _narrowed(panel, used), x[:, used], used[used]
    ancestry = _ancestry(x, used, settings.components, needs, variants.where)
    return replace(panel, ancestry=ancestry)


def _standardised(dosage: np.ndarray, panel: Panel) -> np.ndarray:
    """Person by person, so that there is no array of doubles for everybody. (N, V) float32."""
    x = np.empty(dosage.shape, dtype=np.float32)
    for row, one in zip(x, dosage, strict=True):
        row[:] = panel.standardise(one, one >= 0)
    return x


def _matrix(raws: Iterable[Genotypes]) -> tuple[np.ndarray, list[str | None], Variants]:
    """Dosages of everybody at the variants of the first file, (N, V), `NO_CALL` for none."""
    rows, groups = [], list[str | None]()
    reference: Variants | None = None
    known: dict[str, Alignment] = {}
    for raw in raws:
        if reference is None:
            reference = raw.variants
        if raw.variants.key == reference.key:
            dosage, called = raw.dosage, raw.called
        else:
            if raw.variants.key not in known:
                known[raw.variants.key] = align(raw.variants, reference)
            dosage, called = known[raw.variants.key].read(raw)
        rows.append(np.where(called, dosage, dosage.dtype.type(NO_CALL)))
        groups.append(raw.group)
    if reference is None:
        raise CohortError(
            "nobody in train has genotypes that can be used",
            fix="see `medmcl check`: call rates, and who is in which split",
        )
    return np.stack(rows), groups, reference


def _exclude(
    dosage: np.ndarray, groups: list[str | None], variants: Variants, settings: GeneticsSettings
) -> tuple[dict[str, tuple[str, ...]], np.ndarray]:
    """Ids each rule leaves out (an id stands under the first), and the numbers of the others."""
    p, calls = frequencies(dosage)
    rare = np.minimum(p, 1 - p)
    left = ~sex_linked(variants)
    excluded = {"sex_linked": _ids(variants, ~left)}

    def leave_out(rule: str, bad: np.ndarray) -> None:
        nonlocal left
        excluded[rule] = _ids(variants, left & bad)
        left = left & ~bad

    leave_out("duplicate", duplicates(variants))
    if settings.ambiguous == "exclude":
        leave_out("ambiguous", ambiguous(variants))
    leave_out("call_rate", calls < settings.variant_call_rate)
    leave_out("frequency", (rare < settings.min_frequency) | (rare <= 0))
    if settings.equilibrium_p > 0:
        lowest = np.ones(len(variants))
        lowest[left] = equilibrium(dosage[:, left], groups)
        leave_out("equilibrium", lowest < settings.equilibrium_p)
    return excluded, np.flatnonzero(left)


def _ids(variants: Variants, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(variants.ids[row] for row in np.flatnonzero(rows))


def _narrowed(panel: Panel, used: np.ndarray) -> Panel:
    """Leave out what is in linkage."""
    variants = panel.variants.take(np.flatnonzero(used))
    return replace(
        panel,
        variants=variants,
        frequency=panel.frequency[used],
        ambiguous=_ids(variants, ambiguous(variants)),
        excluded={**panel.excluded, "linkage": _ids(panel.variants, ~used)},
    )


def _ancestry(
    x: np.ndarray, used: np.ndarray, count: int, needs: int, where: str
) -> Ancestry | None:
    possible = max(0, min(count, (len(x) - 1) // 2, int(used.sum()) - 1))
    if needs and (possible < count or not count):
        raise CohortError(
            "there are too few train people or variants for the components of ancestry",
            where=where,
            got=f"{len(x):,} people, {int(used.sum()):,} variants",
            expected=f"more than {2 * count} people and {count} variants"
            if count else "components above 0",
            fix="set inputs.NAME.components to fewer",
        )  # fmt: skip
    return Ancestry.fit(x, used, possible) if possible else None
