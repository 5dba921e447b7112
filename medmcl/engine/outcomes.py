"""What steps came to, kept on the device until the record asks: a GPU is not waited for each step.

On a CPU every step is settled at once. On a GPU a step that is not finite is skipped there, by
optimisers that can (`skips_by_itself`), and the host learns of it when it settles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from medmcl.core import host
from medmcl.engine.distributed import CHANCE
from medmcl.engine.gradient_cache import Terms
from medmcl.engine.running_sums import added
from medmcl.engine.state import Progress
from medmcl.engine.world import World


def not_finite(loss: Tensor, norm: Tensor, world: World) -> Tensor:
    """Tell, on the device and alike on every rank, whether a step must be skipped: 0 or 1, ()."""
    bad = (~(loss.detach().isfinite() & norm.isfinite())).to(torch.float32)
    if world.size > 1:
        dist.all_reduce(bad, op=dist.ReduceOp.MAX, group=world.group)
    return bad


def skips_by_itself(optimiser: torch.optim.Optimizer) -> bool:
    """Whether an optimiser moves nothing where its ``found_inf`` is 1: torch's fused ones."""
    return all(group.get("fused") for group in optimiser.param_groups)


@dataclass
class Outcomes:
    """Steps that were taken, or skipped, since the host last asked for their numbers."""

    names: list[tuple[str, ...]] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def add(self, bad: Tensor, loss: Tensor, norm: Tensor, terms: Terms) -> None:
        """Keep the numbers of a step, on their device."""
        named = {
            "loss": loss,
            "gradient_norm": norm,
            **{n: value for n, (value, _) in terms.items()},
        }
        self.names.append(tuple(named))
        self.values.append(
            torch.stack([x.detach().reshape(()).double() for x in (bad, *named.values())])
        )

    def settle(self, state: Progress, tenth: int) -> None:
        """Read what steps came to, in their order, and add it to what the stage remembers."""
        if not self.values:
            return
        found = host.read(torch.cat(self.values)).tolist()
        for names in self.names:
            bad, *values = found[: len(names) + 1]
            del found[: len(names) + 1]
            _note(state, bool(bad), dict(zip(names, values, strict=True)), tenth)
        self.names, self.values = [], []


def _note(state: Progress, bad: bool, values: Mapping[str, float], tenth: int) -> None:
    if bad:
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        return
    state.note(values["gradient_norm"])
    state.skipped_in_a_row = 0
    state.remember(values["loss"], values.get(CHANCE, math.nan), tenth)
    state.recent = dict(values)


def sums_of_taken(
    sums: Mapping[str, Tensor], more: Mapping[str, Tensor], bad: Tensor
) -> dict[str, Tensor]:
    """Add what encoders reported of the rows of a step, unless it was skipped."""
    return added(sums, {n: torch.where(bad > 0, torch.zeros_like(x), x) for n, x in more.items()})
