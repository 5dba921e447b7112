"""Parquet files of rows of one cohort, with what they are and whose in their metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.atomic import file_aside
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json
from medmcl.core.sealed import reading

if TYPE_CHECKING:
    import pyarrow as pa

_MARK = b"medmcl"


def write_rows(
    path: Path, columns: Mapping[str, Any], about: Mapping[str, Any], page: Path | None = None
) -> None:
    """Write columns with ``about`` (JSON values) in the metadata; ``page`` as of `file_aside`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    marked = {_MARK: json.dumps(dict(about)).encode()}
    table = pa.table(dict(columns)).replace_schema_metadata(marked)
    with file_aside(path, page=page) as aside:
        pq.write_table(table, aside)


def read_rows(
    path: Path | str,
    schema: str,
    what: str,
    columns: tuple[str, ...],
    cohort: str | None,
    fix: str | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Read what `write_rows` wrote.

    Args:
        path: The file.
        schema: That ``about`` must name.
        what: What an error calls such a file.
        columns: That it must have.
        cohort: Fingerprint of the cohort that it must be of; any if None.
        fix: How to make one of what is none.

    Raises:
        ArtefactError: It is missing, damaged, of another kind, or of another cohort.
    """
    import pyarrow.parquet as pq

    with reading(Path(path), f"is not a readable {what}", fix=fix):
        table = pq.read_table(path)
        if _MARK not in (table.schema.metadata or {}):
            raise ArtefactError(
                f"is not a readable {what}: it lacks what medmcl writes beside the rows",
                where=path,
                fix=fix
                or "cut such a file with pyarrow, whose tables keep metadata, not with pandas",
            )
        about = dict(parse_json((table.schema.metadata or {})[_MARK]))
        found, own = about["schema"], about["cohort"]
        lacks = [name for name in columns if name not in table.column_names]
    if found != schema or lacks:
        raise ArtefactError(f"is no {what}", where=path, got=found, expected=schema, fix=fix)
    if cohort is not None and own != cohort:
        raise ArtefactError(
            "is of another cohort",
            where=path,
            got=f"fingerprint {own}",
            expected=f"fingerprint {cohort}",
        )
    return table, about
