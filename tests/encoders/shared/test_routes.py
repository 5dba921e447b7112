"""Who takes each token: against loops over layers, rows and tokens."""

from __future__ import annotations

import pytest
import torch
from small_shared import EXPERTS, INPUTS, ROWS, batch, build

from medmcl.core.batch import Batch
from medmcl.core.errors import ConfigError
from medmcl.core.router_stats import RouterSums
from medmcl.encoders.shared.routes import NOBODY, routes


def slowly(tower, shown):
    """Gates of each real token in each layer, with the blocks written out one token at a time."""
    found = {}
    tower.eval()
    with torch.no_grad():
        for name in INPUTS:
            for row in shown.present[name].nonzero().squeeze(1).tolist():
                encoded = tower.tower(name).encoder(shown.inputs[name][row : row + 1])
                x, padding, layer = encoded.tokens, encoded.padding, 0
                for block in tower.trunk.blocks:
                    x = x + block.attn(block.norm1(x), padding)
                    if block.moe is None:
                        x = x + block.mlp(block.norm2(x))
                        continue
                    inside, out = block.norm2(x), torch.zeros_like(x)
                    for t in range(x.shape[1]):
                        if padding is not None and padding[0, t]:
                            continue
                        gates = block.moe.router(inside[:, t])[0].softmax(0)
                        found[name, row, t, layer] = gates
                        for e in gates.topk(block.moe.settings.k).indices.tolist():
                            one = torch.tensor([int(n == e) for n in range(EXPERTS)], device="cpu")
                            out[:, t] += gates[e] * block.moe.mlps(inside[:, t], one)
                    x, layer = x + out, layer + 1
    return found


@pytest.mark.parametrize("k", [1, 2])
def test_routes_are_those_of_a_loop_over_tokens(k):
    tower, shown = build(k=k, capacity_factor=0.3).train(), batch()
    found, want = routes(tower, shown), slowly(tower, shown)
    tower.train()
    seen = 0
    for name, one in found.items():
        assert one.expert.shape == one.gate.shape == (ROWS, {"image": 4, "text": 5}[name], 2)
        for place in torch.cartesian_prod(
            *(torch.arange(n, device="cpu") for n in one.expert.shape)
        ):
            row, token, layer = place.tolist()
            expert, gate = one.expert[row, token, layer].item(), one.gate[row, token, layer].item()
            gates = want.get((name, row, token, layer))
            if gates is None:
                assert (expert, gate) == (NOBODY, 0)
                continue
            assert expert == gates.argmax().item()
            assert gate == pytest.approx(gates.max().item(), abs=1e-5)
            seen += 1
    assert seen == len(want)


def test_routes_are_the_first_choices_that_the_tower_reports():
    tower, shown = build().eval(), batch()
    found = routes(tower, shown)
    stats = tower(shown).stats
    for name, one in found.items():
        sums = RouterSums.read(stats, name)
        for e in range(EXPERTS):
            assert torch.equal((one.expert == e).sum(1), sums.first[..., e].long())


def test_where_experts_choose_a_token_goes_to_its_surest_taker_or_to_nobody():
    tower, shown = build(routing="experts", capacity_factor=0.7).eval(), batch()
    found, stats = routes(tower, shown), tower(shown).stats
    for name, one in found.items():
        kept = RouterSums.read(stats, name).kept[..., 0]
        assert torch.equal((one.expert != NOBODY).sum(1), kept.long())
    assert (found["image"].expert[shown.present["image"]] == NOBODY).any()


def test_it_is_asked_in_evaluation_mode_and_leaves_the_tower_as_it_was():
    tower, shown = build(noise=5.0, capacity_factor=0.1).train(), batch()
    first, second = routes(tower, shown), routes(tower, shown)
    for name, one in first.items():
        assert torch.equal(one.expert, second[name].expert)
        assert not one.gate.requires_grad
    assert all(part.training for part in tower.modules())
    assert not tower.trunk._forward_hooks


def test_a_batch_without_rows_and_a_dense_tower():
    tower, shown = build(), batch()
    nobody = {name: torch.zeros(ROWS, dtype=torch.bool, device="cpu") for name in INPUTS}
    empty = Batch(ids=shown.ids, inputs=shown.inputs, present=nobody)
    assert routes(tower, empty) == {}
    dense = build(experts=None)
    with pytest.raises(ConfigError, match="no experts"):
        routes(dense, shown)
