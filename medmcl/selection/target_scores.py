"""How near a pool lies to what one cares for: NormSim against a target cohort, and without one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.selection.pools import BLOCK, TILE, TILE_ELSEWHERE, Pool, Rows, full_precision

POWERS = (1, 2, 3, math.inf)


def norm_sim(
    image: Rows, target: Rows, p: float, *, device: torch.device | str | None = None
) -> Tensor:
    """Give the p-norm of a row's cosines with all rows of a target cohort.

    p = 2 takes the second moment of the target, D x D, and never meets its rows one by one; the
    others take N x M cosines in tiles.

    Args:
        image: Embeddings (N, D) of the pool, one modality; may be memory-mapped.
        target: Embeddings (M, D) of train rows of the cohort to serve; may be memory-mapped.
        p: 1, 2, 3 or infinity. Infinity is the largest cosine without its sign: near anything.
        device: Where to compute; where the tensors are if not given.

    Returns:
        (N,), at least 0, higher = keep.

    Raises:
        MedmclError: If the target is empty or of another width, or p is none of these.

    Source:
        Wang et al. 2024, arXiv 2405.19547, eq. (2); p = 2 equals sqrt(M x VAS), Wang et al. 2024,
        arXiv 2402.02055. Differs: none.
    """
    pool, aims = Pool(image, "image", device), Pool(target, "target", device)
    _check_target(pool, aims)
    if p not in POWERS:
        raise MedmclError("unknown power", got=p, expected="1, 2, 3 or infinity")
    with full_precision(pool.device):
        if p == 2:
            moment = _sum_of_squares(aims, None) / len(aims)
            return torch.cat(_quadratic(pool, moment)).mul_(len(aims)).sqrt_()
        return direct_norm(pool, aims, p)


def direct_norm(pool: Pool, target: Pool, p: float) -> Tensor:
    """Give NormSim by its definition, in tiles; any p of `POWERS`."""
    size = TILE.get(pool.device.type, TILE_ELSEWHERE)
    found = torch.zeros(len(pool), dtype=pool.dtype, device=pool.device)
    for at in pool.slices():
        rows, sums = pool.block(at).split(size), found[at].split(size)
        for to in target.slices():
            for aims in target.block(to).split(size):
                for some, part in zip(sums, rows, strict=True):
                    cosines = (part @ aims.T).abs_()
                    if p == math.inf:
                        torch.maximum(some, cosines.amax(1), out=some)
                    else:
                        some += (cosines if p == 1 else cosines.pow_(p)).sum(1)
    return found if p in (1, math.inf) else found.pow_(1 / p)


def norm_sim_dynamic(
    image: Rows,
    keep: float | int,
    rounds: int,
    *,
    start: Rows | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Choose rows that the pool itself agrees on, without a target: NormSim-2-D.

    Each round scores the rows that are left by the second moment of the rows that were left before,
    and drops the lowest. The first round takes the moment of the whole pool.

    Args:
        image: Embeddings (N, D) of the pool; may be memory-mapped.
        keep: How many to keep: a share of the pool in (0, 1) or a number of rows (an integer).
        rounds: T; each drops the same number of rows, ceil((start - keep) / T).
        start: What a filter before has left, row numbers or (N,) bool; all rows if not given.
        device: Where to compute; where the tensors are if not given.

    Returns:
        Positions kept, sorted, int64; ties are settled in favour of the earlier row.

    Raises:
        MedmclError: If there are fewer rows to begin with than are to be kept, or no round.

    Source:
        Wang et al. 2024, arXiv 2405.19547, algorithm 2. Differs: the moment is of all rows left,
        where the published code takes a random tenth of them.
    """
    pool = Pool(image, "image", device)
    left = _starting_rows(start, len(pool)).to(pool.device)
    is_number = isinstance(keep, Integral)
    number = int(keep) if is_number else math.floor(keep * len(pool) + 1e-9)
    if not 0 < number <= len(left):
        raise MedmclError(
            "keep must be a share of the pool, or a number of rows no larger than what is there",
            got=keep,
            expected=f"1 to {len(left)} rows, or a share between 0 and 1",
        )
    if rounds < 1:
        raise MedmclError("there must be at least 1 round", got=rounds)
    with full_precision(pool.device):
        step = math.ceil((len(left) - number) / rounds)
        own = _sum_of_squares(pool, None)
        moment = own / len(pool)
        if len(left) < len(pool):
            own = _sum_of_squares(pool, left)
        while len(left) > number:
            scores = torch.cat(_quadratic(pool, moment, left))
            order = scores.sort(descending=True, stable=True).indices
            stay = max(number, len(left) - step)
            dropped = left[order[stay:]].sort().values
            left = left[order[:stay]].sort().values
            own = own - _sum_of_squares(pool, dropped)
            moment = own / len(left)
        return left


def _sum_of_squares(pool: Pool, rows: Tensor | None) -> Tensor:
    """Sum of x xᵀ over all rows or over some, (D, D) float64; a quarter is spared by symmetry."""
    total = torch.zeros(pool.width, pool.width, dtype=torch.float64, device=pool.device)
    half = pool.width // 2
    for block in _blocks(pool, rows):
        right = block[:, half:]
        total[:half] += block[:, :half].T @ block
        total[half:, half:] += right.T @ right
    total[half:, :half] = total[:half, half:].T
    return total


def _quadratic(pool: Pool, moment: Tensor, rows: Tensor | None = None) -> list[Tensor]:
    """Mean squared cosine with what the moment is of, block by block; never below 0.

    The upper right of the moment is taken twice and the lower left not at all.
    """
    half = pool.width // 2
    upper, corner = moment[:half].to(pool.dtype), moment[half:, half:].to(pool.dtype)
    upper = torch.cat([upper[:, :half], 2 * upper[:, half:]], dim=1)
    found = []
    for block in _blocks(pool, rows):
        right = block[:, half:]
        sums = torch.linalg.vecdot(block[:, :half] @ upper, block)
        found.append(sums.add_(torch.linalg.vecdot(right @ corner, right)).clamp_(min=0))
    return found


def _blocks(pool: Pool, rows: Tensor | None) -> Iterator[Tensor]:
    if rows is None:
        return (pool.block(at) for at in pool.slices())
    return (pool.take(part) for part in rows.split(BLOCK))


def _starting_rows(start: Rows | None, rows: int) -> Tensor:
    if start is None:
        return torch.arange(rows, device="cpu")
    given = torch.as_tensor(start, device="cpu")
    if given.dtype == torch.bool and len(given) != rows:
        raise MedmclError("start must have a flag for each row", got=len(given), expected=rows)
    flags = given.dtype == torch.bool
    numbers = given.nonzero().flatten() if flags else given.long().unique()
    if len(numbers) and (numbers[0] < 0 or numbers[-1] >= rows):
        raise MedmclError(
            "start names rows that the pool does not have",
            got=f"{int(numbers[0])} to {int(numbers[-1])}",
            expected=f"0 to {rows - 1}",
        )
    return numbers


def _check_target(pool: Pool, target: Pool) -> None:
    if not len(target):
        raise MedmclError(
            "the target is empty: there is nothing to be near to",
            fix="name a target cohort with train rows, or take norm_sim_dynamic",
        )
    if target.width != pool.width:
        raise MedmclError(
            "pool and target must come from one encoder",
            got=f"{pool.width} and {target.width} dimensions",
        )
    if target.device != pool.device:
        raise MedmclError(
            "pool and target lie on two devices", got=f"{pool.device} and {target.device}"
        )
