"""Faults of one rank of several: do all end, or go on, together, and is what was saved whole?

    python -m benchmarks.faults.ranks [--seed 0] [--faults 25] [--quick]

The ranks of a run (a fork each, of one process that has imported medmcl) train one small recipe of
two stages' worth of work, steps and an evaluation. Each time one fault, drawn with the seed, meets
one of them: a kind of fault, at a point of the run. 25 of them where there are two ranks, 25 where
there are three. Ranks wait `WAITS` seconds for one that is silent or late. What is counted: whether
all have ended, or gone on to the end of the run, `HANGS` seconds after the fault was met; with one
exit code (of those that were not killed) and one message; and whether what is made is right. Where
a fault ends a run, that is gone on with, and has the weights and results of one that nothing
disturbed. A step whose loss or gradient is NaN on one rank is left out on all: bit for bit the run
in which it is NaN on every rank. Rows that ranks have unevenly, without pairs, or not at all give
the losses of one process, or its refusal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.imports import import_once
from benchmarks.faults.rank_faults import CODES, NAN, ROWS, STEPS, WAITS, Fault, drawn
from benchmarks.study import Row, Study, table

HANGS = 20.0
"""Seconds after a fault within which all are to have ended, or done the whole run; who has not is
ended from outside, and the run counts as hung."""
LONGEST = 60.0
"""Seconds of a run that no fault has met."""
CLOSE = 1e-3
"""How far losses may be from those of one process, as a share: the order of a sum differs."""


@dataclass(frozen=True)
class Ended:
    """How a rank ended: exit code (negative: by a signal; None: not by itself) and its words."""

    code: int | None
    said: str


def launched(
    words: Sequence[object],
    folder: Path,
    ranks: int = 2,
    *,
    each: Callable[[int], object] = id,
    own: Callable[[int], Sequence[object]] = lambda _: (),
    environment: Callable[[int], dict[str, str]] = lambda _: {},
    met: Path = Path(os.devnull),
) -> tuple[list[Ended], float]:
    """Run ``medmcl`` in ranks, forks of this process; how each ended, and after how many seconds.

    Args:
        words: Of the command line.
        folder: Where they write what they say.
        ranks: How many.
        each: Called in a rank with its number, before the command.
        own: Words of a rank alone.
        environment: What a rank has of its own.
        met: File that says when a fault came; they are killed `HANGS` seconds later, without one
            `LONGEST` after they began.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    began = time.monotonic()
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if not process:
            own_told = {"RANK": str(rank), "LOCAL_RANK": str(rank), **environment(rank)}
            _be(folder, {**told, **own_told}, [*words, *own(rank)], rank, each)
        processes.append(process)
    codes: dict[int, int | None] = {}
    while len(codes) < ranks and time.monotonic() < (came(met) or began + LONGEST - HANGS) + HANGS:
        for rank, process in enumerate(processes):
            if rank not in codes:
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    codes[rank] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    seconds = time.monotonic() - began
    for rank, process in enumerate(processes):
        if rank not in codes:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    said = [(folder / f"rank-{rank}.txt").read_text("utf-8") for rank in range(ranks)]
    return [Ended(codes.get(rank), said[rank]) for rank in range(ranks)], seconds


def came(met: Path) -> float:
    """When a fault came, by the clock of this machine; 0: it has not."""
    said = met.read_text() if met.exists() else ""
    return float(said or 0)


def _be(
    folder: Path, told: dict[str, str], words: Sequence[object], rank: int,
    each: Callable[[int], object],
) -> None:  # fmt: skip
    """Be a rank, to the end of this process."""
    code = 1
    try:
        file = os.open(folder / f"rank-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        warnings.simplefilter("ignore")  # a test may have made errors of them
        from medmcl.cli.main import main

        os.environ.update({name: value for name, value in told.items() if value})
        for name in (name for name, value in told.items() if not value):
            os.environ.pop(name, None)
        sys.argv = ["medmcl", *map(str, words)]
        each(rank)
        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def words_of(cohort: Path, recipe: Path, out: Path) -> list[object]:
    """The command line of a run."""
    return ["--quiet", "pretrain", "--cohort", cohort, "--recipe", recipe, "--out", out,
            "--device", "cpu", "--workers", "0", "--rank-timeout", WAITS]  # fmt: skip


def begun(home: Path, *, evaluates: bool = True) -> tuple[Path, Path]:
    """A cohort and a recipe of a few steps; what is imported here no rank imports again."""
    import torch

    from benchmarks.evaluation.memorised_pairs import (
        QUICK_RESULTS,
        memorising,
        write_recipe,
        write_told,
    )

    import_once()
    torch.set_num_threads(1)
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"
    tree = memorising(STEPS, *([QUICK_RESULTS] if evaluates else []), binds=False)
    tree["stages"][0] |= {"evaluate_every": 2, "log_every": 1}
    return write_told(home / "cohort", 0), write_recipe(home / "recipe.yaml", tree)


def made(run: Path) -> tuple[bytes, str]:
    """Weights of the last step, and results, of a run that is done."""
    from medmcl.engine.checkpoint import Checkpoints

    last = Checkpoints(run / "checkpoint" / "contrast").find("last")
    weights = b"" if last is None else (last / "weights.safetensors").read_bytes()
    results = run / "results.csv"
    return weights, results.read_text("utf-8") if results.exists() else ""


def losses(run: Path) -> list[float]:
    """Every loss of the record, in its order."""
    record = run / "metrics.jsonl"
    lines = record.read_text("utf-8").splitlines() if record.exists() else []
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def tried(fault: Fault, ranks: int, inputs: tuple[Path, Path], home: Path, whole: Any) -> Row:
    """Let a fault meet a run, go on with it, and tell."""
    out, met = home / "run", home / "met"
    home.mkdir()
    words = [*words_of(*inputs, out), *fault.words(home)]

    def each(rank: int) -> None:
        if rank == fault.rank:
            fault.install(met)

    ended, seconds = launched(words, home / "said", ranks, each=each, met=met)
    over = time.monotonic()
    said = "".join(one.said for one in ended)
    codes = [one.code for one in ended]
    if fault.kind in NAN:
        right = is_as_everywhere(fault, words, home, ranks)
    elif fault.kind in ROWS:
        right = is_as_one_process(codes, words, home)
    else:
        again, _ = launched([*words, "--resume"], home / "again", ranks)
        right = {one.code for one in again} == {0} and made(out) == whole
    return {
        "ranks": ranks, "kind": fault.kind, "point": fault.point, "rank": fault.rank,
        "codes": ["hung" if code is None else code for code in codes],
        "seconds": round(seconds, 1),
        "after": round(over - came(met), 1) if came(met) else None,
        "hung": None in codes,
        "messages": len(re.findall(r"^(?:error|stopped): ", said, re.MULTILINE)),
        "tracebacks": said.count("Traceback (most recent"),
        "right": right,
        "said": next(iter(re.findall(r"^(?:error|stopped): .*", said, re.MULTILINE)), ""),
    }  # fmt: skip


def is_as_everywhere(fault: Fault, words: Sequence[object], home: Path, ranks: int) -> bool:
    """Whether a run in which a step is NaN on every rank has made the same."""
    out = home / "everywhere"
    again, _ = launched(
        [*words, "--out", out], home / "again", ranks, each=lambda _: fault.install()
    )
    facts = json.loads((out / "checkpoint" / "contrast" / "done.json").read_text("utf-8"))
    return ({one.code for one in again} == {0} and facts["skipped_steps"] == 1
            and made(home / "run") == made(out))  # fmt: skip


def is_as_one_process(codes: Sequence[int | None], words: Sequence[object], home: Path) -> bool:
    """Whether one process ends as the ranks have, and with losses that are close to theirs."""
    (alone,), _ = launched([*words, "--out", home / "alone"], home / "again", 1)
    ours, its = losses(home / "run"), losses(home / "alone")
    return ({alone.code} == {*codes} and len(ours) == len(its) and bool(its or alone.code)
            and np.allclose(ours, its, rtol=CLOSE, atol=0))  # fmt: skip


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Draw faults, and try each."""
    with tempfile.TemporaryDirectory() as where:
        home = Path(where)
        inputs = begun(home)
        rows: list[Row] = []
        for ranks in (2, 3):
            calm = home / f"calm-{ranks}"
            began = launched(words_of(*inputs, calm / "run"), calm, ranks)
            if {one.code for one in began[0]} != {0}:
                raise RuntimeError("\n".join(one.said for one in began[0]))
            whole = made(calm / "run")
            count = 3 if given.quick else given.faults
            for number, fault in enumerate(drawn(count, ranks, given.seed)):
                row = tried(fault, ranks, inputs, home / f"{ranks}-{number}", whole)
                rows.append({"calm": round(began[1], 1), **row})
                print(rows[-1], flush=True)
                yield rows


def is_agreed(row: Row) -> bool:
    """Whether all ranks ended with one code that is right, but one that the fault itself ended."""
    if row["kind"] in (*NAN, *ROWS):
        return len({*row["codes"]}) == 1 and (row["right"] or row["codes"][0] == 0)
    by_signal = row["kind"] in ("killed", "stopped")
    rest = {c for rank, c in enumerate(row["codes"]) if not (by_signal and rank == row["rank"])}
    return len(rest) == 1 and rest <= {*CODES.get(row["kind"], (1,))}


def parts(rows: list[Row]) -> dict[str, str]:
    groups = []
    for ranks in (2, 3):
        own = [row for row in rows if row["ranks"] == ranks]
        groups.append({
            "ranks": ranks, "faults": len(own),
            "hung": sum(row["hung"] for row in own),
            "one_code": sum(map(is_agreed, own)),
            "one_message": sum(row["messages"] == any(row["codes"]) for row in own),
            "tracebacks": sum(row["tracebacks"] for row in own),
            "right": sum(row["right"] for row in own),
            "longest": max((row["after"] or row["seconds"] for row in own), default=0.0),
        })  # fmt: skip
    return {
        "rank faults": table(
            {"ranks": "ranks", "faults": "faults", "hung": "hung", "one exit code": "one_code",
             "one message": "one_message", "tracebacks": "tracebacks", "right in the end": "right",
             "longest after the fault": lambda row: f"{row['longest']:.1f} s"},
            groups,
        ),
        "each fault": table(
            {"ranks": "ranks", "fault": "kind", "at": "point",
             "of rank": lambda row: "all" if row["kind"] in ROWS else str(row["rank"]),
             "exit codes": lambda row: ", ".join(map(str, row["codes"])),
             "whole run": lambda row: f"{row['seconds']:.1f} s",
             "after the fault": lambda row: "" if row["after"] is None else f"{row['after']:.1f} s",
             "messages": "messages", "right": lambda row: "yes" if row["right"] else "no"},
            rows,
        ),
    }  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=25, help="at two ranks, and at three")


STUDY = Study(__file__, parts=parts, run=run, options=options, quick=True)

if __name__ == "__main__":
    STUDY.main()
