"""A batch that is encoded in parts and charged for as one: the loss of all rows, memory of a part.

A contrastive loss needs the embeddings of the whole batch at once, but not the graphs of all
encoders at once. Each part is encoded twice. First without a graph: the embeddings of all parts,
joined, are what objectives charge for, and their gradient is kept. Then again with a graph, from
the same random numbers, and that gradient goes on into the weights. Sums of losses of parts, the
usual accumulation, would be another loss: with fewer negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings
from medmcl.core.rng import derive_seed, seed_torch
from medmcl.encoders.synchronised import statistics_put_back
from medmcl.engine.world import World, total

FIELDS = ("pooled", "features", "tokens", "padding", "stats")
"""What `Embeddings` hold beside the batch."""

Terms = Mapping[str, tuple[Tensor, int]]
Charge = Callable[[dict[str, Embeddings]], tuple[Tensor, Terms]]


def accumulate(
    model: nn.Module,
    charge: Charge,
    views: Mapping[str, Batch],
    *,
    parts: int,
    key: Sequence[str | int],
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Tensor, Terms]:
    """Give the loss of a batch and its terms; gradients are added to those of the parameters.

    What is kept of the whole batch are its inputs and its embeddings. What a model learns from
    other rows as it encodes (batch norm) it learns from those of the part.

    Source:
        Gao et al. 2021, arXiv 2101.06983 (GradCache). Differs: any number of views and modalities,
        some absent; features, tokens and stats are cached as well as points; random numbers are
        drawn anew from a seed, not from a saved state.

    Args:
        model: Encodes a view. It is called ``parts`` times for each view, and if there are terms
            as often again; running statistics of batch norms move once.
        charge: From the embeddings of each view, of the whole batch, to (loss, terms). Called once,
            with a graph.
        views: Every view of the batch.
        parts: Parts, as even as can be. A part may have no rows.
        key: Of the random numbers: seed, then purpose and position.
        autocast: Gives the context in which to encode and to charge. A new one each time: what it
            caches of weights without a graph must not be used with one.

    Returns:
        Loss, detached, and terms as ``charge`` gave them. Without terms nothing was learned.
    """
    seed, *purpose = key
    pieces = {name: split(view, parts) for name, view in views.items()}

    def encode(name: str, number: int) -> Embeddings:
        piece = pieces[name][number]
        seed_torch(derive_seed(int(seed), *purpose, "part", name, number), piece.ids.device)
        with autocast():
            encoded: Embeddings = model(piece)
            return encoded

    with torch.no_grad(), statistics_put_back(model):
        seen = {
            name: _with_leaves(join([encode(name, n) for n in range(parts)], view))
            for name, view in views.items()
        }
    device = next(iter(views.values())).ids.device
    seed_torch(derive_seed(int(seed), *purpose), device)  # as where encoders draw nothing
    with autocast():
        loss, terms = charge(seen)
    if not terms:
        return loss.detach(), terms
    if loss.requires_grad:  # on some other rank it may
        loss.backward()
    for name, whole in seen.items():
        for number, cached in enumerate(_gradients(whole, parts)):
            _go_on(encode(name, number), cached)
    return loss.detach(), terms


def encode_in_parts(model: nn.Module, batch: Batch, parts: int) -> Embeddings:
    """Encode a batch part by part, where nothing is learned: what `model` gives of the whole.

    Args:
        model: In evaluation mode.
        batch: The rows.
        parts: Parts, as even as can be.
    """
    encoded = [model(one) for one in (split(batch, parts) if parts > 1 else [batch])]
    return join(encoded, batch) if parts > 1 else encoded[0]


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into parts, in order; the first have a row more where it does not divide."""
    return [batch[rows] for rows in _rows_of_parts(len(batch), parts)]


def join(parts: Sequence[Embeddings], batch: Batch) -> Embeddings:
    """Put the embeddings of the parts of ``batch`` one below the other.

    A part without rows is passed over: its tokens are not those that a mask leaves visible.
    """
    filled = [one for one in parts if len(one.batch)] or parts[:1]
    fields = {
        field: {
            name: torch.cat([getattr(one, field)[name] for one in filled])
            for name in getattr(filled[0], field)
        }
        for field in FIELDS
    }
    return Embeddings(batch=batch, **fields)


def _rows_of_parts(rows: int, parts: int) -> list[slice]:
    each, more = divmod(rows, parts)
    cuts = [number * each + min(number, more) for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(cuts)]


def _named(embeddings: Embeddings) -> dict[tuple[str, str], Tensor]:
    """Every tensor that can have a gradient, by field and name."""
    return {
        (field, name): x
        for field in FIELDS
        for name, x in getattr(embeddings, field).items()
        if x.is_floating_point()
    }


def _with_leaves(embeddings: Embeddings) -> Embeddings:
    for x in _named(embeddings).values():
        x.requires_grad_()
    return embeddings


def _gradients(whole: Embeddings, parts: int) -> list[dict[tuple[str, str], Tensor]]:
    """What was charged for the rows of each part; nothing for what no objective read."""
    grads = {place: x.grad for place, x in _named(whole).items() if x.grad is not None}
    return [
        {place: grad[rows] for place, grad in grads.items()}
        for rows in _rows_of_parts(len(whole.batch), parts)
    ]


def _go_on(part: Embeddings, cached: Mapping[tuple[str, str], Tensor]) -> None:
    """Let the gradient of a part's embeddings go on into the weights.

    A part without rows goes through its backward pass too: other ranks may wait for it there.
    """
    pairs = [
        (x, cached[place] if len(part.batch) else torch.zeros_like(x))
        for place, x in _named(part).items()
        if place in cached and x.requires_grad
    ]
    if pairs:
        tensors, grads = zip(*pairs, strict=True)
        torch.autograd.backward(tensors, grads)


@torch.no_grad()
def average_gradients(learner: nn.Module, world: World) -> None:
    """Do by hand, once, what DDP does in a backward pass. All ranks must call it, after theirs.

    Gradients become their mean over ranks; a parameter that no rank has used keeps none. Running
    statistics of batch norms become those of the first rank.
    """
    if world.size == 1:
        return
    trained = [p for p in learner.parameters() if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], device=world.device)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    *sums, users = total(torch.cat([*flat, used]), world).split([*map(len, flat), len(used)])
    for p, summed, some in zip(trained, sums, host.read(users > 0), strict=True):
        p.grad = (summed / world.size).reshape(p.shape).to(p.dtype) if some else None
    for norm in learner.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for x in norm.buffers(recurse=False):
                x.copy_(total(x if world.leads else torch.zeros_like(x), world))
