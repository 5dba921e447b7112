"""Vectors of trained models that copies of the process make: the same, and written in place."""

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medmcl.data.loading import worker_pool as processes
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.stages.run import run as runs

RECORDS, WIDTH = 600, 512
ROWS = np.random.default_rng(0).standard_normal((RECORDS, 4)).astype(np.float32)


class Towers(torch.nn.Module):
    """One tower, as far as `embed_records` asks."""

    def __init__(self):
        super().__init__()
        self.only = torch.nn.Linear(4, WIDTH)

    def tower(self, name):
        return SimpleNamespace(head=SimpleNamespace(width=WIDTH))

    def forward(self, batch):
        return SimpleNamespace(pooled={"x": self.only(batch.inputs["x"])})


@pytest.fixture
def embed():
    adapter = SimpleNamespace(plain=lambda x: x)
    prepared = SimpleNamespace(adapters={"x": adapter}, inputs=lambda name: ROWS)
    order = np.random.default_rng(1).permutation(RECORDS)
    towers, device = Towers(), torch.device("cpu")
    return lambda size: runs.embed_records(towers, prepared, "x", order, "pooled", device, size)


@pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux")
@pytest.mark.parametrize("size", [7, 1])
def test_vectors_are_the_same_and_copies_send_none(embed, size, monkeypatch):
    sent, received = [], processes.Connection.recv

    def recv(self):
        found = received(self)
        sent.append(len(pickle.dumps(found)))
        return found

    monkeypatch.setattr(processes, "_WORTH_COPIES", 0.0)
    monkeypatch.setattr(processes.Connection, "recv", recv)
    monkeypatch.setattr(runs, "bears_copies", lambda device: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = embed(size)
        assert sent == []
        with processes.worker_pool(3):
            together = embed(size)
    finally:
        torch.set_num_threads(threads)
    assert together.tobytes() == alone.tobytes()
    assert len(sent) == 2  # of two copies
    assert sum(sent) < alone.nbytes / 50


def test_a_stop_signal_ends_it_between_two_passes_where_somebody_listens(embed, monkeypatch):
    passes, real = [], runs.host.read
    monkeypatch.setattr(runs.host, "read", lambda x: passes.append(1) or real(x))
    with StopRequest() as stop:
        assert len(embed(100)) == RECORDS
        stop.asked = True
        passes.clear()
        with pytest.raises(Interrupted, match="embedding x: stopped"):
            embed(100)
        assert not passes
    embed(100)  # nobody listens any more
