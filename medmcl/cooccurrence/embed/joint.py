"""More than two modalities at once: one embedding for all, from the cross-modal blocks alone.

With K modalities, find V_1 ... V_K that minimise sum over a != b of ||V_a V_b' - PMI_ab||_F^2:
every pair's CLAIME loss, summed. The within-modality blocks, which carry the modality's own noise,
are left out: they are missing blocks of one symmetric matrix, filled with the current V_a V_a' and
factorised again until nothing moves (hard imputation; Mazumder, Hastie and Tibshirani, JMLR 2010).
With two modalities this is `factorise` itself. Pairs that were not counted are missing in the same
way, so modalities that never met directly are still related through a third.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medmcl.cooccurrence.count.counts import Pair
from medmcl.cooccurrence.embed.baselines import eigen_embedding
from medmcl.core.errors import ArtefactError, ConfigError

_ROUNDS = 1000
_CLOSE = 1e-8


def joint_factorise(blocks: Mapping[Pair, np.ndarray], rank: int) -> dict[str, np.ndarray]:
    """Factorise association matrices of pairs of modalities together, name to (d, rank).

    Args:
        blocks: Pair to its matrix (d_a, d_b), each pair in one order.
        rank: Dimensions; at most the smallest modality's tokens.

    Raises:
        ArtefactError: If blocks do not fit together, or some modalities are related to no other.
        ConfigError: Impossible rank.
    """
    places = _places(blocks)
    size = sum(p.stop - p.start for p in places.values())
    if not 1 <= rank <= min(p.stop - p.start for p in places.values()):
        raise ConfigError("no such rank", got=rank, expected="1 to the tokens of each modality")
    whole, known = np.zeros((size, size)), np.zeros((size, size), dtype=bool)
    for (a, b), block in blocks.items():
        for rows, columns, values in (
            (places[a], places[b], block),
            (places[b], places[a], block.T),
        ):
            whole[rows, columns], known[rows, columns] = values, True
    vectors = eigen_embedding(whole, rank)
    scale = np.linalg.norm(whole)
    for _ in range(_ROUNDS):
        product = vectors @ vectors.T
        change = np.linalg.norm((product - whole)[~known])
        whole[~known] = product[~known]
        vectors = eigen_embedding(whole, rank)
        if change <= _CLOSE * scale:
            break
    else:
        raise ArtefactError(
            f"the joint embedding did not settle in {_ROUNDS} rounds",
            got=f"still moving by {change / scale:.1e} of the matrix's norm",
            fix="lower the rank",
        )
    vectors[~(whole.astype(bool) & known).any(axis=1)] = 0.0  # else rounding gives a direction
    return {name: vectors[place] for name, place in places.items()}


def _places(blocks: Mapping[Pair, np.ndarray]) -> dict[str, slice]:
    """Rows of each modality in the stacked matrix, checked for fit and for being connected."""
    sizes: dict[str, int] = {}
    for pair, block in blocks.items():
        for name, length in zip(pair, block.shape, strict=True):
            if sizes.setdefault(name, length) != length:
                raise ArtefactError(
                    f"blocks differ in their tokens of {name}", got=f"{sizes[name]} and {length}"
                )
    reached = set(list(sizes)[:1])
    while more := {n for pair in blocks if reached & set(pair) for n in pair} - reached:
        reached |= more
    if not sizes or reached != set(sizes):
        alone = sorted(set(sizes) - reached)
        raise ArtefactError(
            "some modalities are related to no other",
            got=f"no pair joins {', '.join(sorted(reached))} to {', '.join(alone)}",
            expected="pairs that join all modalities",
        )
    places, start = {}, 0
    for name, length in sizes.items():
        places[name] = slice(start, start + length)
        start += length
    return places
