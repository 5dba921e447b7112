"""Which rows of a table of events are events, and what is told of the others.

The limits are those of `medmcl cooccur count`: it leaves out, keeps and counts the same.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.events.events import LONGEST_CODE
from medmcl.data.tables.files import YEARS


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
