from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives import build_objective, masked_modelling
from medmcl.objectives.masked import MaskedDecoder
from medmcl.objectives.settings import DecoderSettings

SETTINGS = {"modality": "ecg", "decoder": {"width": 16, "depth": 1, "heads": 2}, "ncc_weight": 0.3}


@pytest.mark.parametrize("over", ["all", "masked"])
def test_the_term_is_the_loss_of_the_present_rows(model_shape, make_seen, over):
    objective = build_objective("masked", {**SETTINGS, "over": over}, model_shape)
    seen, batch, _ = make_seen()
    view, rows = seen["masked"], batch.present["ecg"]
    mask = view.batch.masks["ecg"][rows]
    expected = masked_modelling(
        objective.reconstruct(view)[rows],
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
    ordered = joint._lead_major(patches)
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
