"""What a command writes: never over what is there, unless it was told to."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.atomic import file_aside, is_content, write_atomically
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json
from medmcl.core.sealed import file_digest, reading
from medmcl.data.cohort.locate import tables_of
from medmcl.data.tables.spreadsheet import shielded_table

if TYPE_CHECKING:
    import pandas as pd

    from medmcl.data.cohort.cohort import Cohort

TABLES = (".parquet", ".csv", ".tsv")
"""Suffixes of tables that can be written."""
PROVENANCE = "medmcl"
"""Key of a table's ``attrs``, and so of the metadata of its parquet file."""
REPORT = ("report.html", "appendix.html", "report.json", "results.csv")
_SUFFIXES = (".csv", ".html", ".json", ".md")
"""Of all files of a report but its record, which an evaluation that was refused leaves."""
_SHOWN = 5
ROWS_AT_ONCE = 2**12
"""Rows of parquet that are held until they are written."""


def claim_report_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a report already, a whole run, or files that one could be of.

    A report takes many names (``training.csv``, ``findings.csv``, …), and takes away what an
    earlier one wrote: tables of the user's that lie there would be lost.

    Raises:
        ArtefactError: Names what is there. A run's own report cannot be overwritten.
    """
    if (folder / "config.yaml").exists():
        raise ArtefactError(
            "is a run folder; its own report stays", where=folder, fix="another --out"
        )
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    there = [one.name for one in found if one.suffix in _SUFFIXES and is_content(one)]
    if there and not overwrite:
        is_report = not {*there}.isdisjoint(REPORT)
        what = "a report already" if is_report else "files, of which a report may take the names"
        raise ArtefactError(
            f"the folder holds {what}",
            where=folder,
            got=", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else ""),
            fix="another --out, or --overwrite",
        )


def claim_names(folder: Path, names: Iterable[str], what: str, *, overwrite: bool,
                fix: str = "another --out, or --overwrite") -> None:  # fmt: skip
    """Refuse a folder that holds files of some names already."""
    there = [name for name in names if (folder / name).exists()]
    if there and not overwrite:
        raise ArtefactError(
            f"the folder holds {what} already", where=folder, got=", ".join(there), fix=fix
        )


def claim_file(path: Path, *, overwrite: bool, option: str = "--out") -> None:
    """Refuse a file that is there already, and a folder in its place."""
    if path.is_dir():
        raise ArtefactError("is a folder, not a file", where=path, fix="name a file")
    if path.exists() and not overwrite:
        raise ArtefactError(
            "the file is there already", where=path, fix=f"another {option}, or --overwrite"
        )


def claim_table(path: Path, *, overwrite: bool, option: str = "--out") -> None:
    """Refuse a table whose suffix says no format that is known, or that is there already."""
    if path.suffix.lower() not in TABLES:
        raise ArtefactError(
            "the suffix says no table that can be written",
            where=path,
            got=path.suffix or "no suffix",
            expected=", ".join(TABLES),
            fix=f"{option} {path.with_suffix(TABLES[0])}",
        )
    claim_file(path, overwrite=overwrite, option=option)


def refuse_input(path: Path, cohort: Cohort | str | Path, overrides: Mapping[str, Any]) -> None:
    """Refuse to write over cohort.yaml, or a table that it names.

    Args:
        path: What is to be written.
        cohort: An open cohort, or where it is.
        overrides: Dotted key to value, as ``--set``; of one that is not open.

    Raises:
        ArtefactError: The cohort is read from this file.
    """
    if not isinstance(cohort, str | Path):
        cohort, overrides = cohort.path, {"data_root": cohort.root}
    if path.exists() and any(path.samefile(one) for one in tables_of(cohort, overrides)):
        raise ArtefactError(
            "the cohort is read from this file", where=path, fix="name another file to write"
        )


def write_table(table: pd.DataFrame | Iterable[pd.DataFrame], path: Path) -> None:
    """Write a table atomically in the format of its suffix (`TABLES`), the index as columns.

    Text that a spreadsheet would take for a formula stands after an apostrophe in .csv and .tsv.
    What a table of embeddings says of itself, which text cannot hold, stands in a file beside it.

    Args:
        table: All of it; or piece by piece, each of `ROWS_AT_ONCE` rows but for the last.
        path: Where.
    """
    import pandas as pd

    parts = [table] if isinstance(table, pd.DataFrame) else table
    said: Mapping[Hashable, Any] = {}
    with file_aside(path) as aside:
        if path.suffix.lower() == ".parquet":
            _write_parquet(parts, aside)
            return
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        with aside.open("w", encoding="utf-8", newline="") as file:
            for number, part in enumerate(parts):
                said, cells = part.attrs, shielded_table(part.reset_index())
                cells.to_csv(file, index=False, header=not number, sep=separator)
        if PROVENANCE in said:
            beside = {"of": file_digest(aside), PROVENANCE: said[PROVENANCE]}
            write_atomically(_beside(path), json.dumps(beside, indent=1, default=str))


def _write_parquet(parts: Iterable[pd.DataFrame], path: Path) -> None:
    """Write pieces of a table, with what it says of itself, as pandas writes the whole of it."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    from medmcl.data.tables.mapped import let_go

    with ExitStack() as closing:
        writer = None
        for part in parts:
            let_go()  # what was held while it was made
            frame = part.reset_index()
            if writer is not None:
                frame.attrs = {}  # pandas copies them with each column
            cells = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
            if writer is None:
                said = {"PANDAS_ATTRS": json.dumps(part.attrs)} if part.attrs else {}
                schema = cells.schema.with_metadata({**cells.schema.metadata, **said})
                repeat = [one.name for one in schema if not pa.types.is_float32(one.type)]
                writer = closing.enter_context(ParquetWriter(path, schema, use_dictionary=repeat))
            writer.write_table(cells, ROWS_AT_ONCE)
            del part, frame, cells  # before the next is made
            let_go()


def said_beside(path: Path) -> dict[str, Any]:
    """Give what stands beside a text table of embeddings; nothing where nothing does.

    Raises:
        ArtefactError: It is damaged, or the table is another now.
    """
    beside = _beside(path)
    if not (beside.exists() and path.is_file()):
        return {}
    with reading(beside):
        said = parse_json(beside.read_bytes())
        if said["of"] != file_digest(path):
            raise ArtefactError(f"is not of {path.name} as it is now", where=beside)
        return dict(said[PROVENANCE])


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{PROVENANCE}.json")
