"""Where a stage's rows come from: read ahead of the loop by a few threads, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medmcl.core.batch import Batch
from medmcl.core.contracts import Sampler, Selector
from medmcl.data.loading.views import View
from medmcl.engine.world import World, own_part

if TYPE_CHECKING:
    from medmcl.engine.loop import Plan

W = TypeVar("W")
READERS = 2
"""Threads that read. Rows are copied, and compared with their hashes, without Python's lock."""
MOST_AHEAD = 8
"""Batches that are read, or are being read, before the loop asks for them."""
AHEAD_BYTES = 2**28
"""Memory that they may hold together; one is read ahead however large it is."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Rows of the train split that no step trains on.

    Attributes:
        batches: Sample numbers, batch by batch.
        view: How they are shown; never disturbed.
    """

    batches: tuple[np.ndarray, ...]
    view: View


@dataclass(frozen=True)
class Read:
    """A batch, and its views where the thread that read it made them."""

    batch: Batch
    seen: Mapping[str, Batch] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds; what a view shares with the batch counts twice."""
        return self.batch.nbytes + sum(one.nbytes for one in (self.seen or {}).values())


@dataclass
class DataWait:
    """Seconds that the loop of this rank stood still since its rows were not there yet."""

    seconds: float = 0.0

    def on(self, coming: Future[Read]) -> Read:
        """Wait for what is read; what its reader raised is raised here."""
        began = time.perf_counter()
        try:
            return coming.result()
        finally:
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Where a stage's rows come from.

    Attributes:
        sampler: Epoch to global batches of sample numbers.
        load: Sample numbers to a CPU batch of prepared rows. Called by several threads at once, and
            what it gives depends on the numbers alone.
        tuning: Fixed batches of the tuning split; may be empty.
        selector: Which rows of a global batch deserve a step; None keeps all.
        probe: What parts of objectives that watch are shown; needed if there are any.
        readers: Threads that read.
        wait: What the loop waited for rows so far.
    """

    sampler: Sampler
    load: Callable[[np.ndarray], Batch]
    tuning: tuple[np.ndarray, ...] = ()
    selector: Selector | None = None
    probe: Probe | None = None
    readers: int = READERS
    wait: DataWait = field(default_factory=DataWait)

    def batches(
        self,
        first: int,
        plan: Plan,
        world: World,
        show: Callable[[int, np.ndarray, Batch], Mapping[str, Batch]] | None = None,
    ) -> Generator[tuple[np.ndarray, Read], None, None]:
        """Give each global batch from step ``first`` on, as sample numbers, and this rank's part.

        Whoever ends before the last batch closes it: what is being read then is waited for.
        ``show``: of a step's rows and batch the views, where threads that read make them, too.
        """

        def read(wanted: tuple[int, np.ndarray]) -> Read:
            batch = self._read(own_part(wanted[1], world)[0], world)
            return Read(batch, show and show(*wanted, batch))

        for (step, rows), coming in self._ahead(enumerate(self._rows(first, plan), first), read):
            world.at(f"{plan.stage}, reading rows of step {step + 1}", in_step=True)
            yield rows, self.wait.on(coming)

    def fixed(self, batches: Iterable[np.ndarray], world: World) -> Iterator[Batch]:
        """Give batches on the device of ``world``, whole on every rank: of tuning, of a probe."""
        for _, coming in self._ahead(batches, lambda rows: Read(self._read(rows, world))):
            yield self.wait.on(coming).batch.to(world.device)

    def _ahead(
        self, wanted: Iterable[W], read: Callable[[W], Read]
    ) -> Iterator[tuple[W, Future[Read]]]:
        """Give each of ``wanted`` and what is being read of it, in their order."""
        waiting: deque[tuple[W, Future[Read]]] = deque()
        pool, ahead = ThreadPoolExecutor(self.readers, "reader"), 1
        try:
            for one in wanted:
                waiting.append((one, pool.submit(read, one)))
                while len(waiting) > ahead:
                    yield waiting[0]
                    held = max(1, waiting.popleft()[1].result().nbytes)
                    ahead = max(1, min(MOST_AHEAD, AHEAD_BYTES // held))
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, rows: np.ndarray, world: World) -> Batch:
        """Read a batch, onto pages that a GPU can copy while the host goes on if there is one."""
        batch = self.load(rows)
        return batch.pinned() if world.device.type == "cuda" else batch

    def _rows(self, first: int, plan: Plan) -> Iterator[np.ndarray]:
        epoch, skip = divmod(first, plan.steps_per_epoch)
        step = first
        while step < plan.steps:
            for number, rows in enumerate(self.sampler(epoch)):
                if number < skip:
                    continue
                if step >= plan.steps:
                    return
                yield rows
                step += 1
            epoch, skip = epoch + 1, 0
