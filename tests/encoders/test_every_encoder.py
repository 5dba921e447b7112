"""What every encoder keeps, whatever it reads."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.encoders import ENCODERS, build_encoder, layer_depth, num_layers


def test_every_encoder_has_a_case(cases):
    assert {case.encoder for case in cases.values()} == set(ENCODERS)


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
    with pytest.raises(ConfigError, match="cannot read"):
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
