"""Codes: what happened to a person and when, as token numbers with days before the reference.

The reference is the index date of the cohort, or a person's last event where it has none. Events
after it never reach an adapter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.core.findings import Finding, record_finding
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import ShownCells
from medmcl.modalities.codes.settings import CodesAugment, CodesSettings, CodesSource

if TYPE_CHECKING:
    from torch import Tensor

fault = partial(record_finding, "codes")
PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
UNDATED = -1
"""In the place of days: nobody wrote down when."""
_SHOWN = 12
"""Codes of a person that are shown."""


@dataclass(frozen=True)
class CodeSequence:
    """The codes of one person, oldest first, undated ones before all others.

    Attributes:
        codes: (N,).
        days: Whole days before the reference, >= 0, or `UNDATED`. (N,) int64
    """

    codes: tuple[str, ...]
    days: np.ndarray


class Codes:
    """Coded events over time, as in health records; see `medmcl.core.contracts.Adapter`.

    Raw records are `CodeSequence`.

    A place holds them: ``codes`` and ``days`` (see `CodeSequence`).
    """

    kind: ClassVar[str] = "codes"
    measured: ClassVar[bool] = False
    records_from: ClassVar[str] = "events"
    Source: ClassVar[type[Config]] = CodesSource
    Settings: ClassVar[type[Config]] = CodesSettings
    Augment: ClassVar[type[Config]] = CodesAugment

    def __init__(self, source: Config, settings: CodesSettings) -> None:
        self.source, self.settings = source, settings
        self._words: tuple[str, ...] = ()
        self._numbers: dict[str, int] = {}

    def read(self, place: RecordRef) -> CodeSequence:
        """The events of a person.

        Raises:
            RecordError: The place has no events.
        """
        codes = place.values.get("codes")
        days = place.values.get("days")
        if codes is None or days is None:
            fix = "say with `present` who has codes"
            raise RecordError("has no events", where=place.where, fix=fix)
        return CodeSequence(tuple(map(str, codes)), np.asarray(days, dtype=np.int64))

    def inspect(self, raw: CodeSequence, place: RecordRef) -> list[Finding]:
        """No code at all; events after the reference; rows that are cut."""
        where = place.where
        if not raw.codes:
            fix = "say with `present` who has codes"
            return [fault("empty", where, "has no code", fix)]
        found = []
        if (raw.days < UNDATED).any():
            what = f"{int((raw.days < UNDATED).sum())} events lie after the reference date"
            found.append(fault("late", where, what, "leave them out"))
        count = len(self._kept(raw).codes)
        if count > self.settings.max_events:
            what = f"has {count} events; the latest {self.settings.max_events} are read"
            fix = "raise inputs.NAME.max_events if the past matters"
            found.append(fault("many", where, what, fix, "warning"))
        return found

    def show(self, raw: CodeSequence) -> ShownCells:
        """The latest codes with their days before the reference, the latest first."""
        latest = list(zip(raw.codes, raw.days.tolist(), strict=True))[::-1][:_SHOWN]
        return ShownCells(
            cells=tuple(
                (code, "undated" if day < 0 else f"{day} days before") for code, day in latest
            ),
            note=f"the latest {len(latest)} of {len(raw.codes)} codes",
        )

    def fit(self, raws: Iterable[CodeSequence]) -> None:
        """Learn the vocabulary: codes by the number of people who have them."""
        people: Counter[str] = Counter()
        for raw in raws:
            people.update(set(raw.codes))
        kept = sorted(
            (code for code, count in people.items() if count >= self.settings.min_patients),
            key=lambda code: (-people[code], code),
        )
        self._take((*SPECIAL, *kept[: self.settings.vocabulary]))

    def _take(self, words: tuple[str, ...]) -> None:
        self._words = words
        self._numbers = {word: number for number, word in enumerate(words)}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Codes by their number, padding and unknown first; known after `fit`."""
        if not self._words:
            raise RuntimeError("fit or load_state comes before the vocabulary is used")
        return self._words

    def tokens(self, raw: CodeSequence) -> np.ndarray:
        """Numbers of all events that the settings keep, (N,) int64, however many."""
        numbers = self._numbers if self.vocabulary else {}
        return np.array(
            [numbers.get(code, UNKNOWN) for code in self._kept(raw).codes], dtype=np.int64
        )

    def _kept(self, raw: CodeSequence) -> CodeSequence:
        if self.settings.repeats == "all":
            return raw
        once = self.settings.repeats == "first"
        seen: set[tuple[str, int]] = set()
        rows = []
        for row, (code, day) in enumerate(zip(raw.codes, raw.days.tolist(), strict=True)):
            key = (code, 0 if once else day)
            if key not in seen:
                seen.add(key)
                rows.append(row)
        return CodeSequence(tuple(raw.codes[row] for row in rows), raw.days[rows])

    def prepare(self, raw: CodeSequence) -> np.ndarray:
        """Token numbers and days of the latest events, (max_events, 2) int64, padding at the end.

        Oldest first; the days of padding are 0.
        """
        kept = self._kept(raw)
        numbers = self.tokens(raw)[-self.settings.max_events :]
        row = np.zeros((self.settings.max_events, 2), dtype=np.int64)
        row[: len(numbers), 0] = numbers
        row[: len(numbers), 1] = kept.days[-self.settings.max_events :]
        return row

    def simple_features(self, raw: CodeSequence) -> list[str]:
        """Every code as often as it stands there: a bag of codes."""
        return list(raw.codes)

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(max_events, 2)."""
        return (self.settings.max_events, 2)

    @property
    def input_shape(self) -> InputShape:
        """As prepared, with the size of the vocabulary; padding is 0."""
        return InputShape(
            kind=self.kind, shape=self.prepared_shape, vocabulary=len(self.vocabulary)
        )

    def plain(self, x: Tensor) -> Tensor:
        """The prepared rows as they are."""
        return x.long()

    def padding(self, x: Tensor) -> Tensor:
        """Which events are padding, (B, max_events)."""
        return x[..., 0] == PAD

    def augment(self, x: Tensor, options: CodesAugment, generator: RowGenerator) -> Tensor:
        """Leave out some events, never all of a row, and move the days of a row together."""
        import torch

        x = self.plain(x)
        there = x[..., 0] != PAD
        draws = generator.uniform(*there.shape)
        draws = draws.masked_fill(~there, -1.0)
        spared = torch.nn.functional.one_hot(draws.argmax(dim=1), there.shape[1]).bool()
        out = there & (draws < options.dropout) & ~spared
        shift = generator.integers(-options.shift_days, options.shift_days + 1, len(x), 1)
        dated = x[..., 1] != UNDATED
        days = torch.where(there & dated, (x[..., 1] + shift).clamp(min=0), x[..., 1])
        x = torch.stack([x[..., 0], days], dim=-1)
        return x.masked_fill(out[..., None], 0)

    def state(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"codes": list(self.vocabulary)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._take(tuple(state["codes"]))
