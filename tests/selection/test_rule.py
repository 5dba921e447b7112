import numpy as np
import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.selection import norm_sim_dynamic, rank_fusion, top_share, two_stage
from medmcl.selection.ranking import Step, follow, written


@pytest.fixture
def scores():
    generator = torch.Generator(device="cpu").manual_seed(0)
    return {name: torch.randn(40, generator=generator, device="cpu") for name in ("a", "b", "c")}


def share(by, part):
    return Step(by=(by,) if isinstance(by, str) else by, share=part)


def test_two_steps_are_the_published_pipeline(wang):
    first = torch.from_numpy(wang["comb_negcliploss"])
    for name in ("normsim2", "normsiminf"):
        both = {"a": first, "b": torch.from_numpy(wang[f"comb_{name}"])}
        kept = follow([share("a", 0.3), share("b", 0.2)], both)
        np.testing.assert_array_equal(kept.nonzero().flatten(), wang[f"comb_stage2_{name}"])
        assert torch.equal(kept, two_stage(both["a"], both["b"]))


def test_three_steps_as_slow_loops(scores):
    left = list(range(40))
    for name, number in (("a", 30), ("b", 20), ("c", 5)):
        left = sorted(left, key=lambda row: (-scores[name][row].item(), row))[:number]
    rule = [share("a", 0.75), share("b", 0.5), share("c", 0.125)]
    assert follow(rule, scores).nonzero().flatten().tolist() == sorted(left)


def test_several_scores_of_a_step_are_fused_over_the_pool(scores):
    fused = top_share(rank_fusion([scores["a"], scores["b"]]), 0.25)
    assert torch.equal(follow([share(("a", "b"), 0.25)], scores), fused)


def test_a_threshold_stays_where_it_is(scores):
    kept = follow([share("a", 0.5), Step(by=("b",), at_least=0.3)], scores)
    assert torch.equal(kept, top_share(scores["a"], 0.5) & (scores["b"] >= 0.3))


def test_a_chooser_sees_what_is_left_and_how_many_to_keep(scores):
    generator = torch.Generator(device="cpu").manual_seed(1)
    image = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator, device="cpu"))

    def choose(left, number):
        return norm_sim_dynamic(image, number, 3, start=left)

    kept = follow([share("a", 0.5), share("self", 0.25)], scores, {"self": choose})
    start = top_share(scores["a"], 0.5).nonzero().flatten()
    expected = norm_sim_dynamic(image, 10, 3, start=start)
    assert torch.equal(kept.nonzero().flatten(), expected)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([share("x", 0.5)], "unknown score 'x'"),
        ([share("a", 0.2), share("b", 0.3)], "8 rows left"),
        ([share("a", 0.01)], "no row"),
        ([Step(by=("a",), at_least=99.0)], "no row has a of at least 99"),
    ],
)
def test_rules_that_cannot_be_followed_say_why(scores, rule, words):
    with pytest.raises(MedmclError) as error:
        follow(rule, scores)
    assert words in str(error.value)


def test_a_rule_in_words():
    rule = [share("ncl", 0.3), share(("a", "b"), 0.2), Step(by=("c",), at_least=0.5)]
    assert written(rule) == (
        "best 30 % of the pool by ncl, then best 20 % of the pool by a + b, then c of at least 0.5"
    )
