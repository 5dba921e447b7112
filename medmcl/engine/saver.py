"""Checkpoints that are written while training goes on: the state is copied, a thread writes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from torch import Tensor

from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.world import World

log = logging.getLogger("medmcl")


class Saver:
    """Saves steps of a stage, one at a time; inside a ``with`` block, whose end waits for the last.

    Training waits for the copy of what is saved, and for the step before where that is still being
    written. What is promised of `Checkpoints` holds: it writes them.

    Args:
        checkpoints: Where they go.
        world: Others are told that this rank must not be ended by force meanwhile.
    """

    def __init__(self, checkpoints: Checkpoints, world: World) -> None:
        self._checkpoints, self._peers = checkpoints, world.peers
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._written: Future[None] | None = None

    def save(
        self, step: int, weights: Mapping[str, Tensor], training: dict[str, Any], *, best: bool
    ) -> None:
        """Copy what is saved of a step, and have it written.

        Raises:
            DiskError: The step before could not be written.
        """
        self.wait()
        weights, training = copied(weights), copied(training)
        if self._peers is not None:
            self._peers.saving = True
        self._written = self._thread.submit(self._write, step, weights, training, best)

    def _write(
        self, step: int, weights: Mapping[str, Tensor], training: dict[str, Any], best: bool
    ) -> None:
        try:
            self._checkpoints.save(step, weights, training, best=best)
        finally:
            if self._peers is not None:
                self._peers.saving = False

    def check(self) -> None:
        """Raise what went wrong with a step that is no longer being written."""
        if self._written is not None and self._written.done():
            self.wait()

    def wait(self) -> None:
        """Wait until everything is written; raise what went wrong."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def knows_best(self) -> bool:
        """Whether a best step is saved."""
        self.wait()
        return self._checkpoints.find("best") is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except Exception as error:
            if kind is None:
                raise
            log.warning("the last step could not be saved: %s", error)
        finally:
            self._thread.shutdown()


def copied(value: Any) -> Any:
    """Give plain values and tensors as they are now, on the CPU: nothing is shared with them."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(one) for one in value)
    return value
