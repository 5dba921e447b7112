"""What of a report stands on its first page, and what in the appendix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.section import Section, Shown

MOST_WORDS = 2_500
"""Words of the first page, what somebody asked to be shown (records of people) apart."""
FRAME = 250  # of them for the frame: menu, title, headings, links, what the checks found
SHORT = 30  # rows of a table that may stand on the first page
ONLY_APPENDIX = ("ledger", "tripod")
"""Sections that are looked up, not read."""
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
    front = [one for one in sections if one.key not in ONLY_APPENDIX]
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
