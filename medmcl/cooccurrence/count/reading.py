"""From event shards to tokens: modality, roll-up, vocabulary; what is left out is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.drawn import DRAWN, counted_records, drawn
from medmcl.cooccurrence.count.items import Tally, Tokens
from medmcl.data.events.events import (
    LONGEST_CODE,
    Events,
    ModalityRule,
    assign,
    roll_up,
    starts,
)
from medmcl.data.events.meds import read_shard


@dataclass(frozen=True)
class Reading:
    """How events of a shard become tokens.

    Attributes:
        modalities: What makes an event one of a modality.
        visit: Column that tells visits apart, if there is one.
        parents: Code to the codes that are counted in its place, if codes are rolled up.
        only: What an event must be to be read at all (one site, for example).
        subjects: Who is read; everybody if not given.
        key: Of the register, under which patients get tags.
    """

    modalities: Mapping[str, ModalityRule]
    visit: str | None = None
    parents: Mapping[str, Sequence[str]] | None = None
    only: ModalityRule | None = None
    subjects: np.ndarray | None = None
    key: bytes = field(default=b"", repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns to read beside subject, time, code and visit."""
        rules = [*self.modalities.values(), *([self.only] if self.only else [])]
        return tuple(dict.fromkeys(name for rule in rules for name in rule.columns))


@dataclass
class Sighting:
    """What some shards hold, to choose a vocabulary by.

    Attributes:
        subjects: Patients of each shard, (n,) int64.
        counted: Those of them of whom an event is counted, (n,) int64, with what is drawn of all
            that they have (`drawn`) and a hash of what is counted of it (`counted_records`), (n,)
            of `DRAWN`.
        codes: Modality to code to its occurrences and patients.
        tally: What was read and left out.
    """

    subjects: dict[Path, np.ndarray] = field(default_factory=dict)
    counted: dict[Path, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    codes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def add(self, modality: str, code: str, tokens: int, people: int) -> None:
        """Note a code as seen some times more."""
        codes = self.codes.setdefault(modality, {})
        before = codes.get(code, (0, 0))
        codes[code] = (before[0] + tokens, before[1] + people)

    def __iadd__(self, other: Sighting) -> Sighting:
        self.subjects.update(other.subjects)
        self.counted.update(other.counted)
        self.tally += other.tally
        for name, codes in other.codes.items():
            for code, (tokens, people) in codes.items():
                self.add(name, code, tokens, people)
        return self


def scan(paths: Sequence[Path], reading: Reading, size: int) -> Sighting:
    """Look at the codes of some shards, ``size`` events at a time."""
    found = Sighting()
    names = list(reading.modalities)
    for path in paths:
        found.tally.shards += 1
        subjects, counted = ([np.zeros(0, dtype=np.int64)] for _ in range(2))
        draws = [np.zeros(0, dtype=DRAWN)]
        records = [np.zeros(0, dtype=np.uint64)]
        for events, modality in _assigned(path, reading, size, found.tally, subjects, draws):
            counted.append(starts(events.subject))
            records.append(counted_records(events))
            values = events.code.values
            key = modality * len(values) + events.code.number
            tokens = np.bincount(key, minlength=len(names) * len(values))
            seen = np.sort(events.person() * len(tokens) + key)
            once = starts(seen) % max(len(tokens), 1)
            people = np.bincount(once, minlength=len(tokens))
            for one in np.flatnonzero(tokens).tolist():
                modality_, code = divmod(one, len(values))
                found.add(names[modality_], values[code], int(tokens[one]), int(people[one]))
        found.subjects[path] = np.concatenate(subjects)
        there = np.isin(found.subjects[path], np.concatenate(counted))
        known = np.concatenate(draws)[there]
        known["record"] = np.concatenate(records)
        found.counted[path] = (found.subjects[path][there], known)
    return found


def read_tokens(
    path: Path,
    reading: Reading,
    vocabularies: Mapping[str, Vocabulary],
    size: int,
    tally: Tally,
) -> Iterator[Tokens]:
    """Give the events of a shard as rows of the vocabularies set one after the other."""
    numbers, begin = [], 0
    for name in reading.modalities:
        tokens = vocabularies[name].tokens
        numbers.append(dict(zip(tokens, range(begin, begin + len(tokens)), strict=True)))
        begin += len(tokens)
    tally.shards += 1
    for events, modality in _assigned(path, reading, size, tally, [], None):
        table = np.array([[n.get(v, -1) for v in events.code.values] for n in numbers])
        token = table.reshape(len(numbers), -1)[modality, events.code.number]
        known = token >= 0
        tally.outside_vocabulary += int((~known).sum())
        yield Tokens(events.subject, events.time, token, events.visit).take(known)


def _assigned(
    path: Path,
    reading: Reading,
    size: int,
    tally: Tally,
    subjects: list[np.ndarray],
    draws: list[np.ndarray] | None,
) -> Iterator[tuple[Events, np.ndarray]]:
    """Give events with their modality, those of none left out and counted."""
    for events in read_shard(path, size=size, visit=reading.visit, columns=reading.columns):
        if reading.subjects is not None:
            wanted = np.isin(events.subject, reading.subjects)
            tally.rows += int((~wanted).sum())
            tally.other_splits += int((~wanted).sum())
            events = events.take(wanted)
        people = starts(events.subject)
        subjects.append(people)
        if draws is not None:
            draws.append(drawn(events, reading.key))
        tally.rows += len(events)
        tally.subjects += len(people)
        if reading.only is not None:
            wanted = reading.only.holds(events)
            tally.not_asked_for += int((~wanted).sum())
            events = events.take(wanted)
        long = np.array([len(v) > LONGEST_CODE for v in events.code.values], dtype=bool)
        if long.any():
            bad = long[events.code.number]
            tally.too_long += int(bad.sum())
            events = events.take(~bad)
        if reading.parents is not None:
            events = roll_up(events, reading.parents)
        modality = assign(events, reading.modalities)
        tally.unassigned += int((modality < 0).sum())
        yield events.take(modality >= 0), modality[modality >= 0]
