"""Alignment: cross-modal and in-modal terms."""

from __future__ import annotations

import pytest
import torch

from medmcl.core.errors import ConfigError
from medmcl.objectives import build_objective, info_nce, nt_xent, sigmoid_loss


def test_each_pair_is_charged_over_the_rows_that_have_both(model_shape, make_seen):
    objective = build_objective("cross_modal", {"weight": 0.3}, model_shape)
    seen, batch, _ = make_seen()
    terms = objective(seen, batch)
    pooled = seen["augmented"].pooled
    assert list(terms) == list(objective.terms)
    for a, b in (("ecg", "cmr"), ("ecg", "report"), ("cmr", "report")):
        rows = batch.present[a] & batch.present[b]
        term = terms[f"cross_modal/{a}~{b}"]
        torch.testing.assert_close(
            term.value, info_nce(pooled[a][rows], pooled[b][rows], 10.0, 0.3)
        )
        assert term.count == int(rows.sum())
        assert term.weight == pytest.approx(1 / 3)


def test_weights_of_the_pairs_that_are_left_add_up_to_one(model_shape, make_seen):
    pairs = [["ecg", "cmr", 3.0], ["ecg", "report"], ["cmr", "report"]]
    objective = build_objective("cross_modal", {"pairs": pairs}, model_shape)
    seen, batch, _ = make_seen()
    shares = [term.weight for term in objective(seen, batch).values()]
    assert shares == pytest.approx([0.6, 0.2, 0.2])
    present = {"ecg": [1] * 7, "cmr": [1] * 7, "report": [1] + [0] * 6}
    seen, batch, _ = make_seen(present=present)
    terms = objective(seen, batch)
    assert list(terms) == ["cross_modal/ecg~cmr"]
    assert terms["cross_modal/ecg~cmr"].weight == 1.0


def test_the_sigmoid_loss_has_scale_and_bias_of_its_own(model_shape, make_seen):
    settings = {"loss": "siglip", "pairs": [["ecg", "cmr"]], "bias": -3.0,
                "scale": {"init": 8.0, "learned": True}}  # fmt: skip
    objective = build_objective("cross_modal", settings, model_shape)
    seen, batch, _ = make_seen()
    rows, pooled = batch.both("ecg", "cmr"), seen["augmented"].pooled
    torch.testing.assert_close(
        objective(seen, batch)["cross_modal/ecg~cmr"].value,
        sigmoid_loss(pooled["ecg"][rows], pooled["cmr"][rows], 8.0, -3.0),
    )
    assert {name: tuple(p.shape) for name, p in objective.named_parameters()} == {
        "bias": (1,),
        "scale.log": (1,),
    }


def test_a_fixed_scale_is_kept_but_not_trained(model_shape):
    objective = build_objective("cross_modal", {"pairs": [["ecg", "cmr"]]}, model_shape)
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    assert "scale.log" in objective.state_dict()


def test_a_learned_scale_never_exceeds_its_maximum_and_can_come_back(model_shape, make_seen):
    settings = {"scale": {"init": 100.0, "learned": True}}
    objective = build_objective("cross_modal", settings, model_shape)
    with torch.no_grad():
        objective.scale.log.fill_(9.0)
    seen, batch, _ = make_seen()
    sum(term.value for term in objective(seen, batch).values()).backward()
    assert objective.scale().item() == pytest.approx(100.0)
    assert objective.scale.log.grad.abs().item() > 0


def test_a_view_that_does_not_show_a_modality_is_named(model_shape, make_seen):
    from dataclasses import replace

    objective = build_objective("cross_modal", {"pairs": [["ecg", "cmr"]]}, model_shape)
    seen, batch, _ = make_seen()
    view = seen["augmented"]
    seen["augmented"] = replace(view, pooled={"ecg": view.pooled["ecg"]})
    with pytest.raises(ConfigError, match="'augmented' does not show 'cmr'"):
        objective(seen, batch)


@pytest.mark.parametrize(
    "pairs", ["every", {"stra": "ecg"}, [["ecg"]], [["ecg", "cmr", "x"]], [[1, "cmr"]], 3]
)
def test_pairs_that_cannot_be_read_get_one_sentence(model_shape, pairs):
    with pytest.raises(ConfigError, match="write all, ") as error:
        build_objective("cross_modal", {"pairs": pairs}, model_shape)
    assert str(error.value).count("  - ") == 1


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({"learn": "tre"}, "'pairs.learn' must be .*did you mean 'tree'"),
        ({"learn": "tree", "flor": 0.1}, "unknown key 'pairs.flor'; did you mean 'floor'"),
        ({"learn": "tree", "every": 0}, "'pairs.every' must be a number of at least 1"),
        ({"star": 3}, "'pairs.star' must be a text"),
    ],
)
def test_a_mistake_in_pairs_is_told_once_and_of_the_form_that_was_meant(model_shape, pairs, says):
    with pytest.raises(ConfigError, match=says) as error:
        build_objective("cross_modal", {"pairs": pairs}, model_shape)
    assert str(error.value).count("  - ") == 1


@pytest.mark.parametrize(("negatives", "loss"), [("all", nt_xent), ("cross", info_nce)])
def test_two_views_of_the_rows_that_have_it_are_contrasted(model_shape, make_seen, negatives, loss):
    settings = {"modality": "cmr", "negatives": negatives, "scale": {"init": 4.0}}
    objective = build_objective("in_modal", settings, model_shape)
    seen, batch, _ = make_seen()
    rows = batch.present["cmr"]
    first, second = (seen[v].pooled["cmr"][rows] for v in ("augmented", "augmented_2"))
    term = objective(seen, batch)["in_modal/cmr"]
    torch.testing.assert_close(term.value, loss(first, second, 4.0))
    assert term.count == int(rows.sum())


def test_one_view_cannot_be_contrasted_with_itself(model_shape):
    with pytest.raises(ConfigError, match="two different views"):
        build_objective("in_modal", {"modality": "ecg", "views": ["a", "a"]}, model_shape)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_directions_are_weighed(model_shape, make_seen, weight):
    settings = {"modality": "cmr", "negatives": "cross", "weight": weight, "scale": {"init": 4.0}}
    seen, batch, _ = make_seen()
    rows = batch.present["cmr"]
    first, second = (seen[v].pooled["cmr"][rows] for v in ("augmented", "augmented_2"))
    term = build_objective("in_modal", settings, model_shape)(seen, batch)["in_modal/cmr"]
    torch.testing.assert_close(term.value, info_nce(first, second, 4.0, weight))


def test_negatives_of_both_views_have_no_directions(model_shape):
    with pytest.raises(ConfigError, match="no directions to weigh"):
        build_objective("in_modal", {"modality": "ecg", "weight": 1.0}, model_shape)
