"""Records of genotypes: one fileset holds many people, so its own list says who has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import CohortError, RecordError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.cohort.records import Records
from medmcl.data.cohort.spec import ModalitySpec
from medmcl.modalities.genetics.files import files_of, individual_of, open_fileset


def keep_genotyped(spec: ModalitySpec, records: Records) -> Records:
    """Leave out subjects whom the files do not hold, in the order of the files.

    Subjects without genotypes and people of the files without a subject are counted.

    Args:
        spec: The modality.
        records: One for each subject, as the tables say.

    Raises:
        CohortError: No path, files that cannot be read, or files that hold no subject at all.
    """
    field = f"modalities.{spec.name}"
    if spec.keys.path is None:
        raise CohortError(
            "genotypes need a path", where=field, expected="path: genotypes.bed",
            fix="name the file that holds everybody",
        )  # fmt: skip
    source: Any = spec.source
    places: list[RecordRef] = list(records.frame["place"])
    order = np.full(len(places), -1, dtype=np.int64)
    start, unread, shown = 0, 0, ""
    for paths, rows in _by_files(places, source.reader, field).items():
        people = _people(places[rows[0]], source, field)
        names = [individual_of(places[row], source.column) for row in rows]
        for row, name in zip(rows, names, strict=True):
            if name in people:
                order[row] = start + people[name]
        start += len(people)
        unread += len(set(people) - set(names))
        shown = shown or f"{Path(paths[0]).name} names {', '.join(list(people)[:3])}"
    if len(places) and (order < 0).all():
        raise CohortError(
            "the files hold no subject of the cohort",
            where=field,
            got=f"subjects such as {individual_of(places[0], source.column)!r}; {shown}",
            fix="say with column: which column names people as the files do, or individual: "
            "fid_iid (PLINK)",
        )
    findings = _left_out(field, int((order < 0).sum()), unread)
    kept = records.keep(order >= 0, *findings)
    sequence = np.argsort(order[order >= 0], kind="stable")
    return replace(kept, frame=kept.frame.iloc[sequence], table=kept.table.iloc[sequence])


def _by_files(places: list[RecordRef], reader: Any, field: str) -> dict[tuple[str, ...], list[int]]:
    """Rows of the places by the files they lie in."""
    found: dict[tuple[str, ...], list[int]] = {}
    for row, place in enumerate(places):
        try:
            files = files_of(reader, place.paths)
        except RecordError as error:
            raise _of_cohort(error, field) from None
        found.setdefault(tuple(map(str, files.values())), []).append(row)
    return found


def _people(place: RecordRef, source: Any, field: str) -> dict[str, int]:
    try:
        return open_fileset(source.reader, place.paths, source.individual).individuals
    except RecordError as error:
        raise _of_cohort(error, field) from None


def _of_cohort(error: RecordError, field: str) -> CohortError:
    where = field if error.where is None else f"{field}, {error.where}"
    return error.again(CohortError, where=where)


def _left_out(field: str, absent: int, unread: int) -> list[Finding]:
    said = []
    if absent:
        said.append(f"{counted(absent, 'subject')} whom the files do not hold: without genotypes")
    if unread:
        people = counted(unread, "person", "people")
        said.append(f"{people} of the files who are no subject in a split: not read")
    return [
        cohort_warning(
            "cohort.left_out", field, what, "nothing, if that is meant; otherwise compare the ids"
        )
        for what in said
    ]
