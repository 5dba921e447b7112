"""Events of some patients, put in order and compressed to what the counting kernels read.

All windows come down to one form. An *item* is a token at a *place* with a weight (how often it
stands there). Places ascend, those of one patient together, and two items meet if their places
differ by at most the *reach*: 0 where a place is a unit (record, month, visit), N where a day.

A `Tally` says what was counted and what was left out; it stays at the site, beside the counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import numpy as np

from medmcl.cooccurrence.count.rules import Window
from medmcl.data.events.events import NO_TIME, NO_VISIT, runs, starts


@dataclass
class Tally:
    """Numbers of events and patients, by what became of them.

    Attributes:
        shards: Files that were read.
        rows: Rows in them.
        subjects: Patients who were read, with or without an event that counts.
        other_splits: Events of subjects in splits that are not read.
        not_asked_for: Events that ``only`` leaves out (another site, for example).
        unassigned: Events that no modality claims.
        too_long: Events whose code is longer than any code (a note in the code column?).
        outside_vocabulary: Events of codes that the vocabulary does not have.
        events: Events that went into counting.
        without_time: Of those, left out because the window needs a date.
        implausible_time: Of those, left out because their date is a placeholder (year 1, 9999).
        without_visit: Of those, left out because the window needs a visit.
        duplicates: Events that equal another in patient, time, visit and code.
    """

    shards: int = 0
    rows: int = 0
    subjects: int = 0
    other_splits: int = 0
    not_asked_for: int = 0
    unassigned: int = 0
    too_long: int = 0
    outside_vocabulary: int = 0
    events: int = 0
    without_time: int = 0
    implausible_time: int = 0
    without_visit: int = 0
    duplicates: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def __str__(self) -> str:
        """Say what was left out or stands out, one line each."""
        return "\n".join([*self.left_out(), *self.repeats()])

    def left_out(self) -> list[str]:
        """Say what was left out, a line each, but for duplicates."""
        said = [(getattr(self, name), text) for name, text in _SAID.items()]
        return [f"{number:,} events {text}" for number, text in said if number]

    def repeats(self, *, dropped: bool | None = None) -> list[str]:
        """Say how many events equal another, and what became of them if that is known."""
        became = "" if dropped is None else ": left out" if dropped else ": kept and counted"
        what = "events equal another in patient, time, visit and code"
        return [f"{self.duplicates:,} {what}{became}"] if self.duplicates else []

    def as_dict(self) -> dict[str, int]:
        """Give the numbers as plain values for JSON."""
        return asdict(self)


_SAID = {
    "other_splits": "of subjects in other splits",
    "not_asked_for": "left out by `only`",
    "unassigned": "of no modality",
    "too_long": "left out: longer than any code",
    "outside_vocabulary": "of codes outside the vocabulary",
    "without_time": "left out: no date, which the window needs",
    "implausible_time": "left out: a date before 1700 or after 2399, taken for a placeholder",
    "without_visit": "left out: no visit, which the window needs",
}


_DAY = 86_400_000_000
PLAUSIBLE_YEARS = (1700, 2400)
"""Dates outside are placeholders (0001-01-01, 9999-12-31). De-identified records are shifted by
up to two centuries (MIMIC-III: 1800 to 2210), so the range is wide."""


@dataclass(frozen=True)
class Tokens:
    """Events of whole patients: one row an event, rows of a patient together.

    Attributes:
        subject: Patient, (n,) int64.
        time: Microseconds since 1970, `NO_TIME` if there is none, (n,) int64.
        token: Row in the vocabularies set one after the other, (n,) int.
        visit: Visit within these events, `NO_VISIT` if there is none, (n,) int64; None if the
            source has no visits.
    """

    subject: np.ndarray
    time: np.ndarray
    token: np.ndarray
    visit: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, rows: np.ndarray) -> Tokens:
        """Give some of the events (a mask or row numbers)."""
        visit = None if self.visit is None else self.visit[rows]
        return Tokens(self.subject[rows], self.time[rows], self.token[rows], visit)


@dataclass(frozen=True)
class Items:
    """What stands where, sorted by place and token; no two alike.

    Attributes:
        token: (m,) uint32, from 0 in each modality.
        weight: Times it stands there, (m,) int32; all 1 if pairs are distinct.
        patient: Number of the patient in this chunk, ascending, (m,) int32.
        place: (m,) int64, ascending.
    """

    token: np.ndarray
    weight: np.ndarray
    patient: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.token)

    def take(self, rows: np.ndarray | slice) -> Items:
        """Give some of the items, in their order."""
        return Items(self.token[rows], self.weight[rows], self.patient[rows], self.place[rows])


@dataclass(frozen=True)
class Chunk:
    """Items of each modality, in their order, of the same patients.

    Attributes:
        modalities: One `Items` each.
        reach: Places that far apart still meet.
        units: Units with at least one item.
        patients: Patients with at least one item.
    """

    modalities: tuple[Items, ...]
    reach: int
    units: int
    patients: int


def arrange(
    events: Tokens,
    sizes: tuple[int, ...],
    window: Window,
    *,
    distinct: bool,
    drop_duplicates: bool,
    tally: Tally,
) -> Chunk:
    """Put events in order, leave out and count what the window cannot use.

    Args:
        events: Of whole patients.
        sizes: Tokens in the vocabulary of each modality.
        window: Which tokens meet.
        distinct: Each token once a place.
        drop_duplicates: Leave out events that equal another in patient, time, visit and code.
        tally: Where exclusions are counted.
    """
    events = _in_order(_usable(events, window, tally), sum(sizes), drop_duplicates, tally)
    patient = runs(events.subject)
    place, reach = _places(events, patient, window)
    width = sum(sizes)
    key, first, weight = _compress(place, events.token, width)
    token = key % width
    items = Items(token, weight, patient[first].astype(np.int32), place[first])
    if distinct:
        items = Items(token, np.ones_like(weight), items.patient, items.place)
    people = int(patient[-1]) + 1 if len(patient) else 0
    units = people if window.sliding else len(starts(items.place))
    return Chunk(tuple(_split(items, sizes)), reach, units, people)


def _usable(events: Tokens, window: Window, tally: Tally) -> Tokens:
    """Leave out events that the window has no place for, and count them."""
    tally.events += len(events)
    if window.needs_time:
        none = events.time == NO_TIME
        years = [np.datetime64(f"{year}-01-01", "us").astype(np.int64) for year in PLAUSIBLE_YEARS]
        odd = ~none & ((events.time < years[0]) | (events.time >= years[1]))
        tally.without_time += int(none.sum())
        tally.implausible_time += int(odd.sum())
        if none.any() or odd.any():
            events = events.take(~(none | odd))
    if window.kind == "visit":
        visit = events.visit if events.visit is not None else np.full(len(events), NO_VISIT)
        tally.without_visit += int((visit == NO_VISIT).sum())
        events = replace(events, visit=visit).take(visit != NO_VISIT)
    return events


def _in_order(events: Tokens, width: int, drop: bool, tally: Tally) -> Tokens:
    """Sort by time within each patient, and count (or drop) events that stand twice."""
    if not len(events):
        return events
    person, time = runs(events.subject), events.time
    moment = np.ones(len(events), dtype=np.int64)
    if events.visit is not None:
        order = np.lexsort((events.token, events.visit, time, person))
        events = events.take(order)
        assert events.visit is not None
        changed = events.visit[1:] != events.visit[:-1]
    else:
        later = (person[1:] > person[:-1]) | (time[1:] >= time[:-1])
        if not later.all():
            events = events.take(np.lexsort((time, person)))
        changed = np.zeros(len(events) - 1, dtype=bool)
    moment[1:] = (
        changed
        | (events.subject[1:] != events.subject[:-1])
        | (events.time[1:] != events.time[:-1])
    )
    moment = np.cumsum(moment) - 1
    key = np.sort(moment * width + events.token)
    repeated = np.zeros(len(key), dtype=bool)
    repeated[1:] = key[1:] == key[:-1]
    tally.duplicates += int(repeated.sum())
    start = np.flatnonzero(np.r_[True, np.diff(moment) != 0])
    where, token = start[key // width], key % width
    ordered = Tokens(
        events.subject[where],
        events.time[where],
        token,
        None if events.visit is None else events.visit[where],
    )
    return ordered.take(~repeated) if drop and repeated.any() else ordered


def _places(events: Tokens, patient: np.ndarray, window: Window) -> tuple[np.ndarray, int]:
    """Give the place of each event, ascending by patient, and the reach."""
    if window.kind == "record":
        return patient, 0
    if window.kind == "visit":
        assert events.visit is not None
        visit = np.unique(events.visit, return_inverse=True)[1]
        return patient * (int(visit.max(initial=0)) + 1) + visit, 0
    if window.kind == "month":
        number = events.time.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    else:
        number = np.floor_divide(events.time, _DAY)
    number = number - number.min(initial=0)
    stride = int(number.max(initial=0)) + window.days + 1
    return patient * stride + number, window.days


def _compress(
    place: np.ndarray, token: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort by place and token; give each pair's key, an event that has it, and how many do."""
    ordinal = runs(place) if ascends(place) else np.unique(place, return_inverse=True)[1]
    key = ordinal * width + token
    if not ascends(key):
        key = np.sort(key)
    start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, int)
    weight = np.diff(np.r_[start, len(key)]).astype(np.int32)
    key = key[start]
    # Any event of the place will do: it is asked for its patient and place only.
    event_of_place = np.zeros(int(ordinal.max(initial=-1)) + 1, dtype=np.int64)
    event_of_place[ordinal] = np.arange(len(ordinal))
    return key, event_of_place[key // width] if width else key, weight


def _split(items: Items, sizes: tuple[int, ...]) -> list[Items]:
    """Give the items of each modality, tokens from 0."""
    if len(sizes) == 1:
        return [_typed(items, slice(None), 0)]
    found, begin = [], 0
    for size in sizes:
        found.append(_typed(items, (items.token >= begin) & (items.token < begin + size), begin))
        begin += size
    return found


def _typed(items: Items, rows: np.ndarray | slice, begin: int) -> Items:
    some = items.take(rows)
    return replace(some, token=(some.token - begin).astype(np.uint32))


def ascends(values: np.ndarray) -> bool:
    """Whether no value is below the one before."""
    return bool((values[1:] >= values[:-1]).all())
