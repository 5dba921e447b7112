"""Embeddings of sites with different vocabularies, merged by one stacked Procrustes.

Each site's matrix has its own singular vectors, turned by an unknown rotation that codes and
concepts of the site share. So the tokens that two sites share, of both modalities together, give
one rotation: overlap is needed in total, not in each modality. Cells that no site saw are filled by
the inner product of the aligned vectors, and the whole matrix is factorised once more.

In the spirit of BONMI (Zhou et al. 2023), rectangular; sites weigh by how many pairs they saw.

A site is refused whose shared tokens do not say how to turn its vectors onto the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medmcl.cooccurrence.embed.factorise import factorise
from medmcl.core.errors import ArtefactError

WEAKEST = 0.02
"""Smallest singular value of the overlap beside its largest; below it a direction is a guess."""
MOST_RESIDUAL = 0.7
"""Residual of the fit beside that of random partners; 1 says that the overlap tells nothing."""
PERMUTATIONS = 99


@dataclass(frozen=True)
class Overlap:
    """How well a site fitted.

    Attributes:
        tokens: Shared, of both modalities.
        condition: Smallest over largest singular value of the cross product of both sides.
        residual: Length of what the rotation leaves, beside the length of the pool's vectors.
        residual_by_chance: The same with partners permuted within each modality, the mean.
        p_value: Share of permutations that fit as well, itself included.
    """

    tokens: int
    condition: float
    residual: float
    residual_by_chance: float
    p_value: float


def rotation(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """The orthogonal matrix Q for which theirs Q is nearest to ours (Schoenemann 1966)."""
    u, _, vt = np.linalg.svd(theirs.T @ ours)
    return np.asarray(u @ vt)


def refuse_unsafe(
    theirs: np.ndarray, ours: np.ndarray, kinds: np.ndarray, site: str, seed: int
) -> Overlap:
    """Measure the fit, and refuse one that would turn the site anyhow.

    Args:
        theirs: The site's vectors of shared tokens, (tokens, rank).
        ours: Those of the sites before, same tokens.
        kinds: Modality of each token; permutations stay within it.
        site: For messages.
        seed: Of the permutations.

    Raises:
        ArtefactError: If fewer tokens are shared than dimensions, a direction has no weight among
            them, or partners at random fit about as well.
    """
    tokens, rank = theirs.shape
    if tokens < rank:
        raise ArtefactError(
            "shares too few tokens with the other sites to be aligned",
            where=site,
            got=f"{tokens} shared codes and concepts",
            expected=f"{rank} or more, one a dimension",
            fix="a lower rank, or codes mapped to a vocabulary that the sites share",
        )
    generator = np.random.default_rng(seed)
    overlap = _measure(theirs, ours, kinds, generator)
    bad = (
        overlap.condition < WEAKEST
        or overlap.residual > MOST_RESIDUAL * overlap.residual_by_chance
        or overlap.p_value > 2 / (PERMUTATIONS + 1)
    )
    if bad:
        raise ArtefactError(
            "the tokens it shares do not say how its vectors lie to those of the other sites",
            where=site,
            got=f"{tokens} tokens; weakest direction {overlap.condition:.3f}; residual "
            f"{overlap.residual:.2f}, by chance {overlap.residual_by_chance:.2f} "
            f"(p = {overlap.p_value:.2f})",
            expected=f"weakest direction {WEAKEST} or more, residual at most {MOST_RESIDUAL} of "
            "chance, p at most 0.02",
            fix="a lower rank, more shared tokens, or check that the same code means the same",
        )
    return overlap


def _measure(
    theirs: np.ndarray, ours: np.ndarray, kinds: np.ndarray, generator: np.random.Generator
) -> Overlap:
    values = np.linalg.svd(theirs.T @ ours, compute_uv=False)
    residual = _residual(theirs, ours)
    chance = [_residual(theirs[_within(kinds, generator)], ours) for _ in range(PERMUTATIONS)]
    as_good = 1 + sum(one <= residual for one in chance)
    return Overlap(
        tokens=len(theirs),
        condition=float(values[-1] / values[0]) if values[0] > 0 else 0.0,
        residual=residual,
        residual_by_chance=float(np.mean(chance)),
        p_value=as_good / (PERMUTATIONS + 1),
    )


def _residual(theirs: np.ndarray, ours: np.ndarray) -> float:
    left = theirs @ rotation(theirs, ours) - ours
    size = float(np.linalg.norm(ours))
    return float(np.linalg.norm(left)) / size if size > 0 else 1.0


def _within(kinds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    order = np.arange(len(kinds))
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        order[places] = generator.permutation(places)
    return order


@dataclass(frozen=True)
class SiteMatrix:
    """What one site knows.

    Attributes:
        name: For messages.
        first: Tokens of the rows.
        second: Tokens of the columns.
        pmi: Association of each pair, (len(first), len(second)); higher = more alike.
        weight: How much the site saw, for example its number of pairs.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    pmi: np.ndarray
    weight: float


@dataclass(frozen=True)
class Merged:
    """Vectors of all tokens of all sites.

    Attributes:
        first: Tokens of the rows, sorted.
        second: Tokens of the columns, sorted.
        v1: Vectors of the rows, (len(first), rank).
        v2: Vectors of the columns, (len(second), rank).
        pmi: The matrix behind them, observed where a site saw the pair, otherwise filled.
        unseen: Share of cells that no site saw.
        overlaps: For each site after the first how well it fitted.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    v1: np.ndarray
    v2: np.ndarray
    pmi: np.ndarray
    unseen: float
    overlaps: Mapping[str, Overlap]


def merge_embeddings(sites: Sequence[SiteMatrix], rank: int, *, seed: int = 0) -> Merged:
    """One set of vectors for sites that counted over different vocabularies.

    The site with the largest weight goes first, then always the one that shares most tokens with
    those that are in; a chain of sites is fine, as long as each link holds.

    Args:
        sites: Two or more.
        rank: Dimensions.
        seed: Of the permutations that judge each fit.

    Raises:
        ArtefactError: If a site shares too few tokens with the others, or those that it shares do
            not say how to turn it (see `medmcl.cooccurrence.embed.stacked`).
    """
    if len(sites) < 2:
        raise ArtefactError("nothing to align", got=f"{len(sites)} sites", expected="2 or more")
    waiting = {site.name: site for site in sites}
    if len(waiting) < len(sites):
        raise ArtefactError("two sites have the same name", got=[site.name for site in sites])
    pool = _Pool()
    start = max(sites, key=lambda site: (site.weight, site.name))
    own = {site.name: _own_vectors(site, rank) for site in sites}
    pool.add(own[start.name], start.weight)
    del waiting[start.name]
    overlaps = {}
    while waiting:
        shared = {name: own[name].index.intersection(pool.index).sort_values() for name in waiting}
        name = max(waiting, key=lambda one: (len(shared[one]), one))
        theirs, ours = (one.loc[shared[name]].to_numpy() for one in (own[name], pool.means))
        kinds = shared[name].get_level_values(0).to_numpy()
        overlaps[name] = refuse_unsafe(theirs, ours, kinds, name, seed)
        pool.add(own[name] @ rotation(theirs, ours), waiting.pop(name).weight)
    rows, columns = (pool.means.loc[kind].sort_index() for kind in (0, 1))
    total, weight = np.zeros((2, len(rows), len(columns)))
    for site in sites:
        both = ((rows, site.first), (columns, site.second))
        cells = np.ix_(*(known.index.get_indexer(pd.Index(tokens)) for known, tokens in both))
        total[cells] += site.weight * site.pmi
        weight[cells] += site.weight
    filling = rows.to_numpy() @ columns.to_numpy().T
    pmi = np.divide(total, weight, out=filling, where=weight > 0)
    v1, v2 = _factors(pmi, rank)
    first, second = tuple(rows.index), tuple(columns.index)
    return Merged(first, second, v1, v2, pmi, float((weight == 0).mean()), overlaps)


class _Pool:
    """Weighted means of the vectors of all sites that are aligned so far."""

    def __init__(self) -> None:
        self._sums, self._weights = pd.DataFrame(), pd.Series(dtype=float)

    @property
    def index(self) -> pd.Index:
        """Rows (0) and columns (1) of any site, and their tokens."""
        return self._weights.index

    @property
    def means(self) -> pd.DataFrame:
        """One vector a token."""
        return self._sums.div(self._weights, axis=0)

    def add(self, vectors: pd.DataFrame, weight: float) -> None:
        """Take a site's vectors in, turned onto those that are here."""
        weights = pd.Series(weight, index=vectors.index)
        if len(self._weights):
            self._sums = self._sums.add(weight * vectors, fill_value=0.0)
            self._weights = self._weights.add(weights, fill_value=0.0)
        else:
            self._sums, self._weights = weight * vectors, weights


def _own_vectors(site: SiteMatrix, rank: int) -> pd.DataFrame:
    """The site's vectors before any rotation, by 0 for a row or 1 for a column, and token."""
    kinds = [0] * len(site.first) + [1] * len(site.second)
    index = pd.MultiIndex.from_arrays([kinds, [*site.first, *site.second]])
    return pd.DataFrame(np.concatenate(_factors(site.pmi, rank)), index=index)


def _factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    if rank > min(matrix.shape):
        raise ArtefactError(
            "the rank is larger than the matrix", got=rank, expected=f"at most {min(matrix.shape)}"
        )
    return factorise(matrix, rank)
