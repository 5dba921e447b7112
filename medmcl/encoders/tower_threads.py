"""Towers encoded at the same time, a thread for each: forward, and backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Fields = dict[str, Tensor]
"""What a tower makes of a batch: fields of `medmcl.core.batch.Embeddings`."""


@contextmanager
def towers_at_once(model: Any, count: int) -> Iterator[None]:
    """Let a model encode its towers at the same time, unless two of them have a weight in common.

    Args:
        model: Its ``towers`` are modules by name; it asks its ``threads`` to encode them.
        count: Threads; of one it has none.
    """
    towers: list[nn.Module] = list(model.towers.values())
    weights = [{id(x) for x in chain(one.parameters(), one.buffers())} for one in towers]
    if count == 1 or len(set().union(*weights)) < sum(map(len, weights)):
        yield
        return
    threads = TowerThreads(count)
    model.threads = threads
    try:
        yield
    finally:
        model.threads = None
        threads.close()


class TowerThreads:
    """Threads for the towers of a model on a CPU, in float32.

    Each tower computes in one thread what it computes alone, in the same order: every output and
    gradient is the same to the last bit. Where towers draw random numbers (dropout) the order of
    threads would decide who draws which, so those are encoded one after another. Whether they draw
    is seen in the first batch that all of them have rows of, in training and in evaluation; numbers
    of other generators than torch's own are not seen. There is one backward pass, of the loss.

    Args:
        count: Threads.
    """

    def __init__(self, count: int) -> None:
        # asked, torch has a new thread compute by as many as this one; OpenMP does as its setting
        self._pool = ThreadPoolExecutor(count, "tower", torch.get_num_threads)
        self._draws: dict[bool, bool] = {}

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def encode(
        self, towers: Mapping[str, Callable[[], Fields]], *, trains: bool, whole: bool
    ) -> dict[str, Fields]:
        """Do what encodes each tower, at the same time if no random numbers are drawn.

        Args:
            towers: Name to what encodes; several.
            trains: Whether they are in training mode.
            whole: Whether all have rows.
        """
        before = torch.get_rng_state()
        if self._draws.get(trains, True):
            done = {name: encode() for name, encode in towers.items()}
            if whole and trains not in self._draws:
                self._draws[trains] = not torch.equal(before, torch.get_rng_state())
            return done
        done = dict(zip(towers, self._all(list(towers.values())), strict=True))
        if not torch.equal(before, torch.get_rng_state()):
            self._draws[trains] = True
            warnings.warn(
                "a tower drew random numbers, and had drawn none of earlier batches: in this batch "
                "the order of threads decided which; towers go on one after another",
                stacklevel=2,
            )
        return _cut(done, self._all) if torch.is_grad_enabled() else done

    def _all(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Do all at the same time, each with this thread's context; raise of the first that fails.

        What another thread does not have from this one is set anew: whether a graph is made.
        """
        graph = torch.is_grad_enabled()
        coming = [
            self._pool.submit(copy_context().run, partial(_with_graph, graph, work))
            for work in works
        ]
        wait(coming)
        return [one.result() for one in coming]


def _with_graph(graph: bool, work: Callable[[], Any]) -> Any:
    with torch.set_grad_enabled(graph):
        return work()


def _cut(done: dict[str, Fields], run: Callable[..., object]) -> dict[str, Fields]:
    """Give outputs whose gradients go on into each tower's graph in a thread of its own."""
    learns = [
        {field: x for field, x in fields.items() if x.requires_grad} for fields in done.values()
    ]
    if not any(learns):
        return done
    begin = torch.zeros((), device="cpu", requires_grad=True)
    ends = iter(_Graphs.apply(begin, [list(own.values()) for own in learns], run))
    return {
        name: {**fields, **{field: next(ends) for field in own}}
        for (name, fields), own in zip(done.items(), learns, strict=True)
    }


class _Graphs(torch.autograd.Function):
    """Graphs of towers as one step of the graph of a loss."""

    @staticmethod
    def forward(
        ctx: Any, _begin: Tensor, graphs: list[list[Tensor]], run: Callable[..., object]
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.graphs, ctx.run = graphs, run
        return tuple(x.detach() for own in graphs for x in own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None, None]:
        if ctx.graphs is None:
            raise RuntimeError("towers encoded by threads have one backward pass, and had it")
        graphs, coming, works = ctx.graphs, iter(grads), []
        ctx.graphs = None
        for own in graphs:
            pairs = [(x, grad) for x in own if (grad := next(coming)) is not None]
            if pairs:
                tensors, own_grads = zip(*pairs, strict=True)
                works.append(partial(torch.autograd.backward, tensors, own_grads))
        ctx.run(works)
        return None, None, None
