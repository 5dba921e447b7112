"""``medmcl models``: what a card says, for people."""

import pytest

from medmcl import models
from medmcl.core.errors import ConfigError
from medmcl.encoders.published.listing import list_of_models, one_model


def test_every_model_is_listed_with_input_licence_and_what_it_has_seen():
    said = list_of_models()
    for name in models.names():
        card = models.card(name)
        (line,) = [n for n, one in enumerate(said.splitlines()) if one.startswith(f"{name}: ")]
        reads, licence, seen = said.splitlines()[line + 1 : line + 4]
        assert card.input.modality in reads
        assert card.licence in licence
        assert ("NO COMMERCIAL USE" in licence) is not card.commercial
        assert next(iter(card.seen)) in seen


@pytest.mark.parametrize("name", models.names())
def test_one_model_is_explained_whole(name):
    card, said = models.card(name), one_model(name)
    flat = " ".join(said.split())
    for text in (card.citation, card.source, *card.seen, *card.outputs, *card.preparations,
                 *card.notes, *card.weights.drop):  # fmt: skip
        assert " ".join(text.split()) in flat, text
    for step in card.prepare.get("steps", ()):
        assert f"step: {step['step']}" in said
    assert f"medmcl embed --model {name}:FILE" in said
    assert f'medmcl.models.load("{name}", weights=FILE)' in said
    assert f"encoder: {{name: {name}, weights: FILE}}" in flat


def test_a_variant_is_named_in_how_to_use_it():
    said = one_model("turgut_ecg:cls")
    assert "--model turgut_ecg:cls:FILE" in said
    assert "variant: cls" in said
    with pytest.raises(ConfigError, match="has no variant"):
        one_model("turgut_ecg:sum")


def test_a_variant_says_what_its_files_have_seen():
    said = one_model("ecg_jepa:vits_mimic")
    assert "  mimic_iv_ecg: signals\n  not seen, as far as read: ptbxl," in said
    assert "  ptbxl: folds 1 to 8" in one_model("ecg_jepa")


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("ecgfounder", "10 s at 500 Hz (12 x 5000)"),
        ("hubert_ecg", "5 s at 100 Hz (6000)"),  # twelve leads in a row
        ("st_mem", "9 s at 250 Hz (12 x 2250)"),
        ("cinema", "192 x 192 x 16 voxels of 1 x 1 x 10 mm"),
    ],
)
def test_lengths_are_said_in_seconds_and_samples(name, length):
    assert length in one_model(name)
    assert length in list_of_models()


def test_steps_say_their_samples_in_seconds_at_the_rate_they_have_there():
    assert "starts: [0, 125, 250]}  (9 s at 250 Hz, from 0, 0.5, 1 s)" in one_model("st_mem")
    assert "{step: windows, seconds: 10, every: 10}\n" in one_model("st_mem")
    assert "samples: 1250, every: 625}  (2.5 s at 500 Hz, every 1.25 s)" in one_model("ecg_jepa")
    assert "{step: cut, samples: 2500}  (5 s at 500 Hz)" in one_model("hubert_ecg")


def test_a_variant_of_one_lead_says_so():
    said = one_model("ecgfounder:1_lead")
    assert "leads I, 10 s at 500 Hz (1 x 5000)" in said
    assert "12 leads, 10 s at 500 Hz (12 x 5000)" in one_model("ecgfounder")
