"""Layers for layer-wise decay of the learning rate."""

from __future__ import annotations

import pytest

from medmcl.core.batch import InputShape
from medmcl.core.contracts import AsksForProbe, ComparesPairs, LearnsFromTeacher, TakesGroups
from medmcl.encoders import ENCODERS, build_encoder, layer_depth, num_layers
from medmcl.encoders.encoded import LayerDepths, ReadsPixels, ResizesWeights, TakesVectors
from medmcl.objectives import OBJECTIVES


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
        (ReadsPixels, {"timm"}),
        (LayerDepths, {"timm", "hf_text", "monai3d", "cine", "lookup", "snp_pathway"}),
    ],
)
def test_encoders_keep_what_they_add(protocol, names):
    assert {name for name, one in ENCODERS.items() if issubclass(one, protocol)} == names


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
