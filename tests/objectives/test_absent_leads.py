"""Leads that are absent cost nothing and teach nothing: embedding, loss and gradient, bit for bit.

From the file of an ECG through view, encoder and masked modelling.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import batch_of
from row_draws import row_generator

from medmcl.core.errors import MedmclError
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View
from medmcl.encoders.towers import Towers
from medmcl.modalities.ecg.adapter import ECG, ECGSettings, ECGSource
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.objectives import build_objective, masked_modelling
from medmcl.objectives.masked import mean_modelling

RATE, ROWS = 50, 4
VIT = {"name": "ecg_vit", "patch": 10, "width": 16, "depth": 1, "heads": 2}
ENCODERS = {
    "vit": VIT,
    "joint": VIT | {"joint_leads": True},
    "resnet1d": {"name": "resnet1d", "widths": [8], "norm": "group"},
}
AUGMENT = {"crop": True, "noise": 0.5, "jitter": 0.25, "ft_surrogate": 0.1, "spec_augment": 0.2}


def adapter(how) -> ECG:
    settings = {"rate_hz": RATE, "seconds": 4, "crop_seconds": 2, **how}
    return ECG(ECGSource(reader="npy", rate_hz=RATE, units="mV"), ECGSettings(**settings))


def record(number) -> ECGRecord:
    signal = np.random.default_rng(number).normal(size=(12, 4 * RATE)).cumsum(1)
    return ECGRecord(signal_mv=signal.astype(np.float32), leads=TWELVE, rate_hz=RATE)


def prepared(ecg, garbage) -> torch.Tensor:
    """Records of which each but the last lacks chest leads of its own, dead or never there."""
    rows = []
    for number in range(ROWS):
        one = record(number)
        lost = [6 + (number + step) % 6 for step in range(number)]
        if ecg.settings.dead_leads == "mask":
            one.signal_mv[lost] = garbage
        elif lost:
            kept = [n for n in range(12) if n not in lost]
            one = replace(one, signal_mv=one.signal_mv[kept],
                          leads=tuple(TWELVE[n] for n in kept))  # fmt: skip
        rows.append(ecg.prepare(one))
    return torch.from_numpy(np.stack(rows))


def learnt(encoder, ecg, x, *, disturbed, over=None):
    """Embeddings, loss and gradients of a step."""
    torch.manual_seed(0)
    inputs = {"ecg": ecg.input_shape}
    tower = {"encoder": ENCODERS[encoder], "head": {"out": 6, "hidden": 8, "norm": "layer"}}
    towers = Towers.build(inputs, {"ecg": tower})
    shape = towers.shape(inputs)
    settings = ViewSettings(
        augment={"ecg": AUGMENT} if disturbed else {}, mask={"ecg": 0.6} if over else {}
    )
    view = View(settings, {"ecg": ecg}, shape.num_tokens)
    batch = batch_of({"ecg": x})
    shown = view(batch, row_generator(1))
    seen = towers(shown)
    parameters = dict(towers.named_parameters())
    loss = (seen.pooled["ecg"] * torch.arange(6, device="cpu")).sum()
    if over is not None:
        own = {"modality": "ecg", "decoder": {"width": 8, "depth": 1, "heads": 2}, "over": over}
        objective = build_objective("masked", own, shape)
        term = objective({"masked": seen}, batch)["masked/ecg"]
        assert term.count == ROWS
        parameters |= {f"objective.{k}": p for k, p in objective.named_parameters()}
        loss = loss + term.value
    gradients = torch.autograd.grad(
        loss, [p for p in parameters.values() if p.requires_grad], allow_unused=True
    )
    assert any(one is not None and one.any() for one in gradients)
    return [shown.inputs["ecg"], seen.features["ecg"], seen.pooled["ecg"], loss,
            *(one for one in gradients if one is not None)]  # fmt: skip


CASES = [
    (encoder, disturbed, over)
    for encoder in ENCODERS
    for disturbed in (False, True)
    for over in ((None,) if encoder == "resnet1d" else (None, "all", "masked"))
]


@pytest.fixture(scope="module")
def alike():
    """Adapters and prepared rows between which nobody may see a difference."""
    dead, never = adapter({"dead_leads": "mask"}), adapter({"missing_leads": "zero"})
    found = [(dead, prepared(dead, garbage)) for garbage in (-3.3, np.nan)]
    found.append((never, prepared(never, None)))
    for fill in (torch.nan, 1e30):  # whatever a cache holds
        spoilt = found[-1][1].clone()
        spoilt[..., :-1][~never.present_leads(spoilt)] = fill
        found.append((never, spoilt))
    return found


@pytest.mark.parametrize(("encoder", "disturbed", "over"), CASES)
def test_what_a_dead_or_absent_lead_holds_changes_nothing(alike, encoder, disturbed, over):
    steps = [learnt(encoder, ecg, x, disturbed=disturbed, over=over) for ecg, x in alike]
    for other in steps[1:]:
        for one, two in zip(steps[0], other, strict=True):
            assert torch.equal(one, two)
    ecg, x = alike[0]
    there = x.clone()
    there[1:, :, -1] = 1  # as if the zeros had been recorded
    whole = learnt(encoder, ecg, there, disturbed=disturbed, over=over)
    if disturbed or over:  # noise in them, or their price
        assert not torch.equal(whole[3], steps[0][3])


def slow_loss(predicted, signal, patch, weight, leads, mask):
    """Row by row, lead by lead, patch by patch."""
    errors, correlations = [], []
    for row in range(len(signal)):
        squares, alike = [], []
        for lead in range(signal.shape[1]):
            if not leads[row, lead]:
                continue
            times = signal.shape[2] // patch
            tokens = [lead * times + t for t in range(times)]
            said = np.concatenate([predicted[row, t] for t in tokens])
            alike.append(np.corrcoef(said, signal[row, lead])[0, 1])
            for t, token in enumerate(tokens):
                if mask is None or mask[row, token]:
                    piece = signal[row, lead, t * patch : (t + 1) * patch]
                    squares += list((predicted[row, token] - piece) ** 2)
        errors.append(np.mean(squares))
        correlations.append(np.mean(alike))
    return (1 - weight) * np.mean(errors) + weight * (1 - np.mean(correlations))


def loss_case(is_masked):
    generator = torch.Generator(device="cpu").manual_seed(0)
    signal = torch.randn(3, 4, 20, generator=generator, dtype=torch.float64, device="cpu")
    predicted = torch.randn(3, 16, 5, generator=generator, dtype=torch.float64, device="cpu")
    leads = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0]], device="cpu").bool()
    mask = torch.rand(3, 16, generator=generator, device="cpu") < 0.6
    return predicted, signal, leads, mask if is_masked else None


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_loss_is_that_of_present_leads_by_slow_loops(is_masked):
    predicted, signal, leads, mask = loss_case(is_masked)
    expected = slow_loss(predicted.numpy(), signal.numpy(), 5, 0.3, leads, mask)
    for fill in (0.0, torch.nan, 1e30):
        said, truth = predicted.clone(), signal.clone()
        truth[~leads] = fill
        said[~leads.repeat_interleave(4, 1)] = fill
        said.requires_grad_()
        value = masked_modelling(said, truth, 5, 0.3, mask=mask, leads=leads)
        assert value.item() == pytest.approx(expected, abs=1e-9)
        (gradient,) = torch.autograd.grad(value, said)
        assert torch.isfinite(gradient).all()
        assert not gradient[~leads.repeat_interleave(4, 1)].any()
        assert gradient[leads.repeat_interleave(4, 1)].any()
    torch.autograd.gradcheck(
        lambda p: masked_modelling(p, signal, 5, 0.3, mask=mask, leads=leads),
        predicted.requires_grad_(),
    )


def test_where_all_leads_are_there_the_loss_is_the_usual_one():
    predicted, signal, leads, _ = loss_case(False)
    every = torch.ones_like(leads)
    for mask in (None, torch.arange(16, device="cpu").expand(3, 16) % 3 == 0):
        usual = masked_modelling(predicted, signal, 5, 0.3, mask=mask)
        torch.testing.assert_close(
            masked_modelling(predicted, signal, 5, 0.3, mask=mask, leads=every), usual
        )
        torch.testing.assert_close(
            mean_modelling(signal, 5, 0.3, mask=mask, leads=every),
            mean_modelling(signal, 5, 0.3, mask=mask),
        )


@pytest.mark.parametrize("is_masked", [False, True])
def test_chance_is_the_loss_of_the_mean_of_what_is_charged(is_masked):
    _, signal, leads, mask = loss_case(is_masked)
    charged = leads.repeat_interleave(4, 1)
    charged = charged if mask is None else charged & mask
    said = torch.stack([
        torch.full((16, 5), patches[which].mean(), dtype=torch.float64)
        for patches, which in zip(signal.reshape(3, 16, 5), charged, strict=True)
    ])  # fmt: skip
    expected = masked_modelling(said, signal, 5, 0.3, mask=mask, leads=leads)
    signal[~leads] = torch.nan
    found = mean_modelling(signal, 5, 0.3, mask=mask, leads=leads)
    assert float(found) == pytest.approx(float(expected))


def test_a_row_of_which_nothing_is_hidden_is_not_charged_and_not_counted(model_shape, make_seen):
    own = {"modality": "ecg", "decoder": {"width": 16, "depth": 1, "heads": 2}, "over": "masked"}
    torch.manual_seed(0)
    objective = build_objective("masked", own, model_shape)
    seen, batch, _ = make_seen()
    view = seen["masked"]
    count = view.batch.inputs["ecg"].shape[1]
    times = view.batch.masks["ecg"].shape[1] // count
    leads = torch.ones(len(batch), count, dtype=torch.bool, device="cpu")
    masks = view.batch.masks["ecg"].clone()
    leads[0] = torch.arange(count, device="cpu") == 0  # one lead, of which all is visible
    visible = int((~masks[0]).sum())
    assert visible >= times
    masks[0] = torch.arange(len(masks[0]), device="cpu") >= visible

    def term(rows):
        present = {**view.batch.present, "ecg": view.batch.present["ecg"] & rows}
        shown = replace(view.batch, masks={"ecg": masks}, leads={"ecg": leads}, present=present)
        return objective({"masked": replace(view, batch=shown)}, batch)

    every = torch.ones(len(batch), dtype=torch.bool, device="cpu")
    others = every.clone()
    others[0] = False
    one, two = term(every)["masked/ecg"], term(others)["masked/ecg"]
    assert view.batch.present["ecg"][0]
    assert one.count == two.count == int(view.batch.present["ecg"].sum()) - 1
    assert torch.equal(one.value, two.value)
    assert term(~others) == {}
    with pytest.raises(MedmclError, match="nothing to rebuild"):
        masked_modelling(torch.zeros(1, 2, 5), torch.zeros(1, 1, 10), 5, 0.1,
                         leads=torch.zeros(1, 1, dtype=torch.bool))  # fmt: skip
