"""How many parts of a batch fit in memory: counted against a net whose memory is known."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from made_batches import batch_of

from medmcl.core.batch import InputShape
from medmcl.encoders import Towers
from medmcl.engine.fitting import Held, fewest_parts, look_at_rows
from medmcl.engine.loop import Learner
from medmcl.objectives import build_objective


def test_what_a_row_holds_is_what_two_batches_differ_by():
    torch.manual_seed(0)
    shape = {n: InputShape(kind="ecg", shape=(2, 24)) for n in "ab"}
    encoder = {"name": "ecg_vit", "patch": 4, "width": 32, "depth": 1, "heads": 2}
    tower = {"encoder": encoder, "head": None}
    towers = Towers.build(shape, dict.fromkeys(shape, tower))
    objective = build_objective("cross_modal", {"view": "plain"}, towers.shape(shape))
    learner = Learner(towers, {"cross_modal": objective}, {"cross_modal": 1.0})
    batch = batch_of(
        {n: torch.randn(4, 2, 24, device="cpu") for n in "ab"}, {n: [1] * 4 for n in "ab"}
    )

    held = look_at_rows(learner, {"plain": lambda x: x}, batch, nullcontext, copies=3)
    wide = {n: x.repeat(8, 1, 1) for n, x in batch.inputs.items()}
    more = look_at_rows(
        learner, {"plain": lambda x: x}, batch_of(wide, {n: [1] * 32 for n in "ab"}),
        nullcontext, copies=3,
    )  # fmt: skip
    assert held.views["plain"] == pytest.approx(more.views["plain"], rel=0.02)
    assert (
        held.views["plain"] > 2 * 4 * 12 * 32 * 4
    )  # of 12 tokens of both, one layer's four times width
    assert held.fixed >= 3 * 4 * sum(p.numel() for p in learner.parameters() if p.requires_grad)
    assert all(p.grad is None for p in learner.parameters())


def test_the_fewest_parts_that_fit_are_those_of_a_search_by_hand():
    held = Held(views={"a": 100.0, "b": 60.0}, charged=10.0, fixed=1000.0)
    for room in range(900, 14000, 350):
        fits = [n for n in (1, 2, 4, 8, 16, 32, 64, 70) if held.at_peak(70, n) <= room]
        assert fewest_parts(held, 70, room) == (min(fits) if fits else None)
    assert held.at_peak(70, 1) == 1000 + 70 * 170
    assert held.at_peak(70, 4) == 1000 + 18 * 100 + 70 * 10
    assert held.at_peak(70, 70) == 1000 + 100 + 70 * 10
