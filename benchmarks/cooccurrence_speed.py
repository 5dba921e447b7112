"""Speed and memory of co-occurrence counts beside scipy, duckdb and a plain numba loop.

``OMP_NUM_THREADS=1 python benchmarks/cooccurrence_speed.py --patients 60000 --codes 5000``

Each method runs in its own process, on one thread, after a warm-up on a few patients: processor
seconds of the counting alone, and the process's peak memory with what it had before counting.
Events are synthetic: codes by Zipf's law (exponent 0.9), 200 events a patient in 15 months of ten
years. All methods of a task give equal cells, which is checked by a hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.counter import PairCounter
from medmcl.cooccurrence.counts import Vocabulary
from medmcl.cooccurrence.items import Items, Tokens, arrange
from medmcl.cooccurrence.rules import Rules
from medmcl.cooccurrence.run import Means, count_shards, scan_shards
from medmcl.cooccurrence.tally import Tally
from medmcl.cooccurrence.windows import parse_window

DAY = 86_400_000_000
EVENTS_A_PATIENT, MONTHS, YEARS = 200, 15, 10
METHODS = {
    "record": ("medmcl", "medmcl + patients", "medmcl numpy", "scipy", "duckdb"),
    "month": ("medmcl", "medmcl + patients", "medmcl numpy", "scipy", "duckdb"),
    "days:30": ("medmcl", "medmcl + patients", "medmcl numpy", "two-pass numba", "duckdb"),
}


def make_events(patients: int, codes: int, seed: int) -> dict[str, np.ndarray]:
    """Subject, day and token of each event, sorted."""
    draw = np.random.default_rng(seed)
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


def split(
    events: dict[str, np.ndarray], codes: int, within: bool
) -> tuple[Tokens, tuple[int, ...]]:
    """One modality, or two with every other code in each."""
    token, sizes = events["token"].astype(np.int64), (codes,)
    if not within:
        sizes = (codes - codes // 2, codes // 2)
        token = token // 2 + (token % 2) * sizes[0]
    return Tokens(events["subject"], events["day"] * DAY, token), sizes


def items_of(tokens: Tokens, sizes: tuple[int, ...], window: str) -> tuple[list[Items], int]:
    """Rows of each modality (for a sliding window: its days)."""
    tally = Tally()
    chunk = arrange(
        tokens, sizes, parse_window(window), distinct=False, drop_duplicates=False, tally=tally
    )
    return list(chunk.modalities), chunk.reach


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
    link.execute("set threads = 1")
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


def peak_mb() -> float:
    """Peak memory of this program; getrusage would give that of the parent, if larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def prepare(data: Path, codes: int, window: str, within: bool) -> dict[str, Any]:
    """Write the rows of a task down, so that those who count begin with them alone."""
    events = {name: np.load(data / f"{name}.npy") for name in ("subject", "day", "token")}
    tokens, sizes = split(events, codes, within)
    del events
    for name, some in (("few", tokens.take(slice(0, 40 * EVENTS_A_PATIENT))), ("all", tokens)):
        items, reach = items_of(some, sizes, window)
        for number, one in enumerate(items):
            for field in ("token", "weight", "patient", "place"):
                np.save(data / f"{name}-{number}-{field}.npy", getattr(one, field))
    return {"sizes": sizes, "reach": reach}


def prepared(data: Path, name: str, sizes: tuple[int, ...]) -> list[Items]:
    fields = ("token", "weight", "patient", "place")
    return [
        Items(*(np.load(data / f"{name}-{number}-{field}.npy") for field in fields))
        for number in range(len(sizes))
    ]


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


def measure(data: Path, codes: int, window: str, within: bool, method: str) -> dict[str, Any]:
    """Run one method on one task in this process."""
    sizes = (codes,) if within else (codes - codes // 2, codes // 2)
    reach = parse_window(window).days
    job(prepared(data, "few", sizes), reach, sizes, window, method)()
    work = job(prepared(data, "all", sizes), reach, sizes, window, method)
    before = peak_mb()
    began = time.process_time()
    cells = work()
    seconds = time.process_time() - began
    return {
        "seconds": round(seconds, 2), "before_mb": round(before), "peak_mb": round(peak_mb()),
        "cells": int(cells.nnz), "pairs": int(cells.sum()), "hash": digest(cells),
    }  # fmt: skip


def measure_shards(data: Path, window: str, memory: int) -> dict[str, Any]:
    """Count two modalities from parquet shards: reading, vocabulary, counting, merging."""
    from medmcl.cooccurrence.reading import Reading
    from medmcl.cooccurrence.vocabulary import choose_vocabulary
    from medmcl.data.events_modalities import ModalityRule

    shards = sorted((data / "shards").glob("*.parquet"))
    reading = Reading({"a": ModalityRule(prefix="A//"), "b": ModalityRule(prefix="B//")})
    means = Means(memory=memory)
    before, began = peak_mb(), time.process_time()
    seen = scan_shards(shards, reading, means)
    words = {
        name: choose_vocabulary(seen, name, min_occurrences=1, min_patients=1) for name in "ab"
    }
    scanned = time.process_time() - began
    with tempfile.TemporaryDirectory(dir=data) as work:
        rules = Rules(window)
        counts, _ = count_shards(shards, reading, words, rules, Path(work) / "p", means=means)
    return {
        "seconds": round(time.process_time() - began, 2), "scan_seconds": round(scanned, 2),
        "before_mb": round(before), "peak_mb": round(peak_mb()), "cells": int(counts.D.nnz),
        "pairs": int(counts.D.sum()), "hash": digest(counts.D),
    }  # fmt: skip


def write_shards(data: Path, events: dict[str, np.ndarray], patients_each: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (data / "shards").mkdir()
    names = np.array([f"{'AB'[n % 2]}//{n // 2}" for n in range(int(events["token"].max()) + 1)])
    step = patients_each * EVENTS_A_PATIENT
    for number, at in enumerate(range(0, len(events["token"]), step)):
        some = slice(at, at + step)
        code = pa.DictionaryArray.from_arrays(events["token"][some], names).cast(pa.string())
        time_ = pa.array(events["day"][some] * DAY).cast(pa.timestamp("us"))
        columns = {"subject_id": events["subject"][some], "time": time_, "code": code}
        pq.write_table(pa.table(columns), data / "shards" / f"{number:04d}.parquet")


def child(words: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"failed": f"exit {done.returncode}: {last[:200]}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_all(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    with tempfile.TemporaryDirectory(dir=wanted.scratch) as folder:
        data = Path(folder)
        events = make_events(wanted.patients, wanted.codes, wanted.seed)
        for name, values in events.items():
            np.save(data / f"{name}.npy", values)
        if any(task.endswith("/shards") for task in wanted.tasks):
            write_shards(data, events, 10_000)
        del events
        for window, methods in METHODS.items():
            for kind in ("within", "across"):
                if f"{window}/{kind}" not in wanted.tasks:
                    continue
                child([str(data), str(wanted.codes), window, kind, "prepare"])
                for method in methods:
                    if method in wanted.skip:
                        continue
                    words = [str(data), str(wanted.codes), window, kind, method]
                    found.append({"task": f"{window} {kind}", "method": method, **child(words)})
                    print(json.dumps(found[-1]), flush=True)
            if f"{window}/shards" in wanted.tasks:
                words = [str(data), str(wanted.codes), window, "shards", str(wanted.memory)]
                found.append({"task": f"{window} shards", "method": "medmcl", **child(words)})
                print(json.dumps(found[-1]), flush=True)
    for task in {one["task"] for one in found}:
        hashes = {one["hash"] for one in found if one["task"] == task and "hash" in one}
        assert len(hashes) <= 1, f"{task}: methods disagree"
    return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        folder, codes, window, kind, method = sys.argv[2:]
        if kind == "shards":
            print(json.dumps(measure_shards(Path(folder), window, int(method))))
        else:
            within = kind == "within"
            if method == "prepare":
                print(json.dumps(prepare(Path(folder), int(codes), window, within)))
                return
            print(json.dumps(measure(Path(folder), int(codes), window, within, method)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=60_000)
    parser.add_argument("--codes", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=2 << 30, help="Bytes, for the shards.")
    parser.add_argument("--skip", nargs="*", default=[], help="Methods to leave out.")
    kinds = ("within", "across", "shards")
    every = [f"{window}/{kind}" for window in METHODS for kind in kinds]
    parser.add_argument("--tasks", nargs="*", default=every)
    parser.add_argument("--scratch", default=None, help="Folder for the events.")
    parser.add_argument("--json", type=Path, help="File to write.")
    wanted = parser.parse_args()
    found = run_all(wanted)
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
