import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from medmcl.core.errors import MedmclError
from medmcl.selection import clip_score, rank_fusion, ranks, top_share, two_stage


def where(kept):
    return kept.nonzero().flatten().numpy()


@pytest.mark.parametrize("case", ["ncl0", "ncl1", "ncl3"])
def test_shares_equal_the_published_sets(wang, case):
    cosine = clip_score(wang[f"{case}_img"], wang[f"{case}_txt"])
    scores = torch.from_numpy(wang[f"{case}_negcliploss"])
    for share in (0.2, 0.3):
        chosen = where(top_share(scores, share))
        np.testing.assert_array_equal(chosen, wang[f"{case}_select_top{share}"])
        chosen = where(top_share(cosine, share))
        np.testing.assert_array_equal(chosen, wang[f"{case}_select_clipscore_top{share}"])


def test_the_pipeline_equals_the_published_sets(wang):
    first = torch.from_numpy(wang["comb_negcliploss"])
    np.testing.assert_array_equal(where(top_share(first, 0.3)), wang["comb_stage1"])
    for name in ("normsim2", "normsiminf"):
        kept = two_stage(first, torch.from_numpy(wang[f"comb_{name}"]))
        np.testing.assert_array_equal(where(kept), wang[f"comb_stage2_{name}"])


def test_the_second_stage_sees_survivors_only():
    first = torch.tensor([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    second = torch.arange(10.0)
    assert where(two_stage(first, second, 0.5, 0.2)).tolist() == [3, 4]


def test_ties_go_to_the_earlier_row():
    scores = torch.tensor([1.0, 2, 1, 2, 1])
    assert where(top_share(scores, 0.6)).tolist() == [0, 1, 3]
    assert ranks(scores).tolist() == [3, 1, 4, 2, 5]


def test_a_share_is_of_rows_as_a_person_counts_them():
    assert top_share(torch.rand(100), 0.29).sum() == 29  # 0.29 * 100 is 28.999999999999996


def test_fused_ranks_equal_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    expected = (2 * (rankdata(one) - 1) + (rankdata(other) - 1)) / (3 * 49)
    found = rank_fusion([torch.from_numpy(one), torch.from_numpy(other)], [2, 1])
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda x: top_share(x, 0.0), r"\(0, 1\]"),
        (lambda x: top_share(x, 0.1), "is no row"),
        (lambda x: top_share(x, 0.9, of=100), "fewer rows"),
        (lambda x: top_share(x * math.nan, 0.5), "5 scores are NaN"),
        (lambda x: two_stage(x, x, 0.2, 0.4), "second share"),
        (lambda x: two_stage(x, x[1:]), "same rows"),
        (lambda x: rank_fusion([x, x[1:]]), "same rows"),
        (lambda x: rank_fusion([x], [0.0]), "weights must be above 0"),
        (lambda x: rank_fusion([]), "same rows"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(choose, message):
    with pytest.raises(MedmclError, match=message):
        choose(torch.rand(5))
