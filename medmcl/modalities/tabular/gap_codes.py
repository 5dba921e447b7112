"""Cells that look as if they stood for a missing one: -9, 999, ND; and how to say so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

NO_VALUE = frozenset({"null", "na", "nan", "none", "nil", "missing", "empty"})
"""Words for nothing in other languages and programs."""
UNCLEAR = NO_VALUE | {"unknown", "unk", "nd", "n/a", "n.d.", "?", "-", "."}
"""Words that say neither yes nor no."""
_NINES = re.compile(r"9+(\.0*)?")
_PLAIN = re.compile(r"-?\d+|[A-Za-z_]\w*")
_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


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
