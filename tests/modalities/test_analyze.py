"""Analyze 7.5 pairs, as OASIS is delivered, and NIfTI pairs, equal the same volume in one file."""

import gzip

import nibabel
import numpy as np
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.data.loading.reading import read_record, record_files
from medmcl.modalities.cmr.adapter import CMR, CMRSettings, CMRSource
from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource
from medmcl.modalities.volumes import read_nifti

SHAPE = (11, 13, 9)
KINDS = {
    "analyze": nibabel.AnalyzeImage, "spm": nibabel.Spm2AnalyzeImage, "nifti": nibabel.Nifti1Pair
}  # fmt: skip


def drawn(shape=SHAPE):
    return np.random.default_rng(0).integers(0, 3000, shape).astype(np.int16)


def written(path, voxels=None, kind="analyze", endian="<"):
    """Write a pair with spacing 1, 1.25 and 2 mm."""
    voxels = drawn() if voxels is None else voxels
    maker = KINDS[kind]
    header = maker.header_class(endianness=endian)
    header.set_data_dtype(np.int16)
    image = maker(voxels, np.diag([1, 1.25, 2, 1.0]), header)
    nibabel.save(image, path)
    return path


def place(path):
    return RecordRef(subject="s1", record="r1", paths={"path": path})


@pytest.mark.parametrize("ending", [".hdr", ".img"])
@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_read_by_either_name(tmp_path, kind, endian, ending):
    written(tmp_path / "a.img", kind=kind, endian=endian)
    stack = read_nifti((tmp_path / "a.img").with_suffix(ending), "xyz", "none")
    np.testing.assert_array_equal(stack.voxels[0], drawn().T)
    assert stack.spacing_mm == (2, 1.25, 1)
    assert stack.placed == (kind == "nifti")


def test_as_oasis_is_delivered(tmp_path):
    """Big-endian, with a fourth axis of length 1, and no word of how it lies."""
    written(tmp_path / "a.img", drawn((*SHAPE, 1)), endian=">")
    for orient, said in (("stored", set()), ("canonical", {"image.no_affine"})):
        source = ImageSource(reader="nifti", orient=orient)
        adapter = Image(source, ImageSettings(size=(8, 8, 8)))
        raw, findings = read_record(adapter, place(tmp_path / "a.hdr"))
        assert {one.code for one in findings} - {"image.small"} == said
        np.testing.assert_array_equal(raw.pixels[0], drawn().T)
    assert record_files(adapter, place(tmp_path / "a.img")) == [
        tmp_path / "a.hdr", tmp_path / "a.img"
    ]  # fmt: skip


def test_a_cine_and_gzipped_pairs(tmp_path):
    voxels = drawn((*SHAPE, 4))
    written(tmp_path / "a.img", voxels)
    for name in ("a.hdr", "a.img"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    for name in ("a.img", "a.img.gz", "a.hdr.gz"):
        cmr = CMR(CMRSource(reader="nifti", axes="xyzt", orient="stored"), CMRSettings(frames=1))
        np.testing.assert_array_equal(cmr.read(place(tmp_path / name)).voxels, voxels.T)
    whole = (tmp_path / "a.img.gz").read_bytes()
    (tmp_path / "a.img.gz").write_bytes(whole[:-6] + bytes(6))
    with pytest.raises(RecordError, match="cannot be read"):
        read_nifti(tmp_path / "a.img.gz", "xyzt")


def test_capitals_and_what_is_missing(tmp_path):
    written(tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        (tmp_path / name).rename(tmp_path / name.upper())
    assert read_nifti(tmp_path / "A.IMG", "xyz").voxels.shape == (1, *SHAPE[::-1])
    (tmp_path / "A.HDR").unlink()
    adapter = Image(ImageSource(reader="nifti"), ImageSettings())
    raw, findings = read_record(adapter, place(tmp_path / "A.IMG"))
    assert raw is None
    assert findings[0].code == "image.missing_file"
    assert "A.HDR" in findings[0].where
    assert findings[0].fix == "put it beside A.IMG, which needs it"


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("a.img", lambda b: b[:-100], "shorter than its header says"),
        ("a.img", lambda b: b"", "the file is empty"),
        ("a.hdr", lambda b: b"", "the file is empty"),
        ("a.hdr", lambda b: b[:200], "cannot be read"),
        ("a.hdr", lambda b: bytes(348), "cannot be read"),
        ("a.hdr", lambda b: b[:42] + b"\xff\x7f" * 3 + b[48:], "shorter than its header says"),
    ],
)
def test_damage_is_told(tmp_path, name, change, said):
    written(tmp_path / "a.img")
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(RecordError, match=said):
        read_nifti(tmp_path / "a.img", "xyz")
