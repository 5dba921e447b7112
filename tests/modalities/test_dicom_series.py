"""Series of DICOM images equal the same volumes from NIfTI, and what is wrong is told by name."""

import gzip
import os
import re
import resource
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from series_dicom import square, write_enhanced, write_series, zipped

import medmcl
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.data.loading.cache import entry_key
from medmcl.data.loading.reading import read_record, record_files
from medmcl.modalities.cmr.adapter import CMR, CMRSettings, CMRSource
from medmcl.modalities.image.adapter import Image, ImageSettings, ImageSource

SHAPE = (4, 5, 30, 26)
"""(T, Z, Y, X)."""


def drawn(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.uint16)


def place(path):
    return RecordRef(subject="s1", record="r1", paths={"path": path})


def read(path, **source):
    return CMR(CMRSource(**{"reader": "dicom", **source}), CMRSettings(frames=1)).read(place(path))


def refused(path, **source):
    with pytest.raises(RecordError) as error:
        read(path, **source)
    said = error.value
    assert None not in (said.what, said.where, said.got, said.fix)
    return str(said)


def as_nifti(path, voxels, affine, axes="xyzt"):
    """Write (T, Z, Y, X) as NIfTI, axes as the letters say."""
    order = ["tzyx".index(letter) for letter in axes]
    kept = voxels.transpose(*order, *({0, 1, 2, 3} - {*order})).reshape(
        [voxels.shape[number] for number in order]
    )
    nibabel.save(nibabel.Nifti1Image(kept, affine), path)
    return path


def assert_stored(path, voxels, **source):
    """Frames lie as in the files."""
    np.testing.assert_array_equal(read(path, orient="stored", **source).voxels, voxels)


def same(one, other):
    assert one.voxels.dtype == np.float32
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_allclose(one.spacing_mm, other.spacing_mm, rtol=1e-5)
    assert one.orientation == other.orientation
    assert one.diagonal == other.diagonal


AFFINES = {
    "short axis": square(),
    "axial": np.diag([-1.5, -1.25, 3.0, 1.0]),
    "as radiologists look": np.diag([-1.5, 1.25, -3.0, 1.0]),
    "sagittal": np.array([[0, 0, 1.2, 5], [1, 0, 0, 6], [0, -1, 0, 7], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_cine_of_a_folder_of_a_zip_and_enhanced_equals_that_of_nifti(tmp_path, affine):
    voxels = drawn()
    folder = tmp_path / "cine"
    write_series(folder, voxels, affine)
    files = {
        "folder": folder,
        "zip": zipped(folder, tmp_path / "1234567_20209_2_0.zip"),
        "enhanced": write_enhanced(tmp_path / "a.dcm", voxels, affine),
    }
    nifti = as_nifti(tmp_path / "a.nii.gz", voxels, affine)
    expected = read(nifti, reader="nifti", axes="xyzt")
    assert expected.voxels.shape[:2] == SHAPE[:2]
    for path in files.values():
        same(read(path), expected)
    prepared = [
        CMR(CMRSource(**source), settings).prepare(read(path, **source))
        for settings in [CMRSettings(mode="cine_3dt", frames=4, slices=5, size=16, spacing_mm=2)]
        for path, source in (
            (folder, {"reader": "dicom"}),
            (nifti, {"reader": "nifti", "axes": "xyzt"}),
        )
    ]
    np.testing.assert_allclose(*prepared, atol=1e-6)


def test_slope_and_intercept_are_applied_image_by_image(tmp_path):
    voxels = drawn((2, 3, 8, 8))
    write_series(tmp_path / "d", voxels, RescaleSlope=lambda t, z: 1 + t, RescaleIntercept=-5)
    expected = voxels * np.array([1.0, 2.0])[:, None, None, None] - 5
    same(read(tmp_path / "d", orient="stored"), read(
        as_nifti(tmp_path / "a.nii", expected.astype(np.float32), square()),
        reader="nifti", axes="xyzt", orient="stored"))  # fmt: skip
    enhanced = write_enhanced(tmp_path / "e.dcm", voxels, slope=0.5, intercept=3)
    assert read(enhanced).voxels.max() == voxels.max() * 0.5 + 3


def test_a_long_axis_cine_and_a_stack_of_single_frames(tmp_path):
    view, stack = drawn((6, 1, 20, 20)), drawn((1, 4, 20, 20))
    write_series(tmp_path / "view", view)
    write_series(tmp_path / "stack", stack, TriggerTime=None, InstanceNumber=None)
    for name, voxels, axes in (("view", view, "xyzt"), ("stack", stack, "xyz")):
        nifti = as_nifti(tmp_path / f"{name}.nii", voxels, square(), axes)
        same(read(tmp_path / name), read(nifti, reader="nifti", axes=axes))
    assert read(tmp_path / "view").spacing_mm == (8.0, 1.8, 1.8)  # of the thickness


def test_late_enhancement_and_a_t1_map_of_one_folder(tmp_path):
    """A stack without times, and one slice whose times in ms are stored in tenths."""
    enhanced, t1 = drawn((1, 9, 20, 20)), drawn((1, 1, 20, 20), 1)
    single = {"TriggerTime": None, "ImageType": ["DERIVED", "PRIMARY", "M"]}
    write_series(tmp_path / "d", enhanced, SeriesNumber=21, SeriesDescription="LGE_PSIR_SAX",
                 **single)  # fmt: skip
    write_series(tmp_path / "d", t1, first=500, slope=0.1, SeriesNumber=30,
                 SeriesDescription="MOLLI_T1_MAP_SAX", **single)  # fmt: skip
    stack = as_nifti(tmp_path / "lge.nii", enhanced, square(), "xyz")
    same(read(tmp_path / "d", series="*LGE*"), read(stack, reader="nifti", axes="xyz"))
    times = read(tmp_path / "d", series="*T1_MAP*", orient="stored").voxels
    np.testing.assert_allclose(times, 0.1 * t1, rtol=1e-6)
    volume = CMR(CMRSource(reader="dicom", series="*LGE*"),
                 CMRSettings(mode="volume_3d", slices=9, size=(20, 20)))  # fmt: skip
    assert volume.prepare(volume.read(place(tmp_path / "d"))).shape == (1, 9, 20, 20)


def test_folders_within_one_another_and_what_lies_beside_images(tmp_path):
    voxels = drawn()
    paths = write_series(tmp_path / "d", voxels)
    (tmp_path / "d" / "PA1" / "SE1").mkdir(parents=True)
    for path in paths[::2]:
        path.rename(tmp_path / "d" / "PA1" / "SE1" / path.name)
    for name in ("manifest.txt", ".DS_Store", "report.pdf"):
        (tmp_path / "d" / name).write_text("of no use")
    report = Dataset()
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    whole = dcmread(paths[1])
    report.file_meta = whole.file_meta
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    report.SOPInstanceUID = whole.SOPInstanceUID
    report.save_as(tmp_path / "d" / "SR1", enforce_file_format=True)
    assert_stored(tmp_path / "d", voxels)
    (tmp_path / "d" / "IM9").write_bytes(b"")
    assert "the file is empty" in refused(tmp_path / "d")


# ------------------------------------------------------------------ which series


def two_views(folder):
    """Write two long-axis views of one person."""
    for number, name in ((3, "LAX_2Ch"), (4, "LAX_4Ch")):
        turned = square() if number == 3 else square()[:, [0, 2, 1, 3]] * [1, 8 / 1.8, 1.8 / 8, 1]
        turned[:3, :3] *= 1.8 / np.linalg.norm(turned[:3, :3], axis=0)
        write_series(folder, drawn((3, 1, 16, 16), number), turned, first=2000 * number,
                     SeriesNumber=number, SeriesDescription=f"CINE_{name}")  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("series", "number"), [(4, 4), ("cine_lax_4ch", 4), ("*2Ch", 3), ("3", 3), (("*4ch",), 4)]
)
def test_a_series_is_chosen_by_number_or_description(tmp_path, series, number):
    two_views(tmp_path / "d")
    assert_stored(tmp_path / "d", drawn((3, 1, 16, 16), number), series=series)


def test_several_series_are_refused_by_name(tmp_path):
    two_views(tmp_path / "d")
    said = refused(tmp_path / "d")
    assert "several series" in said
    assert "modalities.NAME.series" in said
    assert "CINE_LAX_2Ch (series 3, 3 images), CINE_LAX_4Ch (series 4, 3 images)" in said
    said = refused(tmp_path / "d", series="*3Ch")
    assert "no series is the wanted one" in said
    assert "CINE_LAX_2Ch" in said
    assert "several series" in refused(tmp_path / "d", series="*LAX*")


def slices_of_series(folder, voxels, numbers, **tags):
    """Write each slice as a series of its own, as UK Biobank has its short axis."""
    for z in numbers:
        affine = square()
        affine[:3, 3] += z * affine[:3, 2]
        write_series(folder, voxels[:, z : z + 1], affine, first=100 * z, SeriesNumber=10 + z,
                     SeriesDescription=f"CINE_segmented_SAX_b{z + 1}", **tags)  # fmt: skip


def test_slices_that_are_series_of_their_own_are_one_stack(tmp_path):
    voxels = drawn((3, 12, 16, 16))
    slices_of_series(tmp_path / "d", voxels, range(12))
    expected = read(as_nifti(tmp_path / "a.nii", voxels, square()), reader="nifti", axes="xyzt")
    same(read(tmp_path / "d"), expected)
    two_views(tmp_path / "d")
    same(read(tmp_path / "d", series="CINE_segmented_SAX_b*"), expected)
    assert "several series" in refused(tmp_path / "d")
    assert_stored(tmp_path / "d", voxels[:, 1:4], series=[11, 12, 13])


def test_a_slice_that_was_taken_twice_is_told(tmp_path):
    voxels = drawn((3, 4, 16, 16))
    slices_of_series(tmp_path / "d", voxels, range(4))
    affine = square()
    for path in tmp_path.glob("d/IM000?"):  # the first was blurred
        changed(path, PixelData=bytes(2 * 16 * 16))
    write_series(tmp_path / "d", voxels[:, :1], affine, first=900, SeriesNumber=30,
                 SeriesDescription="CINE_segmented_SAX_b1")  # fmt: skip
    assert "several series" in refused(tmp_path / "d")
    assert_stored(tmp_path / "d", voxels, repeated="last")
    assert_stored(tmp_path / "d", voxels, series=[11, 12, 13, 30])


def test_axes_say_which_may_be_longer_than_1(tmp_path):
    write_series(tmp_path / "d", drawn())
    assert read(tmp_path / "d", axes="xyzt").voxels.shape == SHAPE
    for axes in ("xyz", "xyt"):
        assert "4 frames of 5 slices" in refused(tmp_path / "d", axes=axes)


def test_kinds_of_image_in_one_series_are_told_apart(tmp_path):
    one, other = drawn((1, 3, 16, 16)), drawn((1, 3, 16, 16), 1)
    write_series(tmp_path / "d", one)
    write_series(tmp_path / "d", other, first=50, ImageType=["ORIGINAL", "PRIMARY", "PSIR"])
    said = refused(tmp_path / "d")
    assert "cine / M (series 7, 3 images), cine / PSIR" in said
    assert_stored(tmp_path / "d", other, series="cine / PSIR")


# ------------------------------------------------------------------ what is wrong


def changed(path, **tags):
    file = dcmread(path)
    for tag, value in tags.items():
        setattr(file, tag, value)
        if value is None:
            delattr(file, tag)
    file.save_as(path)


def each(**tags):
    return lambda paths: [changed(one, **tags) for one in paths]


def one_of(number, **tags):
    return lambda paths: changed(paths[number], **tags)


def halves(tag, one, other):
    return lambda paths: [changed(p, **{tag: one if k < 9 else other}) for k, p in enumerate(paths)]


def without(*numbers):
    return lambda paths: [paths[number].unlink() for number in numbers]


def cut(number, kept):
    return lambda paths: paths[number].write_bytes(paths[number].read_bytes()[:kept])


def copied(paths):
    for path in paths:
        path.with_name(f"copy{path.name}").write_bytes(path.read_bytes())


THIRD, FOURTH = range(2, 20, 5), range(3, 20, 5)
ELSEWHERE = {"ImagePositionPatient": [-70, 20, 60]}
FAULTS = {
    "another patient": (one_of(3, PatientID="Smith^Bob"), r"2 patients \(PatientID of .*IM\d"),
    "another name": (halves("PatientName", "A^B", "C"), r"2 patients \(PatientName"),
    "another birthday": (
        halves("PatientBirthDate", "19500101", "19510101"),
        r"2 patients \(PatientBirthDate",
    ),
    "a slice is missing": (without(*THIRD), "1 slice is missing between slice 2 and slice 3"),
    "two are missing": (without(*THIRD, *FOURTH), "2 slices are missing between slice 2"),
    "a frame is missing": (without(7), "different numbers of frames"),
    "no trigger times": (each(TriggerTime=None), "no trigger time in 4 of 4"),
    "one without trigger time": (one_of(5, TriggerTime=None), "no trigger time in 1 of 4"),
    "equal trigger times": (each(TriggerTime=0), "have the same trigger time"),
    "a copy of a file": (lambda p: copied(p[:1]), "different numbers of frames"),
    "copies of all": (copied, "have the same trigger time"),
    "another size": (one_of(4, Rows=15, Columns=52), "different sizes"),
    "another plane": (one_of(4, ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), "different planes"),
    "another pixel spacing": (one_of(4, PixelSpacing=[1.8, 1.9]), "different pixel spacing"),
    "uneven slices": (lambda p: each(**ELSEWHERE)(p[4::5]), "evenly spaced|missing"),
    "no position": (one_of(4, ImagePositionPatient=None), "no ImagePositionPatient"),
    "no orientation": (each(ImageOrientationPatient=None), "no ImageOrientationPatient"),
    "an orientation of zeros": (each(ImageOrientationPatient=[0] * 6), "image orientation"),
    "a cut file": (cut(4, -500), "cannot be read"),
    "a cut header": (cut(4, 340), "cut short|cannot be read"),
    "no DICOM": (lambda p: p[4].write_bytes(b"hello" * 100), "is no DICOM file"),
    "colours": (each(PhotometricInterpretation="PALETTE COLOR"), "plain intensities"),
    "mosaics": (each(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic"),
    "no images": (without(*range(20)), "holds no DICOM image"),
    "a huge image": (one_of(4, Rows=60000, Columns=60000), "claims more memory"),
}


@pytest.mark.parametrize(("damage", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_refused_by_name(tmp_path, damage, said):
    paths = write_series(tmp_path / "d", drawn(), PatientID="Miller^Ann")
    damage(paths)
    refusal = refused(tmp_path / "d")
    assert re.search(said, refusal)
    assert "Miller" not in refusal  # who the patients are is not said
    assert "Smith" not in refusal


def test_a_name_that_is_spelt_otherwise_or_not_at_all_is_no_other(tmp_path):
    paths = write_series(tmp_path / "d", drawn(), PatientName="Miller^Ann")
    changed(paths[3], PatientName="MILLER^ANN^^")
    changed(paths[4], PatientName=None)
    assert read(tmp_path / "d").voxels.size == drawn().size


def test_zips_in_a_folder_are_read_as_the_files_in_them(tmp_path):
    voxels = drawn()
    paths = write_series(tmp_path / "d", voxels)
    for number, half in enumerate((paths[::2], paths[1::2])):
        (tmp_path / str(number)).mkdir()
        for path in half:
            path.rename(tmp_path / str(number) / path.name)
        zipped(tmp_path / str(number), tmp_path / "d" / f"{number}.zip")
    assert_stored(tmp_path / "d", voxels)
    (tmp_path / "e").mkdir()
    (tmp_path / "d" / "0.zip").rename(tmp_path / "e" / "inner.zip")
    assert "a zip in a zip" in refused(zipped(tmp_path / "e", tmp_path / "outer.zip"))


@pytest.mark.parametrize("zeroed", [slice(-14, -6), slice(-10, -6)], ids=["all", "its bytes"])
def test_a_zip_whose_list_was_emptied_is_not_passed_over(tmp_path, zeroed):
    """Its frames would be left out without a word."""
    write_series(tmp_path / "d", drawn())
    write_series(tmp_path / "e", drawn(), first=100)
    file = zipped(tmp_path / "e", tmp_path / "d" / "e.zip")
    content = bytearray(file.read_bytes())
    content[zeroed] = bytes(len(content[zeroed]))
    file.write_bytes(content)
    with pytest.raises(RecordError, match="its list is damaged"):
        read(tmp_path / "d")


def test_zips_in_a_folder_have_one_bound_and_are_not_all_open(tmp_path, monkeypatch):
    voxels = drawn()
    paths = write_series(tmp_path / "d", voxels)
    for number in range(90):
        with zipfile.ZipFile(tmp_path / "d" / f"{number}.zip", "w") as archive:
            archive.writestr("a.txt", "x")
            if number < len(paths):
                archive.write(paths[number], paths[number].name)
                paths[number].unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 80, hard))
    try:
        found = read(tmp_path / "d", orient="stored").voxels
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(found, voxels)
    for number in range(3):
        with zipfile.ZipFile(tmp_path / "d" / f"b{number}.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("notes.txt", bytes(9_000_000))
    tracemalloc.start()
    read(tmp_path / "d")
    assert tracemalloc.get_traced_memory()[1] < 9_000_000  # no note was read whole
    tracemalloc.stop()
    monkeypatch.setenv("MEDMCL_RECORD_MB", "20")
    assert "claims more memory" in refused(tmp_path / "d")


def test_what_is_called_a_zip_in_a_folder_and_is_none_is_refused(tmp_path):
    paths = write_series(tmp_path / "d", drawn())
    whole = zipped(tmp_path / "d", tmp_path / "a.zip").read_bytes()
    (tmp_path / "d" / "x.zip").write_bytes(whole[:-30])
    assert "x.zip: is no zip, or cut short" in refused(tmp_path / "d")
    (tmp_path / "d" / "x.zip").rename(tmp_path / "d" / "._x.zip")  # of macOS: no zip
    assert read(tmp_path / "d").voxels.shape[0] * 5 == len(paths)
    os.mkfifo(tmp_path / "d" / "y.zip")
    with pytest.raises(RecordError, match=r"y\.zip: is a named pipe"):
        read(tmp_path / "d")


def test_two_slices_of_three_are_told_by_the_distance_that_the_files_say(tmp_path):
    paths = write_series(tmp_path / "d", drawn((2, 3, 16, 16)), SpacingBetweenSlices=8)
    for path in paths[1::3]:
        path.unlink()
    assert "1 slice is missing" in refused(tmp_path / "d")
    # where the tag is used for the gap between slices, nothing is missing
    write_series(tmp_path / "e", drawn((2, 3, 16, 16)), SpacingBetweenSlices=2, SliceThickness=6)
    assert read(tmp_path / "e").spacing_mm[0] == 8


def test_a_frame_that_every_slice_lacks_is_told_by_how_many_the_files_say(tmp_path):
    paths = write_series(tmp_path / "d", drawn((4, 1, 16, 16)), CardiacNumberOfImages=4)
    assert read(tmp_path / "d").voxels.shape[0] == 4
    paths[2].unlink()
    said = refused(tmp_path / "d")
    assert "frames are missing in every slice" in said
    assert "3 frames" in said


@pytest.mark.parametrize("order", ["temporal_position", "instance_number"])
def test_frames_are_ordered_by_what_the_cohort_says(tmp_path, order):
    voxels = drawn()
    paths = write_series(
        tmp_path / "d", voxels, TriggerTime=None, TemporalPositionIdentifier=lambda t, z: t + 1
    )
    assert f"frame_order: {'temporal_position'}" in refused(tmp_path / "d")
    assert_stored(tmp_path / "d", voxels, frame_order=order)
    for path in paths:
        changed(path, TemporalPositionIdentifier=None)
    assert "frame_order: instance_number" in refused(tmp_path / "d")
    enhanced = write_enhanced(tmp_path / "a.dcm", voxels, delays=False)
    assert "frame_order: temporal_position" in refused(enhanced)
    assert_stored(enhanced, voxels, frame_order="temporal_position")


def test_a_cine_of_several_frames_that_does_not_say_where_they_lie(tmp_path):
    paths = write_series(tmp_path / "d", drawn((1, 1, 16, 16)))
    changed(paths[0], NumberOfFrames=2, PixelData=bytes(1024), ImagePositionPatient=None)
    assert "no ImagePositionPatient" in refused(paths[0])


# ------------------------------------------------------------------ volumes of the kind image


def image(path, **source):
    kept = {"reader": "dicom", **source}
    return Image(ImageSource(**kept), ImageSettings(size=(8, 8, 8))).read(place(path))


@pytest.mark.parametrize("affine", [AFFINES["sagittal"], AFFINES["axial"]])
def test_a_brain_as_delivered_equals_its_nifti(tmp_path, affine):
    voxels = drawn((1, 9, 20, 24))
    write_series(tmp_path / "t1", voxels, affine, TriggerTime=None)
    write_series(tmp_path / "t1", drawn((1, 3, 8, 8)), first=100, SeriesNumber=1)  # a scout
    expected = image(as_nifti(tmp_path / "a.nii.gz", voxels, affine, "xyz"), reader="nifti")
    files = (tmp_path / "t1", zipped(tmp_path / "t1", tmp_path / "t1.zip"))
    enhanced = write_enhanced(tmp_path / "e.dcm", voxels, affine, delays=False)
    for path, series in [*((one, 7) for one in files), (enhanced, None)]:
        found = image(path, series=series)
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        np.testing.assert_allclose(found.spacing_mm, expected.spacing_mm, rtol=1e-5)
        assert (found.orientation, found.placed) == ("SAR", True)
    with pytest.raises(RecordError, match="several series"):
        image(tmp_path / "t1")
    adapter = Image(ImageSource(reader="dicom", series=7), ImageSettings(size=(8, 8, 8)))
    raw, findings = read_record(adapter, place(tmp_path / "t1"))
    assert {finding.code for finding in findings} <= {"image.small"}
    assert adapter.prepare(raw).shape == (1, 8, 8, 8)
    assert len(record_files(adapter, place(tmp_path / "t1"))) == 12


def test_several_images_of_a_slice_are_no_volume(tmp_path):
    write_series(tmp_path / "d", drawn())
    with pytest.raises(RecordError, match="several images of each slice"):
        image(tmp_path / "d")


# ------------------------------------------------------------------ files of scanners


SAMPLES = Path(get_testdata_file("MR_small.dcm")).parent


@pytest.mark.parametrize(
    "name", ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_padded"]
)
def test_an_image_of_a_scanner_is_read_in_every_transfer_syntax(name):
    found = read(SAMPLES / f"MR_small{name}.dcm", orient="stored")
    expected = dcmread(SAMPLES / "MR_small.dcm").pixel_array
    np.testing.assert_array_equal(found.voxels, expected[None, None])
    assert found.spacing_mm == (0.8, 0.3125, 0.3125)


def test_real_files_that_cannot_be_read_say_why():
    assert "JPEG-LS" in refused(SAMPLES / "MR_small_jpeg_ls_lossless.dcm")
    assert "pixel data is less than expected" in refused(SAMPLES / "MR_truncated.dcm")
    localisers = refused(SAMPLES / "dicomdirtests" / "98892003" / "MR1")
    assert "FAST LOCALIZER (series 1, 1 images), FAST LOCALIZER" in localisers
    assert "1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0" in localisers.splitlines()[-1]
    assert "no ImagePosition" in refused(SAMPLES / "dicomdirtests" / "77654033" / "CR1")


def test_a_real_series_lies_as_monai_reads_it():
    """MONAI's reader of series knows no time, and takes any series: here of five CT slices."""
    from monai.data.image_reader import PydicomReader

    folder = SAMPLES / "dicomdirtests" / "98892001" / "CT5N"
    voxels, about = (reader := PydicomReader()).get_data(reader.read(str(folder)))
    nibabel_image = nibabel.Nifti1Image(np.asarray(voxels), np.asarray(about["affine"]))
    turned = nibabel.as_closest_canonical(nibabel_image)
    found = image(folder)
    np.testing.assert_allclose(found.pixels[0].T, turned.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(found.spacing_mm[::-1], turned.header.get_zooms(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental")
def test_a_real_enhanced_object_lies_as_nibabel_reads_it(tmp_path):
    from nibabel.nicom import dicomwrappers

    packed = Path(nibabel.__file__).parent / "nicom" / "tests" / "data" / "philips_mprage.dcm.gz"
    (tmp_path / "a.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    theirs = dicomwrappers.wrapper_from_file(tmp_path / "a.dcm")
    found = image(tmp_path / "a.dcm", orient="stored")
    assert found.pixels.shape[:0:-1] == theirs.image_shape
    np.testing.assert_allclose(found.spacing_mm[::-1], theirs.voxel_sizes, rtol=1e-5)


# ------------------------------------------------------------------ zips


def test_zips_that_lie_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "d"
    write_series(folder, drawn())
    whole = zipped(folder, tmp_path / "a.zip")
    assert "1 of 21 files of the manifest" in refused(zipped(folder, tmp_path / "b.zip", ["IM9"]))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("../../IM1", b"x")
    assert "leads out of the zip" in refused(tmp_path / "c.zip")
    content = whole.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    assert "is no zip, or cut short" in refused(tmp_path / "cut.zip")
    middle = bytearray(content)
    middle[len(content) // 2] ^= 255
    (tmp_path / "flipped.zip").write_bytes(middle)
    assert "cannot be read" in refused(tmp_path / "flipped.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM1", bytes(40_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 50_000
    monkeypatch.setenv("MEDMCL_RECORD_MB", "20")
    assert "claims more memory" in refused(tmp_path / "bomb.zip")
    assert read(whole).voxels.shape[:2] == SHAPE[:2]


def test_links_out_of_a_folder_are_refused_and_every_file_counts(tmp_path):
    cmr = CMR(CMRSource(reader="dicom"), CMRSettings(frames=1))
    paths = write_series(tmp_path / "data" / "d", drawn())
    roots = (f"{tmp_path / 'data'}/",)
    there = RecordRef(
        subject="s1", record="r1", paths={"path": tmp_path / "data" / "d"}, roots=roots
    )
    assert read_record(cmr, there)[0] is not None
    assert record_files(cmr, there) == sorted(paths)
    before = entry_key({}, [there], cmr.files)
    content = paths[4].read_bytes()
    paths[4].unlink()
    assert entry_key({}, [there], cmr.files) != before
    (tmp_path / "away").write_bytes(content)
    (tmp_path / "folder").mkdir()
    for name in ("away", "folder"):
        paths[4].unlink(missing_ok=True)
        paths[4].symlink_to(tmp_path / name)
        raw, findings = read_record(cmr, there)
        assert raw is None
        assert "leads out of the folders of the cohort" in findings[0].what


def test_keys_of_dicom_are_of_dicom():
    with pytest.raises(ValidationError, match="axes: each of x, y, z, t"):
        CMRSource(reader="dicom", axes="xx")
    with pytest.raises(ValidationError, match="series: only the reader dicom"):
        CMRSource(reader="nifti", axes="xyzt", series=3)
    with pytest.raises(ValidationError, match="axes: the nifti format does not say it"):
        CMRSource(reader="nifti")
    kept = CMRSource(reader="nifti", axes="xyzt")
    assert CMRSource(**kept.model_dump()) == kept


def test_check_reads_a_cohort_of_folders_and_zips(tmp_path):
    for number in range(1, 5):
        voxels = drawn((4, 9, 30, 26), number)
        paths = write_series(tmp_path / "cmr" / f"s{number}", voxels)
        if number == 2:
            zipped(tmp_path / "cmr" / "s2", tmp_path / "cmr" / "s2.zip")
            shutil.rmtree(tmp_path / "cmr" / "s2")
        if number == 3:
            without(*range(2, 36, 9))(paths)
    shutil.rmtree(tmp_path / "cmr" / "s4")
    (tmp_path / "people.csv").write_text(
        "id,split,file\ns1,train,s1\ns2,train,s2.zip\ns3,train,s3\ns4,held_out,s4\n"
    )
    (tmp_path / "cohort.yaml").write_text("""
schema: medmcl/cohort@1
subjects: {table: people.csv, id: id, split: split}
modalities:
  cmr: {kind: cmr, reader: dicom, path: "cmr/{file}", series: 7}
""")
    errors = {
        (one.code, one.where.split(",")[0])
        for one in medmcl.check(tmp_path / "cohort.yaml")
        if one.level == "error"
    }
    assert errors == {("cmr.unreadable", "subject s3"), ("cmr.missing_file", "subject s4")}


def test_a_real_cine_equals_its_nifti(tmp_path):
    data = os.environ.get("MEDMCL_DATA")
    if not data or not (Path(data) / "acdc").is_dir():
        pytest.skip("needs MEDMCL_DATA/acdc")
    folder = sorted((Path(data) / "acdc").glob("patient0*"))[0]
    both = [nibabel.load(one) for one in sorted(folder.glob("*_frame??.nii.gz"))]
    voxels = np.stack([np.asarray(one.dataobj) for one in both]).transpose(0, 3, 2, 1)
    affine = square(np.linalg.norm(both[0].affine[:3, :3], axis=0).round(4))
    write_series(tmp_path / "d", voxels.astype(np.uint16), affine)
    nifti = as_nifti(tmp_path / "a.nii", voxels.astype(np.uint16), affine)
    expected = read(nifti, reader="nifti", axes="xyzt")
    same(read(tmp_path / "d"), expected)
    same(read(zipped(tmp_path / "d", tmp_path / "d.zip")), expected)
