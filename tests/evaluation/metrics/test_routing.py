"""Numbers on routers against loops over tokens."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from medmcl.core.router_stats import RouterSums, entropy
from medmcl.evaluation.metrics.routing import describe_routers

BLOCKS, EXPERTS = (1, 3), 5


def made(rng, tokens):
    """Gates of tokens in two layers, who was kept, and their sums as a tower reports them."""
    gates = rng.dirichlet(np.full(EXPERTS, 0.3), (len(BLOCKS), tokens))
    kept = rng.random((len(BLOCKS), tokens)) < 0.8
    first = np.eye(EXPERTS)[gates.argmax(-1)]
    layers = torch.from_numpy(gates)
    sums = RouterSums.of({
        "gates": layers.sum(1), "routed": layers.sum(1), "first": torch.from_numpy(first.sum(1)),
        "entropy": entropy(layers).sum(1)[:, None], "z": layers.sum((1, 2))[:, None],
        "kept": torch.from_numpy(kept.sum(1))[:, None].double(),
        "tokens": torch.full((len(BLOCKS), 1), float(tokens), device="cpu"),
    })  # fmt: skip
    return gates, kept, sums


def slowly(gates):
    """H(mean gates), mean H(gates) and first choices of one layer, token by token."""
    experts = gates.shape[1]
    mean, certain, chosen = [0.0] * experts, 0.0, [0] * experts
    for token in gates.tolist():
        for e in range(experts):
            mean[e] += token[e] / len(gates)
        certain -= sum(p * math.log(p) for p in token if p > 0) / len(gates)
        chosen[token.index(max(token))] += 1
    among = -sum(p * math.log(p) for p in mean if p > 0)
    return among, certain, [count / len(gates) for count in chosen]


def test_numbers_are_those_of_loops_over_tokens():
    rng = np.random.default_rng(0)
    parts = {"image": made(rng, 300), "free text": made(rng, 40)}
    stats = {k: v for name, (_, _, sums) in parts.items() for k, v in sums.stats(name).items()}
    found = describe_routers(stats, BLOCKS)
    for name, (gates, kept, _) in parts.items():
        assert found[f"experts/tokens/{name}"] == gates.shape[1]
        assert found[f"experts/processed/{name}"] == pytest.approx(kept.mean())
        for layer, block in enumerate(BLOCKS):
            among, certain, shares = slowly(gates[layer])
            at = f"{name}/{block}"
            assert found[f"experts/dropped/{at}"] == pytest.approx(1 - kept[layer].mean())
            assert found[f"experts/effective/{at}"] == pytest.approx(math.exp(among))
            assert found[f"experts/mutual_information/{at}"] == pytest.approx(among - certain)
            assert found[f"experts/share/{at}"] == pytest.approx(shares, abs=1e-5)
            assert found[f"experts/used/{at}"] == sum(share >= 0.01 for share in shares)


def test_a_modality_without_tokens_has_no_numbers():
    rng = np.random.default_rng(1)
    _, _, sums = made(rng, 9)
    nothing = {name: x * 0 for name, x in sums.stats("text").items()}
    found = describe_routers({**sums.stats("image"), **nothing}, BLOCKS)
    assert not [name for name in found if "text" in name]
    assert "experts/tokens/image" in found
    assert describe_routers({}, BLOCKS) == {}


def test_the_page_explains_every_name():
    page = Path(__file__).parents[3] / "docs" / "evaluation.md"
    names = re.findall(r"^\| `(experts/\S+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
    found = describe_routers(made(np.random.default_rng(0), 9)[2].stats("m"), BLOCKS)
    made_of = {name.replace("MODALITY", "m").replace("BLOCK", str(block))
               for name in names for block in BLOCKS}  # fmt: skip
    assert made_of == set(found)
