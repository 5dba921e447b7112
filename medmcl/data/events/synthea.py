"""Synthea's CSV export as tables of events.

https://github.com/synthetichealth/synthea/wiki/CSV-File-Data-Dictionary. Codes get the prefix of
their vocabulary; visits are encounters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medmcl.core.config import lookup
from medmcl.core.errors import CohortError
from medmcl.data.events.tables import EventTable, header_of

_PREFIXES = {
    "conditions": "SNOMED//",
    "medications": "RXNORM//",
    "procedures": "SNOMED//",
    "observations": "LOINC//",
    "immunizations": "CVX//",
    "allergies": "SNOMED//",
    "careplans": "SNOMED//",
    "devices": "SNOMED//",
}


def synthea_tables(folder: Path, tables: Sequence[str] = ()) -> list[EventTable]:
    """Give the tables of events in a folder that Synthea wrote (``*.csv`` or ``*.csv.gz``).

    Raises:
        CohortError: A table that is named is not there, or none is.
    """
    names = tables or [name for name in _PREFIXES if _find(folder, name) is not None]
    if not names:
        raise CohortError(
            "holds no table of Synthea's CSV export",
            where=folder,
            expected=", ".join(f"{name}.csv" for name in _PREFIXES),
        )
    return [_event_table(folder, name) for name in names]


def _event_table(folder: Path, name: str) -> EventTable:
    prefix = lookup("Synthea table", name, _PREFIXES)
    path = _find(folder, name)
    if path is None:
        raise CohortError(f"there is no table {name}.csv", where=folder)
    there = header_of(path)
    # Older exports call the time of a procedure DATE, newer ones START.
    time = "DATE" if "DATE" in there else "START"
    columns = {
        "subject": "PATIENT", "time": time, "code": "CODE", "visit": "ENCOUNTER",
        "description": "DESCRIPTION",
    }  # fmt: skip
    if name == "observations":
        columns["value"] = "VALUE"
    return EventTable(path=path, name=name, columns=columns, prefix=prefix)


def _find(folder: Path, name: str) -> Path | None:
    paths = [folder / f"{name}{suffix}" for suffix in (".csv", ".csv.gz")]
    return next((path for path in paths if path.is_file()), None)
