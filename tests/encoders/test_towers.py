"""Towers: absence, frozen parts, precision, and what objectives are told."""

from __future__ import annotations

import copy

import pytest
import torch
from made_batches import batch_of, charged

from medmcl.core.batch import Batch, InputShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.encoders import Towers, TowerSettings
from medmcl.encoders.settings import HeadSettings
from medmcl.encoders.towers import Head, Tower

SHAPES = {
    "ecg": InputShape(kind="ecg", shape=(2, 20)),
    "cmr": InputShape(kind="cmr", shape=(2, 12, 12)),
    "report": InputShape(kind="text", shape=(6,), vocabulary=9),
    "clinic": InputShape(kind="tabular", shape=(2, 3), cardinalities=(0, 0, 4)),
}
SETTINGS = {
    "ecg": {
        "encoder": {"name": "ecg_vit", "patch": 5, "width": 8, "depth": 1, "heads": 2},
        "head": {"hidden": 8, "out": 4},
    },
    "cmr": {
        "encoder": {"name": "small_cnn", "widths": [6, 8], "norm": "batch"},
        "head": {"hidden": 8, "out": 4},
    },
    "report": {
        "encoder": {"name": "text_transformer", "width": 8, "depth": 1, "heads": 2},
        "head": {"layers": 1, "out": 4},
    },
    "clinic": {"encoder": {"name": "tabular_mlp", "width": 4, "hidden": 8}},
}
ROWS = 5


def build(seed: int = 0, **changes) -> Towers:
    torch.manual_seed(seed)
    settings = copy.deepcopy(SETTINGS)
    for name, change in changes.items():
        settings[name].update(change)
    return Towers.build(SHAPES, settings)


def batch(present: dict[str, list[int]] | None = None, masked: bool = False, **extra) -> Batch:
    generator = torch.Generator(device="cpu").manual_seed(7)
    inputs = {}
    for name, shape in SHAPES.items():
        size = (ROWS, *shape.shape)
        if shape.kind == "text":
            inputs[name] = torch.randint(1, 9, size, generator=generator, device="cpu")
        elif shape.kind == "tabular":
            inputs[name] = torch.randint(0, 2, size, generator=generator, device="cpu").float()
        else:
            inputs[name] = torch.randn(size, generator=generator, device="cpu")
    flags = {name: [row in rows for row in range(ROWS)] for name, rows in (present or {}).items()}
    masks = {}
    if masked:
        masks["ecg"] = torch.tensor([[True, False] * 4] * ROWS, device="cpu")
    return batch_of(inputs, flags, masks=masks, **extra)


def spoil(given: Batch, value: float) -> Batch:
    inputs = {}
    for name, x in given.inputs.items():
        fill = value if x.is_floating_point() else 8
        absent = ~given.present[name].reshape(-1, *[1] * (x.ndim - 1))
        inputs[name] = x.masked_fill(absent, fill)
    return given.with_inputs(inputs)


PRESENCE = [
    {"ecg": [0, 2], "cmr": [1, 2, 4], "report": [3], "clinic": [0, 1]},
    {"ecg": [], "cmr": [], "report": [], "clinic": []},
    {"ecg": [0, 1, 2, 3, 4], "cmr": [], "report": [4], "clinic": [2]},
]


@pytest.mark.parametrize("present", PRESENCE)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_absent_content_has_no_influence_bit_for_bit(present, masked, value):
    results = []
    for given in (batch(present, masked), spoil(batch(present, masked), value)):
        towers = build()
        seen = towers(given)
        charged(seen).backward()
        results.append((seen, towers))
    (one, a), (two, b) = results
    for group in ("pooled", "features", "tokens", "padding"):
        for name, tensor in getattr(one, group).items():
            assert torch.equal(tensor, getattr(two, group)[name]), (group, name)
            absent = ~one.batch.present[name]
            if group != "padding":
                assert not tensor[absent].any()
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert p.grad is not None, name
        assert torch.equal(p.grad, q.grad), name
    for (name, p), q in zip(a.named_buffers(), b.buffers(), strict=True):
        assert torch.equal(p, q), name


def test_present_rows_are_encoded_as_if_they_were_alone():
    towers = build().eval()
    present = PRESENCE[0]
    seen = towers(batch(present))
    for name, rows in present.items():
        alone, pooled = towers.tower(name)(batch().inputs[name][rows])
        torch.testing.assert_close(seen.pooled[name][rows], pooled)
        torch.testing.assert_close(seen.features[name][rows], alone.features)


def test_a_modality_without_any_row_gives_zeros_zero_gradients_and_keeps_statistics():
    towers = build().train()
    before = {name: b.clone() for name, b in towers.named_buffers()}
    modes = [m.training for m in towers.modules()]
    seen = towers(batch({name: [] for name in SHAPES}, masked=True))
    charged(seen).backward()
    assert not any(t.any() for t in seen.pooled.values())
    assert all(p.grad is not None and not p.grad.any() for p in towers.parameters())
    assert all(torch.equal(b, before[name]) for name, b in towers.named_buffers())
    assert [m.training for m in towers.modules()] == modes
    assert seen.padding["report"].all()


def test_one_row_alone_passes_batch_norms_with_their_running_statistics():
    head = {"hidden": 8, "out": 4, "norm": "batch"}
    towers = build(cmr={"head": head}, ecg={"head": head}).train()
    towers(batch())  # so that the running statistics are not those of the start
    before = {name: b.clone() for name, b in towers.named_buffers()}
    modes = [m.training for m in towers.modules()]
    one = batch({"cmr": [3], "ecg": [1]})
    seen = towers(one)
    charged(seen).backward()
    assert all(p.grad is not None for p in towers.tower("cmr").parameters())
    assert all(torch.equal(b, before[name]) for name, b in towers.named_buffers())
    assert [m.training for m in towers.modules()] == modes
    learned = towers.eval()(one)
    for name, row in (("cmr", 3), ("ecg", 1)):
        torch.testing.assert_close(seen.pooled[name][row], learned.pooled[name][row])


def test_pooled_points_have_unit_norm():
    for name, points in build()(batch()).pooled.items():
        torch.testing.assert_close(points.norm(dim=1), torch.ones(ROWS, device="cpu")), name


def test_a_projection_to_zero_stays_finite():
    towers = build()
    for parameter in towers.tower("ecg").head.parameters():
        torch.nn.init.zeros_(parameter)
    seen = towers(batch())
    seen.pooled["ecg"].sum().backward()
    assert not seen.pooled["ecg"].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in towers.parameters())


def test_masks_leave_only_the_visible_tokens():
    seen = build()(batch(masked=True))
    assert seen.tokens["ecg"].shape == (ROWS, 4, 8)
    assert build()(batch()).tokens["ecg"].shape == (ROWS, 8, 8)


def test_a_mask_of_what_cannot_be_masked_is_refused():
    given = batch()
    masks = {"cmr": torch.zeros(ROWS, 9, dtype=torch.bool, device="cpu")}
    with pytest.raises(ConfigError, match="'small_cnn' cannot be hidden"):
        build()(given.with_inputs(given.inputs, masks))


def test_modalities_without_a_tower_and_towers_without_input_are_passed_over():
    towers = Towers.build(SHAPES, {"ecg": SETTINGS["ecg"], "cmr": SETTINGS["cmr"]})
    given = batch()
    some = batch_of({"ecg": given.inputs["ecg"], "report": given.inputs["report"]})
    assert set(towers(some).pooled) == {"ecg"}


def test_objectives_are_told_the_shape_of_the_model():
    shape = build().shape(SHAPES, {})
    assert shape.widths == {"ecg": 8, "cmr": 8, "report": 8, "clinic": 4}
    assert shape.num_tokens == {"ecg": 8}
    assert shape.patch == {"ecg": 5}
    assert list(shape.inputs) == list(SHAPES)


@pytest.mark.parametrize("frozen", [True, "encoder"])
def test_frozen_parts_do_not_move_and_keep_their_statistics(frozen):
    towers = build(cmr={"frozen": frozen}).train()
    tower = towers.tower("cmr")
    charged(towers(batch())).backward()
    assert all(p.grad is None for p in tower.encoder.parameters())
    assert all((p.grad is None) == (frozen is True) for p in tower.head.parameters())
    statistics = [b for n, b in tower.named_buffers() if n.endswith("running_mean")]
    assert statistics
    assert not any(b.any() for b in statistics)
    assert not any(m.training for m in tower.encoder.modules())
    assert towers.tower("ecg").encoder.training
    fixed, same = tower(batch().inputs["cmr"])[1], tower.eval()(batch().inputs["cmr"])[1]
    assert torch.equal(fixed, same)


def test_under_autocast_pooled_and_features_are_float32():
    towers = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = towers(batch(PRESENCE[0]))
    charged(seen).backward()
    assert {t.dtype for t in seen.pooled.values()} == {torch.float32}
    assert {t.dtype for t in seen.features.values()} == {torch.float32}
    for name, points in seen.pooled.items():
        norms = points[seen.batch.present[name]].norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_float64_stays_float64():
    given = batch()
    inputs = {n: x.double() if x.is_floating_point() else x for n, x in given.inputs.items()}
    seen = build().double()(given.with_inputs(inputs))
    assert {t.dtype for t in seen.pooled.values()} == {torch.float64}


def test_no_tensor_is_made_on_the_default_device():
    towers, given = build(), batch(PRESENCE[2], masked=True)
    with torch.device("meta"):
        seen = towers(given)
    for group in (seen.pooled, seen.features, seen.tokens, seen.padding):
        assert {t.device.type for t in group.values()} == {"cpu"}


def test_tokens_are_projected_one_by_one():
    towers = build().eval()
    seen = towers(batch())
    points = towers.project_tokens("cmr", seen.tokens["cmr"])
    assert points.shape == (ROWS, 9, 4)
    one = towers.tower("cmr").project(seen.tokens["cmr"][2, 5][None])[0]
    torch.testing.assert_close(points[2, 5], one)
    # Features are the mean of the places: a place that is everywhere is the image.
    flat = seen.features["cmr"][:, None].expand(-1, 9, -1)
    torch.testing.assert_close(towers.project_tokens("cmr", flat)[:, 3], seen.pooled["cmr"])


def test_a_batch_without_rows_gives_no_rows():
    given = batch(masked=True)[torch.zeros(0, dtype=torch.int64, device="cpu")]
    seen = build()(given)
    assert {t.shape[0] for t in seen.pooled.values()} == {0}


def test_an_input_of_another_length_is_refused():
    given = batch()
    inputs = {**given.inputs, "ecg": given.inputs["ecg"][:, :, :15]}
    with pytest.raises(MedmclError, match=r"modality ecg[\s\S]*\(2, 15\)[\s\S]*\(2, 20\)"):
        build()(given.with_inputs(inputs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ecg": {"encoder": {"patch": 5}}}, "needs a 'name'"),
        ({"ecg": {"encoder": {"name": "ecg_vit", "pach": 5}}}, "did you mean 'patch'"),
        ({"ecg": {"encoder": {"name": "vit"}}}, "unknown encoder 'vit'"),
        ({"ecg": {"encodr": {}}}, "unknown key 'towers.ecg.encodr'; did you mean 'encoder'"),
        ({"ekg": SETTINGS["ecg"]}, "unknown modality 'ekg'; did you mean 'ecg'"),
        ({"ecg": {**SETTINGS["ecg"], "head": {"norm": "instance"}}}, "head.norm"),
    ],
)
def test_settings_that_cannot_be_used_name_the_field(settings, message):
    with pytest.raises(ConfigError, match=message):
        Towers.build(SHAPES, settings)


def test_a_name_that_a_module_cannot_have_is_refused():
    with pytest.raises(ConfigError, match="cannot have this name"):
        Towers.build({"keys": SHAPES["ecg"]}, {"keys": SETTINGS["ecg"]})


def test_checked_settings_and_plain_values_build_the_same():
    torch.manual_seed(0)
    checked = Towers.build(SHAPES, {n: TowerSettings(**s) for n, s in SETTINGS.items()})
    plain = build()
    for (name, p), q in zip(plain.named_parameters(), checked.parameters(), strict=True):
        assert torch.equal(p, q), name


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
        seen = towers(batch_of({"m": rows}, {"m": present}))
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
