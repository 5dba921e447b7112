"""Blocks that go round three ranks: value and gradient of the plain loss of one process."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch
from processes import forked_ranks

from medmcl.engine.world import pass_on, total
from medmcl.objectives.pairwise import contrastive
from medmcl.objectives.pairwise.tiles import Ranks, rows_in_ring

WIDTH = 5
COUNTS = ((9, 9, 9), (4, 0, 11), (1, 17, 2), (0, 0, 6))
LOSSES = {
    "a to b": (contrastive.info_nce, (1.0,)),
    "b to a": (contrastive.info_nce, (0.0,)),
    "both": (contrastive.info_nce, (0.3,)),
    "two views": (contrastive.nt_xent, ()),
    "sigmoid": (contrastive.sigmoid_loss, (-2.0,)),
}
WITHIN = {torch.float64: 1e-12, torch.float32: 1e-6}


def ring_of(world, counts):
    ways = {one.__name__: partial(one, world=world) for one in (total, pass_on)}
    return Ranks(world.rank, world.size, counts, **ways)


def drawn(rows, dtype, groups):
    generator = torch.Generator(device="cpu").manual_seed(rows)
    a, b = (
        torch.randn(rows, WIDTH, generator=generator, dtype=dtype, device="cpu") for _ in range(2)
    )
    scale = torch.tensor([7.0], dtype=dtype, device="cpu", requires_grad=True)
    return a, b, scale, torch.arange(rows, device="cpu") % 2 if groups else None


def asked(loss, a, b, scale, groups, frozen=False):
    """Value, and gradients of rows and scale; of a side that is not learned, none."""
    call, more = LOSSES[loss]
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_(not frozen)
    value = call(a, b, scale, *more, groups=groups)
    given = (a, scale) if frozen else (a, b, scale)
    return value.detach(), torch.autograd.grad(3 * value, given)


def apart(x, y):
    return ((x - y).norm() / y.norm().clamp(min=1e-30)).item() if y.numel() else 0.0


def errors_of(world, loss, counts, dtype, *, groups, frozen=False):
    """How far what a rank finds is from its part of what one process finds of all rows."""
    first = sum(counts[: world.rank])
    own = slice(first, first + counts[world.rank])
    a, b, scale, numbers = drawn(sum(counts), dtype, groups)
    value, (*whole, to_scale) = asked(loss, a, b, scale, numbers, frozen)
    with rows_in_ring(ring_of(world, counts)):
        mine = None if numbers is None else numbers[own]
        found, (*parts, scale_part) = asked(loss, a[own], b[own], scale, mine, frozen)
    scale_mean = total(scale_part, world) / world.size
    # each rank's part is times the ranks, for the mean over them
    pairs = [(part / world.size, x[own]) for part, x in zip(parts, whole, strict=True)]
    return max(apart(x, y) for x, y in [(found, value), (scale_mean, to_scale), *pairs])


def nan_of_one_rank(world):
    a, b, scale, _ = drawn(4, torch.float32, False)
    if world.rank == 1:
        a[2] = torch.nan
    with rows_in_ring(ring_of(world, (4, 4, 4))):
        return [asked(loss, a, b, scale, None)[0].isnan().item() for loss in LOSSES]


def without_anything_to_learn(world):
    """Errors where the rank in the middle has no rows, and nothing there has a gradient."""
    counts = COUNTS[1]
    a, b, _, _ = drawn(sum(counts), torch.float64, False)
    own = torch.arange(sum(counts), device="cpu").split(counts)[world.rank]
    found = []
    for loss, (call, more) in LOSSES.items():
        mine = [x[own].requires_grad_(world.rank != 1) for x in (a, b)]
        with rows_in_ring(ring_of(world, counts)):
            call(*mine, 7.0, *more).backward()
        if world.rank != 1:
            _, whole = asked(loss, a, b, torch.tensor([7.0], device="cpu").requires_grad_(), None)
            found += [
                apart(3 * x.grad / world.size, y[own]) for x, y in zip(mine, whole[:2], strict=True)
            ]
    return max(found, default=0.0)


def everything(world):
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tiled_info_nce", "tiled_sigmoid"):
            patch.setattr(contrastive, name, partial(getattr(contrastive, name), tile=4))
        for loss in LOSSES:
            for dtype, most in WITHIN.items():
                for counts in COUNTS:
                    for groups in (False, True):
                        off = errors_of(world, loss, counts, dtype, groups=groups)
                        found[f"{loss}, {counts}, groups: {groups}, {dtype}"] = off / most
            off = errors_of(world, loss, COUNTS[1], torch.float64, groups=False, frozen=True)
            found[f"{loss}, one side frozen"] = off / WITHIN[torch.float64]
        return {"errors": found, "nan": nan_of_one_rank(world),
                "idle": without_anything_to_learn(world)}  # fmt: skip


@pytest.mark.dist
def test_three_ranks_find_what_one_process_finds(tmp_path):
    ranks = forked_ranks(3, tmp_path, everything)
    for found in ranks:
        assert len(found["errors"]) == 5 * (2 * 4 * 2 + 1)
        assert {case: off for case, off in found["errors"].items() if not off < 1} == {}
        assert all(found["nan"])
        assert found["idle"] < 1e-12


def dies_on_the_way(world):
    if world.rank == 1:
        return None
    a, b, scale, _ = drawn(4, torch.float32, False)
    began = time.monotonic()
    try:
        with rows_in_ring(ring_of(world, (4, 4, 4))):
            asked("both", a, b, scale, None)
    except RuntimeError:
        return time.monotonic() - began
    return None


@pytest.mark.dist
def test_who_waits_for_a_block_of_a_rank_that_ended_does_not_wait_on(tmp_path):
    found = forked_ranks(3, tmp_path, dies_on_the_way)
    assert found[1] is None
    assert all(found[rank] < 5 for rank in (0, 2))
