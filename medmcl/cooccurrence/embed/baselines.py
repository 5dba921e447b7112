"""What CLAIME is compared with: Concate, CL, and log-PMI SVD within each modality.

All of them read within-modality blocks, so they need ``count_tokens(..., within=True)``, and a site
has to share more. Noise within a modality goes into their matrices; across modalities there is
none. Sources: Cai et al., arXiv 2403.14926, sections 2 and 5 (Concate, CL); Levy and Goldberg,
NeurIPS 2014 (log PMI).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Pair, exact_sum
from medmcl.cooccurrence.embed.pmi import log_pmi
from medmcl.cooccurrence.embed.svd import eigen_embedding
from medmcl.core.errors import ArtefactError


def concate(counts: Counts, rank: int, pair: Pair | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Log PMI of both modalities stacked, largest eigenvalues: V1 (d1, rank), V2 (d2, rank)."""
    first, second = _exact_pair(counts, pair)
    vectors = eigen_embedding(log_pmi(_stack(counts, first, second)), rank)
    return _apart(vectors, len(counts.vocabularies[first]))


def cl(counts: Counts, rank: int, pair: Pair | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Contrastive learning that takes both modalities for one: linear PMI of the stack, PCA.

    The linear PMI is CLAIME's with the stack's own margins: pairs of a patient (self-pairs left
    out) against pairs of different patients.
    """
    first, second = _exact_pair(counts, pair)
    stack = _stack(counts, first, second)
    # total^2 / (g_w g_w') [W / total - (s_w s_w' - W - diag(s)) / Z], dense
    tokens = np.concatenate([counts.margins[n].tokens for n in (first, second)])
    total, length = exact_sum(stack.data), exact_sum(tokens)
    apart = length * length - total - length
    if total == 0 or apart <= 0:
        raise ArtefactError(
            "no tokens met, or all of them lie in one patient", got=f"{total} pairs"
        )
    margin = np.asarray(stack.sum(axis=1), dtype=np.float64)
    share = np.divide(total, margin, out=np.zeros(len(margin)), where=margin > 0)
    pmi = np.multiply.outer(share * tokens / -apart, share * tokens)
    cells = stack.toarray() * (1 / total + 1 / apart)
    cells *= share[:, None]
    cells *= share
    pmi += cells
    pmi[np.diag_indices_from(pmi)] += share * share * tokens / apart
    return _apart(eigen_embedding(pmi, rank), len(counts.vocabularies[first]))


def within_only(
    counts: Counts, rank: int, pair: Pair | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log PMI of each modality alone, largest eigenvalues. Rotations are unrelated."""
    first, second = _exact_pair(counts, pair)
    one, two = (eigen_embedding(log_pmi(_within(counts, n)), rank) for n in (first, second))
    return one, two


def _exact_pair(counts: Counts, pair: Pair | None) -> Pair:
    """The pair, unless the counts are a release: these methods read an absent cell as zero."""
    if counts.is_released:
        raise ArtefactError(
            "this method needs exact counts: it would read the absent cells of a release as zeros",
            got=f"cells suppressed below {counts.min_patients}, noise of {counts.noise_sd}",
            fix="embed a release with claime_pmi or `medmcl cooccur embed`, which fill absent "
            "cells; or run this where the exact counts are",
        )
    return counts.pair(*(pair or ()))


def _stack(counts: Counts, first: str, second: str) -> sparse.csr_array:
    cross = counts.blocks[first, second].pairs
    blocks = [[_within(counts, first), cross], [cross.T, _within(counts, second)]]
    return sparse.csr_array(sparse.block_array(blocks))


def _within(counts: Counts, name: str) -> sparse.csr_array:
    if (name, name) not in counts.blocks:
        raise ArtefactError(
            f"pairs within {name} were not counted",
            expected=f"a block {name} x {name}",
            fix="count with within: true (within=True); CLAIME itself does not need it",
        )
    return counts.blocks[name, name].pairs


def _apart(vectors: np.ndarray, d1: int) -> tuple[np.ndarray, np.ndarray]:
    return vectors[:d1], vectors[d1:]
