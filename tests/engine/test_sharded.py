"""Ranks that share out the optimiser's state: the weights of those that do not, and of one rank."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ranks_of

NAMES = ("adamw", "in parts, with a mean of weights", "muon")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes found; they are started once for all checks."""
    worker = Path(__file__).with_name("sharded_ranks.py")
    return ranks_of(worker, tmp_path_factory.mktemp("ranks"), timeout=240)


@pytest.mark.dist
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_one_process_also_where_the_number_changes_on_resume(ranks, name):
    losses = ranks[0][name]["losses"]
    expected = losses.pop("one")
    assert len(expected) == 10
    assert max(expected) - min(expected) > 0.01
    assert losses.keys() == {"two", "two-one", "one-two"}
    for how, found in losses.items():
        assert found == pytest.approx(expected, rel=1e-5), how


@pytest.mark.dist
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_ranks_that_do_not_share(ranks, name):
    for rank in ranks:
        assert rank[name]["same as not sharded"]
        assert rank[name]["state"]["weights"]


@pytest.mark.dist
@pytest.mark.parametrize("name", NAMES)
def test_a_rank_remembers_its_share_and_what_is_saved_is_whole(ranks, name):
    told = [rank[name]["state"] for rank in ranks]
    assert sum(one["numbers"] for one in told) == told[0]["of"]
    assert max(one["numbers"] for one in told) < 0.6 * told[0]["of"]
    assert [one["kept"] for one in told] == [one["numbers"] for one in told]
    assert told[0]["whole"]
