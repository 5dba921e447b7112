from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_batches import batch_of
from processes import ranks_of
from torch import nn

from medmcl.core.batch import Embeddings, Term
from medmcl.core.errors import ConfigError
from medmcl.engine.distributed import (
    World,
    any_rank,
    broadcast,
    charge,
    gather_embeddings,
    gather_rows,
    pick_device,
    start_world,
    stop_world,
    wrap,
)

PRESENCE = (
    "everybody",
    "patchy",
    "one pair only on rank 0",
    "nothing on rank 1",
    "no row on rank 1",
    "dropped in one view, not in another",
    "negatives of a row's own group",
    "one modality nowhere",
)

OPTIMISERS = ("adamw", "in parts, with a mean of weights", "muon")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes found; they are started once for all checks."""
    worker = Path(__file__).with_name("two_ranks.py")
    return ranks_of(worker, tmp_path_factory.mktemp("ranks"), timeout=240)


@pytest.mark.dist
@pytest.mark.parametrize(
    ("precision", "bound"),
    [("float64", 1e-10), ("float32", 1e-5), ("in parts", 1e-10), ("in tiles", 1e-10)],
)
@pytest.mark.parametrize("presence", PRESENCE)
def test_two_ranks_step_like_one(ranks, precision, bound, presence):
    for rank in ranks:
        found = rank[precision][presence]
        assert found["gradient"] < bound
        assert found["loss"] < bound
        assert found["terms"] < bound
        assert found["counts"]
        assert found["untouched"] == []


@pytest.mark.dist
def test_losses_that_step_like_one_in_tiles_sent_blocks_round_and_gathered_nothing_learned(ranks):
    for rank in ranks:
        assert rank["in tiles"]["gathered"]  # who has what
        assert not any(rank["in tiles"]["gathered"])
        assert rank["in tiles"]["in parts"]["gradient"] < 1e-10
        assert rank["in tiles"]["tiled"].keys() == {"tiled_info_nce", "tiled_sigmoid"}
        assert min(rank["in tiles"]["tiled"].values()) > 3


@pytest.mark.dist
def test_a_shared_tower_with_experts_steps_and_routes_like_one(ranks):
    for rank in ranks:
        for case, found in rank["shared"].items():
            assert ("router/load" in found["terms"]) == (case != "without noise"), case
            assert found["gradient"] < 1e-8, case
            assert found["loss"] < 1e-10, case
            assert found["routing"] < 1e-12, case
            assert found["sums"] < 1e-11, case
            assert found["untouched"] == [], case
            assert found["dropped"] > 0, case
            assert found["bias"] == 0, case
            assert (found["moved"] > 0) == (case not in ("experts choose", "blocks run again"))


@pytest.mark.dist
def test_every_objective_alone_steps_like_one(ranks):
    for rank in ranks:
        for name, found in rank["alone"].items():
            assert found["gradient"] < 1e-10, name
            assert found["loss"] < 1e-10, name
            assert found["charged"], name


@pytest.mark.dist
def test_steps_with_changing_absence_lead_to_the_same_weights(ranks):
    for rank in ranks:
        assert rank["training"] < 1e-9


@pytest.mark.dist
def test_a_mean_of_means_would_have_been_wrong(ranks):
    assert all(rank["naive"] > 0.01 for rank in ranks)


@pytest.mark.dist
def test_gathered_embeddings_are_those_of_the_global_batch(ranks):
    for rank in ranks:
        assert all(rank["gathering"].values()), rank["gathering"]
        assert rank["rows"]


@pytest.mark.dist
def test_what_watches_concludes_the_same_on_every_rank(ranks):
    first, second = (rank["watching"] for rank in ranks)
    assert first == second
    assert first["rows"] == first["history"] == 1
    assert first["quiet"] == []
    assert len(first["row"]["scores"]) == 3


@pytest.mark.dist
def test_ranks_that_differ_all_raise_instead_of_hanging(ranks):
    for rank in ranks:
        gathered, in_ring = rank["unlike"]
        assert "different modalities" in gathered
        assert "different modalities" in in_ring


@pytest.mark.dist
def test_decisions_are_taken_together(ranks):
    for rank in ranks:
        assert rank["any"] == [True, False]
        assert rank["broadcast"] == {"from": 0}


@pytest.mark.dist
def test_batch_norm_on_cpu_ranks_is_warned_of(ranks):
    for rank in ranks:
        assert len(rank["batch_norm"]) == 1
        assert "statistics are per rank" in rank["batch_norm"][0]


class Charges(nn.Module):
    """An objective that charges what it is told."""

    views = ("plain",)
    gathers = ()
    across_ranks = "rows"

    def __init__(self, terms, answer):
        super().__init__()
        self.terms, self.answer = terms, answer

    def forward(self, seen, batch):
        return self.answer


@pytest.fixture
def seen():
    batch = batch_of({"ecg": torch.zeros(2, 3, device="cpu")})
    return {"plain": Embeddings(batch=batch, pooled={"ecg": torch.zeros(2, 4, device="cpu")})}


def number(value):
    return torch.tensor(value, device="cpu", requires_grad=True)


def test_the_loss_is_the_weighted_sum_of_terms(seen):
    first = Charges(("a", "b"), {"a": Term(number(2.0), 5, 0.25), "b": Term(number(3.0), 4, 0.75)})
    second = Charges(("a",), {"a": Term(number(7.0), 2)})
    loss, terms = charge(
        {"x": (first, 2.0), "y": (second, 0.5)}, seen, seen["plain"].batch, World()
    )
    assert loss.item() == pytest.approx(2 * (0.25 * 2 + 0.75 * 3) + 0.5 * 7)
    assert {name: (value.item(), count) for name, (value, count) in terms.items()} == {
        "a": (2.0, 5),
        "b": (3.0, 4),
        "y:a": (7.0, 2),
    }
    assert not any(value.requires_grad for value, _ in terms.values())


def test_without_any_term_there_is_nothing_to_step_on(seen):
    loss, terms = charge({"x": (Charges(("a",), {}), 1.0)}, seen, seen["plain"].batch, World())
    assert terms == {}
    assert loss.item() == 0
    assert not loss.requires_grad


def test_a_term_that_was_not_declared_is_our_own_mistake(seen):
    wrong = Charges(("a",), {"b": Term(number(1.0), 1)})
    with pytest.raises(RuntimeError, match="declares"):
        charge({"x": (wrong, 1.0)}, seen, seen["plain"].batch, World())


def test_a_world_of_one_changes_nothing(seen, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    world = start_world("cpu")
    assert (world.rank, world.size, world.device.type, world.leads) == (0, 1, "cpu", True)
    assert any_rank(True, world)
    assert not any_rank(False, world)
    assert broadcast("x", world) == "x"
    x = torch.ones(2, 3, device="cpu")
    assert gather_rows(x, world) is x
    assert gather_embeddings(seen["plain"], ("pooled",), world) is seen["plain"]
    layer = nn.Linear(2, 2)
    assert wrap(layer, world) is layer
    stop_world(world)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="unknown device"):
        pick_device("tpu")
    assert pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        assert pick_device("auto").type == "cpu"
        with pytest.raises(ConfigError, match="no CUDA device"):
            pick_device("cuda")


def test_ranks_select_as_one_process_and_share_evenly(ranks):
    for rank in ranks:
        assert all(rank["selecting"]["kept"])
        assert all(rank["selecting"]["history"])
    rows = [rank["selecting"]["rows"] for rank in ranks]
    assert max(rows) - min(rows) <= 1


@pytest.mark.dist
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_shared_optimiser_steps_like_one_also_where_ranks_change_on_resume(ranks, name):
    losses = ranks[0]["sharded"][name]["losses"]
    expected = losses.pop("one")
    assert len(expected) == 10
    assert max(expected) - min(expected) > 0.01
    assert losses.keys() == {"two", "two-one", "one-two"}
    for how, found in losses.items():
        assert found == pytest.approx(expected, rel=1e-5), how


@pytest.mark.dist
@pytest.mark.parametrize("name", OPTIMISERS)
def test_weights_are_those_of_ranks_that_do_not_share(ranks, name):
    for rank in ranks:
        assert rank["sharded"][name]["same as not sharded"]
        assert rank["sharded"][name]["state"]["weights"]


@pytest.mark.dist
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_rank_remembers_its_share_and_what_is_saved_is_whole(ranks, name):
    told = [rank["sharded"][name]["state"] for rank in ranks]
    assert sum(one["numbers"] for one in told) == told[0]["of"]
    assert max(one["numbers"] for one in told) < 0.6 * told[0]["of"]
    assert [one["kept"] for one in told] == [one["numbers"] for one in told]
    assert told[0]["whole"]
