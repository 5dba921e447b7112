import gzip
import math
import os
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from row_draws import row_generator as generator

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.data.loading.reading import of_modality
from medmcl.modalities import volumes
from medmcl.modalities.cmr.adapter import CMR, CMRAugment, CMRSettings, CMRSource
from medmcl.modalities.cmr.augment import disturb, resample
from medmcl.modalities.cmr.readers import CMRVolume
from medmcl.modalities.resampling import fit_length, respace
from medmcl.modalities.volumes import read_nifti, read_npy


def place(path=None, values=None, **paths):
    files = {"path": path} if path is not None else paths
    return RecordRef(subject="s1", record="r1", paths=files, values=values or {})


def save(path, voxels, affine=None, units="mm", zooms=None):
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(units, "sec")
    if zooms is not None:
        image.header.set_zooms(zooms)
    nibabel.save(image, path)
    return path


def adapter(axes="xyzt", reader="nifti", source=None, **chosen):
    return CMR(
        CMRSource(reader=reader, axes=axes, **(source or {})), CMRSettings(**{"size": 16, **chosen})
    )


def volume(voxels, spacing=(8.0, 1.5, 1.5), **frames):
    return CMRVolume(
        voxels=np.asarray(voxels, np.float32),
        spacing_mm=spacing,
        header_spacing_mm=spacing,
        frames=frames,
        where="memory",
    )


def codes(raw, cmr=None):
    cmr = cmr or adapter(frames=1)
    return {(f.code, f.level) for f in cmr.inspect(raw, place("x"))}


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("swap", [False, True])
def test_however_the_plane_is_stored_the_volume_is_the_same(tmp_path, flips, swap):
    truth = np.random.default_rng(0).random((5, 4, 3, 2), dtype=np.float32)  # x y z t, grows RAS
    columns = np.diag([1.5, 2.0, 8.0])
    stored = truth
    for axis, sign in enumerate(flips):
        if sign < 0:
            stored = np.flip(stored, axis)
            columns[:, axis] *= -1
    if swap:
        stored, columns = stored.swapaxes(0, 1), columns[:, [1, 0, 2]]
    affine = np.eye(4)
    affine[:3, :3] = columns
    raw = adapter().read(place(save(tmp_path / "a.nii", np.ascontiguousarray(stored), affine)))
    np.testing.assert_array_equal(raw.voxels, truth.transpose(3, 2, 1, 0))
    assert raw.spacing_mm == (8.0, 2.0, 1.5)
    assert raw.orientation == "SAR"


def test_for_axial_stacks_the_orientation_is_that_of_nibabel(tmp_path):
    rng = np.random.default_rng(1)
    affine = np.diag([-1.2, -1.3, 5.0, 1.0])
    affine[:3, :3] += 0.1 * rng.standard_normal((3, 3))
    image = nibabel.Nifti1Image(rng.random((5, 4, 3, 2)).astype(np.float32), affine)
    nibabel.save(image, tmp_path / "a.nii")
    canonical = nibabel.as_closest_canonical(image).get_fdata(dtype=np.float32)
    stack = read_nifti(tmp_path / "a.nii", "xyzt")
    np.testing.assert_array_equal(stack.voxels, canonical.transpose(3, 2, 1, 0))


def test_the_slice_axis_stays_the_slice_axis_in_an_oblique_stack(tmp_path):
    # the slice axis points to the left (world x): nibabel's canonical order would move it
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]]) * [1.5, 1.5, 8.0]
    path = save(tmp_path / "a.nii", np.zeros((6, 5, 3), np.float32), affine)
    stack = read_nifti(path, "xyz")
    assert stack.voxels.shape == (1, 3, 5, 6)
    assert stack.spacing_mm == (8.0, 1.5, 1.5)
    assert stack.orientation == "RSA"


def test_a_plane_near_the_diagonal_is_warned_of_and_can_be_left_as_stored(tmp_path):
    turn = math.radians(44)
    affine = np.eye(4)
    affine[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    affine[:3, 0] *= -1
    voxels = np.random.default_rng(0).random((4, 4, 9)).astype(np.float32)
    path = save(tmp_path / "a.nii", voxels, affine)
    raw = adapter("xyz", mode="volume_3d").read(place(path))
    assert ("cmr.oblique", "warning") in codes(raw, adapter("xyz", mode="volume_3d"))
    stored = adapter("xyz", source={"orient": "stored"}).read(place(path))
    np.testing.assert_array_equal(stored.voxels[0], voxels.transpose(2, 1, 0))


def test_a_turned_volume_is_told_where_authors_embed_as_stored(tmp_path):
    """CineMA: a turned heart has another embedding."""
    voxels = np.random.default_rng(0).random((30, 30, 8)).astype(np.float32)
    path = save(tmp_path / "a.nii", voxels, np.diag([-1.5, -1.5, 8.0, 1.0]))
    plain = save(tmp_path / "b.nii", voxels, np.diag([1.5, 1.5, 8.0, 1.0]))
    turned, grid = ("cmr.turned", "warning"), {"mode": "volume_3d", "grid": {}, "frames": ["ed"]}
    asks = adapter("xyz", **grid)
    raw = asks.read(place(path))
    assert turned in codes(raw, asks)
    (said,) = [one for one in asks.inspect(raw, place(path)) if one.code == "cmr.turned"]
    assert "from SPL to SAR" in said.what
    assert "orient: stored" in said.fix
    assert turned not in codes(asks.read(place(plain)), asks)
    assert turned not in codes(raw, adapter("xyz", mode="volume_3d"))  # of no such preparation
    stored = adapter("xyz", source={"orient": "stored"}, **grid)
    assert turned not in codes(stored.read(place(path)), stored)


def test_a_single_slice_cine_is_read_with_and_without_the_empty_slice_axis(tmp_path):
    voxels = np.random.default_rng(0).random((5, 4, 1, 6)).astype(np.float32)
    full = save(tmp_path / "a.nii", voxels, np.diag([1.5, 1.5, 8.0, 1.0]))
    flat = save(tmp_path / "b.nii", voxels[:, :, 0], np.diag([1.5, 1.5, 8.0, 1.0]))
    for path in (full, flat):
        raw = adapter("xyt").read(place(path))
        np.testing.assert_array_equal(raw.voxels, voxels.transpose(3, 2, 1, 0))
        assert raw.spacing_mm[1:] == (1.5, 1.5)
        assert math.isnan(raw.spacing_mm[0])


def test_units_of_the_header_are_turned_to_millimetres(tmp_path):
    voxels = np.zeros((4, 4, 9), np.float32)
    affine = np.diag([0.0015, 0.0015, 0.008, 1.0])
    stack = read_nifti(save(tmp_path / "a.nii", voxels, affine, units="meter"), "xyz")
    assert stack.spacing_mm == pytest.approx((8.0, 1.5, 1.5))


def test_scaled_integers_are_unscaled(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(4, 3, 2), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii.gz")
    voxels = read_nifti(tmp_path / "a.nii.gz", "xyz").voxels
    assert voxels.dtype == np.float32
    assert voxels[0, 1, 2, 3] == 10 + 0.5 * 23


def test_frames_in_files_of_their_own_are_stacked_in_the_order_of_the_paths(tmp_path):
    ed = save(tmp_path / "ed.nii.gz", np.full((4, 4, 9), 1, np.float32))
    es = save(tmp_path / "es.nii.gz", np.full((4, 4, 9), 2, np.float32))
    raw = adapter("xyz").read(place(es=es, ed=ed))
    assert raw.frames == {"es": 0, "ed": 1}
    assert raw.voxels[:, 0, 0, 0].tolist() == [2, 1]


def test_frames_of_unequal_shape_are_refused(tmp_path):
    ed = save(tmp_path / "ed.nii.gz", np.ones((4, 4, 9), np.float32))
    es = save(tmp_path / "es.nii.gz", np.ones((4, 4, 8), np.float32))
    with pytest.raises(RecordError, match="one shape"):
        adapter("xyz").read(place(ed=ed, es=es))


def test_columns_name_frames_counted_from_0_or_1(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 9, 10), np.float32))
    values = {"ED": 1, "ES": "4.0"}
    for first, expected in ((1, {"ed": 0, "es": 3}), (0, {"ed": 1, "es": 4})):
        source = {"frames": {"ed": "ED", "es": "ES"}, "first_frame": first}
        assert adapter(source=source).read(place(path, values)).frames == expected
    source = {"frames": {"es": "ES"}}
    assert adapter(source=source).read(place(path, {"ES": math.nan})).frames == {}
    for bad in (10, -1, 2.5, "end"):
        with pytest.raises(RecordError):
            adapter(source=source).read(place(path, {"ES": bad}))
    with pytest.raises(RecordError, match="no column 'ES'"):
        adapter(source=source).read(place(path, {}))


def test_rows_of_a_memory_mapped_array(tmp_path):
    array = np.random.default_rng(0).random((3, 2, 5, 4)).astype(np.float16)
    np.save(tmp_path / "a.npy", array)
    cmr = adapter("tyx", "npy", {"row": "row", "spacing_mm": (1.5, 1.5, 8.0)})
    raw = cmr.read(place(tmp_path / "a.npy", {"row": 2}))
    np.testing.assert_array_equal(raw.voxels, array[2][:, None].astype(np.float32))
    assert raw.spacing_mm == (8.0, 1.5, 1.5)
    for bad in (3, -1, None, 0.5):
        with pytest.raises(RecordError):
            cmr.read(place(tmp_path / "a.npy", {"row": bad}))


def test_npy_files_of_objects_or_cut_short_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "b.npy", np.zeros((4, 4)))
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-8])
    (tmp_path / "c.npy").write_bytes(b"")
    (tmp_path / "d.npy").write_bytes(pickle.dumps([1, 2]))
    np.save(tmp_path / "e.npy", np.array(["a"]))
    np.savez(tmp_path / "f.npz", a=np.zeros((4, 4)))
    for name in ("a.npy", "b.npy", "c.npy", "d.npy", "e.npy", "f.npz", "none.npy"):
        with pytest.raises(RecordError):
            read_npy(tmp_path / name, "yx")


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_files_are_read_by_their_first_bytes_and_not_by_their_name(tmp_path, kind):
    voxels = np.random.default_rng(0).random((5, 4, 3)).astype(np.float32)
    content = kind(voxels, np.diag([1.5, 1.5, 8.0, 1.0])).to_bytes()
    (tmp_path / "right.nii").write_bytes(content)
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(content))
    (tmp_path / "plain.nii.gz").write_bytes(content)
    right = read_nifti(tmp_path / "right.nii", "xyz")
    for name in ("zipped.nii", "plain.nii.gz"):
        found = read_nifti(tmp_path / name, "xyz")
        np.testing.assert_array_equal(found.voxels, right.voxels)
        assert found.spacing_mm == right.spacing_mm
    for name, damaged in (
        ("cut.nii", gzip.compress(content)[:-9]),
        ("cut.nii.gz", content[:-9]),
        ("head.nii.gz", content[:200]),
        ("short.nii", gzip.compress(content[:-9])),
        ("text.nii", gzip.compress(b"no image" * 100)),
    ):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(RecordError, match=r"damaged|shorter"):
            read_nifti(tmp_path / name, "xyz")


# ------------------------------------------------------------------ damaged files


def test_missing_empty_and_truncated_files_say_so(tmp_path):
    good = save(tmp_path / "a.nii.gz", np.random.default_rng(0).random((8, 8, 9)))
    plain = save(tmp_path / "b.nii", np.zeros((8, 8, 9)))
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    (tmp_path / "cut.nii.gz").write_bytes(good.read_bytes()[:-500])
    (tmp_path / "cut.nii").write_bytes(plain.read_bytes()[:-500])
    (tmp_path / "text.nii").write_text("not an image" * 100)
    with pytest.raises(RecordError, match="no such file"):
        read_nifti(tmp_path / "none.nii", "xyz")
    with pytest.raises(RecordError, match="zero bytes"):
        read_nifti(tmp_path / "empty.nii.gz", "xyz")
    for name in ("cut.nii.gz", "cut.nii", "text.nii"):
        with pytest.raises(RecordError, match=r"damaged|shorter"):
            read_nifti(tmp_path / name, "xyz")


def test_a_header_that_claims_a_huge_volume_does_not_take_the_memory(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    damaged = bytearray(path.read_bytes())
    damaged[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(damaged)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(damaged)))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(RecordError, match="shorter than its header"):
            read_nifti(tmp_path / name, "xyz")


def test_axes_that_do_not_fit_the_file_are_refused_with_both_named(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 9), np.float32))
    with pytest.raises(RecordError, match=r"(?s)3 axes.*4 axes \(xyzt\)"):
        adapter("xyzt").read(place(path))


def test_colour_and_complex_images_are_refused(tmp_path):
    colour = np.zeros((4, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, voxels in (("a.nii", colour), ("b.nii", np.zeros((4, 4, 2), np.complex64))):
        with pytest.raises(RecordError, match="plain intensities"):
            read_nifti(save(tmp_path / name, voxels), "xyz")


GOOD = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)).to_bytes()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A gzip file that nibabel wrote, and the voxels that lie in it."""
    voxels = np.random.default_rng(0).integers(0, 900, (12, 11, 10)).astype(np.int16)
    path = save(tmp_path_factory.mktemp("packed") / "a.nii.gz", voxels)
    return path.read_bytes(), read_nifti(path, "xyz").voxels


@settings(max_examples=120, deadline=None)
@given(data=st.data(), value=st.binary(min_size=1, max_size=4))
def test_bytes_changed_anywhere_in_a_gzip_file_are_never_read_as_other_voxels(
    tmp_path_factory, packed, data, value
):
    content, voxels = packed
    at = data.draw(st.integers(0, len(content) - len(value)))
    path = tmp_path_factory.getbasetemp() / "flipped.nii.gz"
    path.write_bytes(content[:at] + value + content[at + len(value) :])
    try:
        found = read_nifti(path, "xyz").voxels
    except RecordError:
        return
    assert np.array_equal(found, voxels)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_gzip_file_without_its_trailer_is_refused(tmp_path, packed, cut):
    (tmp_path / "a.nii.gz").write_bytes(packed[0][:-cut])
    with pytest.raises(RecordError, match="cannot be read"):
        read_nifti(tmp_path / "a.nii.gz", "xyz")


def test_a_gzip_file_that_bursts_is_refused_before_it_is_unpacked_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "SPARE_BYTES", 4096)
    path = save(tmp_path / "a.nii", np.ones((4, 4, 4), np.float32))
    content = path.read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(2000)))
    assert read_nifti(tmp_path / "a.nii.gz", "xyz").voxels.all()  # some padding is no fault
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(10**6)))
    with pytest.raises(RecordError, match="longer than its header says"):
        read_nifti(tmp_path / "a.nii.gz", "xyz")


def _read_bytes(folder, content, is_gzip):
    path = folder / ("a.nii.gz" if is_gzip else "a.nii")
    path.write_bytes(content)
    try:
        raw = adapter("xyz", mode="volume_3d").read(place(path))
        adapter("xyz", mode="volume_3d").inspect(raw, place(path))
    except RecordError:
        return


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=600), st.booleans())
def test_random_bytes_end_in_a_clear_error(tmp_path_factory, content, is_gzip):
    _read_bytes(tmp_path_factory.getbasetemp(), content, is_gzip)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(GOOD)),
    st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), max_size=6),
    st.booleans(),
    st.integers(0, 400),
)
def test_truncated_and_overwritten_files_end_in_a_clear_error(
    tmp_path_factory, length, changes, is_gzip, cut
):
    content = bytearray(GOOD)
    for position, value in changes:
        content[position] = value
    content = bytes(content) if changes else bytes(content[:length])
    if is_gzip:
        packed = gzip.compress(content)
        content = packed[: max(1, len(packed) - cut)]
    _read_bytes(tmp_path_factory.getbasetemp(), content, is_gzip)


# ------------------------------------------------------------------ inspection


def test_a_healthy_stack_has_no_findings():
    voxels = np.random.default_rng(0).random((6, 9, 24, 24))
    assert codes(volume(voxels, ed=0, es=2), adapter()) == set()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_found_and_never_prepared(value):
    voxels = np.random.default_rng(0).random((1, 9, 24, 24))
    voxels[0, 2, 3, 4] = value
    assert codes(volume(voxels)) == {("cmr.nan", "error")}
    with pytest.raises(RecordError, match="NaN"):
        adapter(mode="volume_3d").prepare(volume(voxels))


def test_constant_volumes_and_empty_slices_are_found():
    assert codes(volume(np.ones((1, 9, 24, 24)))) == {("cmr.constant", "error")}
    with pytest.raises(RecordError, match="alike"):
        adapter(mode="volume_3d").prepare(volume(np.ones((1, 9, 24, 24))))
    voxels = np.random.default_rng(0).random((1, 9, 24, 24))
    voxels[:, 8] = 0
    assert codes(volume(voxels)) == {("cmr.empty_slice", "warning")}


@pytest.mark.parametrize("spacing", [(0.0, 1.5, 1.5), (8.0, 40.0, 1.5), (8.0, -1.0, 1.5)])
def test_spacing_that_cannot_be_is_an_error(spacing):
    voxels = np.random.default_rng(0).random((1, 9, 24, 24))
    assert ("cmr.spacing", "error") in codes(volume(voxels, spacing))


def test_declared_spacing_overrides_the_header_and_says_when_they_differ(tmp_path):
    voxels = np.random.default_rng(0).random((24, 24, 9)).astype(np.float32)
    path = save(tmp_path / "a.nii", voxels)
    for declared, expected in (
        ((1.8, 1.8, 8.0), {("cmr.spacing", "warning")}),
        ((1.0, 1.0, 1.0), set()),
    ):
        cmr = adapter("xyz", source={"spacing_mm": declared}, mode="volume_3d")
        raw = cmr.read(place(path))
        assert raw.spacing_mm == declared[::-1]
        assert codes(raw, cmr) == expected


def test_exchanged_axes_and_short_stacks_are_warned_of():
    rng = np.random.default_rng(0)
    assert ("cmr.axes", "warning") in codes(volume(rng.random((9, 50, 24, 24))))
    assert ("cmr.axes", "warning") in codes(volume(rng.random((1, 9, 24, 24)), (1.5, 1.5, 8.0)))
    assert codes(volume(rng.random((1, 7, 24, 24)))) == {("cmr.few_slices", "warning")}


@pytest.mark.parametrize(("length", "depth", "mm"), [(28, 10, 10.0), (30, 9, 5.0), (40, 10, 10.0)])
@pytest.mark.parametrize("affine_mm", [1.0, None])
def test_time_declared_as_slices_is_found_at_the_lengths_of_acdc(
    tmp_path, length, depth, mm, affine_mm
):
    voxels = np.random.default_rng(0).random((32, 30, length, depth)).astype(np.float32)
    affine = np.diag([1.5, 1.5, affine_mm or mm, 1.0])
    path = save(tmp_path / "a.nii", voxels, affine, zooms=(1.5, 1.5, affine_mm or mm, mm))
    wrong, right = adapter("xyzt", frames=1), adapter("xytz", frames=1)
    assert ("cmr.axes", "warning") in codes(wrong.read(place(path)), wrong)
    assert "cmr.axes" not in {code for code, _ in codes(right.read(place(path)), right)}


def test_a_deep_stack_of_two_named_frames_is_no_exchange(tmp_path):
    deep = save(tmp_path / "a.nii", np.random.default_rng(0).random((24, 24, 60)))
    cmr = adapter("xyz", mode="volume_3d")
    assert codes(cmr.read(place(ed=deep, es=deep)), cmr) == set()


@pytest.mark.parametrize("plane", [(10, 64), (64, 10), (30, 216)])
def test_a_plane_with_the_slices_or_frames_in_it_is_warned_of(plane):
    voxels = np.random.default_rng(0).random((1, 9, *plane))
    assert codes(volume(voxels)) == {("cmr.axes", "warning")}


# ------------------------------------------------------------------ frames


def numbered(length, **frames):
    """Each frame t has a left half of t + 1 and a right half of 0."""
    voxels = np.zeros((length, 9, 4, 4))
    voxels[..., :2] = np.arange(1, length + 1).reshape(-1, 1, 1, 1)
    return volume(voxels, **frames)


def chosen_numbers(raw, **chosen):
    cmr = adapter(size=4, upper_percentile=100, **chosen)
    prepared = cmr.prepare(raw)
    assert prepared.shape == cmr.prepared_shape == cmr.input_shape.shape
    assert prepared.dtype == np.float32
    flat = prepared.reshape(len(prepared), -1).max(axis=1) * raw.voxels.max()
    return [round(float(value)) - 1 for value in flat]


def test_the_papers_frames_come_in_the_order_es_mid_ed():
    assert chosen_numbers(numbered(20, ed=0, es=9)) == [9, 4, 0]
    assert chosen_numbers(numbered(20, ed=15, es=3)) == [3, 19, 15]  # round the cycle
    assert chosen_numbers(numbered(2, ed=1, es=0), frames=["es", "ed"]) == [0, 1]
    assert adapter().input_shape.names == ("es", "mid", "ed")


def test_without_a_named_es_a_third_of_the_cycle_is_taken_and_said():
    raw = numbered(30)
    assert chosen_numbers(raw) == [10, 5, 0]
    assert ("cmr.es_guessed", "warning") in codes(raw, adapter())


def test_evenly_spaced_frames_start_at_ed_and_go_round_the_cycle():
    assert chosen_numbers(numbered(12), mode="cine_2dt", frames=4) == [0, 3, 6, 9]
    assert chosen_numbers(numbered(12, ed=7), mode="cine_3dt", frames=4, slices=9) == [7, 10, 1, 4]


def test_frames_that_do_not_exist_are_an_error_in_check_and_in_preparation():
    for raw, chosen in (
        (numbered(2, ed=0, es=1), {"frames": ["es", "mid", "ed"]}),  # none between the two
        (numbered(1), {}),
        (numbered(1), {"mode": "cine_2dt", "frames": 4}),
        (numbered(9), {"frames": ["ed", "atrial"]}),
    ):
        assert ("cmr.frames", "error") in codes(raw, adapter(**chosen))
        with pytest.raises(RecordError):
            adapter(**chosen).prepare(raw)


PAIR, CINE = numbered(2, ed=1, es=0), numbered(20, ed=0, es=9)


@pytest.mark.parametrize(
    ("records", "names", "is_mixed"),
    [
        ([PAIR] * 3, ("es", "ed"), False),
        ([CINE] * 3, ("es", "mid", "ed"), False),
        ([CINE, PAIR, PAIR], ("es", "ed"), True),
        ([PAIR, CINE, CINE], ("es", "mid", "ed"), True),
        ([], ("es", "mid", "ed"), False),
    ],
)
def test_records_of_ed_and_es_alone_need_no_frame_between_them(records, names, is_mixed):
    cmr = adapter(size=4, upper_percentile=100)
    for raw in (PAIR, CINE):
        assert ("cmr.frames", "error") not in codes(raw, cmr)
    cmr.fit(iter(records))
    assert cmr.input_shape.names == names
    assert cmr.prepared_shape == (len(names), 4, 4)
    assert cmr.inspects_fitted == is_mixed
    assert ("cmr.frames", "error") not in codes(CINE, cmr)
    assert (("cmr.frames", "error") in codes(PAIR, cmr)) == ("mid" in names)
    again = adapter(size=4, upper_percentile=100)
    again.load_state(cmr.state())
    assert again.input_shape.names == names
    flat = again.prepare(CINE).reshape(len(names), -1).max(axis=1) * CINE.voxels.max()
    assert (flat.round() - 1).tolist() == [{"es": 9, "mid": 4, "ed": 0}[name] for name in names]


def test_runs_from_before_frames_were_found_have_all_three():
    cmr = adapter()
    cmr.load_state({})
    assert cmr.input_shape.names == ("es", "mid", "ed")


def test_nothing_is_read_to_find_frames_that_the_recipe_names():
    def unreadable():
        raise AssertionError
        yield

    for chosen in ({"frames": ["es", "mid", "ed"]}, {"mode": "cine_2dt"}, {"mode": "volume_3d"}):
        cmr = adapter(**chosen)
        before = cmr.input_shape
        cmr.fit(unreadable())
        assert (cmr.input_shape, cmr.state()) == (before, {})


def test_the_hint_of_a_missing_frame_is_what_to_type():
    (found,) = [
        one
        for one in adapter(frames=["es", "mid", "ed"]).inspect(PAIR, place("x"))
        if one.code == "cmr.frames"
    ]
    (told,) = of_modality([found], "heart_mr")
    assert told.fix.endswith("--set 'inputs.heart_mr.frames=[es, ed]'")


# ------------------------------------------------------------------ geometry and intensity


def sphere(spacing, radius_mm=30.0, extent_mm=120.0):
    """A ball of 1 in 0, as (1, Z, Y, X) with this spacing along z, y, x."""
    axes = [np.arange(round(extent_mm / mm)) * mm for mm in spacing]
    axes = [axis - axis.mean() for axis in axes]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.float32)[None]


def test_a_ball_stays_a_ball_of_its_size_when_spacing_is_made_equal():
    spacing = (8.0, 1.5, 3.0)
    x = torch.from_numpy(sphere(spacing))
    y = respace(x, spacing, (2.0, 2.0, 2.0), "ball")
    assert y.shape == (1, 60, 60, 60)
    inside = (y[0] > 0.5).nonzero()
    for axis in range(3):
        diameter_mm = 2.0 * float(inside[:, axis].max() - inside[:, axis].min() + 1)
        assert diameter_mm == pytest.approx(60, abs=8 if axis == 0 else 4)
    assert float(y.sum()) * 2.0**3 == pytest.approx(float(x.sum()) * math.prod(spacing), rel=0.02)


def test_two_spacings_of_one_body_are_prepared_alike():
    rows = []
    for spacing in ((8.0, 1.5, 1.5), (8.0, 2.5, 1.0)):
        cmr = adapter(mode="volume_3d", spacing_mm=2.0, crop="center", size=48, slices=12)
        rows.append(cmr.prepare(volume(sphere(spacing), spacing)))
    assert np.abs(rows[0] - rows[1]).mean() < 0.02
    assert rows[0].mean() == pytest.approx(rows[1].mean(), rel=0.02)


def test_resampling_without_known_spacing_is_refused():
    raw = volume(np.random.default_rng(0).random((1, 9, 8, 8)), (math.nan,) * 3)
    adapter(mode="volume_3d").prepare(raw)
    with pytest.raises(RecordError, match="needs the spacing"):
        adapter(mode="volume_3d", spacing_mm=2.0).prepare(raw)


def test_without_cropping_nothing_is_cut_off_and_nothing_is_distorted():
    voxels = np.zeros((1, 1, 8, 16))
    voxels[0, 0, 0, :] = 1.0
    prepared = adapter(mode="volume_3d", slices=1, size=16, upper_percentile=100)
    image = prepared.prepare(volume(voxels))[0, 0]
    assert image[4].tolist() == [1.0] * 16
    assert image.sum() == 16


def test_the_papers_window_is_at_44_68_and_78_pixels_wide():
    voxels = np.zeros((1, 1, 208, 208), np.float32)
    voxels[0, 0, 43:121, 67:145] = 1.0  # one less, since 208 is padded by one to 210
    crop = {"top": 0.21, "left": 0.325, "size": 0.375, "canvas": 210}
    cmr = adapter(mode="volume_3d", slices=1, size=78, crop=crop, upper_percentile=100)
    assert cmr.prepare(volume(voxels)).min() == 1.0
    with pytest.raises(ValidationError):
        CMRSettings(crop={"top": 0.7})


def test_the_middle_slice_is_number_half_the_depth():
    for depth in (8, 9):
        voxels = np.zeros((1, depth, 4, 4))
        voxels[:, depth // 2, :2] = 1.0
        cmr = adapter(frames=["ed"], size=4, upper_percentile=100)
        assert cmr.prepare(volume(voxels)).max() == 1.0


def test_monai_crops_pads_and_resamples_the_same_way():
    from monai import transforms

    x = generator().uniform(1, 5, 9, 12)
    for length in (4, 8, 20):  # an odd length of an even one: MONAI's pad and cut disagree by one
        theirs = transforms.ResizeWithPadOrCrop((5, length, length))(x)
        ours = fit_length(fit_length(x, 2, length), 3, length)
        assert torch.equal(torch.as_tensor(theirs).as_subclass(torch.Tensor), ours)
    smooth = torch.from_numpy(sphere((8.0, 2.0, 2.0)))
    theirs = transforms.Resize((15, 90, 90), mode="trilinear")(smooth)
    ours = respace(smooth, (8.0, 2.0, 2.0), (None, 4 / 3, 4 / 3), "x")
    np.testing.assert_allclose(np.asarray(theirs), ours.numpy(), atol=1e-5)


@pytest.mark.parametrize("percentiles", [(0.0, 99.0), (2.5, 100.0), (0.0, 50.1)])
def test_monai_scales_intensities_the_same_way(percentiles):
    from monai import transforms

    raw = volume(np.random.default_rng(0).gamma(2.0, 100.0, (1, 9, 24, 24)))
    low, high = percentiles
    theirs = transforms.ScaleIntensityRangePercentiles(low, high, 0, 1, clip=True)(raw.voxels)
    cmr = adapter(
        mode="volume_3d",
        slices=9,
        size=24,
        crop="center",
        lower_percentile=low,
        upper_percentile=high,
    )
    np.testing.assert_allclose(cmr.prepare(raw)[0], np.asarray(theirs)[0], atol=1e-6)


# ------------------------------------------------------------------ augmentation

STILL = {
    "probability": 1.0,
    "flip": 0.0,
    "rotation_deg": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
}


def rows(*shape, seed=0):
    return generator(seed).uniform(*shape)


@pytest.mark.parametrize("shape", [(4, 3, 12, 10), (4, 2, 3, 12, 10)])
def test_augmentation_keeps_shape_and_range_and_repeats_with_its_seed(shape):
    x = rows(*shape)
    one, same, other = (disturb(x, CMRAugment(), generator(seed)) for seed in (1, 1, 2))
    assert one.shape == x.shape
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


def test_nothing_changes_when_nothing_is_asked_for():
    x = rows(4, 3, 12, 10)
    assert torch.equal(disturb(x, CMRAugment(**STILL), generator()), x)
    assert torch.equal(disturb(x, CMRAugment(probability=0.0), generator()), x)


def test_rows_left_alone_come_out_bit_for_bit():
    x = rows(200, 1, 6, 6)
    y = disturb(x, CMRAugment(probability=0.5), generator())
    unchanged = (x == y).flatten(1).all(dim=1)
    assert 70 < int(unchanged.sum()) < 130


def test_a_flip_is_an_exact_mirror_of_the_columns():
    x = rows(4, 3, 12, 10)
    assert torch.equal(disturb(x, CMRAugment(**{**STILL, "flip": 1.0}), generator()), x.flip(-1))


def test_turning_by_nothing_is_the_identity_and_by_a_quarter_is_exact():
    x = rows(3, 2, 9, 9)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cpu").repeat(3, 1)
    turns = torch.tensor([0.0, math.pi / 2, math.pi], device="cpu")
    y = resample(x, turns, whole)
    torch.testing.assert_close(y[0], x[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(y[1], x[1].rot90(-1, (1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(y[2], x[2].flip(1, 2), atol=1e-5, rtol=0)


def test_turning_an_oblong_picture_does_not_stretch_it():
    x = torch.zeros(1, 1, 40, 80, device="cpu")
    x[..., 15:25, 30:50] = 1.0  # 10 high, 20 wide
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cpu")
    y = resample(x, torch.tensor([math.pi / 2], device="cpu"), whole)
    inside = (y[0, 0] > 0.5).nonzero()
    extent = (inside.max(0).values - inside.min(0).values + 1).tolist()
    assert extent == [20, 10]


def test_a_window_is_cut_where_it_lies():
    x = rows(1, 1, 8, 8)
    right_top = torch.tensor([[0.5, -0.5, 0.5, 0.5]], device="cpu")
    y = resample(x, torch.zeros(1, device="cpu"), right_top)
    corner = torch.nn.functional.interpolate(x[..., :4, 4:], (8, 8), mode="bilinear")
    torch.testing.assert_close(y[..., 1:-1, 1:-1], corner[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_all_frames_and_slices_of_a_row_move_together():
    x = rows(3, 1, 1, 12, 12).repeat(1, 4, 3, 1, 1)
    y = disturb(x, CMRAugment(probability=1.0), generator())
    assert torch.equal(y, y[:, :1, :1].expand_as(y))
    assert not torch.equal(y[0], y[1])


def test_brightness_and_contrast_stay_within_their_factors():
    x = torch.full((300, 1, 2, 2), 0.4, device="cpu")
    x[..., 0, :] = 0.2
    bright = disturb(x, CMRAugment(**{**STILL, "brightness": 0.5}), generator()) / x
    assert float(bright.min()) >= 0.5 - 1e-5
    assert float(bright.max()) <= 1.5 + 1e-5
    y = disturb(x, CMRAugment(**{**STILL, "contrast": 0.5}), generator())
    factor = (y[..., 1, 0] - y[..., 0, 0]) / 0.2
    assert 0.5 <= float(factor.min()) < 0.6
    assert 1.4 < float(factor.max()) <= 1.5 + 1e-5
    torch.testing.assert_close(y.mean((1, 2, 3)), x.mean((1, 2, 3)))


def test_crops_keep_their_share_of_the_area():
    from medmcl.modalities.cmr.augment import _windows

    window = _windows(CMRAugment(scale=(0.6, 0.8)), rows(500, 4), 20, 20)
    area = window[:, 2] * window[:, 3]
    assert float(area.min()) > 0.55
    assert float(area.max()) <= 0.8 + 1e-5
    assert float((window[:, :2].abs() + window[:, 2:]).max()) <= 1 + 1e-5


def test_noise_and_gibbs_artefacts_are_drawn_from_the_generator():
    x = rows(3, 2, 12, 12)
    for options in ({"noise": 0.1}, {"gibbs": 0.8}):
        y, same = (disturb(x, CMRAugment(**{**STILL, **options}), generator(3)) for _ in "12")
        assert torch.equal(y, same)
        assert type(y) is torch.Tensor
        assert 0 < float((y - x).abs().mean()) < 0.5


def test_the_adapter_augments_what_it_prepares():
    cmr = adapter(size=12)
    x = torch.from_numpy(np.stack([cmr.prepare(numbered(20, ed=0, es=9))] * 2))
    assert torch.equal(cmr.plain(x), x)
    assert cmr.augment(x, CMRAugment(), generator()).shape == x.shape
    assert cmr.state() == {}
    cmr.load_state({})
    cmr.fit([])


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "fields",
    [
        {"axes": "xyc"},
        {"axes": "zt"},
        {"axes": "xyx"},
        {"axes": "xyz", "row": "r"},
        {"axes": "xyz", "spacing_mm": (1.0, 1.0, 0.0)},
        {"axes": "xyz", "first_frame": 2},
        {"axes": "xyz", "colour": "red"},
    ],
)
def test_impossible_sources_are_refused(fields):
    with pytest.raises(ValidationError):
        CMRSource(reader="nifti", **fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (CMRSettings, {"mode": "volume_3d", "frames": 3}),
        (CMRSettings, {"mode": "volume_3d", "frames": ["ed", "es"]}),
        (CMRSettings, {"frames": []}),
        (CMRSettings, {"size": 0}),
        (CMRSettings, {"upper_percentile": 101}),
        (CMRAugment, {"scale": (0.9, 0.6)}),
        (CMRAugment, {"scale": (0.9, 1.6)}),
    ],
)
def test_impossible_settings_are_refused(kind, fields):
    with pytest.raises(ValidationError):
        kind(**fields)


# ------------------------------------------------------------------ real data


@pytest.mark.skipif("MEDMCL_DATA" not in os.environ, reason="MEDMCL_DATA names no data folder")
def test_acdc_pairs_are_read_inspected_and_prepared():
    folder = Path(os.environ["MEDMCL_DATA"]) / "acdc"
    if not folder.is_dir():
        pytest.skip("there is no acdc folder in MEDMCL_DATA")
    cmr = adapter("xyz", frames=["es", "ed"], spacing_mm=2.0, crop="center", size=96)
    for patient, ed, es in (("patient001", 1, 12), ("patient002", 1, 12)):
        files = {
            name: folder / patient / f"{patient}_frame{number:02d}.nii.gz"
            for name, number in (("ed", ed), ("es", es))
        }
        raw = cmr.read(place(**files))
        assert not [f for f in cmr.inspect(raw, place(**files)) if f.level == "error"]
        prepared = cmr.prepare(raw)
        assert prepared.shape == (2, 96, 96)
