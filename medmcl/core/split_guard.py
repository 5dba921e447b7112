"""On which side of the split each row stands: it travels with the rows, and guards what is fitted.

A row may be fitted on unless it is of `held_out`, its subject is also in `held_out`, or its content
is also a record of `held_out` under another name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from medmcl.core.errors import LeakageError

TEST = "held_out"
_REASONS = (
    "",
    "rows of held_out",
    "rows of subjects who are also in held_out",
    "rows whose record is also in held_out, under another subject",
)
_FIXES = (
    "",
    "fit on train and choose on tuning; held_out is scored, once",
    "put all rows of a subject in one split",
    "find out whose record it is, and take the other out (`medmcl check` names them)",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitGuard:
    """Split, subject and content of each row.

    Attributes:
        splits: ``train``, ``tuning`` or ``held_out``. (N,)
        subjects: Subject of each row, any codes; None = every row is its own. (N,)
        contents: Codes of what each row holds, equal for equal content, -1 = nothing; one array
            a modality. (N,) int
        units: What rows are parted by inside a fold: sites, where folds are of sites; None = by
            subject. (N,)
    """

    splits: np.ndarray
    subjects: np.ndarray | None = None
    contents: tuple[np.ndarray, ...] = ()
    units: np.ndarray | None = None
    barred: np.ndarray = field(init=False, repr=False)
    """0 = may be fitted on; otherwise the number of the reason why not. (N,) int8"""

    def __post_init__(self) -> None:
        """Find the rows that nothing may be fitted on."""
        test = np.asarray(self.splits) == TEST
        barred = np.zeros(len(test), dtype=np.int8)
        for codes in self.contents:
            shared = np.isin(codes, codes[test & (codes >= 0)])
            barred[shared & (codes >= 0)] = 3
        if self.subjects is not None:
            codes = np.unique(self.subjects, return_inverse=True)[1].reshape(-1)
            barred[np.isin(codes, codes[test])] = 2
        barred[test] = 1
        object.__setattr__(self, "barred", barred)

    def __len__(self) -> int:
        return len(self.splits)

    def take(self, rows: np.ndarray) -> SplitGuard:
        """Give the same for some rows; what was barred among all rows stays so."""
        part = replace(
            self,
            splits=self.splits[rows],
            subjects=None if self.subjects is None else self.subjects[rows],
            contents=tuple(codes[rows] for codes in self.contents),
            units=None if self.units is None else self.units[rows],
        )
        object.__setattr__(part, "barred", self.barred[rows])
        return part

    def parted_by(self, units: np.ndarray) -> SplitGuard:
        """Give the same, parted inside folds by other units than subjects. (N,)."""
        part = replace(self, units=units)
        object.__setattr__(part, "barred", self.barred)
        return part

    def fold(self, test: np.ndarray) -> SplitGuard:
        """Give the sides of one fold: ``test`` rows (indices) are held out, all others are not."""
        splits = np.full(len(self), "train", dtype=object)
        splits[test] = TEST
        return replace(self, splits=splits)

    def refuse_leak(self, rows: np.ndarray, what: str) -> None:
        """Refuse rows (indices) that nothing may be fitted on.

        Args:
            rows: Rows that are about to be used.
            what: What for, as ``standardisation``.

        Raises:
            LeakageError: Says which rule is broken, and by how many rows.
        """
        found = self.barred[np.asarray(rows, dtype=np.int64)]
        if found.any():
            worst = int(found[found > 0].min())
            raise LeakageError(
                f"{what} would see {_REASONS[worst]}",
                got=f"{int((found == worst).sum())} of {len(found)} rows",
                expected="rows of train (to fit) and tuning (to choose)",
                fix=_FIXES[worst],
            )
