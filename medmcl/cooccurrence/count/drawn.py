"""What is drawn of each patient's events: enough to know the same patients again, under a key.

- *Days* (`DAYS` of them): of all days on which something happened those of the lowest ranks, which
  a keyed mixture of patient and day gives. So the draw is the same whatever else is read of a
  patient: of two counts, each day drawn for the one whose rank is low enough for the other is
  drawn there too if it is there (bottom-k sketches: Cohen and Kaplan, 2007; Broder, 1997). A count
  of one day in a thousand still has all of its days in a count of all of them. Each tag is of 32
  bits: how low the rank is (5), a hash of patient and day (13), and one of these and a code of that
  day (14).
- *Content*: two days in a row, drawn by their codes and the days between them. Neither a name nor a
  date is in it.
- *Record*: a hash of all events that are counted.

The hash is SipHash-2-4 (Aumasson and Bernstein, 2012) under keys that are made of the register's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from medmcl.data.events.events import NO_TIME, Events

DAYS = 8
"""Days that are drawn of a patient; of fewer the rest is 0."""
DRAWN = np.dtype([("days", "<u4", (DAYS,)), ("content", "<u8"), ("record", "<u8")])
"""What is drawn of a patient; content and record are no tags before they were hashed."""
_DAY_BITS, _CODE_BITS = 13, 14
_RANK_SHIFT = _DAY_BITS + _CODE_BITS
_LOWEST = 31
_ODD = np.uint64(0x9E3779B97F4A7C15)
_DAY = 86_400_000_000
"""Microseconds."""
_ENOUGH = 3 * DAYS
"""Days of a patient that are expected to pass before the lowest are sought among them."""
_PIECE = 1 << 14
"""Words that are hashed at a time: they stay in the cache."""


def drawn(events: Events, key: bytes) -> np.ndarray:
    """Draw of each patient some days by their dates, and two days in a row by what happened.

    Args:
        events: The rows of a patient in the order of time.
        key: Of the register.

    Returns:
        Of each patient, (patients,) of `DRAWN`: tags of days by rank, the lowest first, and the
        lowest rank of two days in a row; of patients with one day it is that day's codes.
    """
    if not len(events):
        return np.zeros(0, dtype=DRAWN)
    subject, day = events.subject, events.time // _DAY
    other = subject[1:] != subject[:-1]
    begin = np.flatnonzero(np.r_[True, other | (day[1:] != day[:-1])])
    each = code_numbers(events)[events.code.number]
    codes = np.add.reduceat(each, begin)  # in whatever order
    subject, day, known = subject[begin], day[begin], day[begin] != NO_TIME // _DAY
    new = np.r_[True, subject[1:] != subject[:-1]]
    found = np.zeros(int(new.sum()), dtype=DRAWN)

    salts = np.frombuffer(_derived(key, "ranks"), dtype="<u8")
    place = day.astype(np.uint64) + _ODD * subject.astype(np.uint64)
    ranks = mixed(place ^ salts[0]) ^ salts[1]
    where, person, nth = _lowest(ranks, known, np.flatnonzero(new))
    tags = siphash(_derived(key, "days"), subject[where].astype(np.uint64), day[where])
    code = mixed(tags + _ODD * np.minimum.reduceat(each, begin)[where])  # whatever else there is
    lowness = np.clip(65 - np.frexp(ranks[where].astype(float))[1], 1, _LOWEST).astype(np.uint64)
    bits = (lowness << np.uint64(_DAY_BITS)) | (tags >> np.uint64(64 - _DAY_BITS))
    found["days"][person, nth] = (bits << np.uint64(_CODE_BITS)) | (
        code >> np.uint64(64 - _CODE_BITS)
    )

    last = np.r_[new[1:], True]
    gap = np.diff(day, append=day[-1:])
    gap[~known] = 0
    days = mixed(mixed(codes) + _ODD * gap.astype(np.uint64) + np.r_[codes[1:], codes[:1]])
    days[last] = np.iinfo(np.uint64).max
    days[last & new] = mixed(codes[last & new])
    found["content"] = np.minimum.reduceat(days, np.flatnonzero(new))
    return found


def _lowest(
    ranks: np.ndarray, known: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the lowest ranks of each patient, whose they are, and the how-manieth of these.

    Args:
        ranks: Of each day, uint64, days of a patient together.
        known: Whether it has a date.
        first: First row of each patient.
    """
    often = np.diff(first, append=len(ranks))
    limit = np.minimum(2.0**64 / np.maximum(often / _ENOUGH, 1), 2.0**64 - 2**11).astype(np.uint64)
    passes = known & (ranks <= np.repeat(limit, often))
    short = np.add.reduceat(passes, first, dtype=np.int64) < np.minimum(often, DAYS)
    passes |= known & np.repeat(short, often)
    many = np.add.reduceat(passes, first, dtype=np.int64)
    rows, person = np.flatnonzero(passes), np.repeat(np.arange(len(first)), many)
    by_rank = (person.astype(np.uint64) << np.uint64(40)) | (ranks[rows] >> np.uint64(24))
    rows = rows[np.argsort(by_rank)]
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
    few = nth < DAYS
    return rows[few], person[few], nth[few]


def days_in_common(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, int, int]:
    """Look for the drawn days of some patients in another count of patients of the same names.

    Args:
        mine: Days of each patient, (patients, `DAYS`) as they are drawn.
        theirs: Of the patients of the same names in the other count, likewise.

    Returns:
        Days of ``mine`` that stand among ``theirs`` if they are in the other count at all; how many
        do, with whatever codes; and how many with the same code.
    """
    lowness = mine >> _RANK_SHIFT
    last = theirs[:, -1:] >> _RANK_SHIFT  # 0 where all days are drawn
    looked = (mine > 0) & (theirs[:, :1] > 0) & (lowness > last)
    day, code = (np.zeros(mine.shape, dtype=bool) for _ in range(2))
    for k in range(DAYS):
        one = theirs[:, k : k + 1]
        day |= mine >> _CODE_BITS == one >> _CODE_BITS
        code |= mine == one
    return int(looked.sum()), int((looked & day).sum()), int((looked & code).sum())


def counted_records(events: Events) -> np.ndarray:
    """Hash all events that are counted of each patient, in whatever order a day has them.

    Args:
        events: Those that are counted, rows of a patient together.

    Returns:
        One of each patient, (patients,) uint64.
    """
    if not len(events):
        return np.zeros(0, dtype=np.uint64)
    begin = np.flatnonzero(np.r_[True, events.subject[1:] != events.subject[:-1]])
    ranks = mixed(code_numbers(events)[events.code.number] + _ODD * events.time.astype(np.uint64))
    if events.visit is not None:  # by their order within the patient
        person = events.person()
        both = np.unique(np.column_stack([person, events.visit]), axis=0, return_inverse=True)[1]
        nth = both.ravel() - np.minimum.reduceat(both.ravel(), begin)[person]
        ranks = mixed(ranks + nth.astype(np.uint64))
    return np.asarray(np.add.reduceat(ranks, begin))


def code_numbers(events: Events) -> np.ndarray:
    """A number of each code that occurs, (codes,) uint64."""
    codes = np.zeros(len(events.code.values), dtype=np.uint64)
    used = np.flatnonzero(np.bincount(events.code.number, minlength=len(codes)))
    codes[used] = numbers([digest(b"", events.code.values[k]) for k in used.tolist()])
    return codes


def tags_of(key: bytes, what: str, values: np.ndarray) -> np.ndarray:
    """Keyed hashes of numbers, (n,) uint64, others for each ``what``."""
    return siphash(_derived(key, what), values)


def digest(key: bytes, text: str) -> bytes:
    """A keyed hash of a text, 8 bytes."""
    return hashlib.blake2b(text.encode(), key=key, digest_size=8).digest()


def numbers(digests: Sequence[bytes]) -> np.ndarray:
    """Digests as uint64."""
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _derived(key: bytes, what: str) -> bytes:
    return hashlib.blake2b(what.encode(), key=key, digest_size=16).digest()


def siphash(key: bytes, *words: np.ndarray) -> np.ndarray:
    """SipHash-2-4 of messages of some 64-bit words, (n,) each, under a key of 16 bytes."""
    found = np.empty(len(words[0]), dtype=np.uint64)
    k0, k1 = np.frombuffer(key, dtype="<u8")
    for start in range(0, len(found), _PIECE):
        part = slice(start, start + _PIECE)
        size = len(found[part])
        v = [np.full(size, k ^ np.uint64(c)) for k, c in (
            (k0, 0x736F6D6570736575), (k1, 0x646F72616E646F6D),
            (k0, 0x6C7967656E657261), (k1, 0x7465646279746573),
        )]  # fmt: skip
        length = np.full(size, (8 * len(words)) << 56, dtype=np.uint64)
        for word in (*(one[part].astype(np.uint64) for one in words), length):
            v[3] ^= word
            _rounds(v, 2)
            v[0] ^= word
        v[2] ^= np.uint64(0xFF)
        _rounds(v, 4)
        found[part] = v[0] ^ v[1] ^ v[2] ^ v[3]
    return found


def _rounds(v: list[np.ndarray], times: int) -> None:
    for _ in range(times):
        for a, b, bits, turn in (
            (0, 1, 13, True),
            (2, 3, 16, False),
            (0, 3, 21, False),
            (2, 1, 17, True),
        ):
            v[a] += v[b]
            v[b] = _turned(v[b], bits) ^ v[a]
            if turn:
                v[a] = _turned(v[a], 32)


def _turned(values: np.ndarray, bits: int) -> np.ndarray:
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))


def mixed(values: np.ndarray) -> np.ndarray:
    """Spread numbers over 64 bits (the finaliser of SplitMix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
