"""CleanCLIP's loss is three calls of info_nce: totals and gradients of the authors' code."""

import pytest
import torch
from golden_numbers import case, golden

from medmcl.objectives import info_nce


@pytest.mark.parametrize("number", [0, 1])
def test_totals_and_gradients_of_the_authors_code(number):
    given = case(golden("cleanclip"), f"loss{number}_")
    images = torch.cat([given["image"], given["image_aug"]]).requires_grad_()
    texts = torch.cat([given["text"], given["text_aug"]]).requires_grad_()
    log_scale = torch.tensor(given["logit_scale_log"], requires_grad=True)
    scale, count = log_scale.exp(), len(given["image"])
    (i, i_view), (t, t_view) = images.split(count), texts.split(count)
    across = info_nce(i, t, scale, normalise=False)
    within = 0.5 * (
        info_nce(i, i_view, scale, weight=1.0, normalise=False)
        + info_nce(t, t_view, scale, weight=1.0, normalise=False)
    )
    total = given["clip_weight"] * across + given["inmodal_weight"] * within
    assert total.item() == pytest.approx(given["total"], abs=2e-6)
    assert given["clip_weight"] * across.item() == pytest.approx(given["clip_only"], abs=2e-6)
    assert within.item() == pytest.approx(given["inmodal_only"], abs=2e-6)
    total.backward()
    torch.testing.assert_close(images.grad, given["grad_image_all"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(texts.grad, given["grad_text_all"], rtol=1e-4, atol=1e-6)
    assert log_scale.grad.item() == pytest.approx(given["grad_log_scale"], rel=1e-5)
