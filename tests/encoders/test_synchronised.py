"""What a rank without rows asks of an encoder; norms keep what is fused with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medmcl.encoders.synchronised import (
    live_norms,
    nothing_of,
    synchronise_norms,
    without_rows,
)


def test_every_encoder_takes_no_rows_and_gives_no_gradient(case):
    encoder = case.build()
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules()):
        # Only synchronised norms take no rows, on GPUs; their shapes are those of group norm.
        for module in encoder.modules():
            for name, child in list(module.named_children()):
                if isinstance(child, nn.modules.batchnorm._BatchNorm):
                    setattr(module, name, nn.GroupNorm(1, child.num_features))
    x = case.rows(3)[:0]
    with without_rows(x.device):
        encoded = encoder(x)
    assert encoded.features.shape == (0, encoder.width)
    nothing = nothing_of(encoded.features, encoded.tokens)
    nothing.backward()
    assert nothing.item() == 0
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_nothing_is_zero_even_of_what_is_not_finite():
    part = torch.tensor([[torch.nan, torch.inf]], device="cpu", requires_grad=True)
    nothing = nothing_of(part, None)
    nothing.backward()
    assert nothing.item() == 0
    assert not part.grad.any()


@pytest.mark.parametrize("model", ["resnet10t", "densenet121"])
def test_synchronised_norms_keep_weights_statistics_and_fused_activations(model):
    import timm

    torch.manual_seed(0)
    network = timm.create_model(model, in_chans=1, num_classes=0).eval()
    x = torch.randn(2, 1, 64, 64, device="cpu")
    before, names = network(x), list(network.state_dict())
    synchronised = synchronise_norms(network, None).eval()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in synchronised.modules())
    assert list(synchronised.state_dict()) == names
    torch.testing.assert_close(synchronised(x), before)


def test_without_processes_no_norm_waits():
    assert live_norms(nn.Sequential(nn.SyncBatchNorm(3))) == []
