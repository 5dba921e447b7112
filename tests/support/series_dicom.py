"""Writer of series of MR images as DICOM files: one an image, or one enhanced object."""

import zipfile
import zlib

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

UID = "1.2.826.0.1.3680043.8.498.2026"
OBLIQUE = np.array(
    [[-1.2, -0.5, -4.0, 70.0], [0.9, -1.1, -4.5, -20.0], [-0.2, -0.9, 7.0, 35.0], [0, 0, 0, 1.0]]
)
"""Of a short-axis stack: columns are nearly at right angles; see `square`."""


def square(spacing=(1.8, 1.8, 8.0), affine=OBLIQUE):
    """Give an affine (4, 4) from x, y, z to mm in the body, its columns at right angles."""
    axes, _ = np.linalg.qr(affine[:3, :3])
    axes *= np.sign((axes * affine[:3, :3]).sum(axis=0))
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = axes * spacing, affine[:3, 3]
    return found


def _base(stored, kind, name, **tags):
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = kind
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = (
        f"{UID}.{zlib.crc32(name.encode())}"
    )
    file.Modality, file.PatientID, file.SeriesDescription = "MR", "p1", "cine"
    file.StudyInstanceUID, file.FrameOfReferenceUID = f"{UID}.1", f"{UID}.2"
    file.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    file.Rows, file.Columns, file.SamplesPerPixel = *stored.shape[-2:], 1
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.PhotometricInterpretation, file.PixelData = "MONOCHROME2", stored.tobytes()
    number = tags.pop("SeriesNumber", 7)
    file.SeriesNumber, file.SeriesInstanceUID = number, f"{UID}.3.{number}"
    for tag, value in tags.items():
        if value is not None:
            setattr(file, tag, value)
    return file


def write_series(folder, voxels, affine=None, *, slope=1.0, intercept=0.0, first=0, **tags):
    """Write (T, Z, Y, X) of uint16, a file an image, in an order that no name tells.

    Args:
        folder: Made if it is not there.
        voxels: Stored values.
        affine: From x, y, z to mm towards right, anterior, superior.
        slope: Of rescaling.
        intercept: Of rescaling.
        first: Number of the first file.
        tags: Set in every file; ``None`` leaves one out; a function of (t, z) gives a value each.
    """
    affine = square() if affine is None else affine
    folder.mkdir(parents=True, exist_ok=True)
    columns = affine[:3, :3] * [[-1], [-1], [1]]
    origin = affine[:3, 3] * [-1, -1, 1]
    mm = np.linalg.norm(columns, axis=0)
    across = np.concatenate([columns[:, 0] / mm[0], columns[:, 1] / mm[1]])
    count, paths = voxels.shape[1], []
    shuffled = np.random.default_rng(0).permutation(len(voxels) * count)
    for (t, z), image in zip(np.ndindex(voxels.shape[:2]), voxels.reshape(-1, *voxels.shape[2:]),
                             strict=True):  # fmt: skip
        name = f"IM{first + int(shuffled[t * count + z]):04d}"
        own = {key: value(t, z) if callable(value) else value for key, value in tags.items()}
        own = {
            "ImagePositionPatient": [f"{v:.7g}" for v in origin + z * columns[:, 2]],
            "ImageOrientationPatient": [f"{v:.9g}" for v in across],
            "PixelSpacing": [f"{v:.8g}" for v in mm[[1, 0]]],
            "SliceThickness": f"{mm[2]:.8g}", "TriggerTime": f"{25.5 * t + z / 8:.8g}",
            "InstanceNumber": z * len(voxels) + t + 1, "RescaleSlope": slope,
            "RescaleIntercept": intercept, **own,
        }  # fmt: skip
        file = _base(
            np.ascontiguousarray(image), MRImageStorage, f"{folder.name}{first}{name}", **own
        )
        file.save_as(folder / name, enforce_file_format=True)
        paths.append(folder / name)
    return paths


def write_enhanced(path, voxels, affine=None, *, slope=1.0, intercept=0.0, delays=True):
    """Write (T, Z, Y, X) of uint16 as one enhanced MR object, slices innermost."""
    affine = square() if affine is None else affine
    columns = affine[:3, :3] * [[-1], [-1], [1]]
    origin = affine[:3, 3] * [-1, -1, 1]
    mm = np.linalg.norm(columns, axis=0)
    file = _base(voxels, EnhancedMRImageStorage, path.name)
    file.NumberOfFrames = voxels.shape[0] * voxels.shape[1]
    shared = Dataset()
    shared.PlaneOrientationSequence = [_with(ImageOrientationPatient=[
        f"{v:.9g}" for v in (*(columns[:, 0] / mm[0]), *(columns[:, 1] / mm[1]))])]  # fmt: skip
    shared.PixelMeasuresSequence = [_with(
        PixelSpacing=[f"{v:.8g}" for v in mm[[1, 0]]], SliceThickness=f"{mm[2]:.8g}",
        SpacingBetweenSlices=f"{mm[2]:.8g}")]  # fmt: skip
    shared.PixelValueTransformationSequence = [
        _with(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
    ]
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for t, z in np.ndindex(voxels.shape[:2]):
        own = Dataset()
        own.PlanePositionSequence = [
            _with(ImagePositionPatient=[f"{v:.7g}" for v in origin + z * columns[:, 2]])
        ]
        own.FrameContentSequence = [_with(TemporalPositionIndex=t + 1, StackID="1")]
        if delays:
            own.CardiacSynchronizationSequence = [_with(NominalCardiacTriggerDelayTime=30.0 * t)]
        groups.append(own)
    file.PerFrameFunctionalGroupsSequence = Sequence(groups)
    file.save_as(path, enforce_file_format=True)
    return path


def _with(**tags):
    found = Dataset()
    for tag, value in tags.items():
        setattr(found, tag, value)
    return found


def zipped(folder, path, listed=()):
    """Zip the files of a folder with a manifest, as UK Biobank delivers a field."""
    names = [one.name for one in sorted(folder.iterdir())]
    rows = ["filename,patientid,seriesdescription,date"]
    rows += [f'{name},1234567,cine,"May 1, 2015"' for name in (*names, *listed)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.csv", "\n".join(rows))
        for name in names:
            archive.write(folder / name, name)
    return path
