"""Records that several processes read: each writes what became of its parts of them.

A part is an entry of the cache (`medmcl.data.loading.cache`) of some of the records, in the folder
``KEY.parts`` beside the entry ``KEY`` of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medmcl.core.atomic import remove_whole, working_folder
from medmcl.core.contracts import Adapter, RecordRef
from medmcl.core.errors import ArtefactError
from medmcl.data.loading.cache import Stored, read_entry, write_entry
from medmcl.data.loading.reading import Outcome, outcomes
from medmcl.data.loading.shared_work import Parts, Shard, made_once, part_size
from medmcl.modalities.outside import fitted_shape


@dataclass(frozen=True)
class OutcomeParts:
    """What becomes of the records of a modality, in parts.

    Attributes:
        adapter: Adapter of the modality; fitted if ``prepared``.
        name: Name of the modality.
        places: The records.
        whole: The entry of all, which need not be there: parts lie beside it.
        prepared: Whether records are prepared, or only read and inspected.
    """

    adapter: Adapter
    name: str
    places: Sequence[RecordRef]
    whole: Path
    prepared: bool

    @property
    def folder(self) -> Path:
        """Where parts lie."""
        return self.whole.with_name(f"{self.whole.name}.parts")

    def read(self) -> Stored | None:
        """Read the entry of all; None if there is none that is sound."""
        return read_entry(self.whole.parent, self.whole.name, self.name, len(self.places))

    def make(self, shard: Shard, told: Callable[[int], object]) -> Parts:
        """Make the parts of a shard that are not there; ``told`` so many records more each time."""
        parts = list(self._slices())
        mine = [number for number in range(len(parts)) if shard.has(number)]
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for number in mine:
                self._made(number, parts[number])
                told(len(parts[number]))
        except (ArtefactError, OSError):
            if self.folder.is_dir():
                raise
            return Parts()  # somebody found all of them meanwhile, and joined them
        return Parts(own=len(mine), of=len(parts), missing=self.missing())

    def missing(self) -> int:
        """Count the parts that nobody has made yet; where the folder is gone, all were joined."""
        if not self.folder.is_dir():
            return 0
        keys = (self._key(number) for number, _ in enumerate(self._slices()))
        return sum(not (self.whole.parent / key).is_dir() for key in keys)

    def outcomes(self) -> Iterator[Outcome]:
        """Give the outcome of each record, in order: from its part, or else read now."""
        if not self.folder.is_dir():
            yield from self._read(self.places)
            return
        for number, rows in enumerate(self._slices()):
            there = read_entry(self.whole.parent, self._key(number), self.name, len(rows))
            if there is None:
                yield from self._read([self.places[row] for row in rows])
            else:
                yield from self._again(there, rows)

    def remove(self) -> None:
        """Take the parts away, once they are joined."""
        remove_whole(self.folder)

    def tidy(self) -> None:
        """Take away what is left of joined parts by whoever was killed meanwhile."""
        if self.folder.is_dir() or any(self.folder.parent.glob(f".{self.folder.name}.*")):
            with suppress(OSError):  # another process does the same, or it is not ours to take
                self.remove()
                with working_folder(self.folder):  # takes away what the dead had put aside
                    pass

    def _slices(self) -> Iterator[range]:
        count = len(self.places)
        size = part_size(count)
        return (range(first, min(first + size, count)) for first in range(0, count, size))

    def _key(self, number: int) -> str:
        return f"{self.folder.name}/{number:06d}"

    def _read(self, places: Sequence[RecordRef]) -> Iterator[Outcome]:
        return outcomes(self.adapter, self.name, places, prepared=self.prepared)

    def _made(self, number: int, rows: range) -> None:
        beside, key, doing = (
            self.whole.parent,
            self._key(number),
            "a part of the records is being read",
        )
        shape = fitted_shape(self.adapter, self.name) if self.prepared else ()
        read = partial(read_entry, beside, key, self.name, len(rows))

        def make() -> Stored | None:
            found = self._read([self.places[row] for row in rows])
            write_entry(beside, key, self.name, found, shape, len(rows))
            return read()

        made_once(beside / key, doing, read, make)

    def _again(self, stored: Stored, rows: range) -> Iterator[Outcome]:
        """Give the outcomes that a part was written from; what could not be read is tried again."""
        for row, digest in enumerate(stored.digests.astype(str).tolist()):
            if not digest:
                yield from self._read([self.places[rows[row]]])
                continue
            prepared = np.asarray(stored.rows[row]) if self.prepared else None
            found = tuple(stored.findings.get(row, ()))
            held = stored.held[row] if stored.held else 0
            yield Outcome(prepared, digest, found, stored.sketch(row), held)


def stand_of(made: Sequence[tuple[OutcomeParts, Parts]]) -> Parts:
    """Sum how several modalities stand at this moment.

    What was missing of one as it was made may be there since. Two shards that add up what each saw
    then could both miss something of the other, and neither would be the last.
    """
    stands = [replace(stand, missing=parts.missing() if stand.of else 0) for parts, stand in made]
    return sum(stands, Parts())
