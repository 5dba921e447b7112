"""Embeddings over different vocabularies: aligned, filled, and refused where that is a guess."""

import numpy as np
import pytest

from medmcl.cooccurrence.embed.factorise import factorise
from medmcl.cooccurrence.embed.stacked import SiteMatrix, merge_embeddings, rotation
from medmcl.core.errors import ArtefactError

RANK = 4


def truth(d, generator):
    v = generator.normal(size=(d, RANK))
    u, s, _ = np.linalg.svd(v - v.mean(0), full_matrices=False)
    return u * (s / s[0])


def pmi_of_patients(n, v1, v2, generator):
    """Swap for medmcl.simulation.ehr.tokens and claime_pmi."""
    state = generator.normal(size=(n, RANK))
    x = []
    for v in (v1, v2):
        weight = np.exp(state @ v.T + 0.5 * generator.normal(size=(n, len(v))))
        x.append(generator.poisson(50 * weight / weight.sum(1, keepdims=True)).astype(float))
    D = x[0].T @ x[1]
    return D * D.sum() / np.outer(D.sum(1), D.sum(0)) - 1


def named(kind, index):
    return tuple(f"{kind}{i:03d}" for i in index)


def part(name, pmi, rows, columns, weight=1.0):
    cells = pmi[np.ix_(rows, columns)]
    return SiteMatrix(name, named("a", rows), named("b", columns), cells, weight)


def two_sites(matrices, d, share, generator):
    """Two sites that share this part of the rows and of the columns."""
    k = round(share * d)
    rest = (d - k) // 2
    order = [generator.permutation(d) for _ in range(2)]
    sites = []
    for s, pmi in enumerate(matrices):
        kept = [np.sort(np.r_[o[:k], o[k + s * rest : k + (s + 1) * rest]]) for o in order]
        sites.append(part(f"site {s}", pmi, *kept))
    return sites


def error(a, b, v1, v2):
    return max(np.linalg.norm(a @ a.T - v1 @ v1.T), np.linalg.norm(b @ b.T - v2 @ v2.T))


def places(tokens):
    return np.array([int(token[1:]) for token in tokens])


def zero_filled(sites, merged):
    total, seen = np.zeros((2, len(merged.first), len(merged.second)))
    for site in sites:
        cells = np.ix_(
            np.searchsorted(merged.first, site.first), np.searchsorted(merged.second, site.second)
        )
        total[cells] += site.pmi
        seen[cells] += 1
    return factorise(total / np.maximum(seen, 1), RANK)


def test_without_noise_the_whole_matrix_comes_back():
    generator = np.random.default_rng(0)
    u = np.linalg.qr(generator.normal(size=(40, RANK)))[0]
    pmi = u @ u.T  # balanced, so that a rotation is all that is unknown
    first, second = np.arange(28), np.arange(12, 40)
    sites = [part("x", pmi, first, first, 2.0), part("y", pmi, second, second)]
    merged = merge_embeddings(sites, RANK)
    assert merged.unseen == pytest.approx(2 * 12 * 12 / 1600)
    assert merged.overlaps["y"].tokens == 32
    unseen = (np.arange(40) < 12)[:, None] & (np.arange(40) >= 28)
    seen = ~(unseen | unseen.T)
    np.testing.assert_allclose(merged.pmi[seen], pmi[seen], atol=1e-12)
    wrong = np.linalg.norm((merged.pmi - pmi)[~seen]) / np.linalg.norm(pmi[~seen])
    assert wrong < 0.25  # parts of a balanced matrix are not quite balanced themselves


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_filling_is_better_than_zeros(share):
    worse = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        v1, v2 = truth(50, generator), truth(50, generator)
        matrices = [pmi_of_patients(4000, v1, v2, generator) for _ in range(2)]
        sites = two_sites(matrices, 50, share, generator)
        merged = merge_embeddings(sites, RANK)
        want = v1[places(merged.first)], v2[places(merged.second)]
        filled = error(merged.v1, merged.v2, *want)
        worse.append(error(*zero_filled(sites, merged), *want) / filled)
    assert min(worse) > 1.02
    assert np.mean(worse) > (1.2 if share == 0.3 else 1.05)


def test_codes_alone_or_concepts_alone_are_enough():
    generator = np.random.default_rng(1)
    v1, v2 = truth(40, generator), truth(40, generator)
    pmi = pmi_of_patients(4000, v1, v2, generator)
    rows, left, right = np.arange(40), np.arange(20), np.arange(20, 40)
    merged = merge_embeddings([part("x", pmi, rows, left), part("y", pmi, rows, right)], RANK)
    whole = factorise(pmi, RANK)
    turn = rotation(np.vstack([merged.v1, merged.v2]), np.vstack(whole))
    # every cell was seen by one site, so this is the factorisation of the whole
    np.testing.assert_allclose(merged.v1 @ turn, whole[0], atol=1e-10)


def test_a_chain_of_sites_holds():
    generator = np.random.default_rng(2)
    v1, v2 = truth(60, generator), truth(60, generator)
    pmi = pmi_of_patients(4000, v1, v2, generator)
    thirds = [np.arange(start, start + 30) for start in (0, 15, 30)]
    sites = [part(f"site {k}", pmi, t, t, weight) for k, (t, weight) in
             enumerate(zip(thirds, (3.0, 2.0, 1.0), strict=True))]  # fmt: skip
    merged = merge_embeddings(sites, RANK)
    assert list(merged.overlaps) == ["site 1", "site 2"]
    assert len(merged.first) == 60


def refused(sites, said, rank=RANK):
    with pytest.raises(ArtefactError, match=said):
        merge_embeddings(sites, rank)


def test_too_few_shared_tokens_are_refused():
    pmi = pmi_of_patients(2000, *(truth(30, np.random.default_rng(s)) for s in (1, 2)),
                          np.random.default_rng(0))  # fmt: skip
    a = part("x", pmi, np.arange(15), np.arange(16), 2.0)
    b = part("y", pmi, np.arange(14, 30), np.arange(14, 30))
    refused([a, b], "y: shares too few(.|\n)*3 shared codes and concepts(.|\n)*4 or more")


def test_shared_names_that_mean_something_else_are_refused():
    generator = np.random.default_rng(3)
    v1, v2 = truth(40, generator), truth(40, generator)
    first = pmi_of_patients(4000, v1, v2, generator)
    other = pmi_of_patients(4000, *(generator.permutation(v) for v in (v1, v2)), generator)
    everything = np.arange(40)
    sites = [
        part("x", first, everything, everything, 2.0),
        part("y", other, everything, everything),
    ]
    refused(sites, "y: the tokens it shares do not say")


def test_a_direction_that_the_shared_tokens_lack_is_refused():
    generator = np.random.default_rng(4)
    v1, v2 = truth(40, generator), truth(40, generator)
    v1[:20, 3] = v2[:20, 3] = 0.0
    rows, others = np.arange(30), np.r_[0:20, 30:40]
    pmi = v1 @ v2.T + 1e-4 * generator.normal(size=(40, 40))
    sites = [part("x", pmi, rows, rows, 2.0), part("y", pmi, others, others)]
    refused(sites, "weakest direction 0.0")


def test_rank_and_names():
    pmi = np.eye(3)
    whole = part("x", pmi, range(3), range(3))
    refused([whole], "nothing to align")
    refused([whole, whole], "same name")
    refused([whole, part("y", pmi, range(3), range(3))], "larger than the matrix")
