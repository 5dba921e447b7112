"""Cells that look as if they stood for a missing one: -9, 999, ND; and how to say so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

NO_VALUE = frozenset({"null", "na", "nan", "none", "nil", "missing", "empty"})
"""Words for nothing in other languages and programs."""
UNCLEAR = NO_VALUE | {"unknown", "unk", "nd", "n/a", "n.d.", "?", "-", "."}
"""Words that say neither yes nor no."""
_NINES = re.compile(r"9+(\.0*)?")
_PLAIN = re.compile(r"-?\d+|[A-Za-z_]\w*")
_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def renamed_fix(columns: Sequence[str], unread: Iterable[str]) -> str:
    """Say what to do about columns that a run reads and a table lacks.

    Args:
        columns: What the run calls them.
        unread: Columns that the cohort names and the run does not read.
    """
    names = ", ".join(unread)
    here = f" (the cohort has {names}, which the run does not read)" if names else ""
    return (
        f"if the table has {', '.join(columns)} under another name{here}, name the run's "
        f"under columns: in cohort.yaml, and say there what it is: derive: "
        f"{{{columns[0]}: NAME}} (or 88.4 * NAME, for another unit); only for what was "
        "not measured, add an empty column of that name to the table: everybody is then without it"
    )


def looks_missing(cell: str) -> bool:
    """Whether a cell among others that are 0, 1 or positive looks like a code for a gap."""
    text = cell.strip().lower()
    if text in UNCLEAR or _NINES.fullmatch(text):
        return True
    try:
        return float(text) < 0
    except ValueError:
        return False


def said_missing(column: str, cells: Iterable[str]) -> str:
    """Say how those of some cells that look like codes are taken as missing; empty without any.

    Args:
        column: What holds them.
        cells: Their different values.
    """
    codes = [cell.removesuffix(".0") for cell in cells if looks_missing(cell)]
    if not codes:
        return ""
    stand = "stands" if len(codes) == 1 else "stand"
    return (
        f"if {', '.join(codes)} {stand} for unknown, write "
        f"`missing: {{{in_yaml(column)}: [{', '.join(map(in_yaml, codes))}]}}` at the top level of "
        "cohort.yaml; otherwise "
    )


def in_yaml(text: str) -> str:
    """A name or a cell as YAML takes it, in quotes where it would read something else."""
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _OF_YAML
    return text if is_plain else json.dumps(text, ensure_ascii=False)
