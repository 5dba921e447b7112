"""Notes as events: the concepts that a lexicon finds in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from medmcl.data.events.lexicon import Lexicon
from medmcl.data.events.tables import COLUMNS, EventTable, read_events

log = logging.getLogger(__name__)


@dataclass
class NotesRead:
    """What was found in notes: how many, those without text, concepts, and those denied."""

    notes: int = 0
    without_text: int = 0
    found: int = 0
    negated: int = 0


@dataclass
class Notes:
    """A table of notes, read with a lexicon; each concept that is not denied is an event.

    Attributes:
        table: The notes, with a column of text.
        lexicon: What to look for.
        prefix: Put before every concept, for example ``CUI//``.
        read: What was found.
    """

    table: EventTable
    lexicon: Lexicon
    prefix: str = ""
    read: NotesRead = field(default_factory=NotesRead)

    def events(self) -> Iterator[pa.Table]:
        """Give the concepts, all in `COLUMNS`."""
        for rows in read_events(self.table):
            yield self._concepts(rows)
        log.info(
            "%s: %d notes (%d without text), %d concepts found, %d of them denied and left out",
            self.table.name, self.read.notes, self.read.without_text, self.read.found,
            self.read.negated,
        )  # fmt: skip

    def _concepts(self, rows: pa.Table) -> pa.Table:
        note, code = [], []
        for number, text in enumerate(rows["text"].to_pylist()):
            self.read.notes += 1
            if text is None:
                self.read.without_text += 1
                continue
            found = self.lexicon.find(text)
            kept = [one.concept for one in found if not one.negated]
            self.read.found += len(found)
            self.read.negated += len(found) - len(kept)
            note += [number] * len(kept)
            code += [self.prefix + concept for concept in kept]
        events = rows.take(pa.array(note, pa.int64()))
        events = events.set_column(COLUMNS.index("code"), "code", pa.array(code, pa.string()))
        empty = pa.nulls(len(code), pa.string())
        return events.set_column(COLUMNS.index("text"), "text", empty)
