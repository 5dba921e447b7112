"""A cohort of one person out of single files, read as a run reads its own records."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.core.config import nearest, refuse_absent, yaml_text
from medmcl.core.contracts import GuessesReader, NamesCells, traits
from medmcl.core.errors import FIND_FILE, CohortError, ConfigError, damage
from medmcl.core.findings import LEAVE_OUT, Finding, first_of
from medmcl.core.path_suggestions import instead_of
from medmcl.data.tables.files import as_text, native, read_table
from medmcl.data.tables.missing_codes import Codes, codes_of, empty_cells, plain
from medmcl.data.tables.spreadsheet import shielded_table
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.modalities import ADAPTERS, tables
from medmcl.modalities.tabular.adapter import read_cell
from medmcl.stages.predict.plan import TaskPlan
from medmcl.stages.run.features import kept_reading
from medmcl.stages.run.run import Run

ID = "person"


def write_person(
    run: Run,
    plans: list[TaskPlan],
    folder: Path,
    records: Mapping[str, Path],
    values: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """Write cohort.yaml and tables of one person.

    Args:
        run: The run.
        plans: What is predicted, and by which method.
        folder: Where to write; removed by the caller, for it is about a person.
        records: Modality to its file; of a table a file of one row.
        values: Column of a table, or of the frames of a cine, to its cell.
        overrides: What will be laid over the cohort.yaml: ``cohort.modalities.ecg.units``.

    Returns:
        The cohort.yaml.

    Raises:
        ConfigError: A modality or column that the run does not read; a kind of which one person has
            no file; nothing is given; what a file cannot say of itself is not said.
        CohortError: A file is not there, or holds several rows.
    """
    known = _known(run, plans)
    for name, path in records.items():
        what = f"the run reads no modality '{name}'"
        refuse_absent(name, known, what, where=f"--record {name}={path}")
    codes = _missing_codes(run, known)
    _refuse_values(values, known, codes)
    if not records and not values:
        raise ConfigError("nothing is given of the person", where="--record",
                          expected=f"--record MODALITY=FILE, of {', '.join(known)}")  # fmt: skip
    subject = _stem(next(iter(records.values()))) if records else ID
    people: dict[str, Any] = {ID: subject}
    modalities: dict[str, Any] = {}
    for name, (kind, source) in known.items():
        columns = source.get("columns", {})
        cells = {column: values[column] for column in columns if column in values}
        if _is_table(kind) and (name in records or cells):
            row = {} if name not in records else _one_row(name, records[name], columns)
            twice = [
                one for one in cells if as_text(native(row.get(one))) not in ("None", cells[one])
            ]
            if twice:
                raise ConfigError(
                    f"'{twice[0]}' is given twice",
                    where=f"--value {twice[0]}={cells[twice[0]]}",
                    got=f"{as_text(row[twice[0]])} in {records[name]}",
                    fix="leave the value out, or correct it in the file",
                )
            table = {ID: subject, **dict.fromkeys(columns), **row, **cells}
            frame = empty_cells(pd.DataFrame([table], dtype=object), codes, (ID,), {})
            shielded_table(frame).to_csv(folder / f"{name}.csv", index=False)
            modalities[name] = {**source, "reader": "table", "table": f"{name}.csv", "id": ID}
        elif name in records:
            _refuse_missing(name, records[name], kind)
            people[f"{name}_file"] = str(records[name].absolute())
            frames = {one: column for one, column in source.get("frames", {}).items()
                      if column in values}  # fmt: skip
            people |= {one: values.get(one) for one in _cells(kind, source)}
            said = {"frames": frames, "first_frame": source.get("first_frame", 0)} if frames else {}
            modalities[name] = {**_of_file(name, kind, source, records[name]), **said}
            _refuse_unsaid(name, modalities[name], records[name], overrides or {})
    for plan in plans:
        name = str(plan.spec.covariates)
        if plan.method in (COVARIATES, BESIDE) and name not in modalities:
            columns = first_of(known[name][1].get("columns", {}))
            raise ConfigError(
                f"'{plan.method}' reads {name}, and nothing of it is given",
                where="--record",
                got=", ".join(modalities),
                fix=f"--value COLUMN=VALUE for what is known of {columns}; or --record {name}=…",
            )
    subjects = shielded_table(pd.DataFrame([people], dtype=object))
    subjects.to_csv(folder / "people.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "roots": ["/"],  # the files are those that the user named
        "subjects": {"table": "people.csv", "id": ID, "split": {"everyone": "held_out"}},
        "modalities": modalities,
    }
    path = folder / "cohort.yaml"
    path.write_text(yaml_text(tree, allow_unicode=True), encoding="utf-8")
    return path


def _cells(kind: str, source: Mapping[str, Any]) -> list[str]:
    """Columns that the run's records of a kind had cells of, beside their files."""
    told = ADAPTERS[kind].Source(**source) if source else None
    return [*told.named_cells()] if isinstance(told, NamesCells) else []


def not_given(run: Run, records: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Columns of which a record of the run needed a cell, and this person has none."""
    columns: list[str] = []
    known = _known(run, [])
    for kind, source in (known[name] for name in records if name in known):
        of_many = traits(ADAPTERS[kind]).of_many
        columns += _cells(kind, {key: one for key, one in source.items() if key not in of_many})
    return [one for one in dict.fromkeys(columns) if one not in values]


def fix_of_person(fix: str) -> str:
    """Say how to fix a record of one person, by what `predict` takes.

    How records are prepared was settled in training: a setting of ``inputs`` cannot be changed
    here, and there is nobody else to go on with.
    """
    fix = fix.replace(LEAVE_OUT, "")
    if fix == FIND_FILE:
        return "correct the path of the file that is given"
    if "inputs." not in fix:
        return fix
    return (
        "give a file of the kind that the run was trained on (the same device, units and range): "
        "predict reads it as the run reads its own, which is settled in training"
    )


def way_out_of_person(run: Run, warning: Finding) -> str:
    """Say by which ``--value`` a frame is named that a warning says was guessed; else nothing."""
    for name, (_, source) in _known(run, []).items():
        for frame, column in source.get("frames", {}).items():
            if f"modalities.{name}.frames: {{{frame}: " in warning.fix:
                first = source.get("first_frame", 0)
                return f"; if you know it: --value {column}=NUMBER (the first frame is {first})"
    return ""


def taken_from_training(
    run: Run, records: Mapping[str, Path], overrides: Mapping[str, Any]
) -> list[str]:
    """Say what a file of numbers cannot say of itself and was taken as of the run's own files."""
    notes = []
    for name, path in records.items():
        kind, source = _known(run, []).get(name, ("", {}))
        adapter = ADAPTERS.get(kind)
        if not isinstance(adapter, GuessesReader) or traits(adapter).records_from != "table":
            continue
        if adapter.reader_of(path) != source.get("reader"):
            continue
        prefix = f"cohort.modalities.{name}"
        unsaid = {
            key: what
            for key, (what, _) in adapter.unsaid({"reader": source["reader"]}, path).items()
            if source.get(key) is not None and f"{prefix}.{key}" not in overrides
        }
        if unsaid:
            taken = ", ".join(f"{key} {source[key]}" for key in unsaid)
            notes.append(
                f"{path.name} does not say {' and '.join(unsaid.values())}: taken as of the run's "
                f"own files ({taken}); if it is another: "
                + " ".join(f"--set {prefix}.{key}={source[key]}" for key in unsaid)
            )
    return notes


def _known(run: Run, plans: list[TaskPlan]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Modality to its kind and how the run reads its files."""
    found = {
        name: (str(entry["kind"]), dict(entry.get("source") or _of_state(entry)))
        for name, entry in run.preprocessing.items()
    }
    for plan in plans:
        name = plan.spec.covariates
        kept = None if name is None else kept_reading(run, name)
        if name is not None and kept is not None and name not in found:
            (kind, *_) = tables()
            found[name] = (kind, dict(kept.get("source") or _of_state({"kind": kind, **kept})))
    return found


def _missing_codes(run: Run, names: Iterable[str]) -> Codes:
    """What stood for a missing cell where the run was trained."""
    kept = [kept_reading(run, name) or {} for name in names]
    for entry in (*run.preprocessing.values(), *kept):
        if "missing" in entry:
            return {column: tuple(some) for column, some in entry["missing"].items()}
    return {}


def _is_table(kind: str) -> bool:
    return traits(ADAPTERS[kind]).tabular


def _of_state(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a table of a run that kept no source."""
    if not _is_table(entry["kind"]):
        return {}
    state = entry["state"]
    return {"columns": {**dict.fromkeys(state["scales"], "number"),
                        **dict.fromkeys(state["levels"], "category")}}  # fmt: skip


def _refuse_values(
    values: Mapping[str, str],
    known: Mapping[str, tuple[str, Mapping[str, Any]]],
    codes: Codes,
) -> None:
    columns: list[str] = []
    numbers: set[str] = set()
    for kind, source in known.values():
        own = source.get("columns", {}) if _is_table(kind) else {}
        numbers |= {column for column, one in own.items() if _kind_of(one) == "number"}
        columns += own or _cells(kind, source)
    for name, value in values.items():
        where = f"--value {name}={value}"
        what, none = f"no record of the run had a column '{name}'", "a run that reads a table"
        refuse_absent(name, columns, what, where=where, none=none)
        is_none = plain(value) in codes_of(name, codes)
        if name in numbers and not is_none and not read_cell(value, "number")[1]:
            raise ConfigError(
                f"'{name}' is a number in training",
                where=where,
                got=value,
                expected=f"a number with a point: --value {name}=63.5",
                fix="leave it out if it is not known",
            )


def _kind_of(column: Any) -> str | None:
    """Kind of a column of a kept source: said alone, or among its other keys."""
    kind = column.get("kind") if isinstance(column, Mapping) else column
    return None if kind is None else str(kind)


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".nii.gz", ".csv.gz", *path.suffixes[-1:]):
        name = name.removesuffix(ending)
    cell = pd.Series([name], name=ID).to_csv(index=False)
    is_gap = pd.read_csv(io.StringIO(cell), dtype="str", skip_blank_lines=False)[ID].isna().any()
    if not is_gap:
        return name
    return path.name if path.name != name else f"record {name}"  # NA.csv, of somebody's initials


def _refuse_missing(name: str, path: Path, kind: str) -> None:
    """Refuse a file that is not there; a WFDB record goes without its ending."""
    if path.is_dir() and not _reads_folders(kind):
        raise CohortError("is a folder, not a file", where=f"--record {name}={path}")
    if not path.exists() and not Path(f"{path}.hea").exists():
        raise CohortError(
            f"there is no such file{instead_of(path)}", where=f"--record {name}={path}"
        )


def _reads_folders(kind: str) -> bool:
    """Whether a folder can be one record: the files of a DICOM series."""
    return ".zip" in traits(ADAPTERS[kind]).endings


def _one_row(name: str, path: Path, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a table of one row.

    Raises:
        CohortError: It has another number of rows, or lacks a column.
    """
    _refuse_missing(name, path, "tabular")
    frame = read_table(path.absolute().parent, path.name).frame
    where = f"--record {name}={path}"
    if len(frame) != 1:
        raise CohortError(
            "holds the rows of several people" if len(frame) else "holds no row",
            where=where,
            got=f"{len(frame)} rows",
            expected="one row",
            fix="many people are a cohort: --cohort",
        )
    missing = [column for column in columns if column not in frame.columns]
    if len(missing) == len(columns) or any(
        nearest(one, map(str, frame.columns)) for one in missing
    ):
        one = missing[0]
        raise CohortError(
            f"there is no column '{one}'{nearest(one, map(str, frame.columns))}",
            where=where,
            got=", ".join(map(str, frame.columns[:20])),
            expected=", ".join(list(columns)[:20]),
            fix="give it as training had it (what its cohort.yaml derived, derived); of what is "
            "not known, an empty column",
        )
    return {column: frame[column].iloc[0] for column in columns if column not in missing}


def _of_file(name: str, kind: str, source: dict[str, Any], path: Path) -> dict[str, Any]:
    """The section of a modality of one file: as the run reads it, unless the ending says otherwise.

    Raises:
        ConfigError: Of this kind one person has no file, or the ending says no reader.
    """
    where = f"--record {name}={path}"
    told_of = traits(ADAPTERS[kind])
    if told_of.records_from != "table":
        raise ConfigError(
            f"records of the kind {kind} are read from tables, not from one file",
            where=where,
            fix="write a cohort.yaml for this person: --cohort",
        )
    reader = _reader(kind, path, source, where)
    keys = {key for key in ADAPTERS[kind].Source.model_fields if key not in told_of.of_many}
    same = reader == source.get("reader")
    told = {key: one for key, one in source.items() if key in keys} if same else {}
    if reader == "nifti" and "axes" not in told:
        told["axes"] = _axes(path, where)
    return {**told, "kind": kind, "reader": reader, "path": f"{{{name}_file}}"}


def _refuse_unsaid(
    name: str, section: Mapping[str, Any], path: Path, overrides: Mapping[str, Any]
) -> None:
    """Refuse a file that cannot say what must be known and nobody says; all of it at once."""
    adapter = ADAPTERS[section["kind"]]
    if not isinstance(adapter, GuessesReader):
        return
    prefix = f"cohort.modalities.{name}"
    said = {key.removeprefix("cohort.") for key, value in overrides.items() if value is not None}
    keys = {one.removeprefix(f"modalities.{name}.") for one in said}
    unsaid = {key: one for key, one in adapter.unsaid(section, path).items() if key not in keys}
    if not unsaid or f"modalities.{name}" in said:
        return
    raise ConfigError(
        f"the file holds numbers alone: {' and '.join(what for what, _ in unsaid.values())} must "
        "be said",
        where=f"--record {name}={path}",
        fix=" ".join(f"--set {prefix}.{key}={example}" for key, (_, example) in unsaid.items())
        + ", with what is true of the file",
    )


def _reader(kind: str, path: Path, source: Mapping[str, Any], where: str) -> str:
    adapter = ADAPTERS[kind]
    if isinstance(adapter, GuessesReader):
        return adapter.reader_of(path)
    endings = traits(adapter).endings
    if not endings:
        return str(source.get("reader"))
    if path.is_dir():
        return endings[".zip"]
    for ending, reader in endings.items():
        if path.name.lower().endswith(ending):
            return reader
    raise ConfigError(
        "the format cannot be told from the ending of the file",
        where=where,
        expected=", ".join(endings),
    )


def _axes(path: Path, where: str) -> str:
    """Axes of a NIfTI file: x, y, z and, of four, time."""
    import nibabel

    with damage(where, "cannot be read", error=CohortError):
        count = len(nibabel.load(path).shape)
    return {2: "xy", 3: "xyz"}.get(count, "xyzt")
