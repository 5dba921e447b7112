"""Files lie where the owner of a cohort says: no cell of a table and no link leads out of there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.core.limits import below, is_below, odd_kind

_LISTED = 32
"""So many files of one folder are looked for by listing it, fewer one by one."""


class RealPaths:
    """Where many files really lie; folders are looked at once.

    Args:
        paths: Absolute ones, all that will be asked for: full folders are listed, not looked into
            file by file.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._real: dict[str, str] = {}
        counts = Counter(map(os.path.dirname, paths))
        self._links = {one: _odd_names(one) for one, n in counts.items() if n >= _LISTED}

    def of(self, path: str) -> str:
        """Where a file really lies, were it there."""
        folder, name = os.path.split(path)
        if f"{os.sep}{os.pardir}{os.sep}" in f"{path}{os.sep}" or name in ("", os.curdir):
            return os.path.realpath(path)
        links = self._links.get(folder)
        is_link = os.path.islink(path) if links is None else name in links  # noqa: PTH114  (as odd_kind)
        return os.path.realpath(path) if is_link else _within(self._folder(folder), name)

    def odd(self, path: str) -> str:
        """As `odd_kind`."""
        folder, name = os.path.split(path)
        links = self._links.get(folder)
        return odd_kind(path) if links is None or name in links else ""

    def _folder(self, folder: str) -> str:
        if folder not in self._real:
            above, name = os.path.split(folder)
            is_plain = name not in ("", os.curdir) and not os.path.islink(folder)  # noqa: PTH114  (as odd_kind)
            self._real[folder] = (
                _within(self._folder(above), name) if is_plain else os.path.realpath(folder)
            )
        return self._real[folder]


def _within(folder: str, name: str) -> str:
    return f"{folder.rstrip(os.sep)}{os.sep}{name}"


def _odd_names(folder: str) -> frozenset[str]:
    """What of a folder is a link, or neither file nor folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(
                one.name
                for one in entries
                if one.is_symlink()
                or not (one.is_file(follow_symlinks=False) or one.is_dir(follow_symlinks=False))
            )
    except OSError:  # it is none, or a member of an archive
        return frozenset()


class Confined:
    """The folders that files of a cohort may lie in, as they are written and as they really are.

    They are the first of ``roots``, the data root; the others, which cohort.yaml names under
    ``roots:``; and those that a path of cohort.yaml itself writes out from ``/`` or with ``..``.
    Each may be a link; a link below one leads no further than they do. A hard link is the file
    itself: nothing tells it from one.

    Args:
        roots: The data root first.
        starts: What the owner wrote of paths, as far as it is the same for all files.
        owner: The file that says ``roots:``.
    """

    def __init__(
        self, roots: Sequence[Path], starts: Iterable[str], owner: str = "its cohort.yaml"
    ) -> None:
        self._owner = owner
        written = [_written_out(start, roots[0]) for start in starts]
        self.folders = [os.path.normpath(one) for one in (*roots, *written) if one is not None]
        self.really = below(map(os.path.realpath, self.folders))

    def refuse(self, what: str, where: str, files: Sequence[tuple[str, Path]]) -> None:
        """Refuse files that lie elsewhere, and what is neither file nor folder.

        Args:
            what: What they are of.
            where: Field of cohort.yaml.
            files: Each with whose it is.

        Raises:
            CohortError: Counts the files, and names the first.
        """
        inside, real = below(self.folders), RealPaths([str(one) for _, one in files])
        out, links, odd = [], [], []
        for whose, file in files:
            path = str(file)
            if wrong := _no_name(path):
                odd.append((whose, repr(path[:_SHOWN]), wrong))
            elif not is_below(os.path.normpath(path), inside):
                out.append((whose, os.path.normpath(path), ""))
            elif not is_below(really := real.of(path), self.really):
                links.append((whose, path, really))
            elif kind := real.odd(path):
                odd.append((whose, path, kind))
        if odd:
            whose, path, kind = odd[0]
            raise CohortError(
                f"{counted(len(odd), 'path')} of {what} can be no file",
                where=where,
                got=f"{whose}: {path} is {kind}",
                fix="correct the table, or put a file there",
            )
        for lost, say, fix in (
            (out, "of {} lead out of its folders", "correct the table"),
            (links, "of {} are links out of its folders", "put the files there"),
        ):
            if lost:
                whose, path, really = lost[0]
                raise CohortError(
                    f"{counted(len(lost), 'path')} {say.format(what)}",
                    where=where,
                    got=f"{whose}: {path}" + (f", a link to {really}" if really else ""),
                    expected=f"files below {', '.join(self.folders)}",
                    fix=f"{fix}; if these files belong to it, {self._owner} says so: "
                    f"roots: [{Path(really or path).parent}]",
                )


_SHOWN = 200
"""Letters of a name that is none, in a message."""
_LONGEST = 255
"""Bytes of a name; file systems take no more."""


def _no_name(path: str) -> str:
    """Why a path can be the name of no file; empty if it can."""
    if "\0" in path:
        return "a name with a null byte"
    try:
        if len(whole := path.encode()) <= _LONGEST:
            return ""
        is_long = any(len(part) > _LONGEST for part in whole.split(os.sep.encode()))
    except UnicodeEncodeError:  # of a file that was written elsewhere, or of no letters at all
        return "a name that is not UTF-8: rename the file"
    return "a name that is too long" if is_long else ""


def _written_out(start: str, root: Path) -> Path | None:
    """The folder that a path itself writes out, where that is not below the data root."""
    folder = Path(f"{start}x").parent
    leads_out = folder.is_absolute() or os.path.normpath(folder).startswith("..")
    return root / folder if leads_out else None
