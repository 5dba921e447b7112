"""Proposition 2.1: the contrastive loss over patients is a distance to the PMI matrix."""

import numpy as np
import pytest

from medmcl.cooccurrence import claime_pmi, count_tokens, factorise
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


def sides(x):
    """Margins g of the tokens, normalised to sum 1, and each patient's tokens."""
    tokens = [[w for w, n in enumerate(row) for _ in range(n)] for row in x.tolist()]
    g = np.zeros(x.shape[1])
    for one in tokens:
        for w in one:
            g[w] += len(one) - 1
    return g / g.sum(), tokens


def loss_by_loops(v1, v2, x1, x2, strength):
    """The paper's equation 2.3: patients i and j, tokens t and s, one by one."""
    (g1, t1), (g2, t2) = sides(x1), sides(x2)
    together, apart, num_together, num_apart = 0.0, 0.0, 0, 0
    for i, mine in enumerate(t1):
        for j, theirs in enumerate(t2):
            for w in mine:
                for u in theirs:
                    inner = v1[w] @ v2[u] / (g1[w] * g2[u])
                    if i == j:
                        together, num_together = together + inner, num_together + 1
                    else:
                        apart, num_apart = apart + inner, num_apart + 1
    penalty = strength / 2 * np.linalg.norm(v1 @ v2.T) ** 2
    return apart / num_apart - together / num_together + penalty


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_the_loss_is_a_distance_to_the_pmi(strength):
    rng = np.random.default_rng(1)
    x1, x2 = rng.poisson(0.9, (10, 6)), rng.poisson(0.9, (10, 5))
    pmi = claime_pmi(count_tokens(x1, x2))

    def distance(v1, v2):
        return strength / 2 * np.linalg.norm(v1 @ v2.T - pmi / strength) ** 2

    a, b = [(rng.normal(size=(6, 3)), rng.normal(size=(5, 3))) for _ in range(2)]
    gap = loss_by_loops(*a, x1, x2, strength) - loss_by_loops(*b, x1, x2, strength)
    assert abs(gap - (distance(*a) - distance(*b))) < 1e-8
    assert abs(gap) > 1  # else the test could not fail


def loss_and_gradients(v1, v2, y1, y2):
    """The same loss over patients, vectorised: y are tokens over their margins, (n, d)."""
    one, two = y1[0] @ v1, y2[0] @ v2  # weighted sums of each patient's tokens
    num_together = float(y1[1] @ y2[1])
    num_apart = float(y1[1].sum() * y2[1].sum()) - num_together
    both, all_pairs = float((one * two).sum()), float(one.sum(0) @ two.sum(0))
    loss = (all_pairs - both) / num_apart - both / num_together
    near = 1 / num_apart + 1 / num_together
    out1 = y1[0].sum(0)[:, None] * two.sum(0) / num_apart - near * (y1[0].T @ two)
    out2 = y2[0].sum(0)[:, None] * one.sum(0) / num_apart - near * (y2[0].T @ one)
    product = v1 @ v2.T
    loss += (product**2).sum() / 2
    return loss, out1 + product @ v2, out2 + product.T @ v1


def test_gradient_descent_over_patients_reaches_the_svd():
    x1, x2, _, _ = simulate(400, 20, 16, 3, 1, c=1.0, seed=0)
    counts = count_tokens(x1, x2)
    pmi = claime_pmi(counts)
    rows = []
    for x, name in ((x1, "codes"), (x2, "concepts")):
        dense, g = x.toarray(), counts.margins[name].pairs
        rows.append((dense / (g / g.sum()), dense.sum(axis=1)))
    constant = np.linalg.norm(pmi) ** 2 / 2
    best = np.linalg.norm(np.subtract(np.matmul(*_product(factorise(pmi, 3))), pmi)) ** 2 / 2
    rng = np.random.default_rng(0)
    v1, v2 = rng.normal(size=(20, 3)) * 0.1, rng.normal(size=(16, 3)) * 0.1
    for _ in range(4000):
        loss, g1, g2 = loss_and_gradients(v1, v2, *rows)
        v1, v2 = v1 - 0.3 * g1, v2 - 0.3 * g2
    assert (loss + constant) / best - 1 < 1e-4
    assert (loss + constant) / best - 1 > -1e-9  # nothing of rank 3 is closer


def _product(vectors):
    return vectors[0], vectors[1].T
