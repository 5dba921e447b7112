"""Files that would be there if numbers in their names had other leading zeros."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import CohortError
from medmcl.data.cohort.records import fill_template

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
