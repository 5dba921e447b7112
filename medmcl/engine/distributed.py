"""Ranks: the same gradient on many processes as on one.

The engine wraps the learner in DDP, which *averages* gradients over ranks. What makes the average
equal the gradient of the global batch is in `charge`:

* ``gather`` objectives see the rows of all ranks, and every rank computes the whole value. The
  backward pass of the gather sums over ranks, the average divides by them.
* ``stream`` objectives see the rows of all ranks, too, where these are few. Of large batches they
  see presence and targets of all, but embeddings of their own rows, which go round the ranks in
  blocks (`medmcl.objectives.pairwise.tiles`): what a rank holds and computes falls with ranks.
* ``rows`` objectives see their own rows; a rank's mean is weighted by its share of the *global*
  count times the number of ranks. A mean of means would be wrong as soon as absence is uneven.

What is gathered is padded to one size with rows that are then dropped: collectives of unequal size
hang. Collectives of the backward pass use a process group of their own, so that their order
against DDP's does not matter. A decision to stop or to skip is taken by all ranks (`any_rank`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.contracts import Objective
from medmcl.encoders.synchronised import live_norms, nothing_of, synchronise_norms
from medmcl.engine.gathering import gather_embeddings, gather_rows
from medmcl.engine.world import (
    World,
    any_rank,
    barrier,
    broadcast,
    counts_of_ranks,
    pass_on,
    pick_device,
    start_world,
    stop_world,
    total,
)
from medmcl.objectives.pairwise.contrastive import worth_tiles
from medmcl.objectives.pairwise.tiles import ALONE, Ranks, rows_in_ring

__all__ = [
    "World",
    "any_rank",
    "barrier",
    "broadcast",
    "charge",
    "gather_embeddings",
    "gather_rows",
    "pick_device",
    "share_norms",
    "start_world",
    "stop_world",
    "tied",
    "wrap",
]

CHANCE = "chance"
"""Among terms, and in lines of the record: the loss of embeddings that tell nothing."""
Charged = Mapping[str, tuple[Objective, float]]


@dataclass(frozen=True)
class _Slot:
    """A term that an objective may charge, and what it charged here."""

    name: str
    weight: float
    by_rows: bool
    here: Term | None


def charge(
    objectives: Charged, seen: Mapping[str, Embeddings], batch: Batch, world: World
) -> tuple[Tensor, dict[str, tuple[Tensor, int]]]:
    """Add up what objectives charge, so that DDP's average is the gradient of the global batch.

    Args:
        objectives: Name to (objective, weight in the loss); one order on every rank.
        seen: View to what the model made of it.
        batch: This rank's rows.
        world: The ranks; all must call, also one without rows.

    Returns:
        The loss: its value is that of the global batch on every rank, its gradient is this rank's
        part. And each term's mean over the global batch (detached) with its count. A term that no
        rank has rows for is left out; without any term the loss is 0 and has no gradient. Under
        `CHANCE` what the loss would be if every term that knows its chance level were at it; absent
        if none does.
    """
    if world.size == 1:
        ring, ways = ALONE, dict.fromkeys(("rows", "gather", "stream"), seen)
    else:
        ring, ways = _views_by_way(objectives, seen, batch, world)
    # One slot for each term that an objective may charge, in an order all ranks share
    slots: list[_Slot] = []
    taken: set[str] = set()
    for name, (objective, weight) in objectives.items():
        by_rows = objective.across_ranks == "rows"
        views = {view: ways[objective.across_ranks][view] for view in objective.views}
        streams = ring is not ALONE and objective.across_ranks == "stream"
        with rows_in_ring(ring) if streams else nullcontext():
            answer = objective(views, batch if by_rows else next(iter(views.values())).batch)
        if not set(answer) <= set(objective.terms):
            raise RuntimeError(f"{name} charges {sorted(answer)}, declares {objective.terms}")
        for label in objective.terms:
            unique = label if label not in taken else f"{name}:{label}"
            taken.add(unique)
            slots.append(_Slot(unique, weight, by_rows, answer.get(label)))
    loss = torch.zeros((), device=batch.ids.device)
    value = torch.zeros_like(loss)
    chance = torch.zeros((), dtype=torch.float64, device=batch.ids.device)
    known = False
    terms: dict[str, tuple[Tensor, int]] = {}
    for slot, found in zip(slots, _over_ranks(slots, world), strict=True):
        if found is None:
            continue
        terms[slot.name] = (found.value, found.count)
        share = slot.weight * found.weight
        value = value + share * found.value
        known = known or found.chance is not None
        chance = chance + share * (found.value if found.chance is None else found.chance)
        if slot.here is not None:
            part = slot.here.count * world.size / found.count if slot.by_rows else 1.0
            loss = loss + slot.weight * slot.here.weight * part * slot.here.value
    if known:
        terms[CHANCE] = (chance.detach(), max(count for _, count in terms.values()))
    return (loss if world.size == 1 else loss + (value - loss).detach()), terms


def _ring(objectives: Charged, batch: Batch, world: World) -> tuple[Ranks, slice | None]:
    """Give the ranks, and which rows are this one's, if losses stream; else this rank alone."""
    ways = {objective.across_ranks for objective, _ in objectives.values()}
    if "stream" not in ways:
        return ALONE, None
    counts = counts_of_ranks(len(batch), world)
    if not worth_tiles(sum(counts) * world.size, world.device):
        return ALONE, None
    first = sum(counts[: world.rank])
    ring = Ranks(
        world.rank,
        world.size,
        tuple(counts),
        total=partial(total, world=world),
        pass_on=partial(pass_on, world=world),
    )
    return ring, slice(first, first + len(batch))


def _views_by_way(
    objectives: Charged, seen: Mapping[str, Embeddings], batch: Batch, world: World
) -> tuple[Ranks, dict[str, Mapping[str, Embeddings]]]:
    """Give the ranks, and each view as objectives see it, by how they behave across ranks.

    It is gathered once, with every field that some objective needs of it.
    """
    ring, own = _ring(objectives, batch, world)
    needed: dict[str, set[str]] = {}
    for objective, _ in objectives.values():
        if objective.across_ranks != "rows":
            stays = own is not None and objective.across_ranks == "stream"
            for view in objective.views:
                needed.setdefault(view, set()).update(() if stays else objective.gathers)
    whole = {view: gather_embeddings(seen[view], fields, world) for view, fields in needed.items()}
    streamed = (
        whole
        if own is None
        else {
            view: Embeddings(batch=replace(one.batch, own=own), pooled=seen[view].pooled)
            for view, one in whole.items()
        }
    )
    return ring, {"rows": seen, "gather": whole, "stream": streamed}


def _over_ranks(slots: list[_Slot], world: World) -> list[Term | None]:
    """Mean and count of every slot over the global batch, detached; None without rows."""
    by_rows = [slot for slot in slots if slot.by_rows]
    here = [slot.here for slot in slots]
    found = [None if one is None else replace(one, value=one.value.detach()) for one in here]
    if world.size == 1 or not by_rows:
        return found
    sums = torch.stack([_sums(slot.here, world.device) for slot in by_rows])
    dist.all_reduce(sums, group=world.group)
    counts, _, weights, chances = host.read(sums).T.tolist()
    totals: dict[str, Term | None] = {
        slot.name: Term(
            sums[i, 1] / counts[i],
            round(counts[i]),
            weights[i] / counts[i],
            None if math.isnan(chances[i]) else chances[i] / counts[i],
        )
        if counts[i]
        else None
        for i, slot in enumerate(by_rows)
    }
    return [totals[s.name] if s.by_rows else one for s, one in zip(slots, found, strict=True)]


def _sums(term: Term | None, device: torch.device) -> Tensor:
    """Count, and sums of values, weights and chance levels (NaN: unknown), (4,); 0 without rows."""
    if term is None:
        return torch.zeros(4, dtype=torch.float64, device=device)
    facts = torch.tensor([1.0, 0.0, term.weight, math.nan], dtype=torch.float64, device=device)
    facts[1] = term.value.detach()
    if term.chance is not None:
        facts[3] = term.chance
    return facts * term.count


def tied(loss: Tensor, seen: Mapping[str, Embeddings], towers: Mapping[str, nn.Module]) -> Tensor:
    """Tie the loss, by a zero, to what towers with synchronised batch norm gave.

    Their backward pass is a collective: a rank whose own rows charge nothing for a tower must go
    through it too. Other towers are left as they are.
    """
    parts = [
        getattr(embeddings, field).get(name)
        for name, tower in towers.items()
        if live_norms(tower)
        for embeddings in seen.values()
        for field in ("pooled", "features", "tokens")
    ]
    return loss + nothing_of(*parts) if parts else loss


class Ranked(nn.Module):
    """What DDP wraps: the learner, one parameter that touches every loss, and one that never does.

    DDP waits for every rank's backward pass. A rank whose rows lack every modality has a loss
    without gradient; the anchor, zero and never trained, lets it take part all the same. The spare
    keeps DDP from complaining of a batch in which, for once, nothing was absent. Both stay out of
    the learner, so neither the optimiser nor a checkpoint knows of them.
    """

    def __init__(self, learner: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.learner = learner
        self.anchor = nn.Parameter(torch.zeros(1, device=device))
        self.spare = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the learner gives: (loss, whatever else)."""
        loss, *rest = self.learner(*args, **kwargs)
        return (loss + 0.0 * self.anchor.sum(), *rest)


def wrap(learner: nn.Module, world: World) -> nn.Module:
    """Give the module to call in a training step: the learner, in DDP when there are ranks.

    ``learner``'s forward must give (loss, ...). Keep ``learner`` for its weights and its
    optimiser. Batch norm is turned into synchronised batch norm on GPUs, in place, with the process
    group of our own collectives: in DDP's, their order would differ between ranks. On a CPU it
    warns, for there its statistics are those of each rank's rows.
    """
    if world.size == 1:
        return learner
    return nn.parallel.DistributedDataParallel(
        Ranked(share_norms(learner, world), world.device),
        device_ids=[world.device.index] if world.device.type == "cuda" else None,
        find_unused_parameters=True,
    )


def share_norms(learner: nn.Module, world: World) -> nn.Module:
    """Give the learner with batch norms over the rows of all ranks, as `wrap` says."""
    norms = [
        module
        for module in learner.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm)
    ]
    if world.size == 1 or not norms:
        return learner
    if world.device.type == "cuda":
        return synchronise_norms(learner, world.group)
    warnings.warn(
        "batch norm across CPU processes: statistics are per rank, so the gradient is not that "
        "of one process; use encoders without batch norm, or GPUs",
        stacklevel=3,
    )
    return learner
