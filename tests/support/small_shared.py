"""A small shared tower with experts for images and texts, and rows that lack some of them."""

from __future__ import annotations

import torch
from made_batches import batch_of

from medmcl.core.batch import InputShape
from medmcl.encoders.shared.tower import SharedTower

INPUTS = {
    "image": InputShape(kind="image", shape=(1, 8, 8)),
    "text": InputShape(kind="text", shape=(5,), vocabulary=11),
}
ROWS, EXPERTS = 6, 4


def build(depth=4, seed=1, sure=1.0, **experts):
    """A tower whose routers are ``sure`` of themselves: 4 image tokens, 5 of text."""
    torch.manual_seed(seed)
    dense = experts.get("experts", EXPERTS) is None
    tower = SharedTower.build(
        INPUTS,
        {"width": 16, "depth": depth, "heads": 2, "out": 4,
         "input_projections": {"image": {"patch": 4}},
         "experts": None if dense else {"experts": EXPERTS, **experts}},
    )  # fmt: skip
    for moe in tower.trunk.moes:
        torch.nn.init.normal_(moe.router.weight, std=sure)
    return tower


def batch():
    """Six rows; one lacks the image and two the text, of which every second has two tokens less."""
    generator = torch.Generator(device="cpu").manual_seed(2)
    text = torch.randint(1, 11, (ROWS, 5), generator=generator, device="cpu")
    text[::2, 3:] = 0
    image = torch.randn(ROWS, 1, 8, 8, generator=generator, device="cpu")
    flags = {"image": [1, 1, 0, 1, 1, 1], "text": [1, 0, 1, 1, 1, 0]}
    return batch_of({"image": image, "text": text}, flags)
