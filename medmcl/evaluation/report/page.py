"""The report: one HTML file that a person wants to read, its numbers as JSON and CSV beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from medmcl.evaluation.report.data import ReportData
from medmcl.evaluation.report.files import write_csv_files
from medmcl.evaluation.report.frame import fill
from medmcl.evaluation.report.headline import headline
from medmcl.evaluation.report.labelled import Labelled
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.numbers import as_json, json_text, plain_text
from medmcl.evaluation.report.sections import sections_of
from medmcl.evaluation.report.words import at_level, metric_name
from medmcl.evaluation.results import Result, save_results

__all__ = ["ReportData", "as_json", "render", "write_report"]

MOST_FINDINGS = 200


def write_report(path: Path, data: ReportData) -> Path:
    """Write ``path`` (HTML) and beside it ``.json``, ``results.csv``, CSV files, ``model_card.md``.

    The HTML needs nothing outside itself: no script, no font, no address. Text from users is
    escaped. Each file is written whole or not at all.

    Args:
        path: Where the HTML goes; its folder is made.
        data: What it shows.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path.with_suffix(".json"), json_text(data))
    every = [*data.task_rows, *data.retrieval_rows, *data.choice_rows, *data.attack_rows]
    save_results(path.parent / "results.csv", every)
    write_csv_files(path.parent, data)
    _write(path.parent / "model_card.md", model_card(data).markdown())
    _write(path, render(data))
    return path


def render(data: ReportData) -> str:
    """Give the report as HTML text."""
    tasks, labelled = data.task_rows, Labelled(data.evidence.fitted)
    return fill(
        "report.html.j2",
        title=data.title,
        subtitle=data.subtitle,
        data=data,
        headline=headline(data, tasks, data.retrieval_rows, data.method),
        sections=sections_of(data),
        card=model_card(data),
        findings=list(data.findings)[:MOST_FINDINGS],
        hidden_findings=max(0, len(data.findings) - MOST_FINDINGS),
        finding_counts=Counter(finding.code for finding in data.findings).most_common(),
        header=tuple(at_level(name, data.level) for name in _TABLE_HEADER),
        rows=[_table_row(row, labelled) for row in tasks if not row.versus],
        provenance={str(key): plain_text(value) for key, value in data.provenance.items()},
    )


_TABLE_HEADER = (
    "task", "target", "metric", "method", "protocol", "labels", "split",
    "value (95 % interval)", "n", "events", "seeds", "note",
)  # fmt: skip


def _table_row(row: Result, labelled: Labelled) -> tuple[str, ...]:
    spread = "" if row.seed_spread is None else f" (SD {row.seed_spread:.3f})"
    return (
        row.task,
        row.target,
        metric_name(row.metric),
        row.method,
        row.protocol.replace("_", " "),
        labelled.share(row.task, row.label_fraction, row.method),
        row.split,
        row.shown,
        f"{row.n:,}",
        "-" if row.events is None else f"{row.events:,}",
        f"{row.seeds}{spread}",
        row.note,
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="replace")
    part.replace(path)
