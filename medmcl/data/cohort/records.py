"""The records of one modality: who has them, when, and where they lie."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core import members
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.cohort.pairing import Candidates
from medmcl.data.cohort.places import PlaceArray, TableRows
from medmcl.data.cohort.spec import ModalitySpec
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.spellings import other_spellings
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import Table, dates, missing_column, texts
from medmcl.data.tables.lost_zeros import refuse_lost_zeros
from medmcl.data.tables.mapped import leave
from medmcl.data.tables.subject_rows import SubjectTable, VaryingError
from medmcl.modalities import packed_readers

MOST_NAMED = 20
"""Missing columns that a message names; the others are counted."""
_FIRST_LETTERS = re.compile(r"\.\d+")
"""``{id:.2}``: the first two letters, of a number its first two digits."""
_WHOLE = re.compile(r"0?\d*d")
"""``{id:05d}``: a whole number, with leading zeros."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """All records of one modality.

    Attributes:
        frame: Indexed by record id: ``subject``, ``date`` (NaT where unknown), ``place``.
        table: The same rows: columns of its table, with those of the subject beside.
        has_ids: Whether its table names records.
        has_dates: Whether its table has dates.
        findings: What was left out, counted.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    has_ids: bool
    has_dates: bool
    findings: tuple[Finding, ...] = ()

    @property
    def candidates(self) -> Candidates:
        """The records as pairing reads them."""
        return Candidates(
            subject=self.frame["subject"].to_numpy(object),
            record=self.frame.index.to_numpy(object),
            date=self.frame["date"].to_numpy("M8[ns]"),
            has_ids=self.has_ids,
            has_dates=self.has_dates,
        )

    def keep(self, rows: np.ndarray, *findings: Finding) -> Records:
        """Give some of the rows, and say what became of the others."""
        return Records(
            frame=self.frame[rows],
            table=self.table[rows],
            has_ids=self.has_ids,
            has_dates=self.has_dates,
            findings=(*self.findings, *findings),
        )


def load_records(
    spec: ModalitySpec, own: Table | None, subjects: SubjectTable, root: Path, maps: Mapping,
    roots: tuple[str, ...] = (),
) -> Records:  # fmt: skip
    """List the records of a modality.

    Args:
        spec: The modality.
        own: Its own table; None = the subjects table, one record a subject.
        subjects: The subjects that are in a split.
        root: Folder that path templates start from.
        maps: Maps that the ``present`` expression may read.
        roots: See `RecordRef`.

    Raises:
        CohortError: A column is missing, record ids are missing or stand twice.
    """
    field = f"modalities.{spec.name}"
    findings: list[Finding] = []
    if own is None:
        table, owner = subjects.frame, subjects.frame.index.to_numpy(object)
        try:
            _require_agreeing(spec, subjects, field)
        except VaryingError as error:
            findings.append(error.finding())
            table = subjects.all_columns
        table = table.reset_index(drop=True)
        where = subjects.where
    else:
        table, owner = own_rows(spec, own, subjects, field, findings)
        where = own.where
    require_columns(spec, table, f"{field}, table {where}")
    ids = _record_ids(spec, table, owner, f"{field}, table {where}")
    has = present(spec, table, maps, field, findings, owner)
    if not has.all():
        table, owner, ids = table[has], owner[has], ids[has]
    when = np.broadcast_to(np.datetime64("NaT", "ns"), len(table))  # one for all
    if spec.keys.date is not None:
        when = dates(table[spec.keys.date], f"{field}.date, table {where}").to_numpy("M8[ns]")
    templates = path_templates(spec)
    paths = partial(_paths, spec, root, templates)
    rows = TableRows(table, _named_columns(spec), owner, ids, paths, roots)
    places = PlaceArray(rows, np.arange(len(table), dtype=np.int32))
    if own is None and ids is owner and has.all():
        index = subjects.frame.index.rename("record")  # one table of hashes for both
    else:
        index = pd.Index(ids, dtype=object, name="record", copy=False)
    frame = pd.DataFrame(
        {
            "subject": pd.Series(owner, index, dtype=object, copy=False),
            "date": when,
            "place": PlaceArray.of(list(places)) if templates else places,
        },
        index=index,
        copy=False,
    )
    table = table.set_axis(frame.index, axis=0)
    return Records(
        frame=frame,
        table=table,
        has_ids=spec.keys.record is not None,
        has_dates=spec.keys.date is not None,
        findings=tuple(findings),
    )


def refuse_packed(spec: ModalitySpec, records: Records) -> None:
    """Refuse records in shards that their reader cannot read there; the first one tells.

    Raises:
        CohortError: A path leads into a tar archive, and the reader needs files of their own.
    """
    if spec.reader in spec.traits.packed or not len(records.frame):
        return
    for path in records.frame["place"].iloc[0].paths.values():
        if members.split(path) is not None:
            raise CohortError(
                f"the reader {spec.reader} reads no files inside of a tar",
                where=f"modalities.{spec.name}.path",
                got=path,
                expected=f"one of the readers {', '.join(packed_readers())}",
                fix="unpack the shards, and name the files: path: FOLDER/{key}...",
            )


def path_templates(spec: ModalitySpec) -> dict[str, str]:
    """Give the path templates of a modality by the name of the file."""
    path = spec.keys.path
    if path is None:
        return {}
    return {"path": path} if isinstance(path, str) else path


def path_columns(spec: ModalitySpec) -> list[str]:
    """Give the columns that the paths of a modality name.

    Raises:
        CohortError: Braces that do not close.
    """
    where, found = f"modalities.{spec.name}.path", []
    for template in path_templates(spec).values():
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise CohortError(
                f"is not a path template: {error}", where=where, got=template, expected="ecg/{id}"
            ) from None
        found += [name for _, name, _, _ in parts if name is not None]
    return found


def _named_columns(spec: ModalitySpec) -> list[str]:
    keys = spec.keys
    own = [name for name in (keys.date, keys.record) if name is not None]
    return list(dict.fromkeys([*own, *spec.source_columns, *path_columns(spec)]))


def _require_agreeing(spec: ModalitySpec, subjects: SubjectTable, field: str) -> None:
    present = spec.keys.present
    known = pd.Index([*subjects.frame.columns, *subjects.varying])
    read = columns_of(present, known, f"{field}.present") if present else []
    varying = [name for name in [*_named_columns(spec), *read] if name in subjects.varying]
    mine = (
        f"keep one row of each subject; or, where {field} has several records of somebody, give "
        f"it a table of its own: `table: {subjects.where}`, `id:` and `record:`"
    )
    subjects.require(varying, field, mine)


def own_rows(
    spec: ModalitySpec,
    own: Table,
    subjects: SubjectTable,
    field: str,
    findings: list[Finding],
    beside: Collection[str] | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of the modality's own table whose subject is known, with the subject's columns.

    ``beside``: those of the subject's columns that are read; all if not given.
    """
    column = spec.keys.id or subjects.id
    owner = texts(own.require(column, f"{field}.id"))
    known = np.array([one in subjects.frame.index for one in owner], dtype=bool)
    if not known.all():
        lost = (~known).sum()
        findings.append(
            _left_out(
                field,
                f"{lost} of {counted(len(owner), 'record')} without a subject in a split"
                f" (for example {next(iter(owner[~known]))!r})",
            )
        )
    refuse_lost_zeros(owner, subjects.frame.index, f"{field}, table {own.where}, column {column}")
    if len(known) and not known.any():
        raise CohortError(
            "no record belongs to a subject of the subjects table",
            where=f"{field}, table {own.where}, column {column}",
            got=f"for example {owner[0]!r}",
            expected=f"for example {next(iter(subjects.frame.index), None)!r}",
            fix=f"name the column with the subject id: {field}.id",
        )
    table = own.frame[known].reset_index(drop=True)
    owner = owner[known]
    extra = [name for name in subjects.frame.columns
             if name not in table.columns and (beside is None or name in beside)]  # fmt: skip
    added = subjects.frame.loc[owner, extra].reset_index(drop=True)
    return pd.concat([table, added], axis=1), owner


def require_columns(spec: ModalitySpec, table: pd.DataFrame, where: str) -> None:
    """Refuse a modality that names columns which are not there, all at once."""
    missing = [name for name in _named_columns(spec) if name not in table.columns]
    faults = [missing_column(name, list(table.columns), where) for name in missing[:MOST_NAMED]]
    are_cells = spec.traits.tabular and set(missing) <= set(spec.cell_columns)
    fix = (
        "correct the name in cohort.yaml, or rename the column in the table; names are "
        "case-sensitive; only if it was not measured, add an empty column of that name to it: "
        "everybody is then without it"
    )
    if len(missing) == 1:
        fault = faults[0]
        raise fault.again(CohortError, fix=fix if are_cells else fault.fix)
    if faults:
        what = "\n".join(fault.what for fault in faults)
        if len(missing) > MOST_NAMED:
            what += f"\nand {len(missing) - MOST_NAMED:,} more columns are not there"
        raise CohortError(what, where=where, fix=fix if are_cells else faults[0].fix)


def _record_ids(
    spec: ModalitySpec, table: pd.DataFrame, owner: np.ndarray, where: str
) -> np.ndarray:
    column = spec.keys.record
    ids = owner if column is None else texts(table[column])
    if any(one is None for one in ids):
        raise CohortError(f"column '{column}' has rows without a record id", where=where)
    twice = pd.Series(ids, dtype=object)
    twice = twice[twice.duplicated()]
    if len(twice):
        raise CohortError(
            f"{counted(len(twice), 'record id')} more than once",
            where=where,
            got=twice.iloc[0],
            fix="name a column that is unique: record: COLUMN"
            if column is None
            else "give each record an id of its own",
        )
    return ids


def present(
    spec: ModalitySpec,
    table: pd.DataFrame,
    maps: Mapping,
    field: str,
    findings: list[Finding],
    owner: np.ndarray,
) -> np.ndarray:
    """Rows that have the modality, by its expression and by the cells it needs. (N,) bool.

    ``owner`` is the subject of each row, for messages. (N,) object.
    """
    has = np.ones(len(table), bool)
    if spec.keys.present is not None:
        said = evaluate(
            spec.keys.present, table, maps, f"{field}.present", lambda row: f"subject {owner[row]}"
        )
        truth = said.data.astype(bool)
        has = said.known & truth
        findings += [
            cohort_warning("cohort.two_spellings", f"{field}.present", what, fix)
            for what, fix in other_spellings(spec.keys.present, table)
        ]
        if not said.known.all():
            unknown = (~said.known).sum()
            findings.append(
                _left_out(field, f"{counted(unknown, 'row')} of which `present` is unknown")
            )
    if spec.cell_columns:
        some = np.zeros(len(table), bool)
        for name in spec.cell_columns:
            some |= table[name].notna().to_numpy()
            leave()
        has &= some
    for name in dict.fromkeys([*spec.needed_columns, *path_columns(spec)]):
        has &= table[name].notna().to_numpy()
    return has


def _paths(
    spec: ModalitySpec, root: Path, templates: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, Path]:
    where = f"modalities.{spec.name}.path"
    return {name: root / fill_template(one, values, where) for name, one in templates.items()}


def fill_template(template: str, values: Mapping[str, Any], where: str) -> str:
    """Write a path template for one record.

    Text of digits counts as a number where it is written as one: ``{id:d}`` of 00012 is 12.

    Raises:
        CohortError: A cell cannot be written in the form asked for.
    """
    parts = []
    for literal, name, form, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        cell = values[name]
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)
        if isinstance(cell, int) and _FIRST_LETTERS.fullmatch(form or ""):
            cell = str(cell)
        if isinstance(cell, str) and _WHOLE.fullmatch(form or "") and cell.isdecimal():
            cell = int(cell)
        try:
            parts.append(format(cell, form or ""))
        except (ValueError, TypeError) as error:
            raise CohortError(
                f"cannot write {cell!r} of column '{name}' as '{form}': {error}",
                where=where,
                got=template,
                fix=f"write {{{name}}} as it stands, or a form that fits: {{{name}:05d}} of whole "
                f"numbers, {{{name}:.2}} for first letters",
            ) from None
    return "".join(parts)


def _left_out(field: str, what: str) -> Finding:
    return cohort_warning(
        "cohort.left_out",
        field,
        f"{what}: left out",
        "nothing, if that is meant; otherwise complete the tables",
    )


WIDEST = 12
"""Digits up to which leading zeros are tried."""


def padded_path(
    template: str, values: Mapping[str, Any], find: Callable[[str], Path | None]
) -> tuple[str, Path] | None:
    """Give a template whose file is there, and that file; None if no leading zeros help.

    Args:
        template: Path template over columns of which the file is not there: ``ecg/{id}.hea``.
        values: The columns of one record.
        find: Gives the file of a path, as the template writes it, if it is there.

    Returns:
        ``ecg/{id:05d}.hea`` where files are called 00012, ``ecg/{id:d}.hea`` where they are 12.
    """
    for other in _padded(template):
        try:
            path = find(fill_template(other, values, "path"))
        except CohortError:  # a column that holds no whole numbers
            continue
        if path is not None:
            return other, path
    return None


def _padded(template: str) -> Iterator[str]:
    """The template with one column at a time written with other leading zeros."""
    parts = [(text, name, form or "") for text, name, form, _ in string.Formatter().parse(template)]
    columns = [name for _, name, form in parts if name is not None and form[-1:] in ("", "d")]
    for column in dict.fromkeys(columns):
        for width in range(1, WIDEST + 1):
            new = "d" if width == 1 else f"0{width}d"
            yield _written(
                [(text, name, new if name == column else form) for text, name, form in parts]
            )


def _written(parts: list[tuple[str, str | None, str]]) -> str:
    whole = ""
    for text, name, form in parts:
        whole += text.replace("{", "{{").replace("}", "}}")
        if name is not None:
            whole += f"{{{name}:{form}}}" if form else f"{{{name}}}"
    return whole
