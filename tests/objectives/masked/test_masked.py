""""""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives import build_objective, masked_modelling
from medmcl.objectives.masked import MaskedDecoder, lead_correlation
from medmcl.objectives.settings import DecoderSettings


def authors_draw():
    torch.manual_seed(1)
    return torch.randn(2, 1, 12, 2500, device="cpu"), torch.randn(2, 300, 100, device="cpu")


def slow_loss(predicted, signal, patch, w, mask=None):
    rows, leads, samples = signal.shape
    blocks = samples // patch
    squares, hidden_squares, correlations = [], [], []
    for b in range(rows):
        for lead in range(leads):
            x = [float(v) for v in signal[b, lead]]
            y = []
            for t in range(blocks):
                token = lead * blocks + t
                for i in range(patch):
                    y.append(float(predicted[b, token, i]))
                    square = (y[-1] - x[t * patch + i]) ** 2
                    squares.append(square)
                    if mask is not None and mask[b, token]:
                        hidden_squares.append(square)
            mx, my = sum(x) / samples, sum(y) / samples
            vx = sum((v - mx) ** 2 for v in x) / (samples - 1)
            vy = sum((v - my) ** 2 for v in y) / (samples - 1)
            covariance = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
            correlations.append(
                covariance / (samples - 1) / math.sqrt(vx + 1e-12) / math.sqrt(vy + 1e-12)
            )
    errors = squares if mask is None else hidden_squares
    ncc = sum(correlations) / len(correlations)
    return (1 - w) * sum(errors) / len(errors) + w * (1 - ncc)


@pytest.mark.parametrize(("w", "value"), [(0, 2.000453), (0.1, 1.899981), (1, 0.995731)])
def test_noise_costs_what_the_authors_code_gives(w, value):
    x, p = authors_draw()
    assert masked_modelling(p, x, 100, w).item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(("w", "value"), [(0, 0.261927), (0.1, 0.235734), (1, 0.0)])
def test_a_scaled_copy_costs_what_the_authors_code_gives(w, value):
    x, _ = authors_draw()
    p = 0.5 * x.reshape(2, -1, 100) + 0.1
    assert masked_modelling(p, x, 100, w).item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("hide", [False, True])
def test_the_loss_is_the_formula_as_loops(w, hide):
    torch.manual_seed(2)
    signal = torch.randn(3, 2, 12, dtype=torch.float64, device="cpu")
    predicted = torch.randn(3, 6, 4, dtype=torch.float64, device="cpu")
    mask = torch.rand(3, 6, device="cpu") < 0.5 if hide else None
    got = masked_modelling(predicted, signal, 4, w, mask=mask)
    assert got.item() == pytest.approx(slow_loss(predicted, signal, 4, w, mask), rel=1e-12)


def test_gradients_are_those_of_finite_differences():
    signal = torch.randn(2, 2, 6, dtype=torch.float64, device="cpu")
    predicted = torch.randn(2, 4, 3, dtype=torch.float64, device="cpu", requires_grad=True)
    mask = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0]], dtype=torch.bool, device="cpu")
    for hidden in (None, mask):
        assert torch.autograd.gradcheck(
            lambda p, hidden=hidden: masked_modelling(p, signal, 3, 0.4, mask=hidden), predicted
        )


def test_a_flat_lead_correlates_with_nothing_and_stays_finite():
    signal = torch.full((1, 2, 500), 0.3, device="cpu")
    signal[0, 1] = torch.sin(torch.arange(500.0, device="cpu"))
    predicted = torch.randn(1, 20, 50, device="cpu", requires_grad=True)
    rebuilt = predicted.reshape(signal.shape)
    assert lead_correlation(rebuilt, signal)[0, 0].item() == pytest.approx(0, abs=1e-4)
    masked_modelling(predicted, signal, 50, 0.5).backward()
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize(
    ("predicted", "signal", "patch", "w", "says"),
    [
        ((2, 4, 3), (2, 2, 7), 3, 0.1, "divide"),
        ((2, 4, 3), (2, 2, 6), 0, 0.1, "divide"),
        ((2, 3, 3), (2, 2, 6), 3, 0.1, "does not fit"),
        ((1, 4, 3), (2, 2, 6), 3, 0.1, "does not fit"),
        ((2, 4, 3), (2, 3, 2, 6), 3, 0.1, "shape"),
        ((2, 4, 3), (2, 2, 6), 3, 1.1, "ncc_weight"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(predicted, signal, patch, w, says):
    with pytest.raises(MedmclError, match=says):
        masked_modelling(
            torch.zeros(predicted, device="cpu"), torch.zeros(signal, device="cpu"), patch, w
        )


def test_a_mask_that_hides_nothing_or_has_another_shape_is_refused():
    p, x = torch.zeros(1, 4, 3, device="cpu"), torch.zeros(1, 2, 6, device="cpu")
    with pytest.raises(MedmclError, match="hides no patch"):
        masked_modelling(p, x, 3, 0.1, mask=torch.zeros(1, 4, dtype=torch.bool, device="cpu"))
    with pytest.raises(MedmclError, match="one a patch"):
        masked_modelling(p, x, 3, 0.1, mask=torch.ones(1, 3, dtype=torch.bool, device="cpu"))


@pytest.mark.parametrize("patch", [(1, 100), 10.0, "10", True, None])
def test_a_patch_that_is_no_whole_number_is_a_clear_error(patch):
    x = torch.zeros(2, 3, 100)
    with pytest.raises(MedmclError, match="one whole number"):
        masked_modelling(torch.zeros(2, 30, 10), x, patch, 0.1)


SETTINGS = {"modality": "ecg", "decoder": {"width": 16, "depth": 1, "heads": 2}, "ncc_weight": 0.3}


@pytest.mark.parametrize("over", ["all", "masked"])
def test_the_term_is_the_loss_of_the_present_rows(model_shape, make_seen, over):
    objective = build_objective("masked", {**SETTINGS, "over": over}, model_shape)
    seen, batch, _ = make_seen()
    view, rows = seen["masked"], batch.present["ecg"]
    mask = view.batch.masks["ecg"][rows]
    expected = masked_modelling(
        objective.rebuild(view.tokens["ecg"], view.batch.masks["ecg"])[rows],
        view.batch.inputs["ecg"][rows],
        5,
        0.3,
        mask=mask if over == "masked" else None,
    )
    term = objective(seen, batch)["masked/ecg"]
    torch.testing.assert_close(term.value, expected)
    assert term.count == int(rows.sum())


def test_visible_tokens_go_back_to_their_places():
    """Without blocks and positions, a patch depends on its own token, or is the hidden one's."""
    decoder = MaskedDecoder(DecoderSettings(width=8, depth=1, heads=2), 4, (2, 3), 5)
    decoder.blocks = torch.nn.Sequential()
    decoder.positions.zero_()
    mask = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0]], dtype=torch.bool, device="cpu")
    visible = torch.randn(2, 3, 4, device="cpu")
    patches = decoder(visible, mask)
    alone = decoder.leave(decoder.norm(decoder.enter(visible)))
    hidden = decoder.leave(decoder.norm(decoder.hidden_token))
    for row, places in enumerate(((1, 3, 4), (0, 4, 5))):
        for number, place in enumerate(places):
            torch.testing.assert_close(patches[row, place], alone[row, number])
        for place in set(range(6)) - set(places):
            torch.testing.assert_close(patches[row, place], hidden[0, 0])


def test_hidden_patches_know_where_they_are():
    decoder = MaskedDecoder(DecoderSettings(width=16, depth=1, heads=2), 4, (2, 3), 5)
    mask = torch.tensor([[0, 1, 1, 1, 1, 1]], dtype=torch.bool, device="cpu")
    patches = decoder(torch.randn(1, 1, 4, device="cpu"), mask)
    assert not torch.allclose(patches[0, 1], patches[0, 2])


def test_an_encoder_without_lead_patches_is_refused(model_shape):
    with pytest.raises(ConfigError, match="has no "):
        build_objective("masked", {"modality": "cmr"}, model_shape)
    other = replace(model_shape, num_tokens={"ecg": 7})
    with pytest.raises(ConfigError, match="not lead by lead"):
        build_objective("masked", SETTINGS, other)


def test_patches_that_span_all_leads_are_charged_lead_by_lead(model_shape):
    leads, samples = model_shape.inputs["ecg"].shape
    patch = model_shape.patch["ecg"]
    times = samples // patch
    joint = build_objective("masked", SETTINGS, replace(model_shape, num_tokens={"ecg": times}))
    patches = torch.randn(2, times, leads * patch, device="cpu")
    joint.decoder.forward = lambda tokens, _: tokens
    ordered = joint.rebuild(patches, torch.zeros(2, times, dtype=torch.bool))
    assert ordered.shape == (2, leads * times, patch)
    for lead in range(leads):
        for time in range(times):
            piece = patches[:, time, lead * patch : (lead + 1) * patch]
            assert torch.equal(ordered[:, lead * times + time], piece)


def test_a_view_that_hides_nothing_is_named(model_shape, make_seen):
    objective = build_objective("masked", {**SETTINGS, "view": "augmented"}, model_shape)
    seen, batch, _ = make_seen()
    with pytest.raises(ConfigError, match="'augmented' does not hide"):
        objective(seen, batch)


def test_tokens_that_are_not_only_the_visible_ones_are_refused(model_shape, make_seen):
    objective = build_objective("masked", SETTINGS, model_shape)
    seen, batch, _ = make_seen()
    everything = torch.zeros(7, 12, 8, device="cpu")
    seen["masked"] = replace(seen["masked"], tokens={"ecg": everything})
    with pytest.raises(MedmclError, match="visible"):
        objective(seen, batch)
