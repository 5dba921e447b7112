"""Stands in for Ray where it is not installed: the part of it that medmcl calls."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, local


class RayStub:
    """The part of Ray that is called, doing the work at once."""

    exceptions = types.SimpleNamespace(
        RayTaskError=type("RayTaskError", (Exception,), {}),
        RayError=type("RayError", (Exception,), {}),
    )

    def __init__(self, cpus=3.0, answers=True):
        self.said, self.cpus, self.answers = [], cpus, answers

    def is_initialized(self):
        return "init" in self.said and "shutdown" not in self.said

    def init(self, **_):
        if not self.answers:
            raise ConnectionError("nobody there")
        self.said.append("init")

    def shutdown(self):
        self.said.append("shutdown")

    def nodes(self):
        return [{}]

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def remote(self, function):
        return types.SimpleNamespace(
            remote=lambda *job: self.said.append(function.__name__) or function(*job)
        )

    def get(self, found):
        return found


def train_stub(monkeypatch):
    """Put `RayStub` and a trainer whose workers are threads in the place of Ray; give the stub."""
    here, agreed = local(), {}

    class Trainer:
        def __init__(self, work, *, train_loop_config, scaling_config, **_):
            self.work, self.given, self.count = work, train_loop_config, scaling_config.num_workers
            agreed["barrier"] = Barrier(self.count)

        def fit(self):
            with ThreadPoolExecutor(self.count) as pool:
                list(pool.map(self._be, range(self.count)))

        def _be(self, rank):
            here.rank, here.count = rank, self.count
            self.work(self.given)

    def broadcast_from_rank_zero(value):
        if here.rank == 0:
            agreed["value"] = value
        agreed["barrier"].wait(30)
        return agreed["value"]

    def get_context():
        names = {"get_world_rank": here.rank, "get_local_rank": here.rank,
                 "get_world_size": here.count}  # fmt: skip
        return types.SimpleNamespace(**{name: (lambda one=one: one) for name, one in names.items()})

    settings = dict.fromkeys(("FailureConfig", "RunConfig", "ScalingConfig"), types.SimpleNamespace)
    stub = RayStub()
    modules = {
        "ray": stub,
        "ray.train": types.SimpleNamespace(get_context=get_context, **settings),
        "ray.train.torch": types.SimpleNamespace(
            TorchTrainer=Trainer, TorchConfig=types.SimpleNamespace
        ),
        "ray.train.collective": types.SimpleNamespace(
            broadcast_from_rank_zero=broadcast_from_rank_zero
        ),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return stub
