"""A part of the report as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from medmcl.evaluation.aspects.selection.contact_sheet import Sheet
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
        short: Its name in the menu.
        empty: The sentence that says why there is neither, on a page that must say so.
        lines: Plain sentences before the figures.
        warnings: What a reader must see, before everything else.
        sheet: Records to look at, after the tables.
    """

    key: str
    title: str
    pictures: tuple[Picture, ...]
    tables: tuple[Shown, ...]
    short: str
    empty: str = ""
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sheet: Sheet | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.pictures or self.tables or self.lines or self.warnings or self.sheet)
