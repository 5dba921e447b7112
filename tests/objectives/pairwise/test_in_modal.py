from __future__ import annotations

import pytest
import torch

from medmcl.core.errors import ConfigError
from medmcl.objectives import build_objective, info_nce, nt_xent


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
