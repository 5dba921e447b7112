"""Pairs of tables that only their numbers decide, a learner of them, and selectors that judge."""

from __future__ import annotations

import torch

from medmcl.core.batch import Batch, InputShape
from medmcl.encoders.towers import Towers
from medmcl.engine.loop import Learner
from medmcl.objectives import build_objective
from medmcl.selection import SELECTORS
from medmcl.selection.choices import Online

SAMPLES, WIDTH = 48, 4
INPUTS = {
    name: InputShape(
        kind="tabular", shape=(2, WIDTH), names=tuple("abcd"), cardinalities=(0,) * WIDTH
    )
    for name in ("image", "text")
}


def load(rows):
    """Row n is the same in every batch; every sixth has no text."""
    numbers = torch.as_tensor(rows, device="cpu").long()
    generator = torch.Generator(device="cpu").manual_seed(5)
    state = torch.randn(SAMPLES, WIDTH, generator=generator, device="cpu")[numbers]
    turned = state.flip(1) + 0.1 * numbers[:, None] / SAMPLES
    has_text = numbers % 6 != 5
    return Batch(
        ids=numbers,
        inputs={
            "image": torch.stack([state, torch.ones_like(state)], 1),
            "text": torch.stack([turned, torch.ones_like(state)], 1) * has_text[:, None, None],
        },
        present={"image": torch.ones_like(has_text), "text": has_text},
    )


def learner(dropout=0.2):
    """Two small towers and a contrastive objective, at weights of a seed."""
    torch.manual_seed(3)
    tower = {
        "encoder": {"name": "tabular_mlp", "hidden": 8, "depth": 1, "width": 8, "cell_width": 2,
                    "dropout": dropout},
        "head": {"layers": 1, "out": 6},
    }  # fmt: skip
    towers = Towers.build(INPUTS, dict.fromkeys(INPUTS, tower))
    shape = towers.shape(INPUTS)
    settings = {"view": "plain", "pairs": [["image", "text"]]}
    return Learner(towers, {"align": build_objective("cross_modal", settings, shape)}, {"align": 1})


def selector(kind="differential", own=None, **settings):
    """A selector of these pairs."""
    if kind == "differential":
        settings = {"mode": "momentum", "samples": SAMPLES, **settings}
    choice = SELECTORS[kind](share=settings.pop("share", 0.5), seed=9, **settings)
    return Online(
        choice, ("image", "text"), lambda batch: batch,
        (lambda: float(own.objectives["align"].scale().detach())) if own else lambda: 10.0,
    )  # fmt: skip
