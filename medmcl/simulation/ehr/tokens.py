"""Simulated codes and concepts of patients whose truth is known: the generator of CLAIME's paper.

Source: Cai et al., arXiv 2403.14926, section 5. Patient i has a state c_i ~ N(0, I_p). A token of
modality M is word w with probability proportional to exp(<v*_w, c_i> + e_iw), one softmax for each
modality, with noise e_i ~ N(0, Sigma_M) independent between modalities: within a modality the
counts are contaminated by Sigma_M, across modalities they are not.

Tokens are drawn by thinning (each word Poisson with its share of the mean length), which is exactly
a Poisson number of tokens and a multinomial over words, and never stores a token.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.simulation.ehr.settings import Case

Array = np.ndarray

BLOCK = 2048
"""Patients drawn at once; each block has its own seed, so the first n are the same for every n."""


def simulate_tokens(
    n: int,
    d1: int,
    d2: int,
    p: int,
    case: Case,
    *,
    c: float = 0.2,
    rho: float = 0.8,
    seed: int = 0,
    mean_tokens: float = 50.0,
) -> tuple[sparse.csr_array, sparse.csr_array, Array, Array]:
    """Draw patients, and give their tokens and the embeddings that drew them.

    The first patients are the same for every ``n``, all else being equal. PMI across modalities is
    near ``v1 @ v2.T``.

    Args:
        n: Patients.
        d1: Words of the first modality.
        d2: Words of the second.
        p: Dimensions of the state.
        case: Noise. 1: the first p // 2 words of each modality have variance 1 / c, others none.
            2: covariance rho^|w - w'| s_w s_w' / 2 with s_w ~ U(0, 1).
        c: Of case 1: smaller = noisier.
        rho: Of case 2: larger = noise along more of a common direction.
        seed: Same seed, same bits.
        mean_tokens: Mean of the Poisson number of tokens of a patient in a modality; patients
            without any are drawn again.

    Returns:
        x1 (n, d1) and x2 (n, d2), counts, int32; v1 (d1, p) and v2 (d2, p), columns of mean 0,
        largest singular value 1.
    """
    _refuse(n, d1, d2, p, case, c, rho, mean_tokens)
    v1, v2 = (true_embedding(d, p, seed, m) for m, d in ((1, d1), (2, d2)))
    blocks = list(token_blocks(n, (v1, v2), case, c=c, rho=rho, seed=seed, mean_tokens=mean_tokens))
    x1, x2 = (sparse.vstack([block[m] for block in blocks], format="csr") for m in (0, 1))
    return x1, x2, v1, v2


def token_blocks(
    n: int,
    truth: tuple[Array, Array],
    case: Case,
    *,
    c: float = 0.2,
    rho: float = 0.8,
    seed: int = 0,
    mean_tokens: float = 50.0,
) -> Iterator[tuple[sparse.csr_array, sparse.csr_array]]:
    """The patients of `simulate_tokens` in blocks of `BLOCK`, for bounded memory."""
    p = truth[0].shape[1]
    spread = [
        numpy_generator(seed, "ehr spread", m).random(len(v)).astype(np.float32)
        for m, v in enumerate(truth, start=1)
    ]
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = numpy_generator(seed, "ehr patients", number)
        state = rng.standard_normal((BLOCK, p), dtype=np.float32)
        drawn = []
        for v, s in zip(truth, spread, strict=True):
            logits = state @ v.T.astype(np.float32)
            if case == 1:
                some = min(p // 2, len(v))
                noise = rng.standard_normal((BLOCK, some), dtype=np.float32)
                logits[:, :some] += noise / np.float32(np.sqrt(c))
            else:
                logits += autoregressive_noise(rng, BLOCK, rho, s)
            counts = _thinned(rng, _softmax(logits), mean_tokens)
            drawn.append(sparse.csr_array(counts[: n - start]))
        yield drawn[0], drawn[1]


def true_embedding(d: int, p: int, seed: int, modality: int) -> Array:
    """Normal entries, column means 0, largest singular value 1, (d, p)."""
    v = numpy_generator(seed, "ehr truth", modality).standard_normal((d, p))
    v -= v.mean(axis=0)
    return v / np.linalg.norm(v, 2)


def autoregressive_noise(rng: np.random.Generator, n: int, rho: float, spread: Array) -> Array:
    """Normal noise with covariance rho^|w - w'| s_w s_w' / 2, by recursion, float32 (n, d)."""
    d = len(spread)
    noise = rng.standard_normal((d, n), dtype=np.float32)
    fresh = np.float32(np.sqrt(1 - rho * rho))
    for w in range(1, d):
        noise[w] *= fresh
        noise[w] += np.float32(rho) * noise[w - 1]
    return noise.T * (spread / np.float32(np.sqrt(2)))


def _softmax(logits: Array) -> Array:
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _thinned(rng: np.random.Generator, shares: Array, mean: float) -> Array:
    """Poisson counts of every word; rows without a token are drawn again. int32 (n, d)."""
    counts = rng.poisson(shares * np.float32(mean)).astype(np.int32)
    while len(empty := np.flatnonzero(counts.sum(axis=1) == 0)):
        counts[empty] = rng.poisson(shares[empty] * np.float32(mean))
    return counts


def _refuse(
    n: int, d1: int, d2: int, p: int, case: int, c: float, rho: float, mean_tokens: float
) -> None:
    wrong = {
        "n, d1, d2, p": min(n, d1, d2, p) < 1 and "all of 1 or more",
        "p": p >= min(d1, d2) and "fewer dimensions than words",
        "case": case not in (1, 2) and "1 or 2",
        "c": c <= 0 and "above 0",
        "rho": not 0 <= rho < 1 and "from 0 to below 1",
        "mean_tokens": mean_tokens < 0.1 and "0.1 or more",
    }
    for what, expected in wrong.items():
        if expected:
            got = {"c": c, "rho": rho, "case": case, "mean_tokens": mean_tokens}
            raise ConfigError(
                f"cannot simulate with this {what}",
                got=got.get(what, f"n {n}, d1 {d1}, d2 {d2}, p {p}"),
                expected=expected,
            )
