"""Through towers, no encoder sees what stands in an absent row, batch norms included."""

from __future__ import annotations

import torch

from medmcl.core.batch import Batch
from medmcl.encoders.settings import HeadSettings
from medmcl.encoders.towers import Head, Tower, Towers


def test_the_content_of_absent_rows_changes_nothing(case):
    """Embeddings, gradients and running statistics, bit for bit, in training mode."""
    x, other = case.rows(5), case.rows(5, seed=9)
    present = torch.tensor([True, False, True, True, False], device="cpu")
    fills = [x, other]
    if x.is_floating_point():
        fills += [torch.full_like(x, torch.nan), torch.full_like(x, 1e30)]
    found = []
    for fill in fills:
        rows = torch.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, fill)
        encoder = case.build()
        torch.manual_seed(3)
        head = Head(encoder.width, HeadSettings(hidden=8, out=4, norm="batch"))
        towers = Towers({"m": Tower(encoder, head, case.shape.shape)})
        ids = torch.arange(5, device="cpu")
        seen = towers(Batch(ids=ids, inputs={"m": rows}, present={"m": present}))
        parts = [seen.pooled["m"], seen.features["m"], *seen.tokens.values()]
        weights = [torch.arange(p.numel(), device="cpu").sin().reshape(p.shape) for p in parts]
        sum((p * w).sum() for p, w in zip(parts, weights, strict=True)).backward()
        gradients = [p.grad for p in towers.parameters() if p.grad is not None]
        assert gradients
        assert not seen.pooled["m"][~present].any()
        found.append([rows, *parts, *gradients, *towers.buffers()])
    assert not torch.equal(found[0][0], found[1][0])
    for another in found[1:]:
        for one, two in zip(found[0][1:], another[1:], strict=True):
            assert torch.equal(one, two)
