"""The ECG transformer: order of tokens, masks, and the paper's sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import AttentionPool, sincos_2d
from medmcl.encoders import build_encoder

PAPER = InputShape(kind="ecg", shape=(12, 2500))


def trainable(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)


def random_mask(rows: int, tokens: int, hidden: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    noise = torch.rand(rows, tokens, generator=generator, device="cpu")
    return noise.argsort(1).argsort(1) < hidden


def test_the_paper_s_encoder_has_5_36_million_trainable_parameters():
    encoder = build_encoder("ecg_vit", PAPER, {})
    assert encoder.grid == (12, 25)
    assert encoder.num_tokens == 300
    assert trainable(encoder) == pytest.approx(5.36e6, rel=0.01)


def test_the_paper_s_fine_tune_model_has_6_07_million_parameters():
    encoder = build_encoder("ecg_vit", PAPER, {"trainable_positions": True})
    assert trainable(encoder) == pytest.approx(5.48e6, rel=0.01)
    model = (encoder, AttentionPool(384, 6), nn.Linear(384, 2))
    assert trainable(*model) == pytest.approx(6.07e6, rel=0.01)


def test_tokens_are_lead_major(cases):
    encoder = cases["ecg_vit"].build()
    x = torch.arange(120.0, device="cpu").reshape(1, 3, 40)
    patches = encoder.patches(x)
    for lead in range(3):
        for time in range(4):
            expected = x[0, lead, time * 10 : time * 10 + 10]
            assert torch.equal(patches[0, lead * 4 + time], expected)
    assert torch.equal(encoder.positions, sincos_2d(3, 4, 16, "cpu"))


def test_joint_patches_hold_every_lead_of_a_time(cases):
    encoder = cases["ecg_vit_joint"].build()
    x = torch.arange(120.0, device="cpu").reshape(1, 3, 40)
    patches = encoder.patches(x)
    assert encoder.num_tokens == 4
    for time in range(4):
        assert torch.equal(patches[0, time].reshape(3, 10), x[0, :, time * 10 : time * 10 + 10])


@pytest.mark.parametrize("name", ["ecg_vit", "ecg_vit_joint"])
def test_a_mask_equals_taking_the_visible_tokens_by_hand(cases, name):
    encoder, x = cases[name].build().eval(), cases[name].rows()
    tokens = encoder.num_tokens
    mask = random_mask(3, tokens, tokens - 3)
    encoded = encoder(x, mask)
    assert encoded.tokens.shape == (3, 3, 16)
    for row in range(3):
        seen = [t for t in range(tokens) if not mask[row, t]]
        patches = encoder.patches(x)[row, seen]
        by_hand = encoder.embed(patches) + encoder.positions[seen]
        by_hand = torch.cat([encoder.cls_token[0], by_hand])[None]
        for block in encoder.blocks:
            by_hand = block(by_hand)
        torch.testing.assert_close(encoded.tokens[row], encoder.norm(by_hand[0, 1:]))
        torch.testing.assert_close(encoded.features[row], encoder.norm(by_hand[0, 1:].mean(0)))


def test_hidden_samples_have_no_influence_bit_for_bit(cases):
    encoder, x = cases["ecg_vit"].build(), cases["ecg_vit"].rows()
    mask = random_mask(3, 12, 7)
    spoiled = encoder.patches(x).masked_fill(mask[..., None], torch.nan).reshape(3, 3, 40)
    one, two = encoder(x, mask), encoder(spoiled, mask)
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.features, two.features)


def test_a_mask_that_hides_nothing_changes_nothing(cases):
    encoder, x = cases["ecg_vit"].build().eval(), cases["ecg_vit"].rows()
    mask = torch.zeros(3, 12, dtype=torch.bool, device="cpu")
    assert torch.equal(encoder(x, mask).tokens, encoder(x).tokens)


def test_rows_must_hide_alike_many(cases):
    encoder, x = cases["ecg_vit"].build(), cases["ecg_vit"].rows()
    mask = random_mask(3, 12, 7)
    mask[0] = False
    with pytest.raises(ValueError, match="same number of tokens, got 0 to 7"):
        encoder(x, mask)


def test_a_token_keeps_its_place_in_lead_and_time(cases):
    encoder, x = cases["ecg_vit"].build().eval(), cases["ecg_vit"].rows()
    swapped = x[:, [1, 0, 2]]
    assert not torch.allclose(encoder(x).features, encoder(swapped).features)


def test_drop_path_rises_to_its_value_in_the_last_block(cases):
    shape = InputShape(kind="ecg", shape=(1, 8))
    settings = {"patch": 4, "width": 8, "heads": 2, "depth": 3, "drop_path": 0.2}
    encoder = build_encoder("ecg_vit", shape, settings)
    assert [b.drop_path.rate for b in encoder.blocks] == pytest.approx([0.0, 0.1, 0.2])


def test_a_patch_that_does_not_divide_the_signal_is_refused():
    with pytest.raises(ConfigError, match="2500 samples, patch 300"):
        build_encoder("ecg_vit", PAPER, {"patch": 300})


def test_positions_have_one_name_whether_trained_or_not(cases):
    fixed = cases["ecg_vit"].build()
    settings = {**cases["ecg_vit"].settings, "trainable_positions": True}
    trained = build_encoder("ecg_vit", cases["ecg_vit"].shape, settings)
    trained.load_state_dict(fixed.state_dict())
    assert trained.positions.requires_grad
    assert not fixed.positions.requires_grad
