"""What a command writes: never over what is there, unless it was told to."""

from __future__ import annotations

from pathlib import Path

from medmcl.core.errors import ArtefactError

REPORT = ("report.html", "report.json", "results.csv")


def claim_report_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a report already, or a whole run.

    Raises:
        ArtefactError: Names what is there. A run's own report cannot be overwritten.
    """
    if (folder / "config.yaml").exists():
        raise ArtefactError(
            "is a run folder; its own report stays", where=folder, mend="another --out"
        )
    there = [name for name in REPORT if (folder / name).exists()]
    if there and not overwrite:
        raise ArtefactError(
            "the folder holds a report already",
            where=folder,
            got=", ".join(there),
            mend="another --out, or --overwrite",
        )


def claim_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there already, and a folder in its place."""
    if path.is_dir():
        raise ArtefactError("is a folder, not a file", where=path, mend="name a file")
    if path.exists() and not overwrite:
        raise ArtefactError(
            "the file is there already", where=path, mend="another --out, or --overwrite"
        )
