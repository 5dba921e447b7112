"""Embeddings of codes and concepts: a low-rank factorisation of their association matrix.

CLAIME's loss is a distance to the PMI matrix, so its minimiser is the truncated SVD, split evenly:
V1 = U1 sqrt(S), V2 = U2 sqrt(S) (Cai et al., arXiv 2403.14926). Only the product V1 V2' and the two
spaces are identified; cosines within and across modalities compare directions, higher = more alike.

More than two modalities have one embedding for all, from the cross-modal blocks alone: find V_1 ...
V_K that minimise sum over a != b of ||V_a V_b' - PMI_ab||_F^2: every pair's CLAIME loss, summed.
The within-modality blocks, which carry the modality's own noise, are left out: they are missing
blocks of one symmetric matrix, filled with the current V_a V_a' and factorised again until nothing
moves (hard imputation; Mazumder, Hastie and Tibshirani, JMLR 2010). With two modalities this is
`factorise` itself. Pairs that were not counted are missing in the same way, so modalities that
never met directly are still related through a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import scipy.linalg

from medmcl.cooccurrence.count.counts import Pair
from medmcl.cooccurrence.embed.ranks import noise_level, shrunken, signflip_rank
from medmcl.cooccurrence.embed.svd import (
    Triple,
    eigen_embedding,
    signs,
    truncated_svd,
)
from medmcl.core.errors import ArtefactError, ConfigError


def factorise(
    pmi: np.ndarray,
    rank: int | Literal["auto"],
    *,
    weights: tuple[np.ndarray, np.ndarray] | None = None,
    shrink: bool = False,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Factorise an association matrix into embeddings of its rows and its columns.

    Without ``weights`` and ``shrink`` this is the paper's estimator.

    Args:
        pmi: Association of two modalities, (d1, d2).
        rank: Dimensions, or ``auto``: parallel analysis by sign flips (`signflip_rank`).
        weights: Token totals (or any margins) of rows and columns. The noise of a PMI cell falls
            with its expected count, which is the product of its margins; weighting squared
            errors by it is a least-squares fit of which the SVD of the scaled matrix is the exact
            solution (correspondence analysis), no iteration needed. Differs from the paper.
        shrink: Shrink the singular values to undo what noise adds to them. A dimension that noise
            alone could give becomes zeros. Differs from the paper.
        seed: Of start vectors and sign flips.

    Returns:
        V1 (d1, rank) and V2 (d2, rank), columns by falling singular value, the largest entry of
        each column of V1 positive. Tokens whose row or column is all zeros have zeros.

    Raises:
        ConfigError: Impossible rank, weights that do not fit, or values that are not finite.
    """
    scales = None if weights is None else _scales(weights, pmi.shape)
    scaled = pmi if scales is None else pmi * scales[0][:, None] * scales[1]
    if not np.isfinite(scaled).all():
        raise ConfigError("the association matrix holds values that are not finite")
    if rank == "auto":
        rank = signflip_rank(scaled, seed=seed)
    u, s, vt = truncated_svd(scaled, rank, seed=seed)
    if shrink:
        s = shrunken(s, pmi.shape, noise_level(scaled, s))
    if scales is not None:
        u, s, vt = _unscaled((u, s, vt), scales)
    v1, v2 = u * np.sqrt(s), vt.T * np.sqrt(s)
    v1[~scaled.any(axis=1)] = 0.0  # else rounding errors give them a direction
    v2[~scaled.any(axis=0)] = 0.0
    return v1, v2


def _scales(
    weights: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    if tuple(len(w) for w in weights) != shape or any((np.asarray(w) < 0).any() for w in weights):
        raise ConfigError(
            "these weights do not fit the matrix",
            got=" and ".join(f"{len(w)} values" for w in weights),
            expected=f"{shape[0]} and {shape[1]} values, none negative",
        )
    roots = [np.sqrt(np.asarray(w, dtype=np.float64)) for w in weights]
    means = [float(r[r > 0].mean()) if (r > 0).any() else 1.0 for r in roots]
    return roots[0] / means[0], roots[1] / means[1]


def _unscaled(triple: Triple, scales: tuple[np.ndarray, np.ndarray]) -> Triple:
    """SVD of the product after the scales are taken off; tokens of weight 0 get zeros."""
    u, s, vt = triple
    back = [np.divide(1.0, one, out=np.zeros_like(one), where=one > 0) for one in scales]
    q1, r1 = scipy.linalg.qr(u * back[0][:, None], mode="economic")
    q2, r2 = scipy.linalg.qr(vt.T * back[1][:, None], mode="economic")
    inner, values, outer = scipy.linalg.svd((r1 * s) @ r2.T)
    left, right = q1 @ inner, q2 @ outer.T
    sign = signs(left)
    return left * sign, values, (right * sign).T


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
