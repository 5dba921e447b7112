"""Commands that are told to end, by Ctrl-C or SIGTERM, at any instant of a process; and gone on with.

    python -m benchmarks.faults.presses [--presses 25] [--family NAME]

Every family of commands is so often begun as a process of its own (what it imports included: half
of these presses come there) and told to end after a time that is drawn: by turns Ctrl-C, to the
whole group of processes as a terminal sends it, and SIGTERM, to the process alone; every fourth
Ctrl-C is pressed again. Where that comes after the end, another is drawn. Then what the message
says to go on with is typed, or the same command, and where that says what to do instead, that. In
the end there must stand what an undisturbed command writes, and nothing beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.faults import kills, toy
from benchmarks.study import Row, Study, table

NAMES = ("pretrain", "evaluate", "embed", "predict", "select", "poison",
         "cooccur count", "cooccur evaluate", "simulate")  # fmt: skip
"""Families that are tried, if none is named."""
CODES = {signal.SIGINT: (0, 75, 130), signal.SIGTERM: (0, 75, 143, -signal.SIGTERM)}
"""With which codes a command may end that was told to: 0 is one that was through."""
STOPS = 120.0
"""Seconds after which one that was told to end hangs; as of the kills, for whatever else runs."""
BAD = ("other codes", *kills.BAD)
OURS = re.compile(r"/medmcl/__main__.py\", line \d+, in \w*(main|run)\b")
"""A frame of the command line: what is interrupted before it, Python says as it always does."""


def pressed(
    place: toy.Place, words: Sequence[str], how: signal.Signals, after: float, again: float | None
) -> tuple[int | None, float, str]:
    """Begin a command, tell it to end; give its code (None: it hung), seconds from there, its words.

    Args:
        place: Where.
        words: Of the command.
        how: The signal.
        after: Seconds after which it is sent.
        again: Seconds from there to a second one, if there is one.
    """
    process = place.begin_process(list(words))
    said, began = b"", time.monotonic()
    for wait in [one for one in (after, again) if one is not None]:
        try:
            said, _ = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            began = time.monotonic()
            if how == signal.SIGINT:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
    try:
        said = process.communicate(timeout=STOPS)[0] if process.returncode is None else said
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, STOPS, process.communicate()[0].decode(errors="replace")
    return process.returncode, time.monotonic() - began, said.decode(errors="replace")


def tried(home: Path, work: Path, family: toy.Family, seed: int, whole: Any) -> Row:
    """Tell a command to end, and go on with it; give what came of it.

    Args:
        home: What commands read.
        work: Folder for this trial, which goes.
        family: The command.
        seed: Draws when, and says how.
        whole: Of an undisturbed command: ``results``, ``seconds`` of a process.
    """
    draw = random.Random(f"{family.name} {seed}")
    place = kills.begun(home, work, family)
    words = place.words(family)
    how = signal.SIGTERM if seed % 2 else signal.SIGINT
    after, again = draw.random() * whole["seconds"], 0.6 + draw.random()
    code, seconds, said = pressed(place, words, how, after, again if seed % 8 == 0 else None)
    place.said.append(f"$ {shlex.join(words)}\n[{code} {how.name} {after:.2f}] {said}")
    pythons = code in (1, -signal.SIGINT) and toy.is_traceback(said) and not OURS.search(said)
    line = re.search(r"go on with: medmcl (.*)", said)
    answer, hints = toy.go_on(place, shlex.split(line.group(1)) if line else words)
    fault = place.fault(family, whole["results"])
    row = {
        "met": code != 0,
        "code": code,
        "how": how.name,
        "seconds": seconds,
        "by hint": hints,
        "before medmcl": pythons,
        "other codes": code is not None and code not in CODES[how] and not pythons,
        "wrong": answer.code == 0 and bool(fault),
        "tracebacks": any(map(toy.is_traceback, place.said[1 if pythons else 0 :])),
        "stuck": answer.code not in (0, None) and bool(fault),
        "hangs": None in (code, answer.code),
        "left": toy.left_over(place),
    }
    if any(row[key] for key in BAD):
        print(seed, *place.said, row, fault, sep="\n", flush=True)
    shutil.rmtree(place.folder.parent)
    return row


def summed(family: toy.Family, seconds: float, row: Row, before: Row) -> Row:
    """Add a trial of a family to those of before."""
    codes, slowest = Counter(before.get("codes", {})), before.get("slowest", 0.0)
    if row["met"]:
        codes[f"{row['how']} {row['code']}"] += 1
        slowest = max(slowest, round(row["seconds"], 1))
    return {
        "family": family.name,
        "process": round(seconds, 1),
        "trials": before.get("trials", 0) + 1,
        "codes": dict(sorted(codes.items())),
        "slowest": slowest,
        **{key: before.get(key, 0) + bool(row[key])
           for key in ("met", "by hint", "before medmcl", *BAD)},
    }  # fmt: skip


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Tell the commands of all families to end, or of some; all rows so far, after each."""
    made = STUDY.kept(given.out) or []
    names = [one.name for one in toy.FAMILIES]
    with tempfile.TemporaryDirectory(prefix="presses-") as folder:
        work, home = Path(folder), Path(folder) / "home"
        toy.make_home(home)
        for family in (one for one in toy.FAMILIES if one.name in (given.family or NAMES)):
            new = next((one for one in made if given.more and one["family"] == family.name), {})
            if new.get("met", 0) >= given.presses:
                continue
            whole, place = kills.undisturbed(home, work, family), kills.begun(home, work, family)
            code, whole["seconds"], said = pressed(
                place, place.words(family), signal.SIGTERM, 100, None
            )
            if code != 0:
                raise RuntimeError(f"{family.name}\n{said}")
            for seed in count(new.get("trials", 0)):
                if new.get("met", 0) >= given.presses:
                    break
                row = tried(home, work, family, seed, whole)
                new = summed(family, whole["seconds"], row, new)
                made = sorted([new, *(one for one in made if one["family"] != family.name)],
                              key=lambda row: names.index(row["family"]))  # fmt: skip
                yield made
            print(new, flush=True)


def parts(rows: list[Row]) -> dict[str, str]:
    columns: dict[str, Any] = {"command": lambda row: f"`medmcl {row['family']}`"}
    columns["seconds of a process"] = "process"
    columns["ended with"] = lambda row: ", ".join(f"{k}: {n}" for k, n in row["codes"].items())
    columns["slowest, s"] = "slowest"
    for key in ("trials", "met", "by hint", "before medmcl", *BAD):
        columns[{"stuck": "neither", "left": "left behind"}.get(key, key)] = key
    columns["seeds"] = lambda row: f"0 to {row['trials'] - 1}"
    columns["options"] = lambda row: (
        f"`--presses {row['met']} --family {shlex.quote(row['family'])}`"
    )
    return {
        "families": table(columns, rows),
        "met": str(sum(row["met"] for row in rows)),
        "bad": str(sum(row[key] for row in rows for key in BAD)),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--presses", type=int, default=25)
    parser.add_argument("--more", action="store_true", help="go on from the rows that are kept")
    parser.add_argument("--family", action="append", help="only this one; repeatable")


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
