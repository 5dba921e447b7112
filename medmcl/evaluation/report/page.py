"""The report: a first page that a person reads, an appendix to look things up, files beside."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

from medmcl.core.atomic import write_atomically
from medmcl.core.findings import alike_once
from medmcl.core.garbage import old_objects_passed_over
from medmcl.evaluation.aspects.aspect import ASPECTS, aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result, save_results
from medmcl.evaluation.report.files import write_csv_files
from medmcl.evaluation.report.frame import fill
from medmcl.evaluation.report.headline import headline
from medmcl.evaluation.report.labelled import share_of
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.numbers import json_text, plain_text
from medmcl.evaluation.report.pages import parted, words
from medmcl.evaluation.report.sections import sections_of
from medmcl.evaluation.report.words import at_level, metric_name

MOST_FINDINGS = 200
APPENDIX = "appendix.html"
LEFT_OUT = " left out: "
"""How notes of an evaluation say that something was not made, and why."""


@old_objects_passed_over()
def write_report(path: Path, data: Evaluation) -> Path:
    """Write ``path`` (HTML); beside it ``appendix.html``, ``.json``, CSV files, ``model_card.md``.

    Either page needs nothing outside itself: no script, no font, no address; they link to one
    another. Text from users is escaped. Each file is written whole or not at all.

    Args:
        path: Where the first page goes; its folder is made.
        data: What it shows.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.with_suffix(".json"), json_text(data))
    apart = (row for name in ASPECTS for row in data.rows_of(name))
    save_results(path.parent / "results.csv", [*data.task_rows, *apart])
    write_csv_files(path.parent, data)
    write_atomically(
        path.parent / "model_card.md", model_card(data).markdown().encode(errors="replace")
    )
    first, appendix = pages(data, path.name)
    write_atomically(path.parent / APPENDIX, appendix.encode(errors="replace"))
    write_atomically(path, first.encode(errors="replace"))
    return path


def render(data: Evaluation) -> str:
    """Give the first page as HTML text."""
    return pages(data)[0]


def pages(data: Evaluation, name: str = "report.html") -> tuple[str, str]:
    """Give the first page and the appendix as HTML text.

    Args:
        data: What they show.
        name: File of the first page, which the appendix links to.
    """
    said = headline(data)
    front, back = parted(sections_of(data), words(str(one) for one in said))
    numbers = {section.key for section in back}
    found = alike_once(data.findings)
    first = fill(
        "report.html.j2",
        sections=front,
        headline=[
            (key, [one.text for one in own])
            for key, own in groupby(said, key=lambda one: one.question)
        ],
        appendix=APPENDIX,
        numbers=numbers,
        finding_counts=Counter(finding.code for finding in data.findings).most_common(MOST_CODES),
        excluded=sum(finding.level == "error" for finding in data.findings),
        title=data.title,
        subtitle=data.subtitle,
    )
    appendix = fill(
        "appendix.html.j2",
        sections=back,
        report=name,
        not_shown=[
            *(line for part in aspects().values() for line in part.not_shown(data)),
            *(note for note in data.notes if LEFT_OUT in note),
        ],
        notes_left=[note for note in data.notes if LEFT_OUT not in note],
        card=model_card(data),
        findings=found[:MOST_FINDINGS],
        hidden_findings=max(0, len(found) - MOST_FINDINGS),
        finding_counts=Counter(finding.code for finding in data.findings).most_common(),
        header=tuple(at_level(name, data.level) for name in _TABLE_HEADER),
        rows=[_table_row(row) for row in data.task_rows if not row.versus],
        provenance={str(key): plain_text(value) for key, value in data.provenance.items()},
        title=f"Appendix: {data.title}",
        subtitle=data.subtitle,
    )
    return first, appendix


MOST_CODES = 12  # kinds of findings that the first page counts


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
        row.method,
        row.protocol.replace("_", " "),
        share_of([row]),
        row.split,
        row.shown,
        f"{row.n:,}",
        "-" if row.events is None else f"{row.events:,}",
        f"{row.seeds}{spread}",
        row.note,
    )
