"""The report: a first page that a person reads, an appendix to look things up, files beside."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from medmcl.core.atomic import write_atomically
from medmcl.core.findings import alike_once
from medmcl.core.suppression import placeless
from medmcl.data.tables.mapped import let_go
from medmcl.evaluation.aspects.aspect import ASPECTS, aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result, save_results
from medmcl.evaluation.report.columns import SHARE, VALUE, written
from medmcl.evaluation.report.files import json_text, plain_text, write_csv_files
from medmcl.evaluation.report.frame import fill
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.section import Section, Shown
from medmcl.evaluation.report.sections import headline, sections_of
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.evaluation.report.small_words import why_hidden
from medmcl.evaluation.report.words import at_level


@contextmanager
def old_objects_passed_over() -> Iterator[None]:
    """Let the garbage collector pass over what exists already, in a block or a function.

    A report makes some hundred thousand objects beside the several hundred thousand of a loaded
    library and cohort; without this the collector walks through all of them again and again: a
    sixth of the CPU seconds of a small report. What becomes garbage in cycles among the old is
    found after the block. Where a caller has frozen objects of its own, nothing changes.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


MOST_FINDINGS = 200
APPENDIX = "appendix.html"
LEFT_OUT = " left out: "
"""How notes of an evaluation say that something was not made, and why."""


@old_objects_passed_over()
def write_report(path: Path, data: Evaluation) -> Path:
    """Write ``path`` (HTML); beside it ``appendix.html``, ``.json``, CSV files, ``model_card.md``.

    Either page needs nothing outside itself: no script, no font, no address; they link to one
    another. Text from users is escaped, small counts are hidden (`as_shown`). Each file is written
    whole or not at all.

    Args:
        path: Where the first page goes; its folder is made.
        data: What it shows.

    Returns:
        The path.
    """
    path, data = Path(path), as_shown(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.with_suffix(".json"), json_text(data), page=path)
    apart = (row for name in ASPECTS for row in data.rows_of(name))
    save_results(path.parent / "results.csv", [*data.task_rows, *apart])
    write_csv_files(path.parent, data)
    write_atomically(
        path.parent / "model_card.md",
        placeless(model_card(data).markdown()).encode(errors="replace"),
    )
    let_go()  # what was read; what draws is large
    first, appendix = pages(data, path.name)
    write_atomically(path.parent / APPENDIX, appendix.encode(errors="replace"))
    write_atomically(path, first.encode(errors="replace"))
    return path


def pages(data: Evaluation, name: str = "report.html") -> tuple[str, str]:
    """Give the first page and the appendix as HTML text.

    Args:
        data: What they show.
        name: File of the first page, which the appendix links to.
    """
    said, why = headline(data), why_hidden(data)
    front, back = parted(sections_of(data), words([*map(str, said), why]))
    numbers = written(
        [row for row in data.task_rows if not row.versus], "task", "target", "metric", "method",
        "protocol", SHARE, "split", VALUE, "n", "events", ("seeds", _seeds), "note",
    )  # fmt: skip
    found = alike_once(data.findings)
    first = fill(
        "report.html.j2",
        sections=front,
        headline=[
            (key, [one.text for one in own])
            for key, own in groupby(said, key=lambda one: one.question)
        ],
        appendix=APPENDIX,
        why_hidden=why,
        hides_findings=data.rounding is not None,
        numbers={section.key for section in back},
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
        header=tuple(at_level(name, data.level) for name in numbers["header"]),
        rows=numbers["rows"],
        provenance={str(key): plain_text(value) for key, value in data.provenance.items()},
        title=f"Appendix: {data.title}",
        subtitle=data.subtitle,
    )
    return first, appendix


MOST_CODES = 12  # kinds of findings that the first page counts


def _seeds(row: Result) -> str:
    spread = "" if row.seed_spread is None else f" (SD {row.seed_spread:.3f})"
    return f"{row.seeds}{spread}"


MOST_WORDS = 2_500
"""Words of the first page, what somebody asked to be shown (records of people) apart."""
FRAME = 250  # of them for the frame: menu, title, headings, links, what the checks found
SHORT = 30  # rows of a table that may stand on the first page
BEHIND = "Behind the figure: "


def parted(sections: Sequence[Section], used: int) -> tuple[list[Section], list[Section]]:
    """Part sections into first page and appendix.

    Figures, warnings and lines stand on the first page; of tables those that are short, while words
    are left. All other tables, and the numbers behind every figure, are in the appendix.

    Args:
        sections: In order.
        used: Words that stand on the first page already.

    Returns:
        Sections of the first page, and of the appendix; neither holds an empty one.
    """
    front = [one for one in sections if one.part != "Appendix"]
    room = MOST_WORDS - FRAME - used - sum(_must(one) for one in front)
    kept: dict[str, Section] = {}
    for one in front:
        tables: list[Shown] = []
        lines = one.lines if words(one.lines) <= room else one.lines[:0]
        room -= words(lines)
        for table in one.tables:
            count = words((table.title, table.aid, *table.header, *table.notes,
                           *(cell for row in table.rows for cell in row)))  # fmt: skip
            if not table.is_looked_up and len(table.rows) <= SHORT and count <= room:
                tables.append(replace(table, folded=""))
                room -= count
        pictures = tuple(replace(picture, rows=()) for picture in one.pictures)
        kept[one.key] = replace(one, lines=lines, tables=tuple(tables), pictures=pictures)
    back = [_rest(one, kept.get(one.key)) for one in sections]
    return (
        [one for one in kept.values() if not one.is_empty],
        [one for one in back if not one.is_empty],
    )


def words(texts: Iterable[str]) -> int:
    """Count words as a reader does: what stands between blanks."""
    return sum(len(text.split()) for text in texts)


def _must(section: Section) -> int:
    """Words of what stands on the first page in any case."""
    texts = [section.title, *section.warnings]
    for picture in section.pictures:
        texts += [picture.title, picture.aid, "How to read this:", "Its numbers"]
    return words(texts)


def _rest(section: Section, front: Section | None) -> Section:
    """What of a section stands in the appendix."""
    if front is None:
        return section
    there = {table.title for table in front.tables}
    return replace(
        section,
        pictures=(),
        warnings=(),
        sheet=None,
        lines=section.lines if section.lines != front.lines else (),
        tables=(
            *(_numbers(picture) for picture in section.pictures if picture.rows),
            *(table for table in section.tables if table.title not in there),
        ),
    )


def _numbers(picture: Picture) -> Shown:
    return Shown(
        title=f"{BEHIND}{picture.title}",
        aid="",
        header=picture.header,
        rows=picture.rows,
        folded=f"{len(picture.rows)} lines" if len(picture.rows) > SHORT else "",
    )
