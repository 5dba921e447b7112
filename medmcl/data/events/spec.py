"""Where events come from, as a spec says it: MEDS, OMOP, Synthea, tables, notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from medmcl.core.config import Config
from medmcl.data.cohort.spec import JoinKeys
from medmcl.data.events.exports import omop_tables, synthea_tables
from medmcl.data.events.lexicon import Notes, read_lexicon
from medmcl.data.events.tables import EventTable, Unit, read_events

Rows = tuple[str, Iterator[pa.Table]]
"""Name of a source, and its events."""


class MedsKeys(Config):
    """A MEDS 0.4 dataset."""

    kind: Literal["meds"]
    path: str
    visit: str | None = None
    """Column that tells visits apart, for example ``hadm_id``."""
    roll_up: str | bool = False
    """Count the ``parent_codes`` of a code in its place: all of them, or those with a prefix."""
    splits: tuple[str, ...] = ()
    """Read only subjects in these splits, for example ``[train]``; everybody if not given."""


class ExportKeys(Config):
    """A folder with the tables of an export: OMOP CDM 5.4, or what Synthea's CSV exporter wrote."""

    kind: Literal["omop", "synthea"]
    path: str
    tables: tuple[str, ...] = ()

    def rows(self, root: Path) -> list[Rows]:
        """Give the events of each table."""
        tables_of = {"omop": omop_tables, "synthea": synthea_tables}[self.kind]
        return _of_tables(tables_of(root / self.path, self.tables))


class AnyTableKeys(Config):
    """What tables of events and of notes have in common: columns by name."""

    path: str
    name: str | None = None
    """What ``source:`` of a modality calls it; the file's name up to the first dot if not given."""
    subject: str
    time: str | None = None
    visit: str | None = None
    site: str | None = None
    prefix: str = ""
    offset_unit: Unit | None = None
    """``time`` is a number of these since an origin, negative before it; not a date."""
    join: JoinKeys | None = None
    keep: dict[str, tuple[str, ...]] = {}
    """Column to the values that a row must have."""
    drop: dict[str, tuple[str, ...]] = {}
    """Column to the values that a row must not have."""

    @field_validator("join")
    @classmethod
    def _one_key(cls, join: JoinKeys | None) -> JoinKeys | None:
        if join is not None and len(join.on) != 1:
            raise ValueError("join on one column")
        return join

    def table(self, root: Path, **columns: str | None) -> EventTable:
        """Give the table, with further columns."""
        path = root / self.path
        asked = {
            "subject": self.subject, "time": self.time, "visit": self.visit, "site": self.site,
            **columns,
        }  # fmt: skip
        join = None
        if self.join is not None:
            join = (root / self.join.table, *next(iter(self.join.on.items())))
        return EventTable(
            path=path,
            name=self.name or path.name.split(".")[0],
            columns={key: column for key, column in asked.items() if column is not None},
            prefix=self.prefix,
            offset_unit=self.offset_unit,
            join=join,
            keep=self.keep,
            drop=self.drop,
        )


class TableKeys(AnyTableKeys):
    """A table with a row an event."""

    kind: Literal["table"]
    code: str
    value: str | None = None
    text: str | None = None
    description: str | None = None

    def rows(self, root: Path) -> list[Rows]:
        """Give the events."""
        table = self.table(
            root, code=self.code, value=self.value, text=self.text, description=self.description
        )
        return _of_tables([table])


class NotesKeys(AnyTableKeys):
    """A table of notes, in which a lexicon finds concepts."""

    kind: Literal["notes"]
    text: str
    lexicon: str
    """Table with the columns ``term`` and ``concept``."""
    languages: tuple[str, ...] = ("en", "de")

    def rows(self, root: Path) -> list[Rows]:
        """Give the concepts that the notes do not deny."""
        lexicon = read_lexicon(root / self.lexicon, self.languages)
        table = self.model_copy(update={"prefix": ""}).table(root, text=self.text)
        return [(table.name, Notes(table, lexicon, self.prefix).events())]


TableSource = ExportKeys | TableKeys | NotesKeys
Source = Annotated[MedsKeys | TableSource, Field(discriminator="kind")]


def _of_tables(tables: list[EventTable]) -> list[Rows]:
    return [(table.name, read_events(table)) for table in tables]
