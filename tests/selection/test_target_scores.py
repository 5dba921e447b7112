import math

import numpy as np
import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.selection import norm_sim, norm_sim_dynamic


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_norm_sim_equals_the_formula_as_loops(pairs, p):
    pool, target = pairs(30)[0], pairs(17, seed=1)[0]
    expected = []
    for row in pool:
        cosines = [abs(sum(a * b for a, b in zip(row.tolist(), aim, strict=True)))
                   for aim in target.tolist()]  # fmt: skip
        expected.append(
            max(cosines) if p == math.inf else math.fsum(c**p for c in cosines) ** (1 / p)
        )
    found = norm_sim(pool, target, p)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_norm_sim_equals_the_published_code(wang, p):
    found = norm_sim(wang["ns_candidates"], wang["ns_target"], p)
    np.testing.assert_allclose(found, wang[f"ns_norm_{p}"], rtol=1e-5, atol=1e-5)


def test_the_square_of_norm_sim_over_its_rows_is_the_published_vas(wang):
    vas = norm_sim(wang["ns_candidates"], wang["ns_target"], 2) ** 2 / len(wang["ns_target"])
    np.testing.assert_allclose(vas, wang["ns_vas"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_blocks_and_tiles_do_not_show(pairs, p, counting):
    pool, target = pairs(9000, width=3)[0], pairs(8300, width=3, seed=1)[0]
    watched = counting(target.numpy())
    found = norm_sim(pool[::100], watched, p)
    cosine = (pool[::100] @ target.T).abs()
    torch.testing.assert_close(found, torch.linalg.vector_norm(cosine, ord=p, dim=1))
    torch.testing.assert_close(norm_sim(pool, target[:5], p)[::100],
                               torch.linalg.vector_norm(cosine[:, :5], ord=p, dim=1))  # fmt: skip
    assert watched.most == 8192


def test_the_dynamic_choice_equals_the_published_code(wang):
    found = norm_sim_dynamic(
        wang["comb_img"], 80, int(wang["vasd_iters"]), start=wang["comb_stage1"]
    )
    np.testing.assert_array_equal(found, wang["vasd_selected"])
    flags = np.isin(np.arange(400), wang["comb_stage1"])
    share = norm_sim_dynamic(wang["comb_img"], 0.2, 10, start=flags)
    assert torch.equal(found, share)


@pytest.mark.parametrize(("keep", "rounds"), [(13, 4), (39, 100), (40, 3), (1, 1)])
def test_the_dynamic_choice_equals_the_formula_as_loops(pairs, keep, rounds):
    pool = pairs(40)[0]
    left, step = list(range(40)), math.ceil((40 - keep) / rounds)
    while len(left) > keep:
        scores = {i: sum((pool[i] @ pool[j]).item() ** 2 for j in left) for i in left}
        worst = sorted(left, key=lambda i: scores[i])[: min(step, len(left) - keep)]
        left = [i for i in left if i not in worst]
    assert norm_sim_dynamic(pool, keep, rounds).tolist() == left


def test_what_has_no_target_is_refused(pairs):
    pool = pairs(10)[0]
    with pytest.raises(MedmclError, match="the target is empty"):
        norm_sim(pool, pool[:0], 2)
    with pytest.raises(MedmclError, match="12 and 5 dimensions"):
        norm_sim(pool, pairs(10, width=5)[0], 2)
    with pytest.raises(MedmclError, match="unknown power"):
        norm_sim(pool, pool, 4)
    target = pool.clone()
    target[4] = math.nan
    with pytest.raises(MedmclError, match="target: 1 of 10 rows"):
        norm_sim(pool, target, 2)


@pytest.mark.parametrize(("keep", "rounds"), [(0, 1), (11, 1), (0.0, 1), (5, 0), (0.01, 1)])
def test_a_dynamic_choice_that_cannot_be_made_is_refused(pairs, keep, rounds):
    with pytest.raises(MedmclError, match=r"keep must be|at least 1 round"):
        norm_sim_dynamic(pairs(10)[0], keep, rounds)


def test_a_start_outside_the_pool_is_refused(pairs):
    with pytest.raises(MedmclError, match="rows that the pool does not have"):
        norm_sim_dynamic(pairs(10)[0], 2, 1, start=torch.tensor([1, 2, 10]))
    with pytest.raises(MedmclError, match="a flag for each row"):
        norm_sim_dynamic(pairs(10)[0], 2, 1, start=torch.ones(9, dtype=torch.bool))
