"""How well the two sides of a pair fit: CLIP score, and negCLIPLoss, which is fair to both sides.

Row i of ``image`` belongs to row i of ``text``; the names stand for any two modalities in one
space. Higher = keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.core.rng import torch_generator
from medmcl.selection.pools import LogSums, Pool, Rows, paired

Tail = Literal["wrap", "official"]
DIVISIONS = 10
"""Random divisions of the pool into batches; 5 and more give much the same scores."""


def clip_score(image: Rows, text: Rows, *, device: torch.device | str | None = None) -> Tensor:
    """Give the cosine of each pair.

    Args:
        image: Embeddings (N, D) of one modality; may be memory-mapped.
        text: Embeddings (N, D) of the other.
        device: Where to compute; where the tensors are if not given.

    Returns:
        (N,), in [-1, 1], higher = keep.

    Raises:
        MedmclError: If shapes differ, or a row is NaN, infinite or zero.

    Source:
        Hessel et al. 2021, arXiv 2104.08718. Differs: neither clamped nor scaled.
    """
    return _cosines(*paired(image, text, device))


def neg_clip_loss(
    image: Rows,
    text: Rows,
    temperature: float,
    batch_size: int,
    permutations: Rows | None = None,
    tail: Tail = "wrap",
    *,
    divisions: int = DIVISIONS,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Give the negative CLIP loss of each pair in batches of the pool.

    That is its cosine, less how much its two sides resemble everything else:
    score = cos_ii - t/2 (log sum_j exp(cos_ij / t) + log sum_j exp(cos_ji / t)), the mean over
    random divisions of the pool into batches. A batch has 4 bytes x D x ``batch_size`` a side in
    memory, whatever the size of the pool.

    Args:
        image: Embeddings (N, D) of one modality; may be memory-mapped.
        text: Embeddings (N, D) of the other.
        temperature: t, the one the teacher was trained to (1 / its logit scale).
        batch_size: Rows of a batch; a smaller pool is one batch.
        permutations: Orders of the pool, (K, N), each cut into batches; drawn if not given.
        tail: What to do with the last batch of a division if it is smaller. ``wrap`` fills it with
            the first rows of the division, so that its rows meet as many others as all rows do;
            ``official`` leaves it small as the published code does, which inflates its scores (a
            row alone gets 0, the best there is).
        divisions: K, if no permutations are given.
        seed: Of their draw.
        device: Where to compute; where the tensors are if not given.

    Returns:
        (N,), at most 0, higher = keep. Always finite.

    Raises:
        MedmclError: If shapes differ, a row is NaN, infinite or zero, there are fewer than 2 pairs,
            the temperature is not above 0, or a permutation is none.

    Source:
        Wang et al. 2024, arXiv 2405.19547, eq. (1) and algorithm 1. Differs: log-sum-exp, where the
        published code overflows to -inf for cosines over 88 temperatures; the tail, see there.
    """
    temperature = float(temperature)
    pair = paired(image, text, device)
    size = _checked(pair[0], temperature, batch_size, tail)
    sums = LogSums(1 / temperature)
    total = torch.zeros(len(pair[0]), dtype=pair[0].dtype, device=pair[0].device)
    count = 0
    for order in _orders(permutations, len(total), divisions, seed):
        for start in range(0, len(order), size):
            own = order[start : start + size]
            short = size - len(own) if tail == "wrap" else 0
            own = own.sort().values  # reads the disk in order
            total[own] += _both_sums(pair, sums, own, order[:short])
        count += 1
    return _cosines(*pair) - (0.5 * temperature / count) * total


def pair_losses(
    image: Rows, text: Rows, temperature: float, *, device: torch.device | str | None = None
) -> Tensor:
    """Give the CLIP loss of each pair in one batch: the mean of its two cross entropies, nats.

    Args:
        image: Embeddings (B, D) of one modality.
        text: Embeddings (B, D) of the other.
        temperature: 1 / logit scale.
        device: Where to compute; where the tensors are if not given.

    Returns:
        (B,), at least 0. A loss: lower = fits better. Without gradient.
    """
    rows = max(int(image.shape[0]), 2)
    only = torch.arange(int(image.shape[0]), device="cpu")
    return -neg_clip_loss(image, text, temperature, rows, only, device=device) / temperature


def _cosines(image: Pool, text: Pool) -> Tensor:
    found = [(image.block(at) * text.block(at)).sum(1) for at in image.slices()]
    return torch.cat(found) if found else torch.zeros(0, dtype=image.dtype, device=image.device)


def _both_sums(pair: tuple[Pool, Pool], sums: LogSums, own: Tensor, filler: Tensor) -> Tensor:
    """Log-sum-exp of ``own`` rows over the batch, in both directions, added up."""
    image, text = (side.take(own) for side in pair)
    image *= sums.bound
    if not len(filler):
        over_text, over_image = sums(image, text)
        return over_text + over_image
    more = filler.sort().values
    all_text = torch.cat([text, pair[1].take(more)])
    all_image = torch.cat([image, pair[0].take(more) * sums.bound])
    over_text, _ = sums(image, all_text, columns=False)
    _, over_image = sums(all_image, text, rows=False)
    return over_text + over_image


def _orders(given: Rows | None, rows: int, divisions: int, seed: int) -> Iterator[Tensor]:
    if given is None:
        if divisions < 1:
            raise MedmclError("there must be at least 1 division", got=divisions)
        for number in range(divisions):
            generator = torch_generator(seed, "neg_clip_loss", number, device="cpu")
            yield torch.randperm(rows, generator=generator, device="cpu")
        return
    orders = torch.as_tensor(np.asarray(given.cpu() if isinstance(given, Tensor) else given),
                             device="cpu").long()  # fmt: skip
    orders = orders[None] if orders.ndim == 1 else orders
    everyone = torch.arange(rows, device="cpu")
    if orders.ndim != 2 or orders.shape[1] != rows or not len(orders):
        raise MedmclError(
            "permutations must hold each row of the pool once in each line",
            got=f"shape {tuple(orders.shape)}",
            expected=f"(K, {rows})",
        )
    for number, order in enumerate(orders):
        if not torch.equal(order.sort().values, everyone):
            raise MedmclError(
                "is no permutation",
                where=f"permutations[{number}]",
                expected=f"each number from 0 to {rows - 1} once",
            )
        yield order


def _checked(image: Pool, temperature: float, batch_size: int, tail: str) -> int:
    if not (math.isfinite(temperature) and temperature > 0):
        raise MedmclError("temperature must be above 0", got=temperature)
    if tail not in get_args(Tail):
        raise MedmclError("unknown tail", got=tail, expected=" or ".join(get_args(Tail)))
    if len(image) < 2:
        raise MedmclError(
            "negCLIPLoss compares a pair with others: it needs at least 2", got=len(image)
        )
    if batch_size < 2:
        raise MedmclError("a batch must have at least 2 rows", got=batch_size)
    return min(int(batch_size), len(image))
