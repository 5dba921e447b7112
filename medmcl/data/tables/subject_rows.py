"""One row a subject, out of a subjects table that may have several: which columns agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_error
from medmcl.data.tables.files import missing_column


class VaryingError(CohortError):
    """A column of subjects that differs between the rows of one."""

    def finding(self) -> Finding:
        """Give it as a finding: what else is at fault can still be looked for."""
        return cohort_error(
            "cohort.invalid", str(self.where), f"{self.what} ({self.got})", str(self.fix)
        )


@dataclass(frozen=True)
class SubjectTable:
    """One row a subject: what modalities and tasks may read of it.

    Attributes:
        frame: Indexed by subject id; the columns whose rows agree.
        varying: Column to how many subjects have rows that differ in it, and which rows.
        doubtful: Those columns, of the first row of each subject: to look for other faults once
            this one is noted, never for a run.
        id: Name of the id column.
        where: Name of the table.
    """

    frame: pd.DataFrame
    varying: Mapping[str, Differing]
    doubtful: pd.DataFrame
    id: str
    where: str

    @property
    def all_columns(self) -> pd.DataFrame:
        """Every column, the doubtful ones too."""
        return pd.concat([self.frame, self.doubtful], axis=1)

    def require(self, columns: Iterable[str], field: str, on_purpose: str) -> None:
        """Refuse columns that do not exist or that differ between the rows of a subject.

        Args:
            columns: Their names.
            field: Key of cohort.yaml that names them.
            on_purpose: What to do where a subject has several rows on purpose.
        """
        for name in columns:
            if name in self.varying:
                found = self.varying[name]
                raise VaryingError(
                    f"column '{name}' differs between the rows of {found.who}",
                    where=f"{field}, table {self.where}",
                    got=f"{found.rows}, both subject {found.subject}",
                    fix=f"correct '{self.id}' or '{name}' of these rows; if both rows are right, "
                    f"{on_purpose}",
                )
            if name not in self.frame.columns:
                raise missing_column(name, list(self.frame.columns), f"{field}, {self.where}")


@dataclass(frozen=True)
class Differing:
    """Rows of one subject that differ in a column.

    Attributes:
        subject: The first such subject.
        lines: Two rows of it that differ, counted from 1 below the heading.
        count: How many subjects have such rows.
    """

    subject: str
    lines: tuple[int, int]
    count: int

    @property
    def who(self) -> str:
        """How many subjects."""
        return "one subject" if self.count == 1 else f"{self.count:,} subjects"

    @property
    def rows(self) -> str:
        """The two rows."""
        return f"rows {self.lines[0]:,} and {self.lines[1]:,}"


def repeated_rows(frame: pd.DataFrame, ids: np.ndarray) -> np.ndarray:
    """Say which rows equal an earlier one of the same subject in every column, (N,) bool.

    Args:
        frame: Rows of the subjects table.
        ids: Subject of each. (N,) object
    """
    several = pd.Series(ids, dtype=object).duplicated(keep=False).to_numpy(copy=True)
    if not several.any():
        return several
    hashes = pd.util.hash_pandas_object(frame[several], index=False).to_numpy()
    several[several] = pd.DataFrame({"subject": ids[several], "row": hashes}).duplicated()
    return several


def one_row_each(
    frame: pd.DataFrame, subjects: pd.Index, lines: np.ndarray, column: str, where: str
) -> SubjectTable:
    """Give one row a subject, without the columns whose rows differ.

    Args:
        frame: Rows of the subjects table.
        subjects: Subject of each. (N,) object.
        lines: What messages call each row: its number in the file. (N,) int64.
        column: Name of the id column.
        where: Name of the table.
    """
    if subjects.is_unique:
        return SubjectTable(
            frame.set_axis(subjects), {}, frame.iloc[:, :0].set_axis(subjects), column, where
        )
    codes, each = pd.factorize(subjects)
    first = np.unique(codes, return_index=True)[1]
    frame = frame.reset_index(drop=True)
    unique = frame.iloc[first].set_axis(each)
    varying = {}
    for name in frame.columns:
        spread = frame[name].iloc[first[codes]].reset_index(drop=True)
        mine = frame[name]
        same = (spread == mine).fillna(False) | (spread.isna() & mine.isna())
        other = np.flatnonzero(~same.to_numpy(bool))
        if len(other):
            row = int(other[0])
            pair = (int(lines[first[codes[row]]]), int(lines[row]))
            varying[name] = Differing(str(subjects[row]), pair, len(set(codes[other])))
    return SubjectTable(
        unique.drop(columns=list(varying)), varying, unique[list(varying)], column, where
    )
