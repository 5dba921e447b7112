"""What every objective in the map must keep, whatever it charges for."""

from __future__ import annotations

import math

import pytest
import torch

from medmcl.core.errors import ConfigError, ContractError
from medmcl.objectives import OBJECTIVES, CrossModal, build_objective

SCALE = {"init": 5.0, "learned": True}
DECODER = {"width": 16, "depth": 1, "heads": 2}
CASES = {
    "cross_modal": ("cross_modal", {"scale": SCALE}),
    "siglip": ("cross_modal", {"loss": "siglip", "scale": SCALE, "pairs": {"star": "ecg"}}),
    "learned": (
        "cross_modal",
        {"pairs": {"learn": "tree"}, "min_rows": 2, "scale": SCALE, "scale_per_pair": True},
    ),
    "symile": ("symile", {"scale": SCALE, "negatives": "all"}),
    "symile_shifted": ("symile", {"scale": SCALE, "modalities": ["ecg", "cmr"]}),
    "gram": ("gram", {"scale": SCALE}),
    "gram_of_two": ("gram", {"scale": SCALE, "modalities": ["ecg", "report"]}),
    "centrobind": ("centrobind", {"scale": SCALE}),
    "in_modal": ("in_modal", {"modality": "ecg", "scale": SCALE}),
    "in_modal_cross": ("in_modal", {"modality": "ecg", "negatives": "cross"}),
    "masked": ("masked", {"modality": "ecg", "decoder": DECODER}),
    "masked_only": ("masked", {"modality": "ecg", "decoder": DECODER, "over": "masked"}),
    "binary": ("supervised", {"task": "binary", "modalities": "ecg"}),
    "multilabel": (
        "supervised",
        {"task": "multilabel", "modalities": ["ecg", "cmr"], "label_smoothing": 0.1},
    ),
    "multiclass": (
        "supervised",
        {"task": "multiclass", "modalities": ["ecg", "cmr"], "pooling": "attention", "heads": 2},
    ),
    "regression": (
        "supervised",
        {"task": "regression", "modalities": ["ecg", "cmr"], "join": "mean", "pooling": "mean"},
    ),
    "survival": ("supervised", {"task": "survival", "modalities": "ecg"}),
    "par": ("par", {"threshold": 4.0}),
    "distil": ("distil", {"view": "augmented", "vectors": 2.0}),
    "router": (
        "router",
        {"gshard": True, "local": ["ecg"], "min_experts": {"cmr": None, "report": 3.9}},
    ),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def objective(request, model_shape):
    torch.manual_seed(0)
    name, settings = CASES[request.param]
    return build_objective(name, settings, model_shape)


def total(terms):
    return sum(term.weight * term.value for term in terms.values())


def gradients(objective, terms, leaves):
    sources = {**leaves, **dict(objective.named_parameters())}
    sources = {name: x for name, x in sources.items() if x.requires_grad}
    found = torch.autograd.grad(total(terms), list(sources.values()), allow_unused=True)
    return dict(zip(sources, found, strict=True))


def test_the_cases_cover_the_map():
    assert {name for name, _ in CASES.values()} == set(OBJECTIVES)


def test_it_declares_what_it_reads_and_charges(objective, make_seen):
    seen, batch, _ = make_seen()
    assert set(objective.views) <= set(seen)
    assert objective.across_ranks in ("gather", "stream", "rows")
    assert set(objective.gathers) <= {"pooled", "features", "tokens", "stats"}
    assert bool(objective.gathers) == (objective.across_ranks != "rows")
    terms = objective(seen, batch)
    assert terms
    assert set(terms) <= set(objective.terms)
    for term in terms.values():
        assert term.value.shape == ()
        assert isinstance(term.count, int)
        assert term.count > 0


def test_terms_are_finite_and_reach_the_model_and_every_parameter(objective, make_seen):
    seen, batch, leaves = make_seen()
    found = gradients(objective, objective(seen, batch), leaves)
    reached = [name for name, grad in found.items() if grad is not None]
    assert any(name in leaves for name in reached)
    assert all(torch.isfinite(found[name]).all() for name in reached)
    assert not [n for n, p in objective.named_parameters() if p.requires_grad and found[n] is None]


def test_no_parameter_is_without_axes(objective):
    assert all(parameter.ndim >= 1 for parameter in objective.parameters())


def test_the_order_of_rows_does_not_matter(objective, make_seen):
    seen, batch, _ = make_seen()
    before = objective(seen, batch)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3], device="cpu")
    seen, batch, _ = make_seen(order=order)
    after = objective(seen, batch)
    assert list(before) == list(after)
    for name, term in before.items():
        torch.testing.assert_close(term.value, after[name].value, rtol=1e-5, atol=1e-6)
        assert term.count == after[name].count


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("content", [1e30, math.nan])
def test_what_stands_in_absent_rows_has_no_influence_at_all(objective, make_seen, content, apart):
    """Loss and gradients, bit for bit."""
    answers = []
    for absent in (0.0, content):
        seen, batch, leaves = make_seen(absent=absent, apart=apart)
        terms = objective(seen, batch)
        answers.append((terms, gradients(objective, terms, leaves)))
    (terms, grads), (other_terms, other_grads) = answers
    for name in terms:
        assert torch.equal(terms[name].value, other_terms[name].value)
        assert terms[name].count == other_terms[name].count
    for name, grad in grads.items():
        assert (grad is None) == (other_grads[name] is None)
        assert grad is None or torch.equal(grad, other_grads[name])


def test_absent_rows_get_no_gradient(objective, make_seen):
    seen, batch, leaves = make_seen()
    found = gradients(objective, objective(seen, batch), leaves)
    for (_, _, modality), grad in ((n, g) for n, g in found.items() if isinstance(n, tuple)):
        if grad is not None:
            assert not grad[~batch.present[modality]].any()


def test_a_batch_without_the_modality_is_left_out(objective, make_seen):
    nobody = {name: [0] * 7 for name in ("ecg", "cmr", "report")}
    seen, batch, _ = make_seen(present=nobody)
    assert objective(seen, batch) == {}


def test_one_row_is_no_contrast_and_no_survival_but_a_mean(objective, make_seen):
    single = {name: [0, 0, 1, 0, 0, 0, 0] for name in ("ecg", "cmr", "report")}
    seen, batch, _ = make_seen(present=single)
    terms = objective(seen, batch)
    if "pooled" in objective.gathers:
        assert terms == {}
    else:
        assert all(torch.isfinite(term.value) for term in terms.values())


def test_a_saved_objective_charges_the_same(objective, make_seen, model_shape, request):
    seen, batch, _ = make_seen()
    case = request.node.callspec.params["objective"]
    torch.manual_seed(99)
    other = build_objective(*CASES[case], model_shape)
    other.load_state_dict(objective.state_dict())
    for name, term in objective(seen, batch).items():
        assert torch.equal(term.value, other(seen, batch)[name].value)


def test_bfloat16_changes_little(objective, make_seen):
    seen, batch, leaves = make_seen()
    exact = objective(seen, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(seen, batch)
    for name, term in exact.items():
        assert rough[name].value.dtype == torch.float32
        torch.testing.assert_close(rough[name].value, term.value, rtol=0.05, atol=0.05)
    found = gradients(objective, rough, leaves)
    assert all(torch.isfinite(grad).all() for grad in found.values() if grad is not None)


def test_a_wrong_name_or_setting_names_its_neighbour(model_shape):
    with pytest.raises(ConfigError, match="did you mean 'cross_modal'"):
        build_objective("crossmodal", {}, model_shape)
    with pytest.raises(ConfigError, match="did you mean 'weight'"):
        build_objective("cross_modal", {"weigth": 0.5}, model_shape)
    with pytest.raises(ConfigError, match="'modality' is missing"):
        build_objective("masked", {}, model_shape)
    with pytest.raises(ConfigError, match="did you mean 'ecg'"):
        build_objective("in_modal", {"modality": "egc"}, model_shape)
    with pytest.raises(ConfigError, match="did you mean 'survival'"):
        build_objective("supervised", {"task": "survivl", "modalities": "ecg"}, model_shape)
    with pytest.raises(ConfigError, match="above max"):
        build_objective("cross_modal", {"scale": {"init": 200}}, model_shape)


@pytest.mark.parametrize("gathers", [("pooled", "features"), ()])
def test_who_streams_what_no_ring_shows_is_refused_when_it_is_built(
    gathers, model_shape, monkeypatch
):
    monkeypatch.setattr(CrossModal, "gathers", gathers)
    with pytest.raises(
        ContractError, match=r"'cross_modal'(.|\n)*" + (", ".join(gathers) or "nothing")
    ):
        build_objective("cross_modal", {}, model_shape)
    monkeypatch.setattr(CrossModal, "across_ranks", "gather")
    assert build_objective("cross_modal", {}, model_shape).gathers == gathers
