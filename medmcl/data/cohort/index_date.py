"""The index date: inputs dated after it are left out and counted; outcomes are counted from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.cohort.records import Records
from medmcl.data.cohort.spec import IndexKeys
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


def keep_before(
    name: str, records: Records, subjects: SubjectTable, keys: IndexKeys | None
) -> Records:
    """Leave out records dated after the index date of their subject.

    Days are compared, not hours: a record of the index day stays. An undated record stays too, and
    is counted; `medmcl.data.cohort.date_checks` speaks of a modality without dates. Nothing is
    done where the
    index is the date of a modality (see `index_samples`).
    """
    if keys is None or keys.column is None or not records.has_dates:
        return records
    index = index_dates(subjects, keys.column)
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
    keys: IndexKeys | None,
) -> tuple[pd.DataFrame, np.ndarray, list[Finding]]:
    """Give each sample its index date.

    Where the index is the date of a modality, records of a sample dated after it are taken out.

    Returns:
        The samples, their index dates (N,) datetime64[ns] with NaT where unknown, and findings.
    """
    if keys is None:
        return frame, np.full(len(frame), np.datetime64("NaT"), dtype="M8[ns]"), []
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
