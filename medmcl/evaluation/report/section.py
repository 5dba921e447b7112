"""What a page is made of: sections, the tables in them, and the sentences at its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from medmcl.evaluation.report.captions import Caption
from medmcl.evaluation.report.pictures import Picture
from medmcl.evaluation.report.words import at_level, over

if TYPE_CHECKING:
    from medmcl.evaluation.report.cards import Sheet
    from medmcl.evaluation.report.columns import Cells

Question = Literal["Wrecked", "Beware", "Who", "How well", "How sure", "For whom", "Against what",
                   "Also", ""]  # fmt: skip
QUESTIONS: tuple[Question, ...] = ("Who", "How well", "How sure", "For whom", "Against what")
ORDER: tuple[Question, ...] = ("Wrecked", "Beware", *QUESTIONS, "Also", "")
Part = Literal["Who", "How well", "How sure", "For whom", "Against what", "Also", "Embeddings",
               "Training", "Beside", "Appendix"]  # fmt: skip
"""Where a section stands: with the question that it answers; ``Appendix``: it is looked up."""
PARTS: tuple[Part, ...] = get_args(Part)

OPEN_ROWS = 24  # a longer table is folded


def folded(rows: Sequence[object]) -> str:
    """What the fold of a table says; empty for one that is short enough to stand open."""
    return f"{len(rows)} lines" if len(rows) > OPEN_ROWS else ""


@dataclass(frozen=True)
class Said:
    """A sentence at the head of a report.

    Attributes:
        question: Which of the five questions it answers; ``Beware`` for what makes the answers
            doubtful, ``Also`` for what is beside them, empty where nothing was evaluated.
        text: The sentence.
    """

    question: Question
    text: str

    def __str__(self) -> str:
        return (
            f"{self.question}: {self.text}"
            if self.question in (*QUESTIONS, "Beware")
            else self.text
        )


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A table of the page.

    Attributes:
        title: What it shows.
        aid: How to read it.
        header: Names of its columns.
        rows: Cells, as text.
        folded: What the fold says; empty for an open table.
        is_looked_up: Whether it stands in the appendix even if it is short: a figure of the first
            page holds its main numbers.
        notes: Lines below it, as why something is not estimable.
    """

    title: str
    aid: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: str = ""
    is_looked_up: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, called: Caption, cells: Cells, **more: Any) -> Shown:
        """Make one of rows that were `written`; a long one is folded."""
        return cls(**{"folded": folded(cells["rows"]), **called, **cells, **more})


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        key: Its anchor.
        title: Heading.
        pictures: Figures.
        tables: Tables, after the figures.
        short: Its name in the menu.
        part: Where it stands; of one part sections stand as they came.
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
    part: Part = "Beside"
    empty: str = ""
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sheet: Sheet | None = None

    @classmethod
    def of(
        cls,
        key: str,
        title: str,
        *pictures: Picture | None,
        tables: Sequence[Shown] = (),
        short: str = "",
        **more: Any,
    ) -> Section:
        """Make one of the pictures that there are, and of the tables that have rows.

        It is called by its title in the menu, too.
        """
        return cls(
            key=key,
            title=title,
            pictures=tuple(picture for picture in pictures if picture is not None),
            tables=tuple(table for table in tables if table.rows),
            short=short or title,
            **more,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.pictures or self.tables or self.lines or self.warnings or self.sheet)

    def telling(self, level: float, resampling: str = "subject") -> Section:
        """Give it with figures and tables whose words say the level of intervals, and over what."""

        def said(part: P) -> P:
            header = tuple(at_level(text, level) for text in part.header)
            return replace(part, aid=over(at_level(part.aid, level), resampling), header=header)

        return replace(
            self, pictures=tuple(map(said, self.pictures)), tables=tuple(map(said, self.tables))
        )


P = TypeVar("P", Picture, Shown)
Drawn = Section | Callable[[], Section]
"""A section, or what draws it: for copies of this process to do beside one another."""
