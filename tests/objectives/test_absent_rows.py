"""No objective sees what stands in an absent row: loss and gradients, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, InputShape, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.router_stats import FIELDS, RouterSums
from medmcl.objectives import OBJECTIVES, build_objective

ROWS, SHARED, WIDTH, TOKENS, VISIBLE = 7, 6, 8, 12, 5
PATCH, LEADS, SAMPLES = 4, 2, 24
MODALITIES = ("ecg", "cmr", "report")
PRESENT = {
    "ecg": [1, 1, 1, 1, 1, 0, 1],
    "cmr": [1, 0, 1, 1, 1, 1, 0],
    "report": [0, 1, 1, 0, 1, 1, 1],
}
CASES = {
    "cross_modal": {"view": "a"},
    "in_modal": {"modality": "cmr", "views": ["a", "b"]},
    "symile": {"view": "a"},
    "gram": {"view": "a"},
    "centrobind": {"view": "a"},
    "masked": {"modality": "ecg", "view": "a", "decoder": {"width": 8, "depth": 1, "heads": 2}},
    "supervised": {"task": "regression", "modalities": ["ecg", "cmr"], "view": "a", "join": "mean"},
    "distil": {"view": "a"},
    "par": {"view": "a", "threshold": 4.0},
    "router": {"view": "a", "gshard": True, "local": ["ecg"], "min_experts": {"cmr": None}},
}
MORE = {
    "two of three": ("gram", {"view": "a", "modalities": ["ecg", "report"]}),
    "all tuples": ("symile", {"view": "a", "negatives": "all"}),
    "siglip": ("cross_modal", {"view": "a", "loss": "siglip"}),
    "simclr, cross": ("in_modal", {"modality": "cmr", "views": ["a", "b"], "negatives": "cross"}),
    "hidden patches": ("masked", CASES["masked"] | {"over": "masked"}),
    "cox": ("supervised", {"task": "survival", "modalities": "ecg", "view": "a"}),
    "attention": (
        "supervised",
        {"task": "multiclass", "modalities": ["ecg", "cmr"], "view": "a", "pooling": "attention"},
    ),
    "labels": ("supervised", {"task": "multilabel", "modalities": "report", "view": "a"}),
}
EVERY = {name: (name, settings) for name, settings in CASES.items()} | MORE


def test_every_objective_has_a_case():
    missing = set(OBJECTIVES) - {kind for kind, _ in EVERY.values()}
    assert not missing, f"write a case here: {missing}"


FILLS = {
    "zeros": torch.zeros_like,  # what towers promise
    "other": torch.randn_like,
    "huge": lambda x: torch.full_like(x, 1e30),
    "nan": lambda x: torch.full_like(x, torch.nan),
}


def views_of(tasks, fill, *, masked):
    """Two views with different presence (as modality dropout leaves it), spoiled where absent."""
    torch.manual_seed(0)
    seen = {}
    lessons = {
        distill_target(name, space): torch.randn(ROWS, width, device="cpu")
        for name, width in (("ecg", 5), ("cmr", 4))
        for space, width in (("features", width), ("pooled", SHARED))
    }
    lessons = {
        k: functional.normalize(x, dim=1) if "pooled" in k else x for k, x in lessons.items()
    }
    for number, view in enumerate("ab"):
        count = VISIBLE if masked else TOKENS
        shapes = {"inputs": (LEADS, SAMPLES), "pooled": (SHARED,), "features": (WIDTH,),
                  "tokens": (count, WIDTH)}  # fmt: skip
        parts, present = {group: {} for group in shapes}, {}
        for name in MODALITIES:
            has = torch.tensor(PRESENT[name], dtype=torch.bool, device="cpu").roll(number)
            present[name] = has
            for group, shape in shapes.items():
                x = torch.randn(ROWS, *shape, device="cpu")
                if group == "pooled":
                    x = functional.normalize(x, dim=1)
                state = torch.random.get_rng_state()
                x[~has] = fill(x[~has])
                torch.random.set_rng_state(state)
                parts[group][name] = x if group == "inputs" else x.requires_grad_()
        parts["stats"] = {}
        for name in MODALITIES:
            sums = {f: torch.rand(ROWS, 2, 4, device="cpu") + 1 for f in FIELDS}
            for field in ("entropy", "z", "kept", "tokens"):
                sums[field] = sums[field][..., :1]
            for x in sums.values():
                state = torch.random.get_rng_state()
                x[~present[name]] = fill(x[~present[name]])
                torch.random.set_rng_state(state)
            stats = RouterSums.of(sums).stats(name)
            parts["stats"].update({key: x.requires_grad_() for key, x in stats.items()})
        order = torch.rand(ROWS, TOKENS, device="cpu").argsort(1).argsort(1)
        batch = Batch(
            ids=torch.arange(ROWS, device="cpu"),
            inputs=parts.pop("inputs"),
            present=present,
            targets={n: torch.tensor(t.values, device="cpu").float() for n, t in tasks.items()}
            | lessons,
            known={n: torch.tensor(t.known, device="cpu") for n, t in tasks.items()}
            | {name: torch.ones_like(x, dtype=torch.bool) for name, x in lessons.items()},
            masks=dict.fromkeys(["ecg"], order >= VISIBLE) if masked else {},
        )
        seen[view] = Embeddings(batch=batch, **parts)
    return seen


@pytest.mark.parametrize("label", EVERY)
def test_the_content_of_absent_rows_changes_nothing(label, tasks):
    kind, settings = EVERY[label]
    shape = ModelShape(
        inputs=dict.fromkeys(MODALITIES, InputShape(kind="ecg", shape=(LEADS, SAMPLES))),
        widths=dict.fromkeys(MODALITIES, WIDTH),
        num_tokens=dict.fromkeys(MODALITIES, TOKENS),
        patch=dict.fromkeys(MODALITIES, PATCH),
        tasks=tasks,
        experts=4,
        teacher_widths={"ecg": 5, "cmr": 4},
    )
    found = []
    for fill in FILLS.values():
        seen = views_of(tasks, fill, masked=kind == "masked")
        torch.manual_seed(0)
        objective = build_objective(kind, settings, shape)
        terms = objective(seen, seen["a"].batch)
        assert terms
        loss = sum(term.value * term.weight for term in terms.values())
        given = [
            x
            for embeddings in seen.values()
            for group in ("pooled", "features", "tokens", "stats")
            for x in getattr(embeddings, group).values()
        ]
        wanted = [*(p for p in objective.parameters() if p.requires_grad), *given]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
        assert any(one is not None and one.any() for one in gradients)
        counts = torch.tensor([t.count for t in terms.values()], device="cpu")
        found.append([loss, counts, *gradients])
    assert torch.isfinite(found[0][0])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert (one is None) == (two is None)
            assert one is None or torch.equal(one, two)
