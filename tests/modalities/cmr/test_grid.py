import os
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from golden_numbers import golden
from pydantic import ValidationError

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.cmr.adapter import CMR, CMRSettings, CMRSource
from medmcl.modalities.cmr.grid import on_grid
from medmcl.modalities.cmr.settings import Grid

SMALL = Grid(spacing_mm=(1, 1, 10), voxels=(8, 6, 4), lower_percentile=0, upper_percentile=100)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 1000, shape)


MEANS = {
    "patient012_frame01": 0.2125235680721289,
    "patient031_frame10": 0.18715758250970774,
    "patient035_frame01": 0.15883899173079324,
    "patient041_frame11": 0.10947146901816199,
    "patient081_frame07": 0.17734830930152945,
}
"""Of what SimpleITK 2.5.7 makes of images of ACDC by the authors' steps (081: middle slices)."""


def patient(name="patient001_frame01"):
    """An image of ACDC: intensities and labels along x, y, z, and the spacing."""
    folder = Path(os.environ.get("MEDMCL_DATA", "/nowhere")) / "acdc" / name[:10]
    if not folder.is_dir():
        pytest.skip("there is no acdc folder in MEDMCL_DATA")
    image, labels = (nibabel.load(folder / f"{name}{end}.nii.gz") for end in ("", "_gt"))
    spacing = tuple(map(float, image.header.get_zooms()))
    return np.asarray(image.dataobj), np.asarray(labels.dataobj), spacing


def test_a_patient_is_prepared_as_the_authors_prepare_it():
    numbers = {key: x.numpy() for key, x in golden("heart_models/cinema").items()}
    found = on_grid(*patient()[::2], Grid(), labels=patient()[1])
    assert found.shape == (192, 192, 16)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found[::8, ::8, ::2], numbers["acdc/prepared_sample"], rtol=0, atol=2e-6
    )
    spread = np.array([found.mean(), found.std(), found.min(), found.max()])
    np.testing.assert_allclose(spread, numbers["acdc/prepared_stats_mean_std_min_max"], atol=2e-6)
    levels = np.round(found[..., :10] * 254)
    np.testing.assert_array_equal(levels[::6, ::6, ::2], numbers["acdc/uint8_sample"])


@pytest.mark.parametrize("name", MEANS)
def test_levels_fall_as_those_of_simpleitk(name):
    """Where a grey value lies on the border of two levels, the order of the arithmetic decides."""
    volume, labels, spacing = patient(name)
    found = on_grid(volume, spacing, Grid(), labels)
    assert abs(found.mean(dtype=np.float64) - MEANS[name]) < 1e-6


def test_a_recipe_prepares_a_file_likewise_about_the_middle():
    volume, labels, spacing = patient()
    path = Path(os.environ["MEDMCL_DATA"]) / "acdc/patient001/patient001_frame01.nii.gz"
    cmr = CMR(
        CMRSource(reader="nifti", axes="xyz"), CMRSettings(mode="volume_3d", grid={"label": 3})
    )
    raw = cmr.read(RecordRef(subject="s", record="r", paths={"path": path}, values={}))
    assert cmr.prepared_shape == (1, 16, 192, 192)
    found = cmr.prepare(raw)
    np.testing.assert_array_equal(found[0].T, on_grid(volume, spacing, Grid()))
    paths = {"path": path, "labels": path.with_name("patient001_frame01_gt.nii.gz")}
    drawn = cmr.read(RecordRef(subject="s", record="r", paths=paths, values={}))
    about = cmr.prepare(drawn)
    np.testing.assert_array_equal(about[0].T, on_grid(volume, spacing, Grid(), labels))
    assert (about != found).any()


def test_labels_of_another_shape_are_refused_and_those_of_one_frame_stand_for_all(tmp_path):
    np.save(tmp_path / "cine.npy", noise(9, 9, 3, 2))
    for name, shape in (("short", (9, 9, 2, 1)), ("one", (9, 9, 3, 1))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape, np.uint8))
    cmr = CMR(
        CMRSource(reader="npy", axes="xyzt", spacing_mm=(1, 1, 10)),
        CMRSettings(mode="volume_3d", frames=["es"], grid=SMALL.model_dump()),
    )

    def read(name):
        paths = {"path": tmp_path / "cine.npy", "labels": tmp_path / f"{name}.npy"}
        return cmr.read(RecordRef(subject="s", record="r", paths=paths, values={}))

    with pytest.raises(RecordError, match="labels are of another shape"):
        read("short")
    raw = replace(read("one"), frames={"es": 1})
    assert raw.labels.shape == (1, 3, 9, 9)
    assert cmr.prepare(raw).shape == (1, 4, 6, 8)


def test_at_the_same_spacing_the_crop_is_about_the_label_and_stays_inside():
    volume = noise(20, 20, 3)
    for at, start in ((10, 6), (1, 0), (19, 12)):
        labels = np.zeros(volume.shape, int)
        labels[at, 9:12], labels[0, 0, 0] = 3, 1
        found = on_grid(volume, (1, 1, 10), SMALL, labels)
        piece = volume[start : start + 8, 7:13].astype(np.float32)
        assert found.shape == (8, 6, 4)
        assert not found[..., 3].any()
        expected = (piece - piece.min()) / np.ptp(piece)
        assert np.abs(found[..., :3] - expected).max() <= 1 / 254 + 1e-6
        assert found.min() == 0
        assert found.max() == 1
        np.testing.assert_array_equal(found, on_grid(volume, (1, 1, 10), SMALL, labels == 3))


def test_without_labels_the_middle_is_taken_and_what_is_small_is_padded_at_the_end():
    volume = noise(12, 4, 9)
    found = on_grid(volume, (1, 1, 10), SMALL)
    piece = volume[2:10, :, 2:6].astype(np.float32)
    assert np.abs(found[:, :4] - (piece - piece.min()) / np.ptp(piece)).max() <= 1 / 254 + 1e-6
    assert not found[:, 4:].any()


def test_whole_numbers_stay_whole_between_voxels_and_fractions_do_not():
    ramp = np.tile(np.arange(6.0)[:, None, None], (1, 6, 4))
    whole, fraction = (on_grid(x, (2, 1, 10), SMALL) for x in (ramp, ramp + 0.5))
    assert len(np.unique(whole)) < len(np.unique(fraction))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"volume": np.full((9, 9, 3), 5)}, "all intensities are alike"),
        ({"volume": np.where(noise(9, 9, 3) > 990, np.nan, 1.0)}, "NaN or infinite"),
        ({"volume": noise(9, 9)}, "is no volume"),
        ({"labels": np.zeros((9, 9, 2), int)}, "another shape"),
        ({"labels": np.zeros((9, 9, 3), int)}, "marks no left ventricle"),
        ({"labels": np.full((9, 9, 3), 2)}, "marks no left ventricle"),
        ({"spacing_mm": (1.0, float("nan"), 10.0)}, "needs the spacing"),
        ({"spacing_mm": (1.0, 0.0, 10.0)}, "needs the spacing"),
    ],
)
def test_what_cannot_be_prepared_is_refused(changed, words):
    given = {"volume": noise(9, 9, 3), "spacing_mm": (1.0, 1.0, 10.0), "grid": SMALL, **changed}
    with pytest.raises(RecordError, match=words):
        on_grid(**given)


def test_a_grid_is_for_volumes():
    with pytest.raises(ValidationError, match="volume_3d"):
        CMRSettings(grid={})


def test_a_mask_of_0_and_1_is_told_and_a_caller_says_which_label(caplog):
    settings = CMRSettings(mode="volume_3d", grid=SMALL, frames=("ed",))
    volume, labels = noise(20, 18, 4), np.zeros((20, 18, 4), np.uint8)
    labels[2:5, 2:5], labels[14:17, 12:15] = 1, 3

    def prepared(mask, **more):
        caplog.clear()
        return CMR.prepare_array(volume, settings, spacing_mm=(1, 1, 10), mask=mask, **more)

    left, right = prepared(labels), prepared(labels, label=1)
    assert not np.array_equal(left, right)
    np.testing.assert_array_equal(prepared(labels == 3), left)
    assert not caplog.records
    np.testing.assert_array_equal(prepared((labels == 1).astype(np.uint8)), right)
    assert "labels are 0 and 1" in caplog.text
    with pytest.raises(RecordError, match="no left ventricle"):
        prepared((labels == 1).astype(np.uint8), label=3)
    for spacing in (1.5, (1, 1), ("a", "b", "c")):
        with pytest.raises(RecordError, match="three numbers"):
            CMR.prepare_array(volume, settings, spacing_mm=spacing)
