"""Image files, DICOM images and NIfTI volumes of kind image: what is read, what is refused."""

import contextlib
import itertools
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from image_dicom import write_dicom_image
from PIL import Image as Picture
from pydantic import ValidationError

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.data.cohort.manifest import parse_spec
from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource
from medmcl.modalities.image.files import read_image
from medmcl.modalities.volumes import read_nifti


def place(path):
    return RecordRef(subject="s1", record="r1", paths={"path": Path(path)})


def adapter(reader="image", source=None, **settings):
    return Image(ImageSource(reader=reader, **(source or {})), ImageSettings(**settings))


def found(path, reader="image", **source):
    one = adapter(reader, source)
    raw = one.read(place(path))
    return raw, {(f.code, f.level) for f in one.inspect(raw, place(path))}


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (23, 31), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (23, 31), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (23, 31, 3), dtype=np.uint8)
FEW = COLOUR // 64 * 64


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_grey_values_come_out_as_they_were_saved(tmp_path, suffix):
    Picture.fromarray(GREY).save(tmp_path / f"a.{suffix}")
    raw, codes = found(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(raw.pixels, GREY[None])
    assert (raw.pixels.dtype, raw.full_scale, codes) == (np.uint8, 255, set())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    Picture.fromarray(DEEP).save(tmp_path / f"a.{suffix}")
    raw, codes = found(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(raw.pixels, DEEP[None])
    assert (raw.pixels.dtype, raw.full_scale, codes) == (np.uint16, 65535, set())


def test_a_big_endian_tiff_and_one_of_real_numbers_are_read(tmp_path):
    Picture.frombytes("I;16B", (31, 23), DEEP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(found(tmp_path / "a.tif")[0].pixels, DEEP[None])
    real = RNG.normal(size=(20, 30)).astype(np.float32)
    Picture.fromarray(real).save(tmp_path / "b.tif")
    raw, _ = found(tmp_path / "b.tif")
    np.testing.assert_array_equal(raw.pixels, real[None])
    assert np.isnan(raw.full_scale)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_turned(tmp_path, bits):
    pixels = GREY if bits == 8 else DEEP
    Picture.fromarray(pixels).save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    entry = struct.pack("<HHIH", 262, 3, 1, 1)  # photometric interpretation: black is zero
    assert data.count(entry) == 1
    (tmp_path / "a.tif").write_bytes(data.replace(entry, struct.pack("<HHIH", 262, 3, 1, 0)))
    np.testing.assert_array_equal(
        found(tmp_path / "a.tif")[0].pixels[0], np.iinfo(pixels.dtype).max - pixels
    )


def test_colours_and_palettes_are_three_channels_and_equal_channels_one(tmp_path):
    Picture.fromarray(COLOUR).save(tmp_path / "a.png")
    np.testing.assert_array_equal(found(tmp_path / "a.png")[0].pixels, COLOUR.transpose(2, 0, 1))
    palette = Picture.fromarray(FEW).quantize(256)
    palette.save(tmp_path / "b.png")
    raw, _ = found(tmp_path / "b.png")
    np.testing.assert_array_equal(raw.pixels, FEW.transpose(2, 0, 1))
    Picture.fromarray(np.stack([GREY] * 3, -1)).save(tmp_path / "c.png")
    np.testing.assert_array_equal(found(tmp_path / "c.png")[0].pixels, GREY[None])
    Picture.fromarray(GREY > 99).save(tmp_path / "d.png")
    np.testing.assert_array_equal(found(tmp_path / "d.png")[0].pixels, 255 * (GREY > 99)[None])


def test_jpeg_is_read_whatever_its_name_and_its_colour_space(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Picture.fromarray(smooth).save(tmp_path / "a.png", format="JPEG", quality=95)
    assert np.abs(found(tmp_path / "a.png")[0].pixels[0].astype(int) - smooth).max() < 4
    three = np.stack([smooth, smooth[::-1], smooth * 2], -1)
    Picture.fromarray(three).convert("CMYK").save(tmp_path / "b.jpg", quality=98)
    raw, _ = found(tmp_path / "b.jpg")
    assert np.abs(raw.pixels.transpose(1, 2, 0).astype(int) - three).mean() < 4


TURNS = {  # EXIF orientation: how the stored array becomes upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a.T[::-1, ::-1],
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_honoured_unless_the_cohort_says_stored(tmp_path, orientation):
    exif = Picture.Exif()
    exif[0x0112] = orientation
    Picture.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(found(tmp_path / "a.png")[0].pixels[0], TURNS[orientation](GREY))
    np.testing.assert_array_equal(found(tmp_path / "a.png", orient="stored")[0].pixels[0], GREY)


# ------------------------------------------------------------------ what is dropped or refused


def test_an_opaque_alpha_channel_is_dropped_and_told_and_any_other_refused(tmp_path):
    alpha = np.full((*GREY.shape, 1), 255, np.uint8)
    Picture.fromarray(np.concatenate([COLOUR, alpha], -1)).save(tmp_path / "a.png")
    raw, codes = found(tmp_path / "a.png")
    np.testing.assert_array_equal(raw.pixels, COLOUR.transpose(2, 0, 1))
    assert codes == {("image.alpha", "warning")}
    Picture.fromarray(np.concatenate([GREY[..., None], alpha], -1)).save(tmp_path / "b.png")
    assert found(tmp_path / "b.png")[0].pixels.shape == (1, 23, 31)
    alpha[3, 4] = 254
    Picture.fromarray(np.concatenate([COLOUR, alpha], -1)).save(tmp_path / "a.png")
    palette = Picture.fromarray(FEW).quantize(256)
    palette.save(tmp_path / "c.png", transparency=palette.getpixel((0, 0)))
    Picture.fromarray(GREY).save(tmp_path / "d.png", transparency=int(GREY[0, 0]))
    for name in "acd":
        with pytest.raises(RecordError, match="transparent"):
            read_image(tmp_path / f"{name}.png")


def png(columns, rows, bits, colours, lines):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", columns, rows, bits, colours, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_colours_of_sixteen_bits_are_read_with_eight_and_told(tmp_path):
    deep = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "a.png").write_bytes(png(7, 5, 16, 2, lines))
    raw, codes = found(tmp_path / "a.png")
    np.testing.assert_array_equal(raw.pixels, (deep >> 8).transpose(2, 0, 1))
    assert ("image.depth", "warning") in codes


def test_several_images_in_a_file_are_refused(tmp_path):
    pages = [Picture.fromarray(GREY), Picture.fromarray(GREY[::-1].copy())]
    for suffix in ("tif", "gif"):
        pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
        with pytest.raises(RecordError, match="more than one image"):
            read_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "gif"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Picture.fromarray(GREY.repeat(4, 0)).save(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(RecordError, match="cut short"):
            read_image(path)


def test_missing_empty_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(RecordError, match="zero bytes"):
        read_image(tmp_path / "a.png")
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(RecordError, match="another format"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_damaged_bytes_are_read_or_refused_never_more(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Picture.fromarray(GREY).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        bad = whole.copy()
        bad[rng.integers(0, len(bad), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(bad.tobytes())
        with contextlib.suppress(RecordError):
            assert read_image(path).pixels.ndim == 3


def test_a_header_that_claims_all_memory_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60000, 60000, 8, 0, b"0"))
    with pytest.raises(RecordError, match=r"60000 x 60000 pixels(.|\n)*MEDMCL_RECORD_MB"):
        read_image(tmp_path / "a.png")


# ------------------------------------------------------------------ NIfTI


def nifti(path, voxels, affine, *, coded=True):
    image = nibabel.Nifti1Image(voxels, affine if coded else None)
    image.header.set_xyzt_units("mm")
    if not coded:
        image.header.set_zooms(np.abs(np.diag(affine))[:3])
    nibabel.save(image, path)
    return path


def test_however_a_volume_is_stored_it_comes_out_towards_superior_anterior_right(tmp_path):
    truth = RNG.random(
        (3, 4, 5), dtype=np.float32
    )  # x y z, grows towards right, anterior, superior
    mm = np.diag([1.0, 2.0, 3.0])
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            stored = truth.transpose(order)
            columns = mm[:, order] * signs
            stored = np.flip(stored, [axis for axis, sign in enumerate(signs) if sign < 0])
            affine = np.eye(4)
            affine[:3, :3] = columns
            stack = read_nifti(
                nifti(tmp_path / "a.nii", np.ascontiguousarray(stored), affine), "xyz", "body"
            )
            np.testing.assert_array_equal(stack.voxels[0], truth.transpose(2, 1, 0))
            assert (stack.spacing_mm, stack.orientation) == ((3.0, 2.0, 1.0), "SAR")


def test_an_oblique_volume_is_turned_as_nibabel_does(tmp_path):
    affine = np.diag([-1.2, 1.3, 1.1, 1.0])[[2, 0, 1, 3]]
    affine[:3, :3] += 0.15 * RNG.standard_normal((3, 3))
    image = nibabel.Nifti1Image(RNG.random((6, 5, 4)).astype(np.float32), affine)
    nibabel.save(image, tmp_path / "a.nii.gz")
    raw, codes = found(tmp_path / "a.nii.gz", "nifti")
    right = nibabel.as_closest_canonical(image)
    np.testing.assert_array_equal(raw.pixels[0], right.get_fdata(dtype=np.float32).T)
    assert raw.spacing_mm == pytest.approx(nibabel.affines.voxel_sizes(right.affine)[::-1])
    assert codes == {("image.small", "warning")}


def test_a_volume_that_does_not_say_how_it_lies_is_an_error_unless_left_as_stored(tmp_path):
    voxels = RNG.random((20, 21, 22)).astype(np.float32)
    path = nifti(tmp_path / "a.nii", voxels, np.diag([2.0, 2.0, 2.0, 1.0]), coded=False)
    raw, codes = found(path, "nifti")
    assert codes == {("image.no_affine", "error")}
    assert raw.orientation == "???"
    raw, codes = found(path, "nifti", orient="stored")
    np.testing.assert_array_equal(raw.pixels[0], voxels.T)
    assert (raw.spacing_mm, codes) == ((2.0, 2.0, 2.0), set())


def test_nan_in_a_volume_and_a_volume_in_time_are_refused(tmp_path):
    voxels = RNG.random((20, 20, 20)).astype(np.float32)
    voxels[3, 4, 5] = np.nan
    raw, codes = found(nifti(tmp_path / "a.nii", voxels, np.eye(4)), "nifti")
    assert codes == {("image.nan", "error")}
    with pytest.raises(RecordError, match="NaN"):
        adapter("nifti", size=8).prepare(raw)
    with pytest.raises(RecordError, match="other axes"):
        found(nifti(tmp_path / "b.nii", np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), "nifti")
    with pytest.raises(ValidationError, match="axes"):
        ImageSource(reader="nifti", axes="xyt")
    with pytest.raises(ValidationError, match="only the reader dicom"):
        ImageSource(reader="image", window=False)


def test_a_cohort_states_the_kind_where_the_reader_also_reads_another():
    def spec(**brain):
        return parse_spec(
            {
                "schema": "medmcl/cohort@1",
                "subjects": {"table": "a.csv", "id": "id", "split": "split"},
                "modalities": {"brain": {"path": "{id}", **brain}},
            },
            "here",
        )

    for reader in ("nifti", "dicom", "image"):
        parsed, faults = spec(kind="image", reader=reader)
        assert faults == []
        assert parsed.modalities["brain"].kind == "image"
    assert spec(reader="image")[0].modalities["brain"].kind == "image"
    assert spec(reader="nifti", axes="xyz")[0].modalities["brain"].kind == "cmr"
    assert "reads kind 'ecg'" in spec(kind="image", reader="wfdb")[1][0].what


# ------------------------------------------------------------------ DICOM


TWELVE = (DEEP >> 4).astype(np.uint16)


def test_a_radiograph_is_bright_where_the_body_is_whatever_it_was_stored_as(tmp_path):
    spacing = {"ImagerPixelSpacing": ["0.2", "0.3"]}
    raw, codes = found(write_dicom_image(tmp_path / "a.dcm", TWELVE, **spacing), "dicom")
    np.testing.assert_array_equal(raw.pixels[0], TWELVE)
    assert (raw.full_scale, raw.spacing_mm[1:], codes) == (4095, (0.2, 0.3), set())
    raw, _ = found(write_dicom_image(tmp_path / "b.dcm", TWELVE, "MONOCHROME1"), "dicom")
    np.testing.assert_array_equal(raw.pixels[0], 4095 - TWELVE)


def test_rescale_and_window_follow_the_standard(tmp_path):
    stored = (TWELVE.astype(np.int16) - 2048).astype(np.int16)
    tags = {
        "RescaleSlope": "2",
        "RescaleIntercept": "-100",
        "WindowCenter": "40",
        "WindowWidth": "400",
    }
    path = write_dicom_image(tmp_path / "a.dcm", stored, bits=12, **tags)
    plain, _ = found(path, "dicom", window=False)
    np.testing.assert_allclose(plain.pixels[0], 2.0 * stored - 100)
    assert np.isnan(plain.full_scale)
    raw, _ = found(path, "dicom")
    share = ((2.0 * stored - 100) - (40 - 0.5)) / (400 - 1) + 0.5  # PS3.3 C.11.2.1.2.1
    top, bottom = raw.pixels.max(), raw.pixels.min()
    np.testing.assert_allclose(
        (raw.pixels[0] - bottom) / (top - bottom), share.clip(0, 1), atol=1e-6
    )
    tags["PhotometricInterpretation"] = "MONOCHROME1"
    turned, _ = found(write_dicom_image(tmp_path / "b.dcm", stored, bits=12, **tags), "dicom")
    np.testing.assert_allclose(turned.pixels, top + bottom - raw.pixels, atol=1e-3)


def test_padding_is_dark_also_where_values_are_inverted(tmp_path):
    pixels = TWELVE.copy().clip(5, 4000)
    pixels[:4] = 0
    path = write_dicom_image(tmp_path / "a.dcm", pixels, "MONOCHROME1", PixelPaddingValue=0)
    raw, _ = found(path, "dicom")
    assert (raw.pixels[0, :4] == 95).all()
    np.testing.assert_array_equal(raw.pixels[0, 4:], 4095 - pixels[4:])


def test_colour_dicom_is_read_and_frames_missing_bytes_and_no_pixels_are_refused(tmp_path):
    raw, _ = found(write_dicom_image(tmp_path / "a.dcm", COLOUR, "RGB", bits=8), "dicom")
    np.testing.assert_array_equal(raw.pixels, COLOUR.transpose(2, 0, 1))
    with pytest.raises(RecordError, match="no ImagePositionPatient"):
        found(write_dicom_image(tmp_path / "b.dcm", TWELVE, NumberOfFrames=2), "dicom")
    short = write_dicom_image(tmp_path / "c.dcm", TWELVE, Rows=46)
    with pytest.raises(ValueError, match="pixel data"):
        found(short, "dicom")
    path = write_dicom_image(tmp_path / "d.dcm", TWELVE)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(RecordError, match="no image"):
        found(path, "dicom")
