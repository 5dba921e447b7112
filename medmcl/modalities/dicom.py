"""DICOM files: opened one by one, and listed where they lie: alone, in a folder, or in a zip."""

from __future__ import annotations

import csv
import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from medmcl.core.errors import AGAIN, FIND_FILE, RecordError, damage
from medmcl.core.limits import refuse_large, refuse_odd_file, whole_bytes

_ITEM, _PER_ITEM = b"\xfe\xff\x00\xe0", 2_000
"""How an item of a sequence begins, and memory that it takes, about."""
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PREAMBLE, _MAGIC = 128, b"DICM"
_BESIDE = (
    *(".csv", ".cvs", ".tsv", ".txt", ".json", ".xml", ".html", ".htm", ".pdf", ".md", ".log"),
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".inf", ".ini", ".db", ".exe", ".nii", ".gz"),
)
"""Endings of what lies beside images, as hidden files do. Whatever else is there must be DICOM."""
_DIRECTORY = "1.2.840.10008.1.3.10"
"""The class of a DICOMDIR, which lists files and holds no image."""
_PER_FILE = 50_000
"""Memory that the header of an image takes, about."""
_MANIFESTS = ("manifest.csv", "manifest.cvs")
"""What UK Biobank puts into its zips, in either spelling."""
_MANIFEST_BYTES = 2**24
_OPEN = 64
"""Zips of a folder that are open together."""
_END, _END_BYTES, _MORE = b"PK\5\6", 65_557, 0xFFFF
"""How the end of a zip begins, how long it is at most, and what it says of more members."""
DICOM_ENDINGS = (".dcm", ".dicom", ".ima", ".zip")
"""Of files and zips; a folder has none."""
FrameOrder = Literal["trigger_time", "temporal_position", "instance_number"]
Chosen = int | str | tuple[int | str, ...]
"""Number of a series, or its description with ``*`` and ``?`` for letters; or several."""
DICOM_KEYS = ("series", "frame_order", "repeated")
"""Keys of a cohort that only DICOM has."""


def open_dicom(path: Path | str, content: bytes | None = None, *, pixels: bool = True) -> Any:
    """Give the data set of a file.

    Args:
        path: The file.
        content: Its bytes, where they do not lie in a file of their own.
        pixels: Whether to read pixels too.

    Raises:
        RecordError: It is deflated, or holds more items than memory: such a file may claim it all.
    """
    from pydicom import dcmread

    content = whole_bytes(Path(path)) if content is None else content
    if _DEFLATED in content:
        raise RecordError("is deflated DICOM, which is not read", where=path)
    items = content.count(_ITEM)
    refuse_large(items * _PER_ITEM, path, f"its {items:,} items")
    return dcmread(io.BytesIO(content), stop_before_pixels=not pixels)


@contextmanager
def named(where: str) -> Iterator[None]:
    """Name the file in whatever pydicom raises, and leave its remarks on odd headers unsaid."""
    what = "cannot be read; the file is damaged, or in a form that pydicom does not decode here"
    fix = f"{AGAIN}; compressed pixels are unpacked by `gdcmconv --raw IN OUT`"
    with damage(where, what, fix=fix), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Archives:
    """Zips by their paths, few of them open at a time: a folder may hold thousands."""

    def __init__(self) -> None:
        self._open: dict[Path, zipfile.ZipFile] = {}

    def at(self, path: Path) -> zipfile.ZipFile:
        """Give a zip, open until others are asked for.

        Raises:
            RecordError: It is damaged.
        """
        if path not in self._open:
            if len(self._open) == _OPEN:
                self._open.pop(next(iter(self._open))).close()
            with damage(path, "the zip is damaged"):
                self._open[path] = zipfile.ZipFile(path)
        return self._open[path]

    def close(self) -> None:
        """Close those that are open."""
        for one in self._open.values():
            one.close()


@dataclass(frozen=True)
class DicomFiles:
    """The DICOM files of one folder and of zips in it, of one zip, or one alone.

    Attributes:
        where: The folder, zip or file.
        sizes: Name below it to bytes, in order of names.
        members: Zip and name there of those in zips.
        archives: The zips.
    """

    where: Path
    sizes: Mapping[str, int]
    members: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    archives: _Archives = field(default_factory=_Archives)

    def path(self, name: str) -> str:
        """A file as messages call it."""
        return str(self.where / name) if name else str(self.where)

    def content(self, name: str, most: int = -1) -> bytes:
        """The bytes of a file, the first ``most`` of them; -1: all.

        Raises:
            RecordError: It cannot be read, or is not what the zip says.
        """
        fix = f"{AGAIN}; a zip with a password is unpacked first"
        with damage(self.path(name), "cannot be read", fix=fix):
            if name in self.members:
                archive, member = self.members[name]
                with self.archives.at(archive).open(member) as file:
                    return file.read(most)
            file_of = self.where / name if name else self.where
            if most < 0:
                return whole_bytes(file_of)
            with file_of.open("rb") as file:
                return file.read(most)

    def data_sets(self) -> Iterator[tuple[str, Any]]:
        """Give each image with its name, without its pixels.

        Files of other kinds are passed over: manifests, DICOMDIR, reports, texts.

        Raises:
            RecordError: A file that is called DICOM is none, or cannot be read.
        """
        for name in self.sizes:
            where = self.path(name)
            if _is_beside(name) and not _is_dicom(self.content(name, _PREAMBLE + len(_MAGIC))):
                continue  # whatever its size
            content = self.content(name)
            if not _is_dicom(content):
                what = "is no DICOM file" if content else "the file is empty (zero bytes)"
                fix = "unpack it: a zip in a zip is not read" if content[:2] == b"PK" else AGAIN
                raise RecordError(what, where=where, got=repr(content[:16]), fix=fix)
            with named(where):
                from pydicom.uid import UID

                found = open_dicom(where, content, pixels=False)
                kind = found.get("SOPClassUID") or found.file_meta.get(
                    "MediaStorageSOPClassUID", ""
                )
                if kind == _DIRECTORY:
                    continue
                if "Rows" in found:
                    yield name, found
                elif not kind or "Image" in UID(str(kind)).name:
                    got = f"{len(content)} bytes, no Rows"
                    raise RecordError("holds no image, or is cut short", where=where, got=got,
                                      fix=AGAIN)  # fmt: skip


def _is_dicom(content: bytes) -> bool:
    return content[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC


def _is_beside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _BESIDE or any(part.startswith(".") for part in path.parts)


@contextmanager
def dicom_files(path: Path) -> Iterator[DicomFiles]:
    """Open a folder (with folders and zips in it), a zip, or one file.

    Nothing is unpacked to disk, so that no name in a zip can lead out of a folder; one that tries
    to is refused all the same.

    Raises:
        RecordError: Nothing is there; a damaged zip; more than memory; a manifest names a file that
            is not there.
    """
    if not path.is_dir() and not path.is_file():
        raise RecordError("there is no such file or folder", where=path, fix=FIND_FILE)
    sizes: dict[str, int] = {}
    members: dict[str, tuple[Path, str]] = {}
    held = 0
    with closing(_Archives()) as archives:
        for one in below(path) if path.is_dir() else [path]:
            refuse_odd_file(one, RecordError)
            name = os.path.relpath(one, path) if path.is_dir() else ""
            if not _holds(one, name):
                sizes[name] = one.stat().st_size
                continue
            inside = _members(archives.at(one), one, path, held)
            for member, size in inside.items():
                key = f"{name}/{member}" if name else member
                sizes[key], members[key] = size, (one, member)
                held += size
        found = DicomFiles(path, sizes, members, archives)
        _refuse_incomplete(found)
        yield found


def _holds(path: Path, name: str) -> bool:
    """Whether a file is a zip to look into; ``name``: below a folder, or nothing if alone.

    Raises:
        RecordError: It is called one and is none.
    """
    called_zip = path.suffix.lower() == ".zip" and path.is_file()
    if (called_zip or not name) and zipfile.is_zipfile(path):
        return True
    if called_zip and not _is_beside(name):
        got = f"{path.stat().st_size} bytes without the list of a zip at their end"
        raise RecordError("is no zip, or cut short", where=path, got=got, fix=AGAIN)
    return False


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder or a zip, which hold files."""
    return path.is_dir() or zipfile.is_zipfile(path)


def below(folder: Path) -> list[Path]:
    """Every file below a folder, sorted; links to folders are given as they are, not followed."""
    found = []
    for here, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        found += [Path(here) / name for name in (*names, *links)]
    return sorted(found)


def _members(archive: zipfile.ZipFile, path: Path, record: Path, others: int) -> dict[str, int]:
    """Names and sizes of the files of a zip of a record, whose other zips hold ``others`` bytes."""
    _refuse_other_count(archive, path)
    found: dict[str, int] = {}
    infos = [one for one in archive.infolist() if not one.is_dir()]
    claimed = others + sum(one.file_size for one in infos) + len(infos) * _PER_FILE
    what = "the zip holds" if path == record else f"its zips hold, up to {path.name}"
    refuse_large(claimed, record, f"what {what} ({len(infos):,} files)")
    for one in infos:
        name = PurePosixPath(one.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in one.filename:
            raise RecordError(
                "a member's name leads out of the zip",
                where=path,
                got=one.filename,
                expected="names without .. and without / at the start",
                fix="do not trust this zip; if it is your own, write it anew",
            )
        if one.filename in found:
            raise RecordError("a member stands twice in the zip", where=path, got=one.filename,
                              fix="write the zip anew, each name once")  # fmt: skip
        found[one.filename] = one.file_size
    return dict(sorted(found.items()))


def _refuse_other_count(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip whose list has another number of members than its end says, or none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        end = file.read().rpartition(_END)[2]
    said, count = int.from_bytes(end[6:8], "little"), len(archive.infolist())
    if not count or said not in (count, _MORE):
        raise RecordError("the zip is empty, or its list is damaged", where=path,
                          got=f"{count:,} members", expected=f"{said:,}", fix=AGAIN)  # fmt: skip


def _refuse_incomplete(files: DicomFiles) -> None:
    """Refuse files of which the manifest beside them names some that are not there."""
    refuse_large(len(files.sizes) * _PER_FILE, files.where, f"its {len(files.sizes):,} files")
    there = {PurePosixPath(name).name for name in files.sizes}
    for name, size in files.sizes.items():
        if PurePosixPath(name).name.lower() not in _MANIFESTS or size > _MANIFEST_BYTES:
            continue
        lines = files.content(name).decode("utf-8", "replace").splitlines()
        rows = [row for row in csv.reader(lines) if row]
        if not rows or rows[0][0].strip().lower() != "filename":
            continue
        listed = [row[0].strip() for row in rows[1:]]
        lost = [one for one in listed if PurePosixPath(one).name not in there]
        if lost:
            raise RecordError(
                f"{len(lost)} of {len(listed)} files of the manifest are not there",
                where=files.path(name),
                got=f"no {', '.join(lost[:3])}",
                fix="copy the folder or zip again from its source",
            )
