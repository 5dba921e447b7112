"""What a stage must remember between steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from medmcl.engine.running_sums import Sums, on_the_first
from medmcl.engine.world import World

SPIKE_FACTOR = 10.0
"""A norm above so many times the running median is a spike."""
SPIKE_WINDOW = 100
"""Finite norms that the median is over, spikes among them."""
SPIKE_FEWEST = 20
"""Norms below which nothing is called a spike: the first steps of a run are steep."""


def is_spike(norm: float, before: Sequence[float]) -> bool:
    """Tell whether a norm is a spike.

    Args:
        norm: Of this step, before clipping; finite.
        before: Norms of the steps before, oldest first; the last `SPIKE_WINDOW` are used.
    """
    recent = before[-SPIKE_WINDOW:]
    return len(recent) >= SPIKE_FEWEST and norm > SPIKE_FACTOR * statistics.median(recent)


@dataclass
class Progress:
    """What a stage must remember between steps; saved with the weights."""

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    without_gain: int = 0
    last_tuning_loss: float = math.inf
    """That of the last evaluation; infinite before the first."""
    skipped_steps: int = 0
    empty_steps: int = 0
    """Steps whose batch no objective had rows to charge for."""
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    """Time that the stage has taken, also before it was interrupted."""
    data_wait_seconds: float = 0.0
    """Part of that time in which the first rank waited for rows to be read."""
    recent: dict[str, float] = field(default_factory=dict)
    judged_rows: int = 0
    """Rows of which a selector was asked whether they deserve a step, over all ranks."""
    kept_rows: int = 0
    """Rows it kept."""
    selection_seconds: float = 0.0
    """Time of judging and choosing."""
    gradient_spikes: int = 0
    """Steps whose gradient norm was a spike (`is_spike`)."""
    losses: list[float] = field(default_factory=list)
    """Losses of the last steps that were taken: as many as a tenth of the stage has."""
    first_losses: list[float] = field(default_factory=list)
    """Losses of as many first steps."""
    chances: list[float] = field(default_factory=list)
    """Chance level of each of ``losses``; NaN where nobody knows one."""
    norms: list[float] = field(default_factory=list)
    """Gradient norms of the last steps, before clipping."""
    largest_norm: float = 0.0
    """Largest gradient norm since the last line of the record."""
    sums: Sums = field(default_factory=dict)
    """What encoders reported of rows in the steps since that line: this rank's part."""

    def note(self, norm: float) -> None:
        """Add a step that was taken to what the next line of the record says."""
        self.gradient_spikes += is_spike(norm, self.norms)
        self.norms = [*self.norms, norm][-SPIKE_WINDOW:]
        self.largest_norm = max(self.largest_norm, norm)

    def remember(self, loss: float, chance: float, tenth: int) -> None:
        """Keep the loss of a step that was taken, and its chance level.

        Args:
            loss: The loss.
            chance: What embeddings that tell nothing would be charged; NaN if nobody knows.
            tenth: Steps that a tenth of the stage has.
        """
        if len(self.first_losses) < tenth:
            self.first_losses.append(loss)
        for kept, value in ((self.losses, loss), (self.chances, chance)):
            kept.append(value)
            del kept[:-tenth]

    def begin_line(self) -> None:
        """Forget what the line of the record that was just written has said."""
        self.largest_norm, self.sums = 0.0, {}

    def saved(self, world: World) -> dict[str, Any]:
        """Give plain values and CPU tensors, of all ranks together. All ranks must call it.

        What is summed moves to the first rank, so that a resumed run adds in the same order.
        """
        self.sums = on_the_first(self.sums, world)
        return {**vars(self), "sums": {name: x.cpu() for name, x in self.sums.items()}}

    @classmethod
    def resumed(cls, saved: Mapping[str, Any], world: World) -> Progress:
        """Take back what `saved` gave; what an older file does not have starts anew."""
        state = cls(**saved)
        for name, x in state.sums.items():
            own = x if world.leads else torch.zeros_like(x)
            state.sums[name] = own.to(world.device)
        return state
