"""Readers of volumes: NIfTI, Analyze and NumPy files to one array with axes (t, z, y, x).

Which axis of a file is which is never guessed: the cohort says it (``axes: xyzt``). ``z`` is the
axis that runs through the slices, ``x`` and ``y`` lie in the plane, ``t`` is time.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medmcl.core.errors import AGAIN, FIND_FILE, RecordError, damage
from medmcl.core.limits import refuse_large
from medmcl.modalities.dicom import below
from medmcl.modalities.opening import require_content, require_row

DEFLATE_LIMIT = 1040  # no deflate stream expands further than 1032 times
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 540  # of NIfTI-2, the longer one
VOXEL_BYTES = 4  # as read: float32
SPARE_BYTES = 2**24  # what a file may hold before and after its voxels: header extensions, padding
PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")
"""Endings of headers and voxels in files of their own."""
Turn = Literal["plane", "body", "none"]
_FORWARDS = {"R": "R", "L": "R", "A": "A", "P": "A", "S": "S", "I": "S"}
MM_PER_UNIT = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What one file holds.

    Attributes:
        voxels: Intensities, (T, Z, Y, X) float32.
        spacing_mm: Distance of neighbours along (z, y, x); NaN where nobody says.
        orientation: Direction in which z, y, x grow (``SAR``: superior, anterior, right);
            ``?`` where the file does not say.
        stored: The same as the file has it, before it was turned.
        diagonal: True if an in-plane axis lies so near a diagonal of the body axes that a small
            turn of the plane would change its name.
        placed: False where the file does not say how its axes lie in the body: what nibabel then
            makes up is a guess.
    """

    voxels: np.ndarray
    spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    orientation: str = "???"
    stored: str = "???"
    diagonal: bool = False
    placed: bool = False


def read_nifti(path: Path, axes: str, turn: Turn = "plane") -> Stack:
    """Read one NIfTI file (1 or 2; plain or gzip, told by its first bytes, not by its name).

    Args:
        path: A ``.nii`` or ``.nii.gz`` file; or either of a pair ``.hdr`` and ``.img``, NIfTI or
            Analyze 7.5. Analyze does not say how a volume lies; an SPM ``.mat`` is not read.
        axes: A letter for each axis of the file.
        turn: ``plane``: turn the plane so that x and y grow towards right, anterior or superior,
            the one nearest to right first; flip z likewise. The slice axis stays the slice axis,
            however oblique. ``body``: x, y, z grow towards right, anterior, superior, whichever
            way the slices were cut (nibabel's ``as_closest_canonical``); left as stored where the
            file does not say how it lies. ``none``: as stored.

    A gzip stream is read to its end, so that its checksum speaks: nibabel stops at the last voxel.

    Raises:
        RecordError: Missing, empty, cut short, damaged, not NIfTI, or of other axes than declared.
    """
    from nibabel.arrayproxy import ArrayProxy

    header, held = _open_nifti(path)
    letters = _match_axes(tuple(map(int, header.get_data_shape())), axes, path)
    unit = MM_PER_UNIT[_spatial_unit(header)]
    with damage(path), np.errstate(all="ignore"):  # of hostile slopes inspect finds the infinities
        voxels = np.asarray(ArrayProxy(held, header), dtype=np.float32)
        space = Space.of(np.asarray(header.get_best_affine(), np.float64)[:3, :3], letters, unit)
    for letter, zoom in zip(letters[3:], header.get_zooms()[3:], strict=True):
        if letter in space.mm:
            space.mm[letter] = round(float(zoom) * unit, 6)
    forms = ("qform_code", "sform_code")
    placed = any(int(header[form]) > 0 for form in forms if form in header)
    return turned(_to_tzyx(voxels, letters), space, turn, placed=placed)


@dataclass(frozen=True)
class Space:
    """How the axes of an array lie in the body.

    Attributes:
        mm: Axis (z, y, x) to the distance of neighbours along it; NaN where nobody says.
        world: Axis to the direction in which it grows: R or L, A or P, S or I.
        diagonal: Whether x or y lies midway between two body axes.
    """

    mm: dict[str, float]
    world: dict[str, str]
    diagonal: bool

    @classmethod
    def of(cls, columns: np.ndarray, letters: Sequence[str], unit: float = 1.0) -> Space:
        """Take it from the columns of an affine, (3, 3), and the names of the first axes."""
        from nibabel.orientations import io_orientation

        mm, diagonal = dict.fromkeys("zyx", math.nan), False
        world: dict[str, str] = {}
        if not np.isfinite(columns).all():
            return cls(mm, world, diagonal)
        affine = np.eye(4)
        affine[:3, :3] = columns
        nearest = io_orientation(affine)
        for letter, column, (body, sign) in zip(letters, columns.T, nearest, strict=False):
            if letter in mm:
                length = np.linalg.norm(column)
                mm[letter] = round(float(length) * unit, 6)
                if np.isfinite(body):
                    world[letter] = ("LPI" if sign < 0 else "RAS")[int(body)]
                    cosines = np.sort(np.abs(column) / length)
                    diagonal |= letter != "z" and bool(cosines[2] - cosines[1] < 0.1)
        return cls(mm, world, diagonal)


def turned(voxels: np.ndarray, space: Space, turn: Turn, *, placed: bool) -> Stack:
    """Turn voxels (T, Z, Y, X) as `read_nifti` says; ``placed``: as in `Stack`."""
    world = space.world if placed or turn != "body" else {}
    moved = {"plane": "xy", "body": "xyz", "none": ""}[turn]
    was = dict(zip("tzyx", "tzyx", strict=True))
    if world.keys() >= set(moved):
        was |= zip(
            moved,
            sorted(moved, key=lambda letter: "RAS".index(_FORWARDS[world[letter]])),
            strict=True,
        )
    voxels = voxels.transpose(["tzyx".index(letter) for letter in was.values()])
    now = {letter: world[old] for letter, old in was.items() if old in world}
    if moved:
        flips = (number for number, letter in enumerate("tzyx") if now.get(letter, "?") in "LPI")
        voxels = np.flip(voxels, tuple(flips))
        now = {letter: _FORWARDS[way] for letter, way in now.items()}
    return Stack(
        voxels=np.ascontiguousarray(voxels),
        spacing_mm=(space.mm[was["z"]], space.mm[was["y"]], space.mm[was["x"]]),
        orientation="".join(now.get(letter, "?") for letter in "zyx"),
        stored="".join(space.world.get(letter, "?") for letter in "zyx"),
        diagonal=space.diagonal,
        placed=placed,
    )


def read_npy(path: Path, axes: str, row: int | None = None) -> Stack:
    """Read one ``.npy`` file, or one row of a memory-mapped one of shape (N, ...).

    Raises:
        RecordError: Missing, cut short, pickled, no such row, or with other axes than declared.
    """
    require_content(path, FIND_FILE)
    with damage(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        got = getattr(array, "dtype", type(array).__name__)
        raise RecordError("holds no plain numbers", where=path, got=got, expected="one .npy array")
    if row is not None:
        require_row(row, len(array) if array.ndim else 0, path)
        array = array[row]
    refuse_large(array.size * VOXEL_BYTES, path, f"its header {array.shape}")
    letters = _match_axes(array.shape, axes, path)
    return Stack(voxels=np.ascontiguousarray(_to_tzyx(np.asarray(array, np.float32), letters)))


def zyx(spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    """Turn x, y, z as the cohort says it into z, y, x as arrays have it."""
    return spacing[2], spacing[1], spacing[0]


def files_of(reader: str, paths: Iterable[Path]) -> list[Path]:
    """Every file of a record: of a folder of DICOM all in it, of a pair both; raises nothing."""
    if reader == "dicom":
        return [file for path in paths for file in (below(path) if path.is_dir() else [path])]
    if reader == "nifti":
        return list(dict.fromkeys(file for path in paths for file in pair(path)))
    return list(paths)


def pair(path: Path) -> tuple[Path, Path]:
    """Give the files of header and voxels: one and the same, or ``.hdr`` and ``.img``."""
    for ending in PAIRS:
        if path.name.lower().endswith(ending):
            stem, written = path.name[: -len(ending)], path.name[-len(ending) :]
            header, voxels = (f".{one}{ending[4:]}" for one in ("hdr", "img"))
            if written == ending.upper():
                header, voxels = header.upper(), voxels.upper()
            return path.with_name(stem + header), path.with_name(stem + voxels)
    return path, path


def _open_nifti(path: Path) -> tuple[Any, str | io.BytesIO]:
    """Give the header, and where the voxels are: a name that nibabel goes by, or the content."""
    header, path = pair(path)
    for one, other in ((header, path), (path, header)):
        beside = f"put it beside {other.name}, which needs it"
        require_content(one, beside if other.is_file() else FIND_FILE)
    with damage(header, expected=".nii, .nii.gz, or a pair .hdr and .img"):
        found = _header(header, alone=header == path)
        shape, dtype = tuple(map(int, found.get_data_shape())), found.get_data_dtype()
        before = min(max(int(found.get_data_offset()), 0), SPARE_BYTES)
    if dtype.kind not in "buif" or min(shape, default=0) < 1:
        raise RecordError(
            "holds no plain intensities",
            where=path,
            got=f"{dtype} {shape}",
            expected="one real number a voxel, no axis of length 0",
        )
    zipped, bytes_ = _is_gzip(path), math.prod(shape) * dtype.itemsize
    on_disk = path.stat().st_size
    if bytes_ > on_disk * (DEFLATE_LIMIT if zipped else 1):  # before it claims all memory
        raise RecordError(
            "the file is shorter than its header says",
            where=path,
            got=f"{on_disk} bytes on disk",
            expected=f"{bytes_} bytes of voxels {shape}",
            fix=AGAIN,
        )
    claimed = bytes_ + math.prod(shape) * VOXEL_BYTES
    refuse_large(claimed, path, f"its header ({' x '.join(map(str, shape))} voxels)")
    if zipped:
        return found, io.BytesIO(_decompress(path, before + bytes_ + SPARE_BYTES))
    misnamed = path.suffix.lower() == ".gz"
    return found, io.BytesIO(path.read_bytes()) if misnamed else str(path)


def _header(path: Path, *, alone: bool) -> Any:
    from nibabel import Nifti1Image, Nifti1Pair, Nifti2Image, Nifti2Pair, Spm2AnalyzeImage

    with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    for image in (
        (Nifti1Image, Nifti2Image) if alone else (Nifti1Pair, Nifti2Pair, Spm2AnalyzeImage)
    ):
        kind = image.header_class
        if kind.may_contain_header(start):
            return kind(start[: kind.template_dtype.itemsize])
    raise ValueError("no header of NIfTI or Analyze")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _decompress(path: Path, limit: int) -> bytes:
    """Decompress a whole gzip file, checksum and length at its end included."""
    with damage(path), gzip.open(path) as file:
        content = file.read(limit)
        if file.read(1):  # at the end of the stream this reads, and checks, the trailer
            raise RecordError(
                "the file is longer than its header says",
                where=path,
                got=f"more than {limit} bytes",
                fix=AGAIN,
            )
    return content


def _match_axes(shape: tuple[int, ...], axes: str, path: Path) -> list[str]:
    """A letter for each axis of the array; ``1`` for an axis of length 1 nobody declared."""
    if len(shape) == len(axes):
        return list(axes)
    kept = [number for number, length in enumerate(shape) if length != 1]
    if len(shape) > len(axes) and len(kept) == len(axes):
        letters = ["1"] * len(shape)
        for number, letter in zip(kept, axes, strict=True):
            letters[number] = letter
        return letters
    raise RecordError(
        "has other axes than the cohort says",
        where=path,
        got=f"{len(shape)} axes of lengths {tuple(shape)}",
        expected=f"{len(axes)} axes ({axes})",
        fix="say in cohort.yaml what the file's axes are, in its order, for example "
        "modalities.NAME.axes: xyzt",
    )


def _to_tzyx(voxels: np.ndarray, letters: list[str]) -> np.ndarray:
    voxels = voxels.squeeze(tuple(i for i, letter in enumerate(letters) if letter == "1"))
    axes = [letter for letter in letters if letter != "1"]
    order = [axes.index(letter) for letter in "tzyx" if letter in axes]
    missing = tuple(number for number, letter in enumerate("tzyx") if letter not in axes)
    return np.expand_dims(voxels.transpose(order), missing)


def _spatial_unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except (KeyError, AttributeError):  # Analyze has no units: millimetres by habit
        return "unknown"
