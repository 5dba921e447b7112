from __future__ import annotations

import math
import warnings

import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.objectives import cox_partial_likelihood


def slow_cox(hazard, time, event, ties):
    total, events = 0.0, 0
    for t in sorted(set(time)):
        dead = [i for i in range(len(time)) if time[i] == t and event[i]]
        risk = sum(math.exp(hazard[i]) for i in range(len(time)) if time[i] >= t)
        tied = sum(math.exp(hazard[i]) for i in dead)
        for place, i in enumerate(dead):
            gone = place / len(dead) * tied if ties == "efron" else 0.0
            total -= hazard[i] - math.log(risk - gone)
            events += 1
    return total / events


def draw(seed, rows=12, tied=True):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    hazard = torch.randn(rows, generator=generator, dtype=torch.float64, device="cpu")
    time = torch.rand(rows, generator=generator, dtype=torch.float64, device="cpu")
    event = torch.rand(rows, generator=generator, device="cpu") < 0.6
    event[0] = True
    return hazard, (4 * time).ceil() if tied else time, event


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_is_the_formula_as_loops(ties, tied, seed):
    hazard, time, event = draw(seed, tied=tied)
    expected = slow_cox(hazard.tolist(), time.tolist(), event.tolist(), ties)
    assert cox_partial_likelihood(hazard, time, event, ties).item() == pytest.approx(expected)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_the_likelihood_equals_torchsurv(ties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsurv says that times are tied, and how it shares
        from torchsurv.loss.cox import neg_partial_log_likelihood

        hazard, time, event = draw(7, rows=40)
        total = neg_partial_log_likelihood(
            hazard, event, time, ties_method=ties, reduction="sum"
        )  # its mean is over distinct times, ours over events
    got = cox_partial_likelihood(hazard, time, event, ties)
    assert got.item() == pytest.approx(total.item() / event.sum().item(), rel=1e-6)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_gradients_are_those_of_finite_differences(ties):
    hazard, time, event = draw(3, rows=7)
    hazard.requires_grad_()
    assert torch.autograd.gradcheck(lambda h: cox_partial_likelihood(h, time, event, ties), hazard)


def test_the_right_order_of_hazards_costs_less_and_extremes_stay_finite():
    time, event = torch.arange(1.0, 6, device="cpu"), torch.ones(5, device="cpu")
    right, wrong = -80 * time, 80 * time
    assert cox_partial_likelihood(right, time, event).item() == pytest.approx(0, abs=1e-6)
    assert cox_partial_likelihood(wrong, time, event).item() == pytest.approx(80 * 2)


def test_what_has_no_likelihood_is_refused():
    ones = torch.ones(3, device="cpu")
    with pytest.raises(MedmclError, match="at least one event"):
        cox_partial_likelihood(ones, ones, torch.zeros(3, device="cpu"))
    with pytest.raises(MedmclError, match="one shape"):
        cox_partial_likelihood(ones, ones, torch.ones(4, device="cpu"))
    with pytest.raises(MedmclError, match="not finite"):
        cox_partial_likelihood(ones, ones * math.nan, ones)
