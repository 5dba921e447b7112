"""Who meets whom: for each item of one modality, the run of items of another that it meets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.cooccurrence.count.items import Items


@dataclass(frozen=True)
class Meetings:
    """Items of one modality, by token, each with the run of items of the other that it meets.

    Attributes:
        first: Where the items of each token begin, (d_a + 1,) int64.
        begin: First item that is met, (m,) int64.
        end: One past the last, (m,) int64.
        weight: (m,) int32.
        patient: (m,) int32, ascending within a token.
        own: The item itself among those it meets, (m,) int64; -1 across modalities.
        token: Of the items that are met, (m_b,) uint32.
        other_weight: Theirs, (m_b,) int32.
    """

    first: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    weight: np.ndarray
    patient: np.ndarray
    own: np.ndarray
    token: np.ndarray
    other_weight: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)


@dataclass(frozen=True)
class Records:
    """The same as the compiled loops read it (see `kernels`).

    Attributes:
        first: Where the items of each token begin, (d_a + 1,) int64.
        record: Of each item, (m, 5) int32.
        met: What is met, (m_b,) uint64.
        most: Pairs of the token that has most; no cell grows by more.
        meetings: Items met, of all items together.
    """

    first: np.ndarray
    record: np.ndarray
    met: np.ndarray
    most: int
    meetings: int


def reach_of(a: Items, b: Items, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the run of items of ``b`` that each item of ``a`` meets, two (m_a,) int64."""
    if a is b and reach == 0:
        first = np.flatnonzero(np.r_[True, a.place[1:] != a.place[:-1]][: len(a)])
        length = np.diff(np.r_[first, len(a)])
        return np.repeat(first, length), np.repeat(first + length, length)
    begin = np.searchsorted(b.place, a.place - reach, side="left")
    return begin, np.searchsorted(b.place, a.place + reach, side="right")


def meet(a: Items, b: Items, size: int, reach: int, *, same: bool, half: bool) -> Meetings:
    """Arrange the items of ``a`` by token, each with what it meets in ``b``.

    Args:
        a: Items whose tokens are the rows.
        b: Items whose tokens are the columns.
        size: Tokens in the vocabulary of ``a``.
        reach: Places that far apart meet.
        same: ``a`` and ``b`` are one modality.
        half: Only items that come after; the caller adds the transpose.
    """
    begin, end = reach_of(a, b, reach)
    own = np.arange(len(a)) if same else np.full(len(a), -1)
    if half:
        begin = own + 1
    order = np.argsort(a.token, kind="stable")
    first = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(np.bincount(a.token, minlength=size), out=first[1:])
    return Meetings(
        first,
        begin[order],
        end[order],
        a.weight[order],
        a.patient[order],
        own[order],
        b.token,
        b.weight,
    )


def records_of(a: Items, b: Items, size: int, reach: int, *, same: bool, half: bool) -> Records:
    """Arrange the same (see `meet`) for the compiled loops."""
    from medmcl.cooccurrence.count.kernels import by_token

    found = by_token(
        a.token, a.weight, a.patient, a.place, b.token, b.weight, b.place, reach, size, same, half
    )
    return Records(*found)
