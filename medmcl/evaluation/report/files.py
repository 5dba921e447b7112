"""Every number of a report as plain values: one JSON, and CSV files, one a part."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.suppression import Hidden, placeless, plain_few
from medmcl.data.tables.spreadsheet import csv_text
from medmcl.evaluation.aspects.aspect import Rows, aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.patterns import presence
from medmcl.evaluation.report.sections import headline
from medmcl.evaluation.report.training.embedding_figures import map_rows
from medmcl.evaluation.report.training.geometry_figures import geometry_of
from medmcl.evaluation.report.tripod import checklist


def report_rows(data: Evaluation) -> dict[str, Rows]:
    """Give each part of a report as rows of plain values; empty parts are left out.

    Counts of few subjects are as shown on the page, and survival curves are on an even grid: no
    file tells more of single subjects than the page.
    """
    return {name: rows for name, rows in _parts(data).items() if rows}


def _parts(data: Evaluation) -> dict[str, Rows]:
    parts: dict[str, Rows] = {
        "table_one": _table_one(data),
        "fitted_on": [{**asdict(line), "splits": " ".join(line.splits)} for line in data.fitted],
        "flow": [
            {"step": step, "subjects": plain_few(subjects), "samples": plain_few(samples)}
            for step, subjects, samples in data.flow
        ],
        "missingness": _missingness(data),
        "training": _training(data),
        "geometry": [dict(row) for row in data.geometry or geometry_of(data.curves)],
        "embedding_map": map_rows(data.embedding_map),
        "compared_runs": [{"run": name, **facts} for name, facts in data.compared.items()],
        "findings": [finding.as_dict() for finding in data.findings],
        "checklist": _checklist(data),
    }
    for aspect in aspects().values():
        parts |= aspect.files(data)
    return parts


def write_csv_files(folder: Path, data: Evaluation) -> list[Path]:
    """Write ``table_one.csv``, ``calibration.csv`` and so on, each whole or not at all.

    The file of a part that is empty now is taken away: it would belong to an earlier report.
    """
    written = []
    for name, rows in _parts(data).items():
        path = folder / f"{name}.csv"
        if not rows:
            path.unlink(missing_ok=True)
            continue
        write_atomically(path, csv_text(rows))
        written.append(path)
    return written


def _table_one(data: Evaluation) -> Rows:
    table = data.table_one
    if table is None:
        return []
    rows: Rows = []
    for row in table.rows:
        for column, (split, cell) in enumerate(zip(table.splits, row.cells, strict=True)):
            difference = row.differences[column] if row.differences else None
            line = {"variable": row.variable, "level": row.level, "statistic": row.statistic,
                    "split": split}  # fmt: skip
            rows.append(
                {
                    **line,
                    **asdict(cell),
                    "smd": None if difference is None else round(difference, 3),
                }
            )
    return rows


def _missingness(data: Evaluation) -> Rows:
    found = presence(data.missingness)
    return [] if found is None else [{**p.present, "samples": p.samples} for p in found.patterns]


def _training(data: Evaluation) -> Rows:
    """Every line of the training record, nested terms as ``terms/name``."""
    rows: Rows = []
    for stage, lines in data.curves.items():
        for line in lines:
            flat: dict[str, Any] = {"stage": stage}
            for key, value in line.items():
                inner = value if isinstance(value, Mapping) else {}
                flat |= {f"{key}/{name}": _finite(part) for name, part in inner.items()}
                flat |= {} if isinstance(value, Mapping) else {key: _finite(value)}
            rows.append(flat)
    return rows


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _checklist(data: Evaluation) -> Rows:
    return [
        {
            "item": one.part.code, "section": one.part.section, "topic": one.part.topic,
            "asks": one.part.asks, "applies_to": one.part.applies,
            "filled": one.value is not None, "from_this_run": one.value or "",
            "remains": one.part.remains if one.value is not None else "all of it",
        }
        for one in checklist(data).cited
    ]  # fmt: skip


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
    if value is None or type(value) in (int, bool):
        return value
    if type(value) is str or isinstance(value, Hidden):
        return placeless(value)
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
