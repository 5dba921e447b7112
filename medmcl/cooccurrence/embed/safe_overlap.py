"""Whether the tokens that two sites share say how to turn one site's vectors onto the other's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
