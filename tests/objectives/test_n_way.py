from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import medmcl.objectives
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives import build_objective, gram, info_nce, symile

SCALE = 7.0


def points(count=3, rows=5, width=6, seed=0, dtype=torch.float64):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    shape = (count, rows, width)
    x = torch.randn(shape, generator=generator, dtype=dtype, device="cpu")
    return list(functional.normalize(x, dim=-1))


def softmax_loss(rows):
    """Mean of -log softmax of each row's first entry."""
    return float(np.mean([np.logaddexp.reduce(row) - row[0] for row in rows]))


def test_the_public_names_are_functions():
    assert medmcl.objectives.symile is symile
    assert medmcl.objectives.gram is gram
    assert callable(medmcl.objectives.pairs.pairs.spanning_tree)
    z = points()
    named = dict(zip("xyz", z, strict=True))
    assert symile(z, SCALE) == symile(named, SCALE)
    assert gram(z, SCALE) == gram(named, SCALE)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_symile_is_its_formula_as_slow_loops(count):
    z = points(count)
    x = [one.numpy() for one in z]
    rows = len(x[0])
    shifted, every = [], []
    for anchor in range(count):
        others = [x[k] for k in range(count) if k != anchor]
        for i in range(rows):
            own = SCALE * np.sum(x[anchor][i] * np.prod([o[i] for o in others], axis=0))
            wrong = [
                SCALE
                * np.sum(
                    x[anchor][i]
                    * np.prod([o[(j + k) % rows] for k, o in enumerate(others)], axis=0)
                )
                for j in range(rows)
                if j != i
            ]
            shifted.append([own, *wrong])
            combos = itertools.product(range(rows), repeat=count - 1)
            other = [
                SCALE
                * np.sum(
                    x[anchor][i] * np.prod([o[r] for o, r in zip(others, c, strict=True)], axis=0)
                )
                for c in combos
                if set(c) != {i}
            ]
            every.append([own, *other])
    assert symile(z, SCALE).item() == pytest.approx(softmax_loss(shifted), abs=1e-9)
    assert symile(z, SCALE, "all").item() == pytest.approx(softmax_loss(every), abs=1e-9)


@pytest.mark.parametrize("anchor", [0, 1, 2])
def test_gram_is_its_formula_as_slow_loops(anchor):
    z, eps = points(), 1e-6
    x = [one.numpy() for one in z]
    others = [x[k] for k in range(3) if k != anchor]
    rows = len(x[0])
    volume, cosine = np.zeros((rows, rows)), np.zeros((rows, rows))
    for i, j in itertools.product(range(rows), repeat=2):
        v = np.stack([x[anchor][i], *(o[j] for o in others)])
        volume[i, j] = math.sqrt(np.linalg.det(v @ v.T + eps * np.eye(3)))
        cosine[i, j] = np.mean([x[anchor][i] @ o[j] for o in others])
    for weight in (0.0, 0.5):
        logits = SCALE * (-volume + weight * cosine)
        forth = [[row[i], *np.delete(row, i)] for i, row in enumerate(logits)]
        back = [[row[i], *np.delete(row, i)] for i, row in enumerate(logits.T)]
        wanted = (softmax_loss(forth) + softmax_loss(back)) / 2
        assert gram(z, SCALE, anchor, weight).item() == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_perfect_alignment(dtype):
    for loss in (symile, gram):
        leaf = points(1, dtype=dtype)[0].requires_grad_()
        loss([leaf, leaf * 1.0, leaf * 1.0], SCALE).backward()
        assert torch.isfinite(leaf.grad).all()
    assert gram([leaf] * 3, SCALE).item() < math.log(5)


def gradient_of_the_anchor(cosine):
    a, b, _ = points()
    a.requires_grad_()
    loss = gram([a, b, b], SCALE, cosine=cosine)
    loss.backward()
    return loss.item(), a.grad.norm().item()


def test_where_two_coincide_the_bare_volume_stands_still_and_the_cosine_moves_on():
    loss, gradient = gradient_of_the_anchor(0.0)
    assert loss == pytest.approx(math.log(5), abs=0.01)
    assert gradient < 0.02
    loss, gradient = gradient_of_the_anchor(0.5)
    assert loss > 0.1
    assert gradient > 0.3


def train_on_xor(loss, seed, steps=150, rate=0.02):
    """Linear encoders of three fair bits, the third of which is the xor of the others."""
    torch.manual_seed(seed)
    encoders = nn.ModuleList([nn.Linear(2, 16) for _ in range(3)])
    optimiser = torch.optim.Adam(encoders.parameters(), lr=rate)

    def draw(rows):
        b, c = torch.randint(2, (2, rows), device="cpu")
        bits = (b ^ c, b, c)
        return bits, [functional.one_hot(x, 2).float() for x in bits]

    for _ in range(steps):
        _, shown = draw(64)
        value = loss([encode(x) for encode, x in zip(encoders, shown, strict=True)])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    with torch.no_grad():
        bits, shown = draw(1000)
        z = [functional.normalize(e(x), dim=1) for e, x in zip(encoders, shown, strict=True)]
        both = functional.normalize(encoders[0](torch.eye(2, device="cpu")), dim=1)
    return bits[0], both, z[1:]


def volumes(anchors, others):
    """Volume that each anchor spans with the others of each row, (N, B)."""
    rows = torch.stack(others, 1)
    points = torch.cat(
        [
            anchors[:, None, None].expand(-1, len(rows), -1, -1),
            rows.expand(len(anchors), *rows.shape),
        ],
        2,
    )
    return torch.linalg.det((points @ points.mT).double()).clamp_min(0).sqrt()


def accuracy(bits, scores):
    return (scores.argmax(0) == bits).float().mean().item()


def test_what_shows_in_no_pair_is_seen_by_symile_and_gram_and_by_no_pairwise_loss():
    def pairwise(z):
        return sum(info_nce(a, b, 10.0) for a, b in itertools.combinations(z, 2)) / 3

    found = {"symile": [], "gram": [], "pairwise": []}
    bits, a, (b, c) = train_on_xor(lambda z: symile(z, 30.0), 0)
    found["symile"].append(accuracy(bits, a @ (b * c).T))
    for steps, rate in ((150, 0.02), (300, 0.003)):
        bits, a, (b, c) = train_on_xor(lambda z: gram(z, 10.0), 0, steps, rate)
        found["gram"].append(accuracy(bits, -volumes(a, [b, c])))
    for seed in range(3):
        bits, a, (b, c) = train_on_xor(pairwise, seed)
        found["pairwise"].append(accuracy(bits, a @ (b + c).T))
    assert min(found["symile"]) >= 0.95
    assert min(found["gram"]) >= 0.95
    assert np.median(found["pairwise"]) <= 0.60


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda z: symile(z[:1], 1.0), "at least 2 modalities"),
        (lambda z: gram([z[0], z[1][:3]], 1.0), "one shape"),
        (lambda z: symile([x[:1] for x in z], 1.0), "at least 2 rows"),
        (lambda z: symile([x.long() for x in z], 1.0), "floating-point"),
        (lambda z: symile([x.repeat(200, 1) for x in z], 1.0, "all"), "memory"),
        (lambda z: gram(z, 1.0, anchor=3), "no such anchor"),
        (lambda z: gram(z, 1.0, eps=0.0), "eps must be above 0"),
        (lambda z: gram(z, math.nan), "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, says):
    with pytest.raises(MedmclError, match=says):
        call(points())


KINDS = {
    "symile": {"view": "augmented"},
    "gram": {"view": "augmented", "anchor": "cmr"},
    "centrobind": {"view": "augmented"},
}


def test_objectives_charge_for_rows_that_have_all_of_them(model_shape, make_seen):
    seen, batch, _ = make_seen()
    pooled = seen["augmented"].pooled
    rows = batch.present["ecg"] & batch.present["cmr"] & batch.present["report"]
    z = [pooled[name][rows] for name in ("ecg", "cmr", "report")]
    (term,) = build_objective("symile", {}, model_shape)(seen, batch).values()
    assert term.count == int(rows.sum()) == 2
    torch.testing.assert_close(term.value, symile(z, 10.0 * pooled["ecg"].shape[1] ** 0.5))
    (term,) = build_objective("gram", {"anchor": "cmr"}, model_shape)(seen, batch).values()
    torch.testing.assert_close(term.value, gram(z, 10.0, anchor=1))
    nothing = {name: [1, 0, 0, 0, 0, 0, 0] for name in ("ecg", "cmr", "report")}
    seen, batch, _ = make_seen(present=nothing)
    for kind, settings in KINDS.items():
        assert build_objective(kind, settings, model_shape)(seen, batch) == {}


def test_centrobind_compares_each_with_the_mean_of_the_other_present_ones(model_shape, make_seen):
    seen, batch, _ = make_seen()
    terms = build_objective("centrobind", {}, model_shape)(seen, batch)
    pooled, names = seen["augmented"].pooled, ("ecg", "cmr", "report")
    assert list(terms) == [f"centrobind/{name}" for name in names]
    for name in names:
        own, means = [], []
        for row in range(len(batch)):
            others = [n for n in names if n != name and batch.present[n][row]]
            if batch.present[name][row] and others:
                own.append(pooled[name][row])
                means.append(sum(functional.normalize(pooled[n][row], dim=0) for n in others))
        wanted = info_nce(torch.stack(own), torch.stack(means), 10.0)
        torch.testing.assert_close(terms[f"centrobind/{name}"].value, wanted)
        assert terms[f"centrobind/{name}"].weight == pytest.approx(1 / 3)


def test_modalities_that_are_not_there_are_named(model_shape):
    for kind in KINDS:
        with pytest.raises(ConfigError, match="did you mean 'ecg'"):
            build_objective(kind, {"modalities": ["ecgg", "cmr"]}, model_shape)
        with pytest.raises(ConfigError, match="two different"):
            build_objective(kind, {"modalities": ["ecg"]}, model_shape)
