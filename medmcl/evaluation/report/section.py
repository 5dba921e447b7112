"""A part of the report as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from medmcl.evaluation.report.contact_sheet import Sheet
from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.tables import Shown


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        key: Its anchor.
        title: Heading.
        pictures: Figures.
        tables: Tables, after the figures.
        empty: The sentence that says why there is neither.
        short: Its name in the menu.
        lines: Plain sentences before the figures.
        warnings: What a reader must see, before everything else.
        sheet: Records to look at, after the tables.
    """

    key: str
    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[Shown, ...]
    empty: str
    short: str
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sheet: Sheet | None = None
