"""Every number of a report as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.aspect import aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.files import report_rows
from medmcl.evaluation.report.headline import headline
from medmcl.evaluation.report.training.geometry_lines import geometry_of
from medmcl.evaluation.report.tripod import checklist


def as_json(data: Evaluation) -> dict[str, Any]:
    """Every number of the report as plain values; what is not a finite number is null."""
    plain = _plain(
        {
            "schema": "medmcl/report@1",
            "title": data.title,
            "subtitle": data.subtitle,
            "headline": [str(line) for line in headline(data)],
            "wrecked": dict(data.wrecked),
            "provenance": dict(data.provenance),
            "study": data.study,
            "findings": [finding.as_dict() for finding in data.findings],
            "curves": dict(data.curves),
            "geometry": list(data.geometry or geometry_of(data.curves)),
            **{
                name: rows
                for name, aspect in aspects().items()
                if (rows := data.rows_of(name)) or aspect.has_rows
            },
            "results": data.task_rows,
            "level": data.level,
            "resampling": data.resampling,
            "notes": list(data.notes),
            "flow": [],
            "missingness": [],
            **report_rows(data),
            "checklist_count": checklist(data).count,
        }
    )
    return dict(plain)


def json_text(data: Evaluation) -> str:
    """The same as JSON text, a line each key: indented, long curves take thousands of lines."""
    lines = (
        f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(part, ensure_ascii=False)}"
        for key, part in as_json(data).items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool):  # most are; asked first
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def plain_text(value: Any) -> str:
    """A value as text for the page."""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
