"""A small model's shape, and embeddings as that model would give them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_targets import targets_of

from medmcl.core.batch import Batch, Embeddings, InputShape, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.router_stats import FIELDS, RouterSums

ROWS, SHARED, WIDTH, TOKENS = 7, 6, 8, 12
MODALITIES = ("ecg", "cmr", "report")
PRESENT = {
    "ecg": [1, 1, 1, 1, 1, 0, 1],
    "cmr": [1, 0, 1, 1, 1, 1, 0],
    "report": [0, 1, 1, 0, 1, 1, 1],
}


def make_tasks():
    rng = np.random.default_rng(0)
    some = rng.random((ROWS, 2)) < 0.7
    some[0] = some[1] = True
    values = {
        "binary": ([1, 0, 1, 0, 0, 1, 0],),
        "multilabel": ([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1]], some),
        "multiclass": ([0, 1, 2, 0, 1, 2, 0],),
        "regression": (rng.normal([60, 110], [8, 20], (ROWS, 2)), some),
        "survival": ([[5, 1], [3, 1], [9, 0], [3, 1], [7, 0], [2, 0], [8, 1]],),
    }
    return {kind: targets_of(kind, *given, name=kind) for kind, given in values.items()}


@pytest.fixture
def tasks():
    return make_tasks()


@pytest.fixture
def model_shape(tasks):
    ecg = InputShape(kind="ecg", shape=(3, 20), names=("I", "II", "III"))
    cmr = InputShape(kind="cmr", shape=(3, 8, 8))
    report = InputShape(kind="text", shape=(5,), vocabulary=11)
    return ModelShape(
        inputs={"ecg": ecg, "cmr": cmr, "report": report},
        widths=dict.fromkeys(MODALITIES, WIDTH),
        num_tokens={"ecg": TOKENS},
        patch={"ecg": 5},
        tasks=tasks,
        experts=4,
        teacher_widths={"ecg": 5, "report": 4},
    )


def presence(present, order, *, apart):
    """Who has what in each view; other rows in the second one, where dropout has left it so."""
    flags = {
        name: torch.tensor(present[name], dtype=torch.bool, device="cpu")[order]
        for name in MODALITIES
    }
    others = {name: x.roll(1) for name, x in flags.items()} if apart else flags
    return {"augmented": flags, "augmented_2": others, "masked": flags}


@pytest.fixture
def make_seen(tasks):
    """Give (seen, batch, leaves): three views, and the leaf tensors gradients arrive at."""

    def make(present=None, dtype=torch.float32, seed=0, order=None, absent=0.0, apart=False):
        generator = torch.Generator(device="cpu").manual_seed(seed)
        order = torch.arange(ROWS, device="cpu") if order is None else order
        has = presence(PRESENT if present is None else present, order, apart=apart)
        targets = {
            name: torch.tensor(task.values, dtype=torch.float32, device="cpu")[order]
            for name, task in tasks.items()
        }
        known = {
            name: torch.tensor(task.known, device="cpu")[order] for name, task in tasks.items()
        }
        lessons = torch.Generator(device="cpu").manual_seed(seed + 2)
        for name, width in (("ecg", 5), ("report", 4)):
            for space, size in (("features", width), ("pooled", SHARED)):
                x = torch.randn(ROWS, size, generator=lessons, device="cpu")[order]
                targets[distill_target(name, space)] = x
                known[distill_target(name, space)] = torch.ones_like(x, dtype=torch.bool)
        leaves = {}

        def draw(view, field, name, *shape):
            x = torch.randn(ROWS, *shape, generator=generator, dtype=dtype, device="cpu")[order]
            x[~has[view][name]] = absent
            leaves[view, field, name] = x.requires_grad_()
            return x

        beside = torch.Generator(device="cpu").manual_seed(seed + 1)

        def routed(view, name):
            """Sums over the 5 tokens of each row that is present, in 2 layers of 4 experts."""
            sums = {}
            for field in FIELDS:
                wide = field in ("gates", "routed", "first", "load")
                x = torch.randn(
                    ROWS, 2, 4 if wide else 1, generator=beside, dtype=dtype, device="cpu"
                )[order]
                x = 5 * (x.softmax(-1) if wide else x.square())
                if field == "tokens":
                    x = torch.full_like(x, 5.0)
                x[~has[view][name]] = absent
                if field not in ("tokens", "kept", "first"):
                    leaves[view, field, name] = x.requires_grad_()
                sums[field] = x
            return RouterSums.of(sums).stats(name)

        def view(name, visible, masks):
            signal = torch.randn(ROWS, 3, 20, generator=generator, dtype=dtype, device="cpu")[order]
            signal[~has[name]["ecg"]] = absent
            inputs = {m: signal if m == "ecg" else signal[:, 0] for m in MODALITIES}
            flags = has[name]
            batch = Batch(
                ids=order, inputs=inputs, present=flags, targets=targets, known=known, masks=masks
            )
            return Embeddings(
                batch=batch,
                pooled={m: draw(name, "pooled", m, SHARED) for m in MODALITIES},
                features={m: draw(name, "features", m, WIDTH) for m in MODALITIES},
                tokens={m: draw(name, "tokens", m, visible, WIDTH) for m in MODALITIES},
                stats={key: x for m in MODALITIES for key, x in routed(name, m).items()},
            )

        noise = torch.rand(ROWS, TOKENS, generator=generator, device="cpu")
        mask = (noise.argsort(1).argsort(1) >= 5)[order]
        seen = {
            "augmented": view("augmented", TOKENS, {}),
            "augmented_2": view("augmented_2", TOKENS, {}),
            "masked": view("masked", 5, {"ecg": mask}),
        }
        return seen, seen["augmented"].batch, leaves

    return make
