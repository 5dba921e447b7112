"""Rows are read ahead: in order, the same by any number of readers; nobody reads on for ever."""

import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from medmcl.core.batch import Batch
from medmcl.engine import feed as feeds
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Plan
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.world import World

PLAN = Plan(stage="s", steps=40, steps_per_epoch=8, evaluate_every=9, log_every=9, seed=0,
            optimiser=OptimiserSettings())  # fmt: skip
STORED = np.random.default_rng(0).standard_normal((64, 5), dtype=np.float32)


def sampler(epoch):
    return iter(np.random.default_rng(epoch).permutation(64).reshape(8, 8))


def load(rows):
    return Batch(ids=torch.from_numpy(rows), inputs={"x": torch.from_numpy(STORED[rows])},
                 present={"x": torch.ones(len(rows), dtype=torch.bool)})  # fmt: skip


def readers():
    return [one for one in threading.enumerate() if one.name.startswith("reader")]


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("first", [0, 13])
def test_any_number_of_readers_gives_the_batches_of_a_plain_loop(number, first):
    def late(rows):
        time.sleep(0.002 * (rows[0] % 3))  # later ones are ready before earlier ones
        return load(rows)

    wanted = [rows for epoch in range(5) for rows in sampler(epoch)][first:]
    feed = Feed(sampler=sampler, load=late, readers=number)
    found = list(feed.batches(first, PLAN, World()))
    assert len(found) == len(wanted)
    for (rows, read), expected in zip(found, wanted, strict=True):
        assert np.array_equal(rows, expected)
        assert read.seen is None
        assert np.array_equal(read.batch.inputs["x"].numpy(), STORED[expected])
    assert readers() == []


def test_several_readers_read_at_once_and_the_loop_waits_for_what_is_slow_alone():
    all_read, plan = threading.Barrier(2), replace(PLAN, steps=8)
    at_once = Feed(sampler=sampler, load=lambda x: all_read.wait(5) < 2 and load(x), readers=2)
    assert len(list(at_once.batches(0, plan, World()))) == 8  # a barrier that waits too long raises
    slow = Feed(sampler=sampler, load=lambda rows: time.sleep(0.02) or load(rows), readers=1)
    began = time.perf_counter()
    list(slow.batches(0, plan, World()))
    assert 0.12 <= slow.wait.seconds <= time.perf_counter() - began
    quick = Feed(sampler=sampler, load=load)
    for _ in quick.batches(0, plan, World()):
        time.sleep(0.02)
    assert quick.wait.seconds < 0.06


def test_what_a_reader_raises_is_raised_at_its_step_and_no_thread_stays():
    def broken(rows):
        if rows[0] == list(sampler(0))[3][0]:
            raise RuntimeError("step 3 cannot be read")
        return load(rows)

    coming = Feed(sampler=sampler, load=broken).batches(0, PLAN, World())
    for _ in range(3):
        next(coming)
    with pytest.raises(RuntimeError, match="step 3"):
        next(coming)
    assert readers() == []


@pytest.mark.parametrize(
    ("room", "most"), [(1, 1), (3 * 8 * (5 * 4 + 8 + 1), 3), (2**28, feeds.MOST_AHEAD)]
)
def test_no_more_is_read_ahead_than_memory_is_granted_and_a_feed_that_is_closed_stops(
    room, most, monkeypatch
):
    monkeypatch.setattr(feeds, "AHEAD_BYTES", room)
    asked = []
    feed = Feed(sampler=sampler, load=lambda rows: asked.append(1) or load(rows))
    with closing(feed.batches(0, PLAN, World())) as coming:
        for number in range(1, 4):
            next(coming)
            time.sleep(0.02)
            assert len(asked) == number + (most if number > 1 else 1)
    assert readers() == []
    assert len(asked) <= 3 + most


def test_a_gpu_is_given_pages_that_it_copies_by_itself(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.shape) or x)
    world = World(device=torch.device("cuda", 0))
    feed = Feed(sampler=sampler, load=load)
    with closing(feed.batches(0, replace(PLAN, steps=1), world)) as coming:
        assert next(coming)[1].batch.inputs["x"].device.type == "cpu"
    assert sorted(pinned) == [(8,), (8,), (8, 5)]
    pinned.clear()
    list(feed.batches(0, replace(PLAN, steps=1), World()))
    assert pinned == []


def test_fewer_are_read_ahead_where_batches_grow(monkeypatch):
    """Small batches let eight be read ahead; of large ones no more than fit."""
    monkeypatch.setattr(feeds, "AHEAD_BYTES", 4 * load(np.arange(64)).nbytes // 64)
    read = []

    def growing(epoch):
        return iter([np.arange(size) for size in (1, 1, 1, 1, 64, 64, 64, 64)])

    feed = Feed(sampler=growing, load=lambda rows: read.append(len(rows)) or load(rows))
    for number, (rows, _) in enumerate(feed.batches(0, replace(PLAN, steps=40), World())):
        time.sleep(0.02)
        if len(rows) == 64:
            assert len(read) <= number + 1 + 4  # what was asked for while batches were small
        if number % 8 == 7:
            assert len(read) <= number + 1 + 1
