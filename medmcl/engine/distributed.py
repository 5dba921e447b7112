"""Ranks: the same gradient on many processes as on one.

The engine wraps the learner in DDP, which *averages* gradients over ranks. What makes the average
equal the gradient of the global batch is in `charge`:

* ``gather`` objectives see the rows of all ranks, and every rank computes the whole value. The
  backward pass of the gather sums over ranks, the average divides by them.
* ``rows`` objectives see their own rows; a rank's mean is weighted by its share of the *global*
  count times the number of ranks. A mean of means would be wrong as soon as absence is uneven.

What is gathered is padded to one size with rows that are then dropped: collectives of unequal size
hang. Collectives of the backward pass use a process group of their own, so that their order
against DDP's does not matter. A decision to stop or to skip is taken by all ranks (`any_rank`).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.contracts import Objective
from medmcl.core.errors import ConfigError, MedmclError

V = TypeVar("V")
Charged = Mapping[str, tuple[Objective, float]]


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Where this process computes.
        group: Process group of our own collectives; None in a world of one.
        started: Whether `start_world` made the default process group (and `stop_world` ends it).
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None
    started: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def start_world(device: str = "auto", *, init_method: str | None = None) -> World:
    """Join the processes that torchrun (or Ray) started, or be the only one.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        init_method: How ranks find one another; the environment's way if not given.

    Raises:
        ConfigError: If a GPU is asked for and there is none for this process.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        return World(device=place)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    started = not dist.is_initialized()
    if started:
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=size,
            device_id=place if place.type == "cuda" else None,
        )
    return World(rank, size, place, dist.new_group(), started)


def stop_world(world: World) -> None:
    """Leave the processes that `start_world` joined."""
    if world.size > 1 and world.started and dist.is_initialized():
        dist.destroy_process_group()


def pick_device(device: str, local_rank: int = 0) -> torch.device:
    """Choose the device of a process: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "cuda") and not device.startswith("cuda:"):
        raise ConfigError("unknown device", got=device, expected="auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here", got=device, mend="use --device cpu")
    number = device.removeprefix("cuda:") if ":" in device else str(local_rank)
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no CUDA device {number}",
            expected=f"a number below {torch.cuda.device_count()}",
            mend="start no more processes on a machine than it has GPUs",
        )
    return torch.device("cuda", int(number))


def any_rank(flag: bool, world: World) -> bool:
    """Tell every rank whether ``flag`` holds on at least one. All ranks must call it."""
    if world.size == 1:
        return flag
    raised = torch.tensor([int(flag)], device=world.device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=world.group)
    return bool(raised.item())


def broadcast(value: V, world: World) -> V:
    """Give every rank what rank 0 holds (any value that can be pickled between our own ranks)."""
    if world.size == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, group=world.group, device=world.device)
    received: V = box[0]
    return received


def barrier(world: World) -> None:
    """Wait until every rank is here."""
    any_rank(False, world)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        parts = [torch.empty_like(x) for _ in range(world.size)]
        dist.all_gather(parts, x, group=world.group)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        world: World = ctx.world
        total = grad.contiguous().clone()
        dist.all_reduce(total, group=world.group)
        return total.chunk(world.size)[world.rank], None


def gather_rows(x: Tensor, world: World) -> Tensor:
    """Stack the rows of all ranks in rank order; gradients flow back to the rank a row came from.

    The gradient of a row is the *sum* over ranks of what each does with it. All ranks must call it,
    with one shape and type.

    Args:
        x: (B, ...), the same on every rank.
        world: The ranks.

    Returns:
        (ranks * B, ...).
    """
    if world.size == 1:
        return x
    if torch.is_grad_enabled() and x.is_floating_point() and not x.requires_grad:
        # The backward pass is a collective too: a rank with nothing to learn takes part in it.
        x = x.detach().requires_grad_()
    rows: Tensor = _GatherRows.apply(x.contiguous(), world)
    return rows


def gather_embeddings(embeddings: Embeddings, fields: Iterable[str], world: World) -> Embeddings:
    """Give the embeddings of the global batch, in rank order, differentiably.

    Ranks may hold different numbers of rows. Presence, targets and what is known come along;
    inputs and masks do not: empty tensors stand where inputs were.

    Args:
        embeddings: What this rank's model gave.
        fields: Which of ``pooled``, ``features``, ``tokens`` to gather.
        world: The ranks; all must call with the same fields.

    Raises:
        MedmclError: On every rank, if ranks differ in modalities, tasks or shapes.
    """
    if world.size == 1:
        return embeddings
    values = {
        (group, name): getattr(embeddings, group)[name]
        for group in sorted(set(fields))
        for name in sorted(getattr(embeddings, group))
    }
    facts = _facts(embeddings, with_padding="tokens" in set(fields))
    counts = _agree(embeddings, values, facts, world)
    most = max(counts)
    kept = torch.cat(
        [
            torch.arange(count, device=world.device) + rank * most
            for rank, count in enumerate(counts)
        ]
    )
    gathered_facts = _unpack(
        gather_rows(_pad(_pack(facts, torch.float64), most), world)[kept], facts
    )
    gathered: dict[tuple[str, str], Tensor] = {}
    if values:
        width = max((value.dtype for value in values.values()), key=lambda dtype: dtype.itemsize)
        gathered = _unpack(gather_rows(_pad(_pack(values, width), most), world)[kept], values)
    return _rebuild(embeddings, gathered_facts, gathered, len(kept))


Tensors = Mapping[tuple[str, str], Tensor]


def _facts(embeddings: Embeddings, *, with_padding: bool) -> dict[tuple[str, str], Tensor]:
    batch = embeddings.batch
    facts = {("ids", ""): batch.ids}
    for group in ("present", "targets", "known"):
        named = getattr(batch, group)
        facts.update({(group, name): named[name] for name in sorted(named)})
    if with_padding:
        facts.update({("padding", n): embeddings.padding[n] for n in sorted(embeddings.padding)})
    return facts


def _agree(embeddings: Embeddings, values: Tensors, facts: Tensors, world: World) -> list[int]:
    """Rows of every rank; raises on all ranks at once if what they hold is not alike."""
    layout = [
        (key, tuple(tensor.shape[1:]), str(tensor.dtype))
        for tensors in (facts, values)
        for key, tensor in tensors.items()
    ]
    digest = hashlib.blake2b(repr(layout).encode(), digest_size=7).digest()
    mine = [len(embeddings.batch), int.from_bytes(digest, "big")]
    told = torch.empty(world.size, 2, dtype=torch.int64, device=world.device)
    parts = list(told.split(1))
    dist.all_gather(
        parts, torch.tensor([mine], dtype=torch.int64, device=world.device), group=world.group
    )
    counts, digests = zip(*torch.cat(parts).tolist(), strict=True)
    if len(set(digests)) > 1:
        raise MedmclError(
            "ranks hold embeddings of different modalities, tasks or shapes",
            where=f"rank {world.rank} of {world.size}",
            got=layout,
            expected="the same names, shapes and types on every rank; only rows may differ",
        )
    return list(counts)


def _pack(tensors: Tensors, dtype: torch.dtype) -> Tensor:
    """Lay tensors side by side, (B, columns)."""
    return torch.cat([t.reshape(len(t), -1).to(dtype) for t in tensors.values()], 1)


def _pad(x: Tensor, rows: int) -> Tensor:
    return functional.pad(x, (0, 0, 0, rows - len(x)))


def _unpack(packed: Tensor, like: Tensors) -> dict[tuple[str, str], Tensor]:
    widths = [tensor.shape[1:].numel() for tensor in like.values()]
    return {
        key: part.reshape(len(packed), *tensor.shape[1:]).to(tensor.dtype)
        for (key, tensor), part in zip(like.items(), packed.split(widths, 1), strict=True)
    }


def _rebuild(local: Embeddings, facts: Tensors, values: Tensors, rows: int) -> Embeddings:
    def named(tensors: Tensors, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensors[group, name] for name in like if (group, name) in tensors}

    old = local.batch
    batch = Batch(
        ids=facts["ids", ""],
        inputs={name: x.new_zeros((rows, 0)) for name, x in old.inputs.items()},
        present=named(facts, "present", old.present),
        targets=named(facts, "targets", old.targets),
        known=named(facts, "known", old.known),
    )
    return Embeddings(
        batch=batch,
        pooled=named(values, "pooled", local.pooled),
        features=named(values, "features", local.features),
        tokens=named(values, "tokens", local.tokens),
        padding=named(facts, "padding", local.padding),
        stats=local.stats,
    )


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
        rank has rows for is left out; without any term the loss is 0 and has no gradient.
    """
    slots = _ask(objectives, seen, batch, world)
    loss = torch.zeros((), device=batch.ids.device)
    value = torch.zeros((), device=batch.ids.device)
    terms: dict[str, tuple[Tensor, int]] = {}
    for slot, total in zip(slots, _over_ranks(slots, world), strict=True):
        if total is None:
            continue
        terms[slot.name] = (total.value, total.count)
        value = value + slot.weight * total.weight * total.value
        if slot.here is not None:
            part = slot.here.count * world.size / total.count if slot.by_rows else 1.0
            loss = loss + slot.weight * slot.here.weight * part * slot.here.value
    return (loss if world.size == 1 else loss + (value - loss).detach()), terms


def _ask(
    objectives: Charged, seen: Mapping[str, Embeddings], batch: Batch, world: World
) -> list[_Slot]:
    """Ask every objective; one slot for each term it may charge, in an order all ranks share."""
    whole = _gather_views(objectives, seen, world)
    slots: list[_Slot] = []
    taken: set[str] = set()
    for name, (objective, weight) in objectives.items():
        by_rows = objective.across_ranks == "rows"
        views = {view: (seen if by_rows else whole)[view] for view in objective.views}
        answer = objective(views, batch if by_rows else next(iter(views.values())).batch)
        if not set(answer) <= set(objective.terms):
            raise RuntimeError(f"{name} charges {sorted(answer)}, declares {objective.terms}")
        for label in objective.terms:
            unique = label if label not in taken else f"{name}:{label}"
            taken.add(unique)
            slots.append(_Slot(unique, weight, by_rows, answer.get(label)))
    return slots


def _gather_views(
    objectives: Charged, seen: Mapping[str, Embeddings], world: World
) -> dict[str, Embeddings]:
    """Gather each view once, with every field that some objective needs of it."""
    needed: dict[str, set[str]] = {}
    for objective, _ in objectives.values():
        if objective.across_ranks == "gather":
            for view in objective.views:
                needed.setdefault(view, set()).update(objective.gathers)
    return {view: gather_embeddings(seen[view], fields, world) for view, fields in needed.items()}


def _over_ranks(slots: list[_Slot], world: World) -> list[Term | None]:
    """Mean and count of every slot over the global batch, detached; None without rows."""
    by_rows = [slot for slot in slots if slot.by_rows]
    if world.size == 1 or not by_rows:
        return [None if s.here is None else _detached(s.here) for s in slots]
    sums = torch.stack([_sums(slot.here, world.device) for slot in by_rows])
    dist.all_reduce(sums, group=world.group)
    counts, weights = sums[:, 0].tolist(), sums[:, 2].tolist()
    totals: dict[str, Term | None] = {
        slot.name: Term(sums[i, 1] / counts[i], round(counts[i]), weights[i] / counts[i])
        if counts[i]
        else None
        for i, slot in enumerate(by_rows)
    }
    return [
        totals[s.name] if s.by_rows else None if s.here is None else _detached(s.here)
        for s in slots
    ]


def _sums(term: Term | None, device: torch.device) -> Tensor:
    """Count, sum of values and sum of weights, (3,); zeros without rows."""
    if term is None:
        return torch.zeros(3, dtype=torch.float64, device=device)
    facts = torch.tensor([1.0, 0.0, term.weight], dtype=torch.float64, device=device)
    facts[1] = term.value.detach()
    return facts * term.count


def _detached(term: Term) -> Term:
    return Term(term.value.detach(), term.count, term.weight)


class Ranked(nn.Module):
    """What DDP wraps: the learner, and one parameter that touches every loss.

    DDP waits for every rank's backward pass. A rank whose rows lack every modality has a loss
    without gradient; the anchor, zero and never trained, lets it take part all the same. It stays
    out of the learner, so neither the optimiser nor a checkpoint knows of it.
    """

    def __init__(self, learner: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.learner = learner
        self.anchor = nn.Parameter(torch.zeros(1, device=device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the learner gives: (loss, whatever else)."""
        loss, *rest = self.learner(*args, **kwargs)
        return (loss + 0.0 * self.anchor.sum(), *rest)


def wrap(learner: nn.Module, world: World) -> nn.Module:
    """Give the module to call in a training step: the learner, in DDP when there are ranks.

    ``learner``'s forward must give (loss, ...). Keep ``learner`` for its weights and its
    optimiser. Batch norm is turned into synchronised batch norm on GPUs, in place; on a CPU it
    warns, for there its statistics are those of each rank's rows.
    """
    if world.size == 1:
        return learner
    norms = [m for m in learner.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    on_gpu = world.device.type == "cuda"
    if norms and on_gpu:
        learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)
    elif norms:
        warnings.warn(
            "batch norm across CPU processes: statistics are per rank, so the gradient is not that "
            "of one process; use encoders without batch norm, or GPUs",
            stacklevel=2,
        )
    return nn.parallel.DistributedDataParallel(
        Ranked(learner, world.device),
        device_ids=[world.device.index] if on_gpu else None,
        find_unused_parameters=True,
    )
