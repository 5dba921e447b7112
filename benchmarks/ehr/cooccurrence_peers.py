"""What `cooccurrence_speed` compares: synthetic events, their rows, and the ways to count them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.items import Items, Tally, Tokens, arrange
from medmcl.cooccurrence.count.rules import Rules, parse_window

DAY = 86_400_000_000
EVENTS_A_PATIENT, MONTHS, YEARS = 200, 15, 10
BLOCK = 20_000
"""Patients that are drawn at a time."""
FIELDS = ("token", "weight", "patient", "place")


def blocks_of_events(patients: int, codes: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Subject, day and token of each event, sorted, some patients at a time."""
    for begin in range(0, patients, BLOCK):
        count = min(BLOCK, patients - begin)
        events = make_events(count, codes, np.random.default_rng((seed, begin)))
        events["subject"] += begin
        yield events


def make_events(patients: int, codes: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Codes by Zipf's law (exponent 0.9), 200 events a patient in 15 months of ten years."""
    count = patients * EVENTS_A_PATIENT
    weight = 1 / np.arange(1, codes + 1) ** 0.9
    edges = np.cumsum(weight / weight.sum())
    token = np.searchsorted(edges, draw.random(count)).clip(max=codes - 1).astype(np.int32)
    months = draw.integers(0, YEARS * 12, (patients, MONTHS), dtype=np.int64)
    which = draw.integers(0, MONTHS, (patients, EVENTS_A_PATIENT))
    month = np.take_along_axis(months, which, axis=1)
    first = np.arange("2010-01", "2020-01", dtype="datetime64[M]").astype("datetime64[D]")
    day = first.astype(np.int64)[month] + draw.integers(0, 28, month.shape)
    day.sort(axis=1)
    subject = np.repeat(np.arange(patients), EVENTS_A_PATIENT)
    return {"subject": subject, "day": day.reshape(-1), "token": token}


def sizes_of(codes: int, within: bool) -> tuple[int, ...]:
    return (codes,) if within else (codes - codes // 2, codes // 2)


def split(
    events: dict[str, np.ndarray], codes: int, within: bool
) -> tuple[Tokens, tuple[int, ...]]:
    """One modality, or two with every other code in each."""
    token, sizes = events["token"].astype(np.int64), sizes_of(codes, within)
    if not within:
        token = token // 2 + (token % 2) * sizes[0]
    return Tokens(events["subject"], events["day"] * DAY, token), sizes


def items_of(tokens: Tokens, sizes: tuple[int, ...], window: str) -> tuple[list[Items], int]:
    """Rows of each modality (for a sliding window: its days)."""
    tally = Tally()
    chunk = arrange(
        tokens, sizes, parse_window(window), distinct=False, drop_duplicates=False, tally=tally
    )
    return list(chunk.modalities), chunk.reach


def write_rows(data: Path, patients: int, codes: int, seed: int, window: str, within: bool) -> None:
    """Write the rows of a task down, so that those who count begin with them alone."""
    sizes, parts = sizes_of(codes, within), []
    patient = place = 0
    for events in blocks_of_events(patients, codes, seed):
        tokens, _ = split(events, codes, within)
        if not parts:
            save(
                data,
                "few",
                items_of(tokens.take(slice(0, 40 * EVENTS_A_PATIENT)), sizes, window)[0],
            )
        items, reach = items_of(tokens, sizes, window)
        parts.append([
            Items(one.token, one.weight, one.patient + np.int32(patient), one.place + place)
            for one in items
        ])  # fmt: skip
        patient += len(np.unique(events["subject"]))
        place = max(int(one.place[-1]) for one in parts[-1]) + reach + 1
    for number in range(len(sizes)):
        for field in FIELDS:
            whole = np.concatenate([getattr(part[number], field) for part in parts])
            np.save(data / f"all-{number}-{field}.npy", whole)


def save(data: Path, name: str, items: list[Items]) -> None:
    for number, one in enumerate(items):
        for field in FIELDS:
            np.save(data / f"{name}-{number}-{field}.npy", getattr(one, field))


def read_rows(data: Path, name: str, sizes: tuple[int, ...]) -> list[Items]:
    return [
        Items(*(np.load(data / f"{name}-{number}-{field}.npy") for field in FIELDS))
        for number in range(len(sizes))
    ]


def rows_of(items: list[Items], sizes: tuple[int, ...]) -> list[sparse.csr_array]:
    """Unit x token tables of the same rows."""
    places = np.unique(np.concatenate([one.place for one in items]))
    tables = []
    for one, size in zip(items, sizes, strict=True):
        row = np.searchsorted(places, one.place).astype(np.int32)
        cells = (one.weight.astype(np.int64), (row, one.token.astype(np.int32)))
        tables.append(sparse.csr_array(cells, shape=(len(places), size)))
    return tables


def pieces(items: list[Items], size: int) -> list[list[Items]]:
    """Cut items between patients, as the counter cuts events."""
    patients = int(max(one.patient[-1] for one in items)) + 1
    step = max(1, size * patients // max(sum(map(len, items)), 1))
    found = []
    for begin in range(0, patients, step):
        some = []
        for one in items:
            ends = np.array([begin, begin + step], dtype=one.patient.dtype)
            at = slice(*np.searchsorted(one.patient, ends))
            some.append(Items(one.token[at], one.weight[at], one.patient[at], one.place[at]))
        found.append(some)
    return found


def by_medmcl(
    items: list[Items], reach: int, sizes: tuple[int, ...], window: str, patients: bool, fast: bool
) -> sparse.csr_array:
    names = [f"m{n}" for n in range(len(sizes))]
    words = {n: Vocabulary(tuple(map(str, range(s)))) for n, s in zip(names, sizes, strict=True)}
    rules = Rules(window, within=len(sizes) == 1, patients=patients)
    counter = PairCounter(words, rules, fast=fast)
    pair = (names[0], names[-1])
    for some in pieces(items, counter.piece):
        counter.add_items(pair, some[0], some[-1], reach)
    return counter.take(pair).pairs


def by_scipy(tables: list[sparse.csr_array]) -> sparse.csr_array:
    product = tables[0].T @ tables[-1]
    if len(tables) == 1:
        own = sparse.diags_array(np.asarray(tables[0].sum(axis=0)), dtype=np.int64)
        product = product - own
        product.eliminate_zeros()
    return product


def by_duckdb(items: list[Items], reach: int, sizes: tuple[int, ...]) -> sparse.csr_array:
    import duckdb
    import pyarrow as pa

    link = duckdb.connect()
    link.execute("set threads = 1; set memory_limit = '12GB'")
    for name, one in (("a", items[0]), ("b", items[-1])):
        columns = {"p": one.patient, "t": one.token, "n": one.weight.astype(np.int64),
                   "place": one.place}  # fmt: skip
        link.register(name, pa.table(columns))
    meet = "a.place = b.place"
    if reach:
        meet = f"a.p = b.p and b.place between a.place - {reach} and a.place + {reach}"
    own = "- sum(case when a.place = b.place and a.t = b.t then a.n else 0 end)"
    found = link.execute(
        f"select a.t as i, b.t as j, sum(a.n * b.n) {own if len(sizes) == 1 else ''} as v "
        f"from a join b on {meet} group by all"
    ).fetchnumpy()
    where = (found["i"].astype(np.int64), found["j"].astype(np.int64))
    value = found["v"].astype(np.int64)
    cells = sparse.csr_array((value, where), shape=(sizes[0], sizes[-1]))
    cells.eliminate_zeros()
    return cells


def passes(  # type: ignore[no-untyped-def]  # noqa: C901  # two plain loops and their sum
    token_a, weight_a, place_a, token_b, weight_b, place_b, reach, rows, columns, same
):
    """Count the pairs of each row, write their columns down, then sum them row by row."""
    room = np.zeros(rows + 1, np.int64)
    low = 0
    for k in range(len(token_a)):
        while low < len(place_b) and place_b[low] < place_a[k] - reach:
            low += 1
        s = low
        while s < len(place_b) and place_b[s] <= place_a[k] + reach:
            s += 1
        room[token_a[k] + 1] += s - low
    for i in range(rows):
        room[i + 1] += room[i]
    to, met = room.copy(), np.empty(room[rows], np.int32)
    value = np.empty(room[rows], np.int32)
    low = 0
    for k in range(len(token_a)):
        while low < len(place_b) and place_b[low] < place_a[k] - reach:
            low += 1
        s = low
        at = to[token_a[k]]
        while s < len(place_b) and place_b[s] <= place_a[k] + reach:
            met[at] = token_b[s]
            value[at] = weight_a[k] * (weight_b[s] - (1 if same and s == k else 0))
            at += 1
            s += 1
        to[token_a[k]] = at
    acc = np.zeros(columns, np.int64)
    first, used = np.zeros(rows + 1, np.int64), 0
    out = np.empty(min(room[rows], rows * columns), np.int32)
    sums = np.empty(len(out), np.int64)
    for i in range(rows):
        for at in range(room[i], room[i + 1]):
            acc[met[at]] += value[at]
        for j in range(columns):
            if acc[j] != 0:
                out[used], sums[used] = j, acc[j]
                acc[j] = 0
                used += 1
        first[i + 1] = used
    return first, out[:used], sums[:used]


def by_two_passes(
    compiled: Callable[..., Any], items: list[Items], reach: int, sizes: tuple[int, ...]
) -> sparse.csr_array:
    a, b = items[0], items[-1]
    first, columns, values = compiled(
        a.token, a.weight, a.place, b.token, b.weight, b.place,
        reach, sizes[0], sizes[-1], len(sizes) == 1,
    )  # fmt: skip
    return sparse.csr_array((values, columns, first), shape=(sizes[0], sizes[-1]))


def digest(cells: sparse.csr_array) -> str:
    cells = sparse.csr_array(cells)
    cells.sort_indices()
    parts = (cells.indptr, cells.indices, cells.data)
    joined = b"".join(np.asarray(part, np.int64).tobytes() for part in parts)
    return hashlib.sha256(joined).hexdigest()[:12]


def job(
    items: list[Items], reach: int, sizes: tuple[int, ...], window: str, method: str
) -> Callable[[], sparse.csr_array]:
    """What is timed: from the same rows to the cells."""
    if method == "scipy":
        tables = rows_of(items, sizes)
        return lambda: by_scipy(tables)
    if method == "duckdb":
        return lambda: by_duckdb(items, reach, sizes)
    if method == "two-pass numba":
        compiled = compiled_passes()
        return lambda: by_two_passes(compiled, items, reach, sizes)
    fast, patients = method != "medmcl numpy", method == "medmcl + patients"
    return lambda: by_medmcl(items, reach, sizes, window, patients, fast)


@cache
def compiled_passes() -> Callable[..., Any]:
    from numba import njit

    compiled: Callable[..., Any] = njit(passes)
    return compiled
