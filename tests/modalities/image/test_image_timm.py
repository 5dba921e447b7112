"""Pixels for pretrained networks: against timm's own transform, and after augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from pydantic import ValidationError
from row_draws import row_generator

from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource
from medmcl.modalities.image.augment import ImageAugment
from medmcl.modalities.image.files import read_image

PLAIN = {"channels": "colour", "intensity": "range", "fit": "timm", "interpolation": "cubic"}
MEAN_STD = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,) * 3, (0.5,) * 3),
}


def image(**settings):
    return Image(ImageSource(reader="image"), ImageSettings(**{**PLAIN, **settings}))


def drawn(kind, shape):
    generator = np.random.default_rng(0)
    if kind == "noise":
        return generator.integers(0, 256, (*shape, 3)).astype(np.uint8)
    if kind == "edges":
        return (generator.random((*shape, 3)) > 0.5).astype(np.uint8) * 255
    rows, columns = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    return (255 * np.stack([rows, columns, rows * columns], -1)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "edges", "ramp"])
@pytest.mark.parametrize(("shape", "size"), [((120, 93), 48), ((61, 200), 64), ((40, 40), 64)])
@pytest.mark.parametrize(
    ("normalise", "share", "mode"), [("clip", 1.0, "bicubic"), ("imagenet", 0.875, "bilinear")]
)
def test_pixels_are_those_of_timm_s_evaluation(tmp_path, kind, shape, size, normalise, share, mode):
    from timm.data import create_transform

    Pillow.fromarray(drawn(kind, shape)).save(tmp_path / "x.png")
    mean, std = MEAN_STD[normalise]
    transform = create_transform(
        input_size=(3, size, size), interpolation=mode, crop_pct=share, mean=mean, std=std
    )
    expected = transform(Pillow.open(tmp_path / "x.png"))
    adapter = image(
        size=size,
        crop_pct=share,
        normalise=normalise,
        interpolation={"bicubic": "cubic", "bilinear": "linear"}[mode],
    )
    prepared = adapter.prepare(read_image(tmp_path / "x.png"))
    found = adapter.plain(torch.from_numpy(prepared)[None])[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sixteen_bits_are_not_rounded_to_eight(tmp_path):
    pixels = np.linspace(0, 65535, 40 * 50).reshape(40, 50).astype(np.uint16)
    Pillow.fromarray(pixels).save(tmp_path / "x.png")
    prepared = image(size=32).prepare(read_image(tmp_path / "x.png"))
    assert prepared.shape == (3, 32, 32)
    assert len(np.unique(prepared[0])) > 600
    assert (prepared[0] == prepared[1]).all()


@pytest.mark.parametrize("normalise", [*MEAN_STD, "own"])
def test_mean_and_deviation_are_taken_out_last(normalise):
    mean, std = MEAN_STD.get(normalise, ((0.1, 0.2, 0.3), (1.0, 2.0, 0.5)))
    given = {"mean": mean, "std": std} if normalise == "own" else normalise
    adapter, bare = image(size=16, normalise=given), image(size=16)
    x = torch.rand(4, 3, 16, 16, device="cpu")
    options = ImageAugment(brightness=0.5, cutout=0.1)
    views = [one.augment(x, options, row_generator(3)) for one in (adapter, bare)]
    for found, plain in ((adapter.plain(x), x), views):
        for channel in range(3):
            by_hand = (plain[:, channel] - mean[channel]) / std[channel]
            torch.testing.assert_close(found[:, channel], by_hand)
    assert 0 <= views[1].min() <= views[1].max() <= 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"normalise": "clip", "channels": "grey"}, "normalise: needs channels: colour"),
        ({"normalise": "clip", "intensity": "zscore", "fit": "crop"}, "normalise: needs"),
        ({"size": (32, 48)}, "fit: timm makes square images"),
        ({"size": (8, 8, 8)}, "fit: timm makes square images"),
        ({"fit": "crop", "crop_pct": 0.9}, "crop_pct: only fit: timm reads it"),
        ({"normalise": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "greater than 0"),
        ({"normalise": "openai"}, "clip"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        image(**settings)
