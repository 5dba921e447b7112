"""Learners of a run that stay in memory: each is built once to be trained, once to be read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmcl.engine.loop import Learner

MEMORY = 512 * 2**20
"""Bytes of weights that stay; of learners that are larger none does."""


class Learners:
    """As many learners as fit, the ones last asked for."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Learner] = {}

    def get(self, key: Hashable, build: Callable[[], Learner]) -> Learner:
        """Give the learner of a key; built if it is not there. Nobody may change it."""
        found = self._kept.pop(key, None) or build()
        self._kept[key] = found  # the newest
        while sum(one.nbytes for kept in self._kept.values() for one in kept.parameters()) > MEMORY:
            self._kept.pop(next(iter(self._kept)))
        return found

    def take(self, key: Hashable, build: Callable[[], Learner]) -> Learner:
        """Give the learner of a key to whoever changes it: it is forgotten here."""
        return self._kept.pop(key, None) or build()
