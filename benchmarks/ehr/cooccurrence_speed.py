"""Speed and memory of co-occurrence counts beside scipy, duckdb and a plain numba loop.

``python -m benchmarks.ehr.cooccurrence_speed``

One run, one table. Each method runs in its own process on one thread, after a warm-up on a few
patients, and counts the same rows; medmcl and its peer take turns, and the table gives medians.
Seconds are processor seconds of the counting alone (user and system); memory is the peak of the
process, and what it had before counting. A method that goes on past its limit is stopped. All
methods of a task give equal cells, which is checked by a hash.
"""

from __future__ import annotations

import os

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)

import argparse
import contextlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.ehr.cooccurrence_peers import (
    DAY,
    EVENTS_A_PATIENT,
    blocks_of_events,
    digest,
    job,
    make_events,
    read_rows,
    sizes_of,
    write_rows,
)
from benchmarks.study import ROOT, Cell, Row, Study, number, shown, table
from medmcl.cooccurrence.count.rules import Rules, parse_window
from medmcl.cooccurrence.count.run import Means, count_shards, scan_shards

PEERS = {"record": "scipy", "month": "scipy", "days:30": "two-pass numba"}
SMALL = [(60_000, codes, window) for codes in (5_000, 10_000) for window in PEERS]
LARGE = [(500_000, 10_000, window) for window in ("month", "days:30")]
KINDS = ("within", "across")
Result = dict[str, Any]
CHILD = [sys.executable, "-m", "benchmarks.ehr.cooccurrence_speed", "--child"]


def peak_mb() -> float:
    """Peak memory of this program; getrusage would give that of the parent, if larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def count_on_request(
    data: Path, codes: int, window: str, within: bool, method: str, seconds: int, room: int
) -> None:
    """Get ready, then count once for each line that comes in."""
    sizes, reach = sizes_of(codes, within), parse_window(window).days
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    job(read_rows(data, "few", sizes), reach, sizes, window, method)()
    work = job(read_rows(data, "all", sizes), reach, sizes, window, method)
    before = peak_mb()
    for _ in sys.stdin:
        began = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(began) + seconds, resource.RLIM_INFINITY))
        try:
            cells = work()
        except MemoryError:
            print(json.dumps({"stopped": f"over {room >> 30} GB"}), flush=True)
            return
        found = {"seconds": time.process_time() - began, "before_mb": before, "peak_mb": peak_mb(),
                 "cells": int(cells.nnz), "pairs": int(cells.sum())}  # fmt: skip
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(json.dumps({**found, "hash": digest(cells)}), flush=True)
        del cells


class Contestant:
    """A process that has the rows of a task in memory and counts when told to."""

    def __init__(self, words: list[str], limit: int) -> None:
        self._process = subprocess.Popen(
            [*CHILD, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._limit = limit
        self.found: list[Result] = []

    def count(self) -> None:
        """Count once; not again after it was stopped."""
        assert self._process.stdin
        assert self._process.stdout
        if any("stopped" in one for one in self.found):
            return
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        if line := self._process.stdout.readline():
            self.found.append(json.loads(line))
            return
        code = self._process.wait()
        late = code == -signal.SIGXCPU
        self.found.append({"stopped": f"> {self._limit} s" if late else f"failed ({code})"})

    def result(self) -> Result:
        """Let it end; the medians of what it took."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        if any("stopped" in one for one in self.found):
            return self.found[-1]
        seconds = [one["seconds"] for one in self.found]
        return {**self.found[0], "seconds": median(seconds), "all_seconds": seconds}


def run_task(task: tuple[int, int, str, str], wanted: argparse.Namespace) -> Result:
    """All methods on one task."""
    patients, codes, window, kind = task
    peer = PEERS[window]
    with tempfile.TemporaryDirectory(dir=wanted.scratch) as folder:
        words = [folder, str(codes), window, kind]
        run_child([*words, "prepare", str(patients), str(wanted.seed)])

        def race(methods: list[str], limit: int, times: int) -> dict[str, Result]:
            more = [str(limit), str(wanted.room_gb << 30)]
            racing = {name: Contestant([*words, name, *more], limit) for name in methods}
            for _ in range(times):
                for one in racing.values():
                    one.count()
            return {name: one.result() for name, one in racing.items()}

        large = patients > 100_000
        found = race(["medmcl", peer], 300, 1 if large else wanted.times)
        if not large:
            found |= race(["medmcl + patients"], 300, 1)
        if "duckdb" not in wanted.skip and (codes == 5_000 or (large and kind == "within")):
            found |= race(["duckdb"], wanted.duckdb_limit, 1)
    hashes = {one["hash"] for one in found.values() if "hash" in one}
    assert len(hashes) == 1, f"{task}: methods disagree, or none counted"
    mine, theirs, duckdb = found["medmcl"], found[peer], found.get("duckdb")
    ratio = theirs["seconds"] / mine["seconds"] if "seconds" in theirs else None
    return {
        "events": patients * EVENTS_A_PATIENT / 1e6,
        "codes": codes,
        "task": f"{window}, {kind}",
        "ours": _took(mine),
        "patients": _took(found.get("medmcl + patients")),
        "peer": peer,
        "theirs": _took(theirs),
        "ratio": ratio,
        "duckdb": _took(duckdb),
        "mb_ours": _memory(mine),
        "mb_peer": _memory(theirs),
        "mb_duckdb": _memory(duckdb),
    }


def run_child(words: list[str]) -> str:
    done = subprocess.run([*CHILD, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _took(one: Result | None) -> float | str | None:
    """Seconds, or why it was stopped."""
    return one and one.get("seconds", one.get("stopped"))


def _memory(one: Result | None) -> list[float] | None:
    """Peak, and what was there before."""
    return [one["peak_mb"], one["before_mb"]] if one and "peak_mb" in one else None


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    def memory(key: str) -> Cell:
        return lambda row: f"{row[key][0]:,.0f} ({row[key][1]:,.0f})" if row[key] else ""

    tasks = {
        "events": lambda row: f"{row['events']:g} M",
        "codes": "codes",
        "task": "task",
        "medmcl": number("ours", ".2f"),
        "with patients": number("patients", ".2f"),
        "peer": lambda row: f"{row['peer']} {shown(row['theirs'], '.2f')}",
        "ratio": lambda row: f"{row['ratio']:.1f}x" if row["ratio"] else "",
        "duckdb": number("duckdb", ".2f"),
        "MB medmcl": memory("mb_ours"),
        "MB peer": memory("mb_peer"),
        "MB duckdb": memory("mb_duckdb"),
    }
    shards = {
        "events": lambda row: f"{row['events']:g} M",
        "codes": "codes",
        "window": "window",
        "processor seconds": number("seconds", ".1f"),
        "of these vocabulary": number("scan_seconds", ".1f"),
        "peak MB": number("peak_mb", ",.0f"),
    }
    return {"tasks": table(tasks, rows["tasks"]), "shards": table(shards, rows["shards"])}


def measure_shards(data: Path, window: str, memory: int) -> dict[str, Any]:
    """Count two modalities from parquet shards: reading, vocabulary, counting, merging."""
    from medmcl.cooccurrence.count.reading import Reading
    from medmcl.cooccurrence.count.vocabulary import choose_vocabulary
    from medmcl.data.events.events import ModalityRule

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
        "pairs": int(counts.D.sum()), "hash": digest(counts.D), "shards": len(shards),
    }  # fmt: skip


def run_tokens(wanted: argparse.Namespace) -> Iterator[Row]:
    """`count_tokens` beside the sparse products it stands for, in turn."""
    from medmcl.cooccurrence import count_tokens

    patients, codes, tables = 10_000, 2_500, []
    for seed in (wanted.seed, wanted.seed + 1):
        events = make_events(patients, codes, np.random.default_rng(seed))
        ones = np.ones(len(events["token"]), np.int64)
        table = sparse.coo_array((ones, (events["subject"], events["token"])), (patients, codes))
        tables.append(table.tocsr())
    a, b = tables

    def products(within: bool, patients: bool) -> list[sparse.csr_array]:
        pairs = [(a, b), *([(a, a), (b, b)] if within else [])]
        found = [one.T @ other for one, other in pairs]
        once = [[(t > 0).astype(np.int64) for t in pair] for pair in pairs if patients]
        return found + [one.T @ other for one, other in once]

    count_tokens(a[:1_000], b[:1_000], within=True)  # compiled loops are loaded
    for within, patients in ((False, False), (False, True), (True, True)):
        seconds: dict[str, list[float]] = {"medmcl": [], "scipy": []}
        for _ in range(wanted.times):
            began = time.process_time()
            mine = count_tokens(a, b, within=within, patients=patients)
            seconds["medmcl"].append(time.process_time() - began)
            began = time.process_time()
            theirs = products(within, patients)
            seconds["scipy"].append(time.process_time() - began)
        assert digest(mine.D) == digest(theirs[0])
        del mine, theirs
        ours, peer = median(seconds["medmcl"]), median(seconds["scipy"])
        what = f"{'within and ' if within else ''}across{', with patients' if patients else ''}"
        yield {"codes": codes, "task": what, "ours": ours, "scipy": peer, "ratio": peer / ours}


def write_shards(data: Path, patients: int, codes: int, seed: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (data / "shards").mkdir()
    names = np.array([f"{'AB'[n % 2]}//{n // 2}" for n in range(codes)])
    for place, events in enumerate(blocks_of_events(patients, codes, seed)):
        code = pa.DictionaryArray.from_arrays(events["token"], names).cast(pa.string())
        time_ = pa.array(events["day"] * DAY).cast(pa.timestamp("us"))
        columns = {"subject_id": events["subject"], "time": time_, "code": code}
        pq.write_table(pa.table(columns), data / "shards" / f"{place:04d}.parquet")


def run_shards(wanted: argparse.Namespace) -> Row:
    """From parquet to counts in bounded memory: one line."""
    with tempfile.TemporaryDirectory(dir=wanted.scratch) as folder:
        words = [folder, "10000", "month", "shards"]
        run_child([*words, "prepare", "500000", str(wanted.seed)])
        one = json.loads(run_child([*words, str(wanted.memory)]))
    return {"events": 100.0, "codes": 10_000, "window": "month", **one}


def child(words: list[str]) -> None:
    """What a process of its own does."""
    folder, codes, window, kind, method, *more = words
    if method == "prepare" and kind == "shards":
        write_shards(Path(folder), int(more[0]), int(codes), int(more[1]))
    elif method == "prepare":
        patients, seed = map(int, more)
        write_rows(Path(folder), patients, int(codes), seed, window, kind == "within")
    elif kind == "shards":
        print(json.dumps(measure_shards(Path(folder), window, int(method))))
    else:
        seconds, room = map(int, more)
        within = kind == "within"
        count_on_request(Path(folder), int(codes), window, within, method, seconds, room)


def tasks(wanted: argparse.Namespace) -> Iterator[tuple[int, int, str, str]]:
    for name, some in (("small", SMALL), ("large", LARGE)):
        for task in some if name in wanted.parts else ():
            for kind in KINDS:
                if wanted.only in f"{task[1]} {task[2]} {kind}":
                    yield (*task, kind)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="*", default=["small", "large", "shards", "tokens"])
    parser.add_argument("--only", default="", help="Part of a task's name: '10000 month within'.")
    parser.add_argument("--times", type=int, default=2, help="Turns of medmcl and its peer.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=2 << 30, help="Bytes, for the shards.")
    parser.add_argument("--duckdb-limit", type=int, default=15, help="Processor seconds.")
    parser.add_argument("--room-gb", type=int, default=18, help="Address space of a process.")
    parser.add_argument("--skip", nargs="*", default=[], help="'duckdb' to leave it out.")
    parser.add_argument("--scratch", default=None, help="Folder for the events.")


def run(wanted: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """The parts that are asked for; rows of other tasks stay. Those of `tokens` are printed only."""
    if "tokens" in wanted.parts:
        print(*run_tokens(wanted), sep="\n", flush=True)
    rows = STUDY.kept(wanted.out) or {"tasks": [], "shards": []}
    for task in tasks(wanted):
        yield _renewed(rows, "tasks", run_task(task, wanted), ("events", "codes", "task"))
    if "shards" in wanted.parts:
        yield _renewed(rows, "shards", run_shards(wanted), ("events", "codes", "window"))


def _renewed(
    rows: dict[str, list[Row]], part: str, row: Row, keys: tuple[str, ...]
) -> dict[str, list[Row]]:
    print(row, flush=True)
    same = [all(one[key] == row[key] for key in keys) for one in rows[part]]
    rows[part] = [row if is_it else one for one, is_it in zip(rows[part], same, strict=True)]
    rows[part] += [] if any(same) else [row]
    return rows


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else STUDY.main()
