"""Series of DICOM images to one array with axes (t, z, y, x): cines, stacks and volumes.

The files themselves tell slices from frames: a slice is a place along the normal of the images
(Image Position projected on the normal of Image Orientation); frames of a slice are ordered by what
the cohort says orders them, the trigger time if it says nothing.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.core.limits import refuse_large
from medmcl.modalities.dicom import (
    AGAIN,
    Chosen,
    DicomFiles,
    FrameOrder,
    dicom_files,
    named,
    open_dicom,
)
from medmcl.modalities.volumes import Space, Stack, Turn, turned

ORDERS: dict[str, str] = {
    "trigger_time": "trigger time",
    "temporal_position": "temporal position",
    "instance_number": "instance number",
}
"""What frames may be ordered by, and how messages call it."""
_PIXEL_BYTES = 16
"""Memory that a pixel takes while it is read: as stored, scaled, and in single precision."""
_ONE_PLACE_MM = 0.05
"""Positions along the normal that lie nearer are one slice."""
_EVEN = 0.1
"""Share of the slice distance by which one may differ."""
_ALIKE = 1e-3
"""Cosines and millimetres of pixels that differ less are the same: vendors round them."""
_NAMED = 8
"""Series that a message names; the others are counted."""


@dataclass(frozen=True)
class Frame:
    """One image of a file.

    Attributes:
        file: Name of the file.
        number: Its number within the file, from 0.
        series: Its series and kind of image.
        patient: Id, name and date of birth of whom it is of, for comparison only.
        shape: Rows and columns.
        position: Middle of the first pixel, mm towards left, posterior, superior; NaN if unsaid.
        across: Directions of rows and columns in the same space, (2, 3); NaN if unsaid.
        pixel_mm: Distance of rows, and of columns.
        order: What it may be ordered by; NaN where the file does not say it.
        slice_mm: Distance of slices, and their thickness, as the file says them.
        phases: Frames of each slice, as the file says; NaN if it does not.
        slope, intercept: From stored values to intensities.
    """

    file: str
    number: int
    series: Series
    patient: tuple[str, str, str]
    shape: tuple[int, int]
    position: np.ndarray
    across: np.ndarray
    pixel_mm: tuple[float, float]
    order: dict[str, float]
    slice_mm: tuple[float, float]
    phases: float
    slope: float
    intercept: float


@dataclass(frozen=True)
class Series:
    """What images of one series, and of one kind in it, have in common.

    Attributes:
        uid: Of the series.
        study: Of the study, and of the space that positions are measured in.
        number: As the scanner counts, -1 if unsaid.
        description: Such as ``CINE_segmented_SAX_b3``.
        kind: Such as ``M/RETRO``: the image type without what all have.
    """

    uid: str
    study: tuple[str, str]
    number: int
    description: str
    kind: str

    @property
    def stem(self) -> str:
        """The description without a number at its end, which counts the slices of a stack."""
        return re.sub(r"[\s_-]*\d+$", "", self.description)


def read_series(
    path: Path, *, series: Chosen | None, frame_order: FrameOrder | None, turn: Turn,
    is_last: bool = False, axes: str | None = None,
) -> Stack:  # fmt: skip
    """Read one series: (T, Z, Y, X), frames in order of time, slices in order of place.

    Args:
        path: A folder (and folders in it), a zip, or one file.
        series: Number, description or UID of the wanted one, several as a list; ``*`` and ``?``
            stand for letters. None: there is one.
        frame_order: What orders the frames of a slice; None: each slice has one.
        turn: As in `medmcl.modalities.volumes.read_nifti`; ``none``: x along the rows as stored, y
            along the columns, z along the normal.
        is_last: Whether of series of one description at one place the last is taken.
        axes: Axes that may be longer than 1; None: all.

    Series of one description but for a number at its end, each of its own slices (UK Biobank's
    short axis: ``CINE_segmented_SAX_b1``, ``..._b2``, ...), are one stack.

    Raises:
        RecordError: Of which file, and what: several patients, several series, a missing slice,
            slices with different numbers of frames, frames that nothing orders, and damage.
    """
    with dicom_files(path) as files:
        frames = [
            frame for name, found in files.data_sets() for frame in _frames(name, found, files)
        ]
        if not frames:
            got = f"{len(files.sizes)} files"
            raise RecordError("holds no DICOM image", where=path, got=got, fix="correct the path")
        _refuse_patients(frames, files)
        chosen = _choose(frames, series, files, is_last=is_last)
        grid = _grid(chosen, frame_order, files)
        long = [letter for letter, count in zip("tz", grid.shape, strict=True) if count > 1]
        if axes is not None and not set(long) <= set(axes):
            raise RecordError(
                "has other axes than the cohort says", where=path, expected=f"axes {axes}",
                got=f"{grid.shape[0]} frames of {grid.shape[1]} slices",
                fix="take modalities.NAME.axes out, or choose another series",
            )  # fmt: skip
        refuse_large(len(chosen) * math.prod(chosen[0].shape) * _PIXEL_BYTES, path, "its images")
        return turned(_voxels(grid, files), _space(grid), turn, placed=True)


def _frames(name: str, found: Any, files: DicomFiles) -> Iterator[Frame]:
    """Give the images of a file, one, or of an enhanced object many."""
    where = files.path(name)
    with named(where):
        kinds = [str(one) for one in found.get("ImageType") or ()]
        series = Series(
            uid=str(found.get("SeriesInstanceUID", "")),
            study=(
                str(found.get("StudyInstanceUID", "")),
                str(found.get("FrameOfReferenceUID", "")),
            ),
            number=-1 if found.get("SeriesNumber") is None else int(found.SeriesNumber),
            description=str(found.get("SeriesDescription") or "").strip(),
            kind="/".join(kinds[2:]),
        )
        called = re.sub(r"[\s^=]+", " ", str(found.get("PatientName") or "")).strip().casefold()
        own_id = str(found.get("PatientID") or "") or called
        patient = (own_id, called, str(found.get("PatientBirthDate") or ""))
        count = int(found.get("NumberOfFrames") or 1)
        shape = (int(found.Rows), int(found.Columns))
        refuse_large(count * math.prod(shape) * _PIXEL_BYTES, where, f"its header ({count} images)")
        own = found.get("PerFrameFunctionalGroupsSequence") or ()
        if own and len(own) != count:
            raise RecordError(
                "does not say where all its frames lie", where=where, got=f"{len(own)} places",
                expected=f"{count}, as many as frames", fix=AGAIN,
            )  # fmt: skip
        shared = (found.get("SharedFunctionalGroupsSequence") or (None,))[0]
        for number in range(len(own) or 1):
            groups = [
                group for group in (own[number] if own else None, shared) if group is not None
            ]
            yield Frame(
                file=name, number=number, series=series, shape=shape, patient=patient,
                **_said(found, groups),
            )  # fmt: skip


_PLACES = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
"""Where an enhanced object keeps what a plain one has at its top."""


def _said(top: Any, groups: Sequence[Any]) -> dict[str, Any]:
    """What a file says of one image, at its top or in its functional groups."""

    def numbers(keyword: str, count: int) -> list[float] | None:
        place = _PLACES.get(keyword)
        held = [part for group in groups for part in (group.get(place) or ())] if place else []
        for one in (*held, top):
            value = one.get(keyword)
            if value is not None and value != "":
                values = [float(part) for part in (value if count > 1 else [value])]
                if len(values) != count or not np.isfinite(values).all():
                    raise ValueError(f"{keyword} is {value}")
                return values
        return None

    def number(*keywords: str, default: float = math.nan) -> float:
        return next((given[0] for one in keywords if (given := numbers(one, 1))), default)

    nowhere = [math.nan] * 6
    rows_mm, columns_mm = numbers("PixelSpacing", 2) or (math.nan, math.nan)
    return {
        "position": np.array(numbers("ImagePositionPatient", 3) or nowhere[:3]),
        "across": np.array(numbers("ImageOrientationPatient", 6) or nowhere).reshape(2, 3),
        "pixel_mm": (rows_mm, columns_mm),
        "order": {
            "trigger_time": number("NominalCardiacTriggerDelayTime", "TriggerTime"),
            "temporal_position": number("TemporalPositionIndex", "TemporalPositionIdentifier"),
            "instance_number": number("InstanceNumber") if not groups else math.nan,
        },
        "slice_mm": (number("SpacingBetweenSlices"), number("SliceThickness")),
        "phases": number("CardiacNumberOfImages", "NumberOfTemporalPositions"),
        "slope": number("RescaleSlope", default=1.0),
        "intercept": number("RescaleIntercept", default=0.0),
    }  # fmt: skip


_WHO = ("PatientID", "PatientName", "PatientBirthDate")
"""What tells people apart; the last two only where both images say them."""


def _refuse_patients(frames: Sequence[Frame], files: DicomFiles) -> None:
    """Refuse images of several people; who they are is not said, as messages travel."""
    first = frames[0]
    for other in frames:
        said = [
            what
            for what, one, its in zip(_WHO, first.patient, other.patient, strict=True)
            if one != its and (what == _WHO[0] or (one and its))
        ]
        if not said:
            continue
        raise RecordError(
            "holds images of several patients",
            where=files.where,
            got=f"{len({one.patient for one in frames})} patients ({said[0]} of "
            f"{files.path(first.file)} is not that of {files.path(other.file)})",
            expected="one patient a record",
            fix="give each patient a folder or zip",
        )


def _choose(
    frames: Sequence[Frame], wanted: Chosen | None, files: DicomFiles, *, is_last: bool
) -> list[Frame]:
    """Give the images of the one stack that is meant."""
    of: dict[Series, list[Frame]] = {}
    for frame in frames:
        of.setdefault(frame.series, []).append(frame)
    asked = () if wanted is None else wanted if isinstance(wanted, tuple) else (wanted,)
    several = len({one.uid for one in of}) < len(of)
    left = [one for one in of if not asked or any(_fits(one, which) for which in asked)]
    if not left:
        raise RecordError(
            "no series is the wanted one", where=files.where, got=_listed(of, several),
            expected=f"series: {wanted}", fix="correct modalities.NAME.series in cohort.yaml",
        )  # fmt: skip
    if is_last:
        left = _last_of_each(left, of)
    stacks: list[list[Series]] = []
    for one in left:
        alike = [stack for stack in stacks if _alike(of, stack[0], one, any_name=len(asked) > 1)]
        if len(alike) == 1 and not _overlap(of, [*alike[0], one]):
            alike[0].append(one)
        else:
            stacks.append([one])
    if len(stacks) > 1:
        raise RecordError(
            "holds several series, and nobody says which is meant",
            where=files.where,
            got=_listed({one: of[one] for one in left}, several),
            expected="one series, or slices of one stack",
            fix="say it in cohort.yaml by number or description: modalities.NAME.series: "
            f"{_example(left)}",
        )
    return [frame for one in stacks[0] for frame in of[one]]


def _last_of_each(left: Sequence[Series], of: dict[Series, list[Frame]]) -> list[Series]:
    """Leave out series that were taken again, at the same place under the same description."""
    kept: list[Series] = []
    for one in sorted(left, key=lambda series: -series.number):
        same = (other for other in kept if other.description == one.description)
        alike = [other for other in same if _alike(of, other, one, any_name=True)]
        if not any(_overlap(of, [other, one]) for other in alike):
            kept.append(one)
    return sorted(kept, key=lambda series: series.number)


def _fits(series: Series, which: int | str) -> bool:
    if which == series.uid:
        return True
    if str(which).strip().isdigit():
        return series.number == int(which) or series.description == str(which)
    names = (series.description, f"{series.description} / {series.kind}")
    return any(fnmatch.fnmatchcase(one.lower(), str(which).strip().lower()) for one in names)


def _alike(of: dict[Series, list[Frame]], one: Series, other: Series, *, any_name: bool) -> bool:
    """Whether two series may be slices of one stack, or the same slices taken twice."""
    a, b = of[one][0], of[other][0]
    same = (one.study, one.kind, a.shape) == (other.study, other.kind, b.shape)
    if not same or not (any_name or one.stem == other.stem):
        return False
    lie, lies = (
        np.r_[frame.across.ravel(), frame.pixel_mm, 0 * frame.position] for frame in (a, b)
    )
    return bool(np.allclose(lie, lies, rtol=0, atol=_ALIKE))  # never where a file does not say it


def _overlap(of: dict[Series, list[Frame]], some: Sequence[Series]) -> bool:
    """Whether two of some series have a slice at one place."""
    held = [_places(of[one]) for one in some]
    places = np.sort(np.concatenate([np.unique(np.round(one / _ONE_PLACE_MM)) for one in held]))
    return bool((np.diff(places) < 2).any())


def _places(frames: Sequence[Frame]) -> np.ndarray:
    """Places along the normal of the first image, mm, (N,); NaN where a file does not say it."""
    normal = np.cross(*frames[0].across)
    return np.array([one.position @ normal for one in frames])


def _listed(of: dict[Series, list[Frame]], several: bool) -> str:
    """The series of a folder, with how many images each has."""
    ones = sorted(of, key=lambda one: (one.number, one.description, one.kind))
    said = []
    for one in ones[:_NAMED]:
        name = f"{one.description or 'no description'}{f' / {one.kind}' if several else ''}"
        said.append(f"{name} (series {one.number}, {len(of[one])} images)")
    more = f", and {len(ones) - _NAMED} more" if len(ones) > _NAMED else ""
    return ", ".join(said) + more


def _example(left: Sequence[Series]) -> str:
    first = min(left, key=lambda one: one.number)
    names = (first.description, first.number, f"{first.description} / {first.kind}")
    for name in names:
        if name and sum(_fits(one, name) for one in left) == 1:
            return f'"{name}"' if isinstance(name, str) else str(name)
    return f'"{first.uid}"'


def _grid(frames: Sequence[Frame], frame_order: FrameOrder | None, files: DicomFiles) -> np.ndarray:
    """Lay images out as (T, Z), objects; refuse what leaves a place empty or holds two images."""
    _refuse_unlike(frames, files)
    places = _places(frames)
    order = np.argsort(places, kind="stable")
    numbers = np.cumsum(np.r_[0, np.diff(places[order]) > _ONE_PLACE_MM])
    slices = [[frames[row] for row in order[numbers == one]] for one in range(numbers[-1] + 1)]
    at = [float(places[order[numbers == one]].mean()) for one in range(len(slices))]
    counts = Counter(map(len, slices))
    usual = counts.most_common(1)[0][0]
    if len(counts) > 1:
        odd = [f"{len(one)} in slice {n + 1} of {len(slices)}"
               for n, one in enumerate(slices) if len(one) != usual]  # fmt: skip
        raise RecordError(
            "slices have different numbers of frames", where=files.where,
            got=f"{', '.join(odd[:_NAMED])}; {usual} in the others",
            expected="as many frames in every slice",
            fix="copy the missing files from their source; a repeated acquisition is left out by "
            "modalities.NAME.series",
        )  # fmt: skip
    phases = max((one.phases for one in frames if one.phases > 0), default=0)
    if 1 < usual < phases:
        raise RecordError(
            "frames are missing in every slice", where=files.where, got=f"{usual} frames",
            expected=f"{phases:g}, as the files say (CardiacNumberOfImages)",
            fix="copy the missing files from their source",
        )  # fmt: skip
    _refuse_gaps(at, slices, files)
    rows = [_in_order(one, frame_order, files, at[number]) for number, one in enumerate(slices)]
    grid = np.empty((usual, len(slices)), dtype=object)
    for number, row in enumerate(rows):
        grid[:, number] = row
    return grid


def _refuse_unlike(frames: Sequence[Frame], files: DicomFiles) -> None:
    """Refuse images that do not say where they lie, or lie or look unlike one another."""
    first = frames[0]
    if "MOSAIC" in first.series.kind.split("/"):
        fix = "convert it to NIfTI: dcm2niix FOLDER"
        raise RecordError("holds mosaics, many slices in one image", where=files.where,
                          got=f"image type {first.series.kind}", fix=fix)  # fmt: skip
    for one in frames:
        lacking = [name for name, value in (("ImagePositionPatient", one.position),
                   ("ImageOrientationPatient", one.across)) if np.isnan(value).any()]  # fmt: skip
        if lacking:
            raise RecordError(
                "does not say where it lies in the body",
                where=files.path(one.file), got=f"no {' and no '.join(lacking)}",
                fix="export it again with its geometry, or convert it to NIfTI and state axes",
            )  # fmt: skip
    for what, expected, of in (
        ("images have different sizes", "one number of rows and columns", lambda one: one.shape),
        ("images lie in different planes", "one orientation", lambda one: one.across.ravel()),
        ("images have different pixel spacing", "one spacing", lambda one: one.pixel_mm),
    ):
        other = next((one for one in frames if not np.allclose(
            of(one), of(first), rtol=0, atol=_ALIKE, equal_nan=True)), None)  # fmt: skip
        if other is not None:
            raise RecordError(
                what, where=files.where, expected=expected,
                got=f"{_text(of(first))} in {first.file}, {_text(of(other))} in {other.file}",
                fix="choose one series: modalities.NAME.series (a scout holds several planes)",
            )  # fmt: skip
    norms = np.linalg.norm(first.across, axis=1)
    if not np.allclose(norms, 1, atol=0.01) or abs(first.across[0] @ first.across[1]) > 0.01:
        raise RecordError(
            "its image orientation is none", where=files.path(first.file),
            got=_text(first.across.ravel()), expected="two directions at right angles", fix=AGAIN,
        )  # fmt: skip


def _text(values: Any) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _refuse_gaps(at: Sequence[float], slices: Sequence[Sequence[Frame]], files: DicomFiles) -> None:
    """Refuse a stack of which a slice is missing, or whose slices are not evenly spaced."""
    if len(at) < 2:
        return
    gaps = np.diff(at)
    firsts = [one[0] for one in slices]
    usual = float(gaps.min())
    declared, thick = firsts[0].slice_mm
    is_gap = declared < thick and math.isclose(usual, declared + thick, rel_tol=_EVEN)
    if len({one.series for one in firsts}) == 1 and declared > 0 and not is_gap:
        usual = min(usual, declared)  # some devices say there what lies between slices
    worst = int(np.abs(gaps - usual).argmax())
    times = gaps[worst] / usual
    if abs(times - 1) > _EVEN:
        lost = round(times) - 1
        near = lost >= 1 and abs(times - round(times)) < _EVEN * round(times)
        what = (f"{lost} slice{'s are' if lost > 1 else ' is'} missing" if near
                else "slices are not evenly spaced")  # fmt: skip
        raise RecordError(
            f"{what} between slice {worst + 1} and slice {worst + 2} of {len(at)}",
            where=files.where,
            got=f"{gaps[worst]:.2f} mm between {firsts[worst].file} and {firsts[worst + 1].file}",
            expected=f"{usual:.2f} mm, as between other slices or as the files say",
            fix="copy the missing files from their source, or choose one series: "
            "modalities.NAME.series",
        )
    offsets = np.array([one.position for one in firsts])
    line = offsets[0] + np.linspace(0, 1, len(at))[:, None] * (offsets[-1] - offsets[0])
    aside = float(np.abs(offsets - line).max())
    if aside > max(*firsts[0].pixel_mm, _EVEN * usual):
        raise RecordError(
            "slices are shifted against one another within their plane", where=files.where,
            got=f"{aside:.1f} mm", fix="convert it to NIfTI with a program that resamples slices",
        )  # fmt: skip


def _in_order(
    frames: Sequence[Frame], frame_order: FrameOrder | None, files: DicomFiles, at: float
) -> list[Frame]:
    """Put the frames of a slice in order of time."""
    if len(frames) == 1:
        return list(frames)
    if frame_order is None:
        raise RecordError(
            "holds several images of each slice, and one volume is read", where=files.where,
            got=f"{len(frames)} images at {at:.1f} mm",
            fix="choose one series: modalities.NAME.series; a cine is of the kind cmr",
        )  # fmt: skip
    values = np.array([one.order[frame_order] for one in frames])
    word = ORDERS[frame_order]
    others = [name for name in ORDERS if name != frame_order and _orders(frames, name)]
    fix = "export the files again with it, or convert them to NIfTI"
    if others:
        fix = f"if the {ORDERS[others[0]]} counts the frames in order of time, say so: "
        fix += f"modalities.NAME.frame_order: {others[0]}"
    where = f"{files.where}, slice at {at:.1f} mm"
    unsaid = np.flatnonzero(np.isnan(values))
    if len(unsaid):
        raise RecordError(
            f"has several images and no {word} in {len(unsaid)} of {len(frames)}", where=where,
            got=f"no {word} in {frames[int(unsaid[0])].file}",
            expected=f"a {word} in each, which orders the frames of a cine", fix=fix,
        )  # fmt: skip
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(np.diff(values[order]) == 0)
    if len(same):
        one, other = (frames[int(order[same[0] + step])] for step in (0, 1))
        number = len(same) + 1
        raise RecordError(
            f"two images of one slice have the same {word}", where=where,
            got=f"{values[order[same[0]]]:g} in {one.file} and {other.file}"
            f" ({number} of {len(frames)} images are so)",
            expected=f"another {word} in each",
            fix=f"a file that stands there twice is taken away; {fix}",
        )  # fmt: skip
    return [frames[row] for row in order]


def _orders(frames: Sequence[Frame], name: str) -> bool:
    values = {one.order[name] for one in frames}
    return len(values) == len(frames) and not any(map(math.isnan, values))


def _voxels(grid: np.ndarray, files: DicomFiles) -> np.ndarray:
    """Read the pixels of a grid of images, each file once, as intensities (T, Z, Y, X) float32."""
    rows, columns = grid[0, 0].shape
    voxels = np.empty((*grid.shape, rows, columns), np.float32)
    of: dict[str, list[tuple[tuple[int, ...], Frame]]] = {}
    for place, frame in np.ndenumerate(grid):
        of.setdefault(frame.file, []).append((place, frame))
    for name, held in of.items():
        where = files.path(name)
        with named(where):
            found = open_dicom(where, files.content(name))
            if str(found.get("PhotometricInterpretation")) != "MONOCHROME2":
                raise RecordError(
                    "is no image of plain intensities", where=where, expected="MONOCHROME2",
                    got=found.get("PhotometricInterpretation"), fix="convert it to NIfTI",
                )  # fmt: skip
            stored = found.pixel_array.reshape(-1, rows, columns)
            for place, frame in held:
                values = stored[frame.number]
                if (frame.slope, frame.intercept) != (1.0, 0.0):
                    values = values * frame.slope + frame.intercept
                voxels[place] = values
    return voxels


def _space(grid: np.ndarray) -> Space:
    """How the axes of a grid of images lie; DICOM counts towards left and posterior."""
    first, last = grid[0, 0], grid[0, -1]
    rows_mm, columns_mm = first.pixel_mm
    count = grid.shape[1]
    normal = np.cross(first.across[0], first.across[1])
    step = normal if count == 1 else (last.position - first.position) / (count - 1)
    columns = np.stack([first.across[0], first.across[1], step], axis=1) * [[-1.0], [-1.0], [1.0]]
    space = Space.of(columns, "xyz")
    between, thickness = first.slice_mm
    own = between if between > 0 else thickness
    z_mm = own if count == 1 else round(float(np.linalg.norm(step)), 4)
    space.mm.update(x=columns_mm, y=rows_mm, z=z_mm)
    return space
