"""Readers of volumes: NIfTI, Analyze and NumPy files to one array with axes (t, z, y, x).

Which axis of a file is which is never guessed: the cohort says it (``axes: xyzt``). ``z`` is the
axis that runs through the slices, ``x`` and ``y`` lie in the plane, ``t`` is time.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    image = _open_nifti(path)
    letters = _match_axes(image.shape, axes, path)
    with damage(path), np.errstate(all="ignore"):  # of hostile slopes inspect finds the infinities
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
        columns = np.asarray(image.affine, dtype=np.float64)[:3, :3]
    unit = MM_PER_UNIT[_spatial_unit(image)]
    space = Space.of(columns, letters, unit)
    zooms = image.header.get_zooms()
    for number, letter in enumerate(letters):
        if number >= 3 and letter in space.mm:
            space.mm[letter] = round(float(zooms[number]) * unit, 6)
    forms = [form for form in ("qform_code", "sform_code") if form in image.header]
    placed = any(int(image.header[form]) > 0 for form in forms)
    return turned(_to_tzyx(voxels, letters), space, turn, placed=placed)


@dataclass(frozen=True)
class Space:
    """How the axes of an array lie in the body.

    Attributes:
        mm: Axis (z, y, x) to the distance of neighbours along it; NaN where nobody says.
        world: Axis to the body axis it is nearest to (right, anterior, superior), and +1 or -1.
        diagonal: Whether x or y lies midway between two body axes.
    """

    mm: dict[str, float]
    world: dict[str, tuple[int, int]]
    diagonal: bool

    @classmethod
    def of(cls, columns: np.ndarray, letters: Sequence[str], unit: float = 1.0) -> Space:
        """Take it from the columns of an affine, (3, 3), and the names of the first axes."""
        mm = dict.fromkeys("zyx", math.nan)
        world: dict[str, tuple[int, int]] = {}
        diagonal = False
        if np.isfinite(columns).all():
            directions = _directions(columns)
            for number, letter in enumerate(letters[:3]):
                if letter in mm:
                    mm[letter] = round(float(np.linalg.norm(columns[:, number])) * unit, 6)
                    if number in directions:
                        world[letter] = directions[number]
                        diagonal |= letter != "z" and _is_diagonal(columns[:, number])
        return cls(mm, world, diagonal)


def turned(voxels: np.ndarray, space: Space, turn: Turn, *, placed: bool) -> Stack:
    """Turn voxels (T, Z, Y, X) as `read_nifti` says; ``placed``: as in `Stack`."""
    now = space
    if turn == "body":
        voxels, now = _stand(voxels, space if placed else replace(space, world={}))
    elif turn == "plane":
        voxels, now = _turn(voxels, space)
    return Stack(
        voxels=np.ascontiguousarray(voxels),
        spacing_mm=(now.mm["z"], now.mm["y"], now.mm["x"]),
        orientation="".join(_name(now.world.get(letter)) for letter in "zyx"),
        stored="".join(_name(space.world.get(letter)) for letter in "zyx"),
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


def _open_nifti(path: Path) -> Any:
    import nibabel

    header, path = pair(path)
    for one, other in ((header, path), (path, header)):
        beside = f"put it beside {other.name}, which needs it"
        require_content(one, beside if other.is_file() else FIND_FILE)
    zipped = _is_gzip(path)
    is_named = zipped == path.name.lower().endswith(".gz")
    with damage(header), np.errstate(all="ignore"):
        if header != path:
            image: Any = _load_pair(header, path)
        else:
            image = nibabel.load(path) if is_named else _load_misnamed(path, zipped)
        shape, dtype = tuple(map(int, image.shape)), image.get_data_dtype()
    if not isinstance(image, nibabel.AnalyzeImage):  # which NIfTI's classes are, too
        raise RecordError("is not NIfTI", where=path, got=type(image).__name__, expected=".nii.gz")
    if dtype.kind not in "buif" or min(shape, default=0) < 1:
        raise RecordError(
            "holds no plain intensities",
            where=path,
            got=f"{dtype} {shape}",
            expected="one real number a voxel, no axis of length 0",
        )
    limit = path.stat().st_size * (DEFLATE_LIMIT if zipped else 1)
    if math.prod(shape) * dtype.itemsize > limit:  # before a damaged header claims all memory
        raise RecordError(
            "the file is shorter than its header says",
            where=path,
            got=f"{path.stat().st_size} bytes on disk",
            expected=f"{math.prod(shape) * dtype.itemsize} bytes of voxels {shape}",
            fix=AGAIN,
        )
    claimed = math.prod(shape) * (dtype.itemsize + VOXEL_BYTES)
    refuse_large(claimed, path, f"its header ({' x '.join(map(str, shape))} voxels)")
    if not zipped:
        return image
    before = min(max(int(image.dataobj.offset), 0), SPARE_BYTES)
    content = _decompress(path, before + math.prod(shape) * dtype.itemsize + SPARE_BYTES)
    with damage(path):
        alone = header == path
        return type(image).from_bytes(content) if alone else _load_pair(header, path, content)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _load_pair(header: Path, path: Path, voxels: bytes | None = None) -> Any:
    """Open a header and, where they are not given, leave the voxels to be read from their file."""
    import nibabel
    from nibabel.fileholders import FileHolder

    if header.stat().st_size > SPARE_BYTES:
        refuse_large(math.inf, header, "its header")
    start = _decompress(header, SPARE_BYTES) if _is_gzip(header) else header.read_bytes()
    kinds = (nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.Spm2AnalyzeImage)
    for kind in kinds:
        if kind.header_class.may_contain_header(start[:HEADER_BYTES]):
            held = {"filename": str(path)} if voxels is None else {"fileobj": io.BytesIO(voxels)}
            files = {
                "header": FileHolder(fileobj=io.BytesIO(start)),
                "image": FileHolder(**held),
                "mat": FileHolder(fileobj=io.BytesIO()),
            }
            return kind.from_file_map(files)
    raise ValueError("no header of NIfTI or Analyze")


def _load_misnamed(path: Path, zipped: bool) -> Any:
    """Open a gzip file that is called .nii, or a plain one called .nii.gz; nibabel goes by name."""
    import nibabel

    with gzip.open(path) if zipped else path.open("rb") as file:
        start = file.read(HEADER_BYTES)
        file.seek(0)
        for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
            if kind.header_class.may_contain_header(start):
                # voxels of a gzip file are read later, under a limit
                return kind.from_stream(file) if zipped else kind.from_bytes(file.read())
    raise ValueError("no NIfTI header")


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


def _directions(columns: np.ndarray) -> dict[int, tuple[int, int]]:
    """Axis of the file to (body axis it is nearest to, +1 or -1); each body axis once."""
    from nibabel.orientations import io_orientation

    affine = np.eye(4)
    affine[:3, :3] = columns
    nearest = io_orientation(affine)
    return {
        number: (int(body), int(sign))
        for number, (body, sign) in enumerate(nearest)
        if np.isfinite(body)
    }


def _is_diagonal(column: np.ndarray) -> bool:
    cosines = np.sort(np.abs(column) / np.linalg.norm(column))
    return bool(cosines[2] - cosines[1] < 0.1)


def _turn(voxels: np.ndarray, space: Space) -> tuple[np.ndarray, Space]:
    """Swap x and y so that x is the one nearest to right, then flip what grows backwards."""
    mm, world = space.mm, space.world
    if "x" in world and "y" in world and world["x"][0] > world["y"][0]:
        voxels = voxels.swapaxes(2, 3)
        mm = {**mm, "x": mm["y"], "y": mm["x"]}
        world = {**world, "x": world["y"], "y": world["x"]}
    return _flip(voxels, replace(space, mm=mm, world=world))


def _stand(voxels: np.ndarray, space: Space) -> tuple[np.ndarray, Space]:
    """Order axes so that x, y, z are nearest to right, anterior, superior, then flip likewise."""
    mm, world = space.mm, space.world
    if len(world) == 3:
        old = dict(zip("xyz", sorted(world, key=lambda letter: world[letter][0]), strict=True))
        order = [0, *("tzyx".index(old[letter]) for letter in "zyx")]
        voxels = voxels.transpose(order)
        mm = {new: mm[letter] for new, letter in old.items()}
        world = {new: world[letter] for new, letter in old.items()}
    return _flip(voxels, replace(space, mm=mm, world=world))


def _flip(voxels: np.ndarray, space: Space) -> tuple[np.ndarray, Space]:
    world = space.world
    backwards = tuple(
        number for number, letter in enumerate("tzyx") if letter in world and world[letter][1] < 0
    )
    forwards = {letter: (body, 1) for letter, (body, _) in world.items()}
    return np.flip(voxels, backwards), replace(space, world=forwards)


def _name(direction: tuple[int, int] | None) -> str:
    if direction is None:
        return "?"
    body, sign = direction
    return ("RAS" if sign > 0 else "LPI")[body]


def _spatial_unit(image: Any) -> str:
    try:
        return str(image.header.get_xyzt_units()[0])
    except (KeyError, AttributeError):  # Analyze has no units: millimetres by habit
        return "unknown"
