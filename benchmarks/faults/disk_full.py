"""Commands whose disk fills up: at any of their writes, and on disks of any size too small.

    python -m benchmarks.faults.disk_full [--points 12] [--disks 6] [--seed 0] [--family NAME]

From a write that is drawn on, every write that needs space fails as on a full disk (ENOSPC, EDQUOT or
EIO by turns); and the command runs on a small tmpfs, as a process of its own, which ends as Python
ends (as root; left out elsewhere). Each must end with one message that says so, exit code 2 and no traceback. Then there is space, and the same command, or
what its message says, makes what an undisturbed one makes, with nothing beside it.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults import toy
from benchmarks.study import Row, Study, table
from medmcl.evaluation.report import page
from tests.support.killed import forked

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
COUNTED = {
    "met": "met a full disk", "untold": "not told so", "traceback": "tracebacks", "code": "other exit codes",
    "stuck": "did not go on", "wrong": "other content", "left": "left over",
}  # fmt: skip
SIGNS = ("the disk is full", "quota of disk space", "the disk failed", "will not fit", "No space left",
         "quota exceeded", "Input/output error")  # fmt: skip


def typed(
    place: toy.Place, words: list[str], at: int | None, fault: int | None
) -> tuple[int | None, str, int]:
    """Type a command in a fork whose disk is full from a write on; its code, what it said, writes."""
    told = place.folder.parent / "said"  # no name that begins as the folder is called
    code, writes = forked(
        lambda: toy._typed(words, place.folder, told), place.folder, at=at, fault=fault
    )
    return code, told.read_text("utf-8", errors="replace") if told.exists() else "", writes


def in_a_process(place: toy.Place, words: list[str]) -> tuple[int | None, str]:
    """Type a command as a process of its own, which ends as Python ends; its code, what it said."""
    process = place.begin_process(words)
    try:
        said = process.communicate(timeout=toy.LIMIT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0].decode(errors="replace")
    return process.returncode, said.decode(errors="replace")


def judged(place: toy.Place, family: toy.Family, code: int | None, said: str, whole: Any) -> Row:
    """What became of a command that met a full disk, and of the same typed again with space."""
    met = code != 0
    row: Row = {"met": met, "traceback": toy.is_traceback(said), "code": met and code != 2}
    row["untold"] = met and not any(sign in said for sign in SIGNS)
    if met:  # else it could do without what failed; there is nothing to type again
        code = place.go_on(family)[0].code
    fault = place.fault(family, whole)
    row["stuck"] = code != 0 and bool(fault)  # else: there already
    row["wrong"] = code == 0 and bool(fault)
    row["left"] = toy.left_over(place)
    if any(row[key] for key in [*COUNTED][1:]):
        row["said"] = [said[-2000:], *place.said, fault]
    return row


def begun(home: Path, folder: Path, family: toy.Family) -> toy.Place:
    """A new folder in which a command is typed."""
    for one in list(folder.iterdir()) if folder.exists() else []:
        toy.remove(one)
    folder.mkdir(parents=True, exist_ok=True)
    place = toy.Place(home, folder)
    place.begin(family)
    return place


def at_writes(home: Path, work: Path, family: toy.Family, seed: int, points: int) -> Iterator[Row]:
    """Fill the disk up at writes that are drawn."""
    place = begun(home, work / "here", family)
    code, said, writes = typed(place, place.words(family), None, None)
    if code:
        raise RuntimeError(f"{family.name}\n{said}")
    whole = toy.results(place.folder, by_name=family.is_drawn)
    draw = random.Random(f"{family.name} {seed}")
    chosen = sorted(draw.sample(range(1, writes + 1), min(points, writes)))
    for number, at in enumerate(chosen):
        place = begun(home, work / "here", family)
        words = place.words(family)
        code, said, _ = typed(place, words, at, ERRORS[number % len(ERRORS)])
        yield {**judged(place, family, code, said, whole), "at": at, "writes": writes}


def on_disks(home: Path, work: Path, family: toy.Family, disks: int) -> Iterator[Row]:
    """Run on disks of a part of the space that is needed."""
    folder = work / "disk" / "here"
    folder.mkdir(parents=True, exist_ok=True)
    if not mounted(folder, "256m"):
        return
    try:
        place = begun(home, folder, family)
        there = shutil.disk_usage(folder).used
        typed(place, place.words(family), None, None)
        whole, used = toy.results(folder, by_name=family.is_drawn), shutil.disk_usage(folder).used
        for number in range(disks):
            share = (number + 1) / (disks + 1)
            place = begun(home, folder, family)
            now = shutil.disk_usage(folder).used  # it may take away more than it leaves
            size = max(now, int(there + share * (used - there)), 8192)
            resized(folder, f"{-(-size // 1024)}k")
            words = place.words(family)
            code, said = in_a_process(place, words)
            resized(folder, "256m")
            yield {**judged(place, family, code, said, whole), "share": share}
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def mounted(folder: Path, size: str) -> bool:
    """Mount a small disk in memory; False where that is not allowed."""
    if os.geteuid():
        return False
    call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(call, check=False, capture_output=True).returncode == 0


def resized(folder: Path, size: str) -> None:
    """Make the disk of a folder smaller or larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    toy.LIMIT = 300.0  # hangs are looked for elsewhere
    page.pages = lambda *_: ("", "")  # read by people alone, and half of the time
    names = [one.name for one in toy.FAMILIES]
    wanted = [one for one in toy.FAMILIES if not given.family or one.name in given.family]
    before = (STUDY.kept(given.out) or []) if given.family else []
    rows = [row for row in before if row["family"] not in given.family]
    with tempfile.TemporaryDirectory(prefix="full-") as work:
        home = Path(work) / "home"
        toy.make_home(home)
        for family in wanted:
            for kind, tried in {
                "at writes": at_writes(home, Path(work), family, given.seed, given.points),
                "on small disks": on_disks(home, Path(work), family, given.disks),
            }.items():
                found = list(tried)
                summed = {key: sum(bool(one[key]) for one in found) for key in COUNTED}
                about = {"family": family.name, "kind": kind, "seed": given.seed}
                rows.append({**about, "trials": len(found), **summed})
                print(rows[-1], flush=True)
                for one in found:
                    if "said" in one:
                        print({**one, "said": ""}, *one["said"], sep="\n", flush=True)
            yield sorted(rows, key=lambda row: names.index(row["family"]))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--disks", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", help="only these; repeatable")


def _options(row: Row) -> str:
    """Options that give a row again, and a row of the other kind with it."""
    tries = {"at writes": "--points", "on small disks": "--disks"}[row["kind"]]
    name = shlex.quote(row["family"])
    return f"`--seed {row['seed']} {tries} {row['trials']} --family {name}`"


def parts(rows: list[Row]) -> dict[str, str]:
    columns: dict[str, Any] = {"command": "family", "disk full": "kind", "trials": "trials"}
    columns |= {head: key for key, head in COUNTED.items()}
    columns["options"] = _options
    total = {key: sum(row[key] for row in rows) for key in (*COUNTED, "trials")}
    return {
        "full disks": table(columns, rows),
        "trials": f"{total['trials']:,}",
        "met": f"{total['met']:,}",
        "bad": str(sum(total[key] for key in [*COUNTED][1:])),
    }


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
