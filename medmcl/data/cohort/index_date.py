"""The index date: inputs dated after it are left out and counted; and modalities without a date.

A modality that names its records may have several of a person, and without dates nothing could
say which belong together or which came before the index date: an error. One with a single record
a person leaves nothing to choose; what is taken for granted of it is said in a warning.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted
from medmcl.data.cohort.records import Records
from medmcl.data.cohort.spec import CohortSpec, IndexKeys, ModalitySpec
from medmcl.data.tables.files import dates
from medmcl.data.tables.subject_rows import SubjectTable


def index_dates(subjects: SubjectTable, column: str) -> pd.Series:
    """Give the index date of each subject.

    Raises:
        CohortError: There is no such column, or its rows differ within a subject, or are no dates.
    """
    on_purpose = "take the date of a record: `index: {modality: NAME}`"
    subjects.require([column], "index.column", on_purpose)
    return dates(subjects.frame[column], "index.column")


def keep_before(name: str, records: Records, subjects: SubjectTable, column: str) -> Records:
    """Leave out records dated after the index date of their subject, of a column of theirs.

    Days are compared, not hours: a record of the index day stays. An undated record stays too, and
    is counted; `medmcl.data.cohort.index_date` speaks of a modality without dates. Where the index
    is the date of a modality, see `index_samples`.
    """
    index = index_dates(subjects, column)
    ours = index.reindex(records.frame["subject"]).to_numpy("M8[D]")
    theirs = records.frame["date"].to_numpy("M8[D]")
    late = theirs > ours  # comparing with NaT gives False
    undated = int(np.isnat(theirs).sum())
    late_of = records.frame["subject"][late]
    return records.keep(~late, *left_out_findings(name, late_of, undated))


def index_samples(
    frame: pd.DataFrame,
    records: Mapping[str, Records],
    subjects: SubjectTable,
    keys: IndexKeys,
) -> tuple[pd.DataFrame, np.ndarray, list[Finding]]:
    """Give each sample its index date.

    Where the index is the date of a modality, records of a sample dated after it are taken out.

    Returns:
        The samples, their index dates (N,) datetime64[ns] with NaT where unknown, and findings.
    """
    findings: list[Finding] = []
    if keys.column is not None:
        index = index_dates(subjects, keys.column)
        given = index.reindex(frame["subject"]).to_numpy("M8[ns]")
    else:
        given = _dates_of(frame[str(keys.modality)], records[str(keys.modality)])
        frame = frame.copy()
        for name, one in records.items():
            late = _dates_of(frame[name], one).astype("M8[D]") > given.astype("M8[D]")
            findings += left_out_findings(name, frame["subject"][late], 0)
            frame.loc[late, name] = None
    without = int(np.isnat(given).sum())
    if without:
        findings.append(
            cohort_warning(
                "index.missing",
                "index",
                f"{counted(without, 'sample')} without an index date: outcomes unknown",
                "complete the column, or nothing if that is meant",
            )
        )
    return frame, given, findings


def _dates_of(ids: pd.Series, records: Records) -> np.ndarray:
    return records.frame["date"].reindex(ids).to_numpy("M8[ns]")


def left_out_findings(
    name: str, late: pd.Series, undated: int, noun: str = "record"
) -> list[Finding]:
    """Say what the index date did to a modality.

    Args:
        name: The modality.
        late: Subject of each record (or event) dated after it.
        undated: Records without a date.
        noun: What they are called.
    """
    found = []
    if len(late):
        what = f"{counted(len(late), noun)} of {counted(late.nunique(), 'subject')}"
        found.append(("after", f"{what} dated after the index date: left out"))
    if undated:
        found.append(("undated", f"{counted(undated, noun)} without a date: taken as before it"))
    return [
        cohort_warning(
            f"index.{code}",
            f"modalities.{name}",
            what,
            "nothing, if that is meant; otherwise see index:",
        )
        for code, what in found
    ]


def undated(spec: CohortSpec) -> list[Finding]:
    """Give what is wrong with, or taken for granted of, the modalities without ``date:``."""
    dateless = [one for one in spec.modalities.values() if one.keys.date is None]
    without = [one for one in dateless if one.traits.records_from != "events"]
    findings: list[Finding] = []
    if spec.keys.pairing.on == "date" and len(spec.modalities) > 1:
        for one in without:
            findings += _unpaired(one, spec.keys.pairing.max_gap_days)
    if spec.keys.index is not None:
        for one in without:
            findings += _unplaced(one, leads=one.name == spec.keys.index.modality)
    return findings


def _has_several(one: ModalitySpec) -> bool:
    """Whether a person may have several records: they lie in a table of their own and have ids."""
    return one.keys.table is not None and one.keys.record is not None


def _unpaired(one: ModalitySpec, gap: float | None) -> list[Finding]:
    if _has_several(one):
        what = "has a table of records and no `date:`, and pairing is `on: date`"
        fix = (
            "name its column with the date: date: COLUMN; or pair by another rule: "
            "pairing: {on: record} (the same id) or {on: subject} (the only record)"
        )
        return [_finding("pairing.no_date", one, what, fix, error=True)]
    if gap is None:
        return []
    what = (
        f"has no `date:`: its only record of a person is paired whatever the gap (max_gap_days: "
        f"{gap:g})"
    )
    return [_finding("pairing.no_date", one, what, _FIX.format("the gap does not matter for it"))]


def _unplaced(one: ModalitySpec, *, leads: bool) -> list[Finding]:
    if leads:
        what = "gives the index date and has no `date:`"
        fix = "name its column with the date: date: COLUMN; or index: {column: COLUMN}"
        return [_finding("index.no_date", one, what, fix, error=True)]
    if _has_several(one):
        what = "has a table of records and no `date:`: those after the index date would be inputs"
        fix = "name its column with the date: date: COLUMN; or take the modality out"
        return [_finding("index.no_date", one, what, fix, error=True)]
    what = "has no `date:`: its record is taken as known at the index date"
    return [_finding("index.no_date", one, what, _FIX.format("it was known by then"))]


_FIX = "name its column with the date: date: COLUMN; nothing, if {}"


def _finding(code: str, one: ModalitySpec, what: str, fix: str, *, error: bool = False) -> Finding:
    make = cohort_error if error else cohort_warning
    return make(code, f"modalities.{one.name}", what, fix)
