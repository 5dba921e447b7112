"""OMOP CDM 5.4 and Synthea's CSV export as tables of events.

OMOP: https://ohdsi.github.io/CommonDataModel/cdm54.html. Concept 0 means "no matching concept" and
is no code; concepts of notes that the text denies (term_exists N) are left out.

Synthea: https://github.com/synthetichealth/synthea/wiki/CSV-File-Data-Dictionary. Codes get the
prefix of their vocabulary; visits are encounters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medmcl.core.config import lookup
from medmcl.core.errors import CohortError
from medmcl.data.events.tables import EventTable, header_of

_TABLES = {
    "condition_occurrence": ("condition_concept_id", "condition_start_date"),
    "drug_exposure": ("drug_concept_id", "drug_exposure_start_date"),
    "procedure_occurrence": ("procedure_concept_id", "procedure_date"),
    "measurement": ("measurement_concept_id", "measurement_date"),
    "observation": ("observation_concept_id", "observation_date"),
    "device_exposure": ("device_concept_id", "device_exposure_start_date"),
    "note_nlp": ("note_nlp_concept_id", "note_date"),
}
"""Table to its concept and its date."""
PREFIX = "OMOP//"
_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_OF_SYNTHEA = (".csv", ".csv.gz")


def omop_tables(folder: Path, tables: Sequence[str] = ()) -> list[EventTable]:
    """Give the tables of events in a folder with OMOP tables.

    Args:
        folder: Holds a file a table, named like it, in any case.
        tables: Which to read; all that are there if none is named.

    Raises:
        CohortError: A table that is named is not there, or none is.
    """
    names = tables or [name for name in _TABLES if _find(folder, name) is not None]
    if not names:
        raise CohortError(
            "holds no OMOP table", where=folder, expected=f"for example {', '.join(_TABLES)}"
        )
    return [_of_omop(folder, name) for name in names]


def _of_omop(folder: Path, name: str) -> EventTable:
    code, date = lookup("OMOP table", name, _TABLES)
    path = _found(folder, name)
    columns = {"subject": "person_id", "code": code, "time": date, "visit": "visit_occurrence_id"}
    join = None
    drop: dict[str, tuple[str, ...]] = {code: ("0",)}
    there = header_of(path)
    if name == "note_nlp":
        note = _found(folder, "note")
        there += header_of(note)
        join = (note, _cased("note_id", there), _cased("note_id", header_of(note)))
        if "term_exists" in map(str.lower, there):
            drop["term_exists"] = ("N", "n")
    if "visit_occurrence_id" not in map(str.lower, there):
        del columns["visit"]
    return EventTable(
        path=path,
        name=name,
        columns={key: _cased(column, there) for key, column in columns.items()},
        prefix=PREFIX,
        join=join,
        drop={_cased(column, there): values for column, values in drop.items()},
    )


def _cased(name: str, there: Sequence[str]) -> str:
    """Give a column as the file spells it: many exports are in capitals."""
    return next((one for one in there if one.lower() == name), name)


def _find(folder: Path, name: str, suffixes: Sequence[str] = _SUFFIXES) -> Path | None:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.lower() in [name + suffix for suffix in suffixes]:
            return path
    return None


def _found(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        expected = f"{name} as {', '.join(_SUFFIXES)}"
        raise CohortError(f"there is no OMOP table {name}", where=folder, expected=expected)
    return path


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
    names = tables or [name for name in _PREFIXES if _find(folder, name, _OF_SYNTHEA) is not None]
    if not names:
        raise CohortError(
            "holds no table of Synthea's CSV export",
            where=folder,
            expected=", ".join(f"{name}.csv" for name in _PREFIXES),
        )
    return [_of_synthea(folder, name) for name in names]


def _of_synthea(folder: Path, name: str) -> EventTable:
    prefix = lookup("Synthea table", name, _PREFIXES)
    path = _find(folder, name, _OF_SYNTHEA)
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
