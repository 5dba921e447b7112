"""Blocks of every encoder are one graph each, without a break, and compute what they did."""

from __future__ import annotations

import pytest
import torch
from small_shared import batch, build

from medmcl.engine.compiling import compile_blocks
from medmcl.engine.recompute import repeated_blocks

TRACED = {"ecg_vit", "resnet1d", "timm", "text_transformer", "code_transformer", "small_cnn",
          "clip_text", "graph_dense", "brainnet_cnn", "tabular_mlp"}  # fmt: skip
"""All but experts are traced whole; the others (convolutions in three dimensions, published
networks) take 11 s of CPU more, and their blocks are of like kinds."""


@pytest.mark.filterwarnings("error:a block")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch itself, as it traces
def test_blocks_are_traced_whole_and_give_the_same(case):
    if case.encoder not in TRACED:
        return
    encoder, x = case.build(), case.rows()
    if not repeated_blocks(encoder):
        return
    names, torch_seed = list(encoder.state_dict()), 5
    torch.manual_seed(torch_seed)
    plain = encoder(x).features
    encoder = case.build()
    assert compile_blocks(encoder, "here", backend="eager") == len(repeated_blocks(encoder))
    torch.manual_seed(torch_seed)
    features = encoder(x).features
    torch.testing.assert_close(features, plain)
    features.square().sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())
    assert list(encoder.state_dict()) == names


def test_blocks_with_experts_are_told_of_and_run_as_they_are():
    tower, rows = build(), batch()
    torch.manual_seed(0)
    plain = tower(rows)
    count = compile_blocks(tower, "here", backend="eager")
    assert count == len(repeated_blocks(tower))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="runs as it is, uncompiled"):
        found = tower(rows)
    assert torch.equal(found.pooled["image"], plain.pooled["image"])
