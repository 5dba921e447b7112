"""Preparing images: slices, sizes, intensities; what `inspect` says; copies; simple features."""

import math
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from medmcl.core.contracts import RecordRef, SimpleFeatures, Sketches
from medmcl.core.errors import RecordError
from medmcl.data.check.copies import CERTAIN, LIKELY, NEAR
from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource
from medmcl.modalities.image.files import ImageRecord, read_image
from medmcl.modalities.image.geometry import fit_to, resize_to, take_slice

PLACE = RecordRef(subject="s1", record="r1")
RNG = np.random.default_rng(0)


def record(pixels, spacing=(math.nan,) * 3, where="memory", **more):
    pixels = np.asarray(pixels)
    full = {np.dtype("uint8"): 255.0, np.dtype("uint16"): 65535.0}.get(pixels.dtype, math.nan)
    return ImageRecord(
        **{"pixels": pixels, "full_scale": full, "spacing_mm": spacing, "where": where, **more}
    )


def adapter(**settings):
    return Image(ImageSource(reader="image"), ImageSettings(**settings))


def codes(raw, **source):
    one = Image(ImageSource(reader="image", **source), ImageSettings())
    return {(f.code, f.level) for f in one.inspect(raw, PLACE)}


def grey(shape=(1, 40, 30), top=255):
    return RNG.integers(0, top + 1, shape).astype(np.uint8 if top < 256 else np.uint16)


# ------------------------------------------------------------------ slices


def test_slices_of_a_volume_are_upright():
    volume = torch.zeros(1, 6, 8, 10)  # z y x, growing towards superior, anterior, right
    volume[0, 3, 7, 9] = 1  # anterior right
    volume[0, 5, 4, 9] = 2  # superior right
    volume[0, 5, 7, 5] = 3  # superior anterior
    spacing = (3.0, 2.0, 1.0)
    axial, mm = take_slice(volume, spacing, "axial", 0.5)
    assert (tuple(axial.shape), mm) == ((1, 1, 8, 10), (3.0, 2.0, 1.0))
    assert axial[0, 0, 0, 9] == 1  # top right: anterior, right of the body
    coronal, mm = take_slice(volume, spacing, "coronal", 0.5)
    assert (tuple(coronal.shape), mm) == ((1, 1, 6, 10), (2.0, 3.0, 1.0))
    assert coronal[0, 0, 0, 9] == 2
    sagittal, mm = take_slice(volume, spacing, "sagittal", 0.5)
    assert (tuple(sagittal.shape), mm) == ((1, 1, 6, 8), (1.0, 3.0, 2.0))
    assert sagittal[0, 0, 0, 7] == 3


def test_slice_at_counts_from_inferior_posterior_left_and_stays_inside():
    volume = np.arange(5, dtype=np.float32)[None, :, None, None] + np.zeros((1, 5, 6, 7))
    for at, number in ((0, 0), (0.19, 0), (0.5, 2), (0.99, 4), (1, 4)):
        taken, _ = take_slice(torch.from_numpy(volume), (1.0, 1.0, 1.0), "axial", at)
        assert (taken == number).all()


# ------------------------------------------------------------------ sizes


def pillow(plane, size, how):
    """Resize one plane of real numbers as Pillow does, which smooths too."""
    return np.asarray(Picture.fromarray(plane.astype(np.float32)).resize(size[::-1], how))


@pytest.mark.parametrize(("mode", "how"), [("linear", "BILINEAR"), ("cubic", "BICUBIC")])
@pytest.mark.parametrize("size", [(16, 12), (64, 90), (20, 90)])
def test_resizing_a_plane_is_that_of_pillow(mode, how, size):
    plane = RNG.random((40, 30)).astype(np.float32)
    ours = resize_to(torch.from_numpy(plane)[None, None], (1, *size), mode)[0, 0].numpy()
    theirs = pillow(plane, size, Picture.Resampling[how])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_slices_of_a_volume_are_smoothed_like_rows_and_columns():
    volume = RNG.random((20, 30, 24)).astype(np.float32)
    ours = resize_to(torch.from_numpy(volume)[None], (7, 11, 9), "linear")[0].numpy()
    planes = np.stack([pillow(plane, (11, 9), Picture.Resampling.BILINEAR) for plane in volume])
    theirs = np.stack(
        [pillow(planes[:, row], (7, 9), Picture.Resampling.BILINEAR) for row in range(11)], axis=1
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_fitting_pads_cuts_or_stretches():
    tall = torch.ones(1, 1, 40, 20)
    padded = fit_to(tall, (1, 16, 16), "pad", "linear")[0, 0]
    torch.testing.assert_close(padded[:, 4:12], torch.ones(16, 8))
    assert not padded[:, [0, 1, 2, 3, 12, 13, 14, 15]].any()
    for how in ("crop", "stretch"):
        torch.testing.assert_close(
            fit_to(tall, (1, 16, 16), how, "linear"), torch.ones(1, 1, 16, 16)
        )
    rows = torch.arange(40.0).reshape(1, 1, 40, 1).expand(1, 1, 40, 20)
    cut = fit_to(rows, (1, 20, 20), "crop", "linear")
    np.testing.assert_array_equal(cut[0, 0, :, 0], np.arange(10, 30))
    kept = fit_to(rows, (1, 20, 24), "center", "linear")[0, 0]
    np.testing.assert_array_equal(kept[:, 5], np.arange(10, 30))
    assert not kept[:, [0, 1, 22, 23]].any()
    volume = fit_to(torch.ones(1, 10, 40, 20), (8, 8, 8), "pad", "linear")[0]
    torch.testing.assert_close(volume[3:5, :, 2:6], torch.ones(2, 8, 4))
    assert volume.sum().item() == pytest.approx(2 * 8 * 4)


def test_spacing_makes_pixels_square_before_fitting_and_must_be_known():
    volume = np.zeros((1, 10, 20, 20), np.float32)
    volume[0, :, 10] = RNG.random((10, 20))
    raw = record(volume, (4.0, 1.0, 1.0))
    one = adapter(size=[48, 24], plane="coronal", spacing_mm=1, fit="center")
    rows = one.prepare(raw)[0].any(axis=1)
    assert rows[4:44].all()  # 10 slices, 4 mm apart, are 40 rows
    assert rows.sum() == 40
    assert adapter(size=[40, 20, 20], spacing_mm=1).prepare(raw).shape == (1, 40, 20, 20)
    with pytest.raises(RecordError, match="needs the spacing"):
        one.prepare(record(volume))


def test_a_flat_image_makes_no_volume():
    with pytest.raises(RecordError, match="flat image"):
        adapter(size=[8, 8, 8]).prepare(record(grey()))


# ------------------------------------------------------------------ intensities


def test_zscore_takes_what_is_not_zero():
    pixels = RNG.normal(50, 9, (1, 16, 16)).astype(np.float32)
    pixels[:, :5] = 0
    made = adapter(size=16, intensity="zscore").prepare(record(pixels))[0]
    assert not made[:5].any()
    assert made[5:].mean() == pytest.approx(0, abs=1e-5)
    assert made[5:].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("top", [255, 65535])
def test_range_is_what_the_bits_hold_or_what_is_said(top):
    pixels = grey(top=top)
    one = adapter(size=[40, 30], intensity="range")
    np.testing.assert_allclose(one.prepare(record(pixels)), pixels / np.float32(top), rtol=1e-6)
    one = adapter(size=[40, 30], intensity="range", range=[10, 60])
    np.testing.assert_allclose(
        one.prepare(record(pixels)), ((pixels - 10.0) / 50).clip(0, 1), atol=1e-6
    )


def test_an_unknown_range_a_constant_and_settings_without_sense_are_refused():
    real = RNG.random((1, 20, 20)).astype(np.float32)
    with pytest.raises(RecordError, match="which range"):
        adapter(intensity="range").prepare(record(real))
    flat = record(np.full((1, 20, 20), 7, np.uint8))
    for intensity in ("percentile", "zscore"):
        with pytest.raises(RecordError, match="alike"):
            adapter(intensity=intensity).prepare(flat)
    for wrong in (
        {"range": [0, 1]},
        {"range": [2, 1], "intensity": "range"},
        {"size": [1, 2, 3, 4]},
    ):
        with pytest.raises(ValidationError):
            ImageSettings(**wrong)


def test_colours_become_luminance_or_stay_and_grey_is_repeated():
    colours = grey((3, 20, 20))
    one = adapter(size=20, intensity="range")
    luminance = 0.299 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2]
    np.testing.assert_allclose(one.prepare(record(colours))[0], luminance / 255, atol=1e-6)
    pillows = Picture.fromarray(colours.transpose(1, 2, 0)).convert("L")
    assert np.abs(np.asarray(pillows) - luminance).max() <= 1
    three = adapter(size=20, intensity="range", channels="colour")
    np.testing.assert_allclose(three.prepare(record(colours)), colours / 255, atol=1e-6)
    made = three.prepare(record(colours[:1]))
    assert made.shape == three.prepared_shape == (3, 20, 20)
    assert three.input_shape.names == ("red", "green", "blue")
    assert (made == made[0]).all()


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "nearest"])
@pytest.mark.parametrize("size", [24, [50, 20], [6, 16, 20]])
def test_what_is_prepared_is_finite_between_0_and_1_and_of_the_shape_that_is_said(
    size, interpolation
):
    one = adapter(size=size, interpolation=interpolation)
    made = one.prepare(record(RNG.gamma(1.0, size=(1, 9, 40, 30)).astype(np.float32)))
    assert made.shape == one.prepared_shape == one.input_shape.shape
    assert made.dtype == np.float32
    assert (made >= 0).all()
    assert (made <= 1).all()
    assert one.input_shape.kind == "image"


# ------------------------------------------------------------------ checks


def test_a_sound_image_gives_no_finding():
    assert codes(record(grey())) == set()
    assert codes(record(RNG.normal(size=(1, 20, 20, 20)).astype(np.float32))) == set()


def test_constant_empty_saturated_and_tiny_images_are_found():
    assert codes(record(np.full((1, 20, 20), 3, np.uint8))) == {("image.constant", "error")}
    nearly = np.zeros((1, 40, 40), np.uint8)
    nearly[0, 5, 5:15] = 200
    assert codes(record(nearly)) == {("image.empty", "warning")}
    white = grey()
    white[0, :10] = 255
    assert codes(record(white)) == {("image.saturated", "warning")}
    dim = (grey() // 2).clip(0, 40)  # the largest value, but not the largest there can be
    assert codes(record(dim)) == set()
    assert codes(record(dim.astype(np.float32))) == {("image.saturated", "warning")}
    assert codes(record(grey((1, 40, 9)))) == {("image.small", "warning")}
    bad = RNG.random((1, 20, 20)).astype(np.float32)
    bad[0, 0, 0] = np.inf
    assert codes(record(bad)) == {("image.nan", "error")}


def of(shapes):
    return [record(grey(shape), where=f"file {n}") for n, shape in enumerate(shapes)]


def test_images_unlike_the_others_are_found_together():
    usual = [(1, 40, 30)] * 8
    odd = of([*usual, (1, 30, 40), (3, 40, 30)])
    found = {f.code: f for f in adapter().inspect_together(odd)}
    assert set(found) == {"image.sideways", "image.channels"}
    assert "1 of 10 images lie on their side" in found["image.sideways"].what
    assert "file 8: 30 by 40" in found["image.sideways"].what
    assert "in colour" in found["image.channels"].what
    assert all(f.level == "warning" and f.scope == "cohort" for f in found.values())
    large = adapter().inspect_together(of([*usual, (1, 100, 75)]))
    assert [f.code for f in large] == ["image.size"]
    assert adapter().inspect_together(of(usual)) == []
    assert adapter().inspect_together(of([(1, 40, 30), (1, 30, 40)])) == []
    mixed = of([(1, 40, 30), (1, 30, 40)] * 5)  # radiographs of chests lie either way
    assert adapter().inspect_together(mixed) == []
    square = of([(1, 40, 40)] * 8 + [(1, 39, 41)])
    assert adapter().inspect_together(square) == []
    nearly = of([(1, 99, 104)] * 58 + [(1, 97, 90)] * 2)
    assert adapter().inspect_together(nearly) == []


def deep(largest, dtype="uint16"):
    pixels = RNG.integers(0, largest, (1, 20, 20)).astype(dtype)
    pixels[0, 0, 0] = largest
    return record(pixels, where=f"file of {largest}")


def depths(raws, **settings):
    return {f.code: f for f in adapter(**settings).inspect_together(raws)}


def test_radiographs_of_12_bits_in_files_of_16_are_found_together():
    raws = [deep(largest) for largest in (4095, 3000, 60000)]
    found = depths(raws, intensity="range")
    assert set(found) == {"image.dim"}
    said = found["image.dim"]
    assert "2 of 3 images use at most 6.2% of 16 bits: probably 12 bits" in said.what
    assert "file of 4095" in said.what
    assert "[0, 4095]" in said.fix
    assert (said.level, said.scope) == ("warning", "cohort")
    dark = adapter(intensity="range", size=20).prepare(raws[0]).max()
    assert dark < 0.07  # what it warns of, and what its fix does
    assert adapter(intensity="range", range=[0, 4095], size=20).prepare(raws[0]).max() == 1
    assert depths(raws, intensity="range", range=[0, 4095]) == {}
    assert depths(raws, intensity="percentile") == {}
    assert depths([deep(16384)], intensity="range") == {}


@pytest.mark.parametrize("limits", [None, [0, 65535]])
def test_files_of_8_and_16_bits_in_one_cohort_are_found(limits):
    raws = [deep(200, "uint8"), deep(60000), deep(61000)]
    found = depths(raws, intensity="range", range=limits)
    assert set(found) == {"image.mixed_depth"}
    assert "1 of 3 images have 8 bits and 2 have 16" in found["image.mixed_depth"].what
    assert depths(raws) == depths(raws[1:], intensity="range") == {}


def test_what_is_usual_is_learned_on_train_and_travels():
    one, other = adapter(), adapter()
    assert one.state() == {"usual": None}
    one.fit(iter(of([(1, 40, 30)] * 5 + [(1, 44, 30)])))
    other.load_state(one.state())
    assert other.state() == {"usual": {"channels": 1, "shape": [40, 30]}}
    (found,) = other.inspect_together(of([(1, 30, 40)] * 6))  # a cohort that all lies on its side
    assert (found.code, found.what[:6]) == ("image.sideways", "6 of 6")
    looked = []

    def endless():
        while True:
            looked.append(1)
            yield record(grey())

    adapter().fit(endless())
    assert len(looked) == 20


# ------------------------------------------------------------------ copies and simple features


def face(seed, shape=(200, 160)):
    """One template, with fine detail of its own."""
    detail = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 5)
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    inside = np.hypot(x, y) < 0.9
    return (
        np.where(inside, 120 + 60 * np.cos(3 * x) + 200 * detail, 0).clip(0, 255).astype(np.uint8)
    )


def saved(pixels, how):
    image = Picture.fromarray(pixels)
    if how == "as JPEG":
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=70)
        image = Picture.open(buffer)
    elif how == "at half the size":
        image = image.resize((80, 100), Picture.Resampling.BICUBIC)
    elif how == "larger":
        image = image.resize((256, 320), Picture.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.round(pixels * 0.6 + 9).astype(np.uint8) if how == "with another gain" else pixels


@pytest.mark.parametrize("how", ["as JPEG", "at half the size", "larger", "with another gain"])
def test_an_image_saved_anew_is_known_again(how):
    one, other = record(face(0)[None]), record(saved(face(0), how)[None])
    image = adapter()
    assert isinstance(image, Sketches)
    assert np.linalg.norm(image.sketch(one) - image.sketch(other)) < NEAR
    assert image.distance(one, other) < LIKELY
    if how in ("as JPEG", "with another gain"):
        assert image.distance(one, other) < CERTAIN


def test_images_in_one_template_are_no_copies_and_blanks_have_no_sketch():
    image = adapter()
    one, other = record(face(0)[None]), record(face(1)[None])
    assert np.corrcoef(face(0).ravel(), face(1).ravel())[0, 1] > 0.9
    assert np.linalg.norm(image.sketch(one) - image.sketch(other)) > 2 * NEAR
    assert image.distance(one, other) > 1.5 * LIKELY
    blank = record(np.ones((1, 20, 20), np.uint8))
    assert image.sketch(blank) is None
    assert image.distance(one, blank) == math.inf
    assert image.distance(one, record(RNG.random((1, 9, 200, 160)))) == math.inf
    holed = face(0).astype(np.float32)
    holed[:2, 0] = np.inf, -np.inf
    holed[5, 5] = np.nan
    assert np.linalg.norm(image.sketch(record(holed[None])) - image.sketch(one)) < NEAR
    volume = gaussian_filter(RNG.random((12, 40, 40)), 1).astype(np.float32)
    assert image.distance(record(volume[None]), record(volume[None] * 3 + 1)) < 1e-3
    assert image.sketch(record(volume[None])).shape == (64,)


def test_no_two_brains_of_oasis_look_like_copies():
    folder = Path(os.environ.get("MEDMCL_DATA") or "none") / "oasis1" / "img"
    if not folder.is_dir():
        pytest.skip("MEDMCL_DATA names no folder with oasis1/img")
    image = adapter()
    raws = [read_image(path) for path in sorted(folder.glob("*_c.jpg"))[:60]]
    sketches = np.stack([image.sketch(raw) for raw in raws])
    apart = np.linalg.norm(sketches[:, None] - sketches[None], axis=2) + 9 * np.eye(len(raws))
    assert apart.min() > 2 * NEAR
    nearest = divmod(int(apart.argmin()), len(raws))
    assert image.distance(*(raws[n] for n in nearest)) > 2 * LIKELY


def test_simple_features_are_means_over_blocks_of_what_is_prepared():
    one = adapter(size=32, fit="center", intensity="range")
    assert isinstance(one, SimpleFeatures)
    pixels = grey((1, 32, 32))
    values = one.simple_features(record(pixels))
    means = pixels.reshape(16, 2, 16, 2).mean((1, 3)) / 255
    assert len(values) == 256
    assert values["block_r03_c15"] == pytest.approx(means[3, 15], abs=1e-6)
    np.testing.assert_allclose(list(values.values()), means.ravel(), atol=1e-6)
    volume = adapter(size=[8, 16, 24]).simple_features(record(RNG.random((1, 9, 30, 30))))
    assert len(volume) == 512
    assert list(volume)[-1] == "block_z07_r07_c07"
