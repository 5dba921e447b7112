"""The report: one HTML file a person wants to read, and the same numbers as JSON beside it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding
from medmcl.evaluation import embedding_figures, figures, result_figures
from medmcl.evaluation.headline import headline, highlighted
from medmcl.evaluation.pictures import Picture
from medmcl.evaluation.result_figures import fraction_name, metric_name
from medmcl.evaluation.results import Result

MOST_FINDINGS = 200


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything a report shows. Every part may be empty; its section then says so.

    Attributes:
        title: Heading.
        subtitle: One line below it.
        provenance: Recipe, cohort, seed, versions, hashes: name to value, shown at the end.
        flow: Steps of cohort selection: (step, subjects, samples).
        missingness: One bool column a modality, and ``samples`` if rows are patterns already.
        findings: What checks found; what was excluded.
        curves: Stage to lines of ``metrics.jsonl`` (keys step, split, loss, terms; keys such as
            ``effective_rank/ecg`` are read as geometry).
        geometry: Dicts with stage, step, modality, effective_rank, uniformity, alignment.
        retrieval: Rows of `retrieval`.
        embedding_map: ``points`` (N, D), ``modality``, ``colours`` (task to values).
        results: Rows of tasks; retrieval rows among them are moved to ``retrieval``.
        images: Images with maps, (N, H, W).
        heat: Their cosine maps, (N, h, w).
        notes: Remarks a reader must see.
        highlight: The method the report is about; default the first one in ``results``.
    """

    title: str
    subtitle: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    flow: Sequence[tuple[str, int, int]] = ()
    missingness: pd.DataFrame = field(default_factory=pd.DataFrame)
    findings: Sequence[Finding] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    geometry: Sequence[Mapping[str, Any]] = ()
    retrieval: Sequence[Result] = ()
    embedding_map: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Result] = ()
    images: np.ndarray | None = None
    heat: np.ndarray | None = None
    notes: Sequence[str] = ()
    highlight: str = ""


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A part of the report: pictures, or the sentence that says why there is none."""

    key: str
    title: str
    pictures: tuple[Picture, ...]
    empty: str
    lead: str = ""


def write_report(path: Path, data: ReportData) -> Path:
    """Write ``path`` (HTML) and the same name with ``.json``, each whole or not at all.

    The HTML needs nothing outside itself: no script, no font, no address. Text from users is
    escaped.

    Args:
        path: Where the HTML goes; its folder is made.
        data: What it shows.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path.with_suffix(".json"), json.dumps(as_json(data), indent=1, ensure_ascii=False))
    _write(path, render(data))
    return path


def render(data: ReportData) -> str:
    """Give the report as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medmcl.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tasks, found = _split(data)
    results = [row for row in tasks if not row.versus]
    return environment.get_template("report.html.j2").render(
        data=data,
        headline=headline(data, tasks, found, _highlight(data, tasks)),
        sections=_sections(data, tasks, found),
        findings=list(data.findings)[:MOST_FINDINGS],
        hidden_findings=max(0, len(data.findings) - MOST_FINDINGS),
        finding_counts=Counter(finding.code for finding in data.findings).most_common(),
        header=_TABLE_HEADER,
        rows=[_table_row(row) for row in results],
        differences=[_table_row(row) for row in tasks if row.versus],
        provenance={str(key): _plain_text(value) for key, value in data.provenance.items()},
    )


def _split(data: ReportData) -> tuple[list[Result], list[Result]]:
    """Task rows and retrieval rows, wherever they were put."""
    every = [*data.results, *data.retrieval]
    tasks = [row for row in every if row.kind != "retrieval"]
    return tasks, [row for row in every if row.kind == "retrieval"]


def _highlight(data: ReportData, tasks: Sequence[Result]) -> str:
    return data.highlight or highlighted(tasks)


def _sections(
    data: ReportData, tasks: Sequence[Result], found: Sequence[Result]
) -> tuple[_Section, ...]:
    geometry = data.geometry or geometry_of(data.curves)
    maps = data.images is not None and data.heat is not None
    return (
        _section(
            "cohort",
            "The cohort",
            "No cohort flow was recorded.",
            lambda: figures.cohort_flow(data.flow),
            lambda: figures.missingness_patterns(data.missingness),
        ),
        _section(
            "results",
            "Task results",
            "No task was evaluated.",
            lambda: result_figures.task_forest(tasks),
            lambda: result_figures.gain_forest(tasks, _highlight(data, tasks)),
        ),
        _section(
            "retrieval",
            "Retrieval",
            "Retrieval was not evaluated.",
            lambda: result_figures.retrieval_bars(found),
        ),
        _section(
            "embeddings",
            "Embeddings",
            "No embeddings were drawn.",
            lambda: embedding_figures.embedding_map(data.embedding_map),
        ),
        _section(
            "maps",
            "Cosine maps",
            "No cosine maps were made.",
            lambda: embedding_figures.map_pictures(data.images, data.heat) if maps else None,  # type: ignore[arg-type]  # both are arrays if maps
        ),
        _section(
            "training",
            "Training",
            "No training curves were recorded.",
            lambda: figures.loss_curves(data.curves),
            lambda: figures.geometry_curves(geometry),
        ),
    )


def _section(key: str, title: str, empty: str, *makers: Callable[[], Picture | None]) -> _Section:
    made = [maker() for maker in makers]
    pictures = tuple(picture for picture in made if picture is not None)
    return _Section(key=key, title=title, pictures=pictures, empty=empty)


def geometry_of(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Collect geometry from lines with keys such as ``uniformity/ecg`` or ``alignment/a~b``."""
    found: dict[tuple[str, Any, str], dict[str, Any]] = {}
    for stage, lines in curves.items():
        for line in lines:
            for key, value in line.items():
                measure, slash, name = key.partition("/")
                if slash and measure in ("effective_rank", "uniformity", "alignment"):
                    place = (stage, line.get("step", 0), name)
                    row = found.setdefault(
                        place, {"stage": stage, "step": place[1], "modality": name}
                    )
                    row[measure] = value
    return list(found.values())


_TABLE_HEADER = (
    "task", "target", "metric", "method", "protocol", "labels", "split",
    "value (95 % interval)", "n", "events", "seeds", "note",
)  # fmt: skip


def _table_row(row: Result) -> tuple[str, ...]:
    spread = "" if row.seed_spread is None else f" (SD {row.seed_spread:.3f})"
    return (
        row.task,
        row.target,
        metric_name(row.metric),
        f"{row.method} minus {row.versus}" if row.versus else row.method,
        row.protocol,
        fraction_name(row.label_fraction),
        row.split,
        row.shown,
        f"{row.n:,}",
        "-" if row.events is None else f"{row.events:,}",
        f"{row.seeds}{spread}",
        row.note,
    )


def as_json(data: ReportData) -> dict[str, Any]:
    """Every number of the report as plain values; what is not a finite number is null."""
    tasks, found = _split(data)
    plain = _plain(
        {
            "schema": "medmcl/report@1",
            "title": data.title,
            "subtitle": data.subtitle,
            "headline": headline(data, tasks, found, _highlight(data, tasks)),
            "provenance": dict(data.provenance),
            "flow": [
                {"step": step, "subjects": subjects, "samples": samples}
                for step, subjects, samples in data.flow
            ],
            "missingness": figures.presence_patterns(data.missingness).to_dict("records"),
            "findings": [finding.as_dict() for finding in data.findings],
            "curves": dict(data.curves),
            "geometry": list(data.geometry or geometry_of(data.curves)),
            "retrieval": found,
            "results": tasks,
            "notes": list(data.notes),
        }
    )
    return dict(plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def _plain_text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="replace")
    part.replace(path)
