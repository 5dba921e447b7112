"""Records that an attacker changed as they were read, prepared as any other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmcl.core.contracts import Adapter, RecordRef
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.worker_pool import each

KEPT_BYTES = 2**28
"""So much of what was prepared is remembered; the rest is prepared whenever it is loaded."""

Change = Callable[[Any, str], Any]
"""From a record as read, and the id of its sample, to the record of the attacker."""


class PreparedAgain:
    """Reads, changes and prepares records: what the attacker's file would have become.

    Args:
        change: Of a module, or a partial of one: processes may be lent for it.
        name: The modality.
        prepared: The cohort.
    """

    def __init__(self, change: Change, name: str, prepared: Prepared) -> None:
        self.change = change
        self.work = partial(_prepared, prepared.adapters[name], change)
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        self.numbers = prepared.index(name)
        self.records: list[RecordRef] = list(prepared.cohort.records[name]["place"])
        stored = prepared.inputs(name)
        size = stored.dtype.itemsize * int(np.prod(stored.shape[1:]))
        self.most = KEPT_BYTES // max(1, size)
        self.kept: dict[int, np.ndarray] = {}

    def place(self, row: int) -> RecordRef:
        """Give where the record of a sample lies."""
        return self.records[self.numbers[row]]

    def __call__(self, x: Tensor, samples: np.ndarray) -> Tensor:
        """Give what is made of samples (P,), P >= 1, which have the modality; typed as ``x``.

        Raises:
            RecordError: A file is gone, or no longer what it was.
        """
        wanted = samples.tolist()
        new = [row for row in dict.fromkeys(wanted) if row not in self.kept]
        items = [(self.place(row), str(self.ids[row])) for row in new]
        made = dict(zip(new, each(self.work, items), strict=True))
        answer = np.stack([made[row] if row in made else self.kept[row] for row in wanted])
        for row in new[: max(0, self.most - len(self.kept))]:
            self.kept[row] = made[row]
        return torch.from_numpy(answer).to(x.dtype)


def _prepared(adapter: Adapter, change: Change, item: tuple[RecordRef, str]) -> np.ndarray:
    place, record = item
    return adapter.prepare(change(adapter.read(place), record))
