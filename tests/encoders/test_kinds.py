"""What is particular to one kind of encoder."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.core.contracts import AsksForProbe, ComparesPairs, LearnsFromTeacher, TakesGroups
from medmcl.core.errors import ConfigError
from medmcl.encoders import ENCODERS, Head, HeadSettings, build_encoder, layer_depth, num_layers
from medmcl.encoders.encoded import LayerDepths, ReadsPixels, ResizesWeights, TakesVectors
from medmcl.encoders.norms import norm_layer
from medmcl.objectives import OBJECTIVES


def test_every_encoder_has_a_case(cases):
    """Of published ones, which are one class over their nets, some do."""
    assert {case.encoder for case in cases.values()} >= set(ENCODERS) - set(models.names())


def test_shapes_are_what_the_encoder_says(case):
    encoder, x = case.build(), case.rows()
    encoded = encoder(x)
    assert encoded.features.shape == (3, encoder.width)
    assert (encoder.patch is None) == (case.encoder != "ecg_vit")
    if encoded.tokens is None:
        assert encoder.grid is None
        assert encoder.num_tokens is None
        return
    count = int(torch.tensor(encoder.grid, device="cpu").prod())
    assert encoded.tokens.shape == (3, count, encoder.width)
    assert encoder.num_tokens in (None, count)
    if encoded.padding is not None:
        assert encoded.padding.shape == (3, count)


def test_gradient_reaches_every_parameter(case):
    encoder = case.build()
    encoded = encoder(case.rows(8))
    loss = encoded.features.square().sum()
    if encoded.tokens is not None:
        loss = loss + encoded.tokens.square().sum() + encoded.tokens.sum()
    loss.backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_same_seed_same_bits_another_seed_other_bits(case):
    x = case.rows()
    one, two, other = (case.build(seed).eval()(x).features for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_building_leaves_the_encoder_in_training_mode_with_untouched_statistics(case):
    encoder = case.build()
    assert all(module.training for module in encoder.modules())
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_mean"):
            assert not buffer.any()


def test_rows_do_not_see_one_another_in_evaluation(case):
    encoder, x = case.build().eval(), case.rows(4)
    whole, part = encoder(x), encoder(x[1:3])
    torch.testing.assert_close(whole.features[1:3], part.features, rtol=1e-4, atol=1e-5)


def test_no_tensor_is_made_on_the_default_device(case):
    encoder, x = case.build(), case.rows()
    mask = None
    if encoder.num_tokens is not None:
        mask = torch.zeros(3, encoder.num_tokens, dtype=torch.bool, device="cpu")
        mask[:, ::2] = True
    with torch.device("meta"):
        encoded = encoder(x, mask)
    assert encoded.features.device.type == "cpu"
    assert encoded.features.isfinite().all()


def test_buffers_and_first_weights_name_their_device(case):
    with torch.device("meta"):
        encoder = case.build() if case.encoder in ("ecg_vit", "text_transformer") else None
    if encoder is not None:
        assert encoder.positions.device.type == "cpu"


def test_bf16_autocast_gives_nearly_the_same(case):
    encoder, x = case.build().eval(), case.rows()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(x).features
    full = encoder(x).features
    scale = full.abs().max().clamp(min=1e-3)
    assert ((half.float() - full).abs().max() / scale) < 0.1


def test_float64_runs(case):
    x = case.rows()
    x = x.double() if x.is_floating_point() else x
    assert case.build().double()(x).features.dtype == torch.float64


def test_weights_survive_safetensors(case, tmp_path):
    encoder, x = case.build(0).eval(), case.rows()
    save_file(encoder.state_dict(), tmp_path / "w.safetensors")
    other = case.build(1).eval()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(encoder(x).features, other(x).features)


def test_every_parameter_has_a_layer_and_the_layers_rise(case):
    encoder = case.build()
    depths = layer_depth(encoder)
    assert set(depths) == {name for name, _ in encoder.named_parameters()}
    assert num_layers(encoder) >= max(depths.values()) >= 1
    assert min(depths.values()) in (0, 1)


def test_hiding_tokens_is_refused_where_it_means_nothing(case):
    encoder, x = case.build(), case.rows()
    if encoder.num_tokens is not None:
        return
    with pytest.raises(ConfigError, match="cannot be hidden"):
        encoder(x, torch.zeros(3, 4, dtype=torch.bool, device="cpu"))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_an_input_of_other_axes_is_refused(name):
    with pytest.raises(ConfigError, match=r"cannot read|reads records of another kind"):
        build_encoder(name, InputShape(kind="cmr", shape=(1, 2, 3, 4, 5)), {})


def test_unknown_names_and_keys_are_refused_with_the_nearest():
    shape = InputShape(kind="ecg", shape=(12, 1000))
    with pytest.raises(ConfigError, match="did you mean 'ecg_vit'"):
        build_encoder("ecg_vita", shape, {})
    with pytest.raises(ConfigError, match="unknown key 'widht'; did you mean 'width'"):
        build_encoder("ecg_vit", shape, {"widht": 8})


def test_importing_encoders_imports_neither_timm_nor_monai_nor_pyg():
    code = (
        "import sys, medmcl.encoders; "
        "heavy = ('timm', 'monai', 'torchvision', 'torch_geometric'); "
        "sys.exit(any(m in sys.modules for m in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_a_gpu_trains_and_stays_on_it(case):
    encoder, x = case.build().cuda(), case.rows(8).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        encoded = encoder(x)
        loss = encoded.features.float().square().sum()
    loss.backward()
    assert encoded.features.device.type == "cuda"
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def image(*shape: int) -> InputShape:
    return InputShape(kind="cmr", shape=shape)


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, 1e30, -7.0])
def test_an_absent_cell_has_no_influence_bit_for_bit(cases, spoil):
    case = cases["tabular_mlp"]
    results = []
    for value in (0.0, spoil):
        x = case.rows(6)
        x[:, 0] = torch.where(x[:, 1] > 0.5, x[:, 0], value)
        encoder = case.build().eval()
        features = encoder(x).features
        features.square().sum().backward()
        results.append((features, [p.grad for p in encoder.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_present_cells_do_have_influence(cases):
    case = cases["tabular_mlp"]
    encoder, x = case.build().eval(), case.rows()[:1]
    for column in range(5):
        other = x.clone()
        other[0, 0, column] = (other[0, 0, column] + 1) % 3
        assert not torch.equal(encoder(x).features, encoder(other).features), column
        other = x.clone()
        other[0, 1, column] = 0
        assert not torch.equal(encoder(x).features, encoder(other).features), column


def test_a_category_never_reads_the_levels_of_another_column(cases):
    case = cases["tabular_mlp"]
    encoder, x = case.build().eval(), case.rows()[:1]
    unseen, unknown = x.clone(), x.clone()
    unseen[0, 0, 1] = 0
    for level in (3, 99, -1):
        unknown[0, 0, 1] = level
        assert torch.equal(encoder(unseen).features, encoder(unknown).features)


def test_tables_of_numbers_only_work():
    shape = InputShape(kind="tabular", shape=(2, 2), cardinalities=(0, 0))
    encoder = build_encoder("tabular_mlp", shape, {"width": 4, "hidden": 4})
    assert encoder(torch.ones(3, 2, 2, device="cpu")).features.isfinite().all()


def test_what_stands_behind_padding_has_no_influence(cases):
    case = cases["text_transformer"]
    encoder, x = case.build().eval(), case.rows()
    encoded = encoder(x)
    short = encoder(x[2:, :2])
    assert int((x[2] != 0).sum()) == 2
    torch.testing.assert_close(encoded.features[2], short.features[0])
    assert not encoded.tokens[x == 0].any()
    assert torch.equal(encoded.padding, x == 0)


def test_a_text_of_padding_only_stays_finite(cases):
    encoder = cases["text_transformer"].build()
    encoded = encoder(torch.zeros(2, 7, dtype=torch.int64, device="cpu"))
    encoded.features.sum().backward()
    assert encoded.features.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_hiding_frames_equals_encoding_the_others(cases):
    encoder, x = cases["cine"].build().eval(), cases["cine"].rows()
    mask = torch.tensor([[True, False, False, True, False]] * 3, device="cpu")
    spoiled = x.masked_fill(mask[..., None, None], torch.nan)
    encoded = encoder(spoiled, mask)
    assert encoded.tokens.shape == (3, 3, 16)
    assert torch.equal(encoded.features, encoder(x, mask).features)
    assert not torch.allclose(encoded.features, encoder(x).features)


def test_the_order_of_frames_matters(cases):
    encoder, x = cases["cine"].build().eval(), cases["cine"].rows()
    assert not torch.allclose(encoder(x).features, encoder(x.flip(1)).features)


def test_features_of_an_image_are_the_mean_of_its_places(cases):
    for name in ("small_cnn", "timm", "monai3d", "resnet1d"):
        encoded = cases[name].build().eval()(cases[name].rows())
        torch.testing.assert_close(encoded.features, encoded.tokens.mean(1))


def test_the_places_of_an_image_lie_row_by_row(cases):
    encoder = cases["small_cnn"].build().eval()
    x = torch.zeros(1, 3, 20, 17, device="cpu")
    before = encoder(x).tokens
    x[0, :, 16:, :3] = 5.0
    changed = (encoder(x).tokens - before).abs().sum(2).reshape(encoder.grid)
    # Group norm moves every place a little; the lower left corner moves most.
    assert int(changed.argmax()) == (encoder.grid[0] - 1) * encoder.grid[1]


@pytest.mark.parametrize("model", ["convnext_atto", "swin_tiny_patch4_window7_224", "resnet18"])
def test_timm_models_of_several_layouts_give_tokens_on_a_grid(model):
    options = {"swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1), "window_size": 4}}
    encoder = build_encoder(
        "timm", image(1, 64, 64), {"model": model, "options": options.get(model, {})}
    ).eval()
    with torch.no_grad():
        encoded = encoder(torch.randn(1, 1, 64, 64, device="cpu"))
    assert encoder.grid == (2, 2)
    assert encoded.tokens.shape == (1, 4, encoder.width)


def test_a_timm_model_that_does_not_exist_is_named_with_its_neighbours():
    with pytest.raises(ConfigError, match=r"no model 'resnet_18'[\s\S]*resnet18"):
        build_encoder("timm", image(3, 32, 32), {"model": "resnet_18"})


def test_a_timm_model_that_widens_after_pooling_is_refused():
    with pytest.raises(ConfigError, match="widens its features"):
        build_encoder("timm", image(3, 32, 32), {"model": "mobilenetv3_small_050"})


def test_a_small_monai_densenet_builds_and_runs():
    encoder = build_encoder(
        "monai3d", image(1, 32, 32, 32), {"network": "densenet121", "norm": "group"}
    ).eval()
    with torch.no_grad():
        encoded = encoder(torch.zeros(1, 1, 32, 32, 32, device="cpu"))
    assert encoded.features.shape == (1, 1024)
    depths = layer_depth(encoder)
    assert set(depths.values()) == {0, 1, 2, 3, 4}


def test_a_volume_too_thin_for_the_network_is_refused():
    with pytest.raises(ConfigError, match="cannot take an input of this size"):
        build_encoder("monai3d", image(1, 8, 32, 32), {"network": "densenet121"})


def test_the_stem_of_the_monai_network_strides(cases):
    case = cases["monai3d"]
    slow = build_encoder("monai3d", case.shape, {**case.settings, "stem_stride": 1})
    assert slow.grid[1] == 2 * case.build().grid[1] or slow.grid[1] > case.build().grid[1]


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="odd number"):
        build_encoder("resnet1d", InputShape(kind="ecg", shape=(2, 64)), {"kernel": 4})


def test_the_paper_s_head_is_two_linear_layers_without_a_norm():
    head = Head(384, HeadSettings())
    kinds = [type(layer) for layer in head.layers]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.out_features for layer in head.layers if isinstance(layer, nn.Linear)] == [
        2048,
        128,
    ]
    # measured on the authors' code: heads of 1.1 M (ECG) and 4.5 M (CMR) parameters
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(1.1e6, rel=0.05)
    wide = Head(2048, HeadSettings())
    assert sum(p.numel() for p in wide.parameters()) == pytest.approx(4.5e6, rel=0.02)


@pytest.mark.parametrize(
    ("norm", "kind"), [("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d), ("none", None)]
)
def test_a_head_has_the_norm_that_is_asked_for(norm, kind):
    head = Head(4, HeadSettings(hidden=8, out=3, layers=3, norm=norm))
    found = [type(m) for m in head.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm1d)]
    assert found == ([kind] * 2 if kind else [])
    assert head(torch.ones(2, 4, device="cpu")).shape == (2, 3)


def test_group_norm_fits_any_width():
    for channels in (6, 7, 12, 196):
        assert channels % norm_layer("group", channels, 1).num_groups == 0


CODES = InputShape(kind="codes", shape=(5, 2), vocabulary=9)


def test_code_transformer_reads_days_and_not_the_order_of_rows():
    torch.manual_seed(0)
    encoder = build_encoder("code_transformer", CODES, {"width": 16, "heads": 2}).eval()
    x = torch.tensor([[[2, 400], [3, 30], [4, 1], [0, 0], [0, 0]]], device="cpu")
    features = encoder(x).features
    torch.testing.assert_close(encoder(x[:, [2, 0, 1, 3, 4]]).features, features)
    later = x.clone()
    later[0, 0, 1] = 4
    assert (encoder(later).features - features).abs().max() > 1e-4
    torch.testing.assert_close(encoder(x[:, :3]).features, features)  # padding weighs nothing


def test_undated_events_have_no_waves():
    torch.manual_seed(0)
    encoder = build_encoder("code_transformer", CODES, {"width": 16, "heads": 2}).eval()
    x = torch.tensor([[[2, -1], [3, -1], [0, 0], [0, 0], [0, 0]]], device="cpu")
    before = encoder(x).features
    torch.nn.init.normal_(encoder.time.weight)
    torch.testing.assert_close(encoder(x).features, before)


def test_lookup_is_the_mean_of_known_codes():
    encoder = build_encoder("lookup", CODES, {"width": 3})
    x = torch.tensor(
        [[[2, 9], [2, 1], [5, 0], [1, 0], [0, 0]], [[1, 0], [0, 0], [0, 0], [0, 0], [0, 0]]],
        device="cpu",
    )
    table = encoder.table.weight
    encoded = encoder(x).features
    torch.testing.assert_close(encoded[0], (2 * table[2] + table[5]) / 3)
    assert not encoded[1].any()


@pytest.mark.parametrize("name", ["code_transformer", "lookup"])
def test_encoders_of_codes_refuse_other_inputs(name):
    with pytest.raises(ConfigError, match="reads codes"):
        build_encoder(name, InputShape(kind="tabular", shape=(5, 2)), {})


def test_layers_of_the_ecg_transformer_are_those_of_beit(cases):
    encoder = cases["ecg_vit_joint"].build()
    depths = layer_depth(encoder)
    for name in ("embed.weight", "embed.bias", "cls_token", "positions"):
        assert depths[name] == 0
    assert depths["blocks.0.attn.qkv.weight"] == 1
    assert depths["blocks.1.norm2.bias"] == 2
    assert depths["norm.weight"] == 3
    # Two blocks: the head and the final norm are layer 3, at the full rate.
    assert num_layers(encoder) == 3


def test_a_residual_network_counts_its_blocks(cases):
    encoder = cases["resnet1d"].build()
    depths = layer_depth(encoder)
    assert depths["stem.0.weight"] == 0
    assert depths["blocks.1.conv1.weight"] == 2
    assert num_layers(encoder) == 3


def test_timm_s_own_order_is_kept():
    shape = InputShape(kind="cmr", shape=(1, 32, 32))
    encoder = build_encoder("timm", shape, {"model": "resnet18"})
    depths = layer_depth(encoder)
    assert depths["model.conv1.weight"] == 0
    assert depths["model.layer1.0.conv1.weight"] < depths["model.layer4.1.conv2.weight"]
    assert num_layers(encoder) == max(depths.values()) + 1


def test_a_cine_encoder_counts_frames_first(cases):
    encoder = cases["cine"].build()
    depths = layer_depth(encoder)
    assert depths["frame.blocks.0.0.weight"] == 1
    assert depths["enter.weight"] == 1
    assert depths["blocks.0.attn.qkv.weight"] == 2
    assert depths["norm.weight"] == 3
    assert num_layers(encoder) == 3


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (TakesVectors, {"code_transformer"}),
        (ResizesWeights, {"timm"}),
        (ReadsPixels, {"timm", "hf_image"}),
        (
            LayerDepths,
            {"timm", "hf_text", "hf_image", "monai3d", "cine", "lookup", "snp_pathway"},
        ),
    ],
)
def test_encoders_keep_what_they_add(protocol, names):
    found = {name for name, one in ENCODERS.items() if issubclass(one, protocol)}
    assert found - set(models.names()) == names


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (ComparesPairs, {"cross_modal", "symile", "gram", "centrobind"}),
        (TakesGroups, {"cross_modal", "in_modal"}),
    ],
)
def test_objectives_keep_what_they_add(protocol, names):
    assert {name for name, one in OBJECTIVES.items() if isinstance(one, protocol)} == names


def test_settings_of_objectives_say_what_these_ask_for():
    models = OBJECTIVES.settings.items()
    assert {n for n, one in models if isinstance(one, LearnsFromTeacher)} == {"par", "distil"}
    assert {n for n, one in models if isinstance(one, AsksForProbe)} == {"cross_modal"}
