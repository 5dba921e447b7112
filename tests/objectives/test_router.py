"""Router losses: golden numbers, formulas as loops, what they do to a collapsed router."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from golden_numbers import case, golden
from made_batches import batch_of

from medmcl.core.batch import Batch, Embeddings, InputShape
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.router_stats import RouterSums, entropy, load_probability, z_squared
from medmcl.objectives import build_objective
from medmcl.objectives.router import (
    global_entropy,
    gshard,
    importance,
    load,
    local_entropy,
    z_loss,
)

ROUTER, ENTROPY = golden("limoe_vmoe_router"), golden("limoe_entropy_reference")
SHAPE = ModelShape(
    inputs={
        "image": InputShape(kind="image", shape=(1, 8, 8)),
        "text": InputShape(kind="text", shape=(4,), vocabulary=9),
    },
    widths={"image": 4, "text": 4},
    experts=4,
)


def random(*size, seed=0):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu")


@pytest.mark.parametrize("number", range(3))
def test_balance_losses_and_their_gradients_are_those_of_vmoe(number):
    want = case(ROUTER, f"aux{number}_")
    logits = want["logits"].requires_grad_()
    noise = (want["logits_noisy"] - want["logits"]).detach()
    values = {
        "importance": importance(logits.softmax(-1)),
        "load": load(logits, logits + noise, want["noise_std"], want["K"]),
    }
    for name, value in values.items():
        assert value.item() == pytest.approx(want[name], rel=1e-5), name
        grad = torch.autograd.grad(value, logits)[0]
        torch.testing.assert_close(grad, want[f"{name}_grad_logits"], rtol=1e-4, atol=2e-6)
    assert gshard(want["logits_noisy"].softmax(-1)).item() == pytest.approx(
        want["gshard_noisy"], rel=1e-5
    )
    assert gshard(logits.softmax(-1)).item() == pytest.approx(want["gshard_clean"], rel=1e-5)


@pytest.mark.parametrize("number", range(2))
def test_entropies_and_z_are_the_reference(number):
    want = case(ENTROPY, f"c{number}_")
    everything = torch.cat([want["logits_image"], want["logits_text"]])
    assert z_loss(everything).item() == pytest.approx(want["z_loss_all_tokens"], rel=1e-12)
    for name in ("image", "text"):
        logits = want[f"logits_{name}"]
        gates = logits.softmax(-1)
        assert local_entropy(gates).item() == pytest.approx(want[f"local_{name}"], rel=1e-9)
        found = global_entropy(gates, want[f"tau_{name}"]).item()
        assert found == pytest.approx(want[f"global_{name}"], rel=1e-9)
        unbounded = global_entropy(gates, None).item()
        assert unbounded == pytest.approx(want[f"global_{name}_unthresholded"], rel=1e-9)
        assert z_loss(logits).item() == pytest.approx(want[f"z_loss_{name}"], rel=1e-12)
        information = -unbounded - local_entropy(gates).item()
        assert information == pytest.approx(want[f"mutual_information_{name}"], rel=1e-6)


def test_thresholds_and_sigmas_may_be_arrays_of_one_number():
    logits, noise = random(5, 4).requires_grad_(), random(5, 4, seed=1)
    gates = logits.softmax(-1)
    assert global_entropy(gates, np.array(2.0)) == global_entropy(gates, 2.0)
    assert load(logits, logits + noise, np.array(0.5), 1) == load(logits, logits + noise, 0.5, 1)


def test_balanced_and_collapsed_routers_have_the_values_that_follow():
    even, one = torch.full((6, 4), 0.25, device="cpu"), torch.eye(4, device="cpu")[[1] * 6]
    turns = torch.eye(4, device="cpu").repeat(3, 1)
    assert importance(even).item() == 0
    assert importance(one).item() == pytest.approx(3)  # E - 1
    assert gshard(turns).item() == pytest.approx(1)
    assert gshard(one).item() == pytest.approx(4)
    assert local_entropy(even).item() == pytest.approx(math.log(4))
    assert local_entropy(one).item() == 0
    assert global_entropy(even, math.log(4)).item() == pytest.approx(0, abs=1e-6)
    assert global_entropy(turns, math.log(4)).item() == pytest.approx(0, abs=1e-6)
    assert global_entropy(one, math.log(3)).item() == pytest.approx(math.log(3))
    assert z_loss(torch.zeros(5, 4, device="cpu")).item() == pytest.approx(math.log(4) ** 2)


def test_gradients_are_numerically_right():
    logits, noise = random(7, 5).requires_grad_(), random(7, 5, seed=1) * 0.3
    for value in (
        lambda x: importance(x.softmax(-1)),
        lambda x: load(x, x + noise, 0.3, 2),
        lambda x: local_entropy(x.softmax(-1)),
        lambda x: global_entropy(x.softmax(-1), math.log(5)),
        z_loss,
    ):
        assert torch.autograd.gradcheck(value, logits)


def test_a_gate_that_underflows_has_a_finite_gradient():
    logits = torch.tensor([[0.0, -200.0, 1.0]], device="cpu", requires_grad=True)
    gates = logits.softmax(-1)
    assert gates[0, 1] == 0
    (local_entropy(gates) + global_entropy(gates, math.log(3))).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: importance(torch.zeros(0, 4, device="cpu")), "at least one token"),
        (lambda: load(torch.zeros(3, 4, device="cpu"), torch.zeros(3, 4, device="cpu"), 0.0, 1),
         "sigma 0.0"),
        (lambda: load(torch.zeros(3, 4, device="cpu"), torch.zeros(3, 4, device="cpu"), 0.1, 5),
         "k 5, 4 experts"),
        (lambda: load(torch.zeros(3, 4, device="cpu"), torch.zeros(2, 4, device="cpu"), 0.1, 1),
         "one shape"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, words):
    with pytest.raises(MedmclError) as error:
        call()
    assert words in str(error.value)


def test_what_is_not_a_number_stays_none():
    logits = torch.zeros(3, 4, device="cpu")
    logits[1, 2] = math.nan
    gates = logits.softmax(-1)
    values = [importance(gates), load(logits, logits, 0.1, 1), local_entropy(gates),
              global_entropy(gates, 1.0), z_loss(logits)]  # fmt: skip
    assert all(value.isnan() for value in values)


def test_entropy_is_that_of_scipy():
    from scipy import stats

    gates = random(6, 5).softmax(-1)
    torch.testing.assert_close(
        entropy(gates), torch.from_numpy(stats.entropy(gates.numpy(), axis=1))
    )


def routers(counts, layers=2, experts=4, noise=0.25, seed=0):
    """Logits and noisy logits of each modality, (L, B, T, E); the first ``counts`` are real."""
    found = {}
    for number, (name, real) in enumerate(counts.items()):
        size = (layers, len(real), max(*real, 1), experts)
        clean = random(*size, seed=seed + number)
        noisy = clean + random(*size, seed=99 + number) * noise if noise else None
        found[name] = (clean, noisy, torch.tensor(real, device="cpu"))
    return found


def embeddings(given, noise=0.25):
    stats = {}
    for name, (clean, noisy, real) in given.items():
        shown = torch.arange(clean.shape[2], device="cpu")[None] < real[:, None]  # (B, T)
        first = (clean if noisy is None else noisy).argmax(-1)
        gates = clean.softmax(-1)
        routed = gates if noisy is None else noisy.softmax(-1)
        columns = {
            "gates": gates, "routed": routed,
            "first": torch.nn.functional.one_hot(first, clean.shape[-1]).to(clean.dtype),
            "load": None if noisy is None else load_probability(clean, noisy, noise, 1),
            "entropy": entropy(gates)[..., None], "z": z_squared(clean)[..., None],
            "kept": torch.ones_like(gates[..., :1]), "tokens": torch.ones_like(gates[..., :1]),
        }  # fmt: skip
        sums = {
            field: None if x is None else (x * shown[None, ..., None]).sum(2).transpose(0, 1)
            for field, x in columns.items()
        }
        stats.update(RouterSums.of(sums).stats(name))
    rows = len(next(iter(given.values()))[2])
    flags = {name: real > 0 for name, (_, _, real) in given.items()}
    inputs = {name: torch.zeros(rows, 1, device="cpu") for name in given}
    return Embeddings(batch=batch_of(inputs, flags), stats=stats)


def charged(given, noise=0.25, **settings):
    objective = build_objective("router", {"view": "plain", **settings}, SHAPE)
    seen = embeddings(given, noise)
    return objective, objective({"plain": seen}, seen.batch)


def flat(given, name, layer, noisy=False):
    """Logits of the real tokens of a modality, (N, E)."""
    clean, rough, real = given[name]
    shown = torch.arange(clean.shape[2], device="cpu")[None] < real[:, None]
    return (rough if noisy else clean)[layer][shown]


def test_the_objective_charges_each_loss_over_the_tokens_it_is_of():
    given = routers({"image": [5, 5, 0], "text": [2, 1, 3]})
    objective, terms = charged(given, gshard=True, min_experts={"text": 3, "image": None})
    every = [torch.cat([flat(given, n, layer) for n in given]) for layer in (0, 1)]
    noisy = [torch.cat([flat(given, n, layer, True) for n in given]) for layer in (0, 1)]
    text = [flat(given, "text", layer).softmax(-1) for layer in (0, 1)]
    image = [flat(given, "image", layer).softmax(-1) for layer in (0, 1)]
    want = {
        "router/importance": [importance(x.softmax(-1)) for x in every],
        "router/load": [load(x, y, 0.25, 1) for x, y in zip(every, noisy, strict=True)],
        "router/z": [z_loss(x) for x in every],
        "router/gshard": [gshard(y.softmax(-1)) for y in noisy],
        "router/local/text": [local_entropy(x) for x in text],
        "router/global/text": [global_entropy(x, math.log(3)) for x in text],
        "router/global/image": [global_entropy(x, None) for x in image],
    }
    assert set(terms) == set(want) == set(objective.terms)
    for name, values in want.items():
        assert terms[name].value.item() == pytest.approx(torch.stack(values).mean().item()), name
        assert terms[name].weight == pytest.approx(1 / 7)
    assert terms["router/local/text"].count == 6
    assert terms["router/z"].count == 16
    summed = charged(given, over_layers="sum")[1]
    assert summed["router/z"].value.item() == pytest.approx(2 * terms["router/z"].value.item())


def test_switches_and_defaults_say_which_terms_there_are():
    assert set(charged(routers({"image": [2], "text": [2]}))[0].terms) == {
        "router/importance", "router/load", "router/z", "router/local/text",
        "router/global/image", "router/global/text",
    }  # fmt: skip
    only = {"importance": False, "load": False, "z": False, "local": ["image"], "min_experts": {}}
    assert charged(routers({"image": [2], "text": [2]}), **only)[0].terms == ("router/local/image",)


def test_default_thresholds_keep_the_ratio_of_the_paper():
    given = routers({"image": [40], "text": [40]}, experts=32)
    clean, noisy, real = given["text"]
    one = torch.zeros_like(clean)
    one[..., 0] = 50.0  # all text on one expert
    terms = charged({**given, "text": (one, noisy, real)})[1]
    assert terms["router/global/text"].value.item() == pytest.approx(math.log(9))


def test_a_modality_without_tokens_is_left_out_and_so_is_the_load_without_noise():
    terms = charged(routers({"image": [3, 2], "text": [0, 0]}, noise=0))[1]
    assert set(terms) == {"router/importance", "router/z", "router/global/image"}
    assert all(term.value.isfinite() for term in terms.values())
    assert charged(routers({"image": [0, 0], "text": [0, 0]}))[1] == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"local": ["txt"]}, "did you mean 'text'"),
        ({"min_experts": {"txt": 3}}, "did you mean 'text'"),
        ({"min_experts": {"text": 0}}, "min_experts.text"),
        ({"min_experts": {"text": 5}}, "at most 4"),
        ({"importance": False, "load": False, "z": False, "local": [], "min_experts": {}},
         "nothing is charged"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        build_objective("router", settings, SHAPE)
    assert words in str(error.value)


def test_a_model_without_routers_is_refused():
    with pytest.raises(ConfigError, match="no routers to charge"):
        build_objective("router", {}, dataclasses.replace(SHAPE, experts=0))
    batch = Batch(ids=torch.arange(2, device="cpu"), inputs={}, present={})
    with pytest.raises(ConfigError, match="shows no router"):
        build_objective("router", {"view": "plain"}, SHAPE)(
            {"plain": Embeddings(batch=batch)}, batch
        )
