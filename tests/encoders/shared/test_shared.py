"""The shared tower: what is shared, absence, padding, sizes, routing that reaches the optimiser."""

from __future__ import annotations

import math

import pytest
import torch
from made_batches import batch_of, charged

from medmcl.core.batch import Batch, InputShape
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.router_stats import RouterSums
from medmcl.encoders.name_maps import upcycle
from medmcl.encoders.shared.tower import SharedTower
from medmcl.objectives import build_objective

INPUTS = {
    "image": InputShape(kind="image", shape=(2, 8, 12)),
    "text": InputShape(kind="text", shape=(6,), vocabulary=9),
    "ecg": InputShape(kind="ecg", shape=(3, 40)),
    "codes": InputShape(kind="codes", shape=(5, 2), vocabulary=9),
}
PROJECTIONS = {
    "image": {"patch": 4},
    "ecg": {"patch": 10},
    "codes": {"encoder": {"name": "code_transformer", "width": 8, "depth": 1, "heads": 2}},
}
SMALL = {"width": 16, "depth": 4, "heads": 2, "out": 5, "input_projections": PROJECTIONS}
TOKENS = {"image": 6, "text": 6, "ecg": 12, "codes": 5}
ROWS = 6


def build(seed=0, experts=None, **settings):
    torch.manual_seed(seed)
    own = {"experts": 4, "noise": 0.0, **(experts or {})}
    return SharedTower.build(INPUTS, {**SMALL, "experts": own, **settings})


def batch(present=None, masked=False, seed=7):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    text = torch.randint(1, 9, (ROWS, 6), generator=generator, device="cpu")
    text[1, 3:] = 0
    codes = torch.randint(2, 9, (ROWS, 5, 2), generator=generator, device="cpu")
    codes[2, 2:] = 0
    inputs = {
        "image": torch.randn(ROWS, 2, 8, 12, generator=generator, device="cpu"),
        "text": text,
        "ecg": torch.randn(ROWS, 3, 40, generator=generator, device="cpu"),
        "codes": codes,
    }
    flags = {name: [row in rows for row in range(ROWS)] for name, rows in (present or {}).items()}
    masks = {}
    if masked:
        masks = {"ecg": torch.tensor([[True, False, True] * 4] * ROWS, device="cpu")}
    return batch_of(inputs, flags, masks=masks)


def charge(seen):
    return charged(seen) + sum(x.sum() for x in seen.stats.values())


@pytest.mark.parametrize("pool", ["gap", "map"])
@pytest.mark.parametrize("masked", [False, True])
def test_every_modality_that_yields_tokens_passes_one_trunk(pool, masked):
    tower = build(pool=pool)
    seen = tower(batch(masked=masked))
    for name in INPUTS:
        assert seen.pooled[name].shape == (ROWS, 5)
        torch.testing.assert_close(seen.pooled[name].norm(dim=1), torch.ones(ROWS, device="cpu"))
        tokens = 4 if masked and name == "ecg" else TOKENS[name]
        assert seen.tokens[name].shape == (ROWS, tokens, 16)
    shape = tower.shape(INPUTS)
    assert shape.widths == dict.fromkeys(INPUTS, 16)
    assert shape.num_tokens == {"image": 6, "ecg": 12}
    assert shape.patch == {"ecg": 10}
    charge(seen).backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_only_input_projections_and_last_maps_are_a_modalitys_own():
    names = {name for name, _ in build().named_parameters()}
    own = {name for name in names if any(f"towers.{m}." in name for m in INPUTS)}
    assert all(name.split(".")[2] in ("encoder", "head") for name in own)
    assert all(name.startswith("trunk.") for name in names - own)
    with_experts = {int(n.split(".")[2]) for n in names if ".moe." in n}
    assert with_experts == {1, 3}


@pytest.mark.parametrize(
    "present",
    [
        {"image": [0, 2], "text": [1, 2, 4], "ecg": [3], "codes": [0, 1]},
        {"image": [], "text": [0, 1], "ecg": [], "codes": [5]},
        {"image": [], "text": [], "ecg": [], "codes": []},
    ],
)
@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_absent_content_has_no_influence_bit_for_bit(present, value):
    outcomes = []
    for fill in (0.0, value):
        given = batch(present, masked=True)
        inputs = {
            name: x.masked_fill(~given.present[name].reshape(-1, *[1] * (x.ndim - 1)),
                                fill if x.is_floating_point() else 8)
            for name, x in given.inputs.items()
        }  # fmt: skip
        tower = build()
        seen = tower(given.with_inputs(inputs))
        loss = charge(seen)
        loss.backward()
        outcomes.append((loss, [p.grad for p in tower.parameters()], seen))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    for one, other in zip(outcomes[0][1], outcomes[1][1], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    for name in INPUTS:
        gone = [row for row in range(ROWS) if row not in present[name]]
        assert not outcomes[0][2].pooled[name][gone].any()


@pytest.mark.parametrize("routing", ["tokens", "experts"])
def test_a_row_does_not_see_the_others_in_evaluation(routing):
    tower = build(experts={"routing": routing, "capacity_factor": 0.5}).eval()
    whole = tower(batch())
    some = torch.tensor([3, 1], device="cpu")
    alone = tower(batch()[some])
    only = {"text": batch().inputs["text"][some]}
    text = tower(batch_of(only))
    for name in INPUTS:
        torch.testing.assert_close(alone.pooled[name], whole.pooled[name][some])
    torch.testing.assert_close(text.pooled["text"], whole.pooled["text"][some])


def test_padding_has_no_influence():
    tower = build().eval()
    given = batch()
    short = tower(given).pooled["text"][1]
    inputs = dict(given.inputs)
    inputs["text"] = inputs["text"][:, :3]
    tower.towers["text"].shape = (3,)
    torch.testing.assert_close(tower(given.with_inputs(inputs)).pooled["text"][1], short)


def test_stats_count_tokens_row_by_row():
    tower = build(experts={"noise": 1.0, "capacity_factor": 0.6, "k": 2})
    given = batch({"text": [0, 1, 5]})
    seen = tower(given)
    text = RouterSums.read(seen.stats, "text")
    assert text.gates.shape == (ROWS, 2, 4)
    assert text.tokens[:, 0, 0].tolist() == [6, 3, 0, 0, 0, 6]
    torch.testing.assert_close(text.gates.sum(-1, keepdim=True), text.tokens)
    torch.testing.assert_close(text.first.sum(-1, keepdim=True), text.tokens)
    every = [RouterSums.read(seen.stats, name) for name in INPUTS]
    offered, kept = (sum(getattr(x, f).sum() for x in every) for f in ("tokens", "kept"))
    assert 0 < kept < offered == 2 * (6 * 6 + 15 + 12 * 6 + 5 * 6 - 3)
    assert RouterSums.read(tower.eval()(given).stats, "text").load is None


def test_groups_of_rows_and_of_modalities_keep_their_slots():
    """A group is routed as if the rest of the batch were not there."""
    for experts in ({"group_rows": 2}, {"grouping": "per_modality", "group_rows": 2}):
        tower = build(experts={"capacity_factor": 0.6, **experts})
        given = batch()
        pair = torch.tensor([2, 3], device="cpu")
        whole, alone = tower(given), tower(given[pair])
        torch.testing.assert_close(whole.pooled["image"][pair], alone.pooled["image"])
    only = batch_of({"text": given.inputs["text"]})
    torch.testing.assert_close(tower(only).pooled["text"], whole.pooled["text"])
    joint = build(experts={"capacity_factor": 0.6})
    assert not torch.allclose(joint(only).pooled["text"], joint(given).pooled["text"])


def test_a_modality_of_padding_only_does_no_harm():
    tower = build()
    given = batch()
    inputs = {**given.inputs, "text": torch.zeros_like(given.inputs["text"])}
    seen = tower(given.with_inputs(inputs))
    objective = build_objective("router", {"view": "plain"}, tower.shape(INPUTS))
    terms = objective({"plain": seen}, given)
    assert "router/local/text" not in terms
    (sum(term.value for term in terms.values()) + charge(seen)).backward()
    assert seen.pooled["text"].isfinite().all()
    assert all(p.grad.isfinite().all() for p in tower.parameters() if p.grad is not None)
    only = batch_of({"text": inputs["text"]})
    seen = tower(only)
    assert objective({"plain": seen}, only) == {}
    charge(seen).backward()


@pytest.mark.parametrize("pool", ["gap", "map"])
def test_a_mask_that_hides_every_token_is_refused(pool):
    given = batch(masked=True)
    hidden = {"ecg": torch.ones_like(given.masks["ecg"])}
    all_hidden = Batch(ids=given.ids, inputs=given.inputs, present=given.present, masks=hidden)
    with pytest.raises(MedmclError, match="12 of 12 tokens hidden"):
        build(pool=pool)(all_hidden)


def test_router_losses_reach_the_routers():
    tower = build(experts={"noise": 1.0})
    objective = build_objective("router", {"view": "plain"}, tower.shape(INPUTS))
    terms = objective({"plain": tower(batch())}, batch())
    assert set(terms) == set(objective.terms)
    for name, term in terms.items():
        grads = torch.autograd.grad(
            term.value, [tower.trunk.blocks[n].moe.router.weight for n in (1, 3)],
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        if not name.startswith("router/global/"):
            assert all(grad is not None and grad.any() for grad in grads), name


def millions(size, experts=32, **settings):
    inputs = {
        "image": InputShape(kind="image", shape=(3, 224, 224)),
        "text": InputShape(kind="text", shape=(16,), vocabulary=32_000),
    }
    with torch.device("meta"):
        tower = SharedTower.build(
            inputs, {"size": size, "experts": {"experts": experts}, **settings}
        )
    total = sum(p.numel() for p in tower.parameters())
    ours = sum(p.numel() for n, p in tower.named_parameters() if ".mlps." in n)
    return tower, total / 1e6, (total - ours + ours / experts) / 1e6


@pytest.mark.parametrize(
    ("size", "width", "depth", "heads", "tokens", "layers"),
    [
        ("tiny", 64, 4, 4, 784, 2),
        ("S/16", 512, 8, 8, 196, 4),
        ("B/32", 768, 12, 12, 49, 6),
        ("B/16", 768, 12, 12, 196, 6),
        ("L/16", 1024, 24, 16, 196, 12),
        ("H/14", 1280, 32, 16, 256, 12),
    ],
)
def test_sizes_have_the_shapes_that_their_names_say(size, width, depth, heads, tokens, layers):
    tower, total, active = millions(size, experts=2)
    blocks = tower.trunk.blocks
    assert len(blocks) == depth
    assert len(tower.trunk.moes) == layers
    assert tower.towers["image"].facts.num_tokens == tokens
    assert blocks[0].attn.heads == heads
    assert blocks[0].mlp.fc1.weight.shape == (4 * width, width)
    assert blocks[-1].moe.mlps.weight1.shape == (2, 4 * width, width)
    assert active < total


@pytest.mark.parametrize(
    ("size", "active", "total"),
    [
        ("B/16", 112, 990),  # 0.1 B of a token in the paper
        ("L/16", 339, 3461),  # 0.3 B
        ("H/14", 675, 5560),  # 675 M and 5.6 B
    ],
)
def test_a_token_meets_as_many_parameters_as_the_paper_says(size, active, total):
    tower, found, met = millions(size)
    assert met == pytest.approx(active, rel=0.01)
    assert found == pytest.approx(total, rel=0.01)
    width, hidden = tower.trunk.blocks[0].mlp.fc1.weight.shape[::-1]
    expert = (2 * width * hidden + width + hidden) / 1e6
    assert found - met == pytest.approx(len(tower.trunk.moes) * 31 * expert)


@pytest.mark.parametrize("size", ["tiny", "S/16", "B/32"])
def test_a_step_runs_at_sizes_that_are_trained_through(size):
    inputs = {
        "image": InputShape(kind="image", shape=(1, 32, 32)),
        "text": InputShape(kind="text", shape=(3,), vocabulary=9),
    }
    with torch.device("meta"):
        tower = SharedTower.build(inputs, {"size": size, "experts": {"experts": 2}})
    tower = tower.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if "norm" in name:
                parameter.fill_(float(name.endswith("weight")))
            else:
                parameter.uniform_(-0.03, 0.03)
    given = batch_of(
        {
            "image": torch.randn(2, 1, 32, 32, device="cpu"),
            "text": torch.tensor([[1, 2, 3], [4, 5, 0]], device="cpu"),
        }
    )

    def apart():
        seen = tower.eval()(given)
        return (seen.pooled["image"] - seen.pooled["text"]).square().sum()

    torch.manual_seed(1)
    seen = tower.train()(given)
    (seen.pooled["image"] - seen.pooled["text"]).square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        before = apart()
        rate = 0.1 / torch.stack([p.grad.norm() for p in tower.parameters()]).norm()
        for parameter in tower.parameters():
            parameter -= rate * parameter.grad
        assert apart() < before


def test_without_experts_it_is_a_dense_tower_of_equal_active_size():
    _, _, active = millions("B/16", experts=8)
    tower, total, _ = millions("B/16", experts=8)
    dense = SharedTower.build(INPUTS, {"experts": None, "input_projections": PROJECTIONS})
    assert dense(batch()).stats == {}
    assert len(tower.trunk.moes) == 6
    assert active == pytest.approx(86 + 0.15 + 25 + 1.2, rel=0.01)  # ViT-B, positions, words, maps
    assert total - active == pytest.approx(6 * 7 * 4.722, rel=0.01)


def test_upcycled_experts_begin_as_the_dense_tower_and_can_part():
    dense = SharedTower.build(INPUTS, {**SMALL, "experts": None}).eval()
    tower = build(experts={"k": 2, "normalise": True, "bias_rate": 0.1})
    router = tower.trunk.blocks[1].moe.router.weight.clone()
    upcycle(tower, dense.state_dict())
    assert torch.equal(tower.trunk.blocks[1].moe.router.weight, router)
    for name, points in tower.eval()(batch()).pooled.items():
        torch.testing.assert_close(points, dense(batch()).pooled[name], rtol=1e-4, atol=1e-5)
    tower.train()
    charge(tower(batch())).backward()
    grads = tower.trunk.blocks[1].moe.mlps.weight1.grad
    assert not torch.equal(grads[0], grads[1])


def test_upcycling_from_another_tower_is_refused():
    other = SharedTower.build(INPUTS, {**SMALL, "width": 8, "experts": None})
    with pytest.raises(ArtefactError, match="does not fit"):
        upcycle(build(), other.state_dict())
    with pytest.raises(ArtefactError, match="does not fit"):
        upcycle(build(), build().state_dict())


def entering(**changes):
    return {"input_projections": {**PROJECTIONS, **changes}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (entering(image={"patch": 5}), "8 x 12 pixels, patch 5"),
        (entering(image={"name": "patch"}), "did you mean 'patches'"),
        (entering(ecg={"patch": 7}), "40 samples, patch 7"),
        ({"input_projections": {"ecg": {"patch": 10}, "image": {"patch": 4}}},
         "no input projection of its own"),
        (entering(image={"encoder": {"name": "small_cnn", "norm": "batch", "widths": [4]}}),
         "batch norm"),
        (entering(text={"patch": 2}), "patch"),
        ({"depth": 1}, "second block"),
        ({"size": "B/8"}, "size"),
        ({"experts": {"normalise": True}}, "2 experts or more"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        SharedTower.build(
            INPUTS, {"width": 16, "heads": 2, "input_projections": PROJECTIONS, **settings}
        )
    assert words in str(error.value)


def test_an_input_of_another_shape_is_refused():
    given = batch()
    inputs = {**given.inputs, "ecg": torch.zeros(ROWS, 3, 30, device="cpu")}
    with pytest.raises(MedmclError, match="modality ecg"):
        build()(given.with_inputs(inputs))


def test_bfloat16_gives_finite_unit_points_and_float32_stats():
    tower = build(experts={"noise": 1.0})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = tower(batch())
    assert all(x.dtype == torch.float32 for x in seen.stats.values())
    torch.testing.assert_close(
        seen.pooled["text"].norm(dim=1), torch.ones(ROWS, device="cpu"), rtol=1e-4, atol=1e-4
    )
    charge(seen).backward()
