"""A simulated cohort's folder appears whole or not at all, and never over somebody's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medmcl.core.atomic import folder_aside, put_back
from medmcl.core.errors import CohortError
from medmcl.core.file_lock import claimed


@contextmanager
def whole_folder(out: Path, *, marks: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """Give a folder to write into; it becomes ``out`` when all went well.

    Args:
        out: Folder to make; must be new or empty, or an earlier one to overwrite.
        marks: Files that show that a folder is an earlier simulation of this kind.
        overwrite: Whether an earlier simulation may be replaced.

    Raises:
        CohortError: The folder is not empty, and is no earlier simulation to overwrite.
    """
    out = Path(out).absolute()
    put_back(out)  # first: a link to what is put back leads somewhere again
    with claimed(out, "a cohort is being written"):
        _refuse_foreign(out, marks, overwrite)
        with folder_aside(out, replace=True) as aside:
            yield aside


def _refuse_foreign(out: Path, marks: Sequence[str], overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise CohortError("is a file, not a folder", where=out, fix="choose another --out")
    if not any(out.iterdir()):
        return
    is_ours = all((out / mark).is_file() for mark in marks)
    if not overwrite:
        fix = "choose a new folder" + (", or --set overwrite=true" if is_ours else "")
        raise CohortError("the folder is not empty", where=out, fix=fix)
    if not is_ours:
        raise CohortError(
            "only an earlier simulated cohort is overwritten, and this is none",
            where=out,
            fix="choose a new folder, or empty this one by hand",
        )
