"""Negatives of one group: mixed batches cost the row-weighted mean of what their groups cost."""

import pytest
import torch
from made_batches import batch_of

from medmcl.core.batch import GROUPS, Embeddings, InputShape
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import MedmclError
from medmcl.objectives import build_objective, info_nce, nt_xent, sigmoid_loss
from medmcl.objectives.pairwise.contrastive import not_alone

GROUPS_OF = torch.tensor([2, 0, 2, 0, 7, 2, 0, 5, 2, 7])  # row 7 is alone


def draw(rows=10, width=6, seed=0):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return [
        torch.randn(rows, width, generator=generator, dtype=torch.float64, device="cpu")
        for _ in range(2)
    ]


LOSSES = {
    "info_nce": lambda a, b, groups=None: info_nce(a, b, 9.0, 0.3, groups=groups),
    "nt_xent": lambda a, b, groups=None: nt_xent(a, b, 9.0, groups=groups),
    "sigmoid": lambda a, b, groups=None: sigmoid_loss(a, b, 9.0, -2.0, groups=groups),
}


def by_groups(loss, a, b, groups):
    """The loss of each group alone in a batch, weighted by its rows."""
    total, rows = 0.0, 0
    for group in groups.unique():
        own = groups == group
        if int(own.sum()) > 1:
            total = total + loss(a[own], b[own]) * int(own.sum())
            rows += int(own.sum())
    return total / rows


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixed_batch_costs_the_row_weighted_mean_of_its_groups(name):
    a, b = (x.requires_grad_() for x in draw())
    mixed = LOSSES[name](a, b, GROUPS_OF)
    apart = by_groups(LOSSES[name], a, b, GROUPS_OF)
    assert mixed.item() == pytest.approx(apart.item(), abs=1e-12)
    for got, wanted in zip(
        torch.autograd.grad(mixed, (a, b)), torch.autograd.grad(apart, (a, b)), strict=True
    ):
        assert torch.allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_all_alone_and_wrong_shapes_are_refused(name):
    a, b = draw()
    with pytest.raises(MedmclError, match="alone in its group"):
        LOSSES[name](a, b, torch.arange(10, device="cpu"))
    with pytest.raises(MedmclError, match="one number for each row"):
        LOSSES[name](a, b, torch.zeros(9, device="cpu"))


def test_large_batches_with_groups_are_not_tiled_away():
    a, b = draw(rows=2100, width=4)
    groups = torch.arange(2100, device="cpu") % 3
    wanted = by_groups(LOSSES["info_nce"], a, b, groups)
    assert LOSSES["info_nce"](a, b, groups).item() == pytest.approx(wanted.item(), abs=1e-10)


def seen(a, b, present_b, groups, known):
    batch = batch_of(
        {"x": a, "y": b},
        {"y": present_b},
        targets={GROUPS: groups.float()[:, None]},
        known={GROUPS: known[:, None]},
    )
    unit = {n: torch.nn.functional.normalize(v, dim=1) for n, v in (("x", a), ("y", b))}
    return Embeddings(batch=batch, pooled=unit), batch


SHAPE = ModelShape(
    inputs={n: InputShape(kind="tabular", shape=(6,)) for n in "xy"}, widths={"x": 6, "y": 6}
)


def test_cross_modal_reads_groups_presence_and_what_is_known_together():
    a, b = draw()
    present = torch.tensor([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], dtype=torch.bool)
    known = torch.tensor([1, 1, 1, 0, 1, 1, 1, 1, 1, 1], dtype=torch.bool)
    embeddings, batch = seen(a, b, present, GROUPS_OF, known)
    settings = {"pairs": [["x", "y"]], "view": "plain", "scale": {"init": 9.0}}
    objective = build_objective("cross_modal", settings, SHAPE)
    (term,) = objective({"plain": embeddings}, batch).values()
    both = present & known
    rows = both.nonzero().squeeze(1)
    rows = rows[not_alone(GROUPS_OF[rows])]
    assert term.count == len(rows) == 7
    wanted = by_groups(lambda p, q: info_nce(p, q, 9.0), a[rows], b[rows], GROUPS_OF[rows])
    assert term.value.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_cross_modal_and_in_modal_leave_the_term_out_where_all_are_alone():
    a, b = draw()
    everyone = torch.ones(10, dtype=torch.bool, device="cpu")
    embeddings, batch = seen(a, b, everyone, torch.arange(10, device="cpu"), everyone)
    cross = build_objective("cross_modal", {"pairs": [["x", "y"]], "view": "plain"}, SHAPE)
    own = build_objective("in_modal", {"modality": "x", "views": ["one", "two"]}, SHAPE)
    assert cross({"plain": embeddings}, batch) == {}
    assert own({"one": embeddings, "two": embeddings}, batch) == {}


def test_in_modal_and_siglip_read_groups():
    a, b = draw()
    everyone = torch.ones(10, dtype=torch.bool, device="cpu")
    first, batch = seen(a, b, everyone, GROUPS_OF, everyone)
    second, _ = seen(b, a, everyone, GROUPS_OF, everyone)
    own = build_objective(
        "in_modal", {"modality": "x", "views": ["one", "two"], "scale": {"init": 9.0}}, SHAPE
    )
    (term,) = own({"one": first, "two": second}, batch).values()
    wanted = by_groups(LOSSES["nt_xent"], a, b, GROUPS_OF)
    assert (term.value.item(), term.count) == (pytest.approx(wanted.item(), abs=1e-6), 9)
    sig = build_objective(
        "cross_modal",
        {"pairs": [["x", "y"]], "view": "plain", "loss": "siglip", "bias": -2.0,
         "scale": {"init": 9.0}},
        SHAPE,
    )  # fmt: skip
    (term,) = sig({"plain": first}, batch).values()
    wanted = by_groups(LOSSES["sigmoid"], a, b, GROUPS_OF)
    assert term.value.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_no_task_can_be_taken_for_groups():
    """Names of tasks are letters, digits and _: a task called groups must not choose negatives."""
    assert "/" in GROUPS
