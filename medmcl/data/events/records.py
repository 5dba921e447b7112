"""Records of coded events: a table with a row an event, gathered into one record a subject.

Events after the index date of a subject are left out and counted. Days count back from the index
date, or from a subject's last event where the cohort has none.

The limits are those of `medmcl cooccur count`: it leaves out, keeps and counts the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.cohort.index_date import index_dates, left_out_findings
from medmcl.data.cohort.records import Records, SubjectTable, own_rows, present, require_columns
from medmcl.data.cohort.spec import IndexKeys, ModalitySpec
from medmcl.data.events.events import LONGEST_CODE
from medmcl.data.events.meds import check_schema, meds_of
from medmcl.data.events.spelling import spelt_twice, told
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import YEARS, Table, event_dates, texts
from medmcl.modalities.codes.adapter import UNDATED


def usable_events(
    name: str, codes: np.ndarray, chosen: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, list[Finding]]:
    """Say which rows are events, (n,) bool, and tell of those that are left out.

    Args:
        name: The modality.
        codes: Code of each row, None where the cell is empty, (n,) object.
        chosen: Rows that the cohort asks for, (n,) bool; none of them without a code.
        far: Rows whose date stands for none (year 1, year 9999), (n,) bool.

    Raises:
        CohortError: Every code is longer than any code.
    """
    empty = np.array([code is None for code in codes], dtype=bool)
    long = chosen & np.array([len(code or "") > LONGEST_CODE for code in codes], dtype=bool)
    if long.any() and long.sum() == chosen.sum():
        raise CohortError(
            f"every code is longer than {LONGEST_CODE:,} characters",
            where=f"modalities.{name}",
            got=repr(codes[long][0][:40]) + "...",
            fix="name the column that holds codes, not texts: column: COLUMN",
        )
    found = [
        _told(
            name, "no_code", empty, "without a code: left out",
            "nothing, if a row without a code is no event",
        ),
        _told(
            name, "long", long, f"with a code longer than {LONGEST_CODE:,} characters: left out",
            "name the column that holds codes, not texts",
        ),
        _told(
            name, "date", far & chosen, f"dated outside {YEARS[0]} to {YEARS[1]}: left out",
            "leave the date empty where nothing is known; such an event counts as undated",
        ),
    ]  # fmt: skip
    return chosen & ~long & ~far, [one for many in found for one in many]


def undated_events(name: str, events: pd.DataFrame) -> list[Finding]:
    """Tell of events without a date, which are kept."""
    return _told(
        name, "undated", events["date"].isna().to_numpy(), "without a date: read before all others",
        "nothing, if that is meant (MEDS writes what does not change so)",
    )  # fmt: skip


def repeated_events(name: str, events: pd.DataFrame) -> list[Finding]:
    """Tell of events that equal another in subject, time and code, which are kept."""
    return _told(
        name, "repeated", events.duplicated(["subject", "date", "code"]).to_numpy(),
        "equal to another in subject, time and code: kept",
        f"--set inputs.{name}.repeats=day reads a code once a day",
    )  # fmt: skip


def spelt_findings(name: str, events: pd.DataFrame) -> list[Finding]:
    """Tell of codes that are written in two ways, as of hospitals with and without dots."""
    meant = spelt_twice(events["code"].value_counts().index)
    return _told(
        name, "spelling", events["code"].isin(meant).to_numpy(),
        f"with a code that others have in another spelling, read as another code: {told(meant)}",
        "write each code in one way, if these are the same",
    )  # fmt: skip


def _told(name: str, code: str, rows: np.ndarray, what: str, fix: str) -> list[Finding]:
    """Give a warning of the rows, if there are any."""
    if not rows.any():
        return []
    return [
        cohort_warning(
            f"codes.{code}",
            f"modalities.{name}",
            f"{counted(int(rows.sum()), 'event')} {what}",
            fix,
        )
    ]


_MEDS = {"id": "subject_id", "date": "time"}
_NO_MEDS = (
    "say reader: events, with id:, date: and column:, which reads any table with a row an event; "
    "or convert it with `medmcl cooccur to-meds`"
)


def load_events(
    spec: ModalitySpec,
    own: Table | None,
    subjects: SubjectTable,
    maps: Mapping,
    index: IndexKeys | None,
) -> Records:
    """Gather the events of each subject, oldest first, undated ones before all others.

    Args:
        spec: The modality; its ``present`` expression chooses events.
        own: Its table, a row an event.
        subjects: The subjects that are in a split.
        maps: Maps that the expression may read.
        index: The index date of the cohort.

    Raises:
        CohortError: There is no table or column, no event has a code, or the index is the date of
            a modality.
    """
    field = f"modalities.{spec.name}"
    if own is None:
        raise CohortError(
            "events need a table of their own, a row an event",
            where=field,
            fix="table: events.parquet (or a glob: meds/data/*.parquet)",
        )
    if index is not None and index.modality is not None:
        raise CohortError(
            "events cannot be cut at the date of another modality's record",
            where=field,
            got=f"index: {{modality: {index.modality}}}",
            fix="index: {column: COLUMN}, a date in the subjects table",
        )
    spec = named_as_meds(spec)
    if index is not None and spec.keys.date is None:
        raise CohortError(
            "events without dates cannot be cut at the index date",
            where=field,
            expected="the column with the date: date: COLUMN",
            fix="name it, or take index: out and leave out late events yourself",
        )
    findings: list[Finding] = []
    asked, known = spec.keys.present, subjects.frame.columns
    beside = columns_of(asked, known, f"{field}.present") if asked else []
    named = [*spec.source_columns, *([spec.keys.date] if spec.keys.date else [])]
    table, owner = own_rows(spec, own, subjects, field, findings, {*beside, *named})
    require_columns(spec, table, f"{field}, table {own.where}")
    chosen = present(spec, table, maps, field, findings, owner)
    codes = texts(table[spec.source.model_dump()["column"]])
    when = np.full(len(table), np.datetime64("NaT"), dtype="M8[ns]")
    far = np.zeros(len(table), dtype=bool)
    if spec.keys.date is not None:
        parsed, far = event_dates(table[spec.keys.date], f"{field}.date, table {own.where}")
        when = parsed.to_numpy("M8[ns]")
    usable, said = usable_events(spec.name, codes, chosen, far)
    findings += said
    events = pd.DataFrame({"subject": owner, "code": codes, "date": when})[usable]
    start = pd.Series(np.datetime64("NaT"), index=subjects.frame.index, dtype="M8[ns]")
    has_dates = spec.keys.date is not None
    if index is not None and index.column is not None:
        start = index_dates(subjects, index.column).astype("M8[ns]")
        events, left_out = _before(spec.name, events, start)
        findings += left_out
    elif has_dates:
        findings += undated_events(spec.name, events)
    findings += repeated_events(spec.name, events)
    findings += spelt_findings(spec.name, events)
    events = _rolled_up(spec, events, own.files)
    return _gathered(events, start, has_dates=has_dates, findings=findings)


def code_columns(modalities: Iterable[ModalitySpec], pattern: str) -> tuple[str, ...]:
    """Give the columns of a table that hold codes of some modality, and stay text."""
    ours = [m for m in modalities if m.traits.records_from == "events" and m.keys.table == pattern]
    return tuple(m.source.model_dump()["column"] for m in ours)


def check_shards(spec: ModalitySpec, files: Sequence[Path]) -> None:
    """Refuse parquet files that are called MEDS and have other columns or types.

    Order and contiguity do not matter here: rows are gathered by subject.

    Raises:
        CohortError: A column is missing or of another type.
    """
    if spec.source.model_dump()["reader"] != "meds" or spec.keys.id or spec.keys.date:
        return
    for path in files:
        if path.suffix == ".parquet":
            check_schema(path, fix=_NO_MEDS)


def _rolled_up(spec: ModalitySpec, events: pd.DataFrame, files: Sequence[Path]) -> pd.DataFrame:
    """Put the parents of a code in its place, one event each; a code without parents stays."""
    asked = spec.source.model_dump()["roll_up"]
    if asked is False:
        return events
    parents = meds_of(files).parents("" if asked is True else asked)
    found = pd.Series([parents.get(c, (c,)) for c in events["code"]], events.index, dtype=object)
    return events.assign(code=found).explode("code")


def named_as_meds(spec: ModalitySpec) -> ModalitySpec:
    """Give a modality its columns: where it reads MEDS and says nothing else, those of MEDS."""
    if spec.source.model_dump()["reader"] != "meds":
        return spec
    named = {key: getattr(spec.keys, key) or name for key, name in _MEDS.items()}
    return replace(spec, keys=spec.keys.model_copy(update=named))


def _before(
    name: str, events: pd.DataFrame, start: pd.Series
) -> tuple[pd.DataFrame, list[Finding]]:
    """Leave out events dated after the index date of their subject.

    Days are compared where the index dates are days: an event of that day stays. Where any has a
    time of day, times are: what happened later on that day is left out.
    """
    given = start.to_numpy("M8[ns]")
    known = given[~np.isnat(given)]
    unit = "M8[D]" if (known == known.astype("M8[D]")).all() else "M8[ns]"
    ours = start.reindex(events["subject"]).to_numpy(unit)
    late = events["date"].to_numpy(unit) > ours
    undated = int(events["date"].isna().sum())
    return events[~late], left_out_findings(name, events["subject"][late], undated, "event")


def _gathered(
    events: pd.DataFrame, start: pd.Series, *, has_dates: bool, findings: list[Finding]
) -> Records:
    order = events.sort_values("date", kind="stable", na_position="first")
    owner, people = pd.factorize(order["subject"], sort=True)
    order = order.iloc[np.argsort(owner, kind="stable")]
    ends = np.cumsum(np.bincount(owner, minlength=len(people)))
    begins = np.concatenate([[0], ends[:-1]]).astype(int)
    codes = order["code"].to_numpy(object)
    stamps = order["date"].to_numpy("M8[D]")
    last = np.full(len(people), np.datetime64("NaT"), dtype="M8[D]")
    if len(people):
        last = stamps[ends - 1]
    reference = start.reindex(people).to_numpy("M8[D]")
    reference = np.where(np.isnat(reference), last, reference)
    places = np.empty(len(people), dtype=object)
    for number, subject in enumerate(people):
        rows = slice(begins[number], ends[number])
        back = (reference[number] - stamps[rows]).astype("m8[D]")
        days = np.where(np.isnat(back), UNDATED, back.astype(np.int64))
        values = {"codes": codes[rows].tolist(), "days": days.tolist()}
        places[number] = RecordRef(subject=subject, record=subject, values=values)
    ids = pd.Index(people, dtype=object, name="record")
    frame = pd.DataFrame(
        {
            "subject": np.asarray(people, dtype=object),
            "date": last.astype("M8[ns]"),
            "place": places,
        },
        index=ids,
    )
    return Records(
        frame=frame,
        table=frame[["subject", "date"]],
        has_ids=False,
        has_dates=has_dates,
        findings=tuple(findings),
    )
